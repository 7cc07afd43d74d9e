import { writeFileSync } from 'node:fs'
import { svgOf } from '../bench/chart.ts'
import type { BenchOptions } from '../bench/options.ts'
import { endingAll } from '../bench/processes.ts'
import { documentOf, textOf } from '../bench/report.ts'
import { runBench } from '../bench/run.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import type { Output } from './output.ts'
import { readPlace, readSettings } from './places.ts'

interface BenchArguments extends Omit<BenchOptions, 'seconds'> {
  duration: number
  databaseUrlEnv?: string
  svg?: string
}

/**
 * `latchkey bench`: measures.
 *
 * @returns the exit code: 1 when there were errors among the answers
 */
export async function bench({ env }: Io, options: Options, output: Output): Promise<number> {
  const args = options as BenchArguments
  const { duration, workers, url, svg } = args
  const databaseUrl = readDatabaseUrl(args, env)
  if (url !== undefined && (databaseUrl !== undefined || workers !== undefined)) {
    throw new CommandError('--url measures a service as it runs: without --workers and --database-url', exitCodes.usage)
  }
  if (url !== undefined && !/^https?:\/\/[^/]+/.test(url))
    throw new CommandError(`--url: expected http://… or https://…, got ${url}`, exitCodes.usage)

  const result = await endingAll(() =>
    runBench({ ...args, seconds: duration, ...(databaseUrl !== undefined && { databaseUrl }) }, (line) =>
      output.progress(line),
    ),
  )
  output.endProgress()
  if (svg !== undefined) writeFileSync(svg, svgOf(result))
  output.print(output.isJson ? JSON.stringify(documentOf(result)) : textOf(result))
  const errors = result.figures
    .flatMap((figure) => [figure, ...figure.ceilings])
    .reduce((sum, line) => sum + line.errors, 0)
  return errors === 0 ? exitCodes.fine : exitCodes.problems
}

function readDatabaseUrl({ databaseUrl, databaseUrlEnv }: BenchArguments, env: Io['env']): string | undefined {
  const text = databaseUrlEnv === undefined ? databaseUrl : `pg:${databaseUrlEnv}`
  if (text === undefined) return undefined
  const place = readPlace(text, readSettings({}), env)
  if (place.kind !== 'pg') throw new CommandError('--database-url: expected postgres://…', exitCodes.usage)
  return place.url
}
