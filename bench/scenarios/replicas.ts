/*
 * The service on PostgreSQL, with several replicas, beside LMDB and a bare Fastify in the same run:
 *
 *     npm run bench:replicas -- [replicas, 2] [--seconds 5] [--rounds 3] [--connections 32] [--logouts 200] [--json]
 *
 * A PostgreSQL is started for it, or the one of DATABASE_URL is used, in a database that is dropped at the end. All
 * of it shares the machine's cores.
 */
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import * as load from '../load.ts'
import { round } from '../meter.ts'
import { makeDir, startRemote } from '../processes.ts'
import { type Case, medianOf } from '../rounds.ts'
import { benchSettings, logInAll, type Server, startServer } from '../service.ts'
import { makeSecret } from '../services.ts'
import { costsOf, openServer, type StatementCosts } from './postgres.ts'
import { measureGroups, measureLag, progress, readFlags, runScenario } from './scenario.ts'

const { flags, positionals } = readFlags({ seconds: 5, rounds: 3, connections: 32, logouts: 200 })
const replicaCount = Number(positionals[0] ?? 2)
const cores = availableParallelism()
const user = 'bench'

await runScenario(async () => {
  progress('starting PostgreSQL, the replicas, and one process on LMDB …')
  const server = await openServer()
  const { url, client } = await server.createDatabase()
  const dir = makeDir()
  const settings = { ...benchSettings, AUTH_SECRET: makeSecret(), AUTH_ISSUER: 'http://localhost' }
  const replicas: Server[] = []
  for (let n = 0; n < replicaCount; n++)
    replicas.push(await startServer({ ...settings, DATABASE_URL: url }, `${dir}/replica-${n}.log`))
  const embedded = await startServer({ ...settings, AUTH_DATA_DIR: `${dir}/data` }, `${dir}/lmdb.log`)
  const [first, second = first] = replicas as [Server, ...Server[]]
  for (const { origin } of [first, embedded]) await load.signUp(origin, user)
  const isRefused = async (tokens: load.Tokens) =>
    (await fetch(`${second.origin}/protected`, { headers: load.bearer(tokens) })).status === 401
  return {
    environment: { node: process.version, cores, postgres: server.version, replicas: replicaCount, ...flags },
    // The first of each group is the ceiling, and the second on LMDB.
    throughput: await measureGroups(await throughputOf(replicas, embedded), flags.rounds, flags.seconds),
    perOperation: await measureOperations(first, client),
    hotUpdates: await readHotUpdates(client),
    // The other replica hears of it by polling alone: it is sent no logout, after which it would look at once.
    revocationLagMs: [
      await measureLag('another replica', { user, logouts: flags.logouts, concurrency: 8 }, first, first, isRefused),
    ],
  }
})

async function throughputOf(replicas: Server[], embedded: Server): Promise<Case[][]> {
  const loadCase = load.createLoader(progress)
  const parts = startRemote('./ceilings.js', { UV_THREADPOOL_SIZE: String(cores + 4) })
  const route = { method: 'POST', path: '/', bytes: 600 }
  const bare: Server = { origin: await parts.call('listen', [route]), pid: parts.pid }
  const users = Array<string>(flags.connections).fill(user)
  const [first] = replicas as [Server]
  const onLmdb = load.refreshLoad(await logInAll(embedded.origin, users))
  const onPostgres = load.refreshLoad(await logInAll(first.origin, users))
  const logins = load.loginLoad(Array(4 * cores).fill(user))
  const { next: _, ...bareLoad } = { ...onPostgres, path: route.path }

  /** The same on several replicas at once, which count as one. */
  function onAll(what: string, loadOf: (n: number) => load.Load): Case[] {
    const title = `${what}, PostgreSQL, ${replicas.length} replicas`
    const cases = replicas.map((server, n) => loadCase(title, server, loadOf(n)))
    const run = async (seconds: number) => {
      const measured = await Promise.all(cases.map((one) => one.run(seconds)))
      const perSecond = measured.reduce((sum, one) => sum + one.perSecond, 0)
      return { ...medianOf(measured), perSecond, p99Ms: Math.max(...measured.map(({ p99Ms }) => p99Ms)) }
    }
    return replicas.length > 1 ? [{ title, run }] : []
  }
  /** The connections of one replica; its requests, and the tokens in them, are those of the whole. */
  const share = (n: number): load.Load => ({
    ...onPostgres,
    requests: onPostgres.requests.filter((_, index) => index % replicas.length === n),
  })
  const hashSpan = { memoryCost: 19_456, timeCost: 2, parallelism: 1, concurrency: cores }
  return [
    [
      loadCase('bare form POST', bare, bareLoad),
      loadCase('refresh, LMDB', embedded, onLmdb),
      loadCase('refresh, PostgreSQL, 1 replica', first, onPostgres),
      ...onAll('refresh', share),
    ],
    [
      { title: 'bare argon2.verify', run: (seconds) => parts.call('verifyHash', { ...hashSpan, seconds }) },
      loadCase('login, LMDB', embedded, logins),
      loadCase('login, PostgreSQL, 1 replica', first, logins),
      ...onAll('login', () => logins),
    ],
  ]
}

/** Each operation 100 times, one after the other, on a replica that otherwise only polls; its polling is subtracted. */
async function measureOperations({ origin }: Server, client: pg.Client): Promise<object[]> {
  const times = 100
  const warmUp = 50
  progress(`what ${times} of each operation cost the database …`)
  const sessions = await logInAll(origin, Array(warmUp + times + 1).fill(user))
  const session = (n: number) => sessions[n] as load.Tokens
  const headers = load.bearer(session(warmUp + times))
  const operations: Record<string, (n: number) => Promise<unknown>> = {
    signup: (n) => load.signUp(origin, `bench-${n}`),
    login: () => load.logIn(origin, user),
    refresh: (n) => load.refresh(origin, session(n)),
    'GET /protected': () => load.call(`${origin}/protected`, 200, { headers }),
    logout: (n) => load.logOut(origin, session(n)),
  }
  const idle = await costsOf(client, () => sleep(3_000))
  const rows: object[] = []
  for (const [what, operation] of Object.entries(operations)) {
    // The first change of each page, which writes the page into the log as a whole, is not counted.
    for (let n = 0; n < warmUp; n++) await operation(n)
    const costs = await costsOf(client, async () => {
      for (let n = warmUp; n < warmUp + times; n++) await operation(n)
    })
    const polled = costs.seconds / idle.seconds
    const statements = [...costs.statements]
      .map(([name, cost]) => {
        return { ...cost, name, calls: cost.calls - (idle.statements.get(name)?.calls ?? 0) * polled }
      })
      .filter(({ calls }) => calls > 0.05 * times)
    /** Of one operation; undefined where the server does not count, which has counted the polling otherwise. */
    const sum = (figure: keyof StatementCosts) => {
      const total = statements.reduce((total, cost) => total + cost[figure], 0)
      return idle.statements.size === 0 ? undefined : round(total / times, 2)
    }
    const named = ({ name, calls }: (typeof statements)[number]) =>
      Math.abs(calls / times - 1) < 0.05 ? name : `${(calls / times).toFixed(2)} ${name}`
    rows.push({
      what,
      roundTrips: sum('calls'),
      statements: statements.map(named).join(', '),
      walBytes: Math.max(0, Math.round((costs.walBytes - idle.walBytes * polled) / times)),
      walRecords: sum('walRecords'),
      // 8 KiB each, within walBytes: for the first change of a page after a checkpoint.
      walFullPages: sum('walFullPages'),
      serverMs: sum('serverMs'),
    })
  }
  return rows
}

/** The share of the updates that stayed in their page and touched no index. */
async function readHotUpdates(client: pg.Client): Promise<object[]> {
  // The counts of a connection arrive within a second of its last statement.
  await sleep(1_500)
  const { rows } = await client.query(
    `SELECT relname AS table, n_tup_upd::float8 AS updates, n_dead_tup::float8 AS "deadRows",
       round(n_tup_hot_upd / n_tup_upd::numeric, 3)::float8 AS "hotShare"
     FROM pg_stat_user_tables WHERE n_tup_upd > 0 ORDER BY relname`,
  )
  return rows
}
