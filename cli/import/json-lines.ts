import type { Bytes } from './imported-user.ts'
import { parseJson } from './json.ts'
import { longestRow, type Row } from './rows.ts'

const newline = 10

/** Reads JSON Lines (NDJSON): one value a line, lines of white space aside. A broken line costs no other. */
export async function* readJsonLines(file: Bytes): AsyncGenerator<Row> {
  let line = 1
  for await (const bytes of linesOf(file)) {
    if (bytes === 'too long') yield { line, reason: `the line is longer than ${longestRow} bytes` }
    else if (!isBlank(bytes)) yield { line, ...parseJson(bytes) }
    line += 1
  }
}

/** Lines without their ends; of one that is too long, no more than the rest of a piece is kept. */
async function* linesOf(file: Bytes): AsyncGenerator<Uint8Array | 'too long'> {
  let rest: Uint8Array[] = []
  let length = 0
  const end = (last: Uint8Array) => {
    const line =
      length + last.length > longestRow ? 'too long' : rest.length > 0 ? Buffer.concat([...rest, last]) : last
    rest = []
    length = 0
    return line
  }
  for await (const piece of file) {
    let from = 0
    for (let at = piece.indexOf(newline); at !== -1; at = piece.indexOf(newline, from)) {
      yield end(piece.subarray(from, at))
      from = at + 1
    }
    const last = piece.subarray(from)
    length += last.length
    if (length > longestRow) rest = []
    else if (last.length > 0) rest.push(last)
  }
  if (length > 0) yield end(new Uint8Array())
}

/** Whether there are spaces, tabs and carriage returns alone. */
const isBlank = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 32 || byte === 9 || byte === 13)
