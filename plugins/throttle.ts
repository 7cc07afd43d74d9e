import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import { Refusal } from '../errors.ts'
import type { Failures } from '../stores/store.ts'
import { networkOf } from './client-address.ts'

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
 * Slows guessing down: failures are counted in the store, for an account from one address prefix, and for an account from
 * anywhere. The first bar is low, so a guesser is stopped; the second is high, so that no stranger can lock the owner out.
 *
 * Accounts are counted by a MAC of their name, whether they exist or not.
 */
function createThrottle({ config, store, secrets, now, log }: FastifyInstance) {
  const mac = secrets.mac('throttle')
  const isOff = config.AUTH_THROTTLE === 'off'
  /**
   * Failures that this process has seen: those of attempts that came together are not in what each of them read of the store,
   * and must not all pass on one reading. Only what came since an attempt read counts for it, for a success elsewhere resets.
   */
  const seenHere = new Lru<{ failures: number; unrecorded: number; lastAt: number }>(10_000)

  const keysOf = (account: string, address: string) => {
    const key = (...parts: string[]) => mac.sign(Buffer.from(parts.join('\0'))).toString('base64url', 0, 18)
    return [key('prefix', account, networkOf(address, 24)), key('account', account)].map((text) => ({ key: text }))
  }
  const limits = [allowedFailures.fromPrefix, allowedFailures.fromAnywhere]

  function refuseWhileWaiting(failures: (Failures | undefined)[]): void {
    const waits = failures.map((failure, index) => (failure ? failure.lastAt + waitMs(failure.count, limits[index] as number) - now() : 0))
    const longestMs = Math.max(0, ...waits)
    if (longestMs === 0) return
    const seconds = Math.ceil(longestMs / 1000)
    log.warn({ event: 'login.throttled', wait_seconds: seconds }, 'an account waits after failed logins')
    throw new Refusal('too_many_failures', {
      detail: `Too many failed attempts; try again in ${seconds} s`,
      reason: 'throttled',
      headers: { 'retry-after': String(seconds) },
    })
  }

  return {
    /**
     * Begins an attempt on an account.
     *
     * @param account the mapped name, existing or not
     * @param isGuessable whether there is a second bar, for guessers at many addresses: a secret of 256 bits needs none
     * @throws {Refusal} 429 `too_many_failures` while a wait is on
     */
    async attempt(account: string, address: string, { isGuessable = true } = {}) {
      const keys = isOff ? [] : keysOf(account, address).slice(0, isGuessable ? 2 : 1)
      // Copies, for what is recorded meanwhile may not be in the store's answer.
      const seenBefore = keys.map(({ key }) => ({ failures: 0, unrecorded: 0, ...seenHere.get(key) }))
      const stored = isOff ? [] : await store.findFailures(keys)
      refuseWhileWaiting(stored)

      /** What the store said, and what was seen here since. */
      const failuresNow = () =>
        keys.map(({ key }, index) => {
          const [seen, before] = [seenHere.get(key), seenBefore[index]]
          const since = seen && before ? Math.max(0, seen.failures - before.failures) + before.unrecorded : 0
          return seen && since > 0 ? { count: (stored[index]?.count ?? 0) + since, lastAt: seen.lastAt } : stored[index]
        })
      return {
        /** Asked again right before the hash: throws when the attempts that came first have failed meanwhile. */
        recheck: () => refuseWhileWaiting(failuresNow()),
        /** Counts a failure here at once; `failed` counts it for everyone. */
        note(isRight: boolean): void {
          if (isRight) return
          for (const { key } of keys) {
            const { failures, unrecorded } = seenHere.get(key) ?? { failures: 0, unrecorded: 0 }
            seenHere.set(key, { failures: failures + 1, unrecorded: unrecorded + 1, lastAt: now() })
          }
        },
        async failed(): Promise<void> {
          if (isOff) return
          try {
            await store.recordFailure(keys, now())
          } finally {
            for (const { key } of keys) {
              const seen = seenHere.get(key)
              if (seen) seen.unrecorded -= 1
            }
          }
        },
        async succeeded(): Promise<void> {
          if (failuresNow().every((failures) => failures === undefined)) return
          await store.clearFailures(keys)
          for (const { key } of keys) seenHere.delete(key)
        },
      }
    },
  }
}

/** 30 s after the last allowed failure, doubling with each further one, an hour at most. */
function waitMs(count: number, allowed: number): number {
  if (count < allowed) return 0
  return Math.min(firstWaitSeconds * 2 ** (count - allowed), longestWaitSeconds) * 1000
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('throttle', createThrottle(app))
  },
  { name: 'throttle', dependencies: ['store', 'secrets', 'client-address'] },
)
