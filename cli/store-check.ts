import { fork } from 'node:child_process'
import { checkFile, hasLmdbStore, lmdbFile, StoreDamaged } from '../stores/lmdb/file.ts'
import { checkStore } from '../stores/moving/check.ts'
import type { Finding } from '../stores/moving/moving.ts'
import type { Store } from '../stores/store.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { type Output, printable } from './output.ts'
import { opener, openPlace, type Place, readPlace, readSettings, secretsFor, totpOpener } from './places.ts'
import { table } from './table.ts'

/** Findings of one kind, counted; the first few are named. */
interface Kind extends Omit<Finding, 'key'> {
  count: number
  keys: string[]
}
const keysNamed = 5

/** What was read, and what was found. */
export interface Examined {
  found: Kind[]
  rows: Record<string, number>
}

/** A message of the child. */
export type ChildMessage =
  | { progress: [table: string, read: number] }
  | { examined: Examined }
  | { failed: { line: string; exitCode: number } }

/**
 * `latchkey store check`: reads every row and reports what is wrong.
 *
 * @returns the exit code: 0 when there is no error, 1 when there is
 */
export async function storeCheck({ env }: Io, { store }: Options, output: Output): Promise<number> {
  const config = readSettings(env)
  const place = readPlace(store, config, env)
  const secrets = secretsFor(place, config)
  const onProgress = (table: string, read: number) =>
    output.progress(`reading ${table}: ${read.toLocaleString('en-US')}`)
  try {
    const examined =
      place.kind === 'lmdb'
        ? await examineEmbedded(place, secrets, onProgress)
        : await examinePlace(place, secrets, onProgress)
    return report(examined, { place, isSecretKnown: secrets.length > 0 }, output)
  } finally {
    output.endProgress()
  }
}

type Progress = (table: string, read: number) => void

async function examinePlace(place: Place, secrets: string[], onProgress: Progress): Promise<Examined> {
  const store = await openPlace(place, { mustExist: true })
  try {
    return await examine(store, secrets, onProgress)
  } finally {
    await store.close()
  }
}

/** Reads a store by its own methods. */
export async function examine(store: Store, secrets: string[], onProgress: Progress): Promise<Examined> {
  const kinds = new Map<string, Kind>()
  const rows: Record<string, number> = {}
  const findings = checkStore(store, {
    ...(secrets.length > 0 && { opens: opener(secrets), opensTotp: totpOpener(secrets) }),
    onProgress(table, read) {
      rows[table] = read
      onProgress(table, read)
    },
  })
  for await (const { key, ...finding } of findings) {
    const id = JSON.stringify(finding)
    const kind = kinds.get(id) ?? { ...finding, count: 0, keys: [] }
    kinds.set(id, kind)
    kind.count += 1
    if (key !== undefined && kind.keys.length < keysNamed) kind.keys.push(key)
  }
  return { found: [...kinds.values()], rows }
}

const damage = (what: string): Examined => ({
  found: [{ level: 'error', table: 'data.mdb', what, count: 1, keys: [] }],
  rows: {},
})

/** Checks the pages of the file, then its rows, in a child: at a damaged page LMDB ends the process by a signal. */
async function examineEmbedded(
  place: Place & { kind: 'lmdb' },
  secrets: string[],
  onProgress: Progress,
): Promise<Examined> {
  if (hasLmdbStore(place.dir)) {
    onProgress('data.mdb', 0)
    try {
      checkFile(lmdbFile(place.dir))
    } catch (error) {
      if (error instanceof StoreDamaged) return damage(error.message)
      const { code } = error as NodeJS.ErrnoException
      throw new CommandError(
        `${place.label}: it cannot be read, got ${code} for ${lmdbFile(place.dir)}`,
        exitCodes.unavailable,
      )
    }
  }
  // Beside this file, `.ts` or compiled.
  const child = fork(import.meta.filename.replace('store-check', 'store-check-child'), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  child.send({ place, secrets })
  let last: ChildMessage | undefined
  child.on('message', (message: ChildMessage) => {
    if ('progress' in message) onProgress(...message.progress)
    else last = message
  })
  const signal = await new Promise<NodeJS.Signals | number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(signal ?? code))
  })
  if (last && 'failed' in last) throw new CommandError(last.failed.line, last.failed.exitCode)
  if (last && 'examined' in last) return last.examined
  return damage(`reading its rows ended the process by ${signal}`)
}

function report(
  { found, rows }: Examined,
  { place, isSecretKnown }: { place: Place; isSecretKnown: boolean },
  output: Output,
): number {
  const errors = found.filter(({ level }) => level === 'error')
  const exitCode = errors.length === 0 ? exitCodes.fine : exitCodes.problems
  if (output.isJson) {
    output.print(
      JSON.stringify({ ok: errors.length === 0, store: place.label, rows, secret_checked: isSecretKnown, found }),
    )
    return exitCode
  }

  const read = Object.entries(rows).map(([name, n]) => `${n.toLocaleString('en-US')} ${name}`)
  output.print(`${place.label}: ${read.join(', ') || (errors.length > 0 ? 'nothing was read' : 'empty')}`)
  if (!isSecretKnown)
    output.print('AUTH_SECRET is not known, so the signing keys and the secrets of authenticator apps were not opened.')
  if (found.length > 0) {
    const cells = found.map(({ level, table, what, count, keys }) => [
      ...[level === 'error' ? 'ERROR' : 'note', table, count, what],
      keys.map(printable).join(' ') + (count > keys.length && keys.length > 0 ? ' …' : ''),
    ])
    output.print(`\n${table(['', 'table', 'rows', 'what', 'keys'], cells, output.columns)}\n`)
  }
  const total = errors.reduce((sum, { count }) => sum + count, 0)
  output.print(total === 0 ? 'No errors.' : `${total.toLocaleString('en-US')} error${total === 1 ? '' : 's'}.`)
  return exitCode
}
