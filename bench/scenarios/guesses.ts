/*
 * What a storm of a million guesses adds to the store:
 *
 *     npm run bench:guesses -- [--guesses 1000000] [--inFlight 128] [--stores lmdb,pg] [--json] [--assert]
 *
 * The service's own app gets wrong passwords as fast as it answers them, half of them for a hundred accounts that there
 * are and half for names that nobody has, each from another network and each with another browser. Hashes are as cheap
 * as argon2 makes them: with those that are shipped the same storm takes two hours of a core, and may leave so many
 * rows for each of its minutes. PostgreSQL is asked three times for each guess, and takes several times as long as LMDB:
 * give it `--guesses 100000`. What a storm leaves is counted when nothing waits to be written any more. With `--assert`
 * it fails where a table has more than its bound.
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { type TableName, tableNames } from '../../stores/rows.ts'
import type { Store } from '../../stores/store.ts'
import { password } from '../load.ts'
import { inFlight, round } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ guesses: 1_000_000, inFlight: 128, stores: 'lmdb,pg', assert: false })
const accounts = 100
const rowsPerPage = 1_000
/** Rows that wait are written within a second; their counts, when their minute is over. */
const settledMs = 65_000
/** Most rows: a minute of the storm, and for good. See docs/audit.md, docs/explain.md and `plugins/login/throttle.ts`. */
const bounds: Partial<Record<TableName, { perMinute?: number; ever?: number }>> = {
  audit: { perMinute: 1_010, ever: accounts },
  records: { perMinute: 600 },
  failures: { ever: 2 * 65_536 + accounts * 65 + 100 },
}

const openings = {
  async lmdb() {
    const dir = makeDir()
    const bytes = () => statSync(join(dir, 'lmdb', 'data.mdb')).size
    return { settings: { AUTH_DATA_DIR: dir, DATABASE_URL: '' }, diskBytes: async () => bytes() }
  },
  async pg() {
    const { url, client } = await (await openServer()).createDatabase()
    async function diskBytes() {
      const { rows } = await client.query('SELECT pg_database_size(current_database())::float8 AS bytes')
      return rows[0].bytes as number
    }
    return { settings: { DATABASE_URL: url, AUTH_SECRET: 's'.repeat(32) }, diskBytes }
  },
}
type StoreName = keyof typeof openings

async function countRows(store: Store): Promise<Record<TableName, number>> {
  const counts = {} as Record<TableName, number>
  for (const table of tableNames) {
    let after: string | undefined
    counts[table] = 0
    do {
      const page = await store.exportRows(table, { limit: rowsPerPage, ...(after !== undefined && { after }) })
      counts[table] += page.rows.length
      after = page.next
    } while (after !== undefined)
  }
  return counts
}

function guess(app: FastifyInstance, n: number) {
  const username = n % 2 === 0 ? `account-${(n >> 1) % accounts}` : `nobody-${n}`
  const address = `${11 + ((n >> 16) % 100)}.${(n >> 8) & 255}.${n & 255}.1`
  return app.inject({
    ...{ method: 'POST', url: '/token', remoteAddress: address },
    headers: { 'content-type': 'application/x-www-form-urlencoded', 'user-agent': `browser ${n}` },
    payload: new URLSearchParams({ username, password: `not the password ${n}` }).toString(),
  })
}

async function storm(name: StoreName): Promise<object[]> {
  const { settings, diskBytes } = await openings[name]()
  const cheap = { AUTH_INSECURE: '1', AUTH_ARGON2_MEMORY: '8', AUTH_ARGON2_TIME: '1', LOG_LEVEL: 'silent' }
  // So that guesses share commits: what waits for the disk has its hash behind it, and still counts as running.
  const many = { AUTH_HASH_CONCURRENCY: '64', AUTH_HASH_MAX_WAIT: '60s' }
  const app = await buildApp(readConfig({ AUTH_ISSUER: 'http://localhost', ...cheap, ...many, ...settings }))
  onEnd(() => app.close())
  for (let n = 0; n < accounts; n++)
    await app.inject({ method: 'POST', url: '/signup', payload: { username: `account-${n}`, password } })
  const [before, bytesBefore] = [await countRows(app.store as Store), await diskBytes()]

  const startedAt = performance.now()
  const answered: Record<number, number> = {}
  let last = startedAt
  await inFlight(flags.guesses, flags.inFlight, async (n) => {
    const { statusCode } = await guess(app, n)
    answered[statusCode] = (answered[statusCode] ?? 0) + 1
    if (performance.now() - last < 10_000) return
    last = performance.now()
    progress(`${name}: ${n} of ${flags.guesses} guesses, ${Math.round((n / (last - startedAt)) * 1000)} a second …`)
  })
  const seconds = (performance.now() - startedAt) / 1000
  progress(`${name}: waiting for what is written later …`)
  await sleep(settledMs)

  const [after, bytesAfter] = [await countRows(app.store as Store), await diskBytes()]
  const minutes = Math.ceil(seconds / 60) + 1
  const added = (table: TableName) => after[table] - before[table]
  for (const [table, { perMinute = 0, ever = 0 }] of Object.entries(bounds))
    if (flags.assert && added(table as TableName) > perMinute * minutes + ever) process.exitCode = 1
  const { 400: judged = 0, 429: refused = 0, 503: shed = 0 } = answered
  return [
    {
      ...{ store: name, guesses: flags.guesses, seconds: Math.round(seconds), judged, refused, shed },
      ...{ auditRows: added('audit'), explanations: added('records'), failureRows: added('failures') },
      storeMB: round((bytesAfter - bytesBefore) / 1e6, 3),
    },
  ]
}

await runScenario(async () => {
  const rows: object[] = []
  for (const name of flags.stores.split(',') as StoreName[]) rows.push(...(await storm(name)))
  return { [`what ${flags.guesses.toLocaleString('en-US')} guesses leave in the store`]: rows }
})
