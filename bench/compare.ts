/*
 * Two runs beside each other, by what each figure reached of its ceiling. A ceiling is measured in the same rounds, so
 * a machine that was slower then and faster now has changed both.
 */
import { quantile } from './meter.ts'
import { type FigureName, figureNames } from './options.ts'
import { columns, type Floor, floorsOf, floorsText, ratioText } from './report.ts'
import { ratiosByCpu, ratiosOf } from './rounds.ts'
import type { BenchResult, BenchSettings, CeilingLine, FigureLine } from './run.ts'

/** A ratio in the rounds of one run. */
interface Spread {
  median: number
  least: number
  most: number
}
export interface Change {
  before: Spread
  now: Spread
  /** 0.1 is a tenth more of the ceiling */
  change: number
  verdict: 'better' | 'worse' | 'the same'
}
export interface ComparedFigure {
  name: FigureName
  title: string
  ceiling: string
  byRate: Change
  byCpu?: Change
}
export interface Comparison {
  /** what the reader of the figures should know */
  warnings: string[]
  figures: ComparedFigure[]
  /** that held before, and are missed now */
  lostFloors: Floor[]
  isWorse: boolean
}

/** Two runs of one build on one machine have differed by as much. */
const sameWithin = 0.05
/** Of fewer rounds it cannot be told how far they spread. */
export const leastRounds = 3
/** A machine with more to do for each core, before a run, is busy with something else. */
const quietLoad = 0.5

/**
 * Reads what `latchkey bench --json` printed.
 *
 * @returns undefined when the text is something else
 */
export function readResult(text: string): BenchResult | undefined {
  const isLine = (line: FigureLine | CeilingLine) => typeof line.title === 'string' && Array.isArray(line.rounds)
  try {
    const result: BenchResult = JSON.parse(text)
    const { settings, machine, service, figures } = result
    const isWhole = [settings.store, settings.algorithm, machine.processor, typeof service].every(Boolean)
    return isWhole && figures.every((one) => isLine(one) && one.ceilings.every(isLine)) ? result : undefined
  } catch {
    return undefined
  }
}

/** @returns the settings that make two runs something else, with their values; none where they can be compared */
export function differences(before: BenchSettings, now: BenchSettings): string[] {
  const { argon2: hashesBefore, ...ownBefore } = before
  const { argon2: hashesNow, ...ownNow } = now
  const pairs: [name: string, before: unknown, now: unknown][] = [
    ['store', ownBefore.store, ownNow.store],
    ['workers', ownBefore.workers, ownNow.workers],
    ['connections', ownBefore.connections, ownNow.connections],
    ['signing algorithm', ownBefore.algorithm, ownNow.algorithm],
    ['argon2 memory', hashesBefore?.memory, hashesNow?.memory],
    ['argon2 passes', hashesBefore?.passes, hashesNow?.passes],
    ['argon2 lanes', hashesBefore?.lanes, hashesNow?.lanes],
    ['hashes at once', hashesBefore?.atOnce, hashesNow?.atOnce],
    ['build of argon2', hashesBefore?.build, hashesNow?.build],
  ]
  const different = pairs.filter(([, one, other]) => one !== other)
  const few = [ownBefore.rounds, ownNow.rounds].find((rounds) => rounds < leastRounds)
  return [
    ...different.map(([name, one, other]) => `${name}: ${one ?? 'unknown'} before, ${other ?? 'unknown'} now`),
    ...(few === undefined ? [] : [`rounds: ${few}, where ${leastRounds} are needed to tell how far they spread`]),
  ]
}

/** @param before and now have no `differences` */
export function compare(before: BenchResult, now: BenchResult): Comparison {
  const figures = now.figures.flatMap((figure) => {
    const earlier = before.figures.find(({ name }) => name === figure.name)
    return earlier ? compareFigure(earlier, figure) : []
  })
  const floorsBefore = floorsOf(before)
  const held = (what: string) => floorsBefore.some((floor) => floor.what === what && floor.holds)
  const lostFloors = floorsOf(now).filter(({ what, holds }) => !holds && held(what))
  return {
    warnings: warningsOf(before, now, figures),
    figures,
    lostFloors,
    isWorse: figures.some(isWorse) || lostFloors.length > 0,
  }
}

const isWorse = ({ byRate, byCpu }: ComparedFigure) => byRate.verdict === 'worse' || byCpu?.verdict === 'worse'

/** By the first ceiling, which is the one that counts. */
function compareFigure(before: FigureLine, now: FigureLine): ComparedFigure[] {
  const ceiling = now.ceilings[0]
  const earlier = before.ceilings.find(({ title }) => title === ceiling?.title)
  if (!ceiling || !earlier) return []
  const change = (ratios: typeof ratiosOf) => {
    const [one, other] = [ratios(before.rounds, earlier.rounds), ratios(now.rounds, ceiling.rounds)]
    return one.length > 0 && other.length > 0 ? changeOf(one, other) : undefined
  }
  const [byRate, byCpu] = [change(ratiosOf), change(ratiosByCpu)]
  const { name, title } = now
  return byRate ? [{ name, title, ceiling: ceiling.title, byRate, ...(byCpu && { byCpu }) }] : []
}

/** Beyond noise is more than two runs of one build differ by, with no round of one among those of the other. */
export function changeOf(ratiosBefore: number[], ratiosNow: number[]): Change {
  const spread = (ratios: number[]): Spread => ({
    median: quantile(ratios, 0.5),
    least: Math.min(...ratios),
    most: Math.max(...ratios),
  })
  const [before, now] = [spread(ratiosBefore), spread(ratiosNow)]
  const change = now.median / before.median - 1
  const isApart = now.most < before.least || now.least > before.most
  const isBeyondNoise = isApart && Math.abs(change) > sameWithin
  return { before, now, change, verdict: !isBeyondNoise ? 'the same' : change < 0 ? 'worse' : 'better' }
}

function warningsOf(before: BenchResult, now: BenchResult, figures: ComparedFigure[]): string[] {
  const machines = (['processor', 'cores', 'platform', 'node'] as const).filter(
    (name) => before.machine[name] !== now.machine[name],
  )
  const words = machines.map((name) => `${name}: ${before.machine[name]} before, ${now.machine[name]} now`)
  const isBusy = ({ machine }: BenchResult) => machine.loadBefore > quietLoad * machine.cores
  const busy = [...(isBusy(before) ? ['before the earlier run'] : []), ...(isBusy(now) ? ['before this one'] : [])]
  const compared = new Set<string>(figures.map(({ name }) => name))
  const missing = figureNames.filter(
    (name) => !compared.has(name) && [before, now].some((one) => one.figures.some((figure) => figure.name === name)),
  )
  return [
    ...(words.length > 0 ? [`Not on the same machine, so the ratios are a hint only. ${words.join('; ')}.`] : []),
    ...(busy.length > 0 ? [`The machine had other work ${busy.join(' and ')}: measure again when it is quiet.`] : []),
    ...(missing.length > 0 ? [`Not in both runs, with the same ceiling: ${missing.join(', ')}.`] : []),
  ]
}

/** The comparison for people. @param name of the earlier run */
export function comparisonText(name: string, before: BenchResult, now: BenchResult, comparison: Comparison): string {
  const { figures, warnings, lostFloors } = comparison
  const cells = (title: string, { before, now, change, verdict }: Change) => [
    title,
    ...[before, now].flatMap(({ median, least, most }) => [
      ratioText(median),
      `${ratioText(least)} to ${ratioText(most)}`,
    ]),
    `${change < 0 ? '−' : '+'}${Math.abs(100 * change).toFixed(1)} %`,
    { better: '✓ better', worse: '✗ worse', 'the same': 'the same' }[verdict],
  ]
  const rows = figures.flatMap(({ title, ceiling, byRate, byCpu }) => [
    cells(`${title}, of ${ceiling}`, byRate),
    ...(byCpu ? [cells('  by CPU', byCpu)] : []),
  ])
  const floors = floorsOf(now)
  const worse = figures.filter((one) => isWorse(one)).map(({ title }) => title)
  const verdict = [
    worse.length > 0 ? `Worse beyond noise: ${worse.join(', ')}.` : 'Nothing is worse beyond noise.',
    ...(lostFloors.length > 0
      ? [`Floors that held before, and are missed now: ${lostFloors.map((floor) => floor.what).join('; ')}.`]
      : []),
  ]
  const versionOf = ({ version, at }: BenchResult) => `${version === undefined ? '' : `${version}, `}${at.slice(0, 10)}`
  return [
    `Beside ${name} (${versionOf(before)}): what each figure reached of its ceiling, and in which rounds`,
    '',
    columns([['', 'before', 'rounds', 'now', 'rounds', 'change', ''], ...rows]),
    ...(floors.length > 0 ? ['', 'Floors, before and now', floorsText(floors, floorsOf(before))] : []),
    ...(warnings.length > 0 ? ['', ...warnings] : []),
    '',
    verdict.join(' '),
  ].join('\n')
}
