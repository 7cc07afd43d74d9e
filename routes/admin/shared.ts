import type { FastifyRequest } from 'fastify'
import { isUuid } from '../../domain/ids.ts'
import { Refusal } from '../../errors.ts'
import { withAdminToken } from '../../schemas/security.ts'

/** Of the schema of every route of `/admin/`. */
export const common = { tags: ['admin'], security: withAdminToken }

/** A preValidation hook: no body means that nothing is unusual. */
export async function allowNoBody(request: FastifyRequest): Promise<void> {
  if (request.body === undefined) request.body = {}
}

/*
 * Pages. A cursor is a position in the order of the store, as base64url so that nobody builds one; and what comes
 * back is not to be trusted: a store is asked only for what could be a position.
 */

const defaultLimit = 100
const utf8 = new TextDecoder('utf-8', { fatal: true })

/** A name or an id; what is longer is no key of the embedded store. */
export const anyText = /^[^\0]{1,256}$/su
export const sessionPosition = /^[0-9]{13}\/[0-9a-f-]{36}$/

/**
 * @param position what the positions of this list look like
 * @throws {Refusal} 400 for a cursor that is none
 */
export function readPage(
  query: { limit?: string; cursor?: string },
  position: RegExp,
): { limit: number; after?: string } {
  const limit = Number(query.limit ?? defaultLimit)
  if (query.cursor === undefined) return { limit }
  const after = decode(query.cursor)
  if (after !== undefined && position.test(after)) return { limit, after }
  const detail = 'is not the next_cursor of a page before'
  throw new Refusal('invalid_request', { detail: `The cursor ${detail}`, errors: [{ pointer: '/cursor', detail }] })
}

/** The member `next_cursor` of an answer. @param next as the store gave it; undefined on the last page */
export const nextCursor = (next: string | undefined): { next_cursor?: string } =>
  next === undefined ? {} : { next_cursor: Buffer.from(next).toString('base64url') }

function decode(cursor: string): string | undefined {
  const bytes = Buffer.from(cursor, 'base64url')
  // Node ignores what is no base64url.
  if (bytes.toString('base64url') !== cursor) return undefined
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

/** Users and sessions have UUIDs for ids. No other text is worth a look into the store, and some of it no store can look for. */
export function idFrom({ id }: { id: string }, what: 'user' | 'session'): string {
  if (isUuid(id)) return id
  throw new Refusal('not_found', { detail: `There is no such ${what}` })
}
