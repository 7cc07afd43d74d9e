import type { Authentication } from './authentication.ts'
import { elapsedMs } from './time.ts'

/** A person who is signed in in a browser: what the sessions of apps that they sign in to from there begin with. */
export interface BrowserSession extends Authentication {
  /** UUID, the `parent` of those sessions; it opens nothing */
  id: string
  userId: string
  /** of the user, when it was opened */
  generation: number
  /** SHA-256 of the secret in the cookie, base64url; another one with each sign-in (session fixation) */
  secretHash: string
  createdAt: number
  /** when one of our pages was last asked for, to some minutes */
  seenAt: number
  address: string
  userAgent: string
}

/** How long they live, AUTH_BROWSER_IDLE_TTL and AUTH_BROWSER_MAX_TTL. */
export interface BrowserLimits {
  idleTtlMs: number
  maxTtlMs: number
}

/**
 * Whether the sign-in in a browser is over.
 *
 * @param refreshedAt of the session of an app that stands for it: an app that is in use keeps its own session alive
 */
export function isBrowserSessionOver(
  { seenAt, createdAt }: Pick<BrowserSession, 'seenAt' | 'createdAt'>,
  { idleTtlMs, maxTtlMs }: BrowserLimits,
  now: number,
  refreshedAt = 0,
): boolean {
  return elapsedMs(Math.max(seenAt, refreshedAt), now) >= idleTtlMs || elapsedMs(createdAt, now) >= maxTtlMs
}
