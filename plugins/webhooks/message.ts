import type { AuditRow } from '../../domain/audit.ts'
import { toAuditEvent } from '../../schemas/audit.ts'

/** What an endpoint is sent of an audit row: always the same text for the same row, for it is signed with each try. */
export function messageOf(row: AuditRow): string {
  const data = toAuditEvent(row)
  return JSON.stringify({ type: data.event, timestamp: data.at, data })
}
