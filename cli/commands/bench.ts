import { InvalidArgumentError } from 'commander'
import { type FigureName, figureNames } from '../../bench/options.ts'
import type { FreeCommand } from '../command.ts'

const help = `
Figures: ${figureNames.join(', ')}

With --url, an account is created for the run and deleted at its end. LATCHKEY_USERNAME and LATCHKEY_PASSWORD name
another, whose sessions all end; LATCHKEY_CLIENT_ID and LATCHKEY_CLIENT_SECRET name a confidential client.

With --compare, the figures of the earlier run are measured again, with its options. The exit code is 1 where
something got worse beyond noise, and 2 where the runs cannot be compared. See docs/benchmarks.md.`

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

export const bench: FreeCommand = {
  usage: 'bench',
  about: 'measure the service on this machine, beside what its parts can do alone',
  options: {
    '--duration <seconds>': {
      about: 'for each figure and ceiling, over all rounds (3)',
      parse: positive,
    },
    '--rounds <number>': {
      about: 'measurements of each; medians are reported (3)',
      parse: wholeNumber,
    },
    '--connections <number>': { about: 'concurrent requests (32)', parse: wholeNumber },
    '--only <names>': { about: 'figures, separated by commas', parse: names },
    '--workers <number>': 'AUTH_WORKERS: a number of processes, or auto',
    '--database-url-env <name>': 'PostgreSQL at the URL in this environment variable',
    '--database-url <url>': 'PostgreSQL at a URL without a password (PGPASSWORD may hold it)',
    '--url <url>': 'a running service, instead of a temporary one',
    '--svg <file>': 'write a chart',
    '--compare <files...>': 'an earlier run, as --json printed it; with a second file, two runs without a new one',
  },
  help,
  run: async (io, options, output) => (await import('../bench.ts')).bench(io, options, output),
}
