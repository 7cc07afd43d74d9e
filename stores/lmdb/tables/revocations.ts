import type { Transaction } from 'lmdb'
import { namesOne, type Revocation } from '../../../domain/revocation.ts'
import type { SweepStep } from '../../sweeping.ts'
import { type RevocationPage, type RevocationTable, revocationsPerPage } from '../../tables/revocations.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import type { Stage } from '../sweep.ts'

/** LMDB refuses long keys. Our ids have 60 characters at most. */
const longestId = 500

/** The key of a revocation in the index; undefined for one that is not in it. */
export const byIdKey = (revocation: Revocation): string | undefined =>
  namesOne(revocation) && revocation.id.length <= longestId ? `${revocation.kind}:${revocation.id}` : undefined

/** The rows of revocations, with their index. All but `since` only inside a transaction. */
export function createRevocationRows({ revocations, revocationsById, counters }: Databases) {
  return {
    /**
     * Numbers a revocation. The counter is kept apart from the rows: counted from the newest row, it would begin anew
     * once all were swept, behind the cursors of the followers. It follows the clock, so that a store that was restored
     * or copied is ahead of every cursor given out before.
     */
    record(revocation: Revocation): void {
      const number = Math.max((counters.get('revocations') ?? 0) + 1, revocation.revokedAt)
      counters.put('revocations', number)
      revocations.put(number, revocation)
      const key = byIdKey(revocation)
      if (key !== undefined) revocationsById.put(key, number)
    },

    /** Whether it is recorded already, and will be in force for as long as what it names can be alive. */
    isRecorded(revocation: Revocation): boolean {
      const key = byIdKey(revocation)
      const number = key === undefined ? undefined : revocationsById.get(key)
      const recorded = number === undefined ? undefined : revocations.get(number)
      return recorded !== undefined && recorded.expiresAt > revocation.revokedAt
    },

    remove(number: number, revocation: Revocation): void {
      revocations.remove(number)
      const key = byIdKey(revocation)
      if (key !== undefined && revocationsById.get(key) === number) revocationsById.remove(key)
    },

    /** @param transaction that reads of another moment than now */
    since(cursor: string | undefined, limit: number, transaction?: Transaction): RevocationPage {
      const moment = transaction && { transaction }
      // A cursor ahead of the counter is another store's, or older than a restore: send the whole list.
      const position = Number(cursor)
      const isOurs =
        Number.isSafeInteger(position) && position >= 0 && position <= (counters.get('revocations', moment) ?? 0)
      const start = isOurs ? position : 0
      const rows = [...revocations.getRange({ start: start + 1, limit: limit + 1, ...moment })]
      const page = rows.slice(0, limit)
      return {
        revocations: page.map(({ value }) => value),
        cursor: String(page.at(-1)?.key ?? start),
        more: rows.length > limit,
      }
    },
  }
}

/** The revocations of the embedded store. */
export function createRevocations(databases: Databases, { read, change }: Runs): RevocationTable {
  const { record, isRecorded, since } = createRevocationRows(databases)
  return {
    revoke: (revocation, audit) =>
      change(audit, () => {
        if (isRecorded(revocation)) return false
        record(revocation)
        return true
      }),
    revocationsSince: (cursor, limit = revocationsPerPage) => read(() => since(cursor, limit)),
  }
}

/** Removes revocations of tokens that have expired. */
export function sweepRevocations(databases: Databases): Stage {
  const { remove: removeRevocation } = createRevocationRows(databases)
  return {
    table: databases.revocations,
    isDue: ({ expiresAt }: Revocation, step: SweepStep) => expiresAt <= (step.revocationsBefore ?? step.now),
    sweep(number: number, revocation: Revocation) {
      removeRevocation(number, revocation)
      return true
    },
  }
}

/** What `store check` finds wrong with each entry. */
export function checkRevocations({ revocations, revocationsById, counters }: Databases): Check[] {
  return [
    checkOf('revocations', revocations, (number) => {
      if (!revocations.get(number)) return 'the row is empty'
      return number <= (counters.get('revocations') ?? 0) ? undefined : 'its number is still to be given out'
    }),
    // A row without an entry is one of before 0.3.0.
    checkOf('revocations_by_id', revocationsById, (key) => {
      const revocation = revocations.get(revocationsById.get(key) ?? 0)
      return revocation && byIdKey(revocation) === key ? undefined : 'the index entry has no revocation'
    }),
  ]
}
