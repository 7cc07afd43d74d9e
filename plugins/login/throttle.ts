import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import type { FailureKey, Failures } from '../../domain/failures.ts'
import { networkOf } from '../../domain/network.ts'
import { clockSkewMs, elapsedMs } from '../../domain/time.ts'
import { Refusal } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    throttle: ReturnType<typeof createThrottle>
  }
}

/** After so many failures in a row the waits begin: from one address prefix, and from anywhere. */
const allowedFailures = { fromPrefix: 10, fromAnywhere: 100 } as const
const firstWaitSeconds = 30
const longestWaitSeconds = 3_600
/** A count with no failure for so long is forgotten. */
export const failuresLastMs = 24 * 3_600_000

/**
 * What is guessed at, and in how many rows at most. Address prefixes that come for an account or client share its slots. All names
 * that nobody has share the `nobody` slots, or strangers could fill the store with names that they make up.
 *
 * A secret of a client gets no second bar: it would let strangers stop a service. So it has more slots, for no bar ends them.
 */
const kinds = {
  user: { slots: 64, hasSecondBar: true, idName: 'sub' },
  client: { slots: 1_024, hasSecondBar: false, idName: 'client_id' },
} as const
type Kind = keyof typeof kinds
/** for prefixes, and again for accounts */
const nobodySlots = 65_536

/** Where failures of one name are counted, and how many are allowed there. */
interface Bar extends FailureKey {
  allowed: number
  /** whether it is for names that nobody has */
  isNobodys: boolean
}

/** A count and how long ago the last failure was. */
interface Counted {
  count: number
  agoMs: number
}

/**
 * Compares, when it is time to: refuses where the guesses that came first have failed meanwhile, and counts a wrong one at once.
 *
 * @throws {Refusal} 429 `too_many_failures`, and nothing is compared
 */
export type Judge = (compare: () => Promise<boolean> | boolean) => Promise<boolean>

/**
 * Slows guessing down: failures are counted in the store, for an account from one address prefix, and for an account from
 * anywhere. The first bar is low, so a guesser is stopped; the second is high, so that no stranger can lock the owner out.
 *
 * Accounts are counted by a MAC of their name. For a name that nobody has, the same answers come of a slot that other such names
 * take over, so that names that are made up cost a number of rows and no more.
 */
function createThrottle({ config, store, secrets, now, uptimeMs }: FastifyInstance) {
  const mac = secrets.mac('throttle')
  const isOff = config.AUTH_THROTTLE === 'off'
  const seenHere = createSeenHere(uptimeMs)

  function barsOf(kind: Kind, name: string, address: string): { account: string; bars: Bar[] } {
    const { slots, hasSecondBar } = kinds[kind]
    const sign = (...parts: string[]) => mac.sign(Buffer.from(parts.join('\0')))
    const ofName = sign(kind === 'user' ? 'account' : kind, name)
    const ofPrefix = sign('prefix', kind, name, networkOf(address, 24))
    const [account, tag] = [ofName.toString('base64url', 0, 18), ofPrefix.toString('base64url', 4, 22)]
    const slot = (digest: Buffer, of: number) => digest.readUInt32BE(0) % of
    const [fromPrefix, fromAnywhere] = [
      { allowed: allowedFailures.fromPrefix },
      { allowed: allowedFailures.fromAnywhere },
    ]
    const bars = [
      { key: `${account}/${slot(ofPrefix, slots)}`, tag, ...fromPrefix, isNobodys: false },
      { key: `${kind}@/${slot(ofPrefix, nobodySlots)}`, tag, ...fromPrefix, isNobodys: true },
      { key: account, ...fromAnywhere, isNobodys: false },
      { key: `${kind}/${slot(ofName, nobodySlots)}`, tag: account, ...fromAnywhere, isNobodys: true },
    ]
    return { account, bars: hasSecondBar ? bars : bars.slice(0, 2) }
  }

  /** A slot that waits is not taken over, or a guesser could end a wait by making up names until one falls into it. */
  const held = () => ({
    count: allowedFailures.fromPrefix,
    since: now() - longestWaitSeconds * 1000,
    until: now() + clockSkewMs,
  })

  /** What the store has counted. A wait that begins in the future begins now, for good: it has to end when it was said to. */
  async function readFailures(bars: Bar[]): Promise<(Counted | undefined)[]> {
    const stored: (Failures | undefined)[] = await store.findFailures(bars)
    const ahead = bars.filter(
      ({ allowed }, i) => (stored[i]?.count ?? 0) >= allowed && (stored[i]?.lastAt ?? 0) > now(),
    )
    if (ahead.length > 0) await store.capFailures(ahead, now())
    return stored.map((row) => row && { count: row.count, agoMs: elapsedMs(row.lastAt, now()) })
  }

  return {
    /**
     * Lets one guess at a password or secret be judged, or refuses it. A wrong one is counted, in memory before the next is judged
     * and then in the store; a right one resets the count. This is the only way to do either.
     *
     * @param name the mapped name of a user or the id of a client, existing or not
     * @param find looks for whom the name means, beside the look at the failures
     * @param check does the work, and has `judge` compare once, as late as it can
     * @returns who was found, and whether the guess is right; never of someone who was not found
     * @throws {Refusal} 429 `too_many_failures` while a wait is on; whatever `find` and `check` throw
     */
    async guard<T extends { id: string }>(
      request: FastifyRequest,
      kind: Kind,
      name: string,
      find: () => Promise<T | undefined> | T | undefined,
      check: (found: T | undefined, judge: Judge) => Promise<unknown>,
    ): Promise<{ found: T | undefined; isRight: boolean }> {
      const { account, bars } = isOff ? { bars: [] } : barsOf(kind, name, request.address)
      const seenSince = bars.map(seenHere.watch)
      const [found, stored] = await Promise.all([find(), isOff ? [] : readFailures(bars)])
      /** what the store said, and what was seen here since */
      const failuresNow = () => stored.map((row, i) => add(row, seenSince[i]?.()))

      function refuseWhileWaiting(): void {
        const waits = failuresNow().map((failures, i) => waitMs(failures, bars[i]?.allowed ?? 0))
        const seconds = Math.ceil(Math.max(0, ...waits) / 1000)
        if (seconds === 0) return
        const about = { account, address: request.address, ...(found && { [kinds[kind].idName]: found.id }) }
        request.log.warn(
          { event: 'login.throttled', wait_seconds: seconds, ...about },
          'an account waits after failed logins',
        )
        throw new Refusal('too_many_failures', {
          detail: `Too many failed attempts; try again in ${seconds} s`,
          reason: 'throttled',
          headers: { 'retry-after': String(seconds) },
        })
      }

      const countedAt = bars.filter(({ isNobodys }) => isNobodys === (found === undefined))
      let state: 'open' | 'judging' | 'right' | 'wrong' = 'open'
      let recorded = () => {}
      const judge: Judge = async (compare) => {
        if (state !== 'open') throw new Error('A guess is judged once')
        refuseWhileWaiting()
        state = 'judging'
        const compared = compare()
        // Where nothing is waited for, nothing may come between: guesses that resume together would all be judged before one is counted.
        const isSame = typeof compared === 'boolean' ? compared : await compared
        state = isSame && found !== undefined ? 'right' : 'wrong'
        if (state === 'wrong') recorded = seenHere.note(countedAt)
        return state === 'right'
      }
      const verdict = () => state

      refuseWhileWaiting()
      try {
        await check(found, judge)
      } finally {
        if (verdict() === 'wrong' && !isOff) await store.recordFailure(countedAt, now(), held()).finally(recorded)
      }
      if (verdict() === 'right') {
        const failures = failuresNow()
        const failed = bars.filter((_, i) => failures[i] !== undefined)
        if (failed.length > 0) await store.clearFailures(failed)
        failed.forEach(seenHere.forget)
      } else if (verdict() !== 'wrong') throw new Error('A guess was not judged')
      return { found, isRight: verdict() === 'right' }
    },
  }
}

/**
 * Failures that this process has seen. Concurrent guesses have all read the same count of the store, and must not all pass on one
 * reading. Only what came since a guess has read counts for it, for a success elsewhere resets.
 */
export function createSeenHere(uptimeMs: () => number) {
  interface Seen {
    failures: number
    /** of them, that the store may not know yet */
    unrecorded: number
    lastAtMs: number
  }
  const seen = new Lru<Seen>(10_000)
  const idOf = ({ key, tag }: FailureKey) => `${key} ${tag}`

  return {
    /** @returns a function that says what has come since this call */
    watch(key: FailureKey): () => Counted | undefined {
      const id = idOf(key)
      const entry = seen.get(id)
      const { failures = 0, unrecorded = 0 } = entry ?? {}
      return () => {
        const latest = seen.get(id)
        if (!latest) return undefined
        // Another entry than the one from before has begun since.
        const count = latest === entry ? latest.failures - failures + unrecorded : latest.failures
        return count > 0 ? { count, agoMs: uptimeMs() - latest.lastAtMs } : undefined
      }
    },
    /** Counts one failure. @returns what to call when the store knows it, or never will */
    note(keys: FailureKey[]): () => void {
      const entries = keys.map((key) => {
        const entry = seen.get(idOf(key)) ?? { failures: 0, unrecorded: 0, lastAtMs: 0 }
        seen.set(idOf(key), Object.assign(entry, { lastAtMs: uptimeMs() }))
        entry.failures += 1
        entry.unrecorded += 1
        return entry
      })
      // In the same entries, whatever has taken their place meanwhile.
      return () => {
        for (const entry of entries) entry.unrecorded -= 1
      }
    },
    forget: (key: FailureKey): void => seen.delete(idOf(key)),
    /** for tests: the entries there are */
    get size() {
      return seen.size
    },
  }
}

const add = (stored: Counted | undefined, seen: Counted | undefined): Counted | undefined =>
  seen ? { count: (stored?.count ?? 0) + seen.count, agoMs: seen.agoMs } : stored

/** 30 s after the last allowed failure, doubling with each further one, an hour at most; what is left of it. */
function waitMs(failures: Counted | undefined, allowed: number): number {
  if (!failures || failures.count < allowed) return 0
  return Math.min(firstWaitSeconds * 2 ** (failures.count - allowed), longestWaitSeconds) * 1000 - failures.agoMs
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('throttle', createThrottle(app))
  },
  { name: 'throttle', dependencies: ['store', 'secrets', 'client-address'] },
)
