import type { AuditFilter, AuditRow } from '../../domain/audit.ts'

/**
 * What is asked of audit rows: what happened, for AUTH_AUDIT_RETENTION. Most are written by the methods that they tell
 * of.
 */
export interface AuditTable {
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
}

export interface AuditPage {
  rows: AuditRow[]
  /** where the next page begins */
  cursor: string
  /** whether it holds anything already */
  more: boolean
}
