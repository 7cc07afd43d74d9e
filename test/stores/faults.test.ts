import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { claimsOf, newDir, password, type Tokens } from '../support/helper.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import {
  type Answer,
  distribution,
  isLong,
  type Replica,
  replicaSettings,
  startHere,
  startNetwork,
  startReplica,
  until,
} from '../support/processes.ts'

/*
 * The database fails under a process that runs, and under services in this one, in each of its ways. What the contract
 * says of all of them: writes are 503 within five seconds, tokens are still checked, nobody is told that a good token is
 * bad, and it heals without a restart.
 */

const boundMs = 5_000
if (isLong) t.setTimeout(600_000)

const flags = ['fsync=off', 'max_connections=60', 'superuser_reserved_connections=0']
const postgres = await startPostgres(
  t,
  flags.flatMap((flag) => ['-c', flag]),
)
const url = await postgres.createDatabase()
const settings = replicaSettings(url)

let replica: Replica
t.before(async () => {
  replica = await startReplica(t, settings)
})

let newcomers = 0

/**
 * Everything that needs the store, by the shape of its errors. What changes or ends an account is done to another one
 * than is looked at afterwards: a 503 says that it may have happened, and a database that thaws does what it was sent
 * before.
 */
function storeCalls(refresh_token: string, { access_token: token, refresh_token: endedToken }: Tokens) {
  const oauth: Record<string, () => Promise<Answer>> = {
    login: () => replica.tryLogIn('ada'),
    'login of nobody': () => replica.tryLogIn('nobody'),
    '/refresh': () => replica.refresh(refresh_token),
    'grant refresh_token': () => replica.call('/token', { form: { grant_type: 'refresh_token', refresh_token } }),
    '/revoke of a refresh token': () => replica.call('/revoke', { form: { token: endedToken } }),
    '/revoke of an access token': () => replica.call('/revoke', { form: { token } }),
  }
  const problem: Record<string, () => Promise<Answer>> = {
    signup: () => replica.signUp(`newcomer-${++newcomers}`),
    logout: () => replica.call('/logout', { method: 'POST', token }),
    sessions: () => replica.call('/users/me/sessions', { token }),
    'end of all sessions': () => replica.call('/users/me/sessions', { method: 'DELETE', token }),
    'password change': () =>
      replica.call('/users/me/password', {
        json: { current_password: password, new_password: 'another horse, another battery' },
        token,
      }),
    deletion: () => replica.call('/users/me', { method: 'DELETE', json: { password }, token }),
    readyz: () => replica.call('/readyz'),
  }
  return { oauth, problem }
}

/** What is only read, or has not failed yet. */
const reads = new Set(['sessions', 'readyz'])

/** All of it at once, as clients do: each is 503 in time, says when to come again, and nothing of the database. */
async function assertWritesRefused(t: Test, { kept, ended }: Accounts, canRead = false): Promise<void> {
  const { oauth, problem } = storeCalls(kept.refresh_token, ended)
  if (canRead) for (const name of reads) delete problem[name]
  const assert = async (name: string, call: () => Promise<Answer>, error: string | undefined): Promise<number> => {
    const { status, headers, body, ms } = await call()
    t.equal(status, 503, `${name} is 503`)
    t.match(headers.get('retry-after'), /^[1-9][0-9]*$/, `${name} says when to try again`)
    t.equal(body.error, error)
    t.ok(headers.get('x-request-id') && body.request_id === headers.get('x-request-id'))
    return ms
  }
  const times = await Promise.all([
    ...Object.entries(oauth).map(([name, call]) => assert(name, call, 'temporarily_unavailable')),
    ...Object.entries(problem).map(([name, call]) => assert(name, call, undefined)),
  ])
  const { p50, max } = distribution(times)
  t.comment(`503 after p50 ${p50} ms, max ${max} ms`)
  t.ok(max < boundMs, `503 after ${max} ms at most`)
}

/** What no store is needed for goes on. */
async function assertChecksGoOn(t: Test, { kept: { access_token: token } }: Accounts): Promise<void> {
  const expected: [path: string, status: number][] = [
    ['/verify', 204],
    ['/.well-known/jwks.json', 200],
    ['/.well-known/oauth-authorization-server', 200],
    ['/livez', 200],
    ['/protected', 200],
    ['/users/me', 200],
  ]
  const answers = await Promise.all(
    expected.map(async ([path, status]) => [path, status, await replica.call(path, { token })] as const),
  )
  for (const [path, status, answer] of answers) {
    t.equal(answer.status, status, path)
    t.ok(answer.ms < boundMs, `${path} in ${answer.ms.toFixed()} ms`)
  }
}

/** The client that tries until it is answered is answered in time, and is still logged in. */
async function assertHeals(t: Test, { kept }: Accounts): Promise<void> {
  const statuses = new Set<number>()
  const ms = await until(
    async () => {
      const answer = await replica.refresh(kept.refresh_token)
      statuses.add(answer.status)
      return answer.status === 200
    },
    15_000,
    50,
  )
  for (const status of statuses) t.ok(status === 200 || status === 503, `nobody is logged out: ${status}`)
  t.ok(ms < boundMs, `heals in ${ms.toFixed()} ms`)
  t.comment(`healed after ${ms.toFixed()} ms`)
  t.ok((await until(async () => (await replica.call('/readyz')).status === 200)) < boundMs)
}

/** Nothing is left behind in the pool: more calls at once than it has connections, all good. */
async function assertPoolIsSound(t: Test): Promise<void> {
  const answers = await Promise.all(Array.from({ length: 40 }, () => replica.tryLogIn('ada')))
  t.same(new Set(answers.map(({ status }) => status)), new Set([200]), 'no connection of the pool is spoilt')
}

interface Accounts {
  kept: Tokens
  ended: Tokens
}

async function makeAccounts(t: Test): Promise<Accounts> {
  await replica.signUp('ada')
  const ended = `ended-${randomUUID()}`
  t.equal((await replica.signUp(ended)).status, 201)
  const accounts = { kept: await replica.logIn('ada'), ended: await replica.logIn(ended) }
  t.equal((await replica.call('/protected', { token: accounts.kept.access_token })).status, 200)
  return accounts
}

/**
 * Comes again when it is told to, with the one token that it has, until it is answered. On a machine that is so slow that
 * it comes after the grace, it may be logged out.
 */
async function patientClient(t: Test, replica: Replica, token: string, graceMs: number): Promise<void> {
  let toldAtMs = performance.now()
  for (let tries = 1; ; tries++) {
    const { status, headers, body, text } = await replica.refresh(token)
    const sinceMs = performance.now() - toldAtMs
    if (status === 400 && tries > 1 && sinceMs > graceMs) return t.comment(`came again after ${sinceMs.toFixed()} ms`)
    if (status === 503) {
      toldAtMs = performance.now()
      await sleep(Number(headers.get('retry-after')) * 1000)
      continue
    }
    t.equal(status, 200, `the client that came ${tries} times is still logged in: ${text.slice(0, 100)}`)
    if (status !== 200) return
    t.equal((await replica.refresh(token)).status, 200, 'and so is its other tab')
    t.equal((await replica.refresh(body.refresh_token)).status, 200, 'and goes on')
    return
  }
}

t.test('PostgreSQL is stopped and comes back', async (t) => {
  const accounts = await makeAccounts(t)
  await postgres.stop()
  await assertWritesRefused(t, accounts)
  await assertChecksGoOn(t, accounts)
  await postgres.start()
  await assertHeals(t, accounts)
  await assertPoolIsSound(t)
})

t.test('PostgreSQL stalls: connections stay open, and nothing answers', async (t) => {
  const accounts = await makeAccounts(t)
  // What was on its way when it stalled is done when it goes on, long after the grace of that rotation.
  const graceMs = 4_000
  const impatient = await startHere(t, { ...settings, AUTH_REFRESH_GRACE: `${graceMs / 1000}s` })
  const client = await impatient.logIn('ada')
  postgres.stall()
  const stalledAt = performance.now()
  const patient = patientClient(t, impatient, client.refresh_token, graceMs)
  await Promise.all([assertWritesRefused(t, accounts), assertChecksGoOn(t, accounts)])
  await Promise.all([assertWritesRefused(t, accounts), assertChecksGoOn(t, accounts)])
  // Until a profile that is remembered would be read again.
  await sleep(Math.max(0, stalledAt + 5_500 - performance.now()))
  await assertChecksGoOn(t, accounts)
  postgres.resume()
  await assertHeals(t, accounts)
  await patient
  await assertPoolIsSound(t)
})

t.test('others use all connections that PostgreSQL allows', async (t) => {
  const accounts = await makeAccounts(t)
  const others: pg.Client[] = []
  const giveBack = () => Promise.all(others.splice(0).map((client) => client.end()))
  t.teardown(giveBack)
  const take = async (): Promise<boolean> => {
    const client = new pg.Client(postgres.url)
    client.on('error', () => {})
    try {
      await client.connect()
      others.push(client)
      return true
    } catch {
      return false
    }
  }
  await take()
  const [first] = others as [pg.Client]
  for (let calm = 0; calm < 5; ) {
    await first.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'latchkey'")
    while (await take());
    const { rows } = await first.query(
      "SELECT count(*)::int AS ours FROM pg_stat_activity WHERE application_name = 'latchkey'",
    )
    // One that was ended gives its place back a moment later.
    await sleep(20)
    calm = rows[0].ours > 0 || (await take()) ? 0 : calm + 1
  }

  await assertWritesRefused(t, accounts)
  await assertChecksGoOn(t, accounts)
  await giveBack()
  await assertHeals(t, accounts)
  await assertPoolIsSound(t)
})

/** Reads go on, so that only writes can tell. */
const unwritable: Record<string, { begin: string[]; end: string[] }> = {
  'its disk is full': {
    begin: [
      `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$`,
      ...['users', 'sessions', 'records', 'revocations', 'failures'].map(
        (table) => `CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON latchkey_${table}
          FOR EACH STATEMENT EXECUTE FUNCTION full_disk()`,
      ),
    ],
    end: ['DROP FUNCTION IF EXISTS full_disk() CASCADE'],
  },
  'it has become read-only': {
    // Each connection hears of it by itself, a moment later.
    begin: ['ALTER SYSTEM SET default_transaction_read_only = on', 'SELECT pg_reload_conf()', 'SELECT pg_sleep(0.3)'],
    end: ['ALTER SYSTEM RESET default_transaction_read_only', 'SELECT pg_reload_conf()'],
  },
}
for (const [how, { begin, end }] of Object.entries(unwritable)) {
  t.test(`PostgreSQL can be read, and not be written: ${how}`, async (t) => {
    const accounts = await makeAccounts(t)
    const execute = async (statements: string[]) => {
      for (const statement of statements) await postgres.execute(statement, url)
    }
    t.teardown(() => execute(end))
    await execute(begin)
    await assertWritesRefused(t, accounts, true)
    await assertChecksGoOn(t, accounts)
    t.equal((await replica.call('/readyz')).status, 503)
    await execute(end)
    const ms = await until(async () => (await replica.call('/readyz')).status === 200)
    t.ok(ms < boundMs, `ready again after ${ms.toFixed()} ms, with nobody writing`)
    await assertHeals(t, accounts)
    await assertPoolIsSound(t)
  })
}

t.test('a connection is cut in the middle of a commit', async (t) => {
  const network = await startNetwork(t, postgres.port)
  const far = await startHere(t, { ...settings, DATABASE_URL: network.through(settings.DATABASE_URL) })
  await far.signUp('grace')
  for (const when of ['before', 'after'] as const) {
    let tokens = await far.logIn('grace')
    for (let round = 0; round < (isLong ? 100 : 5); round++) {
      const broken = network.breakAt('rotateSession', when)
      const [cut] = await Promise.all([far.refresh(tokens.refresh_token), broken])
      t.equal(cut.status, 503, `${when} it is done: 503`)
      t.ok(cut.ms < boundMs)
      const again = await far.refresh(tokens.refresh_token)
      t.equal(again.status, 200, 'the same token again is good')
      const { sid } = claimsOf(again.body.access_token)
      t.equal(sid, claimsOf(tokens.access_token)['sid'])
      t.equal(await far.check(again.body.access_token), 204)
      tokens = again.body
    }

    const signup = network.breakAt('createUser', when)
    const [cut] = await Promise.all([far.signUp(`newcomer-${when}`), signup])
    t.equal(cut.status, 503)
    t.equal((await far.signUp(`newcomer-${when}`)).status, when === 'before' ? 201 : 409)
    t.equal((await far.tryLogIn(`newcomer-${when}`)).status, 200, 'an account can be had by asking again')

    const logout = network.breakAt('endSession', when)
    const [halfOut] = await Promise.all([far.call('/logout', { method: 'POST', token: tokens.access_token }), logout])
    t.equal(halfOut.status, 503)
    t.ok([204, 401].includes((await far.call('/logout', { method: 'POST', token: tokens.access_token })).status))
    t.equal(await far.check(tokens.access_token), 401, 'a logout that is asked for again has happened')
    t.equal((await far.refresh(tokens.refresh_token)).status, 400)

    // Who asks again is told that the session is gone, whoever ended it: from then on its access token is refused here.
    const [revoked, ended, own] = await Promise.all([far.logIn('grace'), far.logIn('grace'), far.logIn('grace')])
    const token = own.access_token
    const session = `/users/me/sessions/${claimsOf(ended.access_token)['sid']}`
    const revoke = () => far.call('/revoke', { form: { token: revoked.refresh_token } })
    const end = () => far.call(session, { method: 'DELETE', token })
    for (const [ask, { access_token }, done] of [
      [revoke, revoked, 200],
      [end, ended, when === 'before' ? 204 : 404],
    ] as const) {
      const broken = network.breakAt('endSession', when)
      const [half] = await Promise.all([ask(), broken])
      t.equal(half.status, 503)
      t.equal((await ask()).status, done)
      t.equal(await far.check(access_token), 401, `cut ${when} it was done, and asked again: it is in force at once`)
    }
  }
  const many = await Promise.all(Array.from({ length: 40 }, () => far.tryLogIn('grace')))
  t.same(new Set(many.map(({ status }) => status)), new Set([200]), 'no connection of the pool is spoilt')
  assertSaysNothing(t, far)
})

const faketime = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib']
  .map((dir) => `${dir}/faketime/libfaketime.so.1`)
  .find((path) => existsSync(path))
const skipClocks = !isLong ? 'takes three minutes: LATCHKEY_LONG=1' : !faketime && 'no libfaketime'

t.test(
  'the clocks of two replicas leap under load, by an hour and a day, both ways',
  { skip: skipClocks },
  async (t) => {
    const [minuteMs, hourMs, dayMs] = [60_000, 3_600_000, 86_400_000]
    const dir = await newDir(t)
    const startClocked = async (name: string, restsMs: number) => {
      const file = join(dir, name)
      const setWrong = (ms: number) => writeFile(file, `${ms + restsMs < 0 ? '' : '+'}${(ms + restsMs) / 1000}`)
      await setWrong(0)
      const clock = {
        ...{ LD_PRELOAD: faketime as string, FAKETIME_TIMESTAMP_FILE: file },
        ...{ FAKETIME_NO_CACHE: '1', DONT_FAKE_MONOTONIC: '1' },
      }
      const lives = { AUTH_ACCESS_TTL: '20s', AUTH_REFRESH_GRACE: '1s' }
      return {
        ...(await startReplica(t, { ...settings, ...lives, ...clock })),
        setWrong,
        now: () => Date.now() + restsMs,
      }
    }
    const replicas = await Promise.all([startClocked('one', 0), startClocked('two', minuteMs)])
    const [one, two] = replicas
    await one.signUp('ada')

    const revoked: { token: string; atMs: number }[] = []
    const counts = { logins: 0, refreshes: 0, refused: 0 }
    let isOver = false
    /** Logs in, refreshes at either replica, logs out, and begins again. */
    async function client(i: number): Promise<void> {
      const of = (n: number) => replicas[(i + n) % 2] as Replica
      while (!isOver) {
        const login = await of(0).tryLogIn('ada')
        if (login.status !== 200) throw new Error(`a login is ${login.status}: ${login.text}`)
        counts.logins += 1
        let tokens: Tokens = login.body
        for (let n = 1; n < 12 && !isOver; n++) {
          await sleep(50)
          const { status, body, text } = await of(n).refresh(tokens.refresh_token)
          if (status !== 200) throw new Error(`a live session is refused: ${text}`)
          tokens = body
          counts.refreshes += 1
        }
        const { status } = await one.call('/revoke', { form: { token: tokens.refresh_token } })
        if (status !== 200) throw new Error(`a revocation is ${status}`)
        revoked.push({ token: tokens.access_token, atMs: performance.now() })
      }
    }
    /** @param isKnown whether a replica has to know that a token was revoked */
    async function assertSound(what: string, isKnown: (at: Replica, token: string) => boolean): Promise<void> {
      await sleep(1_000)
      for (const replica of replicas) {
        const startedAt = performance.now()
        const fresh = await replica.logIn('ada')
        t.equal(await replica.check(fresh.access_token), 204, `${what}: a login is good where it was made`)
        t.equal((await replica.call('/readyz')).status, 200)
        t.ok(performance.now() - startedAt < 2_000, 'nothing freezes')
        const aSecondAgoMs = performance.now() - 1_000
        for (const { token, atMs } of [...revoked.slice(0, 40), ...revoked.slice(-20)]) {
          if (atMs > aSecondAgoMs || !isKnown(replica, token)) continue
          const status = await replica.check(token)
          if (status !== 401) t.fail(`${what}: a revoked token is ${status}`)
          counts.refused += 1
        }
      }
    }

    const load = Promise.all(Array.from({ length: 4 }, (_, i) => client(i)))
    load.catch(() => {})
    // Until the first revocations have been forgotten: 20 s, and a minute for clocks that differ.
    await Promise.race([load, sleep(95_000)])
    for (const wrongMs of [-85_000, hourMs, -hourMs, dayMs, -dayMs]) {
      for (const replica of replicas) {
        const setTo = replica.now() + wrongMs
        await replica.setWrong(wrongMs)
        // What it shows a second time are the times of tokens that it has forgotten.
        const isFromBefore = (token: string) => Number(claimsOf(token)['iat']) * 1000 < setTo - 1_000
        const isShownAgain = wrongMs < 0 && wrongMs > -hourMs
        await assertSound(`${wrongMs / 1000} s`, (at, token) => !isShownAgain || at !== replica || isFromBefore(token))
        await replica.setWrong(0)
        await assertSound('right again', () => true)
      }
    }
    isOver = true
    await t.resolves(load, 'no login and no refresh was refused')
    t.comment(JSON.stringify({ ...counts, revoked: revoked.length }))
    const fresh = await one.logIn('ada')
    await two.call('/logout', { method: 'POST', token: fresh.access_token })
    for (const replica of replicas) {
      assertSaysNothing(t, replica)
      t.same(
        replica.refusals.filter(({ status }) => status >= 500),
        [],
        'none was unavailable',
      )
    }
  },
)

async function caughtUp(primary: TestPostgres): Promise<void> {
  const isSo = 'SELECT 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()'
  await until(async () => (await primary.execute(isSo)).length > 0)
}

/** No refusal was a 500, or told of the database; and the process did not complain of anything unforeseen. */
function assertSaysNothing(t: Test, { refusals, output }: Replica): void {
  const telling =
    /\b(select|insert|update|delete|sql|latchkey_\w+|pg_\w+|postgres\w*|127\.0\.0\.1|econn\w+|socket|connection|pool)\b|\.[jt]s:\d|at \w+ \(/i
  t.same(
    refusals.filter(({ status }) => status === 500).map(({ text }) => text),
    [],
    'never 500',
  )
  t.same(
    refusals.filter(({ text }) => telling.test(text)).map(({ text }) => text),
    [],
    'no answer tells of the database',
  )
  t.notMatch(output.stdout, /internal_error|unforeseen/)
  t.equal(output.stderr, '')
}

t.test('the primary is killed and a standby promoted that lost the last writes: nobody is logged out', async (t) => {
  const [primary, standby] = [postgres, await postgres.startStandby()]
  const hosts = (...ports: number[]) =>
    url.replace(`127.0.0.1:${primary.port}`, ports.map((port) => `127.0.0.1:${port}`).join(','))
  const [one, two] = await Promise.all([
    startHere(t, { ...settings, DATABASE_URL: hosts(primary.port, standby.port) }),
    startHere(t, { ...settings, DATABASE_URL: hosts(standby.port, primary.port) }),
  ])
  const replicas = [one, two]
  await one.signUp('ada')
  /** Each client knows its tokens and the one before them. */
  const clients = await Promise.all(
    Array.from({ length: 12 }, async () => ({ now: await one.logIn('ada'), spent: '' })),
  )
  const loggedOut = await one.logIn('ada')
  await caughtUp(primary)

  standby.stall()
  let lost = 0
  for (let round = 0; round < 5; round++) {
    await Promise.all(
      clients.map(async (client, i) => {
        const { status, body } = await (replicas[i % 2] as Replica).refresh(client.now.refresh_token)
        t.equal(status, 200)
        Object.assign(client, { now: body, spent: client.now.refresh_token })
        lost++
      }),
    )
  }
  t.equal((await one.call('/logout', { method: 'POST', token: loggedOut.access_token })).status, 204)
  t.ok((await until(async () => (await two.check(loggedOut.access_token)) === 401)) < 1000)
  await primary.kill()
  standby.resume()

  // Clients go on meanwhile, and are told to come again.
  const statuses = new Set<number>()
  const lastAnswers = Promise.all(
    clients.map(async (client, i) => {
      // Some never got the last answer and bring the token before it; two tabs of one client bring the same at once.
      const token = i % 3 === 0 ? client.spent : client.now.refresh_token
      await until(
        async () => {
          const calls = i % 3 === 1 ? replicas : [replicas[i % 2] as Replica]
          const answers = await Promise.all(calls.map((replica) => replica.refresh(token)))
          for (const { status } of answers) statuses.add(status)
          for (const { status, body } of answers) if (status === 200) client.now = body
          return answers.every(({ status }) => status !== 503)
        },
        20_000,
        100,
      )
    }),
  )
  for (const { now } of clients) for (const replica of replicas) t.equal(await replica.check(now.access_token), 204)
  await sleep(500)
  const promotedAt = performance.now()
  await standby.execute('SELECT pg_promote()')
  await lastAnswers
  const healedMs = performance.now() - promotedAt
  t.comment(`${lost} rotations were lost; all clients went on ${healedMs.toFixed()} ms after the promotion began`)
  t.ok(healedMs < boundMs, `heals in ${healedMs.toFixed()} ms`)
  t.same([...statuses].sort(), [200, 503], 'no client was told anything but to wait')

  for (const [i, client] of clients.entries()) {
    for (const replica of replicas) {
      t.equal(await replica.check(client.now.access_token), 204)
      const { status, body } = await replica.refresh(client.now.refresh_token)
      t.equal(status, 200, `client ${i} goes on`)
      client.now = body
    }
  }
  for (const replica of replicas)
    t.equal(await replica.check(loggedOut.access_token), 401, 'what was revoked is still known to those who knew')
  const fresh = await one.logIn('ada')
  t.equal((await two.call('/logout', { method: 'POST', token: fresh.access_token })).status, 204)
  const ms = await until(async () => (await one.check(fresh.access_token)) === 401, 5_000)
  t.ok(ms < 1000, `revocations go round on the new primary: ${ms.toFixed()} ms`)
  for (const replica of replicas) assertSaysNothing(t, replica)
})

t.test('through all of this: never 500, nothing told of the database, no good token called bad', async (t) => {
  assertSaysNothing(t, replica)
  t.same(
    replica.refusals.filter(({ status }) => status !== 503 && status !== 409).map(({ status, text }) => [status, text]),
    [],
    'honest clients were told to wait, and nothing else',
  )
})
