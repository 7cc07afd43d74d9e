import { checkStore } from '../stores/check.ts'
import type { Finding } from '../stores/store.ts'
import { exitCodes } from './exit.ts'
import { type Output, printable, table } from './output.ts'
import { openPlace, readPlace, readSettings, secretsFor } from './places.ts'
import { opener } from './sealing.ts'

/** Findings of one kind, counted; of many the first few are named. */
interface Kind extends Omit<Finding, 'key'> {
  count: number
  keys: string[]
}
const keysNamed = 5

/**
 * `latchkey store check`: reads everything and says what is wrong.
 *
 * @returns the exit code: 0 when there is no error, 1 when there is
 */
export async function storeCheck(options: { store?: string }, output: Output): Promise<number> {
  const config = readSettings(process.env)
  const place = readPlace(options.store, config, process.env)
  const secrets = secretsFor(place, config)
  const store = await openPlace(place, { mustExist: true })
  const kinds = new Map<string, Kind>()
  const rows: Record<string, number> = {}
  try {
    const findings = checkStore(store, {
      ...(secrets.length > 0 && { opens: opener(secrets) }),
      onProgress(table, read) {
        rows[table] = read
        output.progress(`reading ${table}: ${read.toLocaleString('en-US')}`)
      },
    })
    for await (const { key, ...finding } of findings) {
      const id = JSON.stringify(finding)
      const kind = kinds.get(id) ?? { ...finding, count: 0, keys: [] }
      kinds.set(id, kind)
      kind.count += 1
      if (key !== undefined && kind.keys.length < keysNamed) kind.keys.push(key)
    }
  } finally {
    output.endProgress()
    await store.close()
  }

  const found = [...kinds.values()]
  const errors = found.filter(({ level }) => level === 'error')
  const exitCode = errors.length === 0 ? exitCodes.fine : exitCodes.problems
  if (output.isJson) {
    output.print(JSON.stringify({ ok: errors.length === 0, store: place.label, rows, secret_checked: secrets.length > 0, found }))
    return exitCode
  }

  const read = Object.entries(rows).map(([name, n]) => `${n.toLocaleString('en-US')} ${name}`)
  output.print(`${place.label}: ${read.join(', ') || 'empty'}`)
  if (secrets.length === 0) output.print('AUTH_SECRET is not known, so the signing keys were not opened.')
  if (found.length > 0) {
    const cells = found.map(({ level, table, what, count, keys }) => [
      ...[level === 'error' ? 'ERROR' : 'note', table, count, what],
      keys.map(printable).join(' ') + (count > keys.length && keys.length > 0 ? ' …' : ''),
    ])
    output.print(`\n${table(['', 'table', 'rows', 'what', 'keys'], cells)}\n`)
  }
  const total = errors.reduce((sum, { count }) => sum + count, 0)
  output.print(total === 0 ? 'No errors.' : `${total.toLocaleString('en-US')} error${total === 1 ? '' : 's'}.`)
  return exitCode
}
