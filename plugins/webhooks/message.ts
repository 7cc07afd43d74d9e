import type { AuditRow } from '../../domain/audit.ts'
import { toTimestamp } from '../../schemas/parts.ts'

/**
 * What an endpoint is sent of an audit row: always the same text for the same row, for it is signed with each try.
 * `data` is the row as `GET /admin/audit` has it.
 */
export function messageOf({ id, at, event, outcome, user, session, client, by, address, ...rest }: AuditRow): string {
  const { userAgent: user_agent, requestId: request_id, detail } = rest
  const who = { user, session, client, by, address, user_agent, request_id, detail }
  // What is undefined is left out.
  const data = { id, at: toTimestamp(at), event, outcome, ...who }
  return JSON.stringify({ type: event, timestamp: data.at, data })
}
