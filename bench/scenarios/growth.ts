/*
 * What an operation costs with a thousand, a hundred thousand and a million users, each with a session, in both stores:
 *
 *     npm run bench:growth -- [--sizes 1000,100000,1000000] [--stores lmdb,pg] [--rounds 5] [--json] [--assert]
 *
 * A PostgreSQL is started for it, or the one of DATABASE_URL is used, in databases that go afterwards. All sizes are open at
 * once and measured in turn, in rounds, so that a disturbance of the machine meets all alike; what is printed are medians of
 * the rounds. With `--assert` it fails when the largest costs more than 1.5 times what the smallest does.
 */
import { createHash, randomBytes } from 'node:crypto'
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { FastifyInstance } from 'fastify'
import type pg from 'pg'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { openLmdbStore } from '../../stores/lmdb/store.ts'
import { inFlight, median, onEnd, progress, round, runToEnd, start, stop } from '../processes.ts'
import { openServer } from './postgres.ts'

const { values: flags } = parseArgs({
  options: {
    sizes: { type: 'string', default: '1000,100000,1000000' },
    stores: { type: 'string', default: 'lmdb,pg' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
    assert: { type: 'boolean', default: false },
  },
})
const sizes = flags.sizes.split(',').map(Number)
const storeNames = flags.stores.split(',')
const rounds = Number(flags.rounds)
const concurrency = 32
const flatWithin = 1.5
const sweepLimit = 500
const starts = 3

const secret = randomBytes(32).toString('base64url')
const bornAt = Date.now() - 3_600_000
const passwordHash = `$argon2id$v=19$m=19456,t=2,p=1$${'s'.repeat(22)}$${'h'.repeat(43)}`
const userAgent =
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36'
const address = '203.0.113.77'

/** The same users and sessions in both stores; the ids spread like random ones. */
const md5 = (text: string) => createHash('md5').update(text).digest('hex')
const uuid = (text: string) => md5(text).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
const userId = (n: number) => uuid(`user ${n}`)
const sessionId = (n: number) => uuid(`session ${n}`)
const nameOf = (n: number) => `user-${n}@example.com`
const userOf = (n: number): User => ({
  id: userId(n),
  username: nameOf(n),
  nameKey: nameOf(n),
  passwordHash,
  roles: [],
  createdAt: bornAt,
  generation: 0,
})
const sessionOf = (n: number): Session => ({
  id: sessionId(n),
  userId: userId(n),
  clientId: 'first-party',
  scope: [],
  generation: 0,
  counter: 0,
  createdAt: bornAt,
  refreshedAt: bornAt,
  address,
  userAgent,
})

interface Subject {
  store: string
  size: number
  app: FastifyInstance
  env: Record<string, string>
  disk: Record<string, number>
  loadSeconds: number
  /** how many rotations each session has had, at most */
  counter: number
  /** where the walk over the sessions is */
  position: number
  /** bytes of write-ahead log so far; PostgreSQL only */
  walBytes?: () => Promise<number>
}

await runToEnd(async () => {
  const subjects: Subject[] = []
  const server = storeNames.includes('pg') ? await openServer() : undefined
  for (const size of sizes) {
    for (const store of storeNames) {
      progress(`loading ${size} users and sessions into ${store} …`)
      const startedAt = performance.now()
      const loaded =
        server && store === 'pg' ? await loadPostgres(size, await server.createDatabase()) : await loadLmdb(size)
      const loadSeconds = (performance.now() - startedAt) / 1000
      const env = { ...loaded.env, AUTH_SECRET: secret, AUTH_ISSUER: 'http://localhost' }
      const app = await buildApp(readConfig({ ...env, LOG_LEVEL: 'silent' }))
      onEnd(() => app.close())
      subjects.push({ store, size, app, ...loaded, env, loadSeconds, counter: 0, position: 0 })
    }
  }

  const costs = await measureCosts(subjects)
  const readyMs = await measureStarts(subjects)
  const rows = subjects.map((subject): Row => {
    const { store, size, disk, loadSeconds } = subject
    return {
      store,
      size,
      ...costs.get(subject),
      readyMs: readyMs.get(subject),
      loadSeconds: round(loadSeconds, 2),
      ...disk,
    }
  })
  const ratios = storeNames.flatMap((store) => {
    const [smallest, ...larger] = rows.filter((row) => row.store === store) as [Row, ...Row[]]
    return larger.map((row) => ({ store, size: row.size, ...ratiosOf(row, smallest) }))
  })
  const environment = {
    node: process.version,
    cores: availableParallelism(),
    postgres: server?.version,
    concurrency,
    rounds,
    sweepLimit,
  }
  if (flags.json) console.log(JSON.stringify({ environment, rows, ratios }, null, 2))
  else {
    console.log(environment)
    for (const store of storeNames) {
      console.log(`${store}: microseconds, one after the other and (with "32") ${concurrency} in flight; bytes on disk`)
      console.table(transposed(rows.filter((row) => row.store === store)))
      console.log(`${store}: as ratios to ${sizes[0]}`)
      console.table(transposed(ratios.filter((row) => row.store === store)))
    }
  }
  if (flags.assert) {
    for (const { store, size, ...figures } of ratios) {
      for (const [figure, ratio] of Object.entries<number>(figures)) {
        if (ratio <= flatWithin) continue
        console.error(`${store}, ${size}: ${figure} is ${ratio} times that of ${sizes[0]}`)
        process.exitCode = 1
      }
    }
  }
})

type Row = { store: string; size: number } & Record<string, number | string | undefined>

function ratiosOf(row: Row, smallest: Row): Record<string, number> {
  const figures = Object.keys(row).filter((figure) => /Us(32)?$|^readyMs$/.test(figure))
  return Object.fromEntries(figures.map((figure) => [figure, round(Number(row[figure]) / Number(smallest[figure]), 2)]))
}

/** A column for each size. */
function transposed(rows: Record<string, unknown>[]): Record<string, Record<string, unknown>> {
  const figures = Object.keys(rows[0] ?? {}).filter((figure) => figure !== 'store' && figure !== 'size')
  return Object.fromEntries(
    figures.map((figure) => [
      figure,
      Object.fromEntries(rows.map((row) => [Number(row['size']).toLocaleString('en'), row[figure]])),
    ]),
  )
}

type Loaded = Pick<Subject, 'env' | 'disk' | 'walBytes'>

/** Through the store's own methods: those of one turn share a commit. */
async function loadLmdb(size: number): Promise<Loaded> {
  const dataDir = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))
  onEnd(() => rmSync(dataDir, { recursive: true, force: true }))
  const store = openLmdbStore(dataDir)
  const file = () => statSync(join(dataDir, 'lmdb', 'data.mdb')).size
  const perBatch = 20_000
  const load = async (add: (n: number) => Promise<boolean>) => {
    for (let from = 0; from < size; from += perBatch) {
      const batch = Array.from({ length: Math.min(perBatch, size - from) }, (_, index) => add(from + index))
      if ((await Promise.all(batch)).includes(false)) throw new Error('a row was refused')
    }
  }
  const empty = file()
  await load((n) => store.createUser(userOf(n)))
  const withUsers = file()
  await load((n) => store.createSession(sessionOf(n)))
  const withSessions = file()
  await store.close()
  return {
    env: { AUTH_DATA_DIR: dataDir, DATABASE_URL: '' },
    disk: {
      userBytes: Math.round((withUsers - empty) / size),
      sessionBytes: Math.round((withSessions - withUsers) / size),
    },
  }
}

async function loadPostgres(size: number, { url, client }: { url: string; client: pg.Client }): Promise<Loaded> {
  const env = { DATABASE_URL: url, AUTH_SECRET: secret, AUTH_ISSUER: 'http://localhost', LOG_LEVEL: 'silent' }
  // For the schema.
  await (await buildApp(readConfig(env))).close()
  await client.query(
    `INSERT INTO latchkey_users (id, username, name_key, password_hash, roles, created_at, generation)
     SELECT md5('user ' || n)::uuid, 'user-' || n || '@example.com', 'user-' || n || '@example.com', $2, '{}', $3, 0
     FROM generate_series(0, $1::int - 1) AS n`,
    [size, passwordHash, bornAt],
  )
  await client.query(
    `INSERT INTO latchkey_sessions (id, user_id, generation, counter, created_at, refreshed_at, client_id, address, user_agent, scope)
     SELECT md5('session ' || n)::uuid, md5('user ' || n)::uuid, 0, 0, $2, $2, 'first-party', $3, $4, '{}'
     FROM generate_series(0, $1::int - 1) AS n`,
    [size, bornAt, address, userAgent],
  )
  await client.query('VACUUM ANALYZE latchkey_users')
  await client.query('VACUUM ANALYZE latchkey_sessions')
  await client.query('CHECKPOINT')
  const { rows } = await client.query(
    `SELECT c.relname AS name, pg_relation_size(c.oid)::float8 AS bytes FROM pg_class c
     WHERE c.relname LIKE 'latchkey_users%' OR c.relname LIKE 'latchkey_sessions%'`,
  )
  const perRow = (of: string) =>
    Math.round(rows.filter(({ name }) => name.startsWith(of)).reduce((total, { bytes }) => total + bytes, 0) / size)
  return {
    env: { DATABASE_URL: url },
    disk: {
      userBytes: perRow('latchkey_users'),
      sessionBytes: perRow('latchkey_sessions'),
      ...Object.fromEntries(
        rows.map(({ name, bytes }) => [`${name.replace('latchkey_', '')}Bytes`, Math.round(bytes / size)]),
      ),
    },
    walBytes: async () => {
      const result = await client.query(`SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8 AS bytes`)
      return result.rows[0].bytes
    },
  }
}

/** Walks over the sessions so that none comes again before all others have, and neighbours in time are none on disk. */
function nextOf(subject: Subject): { index: number; counter: number } {
  const index = subject.position++ % subject.size
  if (index === 0) subject.counter += 1
  return { index, counter: subject.counter }
}

async function measureCosts(subjects: Subject[]): Promise<Map<Subject, Record<string, number>>> {
  const measured = new Map<Subject, Map<string, number[]>>(subjects.map((subject) => [subject, new Map()]))
  const note = (subject: Subject, figure: string, value: number) => {
    const figures = measured.get(subject) as Map<string, number[]>
    figures.set(figure, [...(figures.get(figure) ?? []), value])
  }
  async function time(
    subject: Subject,
    figure: string,
    counts: [alone: number, together: number],
    work: () => Promise<unknown>,
  ) {
    for (const [count, atOnce, suffix] of [
      [counts[0], 1, ''],
      [counts[1], concurrency, concurrency],
    ] as const) {
      if (count === 0) continue
      const at = performance.now()
      await inFlight(count, atOnce, work)
      note(subject, `${figure}Us${suffix}`, ((performance.now() - at) * 1000) / count)
    }
  }
  const random = (subject: Subject) => Math.floor(Math.random() * subject.size)

  for (let number = 0; number <= rounds; number++) {
    progress(number === 0 ? 'warming up …' : `round ${number} of ${rounds} …`)
    for (const subject of subjects) {
      note(subject, 'bareSync', bareSyncUs())
      const { app } = subject
      const { store, accessTokens, revocations, sessions } = app
      const limits = sessions.limits()
      await time(subject, 'findUserByName', [500, 4_000], async () => {
        const user = await store.findUserByName(nameOf(random(subject)))
        if (!user) throw new Error('a user is missing')
      })
      // A token that was not seen before, of a user who was not asked for before: nothing comes from memory.
      const tokens: string[] = []
      const [aud, generations] = [subject.app.config.AUTH_AUDIENCE, { user: 0, client: 0 }]
      for (let n = 0; n < 1_500; n++) {
        const index = random(subject)
        tokens.push(
          await accessTokens.issue({
            sub: userId(index),
            client_id: 'first-party',
            sid: sessionId(index),
            aud,
            generations,
          }),
        )
      }
      await time(subject, 'firstCheck', [500, 1_000], async () => {
        const claims = await accessTokens.verify(tokens.pop() as string)
        if (revocations.isRevoked(claims) || !(await store.findUser(claims.sub))) throw new Error('a token was refused')
      })
      const walBefore = await subject.walBytes?.()
      const refreshes: [number, number] = [250, 4_000]
      await time(subject, 'rotateSession', refreshes, async () => {
        const { index, counter } = nextOf(subject)
        const { outcome } = await store.rotateSession({
          ...limits,
          sessionId: sessionId(index),
          counter: counter - 1,
          clientId: 'first-party',
          scope: undefined,
          graceMs: 0,
          revokedUntil: 0,
          address,
          userAgent,
        })
        if (outcome !== 'rotated') throw new Error(`a refresh was ${outcome}`)
      })
      if (walBefore !== undefined) {
        const written = ((await subject.walBytes?.()) as number) - walBefore
        note(subject, 'walPerRefresh', written / (refreshes[0] + refreshes[1]))
      }
      // Somewhere in the sessions, but not so near their end that the step is a short one; all that is there lives.
      await time(subject, 'sweepStep', [10, 0], async () => {
        const cursor = `0 ${(Math.floor(Math.random() * 0x70) + 0x01).toString(16).padStart(2, '0')}000000-0000-0000-0000-000000000000`
        const { removed } = await store.sweep({ ...limits, failuresBefore: 0, limit: sweepLimit, cursor })
        if (removed > 0) throw new Error('the living were swept')
      })
    }
    // What the first round met cold is not counted.
    if (number === 0) for (const figures of measured.values()) figures.clear()
  }
  return new Map(
    [...measured].map(([subject, figures]) => [
      subject,
      Object.fromEntries([...figures].map(([figure, values]) => [figure, round(median(values))])),
    ]),
  )
}

/** What the disk takes at this moment to sync 4 KiB, alone: as much as it varies, the durable figures vary by themselves. */
function bareSyncUs(): number {
  const dir = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))
  const file = openSync(join(dir, 'sync'), 'w')
  const page = Buffer.alloc(4096, 1)
  const times = Array.from({ length: 30 }, () => {
    const at = performance.now()
    writeSync(file, page)
    fdatasyncSync(file)
    return (performance.now() - at) * 1000
  })
  closeSync(file)
  rmSync(dir, { recursive: true })
  return median(times)
}

/** From the start of the process to the first `GET /readyz` that is answered 200. */
async function measureStarts(subjects: Subject[]): Promise<Map<Subject, number>> {
  const times = new Map<Subject, number[]>(subjects.map((subject) => [subject, []]))
  for (let n = 1; n <= starts; n++) {
    progress(`start ${n} of ${starts} …`)
    for (const subject of subjects) {
      const startedAt = performance.now()
      const server = await start('../start.cjs', subject.env)
      const { status } = await fetch(`${server.url}/readyz`)
      if (status !== 200) throw new Error(`/readyz: ${status}`)
      times.get(subject)?.push(performance.now() - startedAt)
      await stop(server.process)
    }
  }
  return new Map([...times].map(([subject, values]) => [subject, Math.round(median(values))]))
}
