import type { Audit } from '../../domain/audit.ts'
import type { Authentication } from '../../domain/authentication.ts'
import type { Factor, UserFactors } from '../../domain/factor.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { RecordTaking } from '../../domain/record.ts'
import type { WithRecords } from './users.ts'

/** What is asked of the table of second factors: one row for each user who has, or had, any. */
export interface FactorTable {
  findFactors(userId: string): Promise<UserFactors | undefined>
  /**
   * Changes the factors of a user, `hasFactors` of whose row follows, and what else belongs to it, in one step; with
   * `end`, ends every session too.
   * @returns false when the version is another, the user is gone, or disabled while nothing ends, or the record or the
   *   session that is named is gone
   */
  changeFactors(change: FactorsChange, end?: End, audit?: Audit): Promise<boolean>
  /**
   * Says of a session that its user has signed in anew.
   * @param taking the record that shows it, in the same step
   * @returns false when the session has ended, the factor is gone, or there is no such record
   */
  raiseSession(raised: Raised, taking: RecordTaking, audit?: Audit): Promise<boolean>
  /**
   * Puts the secret of an authenticator app sealed anew in the place of what sealed it before, of a disabled user too.
   * @returns false when it is not that any more
   */
  resealTotp(userId: string, expected: string, sealed: string): Promise<boolean>
  /** Forgets the factors of a user, whether there is one: for the moving of a store. */
  removeFactors(userId: string): Promise<void>
}

export interface FactorsChange extends WithRecords {
  userId: string
  /** as the caller has read it; 0 where there is no row */
  expectedVersion: number
  next: Factor[]
  /** a session of the user whose sign-in it belongs to: it has to be there, and is of the new level */
  raising?: Raised
  /** the id of a factor that is gone: no session is of a level that it has given */
  lowering?: string
}

/** A session, and how its user has signed in. */
export interface Raised extends Authentication {
  sessionId: string
}
