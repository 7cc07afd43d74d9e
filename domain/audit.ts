import { randomUUID } from 'node:crypto'

/** One security event, as the store keeps it for `AUTH_AUDIT_RETENTION`. */
export interface AuditRow {
  /** a UUID that rises with time: see {@link newAuditId} */
  id: string
  /** milliseconds since the epoch */
  at: number
  /** a name of `events.ts` */
  event: string
  outcome: 'success' | 'failure'
  /** whose account it is about */
  user?: string
  session?: string
  client?: string
  /** which administrator acted: the id of a user or client, or `latchkey cli` */
  by?: string
  address?: string
  userAgent?: string
  requestId?: string
  /** what else the event says, as `events.ts` has it for each: never a secret, never a name */
  detail?: Record<string, unknown>
}

/**
 * What is written with a change, in its own step: told by what the change resolves with, where it has changed
 * anything. On PostgreSQL it is asked before the statement; it must not throw.
 */
export type Audit<Result = unknown> = (result: Result) => AuditRow[]

/** Rows that have all of these. */
export interface AuditFilter {
  user?: string
  session?: string
  client?: string
  event?: string
  /** milliseconds since the epoch */
  since?: number
}

/** The event after which the rows of its user lose what tells of a person: see `eraseAudit` of `store.ts`. */
export const erasingEvent = 'user.deleted'

/** A row as the user whom it is about sees it: an administrator is somebody else, and who, and from where, is not for them. */
export function asOwn(row: AuditRow): AuditRow {
  if (row.by === undefined || row.by === row.user) return row
  const { address: _, userAgent: __, ...rest } = row
  return { ...rest, by: 'administrator' }
}

/** Ids of one millisecond, in the order in which a process makes them. */
let [lastMs, sequence] = [0, 0]

/**
 * A UUIDv7 (RFC 9562 §5.7), by which rows are sorted from the newest to the oldest: the time, then a counter of this
 * process (§6.2, method 1), then 62 random bits.
 *
 * @param at milliseconds since the epoch
 */
export function newAuditId(at: number): string {
  sequence = at === lastMs ? sequence + 1 : 0
  lastMs = at
  // More than 4096 events in a millisecond are no longer in the order in which they were made. The last two groups are
  // those of a random UUID, which Node draws many of at once.
  return uuidOf(at, 0x7000 | (sequence & 0xfff), randomUUID().slice(19))
}

/** The least id that a row of a time can have. */
export const firstAuditIdOf = (at: number): string => uuidOf(Math.min(Math.max(0, at), latest), 0, '0000-000000000000')

const latest = 2 ** 48 - 1

function uuidOf(at: number, third: number, rest: string): string {
  const time = Math.floor(at).toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-${third.toString(16).padStart(4, '0')}-${rest}`
}
