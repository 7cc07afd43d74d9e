/* Rounds: every case is measured in turn, again and again, so that a disturbance of the machine meets all alike. */
import { type Measured, median } from './meter.ts'

export interface Case {
  title: string
  /** @returns undefined where it cannot be measured */
  run(seconds: number): Promise<Measured | undefined>
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
  const series = new Map<Case, Measured[]>()
  for (let round = 1; round <= rounds; round++) {
    for (const one of cases) {
      onCase(one.title, round)
      const measured = await one.run(seconds)
      if (measured) series.set(one, [...(series.get(one) ?? []), measured])
    }
  }
  return series
}

/** How much of another case's rate one has reached, round by round. */
export const ratios = (of: readonly Measured[], to: readonly Measured[]): number[] =>
  of.map(({ perSecond }, n) => perSecond / (to[n]?.perSecond ?? 0))

export const medianRatio = (of: readonly Measured[], to: readonly Measured[]): number => median(ratios(of, to))

export const errorsOf = (rounds: readonly Measured[] = []): number =>
  rounds.reduce((sum, { errors }) => sum + errors, 0)
