import type { Audit } from '../../domain/audit.ts'
import type { Authentication } from '../../domain/authentication.ts'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { End } from '../../domain/lifetimes.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { RecordTaking, ShortRecord } from '../../domain/record.ts'
import type { Session } from '../../domain/session.ts'

/** What is asked of the table of people who are signed in in a browser. */
export interface BrowserSessionTable {
  /**
   * Opens one.
   * @param taking the code of a finished sign-in, taken in the same step
   * @returns false as of `createSession`
   */
  createBrowserSession(session: BrowserSession, taking: RecordTaking, audit?: Audit): Promise<boolean>
  findBrowserSession(id: string): Promise<BrowserSession | undefined>
  /**
   * Says that its user has signed in anew in it: another secret is good from then on.
   * @returns false when its secret is another by now, it has ended, its user may not have tokens, the factor is gone, or
   *   there is no such record
   */
  renewBrowserSession(renewed: RenewedBrowserSession, taking?: RecordTaking, audit?: Audit): Promise<boolean>
  /** Says when one was seen last, where that is later. It need not be on disk when this resolves. */
  seeBrowserSession(id: string, seenAt: number): Promise<void>
  /** Those of a user that are alive but for their age, the newest first; at most {@link browserSessionsListed}. */
  listBrowserSessions(userId: string): Promise<BrowserSession[]>
  /** The sessions of apps that one has opened, those too that outlive it; at most {@link childrenListed}. */
  listChildren(parent: string): Promise<Session[]>
  /**
   * Ends one, and the sessions of apps that it has opened but for those with `offline_access`, and records the
   * revocation of each. The clients of all are to be told, of those with `offline_access` too: see {@link LogoutDue}.
   * @param userId whose it has to be; undefined for any user's
   * @returns false when there is no such one
   */
  endBrowserSession(id: string, end: End, userId?: string, audit?: Audit): Promise<boolean>
}

export interface RenewedBrowserSession extends Authentication {
  id: string
  /** as the caller has read it */
  expectedHash: string
  secretHash: string
  seenAt: number
}

/** Most that are listed. */
export const browserSessionsListed = 100
export const childrenListed = 1_000

/**
 * That a client is to be told of the end of a session that began with one in a browser, however it has ended: the data
 * of a record of kind `logout`, as JSON. Its id is `logout.` and the `sid`, its owner the `sid`. Where all sessions of a
 * user end at once, or one for its age, the record comes with the sweep.
 */
export interface LogoutDue {
  sub: string
  sid: string
  clientId: string
  clientCreatedAt?: number
}
export const logoutKind = 'logout'
/** After this the client will have heard from its own users. */
export const logoutTtlSeconds = 3_600

/** That the client of a session is to be told of its end, see {@link LogoutDue}. */
export function logoutRecord({ id: sid, userId: sub, clientId, clientCreatedAt }: Session, now: number): ShortRecord {
  const due: LogoutDue = omitUndefined({ sub, sid, clientId, clientCreatedAt })
  return {
    id: `${logoutKind}.${sid}`,
    kind: logoutKind,
    owner: sid,
    source: logoutKind,
    data: JSON.stringify(due),
    createdAt: now,
    expiresAt: now + logoutTtlSeconds * 1000,
    misses: 0,
    version: 1,
    dueAt: now,
  }
}
