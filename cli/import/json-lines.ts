import type { Bytes } from './imported-user.ts'
import { createRowBytes, type Row, toRow } from './rows.ts'

const newline = 10

/** Reads JSON Lines (NDJSON): a value a line, lines of white space aside. A broken line costs no other. */
export async function* readJsonLines(file: Bytes): AsyncGenerator<Row> {
  const rowBytes = createRowBytes()
  let line = 1
  function* end(last: Uint8Array): Generator<Row> {
    const bytes = rowBytes.take(last)
    if (!bytes?.every(isBlank)) yield toRow(line, bytes)
    line += 1
  }
  for await (const piece of file) {
    let from = 0
    for (let at = piece.indexOf(newline); at !== -1; at = piece.indexOf(newline, from)) {
      yield* end(piece.subarray(from, at))
      from = at + 1
    }
    rowBytes.add(piece.subarray(from))
  }
  if (!rowBytes.isEmpty()) yield* end(new Uint8Array())
}

/** Whether a byte is a space, a tab or a carriage return. */
const isBlank = (byte: number): boolean => byte === 32 || byte === 9 || byte === 13
