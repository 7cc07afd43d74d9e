import type { Audit } from '../../domain/audit.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { RecordsEnding, RecordTaking } from '../../domain/record.ts'
import type { User, UserProfile } from '../../domain/user.ts'
import type { ImportOutcome, ImportRow, OnConflict } from '../../domain/user-import.ts'

/** What is asked of the table of users. The rules are in `store.ts`. */
export interface UserTable {
  /**
   * Adds a user.
   * @param taking a record that is taken in the same step, such as an invitation
   * @returns false when the mapped name (`nameKey`), or the verified address, is taken, or there is no such record
   */
  createUser(user: User, taking?: RecordTaking, audit?: Audit): Promise<boolean>
  findUser(id: string): Promise<User | undefined>
  findUserByName(nameKey: string): Promise<User | undefined>
  /** The user whose verified address it is. @param emailKey the mapped address */
  findUserByEmail(emailKey: string): Promise<User | undefined>
  /**
   * Changes what a user is called and written to, and may do; with `end`, ends every session too.
   * @returns false when the stored profile is no longer the expected one, the user or the record that was to be taken
   *   is gone, or another has the name or the verified address
   */
  changeUser(change: UserChange, end?: End, audit?: Audit): Promise<boolean>
  /**
   * Stores another hash of the same password (a rehash).
   * @returns false when the stored hash is no longer `expectedHash`
   */
  replacePasswordHash(id: string, expectedHash: string, passwordHash: string): Promise<boolean>
  /**
   * Sets a new password and ends every session of the user but one: the user moves on to the next generation, the
   * kept session moves along, and a revocation is recorded for the access tokens of the others. Sessions in browsers end
   * all, for somebody may have a cookie; the kept one outlives that which it was opened from.
   * @returns false when the stored hash is no longer `expectedHash`, or the record that was to be taken is gone
   */
  changePassword(change: PasswordChange, end: End, audit?: Audit): Promise<boolean>
  /**
   * Removes the user, whose sessions are dead with it, and records the revocation.
   * @returns false when there was none
   */
  deleteUser(id: string, end: End, audit?: Audit): Promise<boolean>
  /**
   * Disables the user since `end.now`, and ends every session as `endUserSessions` does.
   * @returns false when there was none
   */
  disableUser(id: string, end: End, audit?: Audit): Promise<boolean>
  /** @returns false when there was none */
  enableUser(id: string, audit?: Audit): Promise<boolean>
  /** Ends all sessions of a user: the next generation begins, and the revocation of the one before is recorded. */
  endUserSessions(userId: string, end: End, audit?: Audit): Promise<boolean>
  /**
   * Users by mapped name; by creation, where `createdAfter` is given without a prefix. A page may be short of its limit,
   * or empty, and not be the last: see {@link usersLookedAt}.
   */
  listUsers(page: UserPage): Promise<{ users: User[]; next?: string }>

  /**
   * Takes a batch of rows of an import, all that `planImport` has written of them or nothing.
   * @param rows none of them twice, of at most {@link importedAtOnce}
   * @param end of the sessions of users whose rows change; undefined to write nothing, and only tell
   * @returns what became of each row, in their order
   */
  importUsers(rows: ImportRow[], onConflict: OnConflict, end?: End): Promise<ImportOutcome[]>
}

/** What happens to short-lived records in the step of a change of their owner. */
export interface WithRecords {
  /** is taken; without it nothing is changed */
  taking?: RecordTaking
  /** of the user, end as well */
  ending?: RecordsEnding
}

export interface UserChange extends WithRecords {
  userId: string
  /** as the caller has read it */
  expected: UserProfile
  next: UserProfile
}

export interface PasswordChange extends WithRecords {
  userId: string
  expectedHash: string
  passwordHash: string
  keepSessionId?: string
}

/** Rows of a batch of an import: other writers wait for a few milliseconds, and many more in one have ended lmdb. */
export const importedAtOnce = 250

/** A page of users. */
export interface UserPage {
  /** `next` of the page before */
  after?: string
  limit: number
  /** with which their mapped names begin */
  prefix?: string
  /** milliseconds since the epoch; only users who were made later */
  createdAfter?: number
}

/**
 * Most rows that a page looks at where it has both a prefix and a time: there is no index of both, and no page may take
 * longer the more users there are.
 */
export const usersLookedAt = 250
