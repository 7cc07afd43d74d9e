import { createInterface } from 'node:readline'
import type { Admin, Json } from '../admin.ts'
import type { AdminCommand, Given } from '../command.ts'
import { CommandError, exitCodes } from '../exit.ts'
import { printable } from '../output.ts'
import { findUser } from './find-user.ts'

/** As many as a batch of `/admin/users/` takes. */
const perBatch = 100

interface Result {
  name: string
  id?: string
  username?: string
  ok: boolean
  /** why not, in a line */
  error?: string
}

/**
 * A command that does the same to any number of users: their names or ids are arguments, or lines on stdin for `-`.
 * What is refused of one does not keep it from the others.
 *
 * @param verb of the command, and of the route @param done what is said of each for whom it was done
 */
export const toMany = (verb: 'disable' | 'end-sessions', about: string, done: string): AdminCommand => ({
  usage: `${verb} <name or id...>`,
  about,
  help: `
Each name is an argument, or a line on stdin where the argument is -

Examples
  latchkey user ${verb} bob eve
  latchkey user ${verb} - < names.txt`,
  async act(admin, { args, stdin }) {
    const results: Result[] = []
    for await (const names of batches(args, stdin)) results.push(...(await actOn(admin, verb, names)))
    if (results.length === 0) throw new CommandError('There is no name on stdin', exitCodes.usage)
    const [only] = results
    if (results.length === 1 && only?.error !== undefined) throw new CommandError(only.error, exitCodes.problems)
    return results
  },
  json: ([only, ...more]: Result[], { args }, { call }) =>
    more.length === 0 && args[0] !== '-' ? call('GET', `/admin/users/${only?.id}`) : { results: [only, ...more] },
  text: (results: Result[]) =>
    results.map(({ username, ok, error }) => (ok ? `${username} ${done}.` : `${error}.`)).join('\n'),
  refused(results: Result[]) {
    const refused = results.filter(({ ok }) => !ok).length
    return refused === 0 ? undefined : `Refused: ${refused} of ${results.length}`
  },
})

async function* names(args: string[], stdin: Given['stdin']): AsyncGenerator<string> {
  for (const arg of args) {
    if (arg === '-') for await (const line of createInterface({ input: stdin })) yield line.trim()
    else yield arg
  }
}

async function* batches(args: string[], stdin: Given['stdin']): AsyncGenerator<string[]> {
  let batch = new Set<string>()
  for await (const name of names(args, stdin)) {
    if (name !== '') batch.add(name)
    if (batch.size < perBatch) continue
    yield [...batch]
    batch = new Set()
  }
  if (batch.size > 0) yield [...batch]
}

async function actOn(admin: Admin, verb: string, names: string[]): Promise<Result[]> {
  const found = await Promise.all(names.map((name) => find(admin, name)))
  const ids = [...new Set(found.flatMap(({ id }) => id ?? []))]
  if (ids.length === 0) return found
  const { results } = await admin.call('POST', `/admin/users/${verb}`, { ids })
  const errors = new Map<string, string | undefined>(results.map(({ id, error }: Json) => [id, error]))
  return found.map((user) => {
    const error = user.id === undefined ? user.error : errors.get(user.id)
    if (error === undefined) return { ...user, ok: true }
    return { ...user, error: user.error ?? `${printable(user.name)}: ${error}` }
  })
}

/** A user who is not there is a result; anything else ends the command. */
async function find(admin: Admin, name: string): Promise<Result> {
  try {
    const { id, username } = await findUser(admin, name)
    return { name, id, username, ok: false }
  } catch (error) {
    if (!(error instanceof CommandError && error.exitCode === exitCodes.problems)) throw error
    return { name, ok: false, error: error.message }
  }
}
