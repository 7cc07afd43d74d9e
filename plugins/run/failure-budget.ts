import type { AuditRow } from '../../domain/audit.ts'
import type { Store } from '../../stores/store.ts'

/** What strangers can provoke without end. */
const failureEvents = new Set([
  'login.failed',
  'login.throttled',
  'passkey.cloned',
  'client.refused',
  'password.forgotten',
])

const minuteMs = 60_000
/** Of all processes together: a process takes a grant of rows from the store, a hundred of which are a minute's. */
const rowsOfGrant = 10
const grantsAMinute = 100
/** A row of `failures`, beside those of the throttle. */
const grants = 'audit'

/**
 * Bounds the rows of failed logins to 1,000 a minute, of all replicas and workers together, so that a storm of guesses
 * fills no disk. What comes beyond is counted.
 */
export function createFailureBudget(store: Pick<Store, 'recordFailure'>, now: () => number) {
  let minute = 0
  let left = 0
  let isSpent = false
  let uncountedSince = 0
  /** by event */
  let uncounted = new Map<string, number>()

  async function take(): Promise<boolean> {
    const current = Math.floor(now() / minuteMs)
    if (current !== minute) [minute, left, isSpent] = [current, 0, false]
    if (left === 0 && !isSpent) {
      const [granted] = await store.recordFailure([{ key: grants, tag: String(current) }], now())
      if ((granted?.count ?? 0) > grantsAMinute) isSpent = true
      else left = rowsOfGrant
    }
    if (isSpent) return false
    left -= 1
    return true
  }

  return {
    /**
     * The rows that are to be written: all but failures beyond the bound.
     *
     * @throws {StoreUnavailable} and then has counted none, for they come again
     */
    async keepOf(rows: AuditRow[]): Promise<AuditRow[]> {
      const kept: AuditRow[] = []
      const beyond: AuditRow[] = []
      for (const row of rows) {
        const isKept = row.detail?.['count'] !== undefined || !failureEvents.has(row.event) || (await take())
        if (isKept) kept.push(row)
        else beyond.push(row)
      }
      for (const { event } of beyond) {
        if (uncounted.size === 0) uncountedSince = minute
        uncounted.set(event, (uncounted.get(event) ?? 0) + 1)
      }
      return kept
    },
    /** How many of each event were not kept, once their minute is over. @param isOver whatever the time is */
    takeUncounted(isOver: boolean): Map<string, number> {
      if (!isOver && uncountedSince === Math.floor(now() / minuteMs)) return new Map()
      const taken = uncounted
      uncounted = new Map()
      return taken
    },
  }
}
