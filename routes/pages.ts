import { Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../errors.ts'

/*
 * Pages of a list. A cursor is a position in the order of the store, in base64url so that clients take it as opaque. It
 * is checked before the store sees it: a store is asked only for what could be a position.
 */

const maxLimit = 100
const utf8 = new TextDecoder('utf-8', { fatal: true })

/** A name or an id; a longer text is no key of the embedded store. */
export const anyText = /^[^\0]{1,256}$/su
export const sessionPosition = /^[0-9]{13}\/[0-9a-f-]{36}$/
/** Of a list by creation. */
export const creationPosition = /^[0-9]{1,15}\/[0-9a-f-]{36}$/

/** Members of the query string of a list. */
export const PageQuery = {
  limit: Type.Optional(
    Type.String({ pattern: '^([1-9][0-9]?|100)$', description: `1 to ${maxLimit}; ${maxLimit} by default` }),
  ),
  after: Type.Optional(Type.String({ minLength: 1, maxLength: 1366, description: '`next` of the page before' })),
  cursor: Type.Optional(Type.String({ minLength: 1, maxLength: 1366, description: 'Another name of `after`' })),
}

/** The members of a list that lead to its next page. */
export const NextPage = {
  next: Type.Optional(Type.String({ description: 'Where the next page begins; absent on the last page' })),
  next_cursor: Type.Optional(Type.String({ description: 'Another name of `next`' })),
}

/**
 * Reads the query string of a list.
 *
 * @param position pattern of the positions of this list
 * @returns the page to ask of the store
 * @throws {Refusal} 400 for a malformed cursor, and for one by both of its names
 */
export function readPage(
  query: { limit?: string; after?: string; cursor?: string },
  position: RegExp,
): { limit: number; after?: string } {
  const limit = Number(query.limit ?? maxLimit)
  const [member, ...more] = (['after', 'cursor'] as const).filter((name) => query[name] !== undefined)
  if (member === undefined) return { limit }
  const after = readCursor(query[member] as string, position)
  if (more.length === 0 && after !== undefined) return { limit, after }
  const detail = more.length > 0 ? 'has to stand alone, for cursor means the same' : 'is not the next of a page before'
  throw new Refusal('invalid_request', { detail: `${member} ${detail}`, errors: [{ pointer: `/${member}`, detail }] })
}

/** @param next position of the next page, as the store gave it; undefined on the last page */
export function nextPage(next: string | undefined): { next?: string; next_cursor?: string } {
  if (next === undefined) return {}
  const cursor = cursorOf(next)
  return { next: cursor, next_cursor: cursor }
}

/** A position as clients have it. */
export const cursorOf = (position: string): string => Buffer.from(position).toString('base64url')

/** @returns undefined for what is no cursor of such a position */
export function readCursor(cursor: string, position: RegExp): string | undefined {
  const after = decode(cursor)
  return after !== undefined && position.test(after) ? after : undefined
}

function decode(cursor: string): string | undefined {
  const bytes = Buffer.from(cursor, 'base64url')
  // Buffer.from skips characters outside the alphabet instead of refusing them.
  if (bytes.toString('base64url') !== cursor) return undefined
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}
