import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import { CopyRefused, copyStore, type TableReport } from '../stores/moving/copy.ts'
import type { Store } from '../stores/store.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import type { Output } from './output.ts'
import {
  isSamePlace,
  labelOf,
  newestSealed,
  opener,
  openPlace,
  type Place,
  readPlace,
  readSettings,
  secretsFor,
} from './places.ts'
import { table } from './table.ts'

/**
 * `latchkey store copy`: brings one store up to date with another, and compares them.
 *
 * @returns the exit code: 0 when the two hold the same, 1 when they do not
 */
export async function storeCopy({ env }: Io, options: Options, output: Output): Promise<number> {
  const config = readSettings(env)
  const [from, to] = [readPlace(options['from'], config, env), readPlace(options['to'], config, env)]
  if (isSamePlace(from, to))
    throw new CommandError(`--from and --to are the same store, ${from.label}`, exitCodes.usage)

  const startedAt = performance.now()
  const source = await openPlace(from, { mustExist: true })
  try {
    await requireSecret(source, from, config)
    const target = await openPlace(to, { mustExist: false })
    try {
      const tables = await copy(source, target, options['delete'] === true, output)
      return report(
        { from, to, tables, note: secretNote(from, to, config, env), seconds: (performance.now() - startedAt) / 1000 },
        output,
      )
    } finally {
      await target.close()
    }
  } finally {
    output.endProgress()
    await source.close()
  }
}

async function copy(source: Store, target: Store, remove: boolean, output: Output): Promise<TableReport[]> {
  try {
    return await copyStore(source, target, {
      remove,
      now: Date.now(),
      onProgress: (step, table, rows) => output.progress(`${step} ${labelOf(table)}: ${rows.toLocaleString('en-US')}`),
    })
  } catch (error) {
    if (!(error instanceof CopyRefused)) throw error
    const advice = 'Nothing was changed. Are --from and --to the right way round?'
    throw new CommandError(`--delete: ${error.message}. ${advice}`, exitCodes.problems)
  }
}

/** Under another secret the target would refuse every refresh token: a copy that looks perfect logs everyone out. */
async function requireSecret(source: Store, from: Place, config: Config): Promise<void> {
  const newest = newestSealed(await source.listSigningKeys())
  const secrets = secretsFor(from, config)
  if (!newest || (secrets.length > 0 && opener(secrets)(newest))) return
  const made = from.kind === 'lmdb' ? join(from.dir, 'secret') : undefined
  const where = made !== undefined && existsSync(made) ? `; try AUTH_SECRET_FILE=${made}` : ''
  throw new CommandError(
    `AUTH_SECRET: expected the secret that sealed the signing keys of ${from.label}${where}`,
    exitCodes.setting,
  )
}

/** The secret that the service on the target needs, where it would not find it by itself. */
function secretNote(from: Place, to: Place, config: Config, env: NodeJS.ProcessEnv): string | undefined {
  const [secret] = secretsFor(from, config)
  const made = to.kind === 'lmdb' ? join(to.dir, 'secret') : undefined
  const hasMade = made !== undefined && existsSync(made)
  if (secret === undefined || (hasMade && readFileSync(made, 'utf8').trim() === secret)) return undefined
  if (hasMade)
    return `${made} is another secret than the one of the source: start the service with the AUTH_SECRET it has now`
  if (env['AUTH_SECRET'] || env['AUTH_SECRET_FILE']) return 'Start the service on the target with the same AUTH_SECRET'
  const path = from.kind === 'lmdb' ? join(from.dir, 'secret') : undefined
  return `Start the service on the target with the secret of the source: AUTH_SECRET_FILE=${path}`
}

interface Report {
  from: Place
  to: Place
  tables: TableReport[]
  note: string | undefined
  seconds: number
}

function report({ from, to, tables, note, seconds }: Report, output: Output): number {
  const isSame = tables.every((table) => table.isSame)
  const extra = tables.reduce((sum, table) => sum + table.extra, 0)
  const newer = tables.reduce((sum, table) => sum + table.newer, 0)
  if (output.isJson) {
    const rounded = Math.round(seconds * 10) / 10
    output.print(
      JSON.stringify({ same: isSame, from: from.label, to: to.label, seconds: rounded, tables, ...(note && { note }) }),
    )
    return isSame ? exitCodes.fine : exitCodes.problems
  }

  output.print(`${from.label} → ${to.label}, in ${seconds.toFixed(1)} s\n`)
  const head = ['table', 'source', 'target', 'written', 'removed', 'checksum of source', 'of target', '']
  const rows = tables.map(({ table, source, target, written, removed, isSame }) => [
    ...[labelOf(table), source.rows, target.rows, written, removed],
    ...[source.checksum.slice(0, 12), target.checksum.slice(0, 12), isSame ? 'same' : 'DIFFERENT'],
  ])
  output.print(table(head, rows, output.columns))
  output.print('')
  if (isSame) output.print('The two stores hold the same.')
  if (extra > 0) {
    const why = "ended since an earlier copy, or the target's own"
    output.print(`The target has ${count(extra, 'row')} that the source does not have: ${why}.`)
    output.print('Copy again with --delete to remove them.')
  }
  if (newer > 0) output.print(`${count(newer, 'row')} in the target went on after the source did, and were left alone.`)
  if (!isSame && extra + newer === 0)
    output.print('The source was in use meanwhile. Stop what uses it, and copy again.')
  if (note) output.print(`${note}.`)
  return isSame ? exitCodes.fine : exitCodes.problems
}

const count = (n: number, what: string) => `${n.toLocaleString('en-US')} ${what}${n === 1 ? '' : 's'}`
