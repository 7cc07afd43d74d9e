import { Lru } from 'toad-cache'
import type { PresentedRefresh } from '../domain/session.ts'
import { elapsedMs } from '../domain/time.ts'

/** Sessions remembered whose refresh got no answer. */
const unansweredAtMost = 10_000

/**
 * A stalled database or disk may rotate long after the client got its 503; the client retries with the same token, as it
 * should, and would find it spent beyond the grace. So the time that the store took does not count: a retry within the
 * grace is judged as of the first attempt without an answer.
 */
export function createPatience() {
  /** By session: the counter presented, since when, and the time of the last 503. */
  const unanswered = new Lru<{ counter: number; since: number; toldAt: number }>(unansweredAtMost)

  /** @param rotate is given what was presented, with a grace that is longer by the time without an answer */
  return async <T>(presented: PresentedRefresh, rotate: (presented: PresentedRefresh) => Promise<T>): Promise<T> => {
    const { sessionId, counter, now, graceMs } = presented
    const askedAtMs = performance.now()
    const before = unanswered.get(sessionId)
    const since = before?.counter === counter && elapsedMs(before.toldAt, now) <= graceMs ? before.since : now
    try {
      return await rotate(since === now ? presented : { ...presented, graceMs: graceMs + elapsedMs(since, now) })
    } catch (error) {
      unanswered.set(sessionId, { counter, since, toldAt: now + performance.now() - askedAtMs })
      throw error
    }
  }
}
