import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { type Check, checked } from '../../domain/checks.ts'
import { type FailureKey, type Failures, failuresLastMs } from '../../domain/failures.ts'
import { networkOf, networkText } from '../../domain/network.ts'
import { clockSkewMs, elapsedMs } from '../../domain/time.ts'
import { Refusal } from '../../errors.ts'
import { type Counted, createLocalFailures } from './local-failures.ts'

declare module 'fastify' {
  interface FastifyInstance {
    throttle: ReturnType<typeof createThrottle>
  }
}

/** Failures in a row before waits begin: from one address prefix, and from anywhere. */
const allowedFailures = { fromPrefix: 10, fromAnywhere: 100 } as const
const firstWaitSeconds = 30
const longestWaitSeconds = 3_600

/**
 * What can be guessed at. The address prefixes of an account or client share its slots. Guesses at codes of devices are
 * counted for the user who makes them.
 *
 * A client has no limit from anywhere: with one, strangers could stop a service. It has more slots instead.
 */
const kinds = {
  user: { slots: 64, isLimitedFromAnywhere: true },
  client: { slots: 1_024, isLimitedFromAnywhere: false },
  user_code: { slots: 64, isLimitedFromAnywhere: true },
} as const
type Kind = keyof typeof kinds
/**
 * All names that nobody has share these, or strangers could fill the store with invented names. Prefixes have as many
 * of their own.
 */
const nobodySlots = 65_536

/** Where failures of one name are counted, and how many are allowed there. */
interface Limit extends FailureKey {
  allowed: number
  name: 'failures_from_network' | 'failures_from_anywhere'
  /** counts names that nobody has */
  isNobodys: boolean
}

declare const judged: unique symbol
/** Whether a guess is right. Only a `Judge` makes one, so no check can answer without having been counted. */
export type Verdict = boolean & { readonly [judged]: true }

/**
 * Compares once, as late as possible: refuses when earlier guesses have failed meanwhile, and counts a wrong guess at
 * once.
 *
 * @throws {Refusal} 429 `too_many_failures`, and nothing is compared
 */
export type Judge = (compare: () => Promise<boolean> | boolean) => Promise<Verdict>

/** A guess that was judged. It is never right for a name that nobody has. A wrong one says what was counted. */
export type Guess<Found> =
  | { isRight: true; found: Found }
  | { isRight: false; found: Found | undefined; checks: Check[] }

/**
 * Slows guessing down. Failures are counted in the store, for an account from one address prefix and for an account
 * from anywhere. The first limit is low and stops a guesser; the second is high, so that no stranger can lock the owner
 * out.
 *
 * Accounts are counted under a MAC of their name. A name that nobody has gets the same answers from a slot that other
 * such names take over: invented names cost a bounded number of rows.
 */
function createThrottle({
  config,
  store,
  secrets,
  events,
  now,
  uptimeMs,
}: Pick<FastifyInstance, 'config' | 'store' | 'secrets' | 'events' | 'now' | 'uptimeMs'>) {
  const mac = secrets.mac('throttle')
  const isOff = config.AUTH_THROTTLE === 'off'
  const localFailures = createLocalFailures(uptimeMs)

  function limitsOf(kind: Kind, name: string, address: string): { account: string; limits: Limit[] } {
    const { slots, isLimitedFromAnywhere } = kinds[kind]
    const sign = (...parts: string[]) => mac.sign(Buffer.from(parts.join('\0')))
    const slot = (digest: Buffer, count: number) => digest.readUInt32BE(0) % count
    const ofName = sign(kind === 'user' ? 'account' : kind, name)
    const ofPrefix = sign('prefix', kind, name, networkOf(address, 24))
    const account = ofName.toString('base64url', 0, 18)
    const fromPrefix = {
      tag: ofPrefix.toString('base64url', 4, 22),
      allowed: allowedFailures.fromPrefix,
      name: 'failures_from_network' as const,
    }
    const limits: Limit[] = [
      { ...fromPrefix, key: `${account}/${slot(ofPrefix, slots)}`, isNobodys: false },
      { ...fromPrefix, key: `${kind}@/${slot(ofPrefix, nobodySlots)}`, isNobodys: true },
    ]
    if (isLimitedFromAnywhere) {
      const fromAnywhere = { allowed: allowedFailures.fromAnywhere, name: 'failures_from_anywhere' as const }
      limits.push(
        { ...fromAnywhere, key: account, isNobodys: false },
        { ...fromAnywhere, key: `${kind}/${slot(ofName, nobodySlots)}`, tag: account, isNobodys: true },
      )
    }
    return { account, limits }
  }

  /**
   * A slot with a wait is not taken over, or a guesser could end the wait by inventing names until one falls into the
   * slot.
   */
  const held = () => ({
    count: allowedFailures.fromPrefix,
    since: now() - longestWaitSeconds * 1000,
    until: now() + clockSkewMs,
  })

  /**
   * Reads the stored counts. A wait that begins in the future is made to begin now, so that it ends when it was said
   * to.
   */
  async function readFailures(limits: Limit[]): Promise<(Counted | undefined)[]> {
    const stored: (Failures | undefined)[] = await store.findFailures(limits)
    const ahead = limits.filter(
      ({ allowed }, i) => (stored[i]?.count ?? 0) >= allowed && (stored[i]?.lastAt ?? 0) > now(),
    )
    if (ahead.length > 0) await store.capFailures(ahead, now())
    return stored.map((row) => row && { count: row.count, agoMs: elapsedMs(row.lastAt, now()) })
  }

  return {
    /** A MAC of a name, as what is counted for it has it. */
    accountOf: (name: string): string => limitsOf('user', name, '').account,

    /**
     * The failed logins of a user since the last that succeeded, from wherever they came, for whoever is asked why
     * somebody has to wait.
     *
     * @param name the mapped name @returns undefined when there were none within a day
     */
    async failuresOf(name: string): Promise<Failures | undefined> {
      const { account } = limitsOf('user', name, '')
      const [failures] = await store.findFailures([{ key: account }])
      return failures && elapsedMs(failures.lastAt, now()) <= failuresLastMs ? failures : undefined
    },

    /**
     * Judges one guess at a password or secret, or refuses it. A wrong guess is counted, here before the next one is
     * judged and then in the store; a right one resets the count. There is no other way to do either.
     *
     * @param name the mapped name of a user or the id of a client, existing or not
     * @param find looks up whose name it is, while the failures are read
     * @param check does the work, and has `judge` compare in it; nothing else makes a `Verdict`
     * @param resets whether a right guess resets the count: one of two factors does not, or whoever knows the password
     *   would have any number of guesses at the other (CVE-2024-32868)
     * @throws {Refusal} 429 `too_many_failures` while a wait is on; whatever `find` and `check` throw
     */
    async guard<Found extends { id: string }>(
      caller: Caller,
      kind: Kind,
      name: string,
      find: () => Promise<Found | undefined> | Found | undefined,
      check: (found: Found | undefined, judge: Judge) => Promise<Verdict>,
      resets: (found: Found) => boolean = () => true,
    ): Promise<Guess<Found>> {
      const { account, limits } = isOff ? { limits: [] } : limitsOf(kind, name, caller.address)
      const seenSince = limits.map(localFailures.watch)
      const [found, stored] = await Promise.all([find(), isOff ? [] : readFailures(limits)])
      let storedSince: (Counted | undefined)[] = []
      const failuresNow = () => stored.map((row, i) => most(add(row, seenSince[i]?.()), storedSince[i]))

      function refuseWhileWaiting(): void {
        const failures = failuresNow()
        const waits = failures.map((ofLimit, i) => waitMs(ofLimit, limits[i]?.allowed ?? 0))
        const seconds = Math.ceil(Math.max(0, ...waits) / 1000)
        if (seconds === 0) return
        events.emit(caller, 'login.throttled', {
          kind,
          wait_seconds: seconds,
          account,
          address: caller.address,
          ...(found && (kind === 'client' ? { client_id: found.id } : { sub: found.id })),
        })
        throw new Refusal('too_many_failures', {
          detail: `Too many failed attempts; try again in ${seconds} s`,
          reason: 'throttled',
          checks: [
            ...checksOf(limits, failures).filter((_, i) => (waits[i] ?? 0) > 0),
            checked('wait_seconds', seconds),
            checked('network', networkText(caller.address)),
          ],
          headers: { 'retry-after': String(seconds) },
        })
      }

      const countedAt = limits.filter(({ isNobodys }) => isNobodys === (found === undefined))
      const guess: { isJudged: boolean; isRight: boolean; recorded?: () => void } = { isJudged: false, isRight: false }
      let counted: (Failures | undefined)[] = []
      const judge: Judge = async (compare) => {
        if (guess.isJudged) throw new Error('A guess is judged once')
        guess.isJudged = true
        // Where others have failed here while this one waited for its turn, they may have elsewhere, too.
        if (seenSince.some((seen) => seen() !== undefined)) storedSince = await readFailures(limits)
        refuseWhileWaiting()
        const compared = compare()
        // No await where none is needed: guesses that resume together would all be judged before one is counted.
        const isSame = typeof compared === 'boolean' ? compared : await compared
        guess.isRight = isSame && found !== undefined
        if (!guess.isRight) guess.recorded = localFailures.add(countedAt)
        return guess.isRight as Verdict
      }

      refuseWhileWaiting()
      try {
        await check(found, judge)
      } finally {
        // Also when the check throws afterwards: the guess was wrong all the same.
        if (guess.recorded && !isOff)
          counted = await store.recordFailure(countedAt, now(), held()).finally(guess.recorded)
      }
      if (!guess.isJudged) throw new Error('A guess was not judged')
      if (!guess.isRight || found === undefined) {
        const network = checked('network', networkText(caller.address))
        return { isRight: false, found, checks: [...checksOf(countedAt, counted), network] }
      }
      if (!resets(found)) return { isRight: true, found }
      const failures = failuresNow()
      const failed = limits.filter((_, i) => failures[i] !== undefined)
      if (failed.length > 0) await store.clearFailures(failed)
      failed.forEach(localFailures.forget)
      return { isRight: true, found }
    },
  }
}

const add = (stored: Counted | undefined, seen: Counted | undefined): Counted | undefined =>
  seen ? { count: (stored?.count ?? 0) + seen.count, agoMs: seen.agoMs } : stored

const most = (one: Counted | undefined, other: Counted | undefined): Counted | undefined =>
  (other?.count ?? 0) > (one?.count ?? 0) ? other : one

/** How many failures there are under each limit; one that is counted for another name says nothing. */
const checksOf = (limits: Limit[], failures: ({ count: number } | undefined)[]): Check[] =>
  limits.map(({ name, allowed }, i) => checked(name, failures[i]?.count ?? 0, allowed))

/** What is left of a wait: 30 s after the last allowed failure, doubling with each further one, an hour at most. */
function waitMs(failures: Counted | undefined, allowed: number): number {
  if (!failures || failures.count < allowed) return 0
  return Math.min(firstWaitSeconds * 2 ** (failures.count - allowed), longestWaitSeconds) * 1000 - failures.agoMs
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('throttle', createThrottle(app))
  },
  { name: 'throttle', dependencies: ['store', 'secrets', 'events'] },
)
