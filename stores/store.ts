import type { Audit, AuditFilter, AuditRow } from '../domain/audit.ts'
import type { Client } from '../domain/client.ts'
import type { FailureKey, Failures, Held } from '../domain/failures.ts'
import type { End } from '../domain/lifetimes.ts'
import type { RecordBounds, RecordKey, RecordTaking, ShortRecord } from '../domain/record.ts'
import type { Revocation } from '../domain/revocation.ts'
import type { PresentedRefresh, RotationOutcome, Session, SessionLimits } from '../domain/session.ts'
import type { SigningKeyRecord } from '../domain/signing-key.ts'
import type { User } from '../domain/user.ts'
import type { ImportOutcome, ImportRow, OnConflict } from '../domain/user-import.ts'
import type { TableName, Tables } from './rows.ts'

/**
 * What Latchkey asks of a database.
 *
 * One interface, two implementations, one contract test (`test/stores/contract.ts`) that each of them passes.
 * The rules that every method keeps:
 *
 * - **Atomic.** A method is one step. Two of them on the same record, from any request, process or replica, behave as
 *   if one came after the other; what can race is decided inside, never by a read that the caller follows with a write.
 * - **Durable.** A promise that resolves after a write means that the write is on disk.
 * - **Honest.** When the database cannot answer, a method rejects with {@link StoreUnavailable}. It never resolves
 *   with "not found" because it could not look.
 * - **Timeless.** The caller brings the time (`now`, milliseconds since the epoch); no store reads a clock for it.
 * - **Told.** What takes an `audit` writes its rows in the same step, where it has changed anything: both are there, or
 *   neither. `plugins/run/changes.ts` hands it over.
 */
export interface Store {
  /** in logs */
  readonly name: string
  /** of the database, as people know it */
  readonly product: string
  /** whether there was no store before this one was opened */
  readonly isNew: boolean

  /**
   * Resolves, if ever, with a line for the operator when nothing can be done any more by this process, and by another
   * one could: it has to end. Optional for a store.
   */
  readonly broken?: Promise<string>

  /** Rejects when the database cannot be reached and read; after anything has failed, until it can be written too. */
  ping(): Promise<void>
  /** Waits for calls under way and closes the database. Further calls reject. */
  close(): Promise<void>

  // Users

  /** Adds a user. @returns false when the mapped name (`nameKey`), or the verified address, is taken */
  createUser(user: User, audit?: Audit): Promise<boolean>
  findUser(id: string): Promise<User | undefined>
  findUserByName(nameKey: string): Promise<User | undefined>
  /**
   * Stores another hash of the same password (a rehash).
   * @returns false when the stored hash is no longer `expectedHash`
   */
  replacePasswordHash(id: string, expectedHash: string, passwordHash: string): Promise<boolean>
  /**
   * Sets a new password and ends every session of the user but one: the user moves on to the next generation, the
   * kept session moves along, and a revocation is recorded for the access tokens of the others.
   * @returns false when the stored hash is no longer `expectedHash`
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
  /**
   * Sets the roles; with `end`, ends every session too.
   * @returns false when the stored roles are no longer `expectedRoles`, or the user is gone
   */
  setRoles(
    change: { userId: string; expectedRoles: string[]; roles: string[] },
    end?: End,
    audit?: Audit,
  ): Promise<boolean>
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

  // Clients, by their `client_id`

  /** Adds a client. @returns false when the id is taken */
  createClient(client: Client, audit?: Audit): Promise<boolean>
  findClient(id: string): Promise<Client | undefined>
  /**
   * Puts a client in the place of the one with its id, which has to be of the generation before.
   * @param end to have the access tokens of earlier generations revoked
   * @returns false when it is of another generation by now, or gone
   */
  replaceClient(client: Client, end?: End, audit?: Audit): Promise<boolean>
  /** Clients by id, as the database sorts. @param page `after` is the `next` of the page before */
  listClients(page: { after?: string; limit: number }): Promise<{ clients: Client[]; next?: string }>
  /** Removes a client and records the revocation. @returns false when there was none */
  deleteClient(id: string, end: End, audit?: Audit): Promise<boolean>

  // Sessions: one row each for its whole life

  /**
   * Opens a session.
   * @param taking a record that is taken in the same step, such as an authorization code
   * @returns false when the user is gone, disabled, or no longer of the generation that the session was made for, or
   *   when there is no such record: then neither is done
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
  /** Ends all sessions of a user: the next generation begins, and the revocation of the one before is recorded. */
  endUserSessions(userId: string, end: End, audit?: Audit): Promise<boolean>

  // Revocations of access tokens, kept until the last token they concern has expired

  /**
   * Records a revocation.
   * @returns false when what it names (see {@link namesOne}) is revoked already, and still in force: then it is no new row
   */
  revoke(revocation: Revocation, audit?: Audit): Promise<boolean>
  /**
   * Revocations since a cursor, page by page, at least once each.
   * @param cursor of the page before; undefined, or unknown to this store, for all that are still in force
   * @param limit most entries of the page
   */
  revocationsSince(cursor?: string, limit?: number): Promise<RevocationPage>

  // Signing keys

  listSigningKeys(): Promise<SigningKeyRecord[]>
  /**
   * Adds a key as the newest of its `alg`, unless another process was faster.
   * @param expectedNewestKid the newest key (by `createdAt`) of the `alg` that the caller knows; undefined for none
   * @returns false when that is no longer the newest, or the new one would not be newer
   */
  addSigningKey(key: SigningKeyRecord, expectedNewestKid: string | undefined, audit?: Audit): Promise<boolean>
  /** @returns false when there was none */
  removeSigningKey(kid: string, audit?: Audit): Promise<boolean>
  /**
   * Replaces the sealed private half of a key by the same, sealed anew.
   * @returns false when it is no longer the `expected` one, or the key is gone
   */
  resealSigningKey(kid: string, expected: Uint8Array, sealed: Uint8Array): Promise<boolean>
  /**
   * Removes keys before their time, and records the revocation of each that was there: all of it, or nothing.
   * @param audit one row for each kid that it is given
   * @returns the kids of those that were there
   */
  withdrawSigningKeys(kids: string[], end: End, audit?: Audit<string[]>): Promise<string[]>

  // Failed logins

  /** @returns what is counted under each key for its tag, in the order of the keys */
  findFailures(keys: FailureKey[]): Promise<(Failures | undefined)[]>
  /**
   * Counts one failure under each key. A row of another tag is taken over and begins at one, unless it is held.
   *
   * @param keys none of them twice
   * @param held see {@link isHeld}; no row is, when not given
   * @returns the counts after it, in the order of the keys; undefined where the row is held for another tag
   */
  recordFailure(keys: FailureKey[], now: number, held?: Held): Promise<(Failures | undefined)[]>
  /** Sets the last failure to `now` where it lies ahead of it. The count stays. */
  capFailures(keys: FailureKey[], now: number): Promise<void>
  clearFailures(keys: FailureKey[]): Promise<void>

  // Short-lived records. What takes one and acts on it takes it inside its own step, as `createSession` does.

  /**
   * Adds a record.
   * @returns false when its owner or its source has as many live records of the kind as it may, or the id is taken
   */
  issueRecord(record: ShortRecord, bounds: RecordBounds): Promise<boolean>
  /** @returns the record, also one that is spent and kept; undefined when it is unknown, expired or of another kind */
  findRecord(key: RecordKey): Promise<ShortRecord | undefined>
  /**
   * Takes a record, which has exactly one winner among any number of requests.
   * @returns the record as it was; undefined when it is unknown, spent, expired or of another kind
   */
  takeRecord(taking: RecordTaking): Promise<ShortRecord | undefined>
  /**
   * Counts a wrong guess; at `most` the record is gone.
   * @returns the misses, this one too; undefined when there is no live record
   */
  missRecord(key: RecordKey, most: number): Promise<number | undefined>
  /** Replaces the data of a live record. @returns false when its version is no longer `expectedVersion` */
  replaceRecord(key: RecordKey, expectedVersion: number, data: string): Promise<boolean>
  /** Removes the records of an owner that are not spent. @returns how many there were */
  endRecords(owner: string, kinds: string[]): Promise<number>
  removeRecord(id: string): Promise<void>

  // Audit rows: what happened, for AUTH_AUDIT_RETENTION. Most are written by the methods that they tell of.

  /** Adds rows of what has changed nothing in the store. */
  addAudit(rows: AuditRow[]): Promise<void>
  /**
   * The rows that have a place behind a cursor, oldest first: at least once each, those of a user in order, and none is
   * left out that commits late. Rows that were moved here have no place: followers have had them from another store.
   * @param cursor of the page before; undefined for all
   * @param limit most rows of the page
   */
  auditSince(cursor: string | undefined, limit: number): Promise<AuditPage>
  /** @returns the cursor of now: behind it is what is written from now on */
  auditEnd(): Promise<string>
  /**
   * Rows that the filter lets pass, newest first. A page may be short of what no index helps to find, such as rows of
   * one event, and has a `next` all the same.
   * @param page `after` is the `next` of the page before
   */
  listAudit(filter: AuditFilter, page: { after?: string; limit: number }): Promise<{ rows: AuditRow[]; next?: string }>
  /**
   * Takes the address and user agent out of the rows about users who were deleted, and of what they did as
   * administrators, some rows a call.
   * @param step `settledBefore`: of a deletion before that no request is under way any more, and it need not be looked
   *   at again
   * @returns where the next call goes on; undefined when all is done
   */
  eraseAudit(step: { settledBefore: number; limit: number; cursor?: string }): Promise<string | undefined>
  removeAudit(id: string): Promise<void>

  // Housekeeping

  /**
   * Removes expired rows, a small batch a call. Times that lie in the future are set to now: a clock that was ahead
   * must not prolong a life.
   * @returns how many rows of which table went, and where the next call goes on (undefined: a round is complete)
   */
  sweep(sweep: SweepStep): Promise<{ table: SweptTable; removed: number; cursor?: string }>
  /**
   * Makes what an index lacks that this release has added, a small step a call. Optional for a store.
   * @returns how much of it is there, of 1, and where the next call goes on (undefined: nothing is lacking)
   */
  completeIndexes?(step: { cursor?: string; limit: number }): Promise<{ share: number; cursor?: string }>
  /** What the engine says of itself, from memory. @returns undefined once the store is closed */
  usage(): Usage[keyof Usage] | undefined

  // Moving and checking a store: for commands, never for a busy route. Revocations move by `revocationsSince` and
  // `revoke`.

  /**
   * The rows of a table, page by page, by key. Changes made meanwhile may be in it or not.
   * @param page `after` is the `next` of the page before
   */
  exportRows<T extends TableName>(
    table: T,
    page: { after?: string; limit: number },
  ): Promise<{ rows: Tables[T][]; next?: string }>
  /** @param keys `keyOf` of `rows.ts` @returns the rows, in the order of the keys */
  findRows<T extends TableName>(table: T, keys: string[]): Promise<(Tables[T] | undefined)[]>
  /**
   * Inserts or replaces rows by key. Of a call that fails some may be written; it can be repeated. Skipped: a row where the stored one is ahead (`isAhead`
   * of `rows.ts`), and a user whose name, address or external id another user has.
   * @returns how many were written
   */
  importRows<T extends TableName>(table: T, rows: Tables[T][]): Promise<number>
  /** Reads of one moment, whatever is written meanwhile. To be short: what is replaced is kept until it ends. */
  snapshot<T>(work: (rows: StoreSnapshot) => Promise<T>): Promise<T>
  /** Finds unreadable rows and indexes that do not fit their tables. May run beside the service. */
  check(): AsyncIterable<Finding>
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

/** The tables whose rows expire, in the order in which they are swept. */
export const sweptTables = ['sessions', 'failures', 'revocations', 'records', 'audit'] as const
export type SweptTable = (typeof sweptTables)[number]

/** What an engine says of itself, for the metrics. */
export interface Usage {
  /** the file is what is used and what is free in it; the map is what of it can be reached before it is mapped anew */
  lmdb: { mapBytes: number; usedBytes: number; freeBytes: number; diskFreeBytes: number }
  /** connections, and calls that wait for one */
  pg: { open: number; idle: number; most: number; waiting: number }
}

/**
 * The writes that somebody has to be told of: each takes an `audit`, as its last argument, but for an import, which is
 * told of once for all of its batches.
 */
export type ToldWrite =
  | 'createUser'
  | 'changePassword'
  | 'deleteUser'
  | 'disableUser'
  | 'enableUser'
  | 'setRoles'
  | 'importUsers'
  | 'createClient'
  | 'replaceClient'
  | 'deleteClient'
  | 'createSession'
  | 'rotateSession'
  | 'endSession'
  | 'endUserSessions'
  | 'addSigningKey'
  | 'removeSigningKey'
  | 'withdrawSigningKeys'
  | 'revoke'

export interface AuditPage {
  rows: AuditRow[]
  /** where the next page begins */
  cursor: string
  /** whether it holds anything already */
  more: boolean
}

/** What can be read of a moment. */
export type StoreSnapshot = Pick<Store, 'exportRows' | 'findRows' | 'revocationsSince'>

/** What a restore fills. */
export type RestoreTarget = Pick<Store, 'importRows' | 'revoke'>

export interface RestoreOptions {
  /** whether the backup takes the place of rows that are there */
  replace: boolean
}

/** A store is not to be filled, and was left as it is. The message says why, in the words of a sentence about it. */
export class RestoreRefused extends Error {}

/** What a check found. */
export interface Finding {
  /** an `error` is to be mended; a `note` is nothing wrong */
  level: 'error' | 'note'
  table: string
  /** of the row or the index entry; undefined for what concerns the table */
  key?: string
  /** the same words for the same kind of finding */
  what: string
}

/** A row that cannot be decoded: no page with it can be read. */
export const unreadableRow = 'the row cannot be read'

/** A newer release has changed the store in a way that this one cannot work with; nothing was written to it. */
export class StoreTooNew extends Error {
  constructor(found: number, known: number) {
    super(
      `it was written by a newer Latchkey (format ${found}, this one knows ${known}): ` +
        'start that release again, or put back a backup from before the upgrade',
    )
  }
}

/** The database did not answer, or not in time. The caller answers 503. */
export class StoreUnavailable extends Error {
  readonly statusCode = 503
  /** for the log and the operator */
  readonly reason: string
  constructor(cause: unknown, reason = 'the store did not answer') {
    super('The store is unavailable', { cause })
    this.reason = reason
  }
}

export interface PasswordChange {
  userId: string
  expectedHash: string
  passwordHash: string
  keepSessionId?: string
}

export interface RevocationPage {
  revocations: Revocation[]
  /** where the next page begins */
  cursor: string
  /** whether it holds anything already */
  more: boolean
}

/** Read, serialised and sent in a few milliseconds. */
export const revocationsPerPage = 2_000

/** All that was revoked since a cursor, a page at a time. */
export async function* revocationPages(
  store: Pick<Store, 'revocationsSince'>,
  cursor?: string,
): AsyncGenerator<Revocation[]> {
  let page: RevocationPage
  do {
    page = await store.revocationsSince(cursor)
    yield page.revocations
    cursor = page.cursor
  } while (page.more)
}

/** What is deleted is judged by `now`, which should be no later than time has passed (`createSteadyClock`). */
export interface SweepStep extends SessionLimits {
  /** of the clock as it is: times beyond it lie in the future; `now` when not given */
  clockNow?: number
  /** of a rotation, which must not begin anew when its time is put right */
  graceMs?: number
  /** counters with no failure since are forgotten */
  failuresBefore: number
  /** revocations that end by then are forgotten; `now` when not given */
  revocationsBefore?: number
  /** audit rows from before that are forgotten; none when not given */
  auditBefore?: number
  cursor?: string
  /** most rows looked at */
  limit: number
}

/** What times in the future are set to by a sweep. */
export const clockOf = ({ now, clockNow = now }: SweepStep): number => clockNow

/** The same for that of a rotation. */
export const beforeGrace = (step: SweepStep): number => clockOf(step) - (step.graceMs ?? 0) - 1
