/*
 * What it costs to sweep a million expired rows, and whether the disk gives their room to the next:
 *
 *     npm run bench:sweep -- [--rows 1000000] [--cycles 3] [--stores lmdb,pg] [--json] [--assert]
 *
 * Each cycle fills the store with rows that have expired (seven of ten are sessions; failures, revocations and records
 * are one of ten each) beside a thousand live sessions, and sweeps it by the sweeper of the service, whose steps follow
 * one another without the pause that they have there. Meanwhile the delay of the event loop is measured, and before it
 * with nothing to do, because another program on the machine delays it too. PostgreSQL is vacuumed after each cycle, as
 * its autovacuum does in time. With `--assert` it fails when the delay of 99 in 100 reaches 20 ms, when a live session
 * is gone, and when the last cycle leaves more on the disk than a tenth above the second: pages of PostgreSQL that were
 * filled one after the other take more room when they are filled again in another order, once.
 */
import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { Revocation } from '../../domain/revocation.ts'
import type { Session } from '../../domain/session.ts'
import type { Store } from '../../stores/store.ts'
import { round } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ rows: 1_000_000, cycles: 3, stores: 'lmdb,pg', assert: false })
const live = 1_000
/** As small as the service's own. lmdb 3.5.6 fails with MDB_BAD_TXN on some of 5,000 rows behind a sweep of 600,000. */
const perBatch = 100
const idleSeconds = 5
const delayBelowMs = 20
const grownWithin = 1.1
const day = 86_400_000

interface Subject {
  name: string
  app: FastifyInstance
  store: Store
  diskBytes(): Promise<number>
}

const uuid = (text: string) =>
  createHash('md5')
    .update(text)
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

const agent = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36'
const sessionOf = (key: string, at: number, n: number): Session => ({
  id: uuid(key),
  userId: uuid(`user ${n % live}`),
  ...{ clientId: 'first-party', scope: [], generation: 0, counter: 3, createdAt: at, refreshedAt: at },
  ...{ address: '203.0.113.77', userAgent: agent },
})

async function openLmdb(): Promise<Subject> {
  const dir = makeDir()
  const app = await open({ AUTH_DATA_DIR: dir, DATABASE_URL: '' })
  return {
    name: 'lmdb',
    app,
    store: app.store as Store,
    diskBytes: async () => statSync(join(dir, 'lmdb', 'data.mdb')).size,
  }
}

async function openPostgres(): Promise<Subject> {
  const { url, client } = await (await openServer()).createDatabase()
  const app = await open({ DATABASE_URL: url, AUTH_SECRET: 's'.repeat(32) })
  return {
    name: 'pg',
    app,
    store: app.store as Store,
    async diskBytes() {
      await client.query('VACUUM')
      const { rows } = await client.query('SELECT pg_database_size(current_database())::float8 AS bytes')
      return rows[0].bytes
    },
  }
}

/** Nothing is swept but by this program, an hour after the start: before, revocations stay, whatever the clock says. */
async function open(settings: Record<string, string>): Promise<FastifyInstance> {
  let passedMs = 0
  const config = readConfig({ AUTH_ISSUER: 'http://localhost', LOG_LEVEL: 'silent', ...settings })
  const app = await buildApp(config, {
    now: () => Math.floor(Date.now() + passedMs),
    uptimeMs: () => performance.now() + passedMs,
  })
  onEnd(() => app.close())
  app.jobs.stopAll()
  await app.jobs.ended()
  passedMs = 3_600_000
  return app
}

async function inBatches(
  count: number,
  add: (from: number, to: number) => Promise<unknown>,
  size = perBatch,
): Promise<void> {
  for (let from = 0; from < count; from += size) await add(from, Math.min(count, from + size))
}

const range = <T>(from: number, to: number, make: (n: number) => T): T[] =>
  Array.from({ length: to - from }, (_, index) => make(from + index))

async function addLive({ store, app }: Subject): Promise<void> {
  const at = app.now()
  const users = range(0, live, (n) => {
    const names = { username: `user-${n}`, nameKey: `user-${n}` }
    return { id: uuid(`user ${n}`), ...names, passwordHash: 'x'.repeat(97), roles: [], createdAt: at, generation: 0 }
  })
  await store.importRows('users', users)
  await store.importRows(
    'sessions',
    range(0, live, (n) => sessionOf(`live ${n}`, at, n)),
  )
}

async function fill({ store, app }: Subject, cycle: number): Promise<void> {
  const old = app.now() - 400 * day
  const tenth = Math.floor(flags.rows / 10)
  const name = (n: number) => createHash('sha256').update(`${cycle} ${n}`).digest('base64url')
  await inBatches(flags.rows - 3 * tenth, (from, to) =>
    store.importRows(
      'sessions',
      range(from, to, (n) => sessionOf(`${cycle} ${n}`, old, n)),
    ),
  )
  await inBatches(tenth, (from, to) =>
    store.importRows(
      'failures',
      range(from, to, (n) => ({ key: `${name(n).slice(0, 24)}/12`, tag: name(n).slice(24), count: 3, lastAt: old })),
    ),
  )
  await inBatches(tenth, (from, to) =>
    store.importRows(
      'records',
      range(from, to, (n) => ({
        ...{ id: name(n), kind: 'code', owner: uuid(`user ${n % live}`), source: `192.0.2.${n % 256}`, data: '{}' },
        ...{ createdAt: old, expiresAt: old + 60_000, misses: 0, version: 0 },
      })),
    ),
  )
  const revoke = (n: number) => {
    const times = { revokedAt: old, expiresAt: old + 660_000 }
    return store.revoke({ kind: 'jti', id: uuid(`${cycle} ${n}`), ...times } satisfies Revocation)
  }
  // One by one, as they come: no more at once than a pool takes within its time.
  await inBatches(tenth, (from, to) => Promise.all(range(from, to, revoke)), 200)
}

/** @returns ms by which the event loop was late while something was done: of 99 in 100 turns, and at worst */
async function delays(work: () => Promise<unknown>): Promise<{ p99Ms: number; maxMs: number; seconds: number }> {
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  const startedAt = performance.now()
  histogram.enable()
  await work()
  histogram.disable()
  const seconds = (performance.now() - startedAt) / 1000
  return { p99Ms: round(histogram.percentile(99) / 1e6), maxMs: round(histogram.max / 1e6), seconds }
}

const removedOf = ({ app }: Subject) => Object.values(app.sweeper.progress.removed).reduce((sum, rows) => sum + rows, 0)

function fail(words: string): void {
  if (!flags.assert) return
  console.error(words)
  process.exitCode = 1
}

async function runCycles(subject: Subject): Promise<object[]> {
  const { name, app, store } = subject
  await addLive(subject)
  const rows: { diskMB: number }[] = []
  for (let cycle = 1; cycle <= flags.cycles; cycle++) {
    progress(`${name}: filling with ${flags.rows} expired rows, ${cycle} of ${flags.cycles} …`)
    await fill(subject, cycle)
    const idle = await delays(() => sleep(idleSeconds * 1000))
    progress(`${name}: sweeping …`)
    const before = removedOf(subject)
    const { p99Ms, maxMs, seconds } = await delays(() => app.sweeper.round())
    const swept = removedOf(subject) - before
    const ids = range(0, live, (n) => uuid(`live ${n}`))
    const left = (await store.findRows('sessions', ids)).filter((row) => row !== undefined).length
    const diskMB = round((await subject.diskBytes()) / 1e6, 4)
    const perSecond = Math.round(swept / seconds)
    const loop = { idleP99Ms: idle.p99Ms, idleMaxMs: idle.maxMs, sweepP99Ms: p99Ms, sweepMaxMs: maxMs }
    rows.push(Object.assign({ store: name, cycle, swept, perSecond, ...loop }, { diskMB }))
    if (swept !== flags.rows) fail(`${name}: ${swept} of ${flags.rows} rows were swept`)
    if (left !== live) fail(`${name}: ${live - left} live sessions are gone`)
    if (p99Ms >= delayBelowMs) fail(`${name}: the event loop was ${p99Ms} ms late`)
  }
  const [settled, last] = [(rows[1] ?? rows[0])?.diskMB ?? 0, rows.at(-1)?.diskMB ?? 0]
  if (last > settled * grownWithin) fail(`${name}: ${settled} MB after the second cycle, ${last} MB after the last`)
  return rows
}

await runScenario(async () => {
  const table: object[] = []
  for (const name of flags.stores.split(','))
    table.push(...(await runCycles(await (name === 'pg' ? openPostgres() : openLmdb()))))
  return { 'event loop: ms late while idle and while sweeping; MB on the disk after the cycle': table }
})
