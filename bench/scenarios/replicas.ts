/*
 * The service on PostgreSQL, with several replicas, beside LMDB and a bare Fastify in the same run:
 *
 *     npm run bench:replicas -- [replicas, 2] [--seconds 5] [--rounds 3] [--connections 32] [--logouts 200] [--json]
 *
 * A PostgreSQL is started for it, or the one of DATABASE_URL is used, in a database that is dropped at the end. All of it
 * shares the machine's cores.
 */
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type pg from 'pg'
import {
  bearer,
  call,
  createLoader,
  type Load,
  logIn,
  loginLoad,
  logOut,
  refresh,
  refreshLoad,
  signUp,
} from '../load.ts'
import { type Measured, medianOf, round } from '../meter.ts'
import { makeDir, startRemote } from '../processes.ts'
import { type Case, errorsOf, inRounds, medianRatio } from '../rounds.ts'
import { benchSettings, logInAll, type Server, startServer } from '../service.ts'
import { makeSecret } from '../services.ts'
import { costsBetween, type Ledger, openServer, readLedger } from './postgres.ts'
import { measureLag, progress, progressOf, refusedBy, runScenario } from './scenario.ts'

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
    connections: { type: 'string', default: '32' },
    logouts: { type: 'string', default: '200' },
    json: { type: 'boolean', default: false },
  },
})
const replicaCount = Number(positionals[0] ?? 2)
const rounds = Number(flags.rounds)
const connections = Number(flags.connections)
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
  for (const { origin } of [first, embedded]) await signUp(origin, user)

  const environment = { node: process.version, cores, postgres: server.version, replicas: replicaCount, connections }
  const throughput = await measureThroughput(replicas, embedded)
  const perOperation = await measureOperations(first, client)
  const hotUpdates = await readHotUpdates(client)
  const lagOf = { user, logouts: Number(flags.logouts), concurrency: 8 }
  // The other replica hears of it by polling alone: it is sent no logout, after which it would look at once.
  const revocationLagMs = await measureLag('another replica', lagOf, first, first, refusedBy(second))
  if (flags.json)
    console.log(JSON.stringify({ environment, throughput, perOperation, hotUpdates, revocationLagMs }, null, 2))
  else {
    console.log(environment)
    for (const table of [throughput, perOperation, hotUpdates, [revocationLagMs]]) console.table(table)
  }
  if (throughput.some(({ errors }) => errors > 0)) process.exitCode = 1
})

interface ThroughputRow extends Measured {
  what: string
  /** of the bare thing, and of the same on LMDB */
  ofCeiling: number
  ofLmdb: number
}

async function measureThroughput(replicas: Server[], embedded: Server): Promise<ThroughputRow[]> {
  const generate = createLoader(progress)
  const parts = startRemote('./ceilings.js', { UV_THREADPOOL_SIZE: String(cores + 4) })
  const bare = {
    origin: await parts.call<string>('listen', [{ method: 'POST', path: '/', bytes: 600 }]),
    pid: parts.pid,
  }
  const [first] = replicas as [Server]
  const users = Array<string>(connections).fill(user)
  const lmdbSessions = await logInAll(embedded.origin, users)
  const pgSessions = await logInAll(first.origin, users)

  /** Several services at once count as one. */
  const together = async (title: string, loads: [Server, Load][], seconds: number): Promise<Measured> => {
    const measured = await Promise.all(loads.map(([server, load]) => generate(title, server, load, seconds)))
    return {
      ...medianOf(measured),
      perSecond: measured.reduce((sum, { perSecond }) => sum + perSecond, 0),
      p99Ms: Math.max(...measured.map(({ p99Ms }) => p99Ms)),
      errors: errorsOf(measured),
    }
  }
  const loadCase = (title: string, loads: [Server, Load][]): Case => ({
    title,
    run: (seconds) => together(title, loads, seconds),
  })
  const login = (server: Server): [Server, Load] => [server, loginLoad(Array(4 * cores).fill(user))]
  const onPostgres = refreshLoad(pgSessions)
  /** The connections of one replica; the requests are shared with the load of all, and so are their tokens. */
  const share = (n: number): Load => ({
    ...onPostgres,
    requests: onPostgres.requests.filter((_, index) => index % replicas.length === n),
  })
  const bareLoad: Load = { ...onPostgres, path: '/' }
  delete bareLoad.next
  const hashSpan = { memoryCost: 19_456, timeCost: 2, parallelism: 1, concurrency: cores }
  const bareForm = loadCase('bare form POST', [[bare, bareLoad]])
  const refreshOnLmdb = loadCase('refresh, LMDB', [[embedded, refreshLoad(lmdbSessions)]])
  const bareHash: Case = {
    title: 'bare argon2.verify',
    run: (seconds) => parts.call('verifyHash', { ...hashSpan, seconds }),
  }
  const loginOnLmdb = loadCase('login, LMDB', [login(embedded)])
  const several = replicas.length > 1
  const refreshes = [
    refreshOnLmdb,
    loadCase('refresh, PostgreSQL, 1 replica', [[first, onPostgres]]),
    ...(several
      ? [
          loadCase(
            `refresh, PostgreSQL, ${replicas.length} replicas`,
            replicas.map((one, n) => [one, share(n)]),
          ),
        ]
      : []),
  ]
  const logins = [
    loginOnLmdb,
    loadCase('login, PostgreSQL, 1 replica', [login(first)]),
    ...(several ? [loadCase(`login, PostgreSQL, ${replicas.length} replicas`, replicas.map(login))] : []),
  ]
  const cases = [bareForm, ...refreshes, bareHash, ...logins]
  const series = await inRounds(cases, rounds, Number(flags.seconds), progressOf(rounds))
  return cases.map((one) => {
    const measured = series.get(one) ?? []
    const isLogin = one === bareHash || logins.includes(one)
    const ratioTo = (other: Case) => round(medianRatio(measured, series.get(other) ?? []), 2)
    const { perSecond, p50Ms, p99Ms } = medianOf(measured)
    return {
      what: one.title,
      perSecond: round(perSecond),
      p50Ms: round(p50Ms),
      p99Ms: round(p99Ms),
      ofCeiling: ratioTo(isLogin ? bareHash : bareForm),
      ofLmdb: ratioTo(isLogin ? loginOnLmdb : refreshOnLmdb),
      errors: errorsOf(measured),
    }
  })
}

interface OperationRow {
  what: string
  roundTrips: number | undefined
  statements: string
  walBytes: number
  walRecords: number | undefined
  /** of 8 KiB, within `walBytes`: for the first change of a page after a checkpoint */
  walFullPages: number | undefined
  serverMs: number | undefined
}

/** Each operation 100 times, one after the other, on a replica that otherwise only polls; its polling is subtracted. */
async function measureOperations({ origin }: Server, client: pg.Client): Promise<OperationRow[]> {
  const times = 100
  const warmUp = 50
  progress(`what ${times} of each operation cost the database …`)
  const sessions = await logInAll(origin, Array(warmUp + times + 1).fill(user))
  const session = (n: number) => sessions[n] as (typeof sessions)[number]
  const operations: Record<string, (n: number) => Promise<unknown>> = {
    signup: (n) => signUp(origin, `bench-${n}`),
    login: () => logIn(origin, user),
    refresh: (n) => refresh(origin, session(n)),
    'GET /protected': () => call(`${origin}/protected`, 200, { headers: bearer(session(warmUp + times)) }),
    logout: (n) => logOut(origin, session(n)),
  }
  const idle = await ledgerOver(client, () => sleep(3_000))
  const idleSeconds = (idle.after.atMs - idle.before.atMs) / 1000
  const idleCosts = costsBetween(idle.before, idle.after)
  const idleWal = (idle.after.walBytes - idle.before.walBytes) / idleSeconds

  const rows: OperationRow[] = []
  for (const [what, operation] of Object.entries(operations)) {
    // The first change of each page, which writes the page into the log as a whole, is not counted.
    for (let n = 0; n < warmUp; n++) await operation(n)
    const { before, after } = await ledgerOver(client, async () => {
      for (let n = warmUp; n < warmUp + times; n++) await operation(n)
    })
    const elapsed = (after.atMs - before.atMs) / 1000
    const perOperation = [...costsBetween(before, after)]
      .map(([name, cost]) => {
        const idleCalls = ((idleCosts.get(name)?.calls ?? 0) / idleSeconds) * elapsed
        return { name, cost, calls: (cost.calls - idleCalls) / times }
      })
      .filter(({ calls }) => calls > 0.05)
    const counted = (value: number) => (after.statements ? round(value, 2) : undefined)
    const sum = (figure: 'walRecords' | 'execMs' | 'walFullPages') =>
      counted(perOperation.reduce((total, { cost }) => total + cost[figure], 0) / times)
    rows.push({
      what,
      roundTrips: counted(perOperation.reduce((total, { calls }) => total + calls, 0)),
      statements: perOperation
        .map(({ name, calls }) => (calls > 0.95 && calls < 1.05 ? name : `${calls.toFixed(2)} ${name}`))
        .join(', '),
      walBytes: Math.max(0, Math.round((after.walBytes - before.walBytes - idleWal * elapsed) / times)),
      walRecords: sum('walRecords'),
      walFullPages: sum('walFullPages'),
      serverMs: sum('execMs'),
    })
  }
  return rows
}

async function ledgerOver(client: pg.Client, work: () => Promise<unknown>): Promise<{ before: Ledger; after: Ledger }> {
  const before = await readLedger(client)
  await work()
  return { before, after: await readLedger(client) }
}

/** The share of the updates that stayed in their page and touched no index. */
async function readHotUpdates(client: pg.Client): Promise<object[]> {
  // The counts of a connection arrive within a second of its last statement.
  await sleep(1_500)
  const { rows } = await client.query(
    `SELECT relname AS table, n_tup_upd::float8 AS updates, n_tup_hot_upd::float8 AS hot, n_dead_tup::float8 AS dead
     FROM pg_stat_user_tables WHERE n_tup_upd > 0 ORDER BY relname`,
  )
  return rows.map(({ table, updates, hot, dead }) => ({
    table,
    updates,
    hotShare: round(hot / updates),
    deadRows: dead,
  }))
}
