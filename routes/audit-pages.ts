import { Type } from '@fastify/type-provider-typebox'
import type { AuditFilter } from '../domain/audit.ts'
import { isUuid } from '../domain/ids.ts'
import { Refusal } from '../errors.ts'
import { readTime, TimeQuery } from '../plugins/http/times.ts'
import { EventFilter } from '../schemas/audit.ts'
import { PageQuery } from './pages.ts'

/** Members of the query string of what happened. */
export const AuditQuery = {
  limit: PageQuery.limit,
  after: Type.Optional(Type.String({ minLength: 1, description: '`next` of the page before' })),
  event: Type.Optional(EventFilter),
  session: Type.Optional(Type.String({ pattern: '\\S', maxLength: 256 })),
  since: TimeQuery('From when on'),
}

interface Query {
  limit?: string
  after?: string
  event?: string
  session?: string
  since?: string
}

/** @throws {Refusal} 400 for a cursor or a time that is none */
export function readAuditQuery(
  { limit, after, event, session, since }: Query,
  now: number,
): { filter: AuditFilter; page: { limit: number; after?: string } } {
  const from = since === undefined ? undefined : readTime(since, now, 'since')
  if (after !== undefined && !isUuid(after))
    throw new Refusal('invalid_request', {
      errors: [{ pointer: '/after', detail: 'is not the next of a page before' }],
    })
  return {
    filter: {
      ...(event !== undefined && { event }),
      ...(session !== undefined && { session }),
      ...(from !== undefined && { since: from }),
    },
    page: { limit: Number(limit ?? 100), ...(after !== undefined && { after }) },
  }
}

export const Next = Type.Optional(Type.String({ description: '`after` of the next page; absent on the last page' }))
