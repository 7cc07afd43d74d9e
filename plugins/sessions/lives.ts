import type { Config } from '../../config.ts'
import { endsWithParent, isExpired, isSignedOut, type Session, type SessionLimits } from '../../domain/session.ts'
import type { Store } from '../../stores/store.ts'

/** How long sessions live, and the browser sessions that those of apps begin with. */
export const sessionLives = (config: Config): Omit<SessionLimits, 'now'> => ({
  idleTtlMs: config.AUTH_REFRESH_IDLE_TTL.ms,
  maxTtlMs: config.AUTH_REFRESH_MAX_TTL.ms,
  browser: { idleTtlMs: config.AUTH_BROWSER_IDLE_TTL.ms, maxTtlMs: config.AUTH_BROWSER_MAX_TTL.ms },
})

/** Whether a session is over, or the browser session that it ends with. A refresh asks the same in its own step. */
export async function isOver(
  session: Session,
  store: Pick<Store, 'findBrowserSession'>,
  limits: SessionLimits,
): Promise<boolean> {
  if (isExpired(session, limits)) return true
  if (session.parent === undefined || !endsWithParent(session)) return false
  return isSignedOut(session, await store.findBrowserSession(session.parent), limits)
}
