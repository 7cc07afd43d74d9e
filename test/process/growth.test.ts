import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import t, { type Test } from 'tap'
import { failuresLastMs } from '../../domain/failures.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { Session } from '../../domain/session.ts'
import type { TableName } from '../../stores/rows.ts'
import type { Store } from '../../stores/store.ts'
import { makeRecord } from '../stores/records.ts'
import {
  cheapHashing,
  claimsOf,
  logIn,
  newDir,
  overStores,
  password,
  refresh,
  signUp,
  storeOf,
  type TestApp,
  type Tokens,
} from '../support/helper.ts'
import { isLong, startReplica } from '../support/processes.ts'
import { moduleFile } from '../support/program.ts'
import type { Sample } from './growth.child.ts'

/*
 * The service does not grow with use: weeks of a clock that is moved, and in the long form months, and ten million
 * refreshes.
 */

if (isLong) t.setTimeout(3_600_000)

const day = 86_400_000
const [keptSessions, idleDays] = isLong ? [20, 30] : [8, 12]
const days = 4 * idleDays
const openedEachDay = 20
const browsersEachDay = 5
const refreshesEachDay = 2

/** Bytes on disk; of PostgreSQL after what its autovacuum does in the course of days. */
async function sizeOf({ config }: TestApp): Promise<number> {
  if (!config.DATABASE_URL) return statSync(join(config.AUTH_DATA_DIR, 'lmdb', 'data.mdb')).size
  const client = new pg.Client(config.DATABASE_URL)
  await client.connect()
  try {
    const { rows } = await client.query(
      'SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = ' +
        "current_schema()::regnamespace AND relkind = 'r'",
    )
    let bytes = 0
    for (const { name } of rows) {
      await client.query(`VACUUM ${name}`)
      bytes += Number(
        (await client.query('SELECT pg_total_relation_size($1::regclass) AS bytes', [name])).rows[0].bytes,
      )
    }
    return bytes
  } finally {
    await client.end()
  }
}

/** As the sweeper does, to the end of a round. */
async function sweep({ app, clock }: TestApp): Promise<void> {
  let cursor: string | undefined
  do {
    const step = { ...app.sessions.limits(), failuresBefore: clock.now - failuresLastMs, limit: 500 }
    cursor = (await app.store.sweep({ ...step, ...(cursor !== undefined && { cursor }) })).cursor
  } while (cursor !== undefined)
}

async function countRows(store: Store, table: TableName): Promise<number> {
  const { rows, next } = await store.exportRows(table, { limit: 10_000 })
  if (next !== undefined) throw new Error('more rows than a page holds')
  return rows.length
}

/** Signs the user of a session in in a browser, and to an app from there. @returns the id of the browser session */
async function signIn({ app, clock: { now } }: TestApp, of: Session): Promise<string> {
  const [store, id, { userId, generation, address, userAgent }] = [storeOf(app), randomUUID(), of]
  const record = makeRecord({ createdAt: now, expiresAt: now + 60_000 })
  await store.issueRecord(record, { perOwner: 10, perSource: 10 })
  const browser = { id, userId, generation, address, userAgent, secretHash: record.id, createdAt: now, seenAt: now }
  await store.createBrowserSession({ ...browser, authAt: now, amr: ['pwd'] }, { kind: 'code', id: record.id, now })
  await store.createSession({ ...of, id: randomUUID(), counter: 0, createdAt: now, refreshedAt: now, parent: id })
  return id
}

overStores('time goes by: what has expired leaves, what lives stays, and the store does not grow', async (t, build) => {
  const browserDays = Math.min(7, idleDays)
  const test = await build({ AUTH_REFRESH_MAX_TTL: '3650d', AUTH_REFRESH_IDLE_TTL: `${idleDays}d` })
  const { app, clock } = test
  const { sessions } = app
  const store = storeOf(app)
  await signUp(app)
  const kept: Tokens[] = await Promise.all(Array.from({ length: keptSessions }, () => logIn(app)))
  const first = (await store.findSession(String(claimsOf((kept[0] as Tokens).access_token)['sid']))) as Session
  const sizes: number[] = []

  for (let today = 1; today <= days; today++) {
    clock.now += day
    for (let n = 0; n < refreshesEachDay; n++) {
      await Promise.all(
        kept.map(async (tokens) => {
          const response = await refresh(app, tokens.refresh_token)
          if (response.statusCode !== 200) t.equal(response.statusCode, 200, `day ${today}: ${response.body}`)
          else Object.assign(tokens, response.json())
        }),
      )
    }
    // Opened, and never seen again; a guess; a token that was revoked.
    const times = { createdAt: clock.now, refreshedAt: clock.now }
    await Promise.all(
      Array.from({ length: openedEachDay }, () =>
        store.createSession({ ...first, ...times, id: crypto.randomUUID(), counter: 0 }),
      ),
    )
    const browsers = await Promise.all(Array.from({ length: browsersEachDay }, () => signIn(test, first)))
    await store.endBrowserSession(browsers[0] as string, { now: clock.now, expiresAt: clock.now + 600_000 } as End)
    await store.recordFailure([{ key: `guess of day ${today}` }], clock.now)
    await store.revoke({ kind: 'jti', id: crypto.randomUUID(), revokedAt: clock.now, expiresAt: clock.now + 600_000 })
    await sweep(test)
    if (today % (idleDays / 3) === 0) sizes.push(await sizeOf(test))
  }

  const [early, late] = [sizes[3] as number, sizes.at(-1) as number]
  t.ok(late <= early * 1.25, `${early} bytes when the first had expired, ${late} in the end`)
  t.equal(
    await countRows(store, 'sessions'),
    keptSessions + idleDays * openedEachDay + browserDays * (browsersEachDay - 1),
    'those that have not been idle for too long, and those in use',
  )
  t.equal(await countRows(store, 'failures'), 2, 'of a day ago, and of today')
  t.equal(await countRows(store, 'browserSessions'), browserDays * (browsersEachDay - 1))
  t.equal(await countRows(store, 'records'), browsersEachDay, 'an app is to be told of each end of today')
  t.equal((await store.revocationsSince()).revocations.length, 2)

  clock.now += (idleDays - 1) * day
  await sweep(test)
  const last = await Promise.all(kept.map((tokens) => refresh(app, tokens.refresh_token)))
  t.same(
    new Set(last.map(({ statusCode }) => statusCode)),
    new Set([200]),
    'nobody who came within that time was logged out',
  )
  clock.now += idleDays * day
  await sweep(test)
  t.equal(await countRows(store, 'browserSessions'), 0)
  t.equal(await countRows(store, 'sessions'), 0, 'and in the end those too that were in use')
  t.equal(await countRows(store, 'failures'), 0)
  t.equal((await store.revocationsSince()).revocations.length, 0)
  t.same((await sessions.list(first.userId, { limit: 10 })).sessions, [])
})

const median = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number
/** The first quarter is for warming up. */
const quarter = <T>(list: T[], number: 2 | 4) =>
  list.slice(((number - 1) * list.length) / 4, (number * list.length) / 4)

function assertFlat(t: Test, what: string, values: number[], within: number): void {
  const [early, late] = [median(quarter(values, 2)), median(quarter(values, 4))]
  t.ok(late <= early * within, `${what}: ${early} in the second quarter, ${late} in the last`)
}

/** How many refreshes through the store; the soak's ten million can be made fewer for a look. */
const refreshes = Number(process.env['LATCHKEY_REFRESHES'] ?? 10_000_000)

if (isLong) {
  t.test(
    `${refreshes} refreshes of a thousand sessions, and what is opened and forgotten meanwhile [lmdb]`,
    async (t) => {
      const script = moduleFile('test/process/growth.child')
      const child = spawn(process.execPath, [...process.execArgv, script, await newDir(t), String(refreshes)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      t.teardown(() => child.kill('SIGKILL'))
      const ended = once(child, 'close')
      const samples: Sample[] = []
      for await (const line of createInterface(child.stdout)) {
        t.comment(line)
        samples.push(JSON.parse(line))
      }
      t.same(await ended, [0, null])
      t.equal(samples.at(-1)?.refreshes, refreshes)
      assertFlat(
        t,
        'MB on disk',
        samples.map(({ fileMB }) => fileMB),
        1.2,
      )
      assertFlat(
        t,
        'bytes written for a refresh',
        samples.map(({ writtenBytes }) => writtenBytes),
        1.2,
      )
      assertFlat(
        t,
        'MB resident',
        samples.map(({ residentMB }) => residentMB),
        1.1,
      )
    },
  )

  t.test('refreshing over HTTP for minutes [lmdb]', async (t) => {
    const dataDir = await newDir(t)
    const service = await startReplica(t, {
      ...cheapHashing,
      AUTH_DATA_DIR: dataDir,
      AUTH_ISSUER: 'http://auth.example',
    })
    await service.signUp('ada')
    const clients = await Promise.all(Array.from({ length: 32 }, () => service.logIn('ada', password)))
    const [minutes, samplesPerMinute] = [5, 6]
    const samples: { refreshes: number; fileMB: number; residentMB: number }[] = []
    let done = 0
    for (let sample = 0; sample < minutes * samplesPerMinute; sample++) {
      const endAt = performance.now() + 60_000 / samplesPerMinute
      await Promise.all(
        clients.map(async (tokens) => {
          while (performance.now() < endAt) {
            const { status, body } = await service.refresh(tokens.refresh_token)
            if (status !== 200) throw new Error(`a refresh was ${status}`)
            Object.assign(tokens, body)
            done += 1
          }
        }),
      )
      samples.push({
        refreshes: done,
        fileMB: statSync(join(dataDir, 'lmdb', 'data.mdb')).size / 1e6,
        residentMB: Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${service.pid}/status`, 'utf8'))?.[1]) / 1024,
      })
      t.comment(JSON.stringify(samples.at(-1)))
    }
    assertFlat(
      t,
      'MB on disk',
      samples.map(({ fileMB }) => fileMB),
      1.2,
    )
    assertFlat(
      t,
      'MB resident',
      samples.map(({ residentMB }) => residentMB),
      1.1,
    )
  })
}
