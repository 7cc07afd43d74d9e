import { clockSkewSeconds } from './time.ts'

/** Made by `plugins/run/changes.ts` alone, which has everyone refuse the tokens before anything is answered. */
declare const made: unique symbol

/** Access tokens end: when, and when the last of them will have expired (milliseconds since the epoch). */
export interface End {
  now: number
  expiresAt: number
  [made]: true
}

/** Life of a token by which an administrator sees what a user sees, whatever `AUTH_ACCESS_TTL` is. */
export const actingTtlSeconds = 15 * 60

/**
 * Until when a revocation made now has to be kept.
 *
 * @returns milliseconds since the epoch, after the last token issued before `now` is refused for its age
 */
export const revocationExpiry = (now: number, accessTtlSeconds: number): number =>
  now + (Math.max(accessTtlSeconds, actingTtlSeconds) + clockSkewSeconds) * 1000
