import { writeFileSync } from 'node:fs'
import { type Command, InvalidArgumentError } from 'commander'
import { endingAll } from '../bench/processes.ts'
import { documentOf, svgOf, textOf } from '../bench/report.ts'
import { type FigureName, figureNames, runBench } from '../bench/run.ts'
import { CommandError, exitCodes } from './exit.ts'
import { createOutput } from './output.ts'
import { readPlace, readSettings } from './places.ts'

interface Options {
  duration: number
  rounds: number
  connections: number
  only?: FigureName[]
  workers?: string
  databaseUrl?: string
  databaseUrlEnv?: string
  url?: string
  svg?: string
  json?: true
}

const help = `
What can be measured: ${figureNames.join(', ')}

With --url, an account is made for the run and removed at its end, or that of LATCHKEY_USERNAME and LATCHKEY_PASSWORD is used,
whose sessions all end; a confidential client comes by LATCHKEY_CLIENT_ID and LATCHKEY_CLIENT_SECRET. See docs/benchmarks.md.`

/** `latchkey bench` */
export function addBenchCommand(program: Command): void {
  program
    .command('bench')
    .description('measure how fast the service is here, beside what its parts can do by themselves')
    .option('--duration <seconds>', 'for each figure and each ceiling, all rounds together', positive, 3)
    .option('--rounds <number>', 'how often each is measured; medians are reported', wholeNumber, 3)
    .option('--connections <number>', 'requests under way at once', wholeNumber, 32)
    .option('--only <names>', 'some of the figures, with commas between them', names)
    .option('--workers <number>', 'processes of the service, or auto: AUTH_WORKERS')
    .option('--database-url-env <name>', 'on PostgreSQL, at the URL in this environment variable')
    .option('--database-url <url>', 'on PostgreSQL, at a URL without a password (it may be in PGPASSWORD)')
    .option('--url <url>', 'a service that runs, rather than one of its own')
    .option('--svg <file>', 'write a chart')
    .option('--json', 'one JSON document')
    .addHelpText('after', help)
    .action(bench)
}

/** Measures. The exit code is 1 when there were errors among the answers. */
async function bench(options: Options): Promise<void> {
  const output = createOutput(options.json === true)
  const { duration, rounds, connections, only, workers, url } = options
  const databaseUrl = readDatabaseUrl(options)
  if (url !== undefined && (databaseUrl !== undefined || workers !== undefined)) {
    throw new CommandError('--url measures a service as it runs: without --workers and --database-url', exitCodes.usage)
  }
  if (url !== undefined && !/^https?:\/\/[^/]+/.test(url))
    throw new CommandError(`--url: expected http://… or https://…, got ${url}`, exitCodes.usage)

  const result = await endingAll(() =>
    runBench(
      {
        ...{ seconds: duration, rounds, connections },
        ...(only && { only }),
        ...(workers !== undefined && { workers }),
        ...(databaseUrl !== undefined && { databaseUrl }),
        ...(url !== undefined && { url }),
      },
      (line) => output.progress(line),
    ),
  )
  output.endProgress()
  if (options.svg !== undefined) writeFileSync(options.svg, svgOf(result))
  output.print(output.isJson ? JSON.stringify(documentOf(result)) : textOf(result))
  const errors = result.figures
    .flatMap((figure) => [figure, ...figure.ceilings])
    .reduce((sum, line) => sum + line.errors, 0)
  process.exitCode = errors === 0 ? exitCodes.fine : exitCodes.problems
}

function readDatabaseUrl({ databaseUrl, databaseUrlEnv }: Options): string | undefined {
  const text = databaseUrlEnv === undefined ? databaseUrl : `pg:${databaseUrlEnv}`
  if (text === undefined) return undefined
  const place = readPlace(text, readSettings({}), process.env)
  if (place.kind !== 'pg') throw new CommandError('--database-url: expected postgres://…', exitCodes.usage)
  return place.url
}

function positive(text: string): number {
  const value = Number(text)
  if (!(value > 0 && value <= 3_600)) throw new InvalidArgumentError('expected seconds, above 0 and up to 3600')
  return value
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError('expected a whole number from 1 to 9999')
  return Number(text)
}

function names(text: string): FigureName[] {
  const given = text.split(',').map((name) => name.trim())
  const unknown = given.find((name) => !figureNames.some((known) => known === name))
  if (unknown !== undefined)
    throw new InvalidArgumentError(`expected some of ${figureNames.join(', ')}, got ${unknown}`)
  return given as FigureName[]
}
