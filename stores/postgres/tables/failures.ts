import { type FailureKey, type Failures, noneHeld } from '../../../domain/failures.ts'
import { futureFrom } from '../../../domain/time.ts'
import { clockOf, type SweepStep } from '../../sweeping.ts'
import type { FailureTable } from '../../tables/failures.ts'
import { type Fields, tables } from '../columns.ts'
import { plan, prepare, type Runs } from '../statement.ts'
import { type SweepStage, type SweptRow, sweeping } from '../sweep.ts'

const { failures } = tables

/** Locked in the order of the keys: two calls with the same keys in another order would wait for each other. */
const lockedFailures = `
      SELECT f.key FROM latchkey_failures f
      WHERE f.key = ANY($1::text[])
        AND EXISTS (
          SELECT 1 FROM unnest($1::text[], $2::text[]) AS k (key, tag)
          WHERE k.key = f.key AND k.tag IS NOT DISTINCT FROM f.tag)
      ORDER BY f.key FOR UPDATE`

const prepared = prepare({
  findFailures: `SELECT ${failures.list} FROM latchkey_failures WHERE key = ANY($1::text[])`,
  // In the order of the keys, as `lockedFailures`.
  recordFailure: `
    INSERT INTO latchkey_failures AS f (key, tag, count, last_at)
    SELECT k.key, k.tag, 1, $3::bigint FROM unnest($1::text[], $2::text[]) AS k (key, tag) ORDER BY k.key
    ON CONFLICT (key) DO UPDATE SET
      count = CASE WHEN f.tag IS NOT DISTINCT FROM excluded.tag THEN f.count + 1 ELSE 1 END,
      last_at = excluded.last_at, tag = excluded.tag
    WHERE f.tag IS NOT DISTINCT FROM excluded.tag
      OR f.count < $4::bigint OR f.last_at < $5::bigint OR f.last_at > $6::bigint
    RETURNING ${failures.list}`,
  capFailures: `
    UPDATE latchkey_failures SET last_at = $3::bigint
    WHERE last_at > $3::bigint AND key IN (${lockedFailures})`,
  clearFailures: `DELETE FROM latchkey_failures WHERE key IN (${lockedFailures})`,
})

const planned = plan({
  sweepFailures: sweeping('latchkey_failures', 'key', '$2::text', 't.last_at < $3::bigint', 'last_at > $4::bigint'),
  putFailuresRight: `
    UPDATE latchkey_failures SET last_at = $3::bigint
    WHERE key > $1::text AND key <= $2::text AND last_at > $4::bigint`,
})

export const statements = { ...prepared, ...planned }

/** Counts of failed logins in the PostgreSQL store. */
export function createFailures({ run }: Runs): FailureTable {
  return {
    async findFailures(keys) {
      const rows = await run<Fields>(
        statements.findFailures,
        keys.map(({ key }) => key),
      )
      return countsOf(keys, rows)
    },
    recordFailure: async (keys, now, held = noneHeld) =>
      countsOf(
        keys,
        await run(statements.recordFailure, ...keysAndTags(keys), now, held.count, held.since, held.until),
      ),
    capFailures: async (keys, now) => void (await run(statements.capFailures, ...keysAndTags(keys), now)),
    clearFailures: async (keys) => void (await run(statements.clearFailures, ...keysAndTags(keys))),
  }
}

/** As two arrays, for `unnest`. */
const keysAndTags = (keys: FailureKey[]) => [keys.map(({ key }) => key), keys.map(({ tag }) => tag ?? null)]

function countsOf(keys: FailureKey[], rows: Fields[]): (Failures | undefined)[] {
  const byKey = new Map<string, Failures>()
  for (const { key, ...counted } of rows.map(failures.read)) byKey.set(key, counted)
  return keys.map(({ key, tag }) => {
    const failures = byKey.get(key)
    return failures?.tag === tag ? failures : undefined
  })
}

/** Forgets counts that are old. */
export function sweepFailures({ run, runForOne }: Runs): SweepStage {
  return {
    sweep: async (step: SweepStep, after = '') => {
      const { limit, failuresBefore } = step
      const future = futureFrom(clockOf(step))
      const row = await runForOne<SweptRow>(statements.sweepFailures, limit, after, failuresBefore, future)
      if (row && row.ahead > 0) await run(statements.putFailuresRight, after, row.key, clockOf(step), future)
      return row
    },
    position: ({ key }: SweptRow) => key,
  }
}
