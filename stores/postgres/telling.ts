import { type Audit, type AuditRow, erasingEvent } from '../../domain/audit.ts'
import { tables } from './columns.ts'
import { auditLines, revocationLines } from './lines.ts'

/*
 * What a write is told of by, in its own statement: audit rows, and the revocation of the tokens that it ends.
 */

const { audit } = tables

/**
 * Writes audit rows in the statement of what they tell of. They are placed in lines as revocations are, see
 * {@link recording}; a line goes on by as many numbers as there are rows at most.
 *
 * @param first number of the first of its values: an array for each column, the lines of the rows, and how many rows
 * @param isTold whether the row `g` is to be written, by CTEs that come before
 */
export const auditing = (first: number, isTold: string) => {
  const lines = `$${first + audit.count}::smallint[]`
  const rows = `$${first + audit.count + 1}::bigint`
  return `
  told AS (
    SELECT ${audit.unnested('g')}, g.line, g.place
    FROM unnest(${audit.arrayParameters(first)}, ${lines}) WITH ORDINALITY AS g (${audit.list}, line, place)
    WHERE ${isTold}
  ),
  audit_head AS (
    INSERT INTO latchkey_audit_heads AS h (line, number)
    SELECT told.line, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + ${rows}
    FROM told GROUP BY told.line ORDER BY told.line
    ON CONFLICT (line) DO UPDATE SET number = greatest(h.number + ${rows}, excluded.number)
    RETURNING h.line, h.number
  ),
  audited AS (
    INSERT INTO latchkey_audit (${audit.list}, erases, line, number)
    SELECT ${audit.unnested('told')}, told.event = '${erasingEvent}', told.line, audit_head.number - ${rows} + told.place
    FROM told JOIN audit_head ON audit_head.line = told.line
    ON CONFLICT DO NOTHING
    RETURNING id
  )`
}

/**
 * A change that records no revocation, with its audit rows.
 *
 * @param changed CTE @param first as of {@link auditing} @param before CTEs that `changed` refers to
 */
export const telling = (first: number, changed: string, list = 'id', before = '') => `
  WITH ${before && `${before}, `}changed AS (${changed}
    RETURNING ${list}
  ),${auditing(first, 'EXISTS (SELECT 1 FROM changed)')}
  SELECT ${list} FROM changed`

/**
 * Records a revocation for the row of `ended`, if there is one, in the same statement that ended it.
 *
 * A follower must miss nothing, so numbers have to become visible in their order. A sequence, or the time of the
 * insert, would not do: the one numbered first may commit last, behind a cursor that went by. Here the row of
 * `latchkey_revocation_heads` stays locked until the commit, so the next number of a line is given out after the one
 * before it can be read. No overlap has to be read again, however long a commit takes, and a poll that finds nothing
 * costs a look into the index for each line.
 *
 * Numbers follow the clock of the database (microseconds), and at least rise by one when it does not: after a failover
 * that lost the newest rows, or a restore, the next number is still beyond every cursor that was given out.
 *
 * Then come the audit rows of it.
 *
 * @param first as of {@link auditing}
 * @param ended CTEs, the last of which is `ended (kind, id, generation, except_session_id, …)` with at most one row
 */
export const recording = (first: number, ended: string) => `
  WITH ${ended},
  head AS (
    INSERT INTO latchkey_revocation_heads AS h (line, number)
    SELECT $1::smallint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM ended
    ON CONFLICT (line) DO UPDATE SET number = greatest(h.number + 1, excluded.number)
    RETURNING h.line, h.number
  ),
  recorded AS (
    INSERT INTO latchkey_revocations (line, number, kind, id, generation, except_session_id, revoked_at, expires_at)
    SELECT head.line, head.number, ended.kind, ended.id, ended.generation, ended.except_session_id,
      $2::bigint, $3::bigint
    FROM head, ended
    RETURNING number
  ),${auditing(first, 'EXISTS (SELECT 1 FROM recorded)')}
  SELECT * FROM ended`

/** The first three values of every statement that records a revocation. */
export const recorded = (revokedAt: number, expiresAt: number) => [newLine(), revokedAt, expiresAt]

/** In which a revocation is numbered. */
export const newLine = () => Math.floor(Math.random() * revocationLines)

/** By the user, so that the events of one are in order; ids end with random digits. */
const lineOf = ({ user }: AuditRow) => (user === undefined ? 0 : Number.parseInt(user.slice(-2), 16) % auditLines)

/** The values of {@link auditing}. */
export const auditValues = (rows: AuditRow[]): unknown[] => [...audit.arrays(rows), rows.map(lineOf), rows.length]
const noRows = auditValues([])

/** The same of a change. @param result what it resolves with, where it has an effect */
export const toldValues = <Result>(audit: Audit<Result> | undefined, result: Result): unknown[] =>
  audit ? auditValues(audit(result)) : noRows
