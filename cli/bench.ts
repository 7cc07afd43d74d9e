import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { svgOf } from '../bench/chart.ts'
import { compare, comparisonText, differences, readResult } from '../bench/compare.ts'
import { type BenchOptions, type FigureName, figureNames } from '../bench/options.ts'
import { endingAll } from '../bench/processes.ts'
import { documentOf, textOf } from '../bench/report.ts'
import { type BenchResult, type BenchSettings, runBench } from '../bench/run.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import type { Output } from './output.ts'
import { readPlace, readSettings } from './places.ts'

interface BenchArguments extends Partial<Omit<BenchOptions, 'seconds'>> {
  duration?: number
  databaseUrlEnv?: string
  svg?: string
  /** an earlier run, and another, which is then not made */
  compare?: string[]
}

/** Two runs that say nothing of each other. */
const incomparable = 2
const usual = { duration: 3, rounds: 3, connections: 32 }

/**
 * `latchkey bench`: measures, and compares with what was measured before.
 *
 * @returns the exit code: 1 when there were errors among the answers, or something is worse than before
 */
export async function bench({ env }: Io, options: Options, output: Output): Promise<number> {
  const args = options as BenchArguments
  const [earlierPath, otherPath, ...more] = args.compare ?? []
  if (more.length > 0) throw new CommandError('--compare: expected one file, or two', exitCodes.usage)
  const earlier = earlierPath === undefined ? undefined : { path: earlierPath, ...readRun(earlierPath) }
  const checkSettings = (settings: BenchSettings) => {
    const different = earlier ? differences(earlier.result.settings, settings) : []
    if (different.length > 0)
      throw new CommandError(`It cannot be compared with ${earlier?.path}. ${different.join('; ')}`, incomparable)
  }

  let result: BenchResult
  if (otherPath === undefined) result = await measure(args, env, output, checkSettings, earlier?.result)
  else {
    const given = Object.keys(args).find((name) => !['compare', 'json', 'svg'].includes(name))
    if (given !== undefined)
      throw new CommandError('--compare with two files measures nothing: without other options', exitCodes.usage)
    result = readRun(otherPath).result
    checkSettings(result.settings)
  }

  const comparison = earlier && compare(earlier.result, result)
  if (comparison?.figures.length === 0)
    throw new CommandError(`It cannot be compared with ${earlierPath}: no figure is in both`, incomparable)
  if (args.svg !== undefined) writeFileSync(args.svg, svgOf(result))
  if (output.isJson) output.print(JSON.stringify({ ...documentOf(result), ...(comparison && { comparison }) }))
  else
    output.print(
      [
        ...(otherPath === undefined ? [textOf(result)] : []),
        ...(earlier && comparison ? [comparisonText(basename(earlier.path), earlier.result, result, comparison)] : []),
      ].join('\n\n'),
    )
  return hasErrors(result) || comparison?.isWorse ? exitCodes.problems : exitCodes.fine
}

const hasErrors = ({ figures }: BenchResult) =>
  figures.some((figure) => [figure, ...figure.ceilings].some(({ errors }) => errors > 0))

function readRun(path: string): { result: BenchResult } {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new CommandError(`--compare: ${(error as Error).message}`, incomparable)
  }
  const result = readResult(text)
  if (result) return { result }
  throw new CommandError(`--compare: expected what latchkey bench --json prints, got ${path}`, incomparable)
}

/** @param earlier is measured again, but for what the options say */
async function measure(
  args: BenchArguments,
  env: Io['env'],
  output: Output,
  onSettings: (settings: BenchSettings) => void,
  earlier?: BenchResult,
): Promise<BenchResult> {
  const { url } = args
  const databaseUrl = readDatabaseUrl(args, env)
  if (url !== undefined && (databaseUrl !== undefined || args.workers !== undefined)) {
    throw new CommandError('--url measures a service as it runs: without --workers and --database-url', exitCodes.usage)
  }
  if (url !== undefined && !/^https?:\/\/[^/]+/.test(url))
    throw new CommandError(`--url: expected http://… or https://…, got ${url}`, exitCodes.usage)

  const { duration, ...others } = { ...usual, ...(earlier && optionsOf(earlier)), ...args }
  const result = await endingAll(() =>
    runBench(
      { ...others, seconds: duration, ...(databaseUrl !== undefined && { databaseUrl }) },
      (line) => output.progress(line),
      onSettings,
    ),
  )
  output.endProgress()
  return result
}

/** The options that a run was made with. */
function optionsOf({ settings, figures }: BenchResult) {
  const { rounds, connections, secondsEach, workers } = settings
  const known = new Set<string>(figureNames)
  return {
    duration: secondsEach * rounds,
    rounds,
    connections,
    only: figures.map(({ name }) => name).filter((name): name is FigureName => known.has(name)),
    ...(workers !== '1' && workers !== 'unknown' && { workers }),
  }
}

function readDatabaseUrl({ databaseUrl, databaseUrlEnv }: BenchArguments, env: Io['env']): string | undefined {
  const text = databaseUrlEnv === undefined ? databaseUrl : `pg:${databaseUrlEnv}`
  if (text === undefined) return undefined
  const place = readPlace(text, readSettings({}), env)
  if (place.kind !== 'pg') throw new CommandError('--database-url: expected postgres://…', exitCodes.usage)
  return place.url
}
