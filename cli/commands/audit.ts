import { InvalidArgumentError } from 'commander'
import { parseSince, sinceRule } from '../../config/durations.ts'
import { events } from '../../events.ts'
import type { FreeCommand } from '../command.ts'

function eventName(text: string): string {
  if (Object.hasOwn(events, text)) return text
  throw new InvalidArgumentError('It is the name of no event: docs/operations.md lists them.')
}

function sinceOf(text: string): number {
  const at = parseSince(text, Date.now())
  if (at === undefined) throw new InvalidArgumentError(`It ${sinceRule}.`)
  return at
}

function count(text: string): number {
  if (/^[1-9][0-9]{0,8}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It is a whole number above 0.')
}

export const audit: FreeCommand = {
  usage: 'audit',
  about: 'show what happened: logins, failures, changes, acts of administrators',
  options: {
    '--user <name or id>': 'only of this user; of one who was deleted, the id',
    '--session <id>': 'only of this session',
    '--client <id>': 'only of this client',
    '--event <name>': { about: 'only events of this name, such as login.failed', parse: eventName },
    '--since <duration or time>': { about: 'only from then on: 90s, 10m, 12h, 30d or a time', parse: sinceOf },
    '--limit <count>': { about: 'at most so many, the newest', parse: count, conflicts: 'follow' },
    '--follow': 'go on with what happens from now on',
  },
  help: `
The newest come first; with --follow they come as they happen. --json prints one JSON document a line.
docs/audit.md says what each event tells, and for how long it is kept.`,
  run: async (io, options, output) => (await import('../audit.ts')).audit(io, options, output),
}
