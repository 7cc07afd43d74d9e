import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { ConfigError, readConfig } from '../../config.ts'
import { cheapHashing, newDir, password, sharedPostgres, stores, type Tokens } from '../support/helper.ts'
import { until } from '../support/processes.ts'
import { type Running, runProgram } from '../support/running.ts'

/*
 * The process: what it prints, how it ends, and two of them on one store. A start
 * takes most of a second, so several facts are asked of each.
 */

type Server = Running & { origin: string }
type Settings = Record<string, string>

async function start(t: Test, settings: Settings): Promise<Server> {
  const running = await runProgram(t, { ...cheapHashing, ...settings })
  return { ...running, origin: await running.listening() }
}

/** @returns every line of stdout, parsed */
const linesOf = ({ output }: Server): Record<string, unknown>[] =>
  output.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

const post = (url: string, body: URLSearchParams | object, headers: Record<string, string> = {}) =>
  fetch(url, {
    method: 'POST',
    headers: body instanceof URLSearchParams ? headers : { 'content-type': 'application/json', ...headers },
    body: body instanceof URLSearchParams ? body : JSON.stringify(body),
  })
const signUp = (origin: string, username: string) => post(`${origin}/signup`, { username, password })
const tryLogIn = (origin: string, username: string) =>
  post(`${origin}/token`, new URLSearchParams({ username, password }))
const logIn = async (origin: string, username: string) => (await (await tryLogIn(origin, username)).json()) as Tokens
const refresh = (origin: string, token: string) => post(`${origin}/refresh`, { refresh_token: token })
const statusOf = async (origin: string, { access_token }: Tokens) =>
  (await fetch(`${origin}/protected`, { headers: { authorization: `Bearer ${access_token}` } })).status

/** FILE is a file with too little in it. */
type BadSetting = [what: string, settings: Settings, names: string]
/** One that is refused as it is read, and one that the app is built with. */
const badSettings: BadSetting[] = [
  ['a short secret', { AUTH_SECRET: 'hunter2-hunter2' }, 'AUTH_SECRET'],
  ['a data directory that cannot be made', { AUTH_DATA_DIR: '/dev/null/data' }, 'AUTH_DATA_DIR'],
]
const moreBadSettings: BadSetting[] = [
  ['a duration in words', { AUTH_ACCESS_TTL: '10 minutes' }, 'AUTH_ACCESS_TTL'],
  ['a proxy range that is none', { AUTH_TRUSTED_PROXIES: '10.0.0.0/99' }, 'AUTH_TRUSTED_PROXIES'],
  ['weak hashing', { AUTH_ARGON2_MEMORY: '1024' }, 'AUTH_ARGON2_MEMORY'],
  ['a short secret in a file', { AUTH_SECRET_FILE: 'FILE' }, 'AUTH_SECRET_FILE'],
  ['a port that is none', { PORT: '65536' }, 'PORT'],
  ['a level that is none', { LOG_LEVEL: 'loud' }, 'LOG_LEVEL'],
  ['a short previous secret', { AUTH_SECRET_PREVIOUS: 'hunter2-hunter2' }, 'AUTH_SECRET_PREVIOUS'],
  ['a secret file that is missing', { AUTH_SECRET_FILE: '/nowhere/secret' }, 'AUTH_SECRET_FILE'],
  ['a secret twice', { AUTH_SECRET: 'hunter2-'.repeat(5), AUTH_SECRET_FILE: 'FILE' }, 'AUTH_SECRET_FILE'],
  ['a signing key that is none', { AUTH_SIGNING_KEY_FILE: 'FILE' }, 'AUTH_SIGNING_KEY_FILE'],
  [
    'a database that is no PostgreSQL',
    { DATABASE_URL: 'mysql://ada:hunter2@db/latchkey', AUTH_SECRET: 'x'.repeat(32) },
    'DATABASE_URL',
  ],
  ['a database URL that is none', { DATABASE_URL: 'ada:hunter2@db', AUTH_SECRET: 'x'.repeat(32) }, 'DATABASE_URL'],
  ['replicas without one secret', { DATABASE_URL: 'postgres://ada:hunter2@db/latchkey' }, 'AUTH_SECRET'],
  ['symmetric signing', { AUTH_SIGNING_ALG: 'HS256' }, 'AUTH_SIGNING_ALG'],
  ['an issuer without a scheme', { AUTH_ISSUER: 'auth.example' }, 'AUTH_ISSUER'],
  ['an issuer with a query', { AUTH_ISSUER: 'https://auth.example/?x=1' }, 'AUTH_ISSUER'],
  ['hashing in too few passes', { AUTH_ARGON2_TIME: '1' }, 'AUTH_ARGON2_MEMORY'],
  ['a password of seven', { AUTH_PASSWORD_MIN: '7' }, 'AUTH_PASSWORD_MIN'],
  ['no hashing at all', { AUTH_HASH_CONCURRENCY: '0' }, 'AUTH_HASH_CONCURRENCY'],
  ['signup by halves', { AUTH_SIGNUP: 'maybe' }, 'AUTH_SIGNUP'],
  ['a grace longer than the session', { AUTH_REFRESH_GRACE: '31d' }, 'AUTH_REFRESH_GRACE'],
  ['a key a minute', { AUTH_KEY_ROTATION: '1m' }, 'AUTH_KEY_ROTATION'],
  ['a proxy address that is none', { AUTH_TRUSTED_PROXIES: 'abc' }, 'AUTH_TRUSTED_PROXIES'],
  ['half a proxy address', { AUTH_TRUSTED_PROXIES: '10.0.0' }, 'AUTH_TRUSTED_PROXIES'],
  ['an origin for everyone', { AUTH_CORS_ORIGINS: '*' }, 'AUTH_CORS_ORIGINS'],
  ['an origin with a path', { AUTH_CORS_ORIGINS: 'https://app.example/path' }, 'AUTH_CORS_ORIGINS'],
  ['a data directory that is a file', { AUTH_DATA_DIR: 'FILE' }, 'AUTH_DATA_DIR'],
  [
    'a data directory that cannot be made',
    { AUTH_DATA_DIR: '/dev/null/data', AUTH_SECRET: 'x'.repeat(32) },
    'AUTH_DATA_DIR',
  ],
]

async function withFile(t: Test, settings: Settings): Promise<Settings> {
  const dir = await newDir(t)
  const file = join(dir, 'file')
  await writeFile(file, 'hunter2-hunter2')
  return {
    AUTH_DATA_DIR: dir,
    ...Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, value.replace('FILE', file)])),
  }
}

t.test('a bad setting stops the start with exit code 78 and one line that names it', async (t) => {
  await Promise.all(
    badSettings.map(async ([what, settings, name]) => {
      const { child, output, ended } = await runProgram(t, await withFile(t, settings))
      const tooLong = setTimeout(() => child.kill('SIGKILL'), 10_000)
      t.same(await ended, { code: 78, signal: null }, what)
      clearTimeout(tooLong)
      t.match(output.stderr, new RegExp(`^${name}: expected [^\\n]+\\n$`), what)
      t.notMatch(output.stderr, /hunter2/, 'and no secret is shown')
      t.equal(output.stdout, '')
    }),
  )
})

t.test('so does any other bad or unsafe setting', async (t) => {
  for (const [what, settings, name] of moreBadSettings) {
    const given = await withFile(t, settings)
    const error = await (async () => {
      const app = await buildApp(readConfig(given), { logStream: { write() {} } })
      await app.close()
    })().catch((thrown: Error) => thrown)
    t.ok(error instanceof ConfigError, what)
    t.match(error?.message, new RegExp(`^${name}: expected [^\\n]+$`), what)
    t.notMatch(error?.message, /hunter2/, 'and no secret is shown')
  }
})

/** A login that takes some tenths of a second. */
const slowHashing = { AUTH_ARGON2_MEMORY: '65536', AUTH_ARGON2_TIME: '8', AUTH_HASH_MAX_WAIT: '30s' }

t.test('a process by itself', async (t) => {
  const dataDir = join(await newDir(t), 'made', 'by', 'it')
  const server = await start(t, {
    ...slowHashing,
    AUTH_DATA_DIR: dataDir,
    HOST: 'localhost',
    AUTH_METRICS_PORT: '0',
    AUTH_ACESS_TTL: '1m',
    AUTH_SERVICE_HOST: '10.0.0.1',
    AUTH_SERVICE_PORT: '80',
    AUTH_SERVICE_PORT_HTTP: '80',
    AUTH_PORT: 'tcp://10.0.0.1:80',
    AUTH_PORT_80_TCP_ADDR: '10.0.0.1',
  })
  const { origin } = server

  await t.test('it prints where it listens, and its issuer names that port', async (t) => {
    t.match(origin, /^http:\/\/127\.0\.0\.1:[0-9]+$/)
    t.equal((await fetch(`${origin}/readyz`)).status, 200)
    const metadata = await fetch(`${origin}/.well-known/oauth-authorization-server`)
    t.match(await metadata.json(), { issuer: `http://localhost:${new URL(origin).port}` })
  })

  await t.test('HOST=localhost is listened on at one address', async (t) => {
    await originsAnswer(t, server)
    const second = connect(Number(new URL(origin).port), '::1')
    t.match(await once(second, 'connect').catch((error) => error), { code: 'ECONNREFUSED' }, 'and at no other')
  })

  await t.test('it warns of a name that is no setting', async (t) => {
    const warnings = linesOf(server)
      .filter(({ level }) => Number(level) >= 40)
      .map(({ msg }) => String(msg))
    t.equal(warnings.filter((warning) => warning.includes('AUTH_ACESS_TTL')).length, 1)
    t.match(warnings.join(), /AUTH_ACESS_TTL .*AUTH_ACCESS_TTL/)
    t.notMatch(warnings.join(), /AUTH_SERVICE|AUTH_PORT/, 'what Kubernetes sets is none of our business')
  })

  await t.test('it keeps its secret to itself', async (t) => {
    const secretFile = join(dataDir, 'secret')
    t.equal((await stat(secretFile)).mode & 0o777, 0o600)
    t.equal((await stat(dataDir)).mode & 0o077, 0, 'nor may others look into the directory')
    t.notOk(server.output.stdout.includes((await readFile(secretFile, 'utf8')).trim()))
  })

  await t.test('SIGTERM lets the requests in flight finish, takes no others, and ends with 0 [lmdb]', async (t) => {
    const login = tryLogIn(origin, 'nobody')
    await sleep(100)
    const response = await endsBehind(t, server, login)
    t.equal(response.status, 400)
    t.match(await response.json(), { error: 'invalid_grant' })
    t.equal(server.output.stderr, '')
  })
})

/** One line says that it listens; both of its ports answer at the origins that were said. */
async function originsAnswer(t: Test, { output }: Server): Promise<void> {
  const origins = [...output.stdout.matchAll(/"address":"(http:[^"]+)"/g)].map(([, origin]) => origin as string)
  t.equal(origins.length, 2)
  for (const origin of origins) t.equal((await fetch(origin.replace(/(:\d+)$/, '$1/livez'))).status, 200, origin)
  t.equal(output.stdout.match(/listen/gi)?.length, 1, 'one line says that it listens')
}

/** SIGTERM while a request is in flight. @returns its response */
async function endsBehind(t: Test, server: Server, request: Promise<Response>): Promise<Response> {
  let isAnswered = false
  request.then(() => {
    isAnswered = true
  })
  const stoppedAt = performance.now()
  const ended = server.stop()
  const isReady = () =>
    fetch(`${server.origin}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    )
  await until(async () => isAnswered || !(await isReady()))
  t.notOk(isAnswered, '/readyz fails before')
  const response = await request
  t.same(await ended, { code: 0, signal: null })
  t.ok(performance.now() - stoppedAt < 5000, 'well before AUTH_SHUTDOWN_GRACE')
  return response
}

async function logsAll(t: Test, server: Server): Promise<void> {
  await tryLogIn(server.origin, 'nobody')
  await until(async () => linesOf(server).some(({ event }) => event === 'login.failed'))
  const ids: (string | null)[] = []
  for (let n = 0; n < 20; n++) ids.push((await tryLogIn(server.origin, 'nobody-else')).headers.get('x-request-id'))
  t.same(await server.stop('SIGINT'), { code: 0, signal: null }, 'an interrupt ends it as well')
  const logged = new Set(linesOf(server).map(({ reqId }) => reqId))
  t.same(
    ids.filter((id) => !logged.has(id)),
    [],
  )
}

/** With AUTH_SHUTDOWN_GRACE=1s. */
async function endsThoughStuck(t: Test, server: Server): Promise<void> {
  const { port } = new URL(server.origin)
  const begin = async (text: string): Promise<Socket> => {
    const socket = connect(Number(port), '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    if (text !== '') socket.write(text)
    return socket
  }
  const sockets = [
    await begin(''),
    await begin('GET /livez HTTP/1.1\r\nHo'),
    await begin(
      'POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: ' +
        'application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nusername=',
    ),
  ]
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  await fetch(`${server.origin}/livez`)
  const stoppedAt = performance.now()
  t.same(await server.stop(), { code: 0, signal: null })
  t.ok(performance.now() - stoppedAt < 1500, 'it is gone in time')
}

t.test('processes on one embedded store', async (t) => {
  const dataDir = await newDir(t)
  const settings = { AUTH_DATA_DIR: dataDir, AUTH_ISSUER: 'http://auth.example', AUTH_SHUTDOWN_GRACE: '1s' }
  const [one, two] = await Promise.all([
    start(t, { ...settings, HOST: '::', AUTH_METRICS_PORT: '0' }),
    start(t, settings),
  ])
  await t.test('HOST=:: is listened on, and the line says an origin that can be called', (t) => originsAnswer(t, one))
  await t.test('two processes on one store are one service', (t) => areOneService(t, one, two))

  await signUp(two.origin, 'grace')
  const kept = await logIn(two.origin, 'grace')
  await t.test('every line of the log is there when it has ended, and a refusal at once', (t) => logsAll(t, one))
  t.equal(await statusOf(two.origin, kept), 200, 'one goes on when the other ends')

  await t.test('it goes on, and ends, when nobody reads its log any more', async (t) => {
    two.child.stdout?.destroy()
    for (let n = 0; n < 20; n++) t.equal((await tryLogIn(two.origin, 'nobody')).status, n < 10 ? 400 : 429)
    t.equal((await fetch(`${two.origin}/readyz`)).status, 200)
  })
  await t.test('a connection that is stuck does not keep it beyond AUTH_SHUTDOWN_GRACE', (t) => endsThoughStuck(t, two))
  for (const { output } of [one, two]) t.equal(output.stderr, '')
})

// Two of them on one database: in `replicas.test.ts`.
t.test('processes on PostgreSQL', async (t) => {
  const settings = (await stores['pg']?.(t)) as Settings
  const server = await start(t, settings)
  await t.test('SIGTERM lets the requests in flight finish, takes no others, and ends with 0 [pg]', async (t) => {
    const { execute } = await sharedPostgres()
    const ask = (sql: string) => execute(sql, settings['DATABASE_URL'])
    const locked = ask('BEGIN; LOCK TABLE latchkey_users; SELECT pg_sleep(0.5); COMMIT')
    const lock = "SELECT 1 FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND relation = "
    await until(async () => (await ask(`${lock} 'latchkey_users'::regclass`)).length > 0)
    const signup = signUp(server.origin, 'ada')
    await sleep(100)
    const response = await endsBehind(t, server, signup)
    t.equal(response.status, 201)
    await locked
  })
})

async function areOneService(t: Test, one: Server, two: Server): Promise<void> {
  const keysOf = async ({ origin }: Server) =>
    (await fetch(`${origin}/.well-known/jwks.json`)).json() as Promise<{ keys: unknown[] }>
  const [keys] = await Promise.all([keysOf(one), keysOf(two)])
  t.same(await keysOf(two), keys, 'they agree on the keys, though both began at once')
  t.equal(keys.keys.length, 3, 'one of each algorithm')

  const origins = [one.origin, two.origin]
  const atBoth = <T>(times: number, call: (origin: string) => Promise<T>) =>
    Promise.all(Array.from({ length: times }, (_, index) => call(origins[index % 2] as string)))

  const signups = await atBoth(50, (origin) => signUp(origin, 'ada'))
  t.same(signups.map(({ status }) => status).sort(), [201, ...Array(49).fill(409)], 'a name is taken once')

  const tokens = await logIn(one.origin, 'ada')
  t.equal(await statusOf(two.origin, tokens), 200, 'a token of one is good at the other')
  const answers = await atBoth(50, (origin) => refresh(origin, tokens.refresh_token))
  t.ok(answers.every(({ status }) => status === 200))
  const pairs = (await Promise.all(answers.map((answer) => answer.json()))) as Tokens[]
  t.equal(
    new Set(pairs.map(({ refresh_token }) => refresh_token)).size,
    1,
    'fifty refreshes at once over both yield one lineage',
  )
  const [next] = pairs as [Tokens]

  /** How long a token that one process revoked is still taken by the other. */
  const refusedAfter = async (origin: string, revoked: Tokens): Promise<number> => {
    const from = performance.now()
    while ((await statusOf(origin, revoked)) === 200 && performance.now() - from < 3000)
      await new Promise((resolve) => setTimeout(resolve, 20))
    return performance.now() - from
  }
  const asBearer = { authorization: `Bearer ${next.access_token}` }
  t.equal((await post(`${one.origin}/logout`, new URLSearchParams(), asBearer)).status, 204)
  t.equal(await statusOf(one.origin, next), 401, 'revoked at once where it was accepted')
  const afterLogout = await refusedAfter(two.origin, next)
  t.ok(afterLogout < 1000, `and within a second at the other: ${Math.round(afterLogout)} ms`)

  const [kept, ended] = [await logIn(one.origin, 'ada'), await logIn(two.origin, 'ada')]
  const change = { current_password: password, new_password: 'another horse, another battery' }
  t.equal(
    (await post(`${two.origin}/users/me/password`, change, { authorization: `Bearer ${kept.access_token}` })).status,
    204,
  )
  const afterChange = await refusedAfter(one.origin, ended)
  t.ok(afterChange < 1000, `a changed password as well: ${Math.round(afterChange)} ms`)
  t.equal(await statusOf(one.origin, kept), 200)

  t.equal((await refresh(two.origin, tokens.refresh_token)).status, 400)
}
