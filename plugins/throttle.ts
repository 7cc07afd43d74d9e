import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import ipaddr from 'ipaddr.js'
import { Lru } from 'toad-cache'
import { Refusal } from '../errors.ts'
import type { Failures } from '../stores/store.ts'

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
  /** What this process knows without asking: guesses that are in the queue together must not all pass on one reading of the store. */
  const known = new Lru<Failures>(10_000)

  const keysOf = (account: string, address: string) => {
    const key = (...parts: string[]) => mac.sign(Buffer.from(parts.join('\0'))).toString('base64url', 0, 18)
    return [key('prefix', account, prefixOf(address)), key('account', account)]
  }
  const limits = [allowedFailures.fromPrefix, allowedFailures.fromAnywhere]

  function refuseWhileWaiting(failures: (Failures | undefined)[]): void {
    const waits = failures.map((failure, index) => (failure ? failure.lastAt + waitMs(failure.count, limits[index] as number) - now() : 0))
    const longestMs = Math.max(...waits)
    if (longestMs <= 0) return
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
     * @throws {Refusal} 429 `too_many_failures` while a wait is on
     */
    async attempt(account: string, address: string) {
      const keys = isOff ? [] : keysOf(account, address)
      const before = isOff ? [] : await store.findFailures(keys)
      if (!isOff) refuseWhileWaiting(before)
      return {
        /** Asked again right before the hash: throws when the attempts that came first have failed meanwhile. */
        recheck(): void {
          if (!isOff) refuseWhileWaiting(keys.map((key) => known.get(key)))
        },
        /** Counts a failure here at once; `failed` counts it for everyone. */
        note(isRight: boolean): void {
          if (isRight) return
          for (const [index, key] of keys.entries()) {
            const count = Math.max(known.get(key)?.count ?? 0, before[index]?.count ?? 0) + 1
            known.set(key, { count, lastAt: now() })
          }
        },
        async failed(): Promise<void> {
          if (isOff) return
          const after = await store.recordFailure(keys, now())
          // Later failures of this process may be counted here already, and not yet there.
          for (const [index, key] of keys.entries()) {
            const counted = after[index] as Failures
            if (counted.count > (known.get(key)?.count ?? 0)) known.set(key, counted)
          }
        },
        async succeeded(): Promise<void> {
          if (keys.every((key, index) => before[index] === undefined && known.get(key) === undefined)) return
          await store.clearFailures(keys)
          for (const key of keys) known.delete(key)
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

/** The part of an address that one guesser is assumed to hold: /24 of IPv4, /64 of IPv6. */
function prefixOf(address: string): string {
  if (!ipaddr.isValid(address)) return address
  const parsed = ipaddr.process(address)
  return parsed
    .toByteArray()
    .slice(0, parsed.kind() === 'ipv4' ? 3 : 8)
    .join('.')
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('throttle', createThrottle(app))
  },
  { name: 'throttle', dependencies: ['store', 'secrets'] },
)
