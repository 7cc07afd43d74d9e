import { parseStrictJson } from '../../domain/strict-json.ts'

/** A row of a file before it is understood, at the line where it begins. */
export type Row = { line: number; value: unknown } | { line: number; reason: string }

/** The longest row that is read, in bytes: a user takes some hundred. */
export const longestRow = 1_048_576

export const tooLong = `longer than ${longestRow} bytes`

/** The bytes of a row that goes over pieces of a file. Of one that is too long, nothing is kept. */
export function createRowBytes() {
  let pieces: Uint8Array[] = []
  let length = 0
  const isTooLong = () => length > longestRow

  function add(bytes: Uint8Array): void {
    length += bytes.length
    if (isTooLong()) pieces = []
    else if (bytes.length > 0) pieces.push(bytes)
  }
  return {
    add,
    isEmpty: () => length === 0,

    /** Ends the row. @param last of its bytes @returns all of them; undefined where it is too long */
    take(last: Uint8Array): Uint8Array | undefined {
      add(last)
      const bytes = isTooLong() ? undefined : pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces)
      pieces = []
      length = 0
      return bytes
    },
  }
}

/**
 * Parses a row that is JSON. The parser's own message is not told: it quotes the row.
 *
 * @param bytes undefined where they are too many
 */
export function toRow(line: number, bytes: Uint8Array | undefined): Row {
  if (bytes === undefined) return { line, reason: tooLong }
  try {
    return { line, value: parseStrictJson(bytes) }
  } catch (error) {
    const { message } = error as Error
    return { line, reason: ['not UTF-8', 'a member is repeated'].includes(message) ? message : 'no JSON' }
  }
}

/** Why a row is not taken. */
export class RowRefused extends Error {}
