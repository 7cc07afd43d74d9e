/*
 * Stored times may lie in the future: the clock that they were written by was wrong, or another replica's is ahead. Such a
 * time counts as now. Every difference with a stored time goes through here.
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

/** Whether a stored time lies further in the future than clocks may differ: one of the two clocks is wrong. */
export const isFuture = (at: number, now: number): boolean => at > now + clockSkewMs
