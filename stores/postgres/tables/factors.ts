import { isSecondFactor } from '../../../domain/factor.ts'
import { isUuid } from '../../../domain/ids.ts'
import type { SweepStep } from '../../sweeping.ts'
import type { FactorsChange, FactorTable, Raised } from '../../tables/factors.ts'
import { tables } from '../columns.ts'
import { plan, prepare, type Runs } from '../statement.ts'
import { type SweepStage, type SweptRow, sweeping } from '../sweep.ts'
import { auditing, recorded, recording, toldValues } from '../telling.ts'
import { firstUuid, uuidOrNull } from '../uuids.ts'
import {
  takingRecord,
  takingValueCount,
  takingValues,
  withRecords,
  withRecordsCount,
  withRecordsValues,
} from './records.ts'
import { isCurrent, relying } from './sessions.ts'
import { endedOf } from './users.ts'

const { factors } = tables

const changingCount = 9 + withRecordsCount

/**
 * CTEs that change the factors of a user, `changed` the one with the id. The row of the user is locked first, so two
 * changes of one user's come one after the other, and what is waited for is looked at anew.
 *
 * @param first number of the first value: those of {@link changeValues}, and those of `withRecords`
 * @param generations by how many the user moves on
 */
function changing(first: number, generations: 0 | 1): string {
  const value = (i: number, type: string) => `$${first + i}::${type}`
  const [user, expected, next, hasFactors] = [
    value(0, 'uuid'),
    value(1, 'bigint'),
    value(2, 'text'),
    value(3, 'boolean'),
  ]
  const [session, authAt, amr, factor] = [value(4, 'uuid'), value(5, 'bigint'), value(6, 'text[]'), value(7, 'text')]
  const lowering = value(8, 'text')
  return withRecords(
    user,
    first + changingCount - withRecordsCount,
    (isHeld) => `
    read AS (
      SELECT f.user_id FROM latchkey_factors f JOIN locked ON f.user_id = locked.id WHERE f.version = ${expected}
      FOR UPDATE OF f
    ),
    raised AS (
      SELECT s.id FROM latchkey_sessions s JOIN locked ON s.user_id = locked.id AND s.generation = locked.generation
      WHERE s.id = ${session} AND (${expected} = 0 OR EXISTS (SELECT 1 FROM read))
      FOR UPDATE OF s
    ),
    put AS (
      INSERT INTO latchkey_factors AS f (${factors.list})
      SELECT locked.id, ${next}, ${expected} + 1 FROM locked
      WHERE ${isHeld} AND (${session} IS NULL OR EXISTS (SELECT 1 FROM raised))
        AND (${expected} = 0 OR EXISTS (SELECT 1 FROM read))
      ON CONFLICT (user_id) DO UPDATE SET ${factors.excluded}
      WHERE f.version = ${expected}
      RETURNING f.user_id
    ),
    changed AS (
      UPDATE latchkey_users u SET has_factors = ${hasFactors}, generation = u.generation + ${generations}
      FROM put WHERE u.id = put.user_id
      RETURNING u.id, u.generation
    ),
    lowered AS (
      UPDATE latchkey_browser_sessions b SET factor = NULL
      FROM changed
      WHERE b.user_id = changed.id AND b.factor = ${lowering}
      RETURNING b.id
    ),
    moved AS (
      UPDATE latchkey_sessions s
      SET auth_at = CASE WHEN s.id = ${session} THEN ${authAt} ELSE s.auth_at END,
        amr = CASE WHEN s.id = ${session} THEN ${amr} ELSE s.amr END,
        factor = nullif(CASE WHEN s.id = ${session} THEN ${factor} ELSE s.factor END, ${lowering})
      FROM changed
      WHERE s.user_id = changed.id AND (s.id = ${session} OR s.factor = ${lowering})
        AND (SELECT count(*) FROM lowered) >= 0
      RETURNING s.id
    )`,
    // An administrator puts an account right before it is enabled again.
    generations === 1 ? 'TRUE' : 'disabled_at IS NULL',
  )
}

const changeValues = ({ userId, expectedVersion, next, raising, lowering, ...records }: FactorsChange) => [
  ...[userId, expectedVersion, JSON.stringify(next), next.some(isSecondFactor) || null],
  ...[...raisedValues(raising), lowering],
  ...withRecordsValues(records),
]

const raisedValues = (raised: Raised | undefined) => [raised?.sessionId, raised?.authAt, raised?.amr, raised?.factor]
const raisedCount = 4

/** As the factors of a row have it: base64url needs no escaping. */
const secretMember = (sealed: string) => `"secret":"${sealed}"`

const ownerOfSession = '(SELECT o.user_id FROM latchkey_sessions o WHERE o.id = $1::uuid)'

const planned = plan({
  sweepFactors: sweeping(
    'latchkey_factors',
    'user_id',
    '$2::uuid',
    'NOT EXISTS (SELECT 1 FROM latchkey_users u WHERE u.id = t.user_id)',
  ),
})

const prepared = prepare({
  findFactors: `SELECT ${factors.list} FROM latchkey_factors WHERE user_id = $1`,
  changeFactors: `
    WITH ${changing(1, 0)},${auditing(1 + changingCount, 'EXISTS (SELECT 1 FROM changed)')}
    SELECT id FROM changed`,
  changeFactorsAndEnd: recording(4 + changingCount, `${changing(4, 1)}, ${endedOf('changed')}`),
  lowerBrowserSessions: 'UPDATE latchkey_browser_sessions SET factor = NULL WHERE user_id = $1 AND factor = $2',
  lowerSessions: 'UPDATE latchkey_sessions SET factor = NULL WHERE user_id = $1 AND factor = $2',
  // As in `relying`: what is found as text is the member.
  resealTotp: `
    UPDATE latchkey_factors SET factors = replace(factors, $2::text, $3::text), version = version + 1
    WHERE user_id = $1::uuid AND strpos(factors, $2::text) > 0
    RETURNING user_id`,
  removeFactors: `
    WITH locked AS (UPDATE latchkey_users SET has_factors = NULL WHERE id = $1::uuid RETURNING id)
    DELETE FROM latchkey_factors WHERE user_id = $1::uuid AND (SELECT count(*) FROM locked) >= 0`,
  raiseSession: takingRecord(
    raisedCount + 1,
    `acted AS (
      UPDATE latchkey_sessions s SET auth_at = $2::bigint, amr = $3::text[], factor = $4::text
      FROM latchkey_users u, held
      WHERE s.id = $1::uuid AND ${isCurrent}
      RETURNING s.id
    )`,
    `,${auditing(raisedCount + takingValueCount + 1, 'EXISTS (SELECT 1 FROM taken)')}`,
    relying(ownerOfSession, '$4::text'),
  ),
})

export const statements = { ...prepared, ...planned }

/** The second factors of the PostgreSQL store. */
export function createFactors({ run, runForOne, hadEffect }: Runs): FactorTable {
  return {
    async findFactors(userId) {
      const row = isUuid(userId) && (await runForOne(statements.findFactors, userId))
      return row ? factors.read(row) : undefined
    },
    changeFactors: async (change, end, audit) => {
      const { userId, raising, lowering } = change
      const values = [...changeValues(change), ...toldValues(audit, true)]
      if (!isUuid(userId) || (raising && !isUuid(raising.sessionId))) return false
      const isChanged = end
        ? await hadEffect(statements.changeFactorsAndEnd, ...recorded(end.now, end.expiresAt), ...values)
        : await hadEffect(statements.changeFactors, ...values)
      // A session that the factor has opened or raised while this waited for it is not in the snapshot of the change.
      if (isChanged && lowering !== undefined)
        await Promise.all([
          run(statements.lowerBrowserSessions, userId, lowering),
          run(statements.lowerSessions, userId, lowering),
        ])
      return isChanged
    },
    raiseSession: async (raised, taking, audit) =>
      isUuid(raised.sessionId) &&
      (await hadEffect(
        statements.raiseSession,
        ...raisedValues(raised),
        ...takingValues(taking),
        ...toldValues(audit, true),
      )),
    resealTotp: async (userId, expected, sealed) =>
      isUuid(userId) && (await hadEffect(statements.resealTotp, userId, ...[expected, sealed].map(secretMember))),
    removeFactors: async (userId) => void (isUuid(userId) && (await run(statements.removeFactors, userId))),
  }
}

/** Removes factors whose user is gone: put there in the moment of that, or left by a release that did not know of them. */
export function sweepFactors({ runForOne }: Runs): SweepStage {
  return {
    sweep: (step: SweepStep, position: string | undefined) =>
      runForOne<SweptRow & { user_id: string }>(statements.sweepFactors, step.limit, uuidOrNull(position) ?? firstUuid),
    position: ({ user_id }: { user_id: string }) => user_id,
  }
}
