/* Rounds: every case is measured in turn, again and again, so that a disturbance of the machine meets all alike. */
import { type Measured, median } from './meter.ts'

export interface Case {
  title: string
  run(seconds: number): Promise<Measured>
}

/**
 * @param seconds for each case in each round
 * @param onCase is called before each measurement, with the number of the round from 1
 * @returns the figures of each case, one for each round
 */
export async function inRounds(
  cases: Iterable<Case>,
  rounds: number,
  seconds: number,
  onCase: (title: string, round: number) => void,
): Promise<Map<Case, Measured[]>> {
  const series = new Map<Case, Measured[]>(Array.from(cases, (one) => [one, []]))
  for (let round = 1; round <= rounds; round++) {
    for (const [one, measured] of series) {
      onCase(one.title, round)
      measured.push(await one.run(seconds))
    }
  }
  return series
}

/** The figures of several rounds as one; errors are added up. */
export function medianOf(rounds: readonly Measured[]): Measured {
  const of = (read: (one: Measured) => number) => median(rounds.map(read))
  return {
    perSecond: of(({ perSecond }) => perSecond),
    p50Ms: of(({ p50Ms }) => p50Ms),
    p99Ms: of(({ p99Ms }) => p99Ms),
    errors: rounds.reduce((sum, { errors }) => sum + errors, 0),
    ...(rounds.every(({ cpuUs }) => cpuUs !== undefined) && { cpuUs: of(({ cpuUs }) => cpuUs as number) }),
  }
}

/** How much of another case's rate one has reached, in each round. */
export const ratiosOf = (of: readonly Measured[], to: readonly Measured[]): number[] =>
  of.map(({ perSecond }, n) => perSecond / (to[n]?.perSecond ?? 0))

/** The same by CPU time; empty where the system does not tell it. */
export const ratiosByCpu = (of: readonly Measured[], to: readonly Measured[]): number[] =>
  of.flatMap(({ cpuUs }, n) => (cpuUs && to[n]?.cpuUs !== undefined ? [to[n].cpuUs / cpuUs] : []))

export const medianRatio = (of: readonly Measured[], to: readonly Measured[]): number => median(ratiosOf(of, to))
