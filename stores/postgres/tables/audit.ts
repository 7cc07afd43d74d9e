import { firstAuditIdOf, newAuditId } from '../../../domain/audit.ts'
import { isUuid } from '../../../domain/ids.ts'
import { futureFrom } from '../../../domain/time.ts'
import { type AuditIndex, listAudit, type ReadAudit } from '../../audit.ts'
import { clockOf } from '../../sweeping.ts'
import type { AuditTable } from '../../tables/audit.ts'
import { type Fields, tables } from '../columns.ts'
import { auditLines, type InLine, moveOn, readPositions, writePositions } from '../lines.ts'
import { plan, prepare, type Runs, type Statement } from '../statement.ts'
import type { SweepStage } from '../sweep.ts'
import { auditing, auditValues } from '../telling.ts'
import { firstUuid } from '../uuids.ts'

const { audit } = tables

/** The rows of an index between two ids, the newest first. */
const auditPage = `
    SELECT ${audit.list} FROM latchkey_audit
    WHERE id < $1::uuid AND id >= $2::uuid ORDER BY id DESC LIMIT $3`
/**
 * Compared and sorted by both columns of the index. With `user_id = $4 ORDER BY id`, a planner that takes the rows of a
 * busy user for evenly spread goes back through the rows of everybody, all of them where that user's are the oldest.
 */
const auditPageOf = (column: string, type: string) => `
    SELECT ${audit.list} FROM latchkey_audit
    WHERE ${column} IS NOT NULL
      AND (${column}, id) < ($4::${type}, $1::uuid) AND (${column}, id) >= ($4::${type}, $2::uuid)
    ORDER BY ${column} DESC, id DESC LIMIT $3`
/** The same, from the row $2 on to the newest. */
const auditBehind = (column: string, value: string) => `
        ${column} IS NOT NULL AND (${column}, id) > (${value}, $2::uuid)
        AND (${column}, id) <= (${value}, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
        ORDER BY ${column}, id`

const prepared = prepare({
  addAudit: `WITH ${auditing(1, 'true')}
    SELECT id FROM audited`,
  // A part for each line, as `revocationsSince`.
  auditSince: Array.from(
    { length: auditLines },
    (_, line) => `
    (SELECT line, number, ${audit.list}
    FROM latchkey_audit WHERE line = ${line} AND number > $${line + 1}::bigint
    ORDER BY number LIMIT $${auditLines + 1}::bigint)`,
  ).join(' UNION ALL'),
  auditHeads: 'SELECT line, number FROM latchkey_audit_heads',
  removeAudit: 'DELETE FROM latchkey_audit WHERE id = $1::uuid RETURNING id',
})

const planned = plan({
  auditPage,
  auditPageOfUser: auditPageOf('user_id', 'uuid'),
  auditPageOfSession: auditPageOf('session', 'uuid'),
  auditPageOfClient: auditPageOf('client', 'text'),
  // The oldest deletion after $1 whose user may have rows that tell of a person; $2: or $1 itself.
  nextErasure: `
    SELECT id, user_id, at FROM latchkey_audit
    WHERE erases AND id >= $1::uuid AND (id > $1::uuid OR $2::boolean) ORDER BY id LIMIT 1`,
  // About the user $1 and of what they did, the next $3 rows after $2.
  eraseAudit: `
    WITH looked AS (
      (SELECT id FROM latchkey_audit WHERE ${auditBehind('user_id', '$1::uuid')} LIMIT $3)
      UNION
      (SELECT id FROM latchkey_audit WHERE ${auditBehind('made_by', '$1::uuid::text')} LIMIT $3)
      ORDER BY id LIMIT $3
    ),
    erased AS (
      UPDATE latchkey_audit SET address = NULL, user_agent = NULL
      WHERE id IN (SELECT id FROM looked) AND (address IS NOT NULL OR user_agent IS NOT NULL)
      RETURNING id
    )
    SELECT id, (SELECT count(*) FROM looked) AS looked FROM looked ORDER BY id DESC LIMIT 1`,
  endErasure: 'UPDATE latchkey_audit SET erases = false WHERE id = $1::uuid RETURNING id',
  // By their ids, which rise with time.
  sweepAudit: `
    DELETE FROM latchkey_audit
    WHERE id IN (SELECT id FROM latchkey_audit WHERE id < $1::uuid ORDER BY id LIMIT $2)
    RETURNING id`,
  findAuditAhead: 'SELECT id FROM latchkey_audit WHERE id >= $1::uuid ORDER BY id DESC LIMIT $2',
  putAuditRight: `
    UPDATE latchkey_audit a SET id = g.next, at = $3::bigint
    FROM unnest($1::uuid[], $2::uuid[]) AS g (id, next) WHERE a.id = g.id`,
})

export const statements = { ...prepared, ...planned }

const pages: Record<AuditIndex, Statement> = {
  user: statements.auditPageOfUser,
  session: statements.auditPageOfSession,
  client: statements.auditPageOfClient,
}

/** What happened, in the PostgreSQL store. */
export function createAudit({ run }: Runs): AuditTable {
  const read: ReadAudit = async ({ before, from, limit }, of) => {
    if (of && of.index !== 'client' && !isUuid(of.value)) return []
    const range = [before, from, limit]
    const rows = await (of
      ? run<Fields>(pages[of.index], ...range, of.value)
      : run<Fields>(statements.auditPage, ...range))
    return rows.map(audit.read)
  }

  return {
    addAudit: async (rows) => void (await run(statements.addAudit, ...auditValues(rows))),
    async auditSince(cursor, limit) {
      const positions = readPositions(cursor, auditLines)
      const ofEachLine = Math.max(1, Math.floor(limit / auditLines))
      const found = await run<Fields & InLine>(statements.auditSince, ...positions, ofEachLine)
      const more = moveOn(positions, found, ofEachLine)
      found.sort((a, b) => a.number - b.number)
      return { rows: found.map(audit.read), cursor: writePositions(positions), more }
    },
    async auditEnd() {
      const positions = readPositions(undefined, auditLines)
      for (const { line, number } of await run<InLine>(statements.auditHeads)) positions[line] = number
      return writePositions(positions)
    },
    listAudit: (filter, page) => listAudit(read, filter, page),
    async eraseAudit({ settledBefore, limit, cursor = firstUuid }) {
      const [erasure = firstUuid, after] = cursor.split('/')
      const [due] = await run<{ id: string; user_id: string | null; at: number }>(
        statements.nextErasure,
        erasure,
        after !== undefined,
      )
      if (!due) return undefined
      const begin = due.id === erasure && after !== undefined ? after : firstUuid
      const [last] = await run<{ id: string; looked: number }>(statements.eraseAudit, due.user_id, begin, limit)
      if (last?.looked === limit) return `${due.id}/${last.id}`
      if (due.at < settledBefore) await run(statements.endErasure, due.id)
      return due.id
    },
    removeAudit: async (id) => void (isUuid(id) && (await run(statements.removeAudit, id))),
  }
}

/** Removes the oldest rows, and gives those of a clock that was ahead the time of now. */
export function sweepAudit({ run }: Runs): SweepStage {
  return {
    async sweep(step) {
      const { auditBefore = 0, limit } = step
      const ahead = await run<{ id: string }>(
        statements.findAuditAhead,
        firstAuditIdOf(futureFrom(clockOf(step)) + 1),
        limit,
      )
      if (ahead.length > 0) {
        const ids = ahead.map(({ id }) => id).reverse()
        await run(
          statements.putAuditRight,
          ids,
          ids.map(() => newAuditId(clockOf(step))),
          clockOf(step),
        )
      }
      const removed = await run(statements.sweepAudit, firstAuditIdOf(auditBefore), limit)
      return { removed: removed.length, looked: Math.max(removed.length, ahead.length) }
    },
    position: () => '',
  }
}
