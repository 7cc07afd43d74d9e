import type { TableName, Tables } from '../rows.ts'
import type { RevocationTable } from '../tables/revocations.ts'

/**
 * Moving and checking a store: for commands, never for a busy route. Revocations move by `revocationsSince` and
 * `revoke`.
 */
export interface Moving {
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
   * of `rows.ts`), and a user whose name, address or external id another user has. Whether a user who is there has
   * factors is not taken from a row of users: it follows that of the factors, as if both were one row.
   * @returns how many were written
   */
  importRows<T extends TableName>(table: T, rows: Tables[T][]): Promise<number>
  /** Reads of one moment, whatever is written meanwhile. To be short: what is replaced is kept until it ends. */
  snapshot<T>(work: (rows: StoreSnapshot) => Promise<T>): Promise<T>
  /** Finds unreadable rows and indexes that do not fit their tables. May run beside the service. */
  check(): AsyncIterable<Finding>
}

/** What can be read of a moment. */
export type StoreSnapshot = Pick<Moving, 'exportRows' | 'findRows'> & Pick<RevocationTable, 'revocationsSince'>

/** What a restore fills. */
export type RestoreTarget = Pick<Moving, 'importRows'> & Pick<RevocationTable, 'revoke'>

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
