import { type FailureKey, type Failures, isHeld, noneHeld } from '../../../domain/failures.ts'
import { isFuture } from '../../../domain/time.ts'
import { clockOf, type SweepStep } from '../../sweeping.ts'
import type { FailureTable } from '../../tables/failures.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import type { Stage } from '../sweep.ts'

/** Counts of failed logins in the embedded store. */
export function createFailures({ failures }: Databases, { read, write }: Runs): FailureTable {
  function failuresOf({ key, tag }: FailureKey): Failures | undefined {
    const row = failures.get(key)
    return row?.tag === tag ? row : undefined
  }

  return {
    findFailures: (keys) => read(() => keys.map(failuresOf)),
    recordFailure: (keys, now, held = noneHeld) =>
      write(() =>
        keys.map(({ key, tag }) => {
          const before = failures.get(key)
          if (before && before.tag !== tag && isHeld(before, held)) return undefined
          const next = {
            count: (before?.tag === tag ? (before?.count ?? 0) : 0) + 1,
            lastAt: now,
            ...(tag !== undefined && { tag }),
          }
          failures.put(key, next)
          return next
        }),
      ),
    capFailures: (keys, now) =>
      write(() => {
        for (const of of keys) {
          const row = failuresOf(of)
          if (row && row.lastAt > now) failures.put(of.key, { ...row, lastAt: now })
        }
      }),
    clearFailures: (keys) =>
      write(() => {
        for (const of of keys) if (failuresOf(of)) failures.remove(of.key)
      }),
  }
}

/** Forgets counts that are old. */
export function sweepFailures({ failures }: Databases): Stage {
  return {
    table: failures,
    isDue: ({ lastAt }: Failures, step: SweepStep) => lastAt < step.failuresBefore || isFuture(lastAt, clockOf(step)),
    sweep(key: string, failed: Failures, step: SweepStep) {
      const isOld = failed.lastAt < step.failuresBefore
      if (isOld) failures.remove(key)
      else failures.put(key, { ...failed, lastAt: clockOf(step) })
      return isOld
    },
  }
}

/** What `store check` finds wrong with each entry. */
export function checkFailures({ failures }: Databases): Check[] {
  return [checkOf('failures', failures, (key) => (failures.get(key) ? undefined : 'the row is empty'))]
}
