import { RowRefused } from './rows.ts'

/** An object of a row, whose members are not checked yet. */
export type Members = Readonly<Record<string, unknown>>

/** @throws {RowRefused} for anything but an object */
export function toMembers(value: unknown, what = 'the row'): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new RowRefused(`${what} is no object`)
  return value as Members
}

/**
 * The text of a member. Empty is as missing: CSV has no other way to say so.
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

/** An id, which some systems count. @throws {RowRefused} for what is no text and no whole number, and for none */
export function idOf(members: Members, name: string): string {
  const value = memberOf(members, name)
  const id = Number.isSafeInteger(value) ? String(value) : textOf(members, name)
  if (id === undefined) throw new RowRefused(`${name} is missing`)
  return id
}

const booleans = new Map<unknown, boolean>([
  ...[true, 1, '1', 't', 'T', 'true', 'True', 'TRUE'].map((value) => [value, true] as const),
  ...[false, 0, '0', 'f', 'F', 'false', 'False', 'FALSE'].map((value) => [value, false] as const),
])

/** @throws {RowRefused} for what is neither yes nor no, in JSON or as databases write it */
export function booleanOf(members: Members, name: string): boolean | undefined {
  const value = memberOf(members, name)
  if (value === undefined || value === '') return undefined
  const boolean = booleans.get(value)
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

/** 2026-11-26 09:30:00.123456+00, with what databases leave out or write otherwise. */
const dateTime =
  /^(?<date>\d{4}-\d\d-\d\d)[T ](?<time>\d\d:\d\d:\d\d(?:\.\d{1,9})?) ?(?<zone>Z|UTC|[+-]\d\d(?::?\d\d)?)?$/

/**
 * A time as text; without a zone it is UTC, which databases keep.
 *
 * @returns milliseconds since the epoch
 * @throws {RowRefused} for what is no time
 */
export function timeOf(members: Members, name: string): number | undefined {
  const text = textOf(members, name)
  if (text === undefined) return undefined
  const { date, time = '', zone = 'Z' } = dateTime.exec(text)?.groups ?? {}
  const hours = /^([+-]\d\d):?(\d\d)?$/.exec(zone)
  const at = Date.parse(`${date}T${time}${hours ? `${hours[1]}:${hours[2] ?? '00'}` : 'Z'}`)
  if (Number.isNaN(at)) throw new RowRefused(`${name} is no time`)
  return at
}

/** A time as a number, or its text. @param unitMs how long one of its units is @throws {RowRefused} */
export function numberedTimeOf(members: Members, name: string, unitMs = 1): number | undefined {
  const value = memberOf(members, name)
  if (value === undefined || value === '') return undefined
  const at = typeof value === 'string' && /^\d{1,16}(\.\d{1,9})?$/.test(value) ? Number(value) : value
  if (typeof at !== 'number' || !(at >= 0 && at * unitMs <= 8.64e15)) throw new RowRefused(`${name} is no time`)
  return Math.floor(at * unitMs)
}

/** What an object has itself, null aside. */
function memberOf(members: Members, name: string): unknown {
  return Object.hasOwn(members, name) ? (members[name] ?? undefined) : undefined
}
