import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream'
import { constants, createGunzip } from 'node:zlib'
import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { revocationColumns, type TableName, tableNames, tables } from '../rows.ts'
import { revocationPages } from '../tables/revocations.ts'
import { checkerOf, checkOwners, type Owned } from './check.ts'
import { pagesOf } from './copy.ts'
import type { StoreSnapshot } from './moving.ts'

/*
 * A backup is one file, which goes back into either store: lines of JSON, compressed by gzip.
 *
 *     {"latchkey":"backup","format":2,"release":"0.3.0","store":"pg","created_at":"2026-11-25T02:00:00.000Z"}
 *     ["users",{"id":"…","username":"ada",…}]
 *     …
 *     {"end":{"rows":{"users":1,…},"sha256":"…"}}
 *
 * The rows are those of `rows.ts`, bytes as base64, table by table. The SHA-256 is that of all lines before the last.
 */

/** Rises when a release before could not restore all of it: a table or a member that must not be lost. */
const format = 2

/** Not in a backup: a code, a link or a challenge that was used since must not be good again. */
type UnsavedTable = 'records'
const unsaved: readonly string[] = ['records'] satisfies UnsavedTable[]

export type SavedTable = Exclude<TableName, UnsavedTable> | 'revocations'
/** The tables of a backup, in the order in which they go back. */
export const savedTables: readonly SavedTable[] = [
  ...tableNames.filter((table): table is Exclude<TableName, UnsavedTable> => !unsaved.includes(table)),
  'revocations',
]
export type RowCounts = Record<SavedTable, number>

const Header = Type.Object({
  latchkey: Type.Literal('backup'),
  format: Type.Integer({ minimum: 1 }),
  release: Type.String(),
  store: Type.String(),
  created_at: Type.String(),
})
export type BackupHeader = Static<typeof Header>

const Trailer = Type.Object({
  end: Type.Object({ rows: Type.Record(Type.String(), Type.Integer()), sha256: Type.String() }),
})

/** What is in a backup. */
export interface BackupSummary {
  header: BackupHeader
  rows: RowCounts
  sha256: string
}

/** The store or the backup is not as it should be. The message says how, in the words of a sentence about it. */
export class BackupRefused extends Error {}

/** @returns how many rows of a table have been seen */
export type OnRows = (table: SavedTable, rows: number) => void

const noRows = (): RowCounts => Object.fromEntries(savedTables.map((table) => [table, 0])) as RowCounts

const columnsOf = (table: SavedTable) => (table === 'revocations' ? revocationColumns : tables[table].columns)
const shapes = Object.fromEntries(
  savedTables.map((table) => [
    table,
    {
      wrongIn: checkerOf(columnsOf(table)),
      bytes: Object.entries(columnsOf(table)).flatMap(([member, { kind }]) => (kind === 'bytes' ? [member] : [])),
    },
  ]),
) as Record<SavedTable, { wrongIn: ReturnType<typeof checkerOf>; bytes: string[] }>

/** A row with other values in its members of bytes, where it has any. */
function withBytes(table: SavedTable, row: object, turn: (value: never) => unknown): object {
  const { bytes } = shapes[table]
  if (bytes.length === 0) return row
  const turned: Record<string, unknown> = { ...row }
  for (const member of bytes) if (turned[member] !== undefined) turned[member] = turn(turned[member] as never)
  return turned
}
const toBase64 = (value: Uint8Array) => Buffer.from(value).toString('base64')
const fromBase64 = (text: string) => Buffer.from(text, 'base64')

/**
 * Writes the rows of a moment, and checks them: their shape, and that no session is ahead of its user.
 *
 * @param done is told what was written, behind the last of it
 * @returns the lines, to be compressed, some in each chunk
 * @throws {BackupRefused} for a row that no store would take back
 */
export async function* writeBackup(
  snapshot: StoreSnapshot,
  about: Omit<BackupHeader, 'latchkey' | 'format'>,
  { onRows, done }: { onRows: OnRows; done: (summary: BackupSummary) => void },
): AsyncGenerator<Buffer> {
  const header: BackupHeader = { latchkey: 'backup', format, ...about }
  const hash = createHash('sha256')
  const rows = noRows()
  const chunk = (lines: string) => {
    const bytes = Buffer.from(lines)
    hash.update(bytes)
    return bytes
  }
  yield chunk(`${JSON.stringify(header)}\n`)
  for (const table of savedTables) {
    for await (const page of table === 'revocations' ? revocationPages(snapshot) : pagesOf(snapshot, table)) {
      let lines = ''
      for (const row of page) {
        const wrong = shapes[table].wrongIn(row)
        if (wrong !== undefined)
          throw new BackupRefused(`a row of ${table} is damaged: ${wrong} is not as it should be`)
        lines += `${JSON.stringify([table, withBytes(table, row, toBase64)])}\n`
      }
      if (table === 'sessions' || table === 'browserSessions') {
        for await (const { level, key, what } of checkOwners(snapshot, table, page as Owned[]))
          if (level === 'error') throw new BackupRefused(`the session ${key} is damaged: ${what}`)
      }
      rows[table] += page.length
      onRows(table, rows[table])
      if (lines !== '') yield chunk(lines)
    }
  }
  const sha256 = hash.digest('hex')
  yield Buffer.from(`${JSON.stringify({ end: { rows, sha256 } })}\n`)
  done({ header, rows, sha256 })
}

const newline = 0x0a
/** Of a line that a store could have written. */
const longestLine = 4 * 2 ** 20
const gunzipChunk = 256 * 1024
const rowsPerPage = 1000

/** The lines of a stream, each with its end, some at a time. */
async function* linesOf(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer[]> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of source) {
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
    const lines: Buffer[] = []
    let from = 0
    for (let at = bytes.indexOf(newline); at !== -1; at = bytes.indexOf(newline, from)) {
      lines.push(bytes.subarray(from, at + 1))
      from = at + 1
    }
    rest = bytes.subarray(from)
    if (rest.length > longestLine) throw new BackupRefused('it is no backup of Latchkey')
    yield lines
  }
  if (rest.length > 0) throw new BackupRefused('it is cut short')
}

/**
 * Reads a backup to its end and checks all of it. What was read is good only when this has resolved.
 *
 * @param take gets the rows of a table, some at a time, and is waited for
 * @throws {BackupRefused} for what is no backup, is damaged or cut short, or is a later release's
 */
export async function readBackup(
  source: Readable,
  take: (table: SavedTable, rows: never[]) => Promise<unknown> | unknown = () => {},
  onHeader: (header: BackupHeader) => void = () => {},
): Promise<BackupSummary> {
  const hash = createHash('sha256')
  const rows = noRows()
  let header: BackupHeader | undefined
  let summary: BackupSummary | undefined
  let table = savedTables[0] as SavedTable
  let page: object[] = []
  const flush = async () => {
    if (page.length > 0) await take(table, page as never[])
    page = []
  }

  // Its errors come out of the iteration.
  const gunzip = pipeline(source, createGunzip({ chunkSize: gunzipChunk }), () => {})
  try {
    for await (const lines of linesOf(gunzip)) {
      for (const line of lines) {
        const value = parse(line, header !== undefined)
        if (!header) {
          header = readHeader(value)
          onHeader(header)
        } else if (summary) throw new BackupRefused('it is damaged: it goes on behind its end')
        else if (Array.isArray(value)) {
          const [of, row] = readRow(value)
          if (of !== table || page.length === rowsPerPage) await flush()
          table = of
          page.push(row)
          rows[of] += 1
        } else {
          await flush()
          summary = { header, rows, sha256: hash.digest('hex') }
          refuseOtherEnd(value, summary)
        }
        if (!summary) hash.update(line)
      }
    }
  } catch (error) {
    throw refusalOf(error)
  }
  if (!header) throw new BackupRefused('it is empty')
  if (!summary) throw new BackupRefused('it is cut short')
  return summary
}

function parse(line: Buffer, isInside: boolean): unknown {
  try {
    return JSON.parse(line.toString())
  } catch {
    // Never the parser's message: it quotes the row.
    throw new BackupRefused(isInside ? 'it is damaged: a line is no JSON' : 'it is no backup of Latchkey')
  }
}

function readHeader(value: unknown): BackupHeader {
  if (!Value.Check(Header, value)) throw new BackupRefused('it is no backup of Latchkey')
  if (value.format > format) {
    throw new BackupRefused(
      `it is of format ${value.format}, made by release ${value.release}; this release reads formats up to ${format}: ` +
        'restore it with that release, or a later one',
    )
  }
  return value
}

function readRow([table, given]: unknown[]): [SavedTable, object] {
  if (!savedTables.includes(table as SavedTable) || typeof given !== 'object' || given === null)
    throw new BackupRefused('it is damaged: a line is no row')
  const of = table as SavedTable
  const row = withBytes(of, given, fromBase64)
  const wrong = shapes[of].wrongIn(row)
  if (wrong !== undefined) throw new BackupRefused(`it is damaged: ${wrong} of a row of ${of} is not as it should be`)
  return [of, row]
}

function refuseOtherEnd(value: unknown, { rows, sha256 }: BackupSummary): void {
  if (!Value.Check(Trailer, value)) throw new BackupRefused('it is damaged: a line is no row')
  const isSame =
    value.end.sha256 === sha256 && savedTables.every((table) => rows[table] === (value.end.rows[table] ?? 0))
  if (!isSame) throw new BackupRefused('it is damaged: its checksum or its counts are not those of its rows')
}

/** What zlib has to say, in words. */
function refusalOf(error: unknown): unknown {
  const { code, errno } = error as { code?: string; errno?: number }
  if (errno === constants.Z_BUF_ERROR) return new BackupRefused('it is cut short')
  if (typeof code !== 'string' || !code.startsWith('Z_')) return error
  const isHeader = (error as Error).message === 'incorrect header check'
  return new BackupRefused(isHeader ? 'it is no backup of Latchkey' : 'it is damaged: gzip cannot read it')
}
