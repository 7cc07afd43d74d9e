import { type Static, Type } from '@sinclair/typebox'
import { parseDuration } from '../config/durations.ts'
import type { AuditRow } from '../domain/audit.ts'
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

export const toAuditEvent = ({ at, userAgent, requestId, ...row }: AuditRow): Static<typeof AuditEvent> => {
  const { id, event, outcome, user, session, client, by, address, detail } = row
  return JSON.parse(
    JSON.stringify({
      ...{ id, at: toTimestamp(at), event, outcome, user, session, client, by, address },
      ...{ user_agent: userAgent, request_id: requestId, detail },
    }),
  )
}

export const EventFilter = Type.Unsafe<EventName>({ type: 'string', enum: Object.keys(events) })

export const sinceRule = 'is a duration such as 90s, 10m, 12h or 30d, or a time such as 2026-11-26T09:00:00Z'
const time = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/

/**
 * Reads from when on.
 *
 * @param text a duration, which ends now, or a time of RFC 3339; a date is its beginning in UTC
 * @returns milliseconds since the epoch; undefined for any other text
 */
export function parseSince(text: string, now: number): number | undefined {
  const duration = parseDuration(text)
  if (duration) return Math.max(0, now - duration.ms)
  const at = time.test(text) ? Date.parse(text) : Number.NaN
  return at >= 0 ? at : undefined
}
