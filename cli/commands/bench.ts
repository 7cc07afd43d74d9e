import { InvalidArgumentError } from 'commander'
import { type FigureName, figureNames } from '../../bench/options.ts'
import type { FreeCommand } from '../command.ts'

const help = `
What can be measured: ${figureNames.join(', ')}

With --url, an account is made for the run and removed at its end, or that of LATCHKEY_USERNAME and LATCHKEY_PASSWORD is used,
whose sessions all end; a confidential client comes by LATCHKEY_CLIENT_ID and LATCHKEY_CLIENT_SECRET. See docs/benchmarks.md.`

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
  about: 'measure how fast the service is here, beside what its parts can do by themselves',
  options: {
    '--duration <seconds>': {
      about: 'for each figure and each ceiling, all rounds together',
      parse: positive,
      value: 3,
    },
    '--rounds <number>': {
      about: 'how often each is measured; medians are reported',
      parse: wholeNumber,
      value: 3,
    },
    '--connections <number>': { about: 'requests under way at once', parse: wholeNumber, value: 32 },
    '--only <names>': { about: 'some of the figures, with commas between them', parse: names },
    '--workers <number>': 'processes of the service, or auto: AUTH_WORKERS',
    '--database-url-env <name>': 'on PostgreSQL, at the URL in this environment variable',
    '--database-url <url>': 'on PostgreSQL, at a URL without a password (it may be in PGPASSWORD)',
    '--url <url>': 'a service that runs, rather than one of its own',
    '--svg <file>': 'write a chart',
  },
  help,
  run: async (io, options, output) => (await import('../bench.ts')).bench(io, options, output),
}
