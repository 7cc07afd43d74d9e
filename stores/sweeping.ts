import type { SessionLimits } from '../domain/session.ts'

/**
 * The tables whose rows expire, or go with those of another table, in the order in which they are swept: sessions after
 * the browser sessions that they end with.
 */
export const sweptTables = [
  ...(['browserSessions', 'sessions', 'failures', 'revocations', 'records', 'factors', 'consents', 'audit'] as const),
] as const
export type SweptTable = (typeof sweptTables)[number]

/** Housekeeping, in small steps. */
export interface Sweeping {
  /**
   * Removes expired rows, a small batch a call. Times that lie in the future are set to now: a clock that was ahead
   * must not prolong a life.
   * @returns how many rows of which table went, and where the next call goes on (undefined: a round is complete)
   */
  sweep(sweep: SweepStep): Promise<{ table: SweptTable; removed: number; cursor?: string }>
}

/** What is deleted is judged by `now`, which should be no later than time has passed (`createSteadyClock`). */
export interface SweepStep extends SessionLimits {
  /** of the clock as it is: times beyond it lie in the future; `now` when not given */
  clockNow?: number
  /** of a rotation, which must not begin anew when its time is put right */
  graceMs?: number
  /** counters with no failure since are forgotten */
  failuresBefore: number
  /** revocations that end by then are forgotten; `now` when not given */
  revocationsBefore?: number
  /** audit rows from before that are forgotten; none when not given */
  auditBefore?: number
  cursor?: string
  /** most rows looked at */
  limit: number
}

/** What times in the future are set to by a sweep. */
export const clockOf = ({ now, clockNow = now }: SweepStep): number => clockNow

/** The same for that of a rotation. */
export const beforeGrace = (step: SweepStep): number => clockOf(step) - (step.graceMs ?? 0) - 1

/** The same for that of a sign-in: as of now it would be fresh, and nothing shows that it is. */
export const longAgo = 0
