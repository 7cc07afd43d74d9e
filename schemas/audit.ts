import { type Static, Type } from '@sinclair/typebox'
import type { AuditRow } from '../domain/audit.ts'
import { omitUndefined } from '../domain/omit-undefined.ts'
import { type EventName, events } from '../events.ts'
import { Id, Timestamp, toTimestamp } from './parts.ts'

/** What happened, as administrators see it; `latchkey audit --json` and webhooks have the same. */
export const AuditEvent = Type.Object({
  id: Id,
  at: Timestamp,
  event: Type.String({ examples: ['login.succeeded'] }),
  outcome: Type.Unsafe<AuditRow['outcome']>({ type: 'string', enum: ['success', 'failure'] }),
  user: Type.Optional(Type.String({ description: 'Id of the user whose account it is about' })),
  session: Type.Optional(Type.String()),
  client: Type.Optional(Type.String()),
  by: Type.Optional(Type.String({ description: 'Id of the administrator who acted, or `latchkey cli`' })),
  address: Type.Optional(Type.String()),
  user_agent: Type.Optional(Type.String()),
  request_id: Type.Optional(Type.String({ description: '`x-request-id` of the answer' })),
  detail: Type.Optional(
    Type.Object({}, { additionalProperties: true, description: 'What else the event says: docs/audit.md' }),
  ),
})

export function toAuditEvent(row: AuditRow): Static<typeof AuditEvent> {
  const { id, at, event, outcome, user, session, client, by, address, userAgent, requestId, detail } = row
  const who = { user, session, client, by, address, user_agent: userAgent, request_id: requestId, detail }
  return omitUndefined({ id, at: toTimestamp(at), event, outcome, ...who })
}

export const EventFilter = Type.Unsafe<EventName>({ type: 'string', enum: Object.keys(events) })
