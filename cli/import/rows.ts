import type { ImportedRow, ImportedUser } from './imported-user.ts'

/** The longest row that is read: a user takes some hundred bytes. */
export const longestRow = 1_048_576

/** A row of a file before it is understood, at the line where it begins. */
export type Row = { line: number; value: unknown } | { line: number; reason: string }

/** Why a row is not taken. */
export class RowRefused extends Error {}

/** Understands rows one by one. @param toUser @throws {RowRefused} */
export async function* toUsers(
  rows: AsyncIterable<Row>,
  toUser: (value: unknown) => ImportedUser | undefined,
): AsyncGenerator<ImportedRow> {
  for await (const row of rows) {
    if ('reason' in row) {
      yield row
      continue
    }
    try {
      const user = toUser(row.value)
      if (user) yield { line: row.line, user }
    } catch (error) {
      if (!(error instanceof RowRefused)) throw error
      yield { line: row.line, reason: error.message }
    }
  }
}
