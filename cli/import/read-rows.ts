import { readCsv } from './csv.ts'
import { type Bytes, ImportRefused } from './imported-user.ts'
import { readJsonArray } from './json-array.ts'
import { readJsonLines } from './json-lines.ts'
import { longestRow, type Row } from './rows.ts'

/** What a source may come as, an array of JSON aside. */
interface Forms {
  /** an object with the rows in this member; without it, objects are JSON Lines */
  member?: string
  hasCsv?: true
}

/** What is no text is told by its first bytes. */
const others: [bytes: number[], what: string][] = [
  [[0xff, 0xfe], 'UTF-16: save it as UTF-8'],
  [[0xfe, 0xff], 'UTF-16: save it as UTF-8'],
  [[0x1f, 0x8b], 'compressed: gunzip it, and read it by "-" from a pipe'],
  [[0x50, 0x4b, 3, 4], 'a zip archive or a spreadsheet: unpack it, or save it as CSV'],
  [[0x53, 0x51, 0x4c, 0x69, 0x74, 0x65], 'a database of SQLite: export the table as CSV'],
  [[0x50, 0x47, 0x44, 0x4d, 0x50], 'a dump of PostgreSQL: export the table as CSV'],
]
const byteOrderMark = [0xef, 0xbb, 0xbf]
const longestMagic = 6

/** Reads the rows of a file in the form that its first bytes show. @throws {ImportRefused} */
export async function* readRows(file: Bytes, { member, hasCsv }: Forms): AsyncGenerator<Row> {
  const { head, all } = await peek(file)
  const other = others.find(([bytes]) => startsWith(head, bytes))
  if (other) throw new ImportRefused(`The file is ${other[1]}`)
  const first = /\S/.exec(Buffer.from(head).toString('latin1'))?.[0]
  if (first === undefined) return
  if (first === '[') yield* readJsonArray(all)
  else if (first === '{') yield* member === undefined ? readJsonLines(all) : readJsonArray(all, member)
  else if (hasCsv) yield* readCsv(all)
  else throw new ImportRefused('The file is no JSON')
}

const isBlank = (bytes: Uint8Array): boolean => !/\S/.test(Buffer.from(bytes).toString('latin1'))
const startsWith = (bytes: Uint8Array, start: number[]) => start.every((byte, at) => bytes[at] === byte)

/** Reads as much as tells the form. @returns that, without a byte order mark, and the file with it in front */
async function peek(file: Bytes): Promise<{ head: Uint8Array; all: Bytes }> {
  const pieces = file[Symbol.asyncIterator]()
  let head: Uint8Array = new Uint8Array()
  while (head.length < longestMagic || (isBlank(head) && head.length < longestRow)) {
    const { value, done } = await pieces.next()
    if (done) break
    head = Buffer.concat([head, value])
  }
  if (startsWith(head, byteOrderMark)) head = head.subarray(byteOrderMark.length)
  async function* all() {
    yield head
    yield* { [Symbol.asyncIterator]: () => pieces }
  }
  return { head, all: all() }
}
