import { generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import {
  challengeTo,
  claimsOf,
  isAccepted,
  logIn,
  newDir,
  password,
  sharedPostgres,
  signUp,
  type Tokens,
  withToken,
} from '../support/helper.ts'
import {
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
 * Replicas on one PostgreSQL behave as one service. Two real processes; what needs another state of things has its own.
 */

const revocationBoundMs = 1000
const [logouts, rounds] = isLong ? [1000, 1000] : [12, 3]
if (isLong) t.setTimeout(600_000)

const postgres = await sharedPostgres()
const settings = { ...replicaSettings(await postgres.createDatabase()), AUTH_TRUSTED_PROXIES: '127.0.0.1' }
const jwksOf = async (replica: Replica) => (await replica.call('/.well-known/jwks.json')).body

/** @returns milliseconds until a replica refuses an access token, as revoked and not as anything else */
async function refusedAfter(t: Test, replica: Replica, { access_token: token }: Tokens): Promise<number> {
  const ms = await until(async () => (await replica.check(token)) !== 204, 5_000)
  const { headers } = await replica.call('/verify', { token })
  t.match(headers.get('www-authenticate'), /revoked/)
  return ms
}

let replicas: [Replica, Replica]

t.test(
  'two first starts at once on an empty database both come up, and agree on one signing key of each algorithm',
  async (t) => {
    replicas = await Promise.all([startReplica(t.parent as Test, settings), startReplica(t.parent as Test, settings)])
    const [one, two] = replicas
    t.equal((await jwksOf(one)).keys.length, 3)
    t.strictSame(await jwksOf(one), await jwksOf(two))
    for (let round = 2; isLong && round <= 20; round++) {
      await t.test(`round ${round}`, async (t) => {
        const own = replicaSettings(await postgres.createDatabase())
        const [three, four] = await Promise.all([startReplica(t, own), startReplica(t, own)])
        t.strictSame(await jwksOf(three), await jwksOf(four))
      })
    }
  },
)

t.test('a user of one is a user of the other: tokens, profile, refresh', async (t) => {
  const [one, two] = replicas
  t.equal((await one.signUp('ada')).status, 201)
  t.equal((await two.signUp('ada')).status, 409)
  const tokens = await one.logIn('ada')
  t.match(await two.call('/protected', { token: tokens.access_token }), {
    status: 200,
    body: { message: /^Hello ada!/ },
  })
  const refreshed = await two.refresh(tokens.refresh_token)
  t.equal(refreshed.status, 200)
  t.equal(await one.check(refreshed.body.access_token), 204)
  t.equal(claimsOf(refreshed.body.access_token)['sid'], claimsOf(tokens.access_token)['sid'], 'it is the same session')
  t.equal((await one.refresh(refreshed.body.refresh_token)).status, 200)
})

t.test(`a logout reaches the other replica within a second (${logouts} of them)`, async (t) => {
  const [one, two] = replicas
  await one.signUp('grace')
  const lags: number[] = []
  let left = logouts
  const worker = async () => {
    while (left-- > 0) {
      const tokens = await one.logIn('grace')
      t.equal(await two.check(tokens.access_token), 204)
      // Anywhere between two polls of the other.
      await sleep(Math.random() * 400)
      t.equal((await one.call('/logout', { method: 'POST', token: tokens.access_token })).status, 204)
      const from = performance.now()
      t.equal(await one.check(tokens.access_token), 401, 'at once where it was accepted')
      await until(async () => (await two.check(tokens.access_token)) === 401, 5_000, isLong ? 5 : 50)
      lags.push(performance.now() - from)
    }
  }
  await Promise.all(Array.from({ length: 8 }, worker))
  const { n, p50, p99, max } = distribution(lags)
  t.comment(`revocation lag over ${n} logouts: p50 ${p50} ms, p99 ${p99} ms, max ${max} ms`)
  t.equal(n, logouts)
  t.ok(max < revocationBoundMs, `${max} ms at most`)
})

t.test(`fifty refreshes at once with one token over two replicas are one lineage (${rounds} rounds)`, async (t) => {
  const [one, two] = replicas
  await one.signUp('edsger')
  let { refresh_token: token } = await one.logIn('edsger')
  for (let round = 0; round < rounds; round++) {
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => (i % 2 === 0 ? one : two).refresh(token)))
    const successors = new Set(answers.map(({ body }) => body.refresh_token))
    if (!answers.every(({ status }) => status === 200) || successors.size !== 1) {
      t.fail(`round ${round}`, { statuses: answers.map(({ status }) => status), successors: successors.size })
      return
    }
    token = [...successors][0]
  }
  const rows = await postgres.execute(
    "SELECT s.counter FROM latchkey_sessions s JOIN latchkey_users u ON u.id = s.user_id WHERE u.name_key = 'edsger'",
    settings.DATABASE_URL,
  )
  t.strictSame(rows, [{ counter: String(rounds) }], 'one row, advanced once a round')
})

t.test('a spent token presented to the other replica ends the session at both', async (t) => {
  const [one, two] = replicas
  await one.signUp('mallory')
  const first = await one.logIn('mallory')
  let latest: Tokens = first
  for (let i = 0; i < 2; i++) latest = (await one.refresh(latest.refresh_token)).body
  t.match(await two.refresh(first.refresh_token), { status: 400, body: { error: 'invalid_grant' } })
  t.match(await one.refresh(latest.refresh_token), { status: 400, body: { error: 'invalid_grant' } })
  const ms = await refusedAfter(t, one, latest)
  t.ok(ms < revocationBoundMs, `in ${ms.toFixed()} ms`)
})

t.test('failed logins are counted together', async (t) => {
  const [one, two] = replicas
  await one.signUp('alan')
  for (let i = 0; i < 10; i++)
    t.equal((await (i % 2 === 0 ? one : two).tryLogIn('alan', 'a wrong password, truly')).status, 400)
  for (const replica of replicas) {
    const answer = await replica.tryLogIn('alan')
    t.equal(answer.status, 429)
    t.ok(Number(answer.headers.get('retry-after')) > 20)
  }

  await one.signUp('barbara')
  for (let i = 0; i < 9; i++) await one.tryLogIn('barbara', 'a wrong password, truly')
  t.equal((await two.tryLogIn('barbara')).status, 200, 'a success at one')
  const again: number[] = []
  for (let i = 0; i < 9; i++) again.push((await one.tryLogIn('barbara', 'a wrong password, truly')).status)
  t.same(new Set(again), new Set([400]), 'resets the count of the other')
})

t.test('guesses that reach both at once do not pass by more than what each may judge at once', async (t) => {
  const host = '198.51.100.7'
  const any = (n: number) => `203.0.${n}.1`
  // Hashes are so cheap here that those of a moment are judged before the first of them is counted: by each replica as
  // many as it may by itself. `npm run bench:guessing` has the figures for hashes as they are shipped.
  const most = 20 + 2 * availableParallelism()
  const attackers: [who: string, from: (n: number) => string, guesses: number, allowed: number, most: number][] = [
    ['an address', () => host, 60, 10, most],
    ['an address that forges others', (n) => `${any(n)}, 2001:db8::${n}, ${host}`, 60, 10, most],
    ['a /64', (n) => `2001:db8::${n}`, 60, 10, most],
    ['any address', any, 140, 100, 139],
  ]
  for (const [who, from, guesses, allowed, most] of attackers) {
    const username = who.replaceAll(/\W/g, '-')
    await replicas[0].signUp(username)
    const form = { username, password: 'a wrong password, truly' }
    const answers = await Promise.all(
      Array.from({ length: guesses }, (_, n) =>
        replicas[(n % 2) as 0 | 1].call('/token', { form, headers: { 'x-forwarded-for': from(n) } }),
      ),
    )
    t.ok(answers.every(({ status }) => status === 400 || status === 429))
    const judged = answers.filter(({ status }) => status === 400).length
    t.ok(judged >= allowed && judged <= most, `${who}: ${judged} of ${guesses} were judged`)
    const owner = { form: { username, password }, headers: { 'x-forwarded-for': '192.0.2.1' } }
    t.equal((await replicas[0].call('/token', owner)).status, allowed === 10 ? 200 : 429, 'the owner, from elsewhere')
  }
})

t.test('what ends sessions at one ends them at the other', async (t) => {
  const [one, two] = replicas
  const next = 'another horse, another battery'
  const within = async (tokens: Tokens, what: string) => {
    const ms = await refusedAfter(t, two, tokens)
    t.ok(ms < revocationBoundMs, `${what}: in ${ms.toFixed()} ms`)
    t.match(await two.refresh(tokens.refresh_token), { status: 400, body: { error: 'invalid_grant' } }, what)
  }
  await one.signUp('donald')

  const [kept, ended] = [await one.logIn('donald'), await two.logIn('donald')]
  const { sid } = claimsOf(ended.access_token)
  t.equal((await one.call(`/users/me/sessions/${sid}`, { method: 'DELETE', token: kept.access_token })).status, 204)
  await within(ended, 'one session')

  const [another] = [await two.logIn('donald')]
  const change = { current_password: password, new_password: next }
  t.equal((await one.call('/users/me/password', { json: change, token: kept.access_token })).status, 204)
  await within(another, 'a password change')
  t.equal((await two.tryLogIn('donald')).status, 400)
  t.equal(await two.check(kept.access_token), 204)
  const refreshed = await two.refresh(kept.refresh_token)
  t.equal(refreshed.status, 200, 'the session that changed it goes on')

  const [all] = [await two.logIn('donald', next)]
  t.equal((await one.call('/users/me/sessions', { method: 'DELETE', token: refreshed.body.access_token })).status, 204)
  await within(all, 'all sessions')

  const [last, deleting] = [await two.logIn('donald', next), await one.logIn('donald', next)]
  t.equal((await two.call('/protected', { token: last.access_token })).status, 200, 'the profile is known there')
  t.equal(
    (await one.call('/users/me', { method: 'DELETE', json: { password: next }, token: deleting.access_token })).status,
    204,
  )
  await within(last, 'the account')
  t.equal((await two.tryLogIn('donald', next)).status, 400)
})

t.test('a replica that was cut off catches up with what was revoked meanwhile', async (t) => {
  const [one] = replicas
  await one.signUp('margaret')
  const network = await startNetwork(t, postgres.port)
  const away = await startHere(t, { ...settings, DATABASE_URL: network.through(settings.DATABASE_URL) })
  for (const how of ['cut', 'swallow'] as const) {
    const [kept, ...ended] = (await Promise.all(Array.from({ length: 6 }, () => one.logIn('margaret')))) as [
      Tokens,
      ...Tokens[],
    ]
    for (const { access_token } of [kept, ...ended]) t.equal(await away.check(access_token), 204)

    network[how]()
    for (const { access_token } of ended)
      t.equal((await one.call('/logout', { method: 'POST', token: access_token })).status, 204)
    t.equal((await away.refresh(kept.refresh_token)).status, 503, 'it writes nothing')
    t.equal(await away.check(kept.access_token), 204, 'and vouches meanwhile, as it has for minutes')

    network.heal()
    const ms = await until(async () =>
      (await Promise.all(ended.map((tokens) => away.check(tokens.access_token)))).every((status) => status === 401),
    )
    t.ok(ms < 5_000, `${how}: caught up in ${ms.toFixed()} ms`)
    t.equal(await away.check(kept.access_token), 204)
    t.equal((await away.refresh(kept.refresh_token)).status, 200)
    t.match(await away.refresh(ended[0]?.refresh_token as string), { status: 400, body: { error: 'invalid_grant' } })
  }
})

t.test('a replica that has not heard of the store for five minutes refuses to vouch, until it has', async (t) => {
  const [one] = replicas
  const network = await startNetwork(t, postgres.port)
  let skippedMs = 0
  const app = await buildApp(
    readConfig({ ...settings, DATABASE_URL: network.through(settings.DATABASE_URL), LOG_LEVEL: 'silent' }),
    {
      uptimeMs: () => performance.now() + skippedMs,
    },
  )
  t.teardown(() => app.close())
  await one.signUp('kathleen')
  const [tokens, ended] = [await one.logIn('kathleen'), await one.logIn('kathleen')]
  t.ok(await isAccepted(app, tokens.access_token))

  network.cut()
  skippedMs = 4 * 60_000
  t.ok(await isAccepted(app, tokens.access_token))
  t.equal((await one.call('/logout', { method: 'POST', token: ended.access_token })).status, 204)

  skippedMs = 5 * 60_000 + 1_000
  for (const url of ['/verify', '/protected', '/users/me']) {
    const answer = await withToken(app, tokens.access_token, { url })
    t.equal(answer.statusCode, 503, `${url}: neither yes nor no`)
    t.ok(answer.headers['retry-after'])
    t.notOk(answer.headers['www-authenticate'])
  }
  t.equal((await app.inject('/.well-known/jwks.json')).statusCode, 200)
  t.match(
    await challengeTo(app, `${tokens.access_token.slice(0, -10)}AAAAAAAAAA`),
    /invalid/,
    'a forged token is refused as ever',
  )

  network.heal()
  const ms = await until(() => isAccepted(app, tokens.access_token))
  t.ok(ms < 5_000, `vouches again after ${ms.toFixed()} ms`)
  t.match(await challengeTo(app, ended.access_token), /revoked/, 'and knows what it missed')
})

t.test(
  'a key that one replica has begun to sign with is taken by another, and never called a stranger to ' +
    'it because it could not look',
  async (t) => {
    const network = await startNetwork(t, postgres.port)
    let skippedMs = 0
    const far = { ...settings, DATABASE_URL: network.through(settings.DATABASE_URL), LOG_LEVEL: 'silent' }
    const app = await buildApp(readConfig(far), { uptimeMs: () => performance.now() + skippedMs })
    t.teardown(() => app.close())

    const keyFile = join(await newDir(t), 'key.pem')
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    await writeFile(keyFile, privateKey.export({ format: 'pem', type: 'pkcs8' }))
    const signing = await buildApp(readConfig({ ...settings, AUTH_SIGNING_KEY_FILE: keyFile, LOG_LEVEL: 'silent' }))
    t.teardown(() => signing.close())
    await signUp(signing, 'radia')
    const { access_token: token } = await logIn(signing, 'radia')
    const check = async () => (await withToken(app, token, { url: '/verify' })).statusCode

    skippedMs = 2_000
    network.cut()
    t.same([await check(), await check()], [503, 503])
    network.heal()
    // Connections that were idle meanwhile are found to be cut when they are used.
    await until(() =>
      app.store.ping().then(
        () => true,
        () => false,
      ),
    )
    skippedMs = 4_000
    t.same(
      await Promise.all(Array.from({ length: 20 }, check)),
      Array(20).fill(204),
      'twenty at once wait for one look',
    )
  },
)

t.test('none of this was an error of ours', async (t) => {
  for (const { refusals, output } of replicas) {
    t.same(
      refusals.filter(({ status }) => status >= 500),
      [],
    )
    t.equal(output.stderr, '')
    t.notMatch(output.stdout, /"level":[56]0/)
  }
})
