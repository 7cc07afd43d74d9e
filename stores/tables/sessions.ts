import type { Audit } from '../../domain/audit.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { RecordTaking } from '../../domain/record.ts'
import type { PresentedRefresh, RotationOutcome, Session, SessionLimits } from '../../domain/session.ts'

/** What is asked of the table of sessions: one row each for its whole life, with the counter of its refresh tokens. */
export interface SessionTable {
  /**
   * Opens a session.
   * @param taking a record that is taken in the same step, such as an authorization code
   * @returns false when the user is gone, disabled, or no longer of the generation that the session was made for, when the
   *   factor that it relies on is gone, or the browser session that is its parent, or when there is no such record: then
   *   neither is done
   */
  createSession(session: Session, taking?: RecordTaking, audit?: Audit): Promise<boolean>
  /**
   * The heart of the service: decides what a presented refresh token means, and does it, in one step.
   * @param end of the session, when a spent token came back
   * @param onDecided called with the outcome before it is on disk, to prepare the response during the sync. Optional
   *   for a store. The write may still fail: nothing may leave the process before the promise has resolved
   * @param audit of a session that was ended
   */
  rotateSession(
    presented: PresentedRefresh,
    end: End,
    onDecided?: (outcome: RotationOutcome) => void,
    audit?: Audit<RotationOutcome>,
  ): Promise<RotationOutcome>
  findSession(id: string): Promise<Session | undefined>
  /** The live sessions of a user, newest first. @param page `after` is the `next` of the page before */
  listSessions(
    userId: string,
    live: SessionLimits,
    page: { after?: string; limit: number },
  ): Promise<{ sessions: Session[]; next?: string }>
  /**
   * Ends one session and records its revocation.
   * @param userId whose it has to be; undefined for any user's
   * @returns false when there is no such session
   */
  endSession(id: string, end: End, userId?: string, audit?: Audit): Promise<boolean>
}
