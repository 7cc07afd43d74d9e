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

/** Members of the query string of a list. */
export const PageQuery = {
  limit: Type.Optional(
    Type.String({ pattern: '^([1-9][0-9]?|100)$', description: `1 to ${maxLimit}; ${maxLimit} by default` }),
  ),
  cursor: Type.Optional(
    Type.String({ minLength: 1, maxLength: 1366, description: '`next_cursor` of the page before' }),
  ),
}

/** The member `next_cursor` of a list. */
export const NextCursor = Type.Optional(
  Type.String({ description: 'Cursor of the next page; absent on the last page' }),
)

/**
 * Reads the query string of a list.
 *
 * @param position pattern of the positions of this list
 * @returns the page to ask of the store
 * @throws {Refusal} 400 for a malformed cursor
 */
export function readPage(
  query: { limit?: string; cursor?: string },
  position: RegExp,
): { limit: number; after?: string } {
  const limit = Number(query.limit ?? maxLimit)
  if (query.cursor === undefined) return { limit }
  const after = decode(query.cursor)
  if (after !== undefined && position.test(after)) return { limit, after }
  const detail = 'is not the next_cursor of a page before'
  throw new Refusal('invalid_request', { detail: `The cursor ${detail}`, errors: [{ pointer: '/cursor', detail }] })
}

/** @param next position of the next page, as the store gave it; undefined on the last page */
export const nextCursor = (next: string | undefined): { next_cursor?: string } =>
  next === undefined ? {} : { next_cursor: Buffer.from(next).toString('base64url') }

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
