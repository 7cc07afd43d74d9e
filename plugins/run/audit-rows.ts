import { type AuditRow, newAuditId } from '../../domain/audit.ts'
import { type By, commandLine } from '../../domain/caller.ts'
import { isUuid } from '../../domain/ids.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { type EventName, events } from '../../events.ts'

/** What members of events are in a row by themselves; all others are its detail. */
interface Known {
  sub?: string
  sid?: string
  client_id?: string
  address?: string
  account?: string
}

/**
 * The audit row of an event.
 *
 * @param by whose request it is, or a job
 * @param members as the log has them: the closed lists of `events.ts`
 */
export function auditRowOf(by: By, event: EventName, members: object, at: number): AuditRow {
  const { sub, sid, client_id: client, address = by.address, account, ...rest } = members as Known
  // A client is the subject of its own tokens.
  const isUser = sub !== undefined && sub !== client && isUuid(sub)
  // The MAC of a name is for names that nobody has: of a user it would outlive the name.
  const detail = omitUndefined({ ...rest, account: isUser ? undefined : account })
  // What is said of a request of a command is that it was one.
  const isRequest = by.by !== commandLine
  return omitUndefined({
    id: newAuditId(at),
    at,
    event,
    outcome: events[event].outcome,
    user: isUser ? sub : undefined,
    session: sid,
    client,
    by: by.by,
    address: (isRequest && address) || undefined,
    userAgent: (isRequest && by.userAgent) || undefined,
    requestId: by.requestId,
    detail: Object.keys(detail).length > 0 ? detail : undefined,
  })
}
