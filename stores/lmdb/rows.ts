import type { Database, GetOptions, RangeOptions, RootDatabase, RootDatabaseOptions } from 'lmdb'
import type { Column, Kind, Table } from '../rows.ts'
import { keysOf } from './keys.ts'
import { endOfId, readId, writeId } from './uuids.ts'

/*
 * Rows by position: which members there are, a bit each, then their values in the order of the columns in `../rows.ts`.
 * A member that a later release adds comes last there; rows without it are read as before. One that this release does
 * not know makes a row unreadable, so that nothing is lost: a release that adds one raises the format of the store.
 *
 *     session: 0b111_1111_1111 │ user, 16 bytes │ 11 first-party │ 0 scopes │ generation │ counter │ …
 */

/** Numbers: below this in one byte; else a byte that says how they are stored. */
const [inTwoBytes, inFourBytes, inSixBytes, asDouble] = [0xf0, 0xf1, 0xf2, 0xff]

/** What is being written; copied when it is whole. */
let target = Buffer.alloc(4096)
/** Where the next value is written, or read from. */
let at = 0

function need(bytes: number): void {
  if (at + bytes > target.length) target = Buffer.concat([target], 2 * (target.length + bytes))
}

function writeNumber(value: number): void {
  need(9)
  if (Number.isInteger(value) && value >= 0 && value < 2 ** 48) {
    if (value < inTwoBytes) target[at++] = value
    else if (value < 2 ** 16) {
      target[at] = inTwoBytes
      at = target.writeUInt16LE(value, at + 1)
    } else if (value < 2 ** 32) {
      target[at] = inFourBytes
      at = target.writeUInt32LE(value, at + 1)
    } else {
      target[at] = inSixBytes
      at = target.writeUIntLE(value, at + 1, 6)
    }
  } else {
    target[at] = asDouble
    at = target.writeDoubleLE(value, at + 1)
  }
}

function readNumber(source: Buffer): number {
  const first = source[at++] as number
  const begin = at
  if (first < inTwoBytes) return first
  if (first === inTwoBytes) {
    at += 2
    return source.readUInt16LE(begin)
  }
  if (first === inFourBytes) {
    at += 4
    return source.readUInt32LE(begin)
  }
  at += first === inSixBytes ? 6 : 8
  return first === inSixBytes ? source.readUIntLE(begin, 6) : source.readDoubleLE(begin)
}

const longestOfOneByte = Math.floor((inTwoBytes - 1) / 3)

function writeText(text: string): void {
  need(3 * text.length + 9)
  if (text.length <= longestOfOneByte) {
    const bytes = target.write(text, at + 1)
    target[at] = bytes
    at += 1 + bytes
  } else {
    writeNumber(Buffer.byteLength(text))
    at += target.write(text, at)
  }
}

function readText(source: Buffer): string {
  const length = readNumber(source)
  const begin = at
  at += length
  return source.toString('utf8', begin, at)
}

/** How a value of each kind is written and read. */
interface Values<Written = never, Read = unknown> {
  write(value: Written): void
  read(source: Buffer): Read
}

const ids: Values<string> = {
  write(id) {
    need(3 * id.length + 17)
    at = writeId(id, target, at)
  },
  read(source) {
    const begin = at
    at = endOfId(source, at)
    return readId(source, begin)
  },
}
const texts: Values<string[]> = {
  write(values) {
    writeNumber(values.length)
    for (const value of values) writeText(value)
  },
  read(source) {
    const length = readNumber(source)
    if (length > source.length) throw new RangeError('more texts than bytes')
    const values: string[] = []
    for (let i = 0; i < length; i++) values.push(readText(source))
    return values
  },
}
const kinds: Partial<Record<Kind, Values>> = {
  uuid: ids,
  text: { write: writeText, read: readText },
  texts,
  number: { write: writeNumber, read: readNumber },
  boolean: { write: (value: boolean) => writeNumber(Number(value)), read: (source) => readNumber(source) === 1 },
}

function begin(present: number): void {
  at = 0
  writeNumber(present)
}
function end(): Buffer {
  const bytes = Buffer.allocUnsafe(at)
  target.copy(bytes, 0, 0, at)
  return bytes
}

/** @param known bits of the members that there are @returns which of them a row has */
function open(source: Buffer, known: number): number {
  at = 0
  const present = readNumber(source)
  if ((present | known) !== known) throw new RangeError('a row with members that this release does not know')
  return present
}
function close(source: Buffer): void {
  if (at !== source.length) throw new RangeError('a row that is longer or shorter than it says')
}

/** Functions that the code of a format calls. */
const calls = { begin, end, open, close, ...kinds }

export interface RowFormat<Row> {
  encode(row: Row): Buffer
  /** @returns the row without its key @throws where the bytes are no row of this table */
  decode(bytes: Uint8Array): Row
}

/**
 * How the rows of a table are stored, without their key. Its functions are compiled from the columns, as those of a
 * schema are: a loop over the names of members takes four times as long.
 *
 * @param sameAs a member that is left out where it is the same as another
 */
export function rowFormat<Row>({ key, columns }: Table<Row>, sameAs: Partial<Record<keyof Row, keyof Row>> = {}) {
  const members = Object.entries(columns as Record<string, Column>).filter(([name]) => name !== key)
  const parts = members.map(([name, column], place) => {
    const [twin, value] = [sameAs[name as keyof Row], `v${place}`]
    const isAlways = !('isOptional' in column) && twin === undefined
    return { name, kind: column.kind, bit: 1 << place, value, twin, isAlways, isOptional: 'isOptional' in column }
  })
  const bitsOf = (some: typeof parts) => some.reduce((bits, { bit }) => bits | bit, 0)
  const [optional, always] = [parts.filter(({ isAlways }) => !isAlways), parts.filter(({ isAlways }) => isAlways)]
  const required = parts.filter(({ isOptional }) => !isOptional)

  const encode = `(row) => {
    let present = ${bitsOf(always)}
    ${parts.map(({ name, value }) => `const ${value} = row.${name}`).join('\n')}
    ${optional
      .map(({ value, bit, twin }) => {
        const differs = twin === undefined ? '' : ` && ${value} !== row.${String(twin)}`
        return `if (${value} !== undefined${differs}) present |= ${bit}`
      })
      .join('\n')}
    begin(present)
    ${parts.map(({ kind, value, bit }) => `if (present & ${bit}) ${kind}.write(${value})`).join('\n')}
    return end()
  }`
  const decode = `(bytes) => {
    const present = open(bytes, ${bitsOf(parts)})
    ${parts.map(({ kind, value, bit }) => `const ${value} = present & ${bit} ? ${kind}.read(bytes) : undefined`).join('\n')}
    close(bytes)
    const row = { ${key}: '', ${required.map(({ name, value }) => `${name}: ${value}`)} }
    ${optional
      .map(({ name, value, twin }) =>
        twin === undefined
          ? `if (${value} !== undefined) row.${name} = ${value}`
          : `if (${value} === undefined) row.${name} = row.${String(twin)}`,
      )
      .join('\n')}
    return row
  }`
  const compile = new Function(...Object.keys(calls), `return { encode: ${encode}, decode: ${decode} }`)
  const { encode: encodeRow, decode: decodeBuffer } = compile(...Object.values(calls)) as RowFormat<Row>
  return {
    encode: encodeRow,
    decode: (bytes) =>
      decodeBuffer(bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)),
  } satisfies RowFormat<Row>
}

/** A table whose rows have a UUID as their key, by which alone they say it. */
export class RowTable<Row extends { id: string }> {
  readonly #rows: Database<Row, string>

  constructor(root: RootDatabase, name: string, encoder: RowFormat<Row>) {
    const options: RootDatabaseOptions = { name, encoder, keyEncoder: keysOf('id') }
    this.#rows = root.openDB<Row, string>(name, options)
  }

  get(id: string, options?: GetOptions): Row | undefined {
    const row = this.#rows.get(id, options)
    if (row !== undefined) row.id = id
    return row
  }
  doesExist(id: string): boolean {
    return this.#rows.doesExist(id)
  }
  getKeys(options: RangeOptions): Iterable<string> {
    return this.#rows.getKeys(options)
  }
  getRange(options: RangeOptions): Iterable<{ key: string; value: Row }> {
    return this.#rows.getRange(options).map(({ key, value }) => {
      value.id = key
      return { key, value }
    })
  }
  put(id: string, row: Row): void {
    this.#rows.put(id, row)
  }
  remove(id: string): void {
    this.#rows.remove(id)
  }
  getStats(): object {
    return this.#rows.getStats()
  }
}
