import type { Amr, Authentication } from './authentication.ts'
import { type BrowserLimits, type BrowserSession, isBrowserSessionOver } from './browser-session.ts'
import { lacksFactor, type MfaPolicy } from './factor.ts'
import { offlineScope } from './scope.ts'
import { clockSkewMs, elapsedMs, isFuture } from './time.ts'
import { mayHaveTokens, type User } from './user.ts'

export interface Session {
  /** UUID, the `sid` of tokens */
  id: string
  userId: string
  clientId: string
  /** `createdAt` of its client: another may come under the same id. Undefined for the built-in one, and before 0.3.0 */
  clientCreatedAt?: number
  scope: string[]
  /** of the user, when the session was opened or last kept */
  generation: number
  /** of the refresh token that is good now */
  counter: number
  createdAt: number
  /** of the last rotation; the creation, before the first */
  refreshedAt: number
  address: string
  userAgent: string
  /** milliseconds since the epoch; undefined where the user had no second factor: then it was the creation */
  authAt?: number
  /** by which methods; undefined for a password alone */
  amr?: Amr[]
  /** the `BrowserSession` that it was opened from, and ends with unless its scope has `offline_access` */
  parent?: string
  /** the second factor, or the passkey, of the sign-in; undefined for one factor, or when that factor is gone */
  factor?: string
}

/** How the user of a session has signed in. */
export const authenticationOf = ({
  authAt,
  createdAt,
  amr = ['pwd'],
  factor,
}: Pick<Session, 'authAt' | 'createdAt' | 'amr' | 'factor'>): Authentication => ({
  authAt: authAt ?? createdAt,
  amr,
  ...(factor !== undefined && { factor }),
})

/** What decides whether a session is still alive at `now`. */
export interface SessionLimits {
  now: number
  idleTtlMs: number
  maxTtlMs: number
  /** of what it was opened from */
  browser: BrowserLimits
}

/** Whether a session has outlived its idle or its absolute life. */
export function isExpired(
  { refreshedAt, createdAt }: Session,
  { now, idleTtlMs, maxTtlMs }: Omit<SessionLimits, 'browser'>,
): boolean {
  return elapsedMs(refreshedAt, now) >= idleTtlMs || elapsedMs(createdAt, now) >= maxTtlMs
}

/** Whether a session ends with the browser session that it was opened from: OpenID Connect Core §11. */
export const endsWithParent = ({ parent, scope }: Session): boolean =>
  parent !== undefined && !scope.includes(offlineScope)

/**
 * Whether the browser session that a session ends with is over. `isSignedOut` in `stores/postgres/tables/sessions.ts` is
 * the same for one statement.
 *
 * @param parent as it is in the store; undefined where it is gone, or the session has none
 */
export function isSignedOut(
  session: Session,
  parent: BrowserSession | undefined,
  { now, browser }: Pick<SessionLimits, 'now' | 'browser'>,
): boolean {
  if (!endsWithParent(session)) return false
  return parent === undefined || isBrowserSessionOver(parent, browser, now, session.refreshedAt)
}

/** Whether a session and its user still belong together. */
export function isCurrent(session: Session, user: User | undefined): user is User {
  return mayHaveTokens(user, session.generation)
}

/** A refresh token that this server made, taken apart, and what is known of the request that brought it. */
export interface PresentedRefresh extends SessionLimits {
  sessionId: string
  counter: number
  clientId: string
  /** of the client, as in {@link Session}; undefined where there is only one of the id */
  clientCreatedAt?: number | undefined
  /** of the new access token; undefined for the scope of the session */
  scope: string[] | undefined
  graceMs: number
  /** AUTH_MFA: whoever lacks a factor that it demands has to sign in anew */
  mfa?: MfaPolicy
  /** whether a rotation of a time can be as young as that says; a clock that was set back says so of old ones again */
  mayBeWithin?: (rotatedAt: number, lastMs: number) => boolean
  address: string
  userAgent: string
}

export type RotationOutcome =
  /**
   * `rotated`: the counter advanced. `repeated`: a benign retry, nothing did. In both, `session.counter` is the one to
   * hand out.
   */
  | { outcome: 'rotated' | 'repeated'; session: Session; user: User }
  /** A spent token came back: the session has been ended and its revocation recorded. */
  | { outcome: 'reused'; session: Session }
  /** Refused, and nothing was touched. `signed_out`: in the browser that it was opened from. */
  | { outcome: 'unknown' | 'expired' | 'signed_out' | 'wrong_client' | 'scope_exceeded' }
  /** Refused likewise: AUTH_MFA demands a factor, and the user has none. */
  | { outcome: 'factor_missing'; session: Session; user: User }

/**
 * Whether a session was opened by this client, and not by one of the same id that is gone. Before 0.3.0 sessions do not
 * say, and one that is older than the client was not.
 */
export function isOfClient(session: Session, clientId: string, clientCreatedAt: number | undefined): boolean {
  if (session.clientId !== clientId) return false
  if (clientCreatedAt === undefined) return true
  return session.clientCreatedAt === undefined
    ? session.createdAt + clockSkewMs >= clientCreatedAt
    : session.clientCreatedAt === clientCreatedAt
}

/** A rotation that lies in the future was long ago, by a clock that was wrong: its grace is over. */
const isWithinGrace = (rotatedAt: number, { now, graceMs, mayBeWithin = () => true }: PresentedRefresh) =>
  !isFuture(rotatedAt, now) && elapsedMs(rotatedAt, now) <= graceMs && mayBeWithin(rotatedAt, graceMs)

/**
 * What presenting a counter to a session means, by the table in `docs/architecture.md`. Both stores decide by this,
 * inside their atomic step.
 *
 * @param parent of the session, as in {@link isSignedOut}
 */
export function judgeRotation(
  session: Session | undefined,
  user: User | undefined,
  presented: PresentedRefresh,
  parent: BrowserSession | undefined,
): RotationOutcome['outcome'] {
  if (!session || !isCurrent(session, user)) return 'unknown'
  if (!isOfClient(session, presented.clientId, presented.clientCreatedAt)) return 'wrong_client'
  if (isExpired(session, presented)) return 'expired'
  if (isSignedOut(session, parent, presented)) return 'signed_out'
  const inGrace = presented.counter === session.counter - 1 && isWithinGrace(session.refreshedAt, presented)
  if (presented.counter < session.counter && !inGrace) return 'reused'
  if (lacksFactor(user, presented.mfa ?? 'optional')) return 'factor_missing'
  if (presented.scope?.some((name) => !session.scope.includes(name))) return 'scope_exceeded'
  // A counter ahead of the store's is the store that lost its tail, after a restore or a failover: go on from the
  // token.
  return inGrace ? 'repeated' : 'rotated'
}
