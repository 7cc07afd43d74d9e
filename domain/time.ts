/*
 * Stored times may lie in the future: the clock that they were written by was wrong, or another replica's is ahead.
 * Such a time counts as now. Every difference with a stored time goes through here.
 */

/** How far the clocks of two replicas may be apart. */
export const clockSkewSeconds = 60
export const clockSkewMs = clockSkewSeconds * 1000

/**
 * How long ago a stored time was.
 *
 * @returns milliseconds, never negative: what lies in the future is as old as now
 */
export const elapsedMs = (since: number, now: number): number => Math.max(0, now - since)

/**
 * Before this release was made: a machine that has just started without a battery, and nothing is to be judged by its
 * clock.
 */
const earliestMs = Date.UTC(2026, 0)

/**
 * What is stored of after this lies in the future: further ahead than clocks may differ, so one of the two is wrong.
 */
export const futureFrom = (now: number): number => (now < earliestMs ? Number.MAX_SAFE_INTEGER : now + clockSkewMs)

/** Whether a stored time lies in the future. */
export const isFuture = (at: number, now: number): boolean => at > futureFrom(now)

/** How long a leap ahead has to last to be believed: the clock was put right, and no mistake that passes. */
export const believedAfterMs = 3_600_000

/**
 * A clock that does not leap ahead: what is deleted for its age is judged by it, so that a clock that is wrong for a
 * moment deletes nothing.
 *
 * @param uptimeMs on a clock that nobody sets @param afterMs how long a leap ahead has to last to be believed
 * @returns milliseconds since the epoch, never ahead of `now` by more than the skew; to be called often
 */
export function createSteadyClock(
  now: () => number,
  uptimeMs: () => number,
  afterMs: number = believedAfterMs,
): () => number {
  let startMs = now() - uptimeMs()
  let leaptAtMs: number | undefined
  /** of the leaps ahead since then: only so much of one has lasted */
  let leastLeapMs = 0
  return () => {
    const uptime = uptimeMs()
    const leapMs = now() - uptime - startMs
    if (leapMs <= clockSkewMs) {
      leaptAtMs = undefined
      startMs += leapMs
    } else if (leaptAtMs === undefined) {
      leaptAtMs = uptime
      leastLeapMs = leapMs
    } else {
      leastLeapMs = Math.min(leastLeapMs, leapMs)
      if (uptime - leaptAtMs >= afterMs) {
        leaptAtMs = undefined
        startMs += leastLeapMs
      }
    }
    return Math.floor(uptime + startMs)
  }
}
