import { namesOne, type Revocation } from '../../../domain/revocation.ts'
import type { SweepStep } from '../../sweeping.ts'
import { type RevocationTable, revocationsPerPage } from '../../tables/revocations.ts'
import { type Fields, revocations } from '../columns.ts'
import { type InLine, moveOn, readPositions, revocationLines, writePositions } from '../lines.ts'
import { plan, prepare, type Runs } from '../statement.ts'
import { type SweepStage, type SweptRow, sweeping } from '../sweep.ts'
import { recorded, recording, toldValues } from '../telling.ts'

const prepared = prepare({
  // $8: whether it names one thing, which is revoked or not.
  revoke: recording(
    9,
    `
    ended AS (
      SELECT $4::text AS kind, $5::text AS id, $6::bigint AS generation, $7::uuid AS except_session_id
      WHERE NOT $8::boolean OR NOT EXISTS (
        SELECT 1 FROM latchkey_revocations r WHERE r.kind = $4::text AND r.id = $5::text AND r.expires_at > $2::bigint)
    )`,
  ),
  // A part for each line, in the order of its numbers and of at most $9 rows.
  revocationsSince: Array.from(
    { length: revocationLines },
    (_, line) => `
    (SELECT line, number, ${revocations.list}
    FROM latchkey_revocations WHERE line = ${line} AND number > $${line + 1}::bigint
    ORDER BY number LIMIT $${revocationLines + 1}::bigint)`,
  ).join(' UNION ALL'),
})

const planned = plan({
  sweepRevocations: sweeping(
    'latchkey_revocations',
    'line, number',
    '$2::smallint, $3::bigint',
    't.expires_at <= $4::bigint',
  ),
})

export const statements = { ...prepared, ...planned }

/** The revocations of the PostgreSQL store. */
export function createRevocations({ run, hadEffect }: Runs): RevocationTable {
  return {
    async revoke(revocation, audit) {
      const { revokedAt, expiresAt, kind, id, ...rest } = revocation
      const { generation, exceptSessionId } = rest as { generation?: number; exceptSessionId?: string }
      return hadEffect(
        statements.revoke,
        ...recorded(revokedAt, expiresAt),
        kind,
        id,
        generation,
        exceptSessionId,
        namesOne(revocation),
        ...toldValues(audit, true),
      )
    },
    async revocationsSince(cursor, limit = revocationsPerPage) {
      const positions = readPositions(cursor, revocationLines)
      const ofEachLine = Math.max(1, Math.floor(limit / revocationLines))
      const rows = await run<Fields & InLine>(statements.revocationsSince, ...positions, ofEachLine)
      const more = moveOn(positions, rows, ofEachLine)
      return { revocations: rows.map(revocations.read) as Revocation[], cursor: writePositions(positions), more }
    },
  }
}

/** Removes revocations of tokens that have expired. */
export function sweepRevocations({ runForOne }: Runs): SweepStage {
  return {
    sweep: ({ limit, now, revocationsBefore = now }: SweepStep, after = '-1 0') =>
      runForOne<SweptRow>(statements.sweepRevocations, limit, ...after.split(' '), revocationsBefore),
    position: ({ line, number }: SweptRow) => `${line} ${number}`,
  }
}
