import type { FailureKey, Failures, Held } from '../../domain/failures.ts'

/** What is asked of the counts of failed logins. */
export interface FailureTable {
  /** @returns what is counted under each key for its tag, in the order of the keys */
  findFailures(keys: FailureKey[]): Promise<(Failures | undefined)[]>
  /**
   * Counts one failure under each key. A row of another tag is taken over and begins at one, unless it is held.
   *
   * @param keys none of them twice
   * @param held see {@link isHeld}; no row is, when not given
   * @returns the counts after it, in the order of the keys; undefined where the row is held for another tag
   */
  recordFailure(keys: FailureKey[], now: number, held?: Held): Promise<(Failures | undefined)[]>
  /** Sets the last failure to `now` where it lies ahead of it. The count stays. */
  capFailures(keys: FailureKey[], now: number): Promise<void>
  clearFailures(keys: FailureKey[]): Promise<void>
}
