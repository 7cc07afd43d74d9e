import type { RecordTaking } from '../../../domain/record.ts'
import { futureFrom } from '../../../domain/time.ts'
import { StoreUnavailable } from '../../store.ts'
import { clockOf, type SweepStep } from '../../sweeping.ts'
import type { RecordTable } from '../../tables/records.ts'
import type { WithRecords } from '../../tables/users.ts'
import { type Fields, tables } from '../columns.ts'
import { plan, prepare, type Runs } from '../statement.ts'
import { type SweepStage, type SweptRow, sweeping } from '../sweep.ts'

const { records } = tables

/** Whether `r` is the live record of a kind and an id at a time, which are the values from the first. */
const isLiveRecord = (first = 1) =>
  `r.kind = $${first}::text AND r.id = $${first + 1}::text
      AND r.expires_at > $${first + 2}::bigint AND r.spent_at IS NULL`

/**
 * Takes a record in the statement of what it is taken for, so that both happen or neither. One that is presented many
 * times at once is locked by the first; the others wait for its commit, look at the row anew, and find it spent.
 *
 * @param first number of the first of its values: kind, id, now, what it gave, until when that is kept
 * @param act CTEs that change something only where there is a row of `held (id, owner, data, …)`, the last of them
 *   `acted` with a row where it was done
 * @param audited further CTEs
 * @param before CTEs that lock what comes before a record, and a condition of them under which it is taken
 */
export const takingRecord = (
  first: number,
  act = 'acted AS (SELECT 1 AS one FROM held)',
  audited = '',
  before?: { ctes: string; isGood: string },
) => `
  WITH ${before ? `${before.ctes},` : ''}
  held AS (
    SELECT ${records.list} FROM latchkey_records r
    WHERE ${isLiveRecord(first)}${before ? ` AND ${before.isGood}` : ''} FOR UPDATE
  ),
  ${act},
  taken AS (
    UPDATE latchkey_records r
    SET spent_at = $${first + 2}::bigint, gave = $${first + 3}::text, expires_at = $${first + 4}::bigint, data = '',
      created_at = least(r.created_at, $${first + 2}::bigint), due_at = NULL, version = r.version + 1,
      owner_slot = NULL, source_slot = NULL
    FROM held WHERE r.id = held.id AND EXISTS (SELECT 1 FROM acted)
    RETURNING r.id
  )${audited}
  SELECT held.* FROM held JOIN taken ON taken.id = held.id`

/** How many values `takingRecord` has. */
export const takingValueCount = 5

/** The values of `takingRecord`. What is not to be kept has expired with the taking. */
export const takingValues = ({ kind, id, now, keep }: RecordTaking) => [kind, id, now, keep?.gave, keep?.until ?? now]

/**
 * A slot that no live record of an owner or source has. Rows that were moved here have none, and count all the same.
 * The slots are looked at one after another: in FROM all that there may be would be written down first.
 *
 * @param most parameter: how many there are @param start parameter: where the search begins, so that two at once seldom
 *   choose the same
 */
const freeSlot = (holder: 'owner' | 'source', most: string, start: string) => `
      SELECT g.slot
      FROM (SELECT generate_series(${start}::bigint, ${start}::bigint + ${most}::bigint - 1) % ${most}::bigint AS slot) g
      WHERE NOT EXISTS (
          SELECT 1 FROM latchkey_records r
          WHERE r.kind = ${records.parameter('kind')} AND r.${holder} = ${records.parameter(holder)}
            AND r.${holder}_slot = g.slot)
        AND ${most}::bigint > (
          SELECT count(*) FROM latchkey_records r
          WHERE r.kind = ${records.parameter('kind')} AND r.${holder} = ${records.parameter(holder)}
            AND r.expires_at > ${records.parameter('createdAt')} AND r.spent_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM latchkey_records r WHERE r.id = ${records.parameter('id')})
      LIMIT 1`
const [perOwner, perSource, start] = [1, 2, 3].map((i) => `$${records.count + i}`) as [string, string, string]

/**
 * Takes a record, and ends others, in the statement of a change of their owner, who is locked first. No table is changed
 * twice in it, so what is ended is spent as what is taken is.
 *
 * @param user parameter: the id of the owner @param first number of the first of its values
 * @param change makes the CTE that changes the owner, `changed` with their id, from a condition that it has to keep;
 *   `locked` has their id and generation
 * @param isAllowed of the owner, else nothing is done
 */
export const withRecords = (user: string, first: number, change: (isHeld: string) => string, isAllowed = 'true') => {
  const now = `$${first + 2}::bigint`
  return `
    locked AS (SELECT id, generation FROM latchkey_users WHERE id = ${user} AND ${isAllowed} FOR UPDATE),
    held AS (SELECT r.id FROM latchkey_records r JOIN locked ON true WHERE ${isLiveRecord(first)} FOR UPDATE OF r),
    ${change(`($${first + 1}::text IS NULL OR EXISTS (SELECT 1 FROM held))`)},
    ending AS (
      SELECT held.id FROM held
      UNION
      SELECT r.id FROM latchkey_records r JOIN changed ON r.owner = changed.id::text
      WHERE r.kind = ANY($${first + 3}::text[]) AND r.created_at >= $${first + 4}::bigint AND r.spent_at IS NULL
    ),
    spent AS (
      UPDATE latchkey_records r
      SET spent_at = ${now}, expires_at = ${now}, data = '', created_at = least(r.created_at, ${now}), due_at = NULL,
        version = r.version + 1, owner_slot = NULL, source_slot = NULL
      FROM ending, changed WHERE r.id = ending.id AND r.spent_at IS NULL
      RETURNING r.id
    )`
}

/** The values of `withRecords`. */
export const withRecordsValues = ({ taking, ending }: WithRecords) => [
  ...[taking?.kind, taking?.id, taking?.now ?? ending?.now],
  ...[ending?.kinds ?? [], ending?.since ?? 0],
]
/** How many there are. */
export const withRecordsCount = 5

const prepared = prepare({
  // No row: another call took the slot. Nothing free: the bound, or slots of what has expired.
  issueRecord: `
    WITH free_owner AS (${freeSlot('owner', perOwner, start)}),
    free_source AS (${freeSlot('source', perSource, start)}),
    issued AS (
      INSERT INTO latchkey_records (${records.list}, owner_slot, source_slot)
      SELECT ${records.parameters}, free_owner.slot, free_source.slot FROM free_owner, free_source
      ON CONFLICT DO NOTHING
      RETURNING id
    )
    SELECT (SELECT count(*) FROM issued) AS issued, (SELECT count(*) FROM free_owner, free_source) AS free`,
  removeExpiredRecords: `
    DELETE FROM latchkey_records
    WHERE kind = $1::text AND (owner = $2::text OR source = $3::text) AND expires_at <= $4::bigint
    RETURNING id`,
  findRecord: `
    SELECT ${records.list} FROM latchkey_records
    WHERE kind = $1::text AND id = $2::text AND expires_at > $3::bigint`,
  takeRecord: takingRecord(1),
  missRecord: `
    UPDATE latchkey_records r SET misses = r.misses + 1, version = r.version + 1,
      spent_at = CASE WHEN r.misses + 1 >= $4::bigint THEN $3::bigint END,
      expires_at = CASE WHEN r.misses + 1 >= $4::bigint THEN $3::bigint ELSE r.expires_at END
    WHERE ${isLiveRecord()}
    RETURNING misses`,
  replaceRecord: `
    UPDATE latchkey_records r SET data = $5::text, due_at = $6::bigint, version = r.version + 1
    WHERE ${isLiveRecord()} AND r.version = $4::bigint
    RETURNING id`,
  dueRecords: `
    SELECT r.* FROM unnest($1::text[]) AS k (kind), LATERAL (
      SELECT ${records.list} FROM latchkey_records
      WHERE kind = k.kind AND due_at <= $2::bigint AND spent_at IS NULL AND expires_at > $2::bigint
      ORDER BY due_at, id LIMIT $3) r
    ORDER BY r.due_at, r.id LIMIT $3`,
  endRecords: `
    DELETE FROM latchkey_records WHERE owner = $1::text AND kind = ANY($2::text[]) AND spent_at IS NULL
    RETURNING id`,
  removeRecord: 'DELETE FROM latchkey_records WHERE id = $1',
})

const planned = plan({
  sweepRecords: sweeping('latchkey_records', 'id', '$2::text', 't.expires_at <= $3::bigint', 'created_at > $4::bigint'),
  putRecordsRight: `
    UPDATE latchkey_records SET created_at = $3::bigint, expires_at = $3::bigint + expires_at - created_at,
      due_at = CASE WHEN due_at IS NOT NULL THEN $3::bigint END
    WHERE id > $1::text AND id <= $2::text AND created_at > $4::bigint`,
})

export const statements = { ...prepared, ...planned }

/** Retries when a concurrent call took the slot. */
const issueTriesAtMost = 50

/** Short-lived records in the PostgreSQL store. */
export function createRecords({ run, runForOne, hadEffect }: Runs): RecordTable {
  return {
    async issueRecord(record, { perOwner, perSource }) {
      const { kind, owner, source, createdAt } = record
      for (let tries = 1; tries <= issueTriesAtMost; tries++) {
        const start = Math.floor(Math.random() * 2 ** 31)
        const { issued = 0, free = 0 } =
          (await runForOne<{ issued: number; free: number }>(
            statements.issueRecord,
            ...records.values(record),
            perOwner,
            perSource,
            start,
          )) ?? {}
        if (issued > 0) return true
        if (free > 0) continue
        if (!(await hadEffect(statements.removeExpiredRecords, kind, owner, source, createdAt))) return false
      }
      throw new StoreUnavailable(new Error(`Others took the slot ${issueTriesAtMost} times`))
    },
    async findRecord({ kind, id, now }) {
      const row = await runForOne(statements.findRecord, kind, id, now)
      return row && records.read(row)
    },
    async takeRecord(taking) {
      const row = await runForOne(statements.takeRecord, ...takingValues(taking))
      return row && records.read(row)
    },
    missRecord: async ({ kind, id, now }, most) =>
      (await runForOne<{ misses: number }>(statements.missRecord, kind, id, now, most))?.misses,
    replaceRecord: ({ kind, id, now }, expectedVersion, data, dueAt) =>
      hadEffect(statements.replaceRecord, kind, id, now, expectedVersion, data, dueAt ?? null),
    dueRecords: async (kinds, now, limit) =>
      (await run<Fields>(statements.dueRecords, kinds, now, limit)).map(records.read),
    endRecords: async (owner, kinds) => (await run(statements.endRecords, owner, kinds)).length,
    removeRecord: async (id) => void (await run(statements.removeRecord, id)),
  }
}

/** Removes records that have expired. */
export function sweepRecords({ run, runForOne }: Runs): SweepStage {
  return {
    sweep: async (step: SweepStep, after = '') => {
      const future = futureFrom(clockOf(step))
      const row = await runForOne<SweptRow>(statements.sweepRecords, step.limit, after, step.now, future)
      if (row && row.ahead > 0) await run(statements.putRecordsRight, after, row.id, clockOf(step), future)
      return row
    },
    position: ({ id }: SweptRow) => id,
  }
}
