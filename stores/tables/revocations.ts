import type { Audit } from '../../domain/audit.ts'
import type { Revocation } from '../../domain/revocation.ts'

/** What is asked of the revocations of access tokens, kept until the last token they concern has expired. */
export interface RevocationTable {
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
  store: Pick<RevocationTable, 'revocationsSince'>,
  cursor?: string,
): AsyncGenerator<Revocation[]> {
  let page: RevocationPage
  do {
    page = await store.revocationsSince(cursor)
    yield page.revocations
    cursor = page.cursor
  } while (page.more)
}
