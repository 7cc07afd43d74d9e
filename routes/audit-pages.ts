import { Type } from '@fastify/type-provider-typebox'
import type { AuditFilter } from '../domain/audit.ts'
import { isUuid } from '../domain/ids.ts'
import { Refusal } from '../errors.ts'
import { parseSince, sinceRule } from '../plugins/http/times.ts'
import { EventFilter } from '../schemas/audit.ts'
import { PageQuery } from './pages.ts'

/** Members of the query string of what happened. */
export const AuditQuery = {
  limit: PageQuery.limit,
  after: Type.Optional(Type.String({ minLength: 1, description: '`next` of the page before' })),
  event: Type.Optional(EventFilter),
  session: Type.Optional(Type.String({ pattern: '\\S', maxLength: 256 })),
  since: Type.Optional(Type.String({ minLength: 1, description: `From when on: ${sinceRule.slice(3)}` })),
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
  const from = since === undefined ? undefined : parseSince(since, now)
  if (since !== undefined && from === undefined) throw wrong('since', sinceRule)
  if (after !== undefined && !isUuid(after)) throw wrong('after', 'is not the next of a page before')
  return {
    filter: {
      ...(event !== undefined && { event }),
      ...(session !== undefined && { session }),
      ...(from !== undefined && { since: from }),
    },
    page: { limit: Number(limit ?? 100), ...(after !== undefined && { after }) },
  }
}

const wrong = (name: string, detail: string) =>
  new Refusal('invalid_request', { detail: `The ${name} ${detail}`, errors: [{ pointer: `/${name}`, detail }] })

export const Next = Type.Optional(Type.String({ description: '`after` of the next page; absent on the last page' }))
