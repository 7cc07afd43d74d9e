import type { ImportRow } from '../../domain/user-import.ts'
import { createDoubles, createFingerprints, uniqueKeysOf } from './doubles.ts'
import type { ImportedRow, ImportedUser } from './imported-user.ts'
import { RowRefused } from './rows.ts'
import type { ReadyRow } from './to-row.ts'

/** Where a row is. */
export interface Place {
  /** where there are several files */
  file?: string
  line: number
}
export type PlacedRow = ImportedRow & Place

/** A row that was checked, or why it is not taken. */
export type CheckedRow = Place & ({ ready: ReadyRow } | { externalId: string | undefined; reason: string })

/** Checks rows as they are read. */
export async function* check(
  rows: AsyncIterable<PlacedRow>,
  toRow: (user: ImportedUser) => ReadyRow,
): AsyncGenerator<CheckedRow> {
  for await (const each of rows) {
    const place = { line: each.line, ...(each.file !== undefined && { file: each.file }) }
    if (!('user' in each)) {
      yield { ...place, externalId: each.externalId, reason: each.reason }
      continue
    }
    try {
      yield { ...place, ready: toRow(each.user) }
    } catch (error) {
      if (!(error instanceof RowRefused)) throw error
      yield { ...place, externalId: each.user.externalId, reason: error.message }
    }
  }
}

/** What is known of a file before the first of its rows is taken. */
export interface Survey {
  rows: number
  /** to be hashed here: passwords in clear, and hashes to be wrapped */
  hashes: number
  /** authenticator apps, whose secrets are to be sealed here */
  totps: number
  /** whether a user has a name, or a verified address, that another one of the file has as well */
  isDouble(row: ImportRow): boolean
}

/**
 * Reads a file for the first time, and once more where it has names twice: of two users with one name neither is taken,
 * so that has to be known before the first of them.
 *
 * @param read from the beginning
 */
export async function survey(
  read: () => AsyncIterable<CheckedRow>,
  onRows: (rows: number) => void = () => {},
): Promise<Survey> {
  const fingerprints = createFingerprints()
  let rows = 0
  let hashes = 0
  let totps = 0
  for await (const each of read()) {
    rows += 1
    onRows(rows)
    if (!('ready' in each)) continue
    for (const key of uniqueKeysOf(each.ready.row)) fingerprints.add(key)
    if (each.ready.password !== undefined || each.ready.isToBeWrapped) hashes += 1
    totps += each.ready.totps.length
  }
  const { size, mayRepeat } = fingerprints.end()
  const { add, doubles } = createDoubles(mayRepeat)
  if (size > 0) for await (const each of read()) if ('ready' in each) add(each.ready.row)
  return {
    rows,
    hashes,
    totps,
    isDouble: (row) => doubles.size > 0 && uniqueKeysOf(row).some((key) => doubles.has(key)),
  }
}
