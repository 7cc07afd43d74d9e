import { isUuid } from '../../../domain/ids.ts'
import type { SweepStep } from '../../sweeping.ts'
import type { ConsentTable } from '../../tables/consents.ts'
import { tables } from '../columns.ts'
import { plan, prepare, type Runs } from '../statement.ts'
import { type SweepStage, type SweptRow, sweeping } from '../sweep.ts'
import { telling, toldValues } from '../telling.ts'
import { firstUuid, uuidOrNull } from '../uuids.ts'

const { consents } = tables

const prepared = prepare({
  findConsents: `SELECT ${consents.list} FROM latchkey_consents WHERE user_id = $1`,
  changeConsents: telling(
    4,
    `
    INSERT INTO latchkey_consents AS c (${consents.list})
    SELECT u.id, $2::text, $3::bigint + 1 FROM latchkey_users u
    WHERE u.id = $1::uuid AND ($3::bigint = 0 OR EXISTS (
      SELECT 1 FROM latchkey_consents k WHERE k.user_id = $1::uuid AND k.version = $3::bigint))
    ON CONFLICT (user_id) DO UPDATE SET ${consents.excluded}
    WHERE c.version = $3::bigint`,
    'user_id',
  ),
  removeConsents: 'DELETE FROM latchkey_consents WHERE user_id = $1',
})

const planned = plan({
  sweepConsents: sweeping(
    'latchkey_consents',
    'user_id',
    '$2::uuid',
    'NOT EXISTS (SELECT 1 FROM latchkey_users u WHERE u.id = t.user_id)',
  ),
})

export const statements = { ...prepared, ...planned }

/** What users have allowed apps, in the PostgreSQL store. */
export function createConsents({ run, runForOne, hadEffect }: Runs): ConsentTable {
  return {
    async findConsents(userId) {
      const row = isUuid(userId) && (await runForOne(statements.findConsents, userId))
      return row ? consents.read(row) : undefined
    },
    changeConsents: async ({ userId, expectedVersion, next }, audit) =>
      isUuid(userId) &&
      hadEffect(statements.changeConsents, userId, JSON.stringify(next), expectedVersion, ...toldValues(audit, true)),
    removeConsents: async (userId) => void (isUuid(userId) && (await run(statements.removeConsents, userId))),
  }
}

/** Removes what users have allowed who are gone: put there in the moment of that. */
export function sweepConsents({ runForOne }: Runs): SweepStage {
  return {
    sweep: (step: SweepStep, position: string | undefined) =>
      runForOne<SweptRow & { user_id: string }>(
        statements.sweepConsents,
        step.limit,
        uuidOrNull(position) ?? firstUuid,
      ),
    position: ({ user_id }: { user_id: string }) => user_id,
  }
}
