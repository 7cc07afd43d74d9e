import type { ImportedRow, ImportedUser } from './imported-user.ts'
import { type Row, RowRefused } from './rows.ts'

/** An object of a row, whose members are not checked yet. */
export type Members = Readonly<Record<string, unknown>>

/** Longer ones are not told of. */
const longestId = 256

/** @throws {RowRefused} for anything but an object */
export function toMembers(value: unknown, what = 'the row'): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new RowRefused(`${what} is no object`)
  return value as Members
}

/**
 * Understands rows one by one.
 *
 * @param toUser @throws {RowRefused} @returns nothing for a row that is of no user
 * @param idName of the member that tells whose row it is that is not taken
 */
export async function* toUsers(
  rows: AsyncIterable<Row>,
  toUser: (members: Members) => ImportedUser | undefined,
  idName: string,
): AsyncGenerator<ImportedRow> {
  for await (const row of rows) {
    if ('reason' in row) {
      yield row
      continue
    }
    try {
      const user = toUser(toMembers(row.value))
      if (user) yield { line: row.line, user }
    } catch (error) {
      if (!(error instanceof RowRefused)) throw error
      const id = Object(row.value)[idName]
      const isId = (typeof id === 'string' && id.length < longestId) || typeof id === 'number'
      yield { line: row.line, reason: error.message, ...(isId && { externalId: String(id) }) }
    }
  }
}

/** An object within a row. @throws {RowRefused} for anything but an object, and null */
export function objectOf(members: Members, name: string): Members | undefined {
  const value = memberOf(members, name)
  return value === undefined ? undefined : toMembers(value, name)
}

/** A list of objects. @throws {RowRefused} for anything else but null */
export function objectsOf(members: Members, name: string): Members[] {
  const value = memberOf(members, name) ?? []
  if (!Array.isArray(value)) throw new RowRefused(`${name} is no list`)
  return value.map((item) => toMembers(item, name))
}

/**
 * The text of a member. An empty one is as none: CSV has no other way to say so.
 *
 * @throws {RowRefused} for what is no text
 */
export function textOf(members: Members, name: string): string | undefined {
  const value = memberOf(members, name)
  if (value === undefined || value === '') return undefined
  if (typeof value !== 'string') throw new RowRefused(`${name} is no text`)
  if (!value.isWellFormed()) throw new RowRefused(`${name} has half a surrogate pair`)
  return value
}

/** An id, which some systems count. @throws {RowRefused} for what is no text and no whole number */
export function anyIdOf(members: Members, name: string): string | undefined {
  const value = memberOf(members, name)
  return Number.isSafeInteger(value) ? String(value) : textOf(members, name)
}

/** An id that has to be there. @throws {RowRefused} */
export function idOf(members: Members, name: string): string {
  const id = anyIdOf(members, name)
  if (id === undefined) throw new RowRefused(`${name} is missing`)
  return id
}

const booleans = new Map<unknown, boolean>([
  ...[true, 1, '1', 't', 'true'].map((value) => [value, true] as const),
  ...[false, 0, '0', 'f', 'false'].map((value) => [value, false] as const),
])

/** @throws {RowRefused} for what is neither yes nor no, in JSON or as databases write it */
export function booleanOf(members: Members, name: string): boolean | undefined {
  const value = memberOf(members, name)
  if (value === undefined || value === '') return undefined
  const boolean = booleans.get(typeof value === 'string' ? value.toLowerCase() : value)
  if (boolean === undefined) throw new RowRefused(`${name} is neither true nor false`)
  return boolean
}

/** @throws {RowRefused} for what is no list of texts */
export function textsOf(members: Members, name: string): string[] | undefined {
  const value = memberOf(members, name)
  if (value === undefined) return undefined
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string' && item.isWellFormed()))
    throw new RowRefused(`${name} is no list of texts`)
  return value
}

/** 2026-11-26T09:30:00.123Z, and as databases write it: 2026-11-26 09:30:00.123456+00 */
const dateTime =
  /^(?<date>\d{4}-\d\d-\d\d)[T ](?<time>\d\d:\d\d:\d\d(?:\.\d{1,9})?) ?(?:Z|UTC|(?<hours>[+-]\d\d):?(?<minutes>\d\d)?)?$/

/** What counts seconds is smaller until the year 5138, and what counts milliseconds larger since 1973. */
const leastMs = 100_000_000_000

/**
 * A time: as text, which is UTC where it names no zone, or as a number of seconds or milliseconds.
 *
 * @returns milliseconds since the epoch
 * @throws {RowRefused} for what is no time
 */
export function timeOf(members: Members, name: string): number | undefined {
  const value = memberOf(members, name)
  if (value === undefined || value === '') return undefined
  const at = typeof value === 'string' ? parseTime(value) : typeof value === 'number' ? ofNumber(value) : -1
  if (!(at >= 0 && at <= 8.64e15)) throw new RowRefused(`${name} is no time`)
  return Math.floor(at)
}

const ofNumber = (number: number) => (number < leastMs ? number * 1000 : number)

function parseTime(text: string): number {
  if (/^\d{1,16}(?:\.\d{1,9})?$/.test(text)) return ofNumber(Number(text))
  const { date, time, hours = '+00', minutes = '00' } = dateTime.exec(text)?.groups ?? {}
  return Date.parse(`${date}T${time}${hours}:${minutes}`)
}

/** The first of some names that there is a member of: databases and programs spell them differently. */
export const nameOf = (members: Members, ...names: [string, ...string[]]): string =>
  names.find((name) => Object.hasOwn(members, name)) ?? names[0]

/** What an object has itself; null is as nothing. */
function memberOf(members: Members, name: string): unknown {
  return Object.hasOwn(members, name) ? (members[name] ?? undefined) : undefined
}
