import type { Moving } from './moving/moving.ts'
import type { Sweeping } from './sweeping.ts'
import type { AuditTable } from './tables/audit.ts'
import type { BrowserSessionTable } from './tables/browser-sessions.ts'
import type { ClientTable } from './tables/clients.ts'
import type { ConsentTable } from './tables/consents.ts'
import type { FactorTable } from './tables/factors.ts'
import type { FailureTable } from './tables/failures.ts'
import type { RecordTable } from './tables/records.ts'
import type { RevocationTable } from './tables/revocations.ts'
import type { SessionTable } from './tables/sessions.ts'
import type { SigningKeyTable } from './tables/signing-keys.ts'
import type { UserTable } from './tables/users.ts'

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
export interface Store
  extends UserTable,
    ClientTable,
    SessionTable,
    FactorTable,
    BrowserSessionTable,
    ConsentTable,
    RevocationTable,
    SigningKeyTable,
    FailureTable,
    RecordTable,
    AuditTable,
    Sweeping,
    Moving {
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
  /** What the engine says of itself, from memory. @returns undefined once the store is closed */
  usage(): Usage[keyof Usage] | undefined
}

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
  | 'changeUser'
  | 'changeFactors'
  | 'importUsers'
  | 'createClient'
  | 'replaceClient'
  | 'deleteClient'
  | 'createSession'
  | 'rotateSession'
  | 'raiseSession'
  | 'endSession'
  | 'createBrowserSession'
  | 'renewBrowserSession'
  | 'endBrowserSession'
  | 'changeConsents'
  | 'endUserSessions'
  | 'addSigningKey'
  | 'removeSigningKey'
  | 'withdrawSigningKeys'
  | 'revoke'

/** A newer release has changed the store in a way that this one cannot work with; nothing was written to it. */
export class StoreTooNew extends Error {
  constructor(found: number, known: number) {
    super(
      `it was written by a newer Latchkey (format ${found}, this one knows ${known}): ` +
        'start that release again, or put back a backup from before the upgrade',
    )
  }
}

/** An earlier release has written the store. Only a start of the service brings it up to date; nothing was changed. */
export class StoreTooOld extends Error {
  constructor() {
    super('an earlier release has written it: start the service on it once, which brings it up to date')
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
