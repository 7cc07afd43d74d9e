import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { ConfigError, readConfig } from '../../config.ts'
import { cheapHashing, newDir, password, stores, type Tokens } from '../support/helper.ts'
import { until } from '../support/processes.ts'
import { program } from '../support/program.ts'

/* The process: what it prints, how it ends, what it keeps when it is killed, and two of them on one store. */

interface Ended {
  code: number | null
  signal: string | null
}

interface Server {
  origin: string
  process: ChildProcess
  /** every line of stdout, parsed */
  lines: Record<string, unknown>[]
  stderr(): string
  ended: Promise<Ended>
  stop(): Promise<Ended>
}

type Settings = Record<string, string>

/** Runs the program with these settings and no others. */
async function run(t: Test, settings: Settings) {
  const { PATH = '' } = process.env
  // By way of `env`, because the test runner puts its own loader into NODE_OPTIONS of what a test starts.
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, program('start.cjs')], {
    cwd: await newDir(t),
    env: { PATH, PORT: '0', ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk) => {
      output[name] += chunk
    })
  }
  const ended: Promise<Ended> = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, output, ended }
}

/** @throws when the process ends before it listens */
async function start(t: Test, settings: Settings): Promise<Server> {
  const { child, output, ended } = await run(t, settings)
  const origin = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', () => {
      const found = /Latchkey listens on (http:[^",\s]+)/.exec(output.stdout)?.[1]
      if (found) resolve(found)
    })
    ended.then(({ code }) => reject(new Error(`ended with ${code}: ${output.stderr}`)))
  })
  return {
    origin,
    process: child,
    get lines() {
      return output.stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line))
    },
    stderr: () => output.stderr,
    ended,
    stop() {
      child.kill('SIGTERM')
      return ended
    },
  }
}

/** Runs a test for each store that the service can keep its data in. */
function overStores(title: string, body: (t: Test, settings: Settings) => Promise<unknown>): void {
  for (const [name, storeSettings] of Object.entries(stores)) {
    t.test(`${title} [${name}]`, async (t) =>
      body(t, { ...cheapHashing, AUTH_DATA_DIR: await newDir(t), ...(await storeSettings(t)) }),
    )
  }
}

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
const badSettings: [what: string, settings: Settings, names: string][] = [
  ['a duration in words', { AUTH_ACCESS_TTL: '10 minutes' }, 'AUTH_ACCESS_TTL'],
  ['a short secret', { AUTH_SECRET: 'hunter2-hunter2' }, 'AUTH_SECRET'],
  ['a data directory that cannot be made', { AUTH_DATA_DIR: '/dev/null/data' }, 'AUTH_DATA_DIR'],
  ['a proxy range that is none', { AUTH_TRUSTED_PROXIES: '10.0.0.0/99' }, 'AUTH_TRUSTED_PROXIES'],
]
const moreBadSettings: typeof badSettings = [
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
  const waiting = [...badSettings]
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [what, settings, name] = next
      const { child, output, ended } = await run(t, await withFile(t, settings))
      const tooLong = setTimeout(() => child.kill('SIGKILL'), 10_000)
      t.same(await ended, { code: 78, signal: null }, what)
      clearTimeout(tooLong)
      t.match(output.stderr, new RegExp(`^${name}: expected [^\\n]+\\n$`), what)
      t.notMatch(output.stderr, /hunter2/, 'and no secret is shown')
      t.equal(output.stdout, '')
    }
  }
  await Promise.all([worker(), worker()])
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

t.test(
  'it prints where it listens, warns of a name that is no setting, keeps its secret to itself, and ends with 0',
  async (t) => {
    const dataDir = join(await newDir(t), 'made', 'by', 'it')
    const settings = {
      ...cheapHashing,
      AUTH_DATA_DIR: dataDir,
      AUTH_ACESS_TTL: '1m',
      AUTH_SERVICE_HOST: '10.0.0.1',
      AUTH_SERVICE_PORT: '80',
      AUTH_SERVICE_PORT_HTTP: '80',
      AUTH_PORT: 'tcp://10.0.0.1:80',
      AUTH_PORT_80_TCP_ADDR: '10.0.0.1',
    }
    const first = await start(t, settings)
    t.match(first.origin, /^http:\/\/127\.0\.0\.1:[0-9]+$/)
    t.equal((await fetch(`${first.origin}/readyz`)).status, 200)
    const metadata = (await (await fetch(`${first.origin}/.well-known/oauth-authorization-server`)).json()) as {
      issuer: string
    }
    t.equal(metadata.issuer, `http://localhost:${new URL(first.origin).port}`, 'and the issuer names that port')

    const warnings = first.lines.filter(({ level }) => Number(level) >= 40).map(({ msg }) => String(msg))
    t.equal(warnings.filter((warning) => warning.includes('AUTH_ACESS_TTL')).length, 1)
    t.match(warnings.join(), /AUTH_ACESS_TTL .*AUTH_ACCESS_TTL/)
    t.notMatch(warnings.join(), /AUTH_SERVICE|AUTH_PORT/, 'what Kubernetes sets is none of our business')

    const secretFile = join(dataDir, 'secret')
    const secret = await readFile(secretFile, 'utf8')
    t.equal((await stat(secretFile)).mode & 0o777, 0o600)
    t.equal((await stat(dataDir)).mode & 0o077, 0, 'nor may others look into the directory')
    t.notOk(JSON.stringify(first.lines).includes(secret.trim()))
    t.same(await first.stop(), { code: 0, signal: null })

    const second = await start(t, settings)
    t.equal(await readFile(secretFile, 'utf8'), secret, 'it is made once')
    await t.test('every line of the log is there when it has ended, and a refusal at once', (t) => logsAll(t, second))
    t.equal(first.stderr() + second.stderr(), '')
  },
)

async function logsAll(t: Test, service: Server): Promise<void> {
  await tryLogIn(service.origin, 'nobody')
  await until(async () => service.lines.some(({ event }) => event === 'login.failed'))
  const ids: (string | null)[] = []
  for (let n = 0; n < 20; n++) ids.push((await tryLogIn(service.origin, 'nobody-else')).headers.get('x-request-id'))
  service.process.kill('SIGINT')
  t.same(await service.ended, { code: 0, signal: null }, 'an interrupt ends it as well')
  const logged = new Set(service.lines.map(({ reqId }) => reqId))
  t.same(
    ids.filter((id) => !logged.has(id)),
    [],
  )
}

t.test('it goes on, and ends, when nobody reads its log any more', async (t) => {
  const service = await start(t, { ...cheapHashing, AUTH_DATA_DIR: await newDir(t) })
  service.process.stdout?.destroy()
  for (let n = 0; n < 20; n++) t.equal((await tryLogIn(service.origin, 'nobody')).status, n < 10 ? 400 : 429)
  t.equal((await fetch(`${service.origin}/readyz`)).status, 200)
  t.same(await service.stop(), { code: 0, signal: null })
})

t.test('a port that is taken stops the start with one line', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const { output, ended } = await run(t, { ...cheapHashing, AUTH_DATA_DIR: await newDir(t), PORT: String(port) })
  t.not((await ended).code, 0)
  t.match(output.stderr, /^PORT: [^\n]+\n$/)
})

/** A login that takes some tenths of a second. */
const slowHashing = { AUTH_ARGON2_MEMORY: '65536', AUTH_ARGON2_TIME: '12', AUTH_HASH_MAX_WAIT: '30s' }

overStores('SIGTERM lets the requests in flight finish, takes no others, and ends with 0', async (t, settings) => {
  const server = await start(t, { ...settings, ...slowHashing })
  // The first use of a route compiles its schemas.
  await (await fetch(`${server.origin}/readyz`)).text()
  await (await tryLogIn(server.origin, '')).text()
  const startedAt = performance.now()
  const login = tryLogIn(server.origin, 'nobody')
  await new Promise((resolve) => setTimeout(resolve, 100))
  server.process.kill('SIGTERM')
  await new Promise((resolve) => setTimeout(resolve, 50))
  const isReady = await fetch(`${server.origin}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  )
  t.notOk(isReady, '/readyz fails at once')
  const response = await login
  t.equal(response.status, 400)
  t.match(await response.json(), { error: 'invalid_grant' })
  t.ok(performance.now() - startedAt > 150, 'which was in flight')
  t.same(await server.ended, { code: 0, signal: null })
  t.ok(performance.now() - startedAt < 5000, 'well before AUTH_SHUTDOWN_GRACE')
})

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

overStores('kill -9 loses nothing that was answered', async (t, settings) => {
  const signedUp: string[] = []
  const lineages = new Map<string, string>()
  // A store that was recovered is killed again; what PostgreSQL keeps is in no process of ours.
  const rounds = settings['DATABASE_URL'] ? 1 : 2
  for (let round = 0; round < rounds; round += 1) {
    const { origin, process: child, ended } = await start(t, settings)
    let isDead = false
    const untilDead = async (step: () => Promise<void>) => {
      while (!isDead) await step().catch(() => {})
    }
    const opened = await Promise.all(
      [0, 1, 2].map(async (index) => {
        const username = `keeper-${round}-${index}`
        await signUp(origin, username)
        lineages.set(username, (await logIn(origin, username)).refresh_token)
        return username
      }),
    )
    let count = 0
    const busy = [
      ...Array.from({ length: 3 }, () =>
        untilDead(async () => {
          count += 1
          const username = `user-${round}-${count}`
          if ((await signUp(origin, username)).status === 201) signedUp.push(username)
        }),
      ),
      ...opened.map((username) =>
        untilDead(async () => {
          const response = await refresh(origin, lineages.get(username) as string)
          const { refresh_token } = (await response.json()) as Tokens
          if (response.status === 200) lineages.set(username, refresh_token)
        }),
      ),
    ]
    // In the midst of work, and not before a slow machine has something to lose.
    const enough = signedUp.length + 12 / rounds
    await new Promise((resolve) => setTimeout(resolve, 300))
    await until(async () => signedUp.length >= enough, 20_000)
    child.kill('SIGKILL')
    isDead = true
    t.match(await ended, { signal: 'SIGKILL' })
    await Promise.all(busy)
  }

  const last = await start(t, { ...settings, AUTH_SHUTDOWN_GRACE: '1s' })
  const { origin } = last
  const logins = await Promise.all(signedUp.map((username) => tryLogIn(origin, username)))
  t.ok(signedUp.length > 10, `${signedUp.length} accounts were made`)
  t.same(
    logins.filter(({ status }) => status !== 200).map(({ url }) => url),
    [],
    'each of them logs in',
  )
  for (const [username, token] of lineages) t.equal((await refresh(origin, token)).status, 200, `${username} goes on`)
  await t.test('a connection that is stuck does not keep it beyond AUTH_SHUTDOWN_GRACE', (t) =>
    endsThoughStuck(t, last),
  )
})

overStores('two processes on one store are one service', async (t, settings) => {
  const both = { ...settings, AUTH_ISSUER: 'http://auth.example' }
  const [one, two] = await Promise.all([start(t, both), start(t, both)])
  const keysOf = async ({ origin }: Server) =>
    (await fetch(`${origin}/.well-known/jwks.json`)).json() as Promise<{ keys: unknown[] }>
  const [keys] = await Promise.all([keysOf(one), keysOf(two)])
  t.same(await keysOf(two), keys, 'they agree on the keys, though both began at once')
  t.equal(keys.keys.length, 1)

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
  t.match(await one.stop(), { code: 0 })
  t.equal(await statusOf(two.origin, kept), 200, 'one goes on when the other ends')
})
