import { InvalidArgumentError } from 'commander'
import { type FigureName, figureNames } from '../../bench/options.ts'
import type { FreeCommand } from '../command.ts'

const help = `
Figures: ${figureNames.join(', ')}

With --url, an account is created for the run and deleted at its end. LATCHKEY_USERNAME and LATCHKEY_PASSWORD name
another, whose sessions all end; LATCHKEY_CLIENT_ID and LATCHKEY_CLIENT_SECRET name a confidential client.
See docs/benchmarks.md.`

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
      about: 'for each figure and ceiling, over all rounds',
      parse: positive,
      value: 3,
    },
    '--rounds <number>': {
      about: 'measurements of each; medians are reported',
      parse: wholeNumber,
      value: 3,
    },
    '--connections <number>': { about: 'concurrent requests', parse: wholeNumber, value: 32 },
    '--only <names>': { about: 'figures, separated by commas', parse: names },
    '--workers <number>': 'AUTH_WORKERS: a number of processes, or auto',
    '--database-url-env <name>': 'PostgreSQL at the URL in this environment variable',
    '--database-url <url>': 'PostgreSQL at a URL without a password (PGPASSWORD may hold it)',
    '--url <url>': 'a running service, instead of a temporary one',
    '--svg <file>': 'write a chart',
  },
  help,
  run: async (io, options, output) => (await import('../bench.ts')).bench(io, options, output),
}
