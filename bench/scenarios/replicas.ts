/*
 * The service on PostgreSQL, with several replicas, beside LMDB and a bare Fastify in the same run:
 *
 *     npm run bench:replicas -- [replicas, 2] [--seconds 5] [--rounds 3] [--connections 32] [--json]
 *
 * A PostgreSQL is started for it, or the one of DATABASE_URL is used, in a database that goes afterwards. Replicas, the bare
 * Fastify and the database are processes of their own; the load comes from this one. All of it shares the machine's cores.
 */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type autocannon from 'autocannon'
import type pg from 'pg'
import { argon2 } from '../../plugins/login/argon2.ts'
import {
  asForm,
  bearer,
  form,
  logIn,
  type Measured,
  measure,
  password,
  refresh,
  refreshing,
  signUp,
  type Tokens,
} from '../load.ts'
import { inFlight, median, onEnd, progress, quantile, round, runToEnd, start, type Target } from '../processes.ts'
import { costsBetween, type Ledger, openServer, readLedger } from './postgres.ts'

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
const seconds = Number(flags.seconds)
const rounds = Number(flags.rounds)
const connections = Number(flags.connections)
const logouts = Number(flags.logouts)
const hashesAtOnce = availableParallelism()
const user = 'bench'

await runToEnd(async () => {
  progress('starting PostgreSQL, the replicas, one process on LMDB and a bare Fastify …')
  const server = await openServer()
  const { url: databaseUrl, client } = await server.createDatabase()
  const secret = randomBytes(32).toString('base64url')
  // The last answer of a load is lost, and its refresh is repeated by the next load on that session, a round later.
  const common = {
    AUTH_SECRET: secret,
    AUTH_ISSUER: 'http://localhost',
    AUTH_HASH_MAX_WAIT: '60s',
    AUTH_REFRESH_GRACE: '1h',
  }
  const replicas: Target[] = []
  for (let n = 0; n < replicaCount; n++)
    replicas.push(await start('../start.cjs', { ...common, DATABASE_URL: databaseUrl }))
  const dataDir = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))
  onEnd(() => rmSync(dataDir, { recursive: true, force: true }))
  const embedded = await start('../start.cjs', { ...common, DATABASE_URL: '', AUTH_DATA_DIR: dataDir })
  const bare = await start('./bare.js')
  const [first, second = first] = replicas as [Target, ...Target[]]
  await signUp(first.url, user)
  await signUp(embedded.url, user)

  const results = {
    environment: {
      node: process.version,
      cores: availableParallelism(),
      postgres: server.version,
      replicas: replicaCount,
      connections,
    },
    throughput: await measureThroughput(replicas, embedded, bare),
    perOperation: await measureOperations(first, client),
    hotUpdates: await readHotUpdates(client),
    revocationLagMs: await measureRevocationLag(first, second),
  }
  if (flags.json) console.log(JSON.stringify(results, null, 2))
  else print(results)
  if (results.throughput.some(({ errors }) => errors > 0)) process.exitCode = 1
})

interface ThroughputRow extends Measured {
  what: string
  /** of the bare thing, and of the same on LMDB: medians of the rounds' ratios */
  ofCeiling: number
  ofLmdb: number
}

/** In rounds of everything, so that a disturbance of the machine meets all alike; medians of the rounds. */
async function measureThroughput(replicas: Target[], embedded: Target, bare: Target): Promise<ThroughputRow[]> {
  const [first] = replicas as [Target]
  const sessionsOf = async ({ url }: Target, count: number) => {
    const sessions: Tokens[] = []
    await inFlight(count, hashesAtOnce, async () => sessions.push(await logIn(url, user)))
    return sessions
  }
  const lmdbSessions = await sessionsOf(embedded, connections)
  const pgSessions = await sessionsOf(first, connections)
  const anyForm = asForm(pgSessions[0]?.refresh_token ?? '')

  /** The load on several replicas, each with its share of the connections. */
  const together = async (parts: autocannon.Options[]): Promise<Measured> => {
    const measured = await Promise.all(parts.map((part) => measure({ duration: seconds, ...part })))
    return {
      perSecond: measured.reduce((sum, { perSecond }) => sum + perSecond, 0),
      p50Ms: median(measured.map(({ p50Ms }) => p50Ms)),
      p99Ms: Math.max(...measured.map(({ p99Ms }) => p99Ms)),
      errors: measured.reduce((sum, { errors }) => sum + errors, 0),
    }
  }
  const share = <T>(items: T[], n: number) => items.filter((_, index) => index % replicas.length === n)
  const login = (target: Target): autocannon.Options => ({
    url: `${target.url}/token`,
    method: 'POST',
    headers: form,
    body: new URLSearchParams({ grant_type: 'password', username: user, password }).toString(),
    connections: 4 * hashesAtOnce,
  })

  const loads: Record<string, () => Promise<Measured>> = {
    'bare form POST': () =>
      together([{ url: `${bare.url}/`, method: 'POST', headers: form, body: anyForm, connections }]),
    'refresh, LMDB': () => together([refreshing(embedded.url, lmdbSessions)]),
    'refresh, PostgreSQL, 1 replica': () => together([refreshing(first.url, pgSessions)]),
    ...(replicas.length > 1 && {
      [`refresh, PostgreSQL, ${replicas.length} replicas`]: () =>
        together(replicas.map(({ url }, n) => refreshing(url, share(pgSessions, n)))),
    }),
    'bare argon2.verify': measureArgon2,
    'login, LMDB': () => together([login(embedded)]),
    'login, PostgreSQL, 1 replica': () => together([login(first)]),
    ...(replicas.length > 1 && {
      [`login, PostgreSQL, ${replicas.length} replicas`]: () => together(replicas.map(login)),
    }),
  }
  const measured = new Map<string, Measured[]>()
  for (let round = 1; round <= rounds; round++) {
    for (const [what, load] of Object.entries(loads)) {
      progress(`round ${round} of ${rounds}: ${what} …`)
      measured.set(what, [...(measured.get(what) ?? []), await load()])
    }
  }
  const of = (what: string, figure: keyof Measured) => (measured.get(what) ?? []).map((row) => row[figure])
  /** Of each round by itself, and then the median. */
  const ratio = (what: string, to: string) =>
    round(
      median(of(what, 'perSecond').map((perSecond, index) => perSecond / (of(to, 'perSecond')[index] as number))),
      2,
    )
  return Object.keys(loads).map((what) => {
    const isLogin = what.includes('login') || what.includes('argon2')
    return {
      what,
      perSecond: median(of(what, 'perSecond')),
      p50Ms: median(of(what, 'p50Ms')),
      p99Ms: median(of(what, 'p99Ms')),
      ofCeiling: ratio(what, isLogin ? 'bare argon2.verify' : 'bare form POST'),
      ofLmdb: ratio(what, isLogin ? 'login, LMDB' : 'refresh, LMDB'),
      errors: of(what, 'errors').reduce((sum, errors) => sum + errors, 0),
    }
  })
}

async function measureArgon2(): Promise<Measured> {
  const hash = await argon2.hash(password, { type: argon2.argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 })
  const times: number[] = []
  const startedAt = performance.now()
  await inFlight(Number.POSITIVE_INFINITY, hashesAtOnce, async () => {
    const at = performance.now()
    // Thrown to leave the loop.
    if (at - startedAt > seconds * 1000) throw times
    await argon2.verify(hash, password)
    times.push(performance.now() - at)
  }).catch((thrown) => {
    if (thrown !== times) throw thrown
  })
  const elapsed = (performance.now() - startedAt) / 1000
  return {
    perSecond: round(times.length / elapsed),
    p50Ms: Math.round(median(times)),
    p99Ms: Math.round(quantile(times, 0.99)),
    errors: 0,
  }
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

/** Every operation so many times, one after the other, on a replica that otherwise only polls; what it polls is taken off. */
async function measureOperations({ url }: Target, client: pg.Client): Promise<OperationRow[]> {
  const times = 100
  const warmUp = 50
  progress(`what ${times} of each operation cost the database …`)
  const sessions: Tokens[] = []
  for (let n = 0; n <= warmUp + times; n++) sessions.push(await logIn(url, user))
  const someone = sessions.pop() as Tokens
  const check = async () => {
    const response = await fetch(`${url}/protected`, { headers: bearer(someone) })
    if (response.status !== 200) throw new Error(`/protected: ${response.status}`)
  }
  const logOut = async (tokens: Tokens) => {
    const response = await fetch(`${url}/logout`, { method: 'POST', headers: bearer(tokens) })
    if (response.status !== 204) throw new Error(`logout: ${response.status}`)
  }

  // The statements that run while nobody asks for anything.
  const idle = await ledgerOver(client, () => sleep(3_000))
  const idleSeconds = (idle.after.atMs - idle.before.atMs) / 1000
  const idleCalls = new Map(
    [...costsBetween(idle.before, idle.after)].map(([name, { calls }]) => [name, calls / idleSeconds]),
  )
  const idleWal = (idle.after.walBytes - idle.before.walBytes) / idleSeconds

  const rows: OperationRow[] = []
  const operations: [what: string, operation: (n: number) => Promise<unknown>][] = [
    ['signup', (n) => signUp(url, `bench-${n}`)],
    ['login', () => logIn(url, user)],
    ['refresh', (n) => refresh(url, sessions[n] as Tokens)],
    ['GET /protected', check],
    ['logout', (n) => logOut(sessions[n] as Tokens)],
  ]
  for (const [what, operation] of operations) {
    // The first ones, after which the pages that it changes have been in the log as a whole, are not counted.
    for (let n = 0; n < warmUp; n++) await operation(n)
    const { before, after } = await ledgerOver(client, async () => {
      for (let n = warmUp; n < warmUp + times; n++) await operation(n)
    })
    const elapsed = (after.atMs - before.atMs) / 1000
    const costs = costsBetween(before, after)
    const perOperation = [...costs]
      .map(([name, cost]) => ({ name, cost, calls: (cost.calls - (idleCalls.get(name) ?? 0) * elapsed) / times }))
      .filter(({ calls }) => calls > 0.05)
    const sum = (figure: 'walRecords' | 'walBytes' | 'execMs' | 'walFullPages') =>
      perOperation.reduce((total, { cost }) => total + cost[figure], 0) / times
    rows.push({
      what,
      roundTrips:
        after.statements &&
        round(
          perOperation.reduce((total, { calls }) => total + calls, 0),
          2,
        ),
      statements: perOperation
        .map(({ name, calls }) => (calls > 0.95 && calls < 1.05 ? name : `${calls.toFixed(2)} ${name}`))
        .join(', '),
      walBytes: Math.max(0, Math.round((after.walBytes - before.walBytes - idleWal * elapsed) / times)),
      walRecords: after.statements && round(sum('walRecords'), 2),
      walFullPages: after.statements && round(sum('walFullPages'), 2),
      serverMs: after.statements && round(sum('execMs'), 2),
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
async function readHotUpdates(
  client: pg.Client,
): Promise<{ table: string; updates: number; hotShare: number; deadRows: number }[]> {
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

/**
 * From the answer to a logout at one replica to the first refusal of the session's access token by another, which hears of it
 * by its polling alone: it is asked to end nothing itself, whereupon it would look at once.
 */
async function measureRevocationLag(
  one: Target,
  other: Target,
): Promise<{ logouts: number; p50: number; p99: number; max: number }> {
  progress(`how long after each of ${logouts} logouts the other replica refuses the token …`)
  const sessions: Tokens[] = []
  await inFlight(logouts, hashesAtOnce, async () => sessions.push(await logIn(one.url, user)))
  const lags: number[] = []
  await inFlight(logouts, 8, async (n) => {
    const tokens = sessions[n] as Tokens
    const isRefused = async () => (await fetch(`${other.url}/protected`, { headers: bearer(tokens) })).status === 401
    if (await isRefused()) throw new Error('refused before the logout')
    await sleep(Math.random() * 400)
    await fetch(`${one.url}/logout`, { method: 'POST', headers: bearer(tokens) })
    const answeredAt = performance.now()
    for (;;) {
      const askedAt = performance.now()
      if (await isRefused()) {
        lags.push(Math.max(0, askedAt - answeredAt))
        return
      }
      if (askedAt - answeredAt > 10_000) throw new Error('not refused after ten seconds')
      await sleep(3)
    }
  })
  return {
    logouts,
    p50: Math.round(quantile(lags, 0.5)),
    p99: Math.round(quantile(lags, 0.99)),
    max: Math.round(quantile(lags, 1)),
  }
}

interface Results {
  environment: Record<string, unknown>
  throughput: ThroughputRow[]
  perOperation: OperationRow[]
  hotUpdates: unknown[]
  revocationLagMs: unknown
}

function print({ environment, throughput, perOperation, hotUpdates, revocationLagMs }: Results): void {
  console.log(environment)
  console.table(throughput)
  console.table(perOperation)
  console.table(hotUpdates)
  console.log('revocation lag between replicas, ms:', revocationLagMs)
}
