import { clockSkewSeconds } from './time.ts'

/** Access tokens end: when, and when the last of them will have expired (milliseconds since the epoch). */
export interface End {
  now: number
  expiresAt: number
}

/**
 * Until when a revocation made now has to be kept.
 *
 * @returns milliseconds since the epoch, after the last token issued before `now` is refused for its age
 */
export const revocationExpiry = (now: number, accessTtlSeconds: number): number =>
  now + (accessTtlSeconds + clockSkewSeconds) * 1000
