import { randomUUID } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Authentication } from '../../domain/authentication.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { PresentedRefresh, Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { splitHosts } from '../../stores/postgres/hosts.ts'
import { migrate, migrations } from '../../stores/postgres/migrations.ts'
import { openPool } from '../../stores/postgres/pool.ts'
import { everyStatement, parts } from '../../stores/postgres/sql.ts'
import { openPostgresStore } from '../../stores/postgres/store.ts'
import { type Store, StoreUnavailable } from '../../stores/store.ts'
import { until } from '../support/basics.ts'
import { sharedPostgres } from '../support/helper.ts'
import { startNetwork } from '../support/network.ts'
import { startPostgres } from '../support/postgres.ts'
import { isLong } from '../support/processes.ts'
import { moduleFile, root } from '../support/program.ts'
import { storeContract } from './contract.ts'
import { makeTotp } from './factors.ts'
import { makeRecord } from './records.ts'

const postgres = await sharedPostgres()
const now = 1_800_000_000_000
const end = { now, expiresAt: now } as End
function makeUser(): User {
  const id = randomUUID()
  return { id, username: id, nameKey: id, passwordHash: 'hash', roles: [], createdAt: now, generation: 1 }
}
const makeSession = (user: User): Session => ({
  ...{ id: randomUUID(), userId: user.id, clientId: 'first-party', scope: [], generation: 1, counter: 1 },
  ...{ createdAt: now, refreshedAt: now, address: '', userAgent: '' },
})
const present = (session: Session, counter: number): PresentedRefresh => ({
  ...{
    sessionId: session.id,
    counter,
    clientId: session.clientId,
    scope: undefined,
    now,
    idleTtlMs: 1000,
    maxTtlMs: 1000,
    browser: { idleTtlMs: 1000, maxTtlMs: 1000 },
  },
  ...{ graceMs: 100, address: '', userAgent: '' },
})

async function openStore(t: Test, url: string): Promise<Store> {
  const store = await openPostgresStore(url)
  t.teardown(() => store.close())
  return store
}

/** Tries until the store answers. @returns milliseconds that it took */
async function healed(call: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  for (;;) {
    try {
      await call()
      return performance.now() - start
    } catch (error) {
      if (!(error instanceof StoreUnavailable) || performance.now() - start > 20_000) throw error
      await sleep(20)
    }
  }
}

/** How a call failed, and after how many milliseconds. */
async function failure(call: () => Promise<unknown>): Promise<{ error: unknown; ms: number }> {
  const start = performance.now()
  const error = await call().then(
    () => undefined,
    (error: unknown) => error,
  )
  return { error, ms: performance.now() - start }
}

t.test('the contract, at READ COMMITTED', async (t) => {
  const url = await postgres.createSchema()
  await storeContract(t, 'pg', () => openPostgresStore(url))
})

t.test('the contract, at SERIALIZABLE, where losers of a race are told to try again as on CockroachDB', async (t) => {
  const url = await postgres.createDatabase()
  await postgres.execute(
    `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET default_transaction_isolation = 'serializable'`,
  )
  await storeContract(t, 'pg', () => openPostgresStore(url))
})

t.test('the statements of every table are known, and no two have one name, by which they are prepared', async (t) => {
  const names = parts.flatMap(Object.keys)
  t.ok(names.length > 60)
  t.same(
    names.filter((name, i) => names.indexOf(name) !== i),
    [],
  )
  const files = await readdir(join(root, 'stores/postgres/tables'))
  for (const file of files) {
    const { statements } = await import(moduleFile(`stores/postgres/tables/${file.replace('.ts', '')}`))
    t.ok(parts.includes(statements), file)
  }
})

t.test('the SQL holds to what CockroachDB, YugabyteDB and Citus run too', async (t) => {
  const migrated = migrations.flatMap(({ version, statements }) =>
    statements.map((text, i) => [`step ${version}.${i}`, text] as const),
  )
  const all = [...Object.entries(everyStatement).map(([name, { text }]) => [name, text] as const), ...migrated]
  const forbidden = {
    'advisory locks': /advisory/i,
    'triggers and rules': /\b(trigger|rule)\b/i,
    sequences: /\b((small|big)?serial|identity|sequence|nextval)\b/i,
    'functions and procedures': /\b(function|procedure|plpgsql|call|do\s+\$)/i,
    notification: /\b(listen|notify)\b/i,
    'table locks': /\block\b/i,
    'locks that only PostgreSQL tells apart': /\bfor\s+(no\s+key|key)\b/i,
    'types and extensions of our own': /\bcreate\s+(extension|type|domain|schema)\b/i,
    'what only PostgreSQL stores': /\b(ctid|xmin|xmax|oid|pg_\w+|references)\b/i,
    'a clock inside the transaction, but to number revocations': /\b(now|current_timestamp|random|gen_random_uuid)\b/i,
  }
  for (const [name, text] of all) {
    for (const [what, pattern] of Object.entries(forbidden)) t.notMatch(text, pattern, `${name}: no ${what}`)
    const changed = [...text.matchAll(/\b(?:insert\s+into|(?<!do\s)update|delete\s+from)\s+(latchkey_\w+)/gi)].map(
      ([, table]) => table,
    )
    t.equal(new Set(changed).size, changed.length, `${name}: no table is changed twice in one statement`)
  }
  for (const [name, text] of migrated) {
    t.match(
      text,
      /^(CREATE (TABLE|(UNIQUE )?INDEX)|ALTER TABLE \w+ ADD COLUMN) IF NOT EXISTS /,
      `${name}: it adds, and may be run again`,
    )
    if (text.startsWith('ALTER'))
      t.ok(!/NOT NULL/.test(text) || /DEFAULT/.test(text), `${name}: the release before can go on inserting`)
  }
})

t.test('the audit rows of one are found by their index, where they are many and the oldest of all', async (t) => {
  const url = await postgres.createSchema()
  await openStore(t, url)
  const [least, busy, most] = ['0', '8', 'f'].map((digit) => [8, 4, 4, 4, 12].map((n) => digit.repeat(n)).join('-'))
  await postgres.execute(
    `INSERT INTO latchkey_audit (id, at, erases, user_id, session, client, made_by, event, outcome)
     SELECT lpad(to_hex(n), 32, '0')::uuid, n, false, owner, owner, owner::text, owner::text, 'login.succeeded', 'success'
     FROM (
       SELECT n, CASE WHEN n < 8000 THEN '${busy}'::uuid ELSE md5(n::text)::uuid END AS owner
       FROM generate_series(1, 20000) AS n
     ) AS rows`,
    url,
  )
  await postgres.execute('ANALYZE latchkey_audit', url)
  const range = { $1: `'${most}'`, $2: `'${least}'`, $3: '101', $4: `'${busy}'` }
  for (const [name, index, values] of [
    ['auditPageOfUser', 'user', range],
    ['auditPageOfSession', 'session', range],
    ['auditPageOfClient', 'client', range],
    ['eraseAudit', 'user', { ...range, $1: `'${busy}'` }],
    ['eraseAudit', 'actor', { ...range, $1: `'${busy}'` }],
  ] as const) {
    const text = (everyStatement[name]?.text ?? '').replaceAll(
      /\$[1-4]/g,
      (place) => values[place as keyof typeof range],
    )
    const plan = JSON.stringify(await postgres.execute(`EXPLAIN ${text}`, url))
    t.match(plan, `using latchkey_audit_by_${index}`, `${name} by ${index}`)
  }
})

t.test('many replicas that start at once on an empty database all come up', async (t) => {
  for (let round = 0; round < (isLong ? 10 : 2); round++) {
    const url = await postgres.createSchema()
    const stores = await Promise.all(Array.from({ length: 8 }, () => openStore(t, url)))
    for (const store of stores) t.equal(await store.createUser(makeUser()), true)
    t.same(
      await postgres.execute('SELECT version FROM latchkey_schema', url),
      migrations.map(({ version }) => ({ version: `${version}` })),
    )
  }
})

t.test('a start that was cut off in the middle of a step is made good by the next one', async (t) => {
  const url = await postgres.createSchema()
  await postgres.execute(migrations[0]?.statements[0] ?? '', url)
  await (await openStore(t, url)).ping()
})

t.test('a release goes on working, and starts, on the schema of the next one', async (t) => {
  const url = await postgres.createSchema()
  const store = await openStore(t, url)
  const next = openPool(url)
  t.teardown(() => next.close())
  const step = {
    version: 999,
    statements: ["ALTER TABLE latchkey_users ADD COLUMN IF NOT EXISTS locale text NOT NULL DEFAULT ''"],
  }
  await Promise.all([migrate(next, [...migrations, step]), migrate(next, [...migrations, step])])
  t.equal(await store.createUser(makeUser()), true)
  t.equal(await (await openStore(t, url)).createUser(makeUser()), true)
})

t.test('a start needs no more than the right to read and write when the schema is there', async (t) => {
  const url = await postgres.createDatabase()
  await openStore(t, url)
  await postgres.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
  await postgres.execute('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader', url)
  const store = await openStore(t, url.replace('postgres:test@', 'reader:reader@'))
  t.equal(await store.createUser(makeUser()), true)
})

t.test('a factor that is removed while it opens and raises sessions lowers these too', async (t) => {
  const url = await postgres.createSchema()
  const store = await openStore(t, url)
  const holder = openPool(url)
  t.teardown(() => holder.close())
  const waiting = async () => {
    const rows = await postgres.execute('SELECT pid FROM pg_locks WHERE NOT granted')
    return rows.length
  }
  for (const how of ['opened', 'raised'] as const) {
    const [user, totp, record] = [makeUser(), makeTotp(), makeRecord()]
    await store.createUser(user)
    await store.changeFactors({ userId: user.id, expectedVersion: 0, next: [totp] })
    await store.issueRecord(record, { perOwner: 5, perSource: 5 })
    const session = makeSession(user)
    if (how === 'raised') await store.createSession(session)
    const by: Authentication = { authAt: now, amr: ['pwd', 'otp', 'mfa'], factor: totp.id }
    const taking = { kind: record.kind, id: record.id, now }
    const sent: Promise<boolean>[] = []
    // What waits for the record has its snapshot of before the removal already.
    await holder.transaction('', async (query) => {
      await query({ text: 'SELECT id FROM latchkey_records WHERE id = $1 FOR UPDATE' }, [record.id])
      sent.push(
        how === 'opened'
          ? store.createSession({ ...session, ...by }, taking)
          : store.raiseSession({ sessionId: session.id, ...by }, taking),
      )
      await until(async () => (await waiting()) === 1)
      const removal = store.changeFactors({ userId: user.id, expectedVersion: 1, next: [], lowering: totp.id })
      sent.push(removal)
      await Promise.race([removal, until(async () => (await waiting()) === 2)])
    })
    t.same(await Promise.all(sent), [true, true], how)
    const { factor: _, ...lowered } = { ...session, ...by }
    t.strictSame(await store.findSession(session.id), lowered, how)
  }
})

t.test('refreshes that come together share statements, and each is told of its own session', async (t) => {
  const url = await postgres.createSchema()
  const [one, other] = [await openStore(t, url), await openStore(t, url)]
  const user = makeUser()
  await one.createUser(user)
  const sessions = Array.from({ length: 100 }, () => makeSession(user))
  for (const session of sessions) await one.createSession(session)
  const of = (session: Session, over: Partial<PresentedRefresh>, store = one) =>
    store.rotateSession({ ...present(session, 1), ...over }, end)

  const outcomes = await Promise.all(
    sessions.map(async (session, i) => {
      if (i % 5 === 0) return (await of(session, { clientId: 'another' })).outcome
      if (i % 5 === 1) return (await of(session, { scope: ['beyond'] })).outcome
      if (i % 5 === 2) return (await of(session, { now: now + 1000 })).outcome
      if (i % 5 === 3) return (await of({ ...session, id: randomUUID() }, {})).outcome
      const address = `192.0.2.${i}`
      const result = await of(session, { address, userAgent: `"agent" {${i}}, \\` })
      const next = await one.findSession(session.id)
      t.match(result, {
        session: { id: session.id, counter: 2, address, userAgent: `"agent" {${i}}, \\` },
        user: { id: user.id },
      })
      t.match(next, { counter: 2, address, userAgent: `"agent" {${i}}, \\` })
      return result.outcome
    }),
  )
  t.same(
    outcomes,
    Array.from({ length: 20 }, () => ['wrong_client', 'scope_exceeded', 'expired', 'unknown', 'rotated']).flat(),
  )

  // The same sessions in opposite orders, from two processes: batches that locked them as they came would wait for each
  // other.
  const live = sessions.filter((_, i) => i % 5 === 4)
  for (let counter = 2; counter < (isLong ? 30 : 8); counter++) {
    const forth = live.map((session) => of(session, { counter }, one))
    const back = live.toReversed().map((session) => of(session, { counter }, other))
    const results = await Promise.all([...forth, ...back])
    t.same([...new Set(results.map(({ outcome }) => outcome))].sort(), ['repeated', 'rotated'])
    t.equal(results.filter(({ outcome }) => outcome === 'rotated').length, live.length, 'each once')
  }
})

t.test('a plan that was made while a table had few rows reads no more of it once it has many', async (t) => {
  const url = await postgres.createDatabase()
  const store = await openStore(t, url)
  const user = makeUser()
  await store.createUser(user)
  const sessions = Array.from({ length: 16 }, () => makeSession(user))
  for (const session of sessions) await store.createSession(session)
  // So small that to read the whole of it would be the cheapest.
  await postgres.execute('ANALYZE', url)
  for (let counter = 1; counter <= 20; counter++) {
    const outcomes = await Promise.all(sessions.map((session) => store.rotateSession(present(session, counter), end)))
    t.ok(outcomes.every(({ outcome }) => outcome === 'rotated'))
  }
  // What a connection has done is counted when it ends.
  await store.close()
  const scans = () =>
    postgres.execute(
      "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'latchkey_sessions' AND n_tup_upd = 320",
      url,
    )
  let counted = await scans()
  for (let tries = 0; tries < 200 && counted.length === 0; tries++) {
    await sleep(50)
    counted = await scans()
  }
  // To read the whole of it is what making its indexes takes.
  t.match(counted, [{ seq_scan: /^[0-3]$/, idx_scan: /^\d{2,}$/ }])
})

t.test(
  'a database that is not there, or a wrong password, is StoreUnavailable; a URL that cannot be read is another error',
  async (t) => {
    const url = await postgres.createDatabase()
    for (const wrong of [`${url}x`, url.replace(':test@', ':wrong@'), url.replace(`:${postgres.port}/`, ':1/')]) {
      t.ok((await failure(() => openPostgresStore(wrong))).error instanceof StoreUnavailable)
    }
    const { error } = await failure(() => openPostgresStore('postgres://user:secret@host:not-a-port/db'))
    t.ok(error instanceof Error && !(error instanceof StoreUnavailable))
    t.notMatch(`${(error as Error).stack} ${JSON.stringify(error)}`, 'secret')
  },
)

t.test('a server that is out of connections is waited for, as others may give theirs back', async (t) => {
  const url = await postgres.createDatabase()
  await postgres.execute("CREATE ROLE narrow LOGIN PASSWORD 'narrow' CONNECTION LIMIT 2")
  await postgres.execute('GRANT ALL ON SCHEMA public TO narrow', url)
  const store = await openStore(t, url.replace('postgres:test@', 'narrow:narrow@'))
  const created = await Promise.all(Array.from({ length: 30 }, () => store.createUser(makeUser())))
  t.ok(created.every(Boolean))
})

t.test('a connection that the server ends is replaced, idle or in use', async (t) => {
  const url = await postgres.createDatabase()
  const store = await openStore(t, url)
  const name = new URL(url).pathname.slice(1)
  for (let round = 0; round < (isLong ? 10 : 3); round++) {
    const busy = Promise.all(Array.from({ length: 20 }, () => failure(() => store.createUser(makeUser()))))
    await postgres.execute(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`)
    for (const { error } of await busy) t.ok(error === undefined || error instanceof StoreUnavailable)
    await healed(() => store.ping())
  }
  t.equal(await store.createUser(makeUser()), true)
})

t.test("a connection that is made for a caller who stops waiting meanwhile is the next one's", async (t) => {
  const network = await startNetwork(t, Number(new URL(postgres.url).port))
  const pool = openPool(network.through(postgres.url), { maxConnections: 1 })
  const broken = pool.connected(async () => {
    await sleep(1_000)
    network.delayAt('pg_backend_pid', 800)
    throw new Error('of no more use')
  })
  await sleep(100)
  const [, waited] = await Promise.allSettled([broken, pool.query({ text: 'SELECT 1' }, [])])
  t.match(waited, { status: 'rejected', reason: { reason: /timeout exceeded when trying to connect/ } })
  t.same(await pool.query({ text: 'SELECT 1 AS one' }, []), [{ one: 1 }])
  await pool.close()
})

t.test('a URL with several hosts is taken apart as libpq does', async (t) => {
  t.same(splitHosts('postgres://u:p,w@a:1,b,[::1]:3/db?sslmode=require'), [
    'postgres://u:p,w@a:1/db?sslmode=require',
    'postgres://u:p,w@b/db?sslmode=require',
    'postgres://u:p,w@[::1]:3/db?sslmode=require',
  ])
  t.same(splitHosts('postgres://localhost/db'), ['postgres://localhost/db'])
  t.same(splitHosts('postgres:///db?host=/run'), ['postgres:///db?host=/run'])
})

t.test('a server of its own', async (t) => {
  // What it wrote outlives its processes without, and the machine does not crash.
  const fragile = await startPostgres(t, ['-c', 'fsync=off'])

  t.test(
    'a server that is restarted heals by itself, and no call says more than that the store is unavailable',
    async (t) => {
      const store = await openStore(t, await fragile.createDatabase())
      const user = makeUser()
      await store.createUser(user)
      await fragile.stop()
      for (const call of [() => store.ping(), () => store.createUser(makeUser()), () => store.findUser(user.id)]) {
        const { error, ms } = await failure(call)
        t.ok(error instanceof StoreUnavailable && error.message === 'The store is unavailable')
        t.ok(ms < 5000, `in ${ms.toFixed()} ms`)
      }
      await fragile.start()
      const ms = await healed(() => store.createUser(makeUser()))
      t.ok(ms < 1000, `healed in ${ms.toFixed()} ms`)
      t.strictSame(await store.findUser(user.id), user)
    },
  )

  t.test('a server that stalls is StoreUnavailable within five seconds, however many ask, and heals', async (t) => {
    const url = await fragile.createDatabase()
    const store = await openStore(t, url)
    const session = makeSession(makeUser())
    await Promise.all(Array.from({ length: 12 }, () => store.ping()))
    fragile.stall()
    const calls = Array.from({ length: 60 }, (_, i) =>
      failure(() =>
        i % 3 === 0
          ? store.ping()
          : i % 3 === 1
            ? store.createUser(makeUser())
            : store.rotateSession(present(session, 1), end),
      ),
    )
    const failures = await Promise.all([...calls, failure(() => openPostgresStore(url))])
    fragile.resume()
    for (const { error } of failures) t.ok(error instanceof StoreUnavailable)
    const longest = Math.max(...failures.map(({ ms }) => ms))
    t.ok(longest < 5000, `in ${longest.toFixed()} ms at most`)
    t.ok((await healed(() => store.createUser(makeUser()))) < 1000)
  })

  t.test(
    'of several hosts the writable one is used, and the standby once it is promoted: no honest client is logged out',
    async (t) => {
      const primary = fragile
      const url = await primary.createDatabase()
      const standby = await primary.startStandby()
      const store = await openStore(
        t,
        url.replace(`127.0.0.1:${primary.port}`, `127.0.0.1:1,127.0.0.1:${standby.port},127.0.0.1:${primary.port}`),
      )

      const user = makeUser()
      t.equal(await store.createUser(user), true)
      const session = makeSession(user)
      t.equal(await store.createSession(session), true)
      const { cursor } = await store.revocationsSince()
      const caughtUp = `SELECT 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()`
      while ((await primary.execute(caughtUp)).length === 0) await sleep(20)

      // What is written from here on may be lost with the primary: the tail of an asynchronous standby.
      let counter = 1
      standby.stall()
      for (; counter < 20; counter++)
        t.equal((await store.rotateSession(present(session, counter), end)).outcome, 'rotated')
      await store.revoke({ kind: 'jti', id: 'lost', revokedAt: now, expiresAt: now })
      const { cursor: later } = await store.revocationsSince(cursor)
      await primary.kill()
      standby.resume()
      const { error, ms } = await failure(() => store.rotateSession(present(session, counter), end))
      t.ok(error instanceof StoreUnavailable && ms < 5000, 'no host is writable')
      await standby.execute('SELECT pg_promote()')

      const healedMs = await healed(async () => {
        const rotated = await store.rotateSession(present(session, counter), end)
        t.match(rotated, { outcome: 'rotated', session: { counter: counter + 1 } })
      })
      t.ok(healedMs < 5000, `healed in ${healedMs.toFixed()} ms`)
      await store.revoke({ kind: 'jti', id: 'after', revokedAt: now, expiresAt: now })
      t.match(
        (await store.revocationsSince(later)).revocations,
        [{ id: 'after' }],
        "a follower's cursor is good on the new primary",
      )
    },
  )
})
