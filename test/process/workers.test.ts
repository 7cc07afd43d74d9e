import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { readConfig } from '../../config.ts'
import { runJson } from '../support/cli.ts'
import { cheapHashing, claimsOf, newDir, password, stores, type Tokens } from '../support/helper.ts'
import { isLong, until } from '../support/processes.ts'
import { runProgram } from '../support/running.ts'

/* AUTH_WORKERS: several processes on one port are one service. */

interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: what it holds is the test's to say
  body: any
  /** from sending the request to the end of the answer */
  ms: number
  /** the process that answered */
  worker(): Promise<number>
}

interface Call {
  method?: string
  token?: string
  json?: object
  form?: Record<string, string>
  /** keeps to one connection, and so to one worker; without it each call has a new one */
  agent?: Agent
}

type Service = Awaited<ReturnType<typeof start>>

/** Starts several workers; each line of LOG_LEVEL=debug says which of them it is from. */
async function start(t: Test, settings: Record<string, string>) {
  // The end of the output is that of the workers' as well: when it has ended, none of them is left.
  const { child, output, ended, listening } = await runProgram(t, {
    LOG_LEVEL: 'debug',
    AUTH_ISSUER: 'http://auth.example',
    ...settings,
  })
  const parsed: Record<string, unknown>[] = []
  let readTo = 0
  const lines = () => {
    for (let at = output.stdout.indexOf('\n', readTo); at >= 0; at = output.stdout.indexOf('\n', readTo)) {
      parsed.push(JSON.parse(output.stdout.slice(readTo, at)))
      readTo = at + 1
    }
    return parsed
  }
  const find = (is: (line: Record<string, unknown>) => boolean) => lines().find(is)
  const isThere = (is: (line: Record<string, unknown>) => boolean) => until(async () => find(is) !== undefined, 30_000)
  await listening()
  await isThere(({ msg }) => /^Latchkey listens/.test(String(msg)))
  const origin = String(find(({ workers }) => workers !== undefined)?.['address'])
  const metricsAt = find(({ msg }) => msg === 'metrics are served')?.['address']

  async function call(path: string, { method, token, json, form, agent }: Call = {}): Promise<Answer> {
    const startedAt = performance.now()
    const body = json ? JSON.stringify(json) : form ? new URLSearchParams(form).toString() : undefined
    const sent = request(origin + path, {
      method: method ?? (body ? 'POST' : 'GET'),
      agent: agent ?? false,
      headers: {
        ...(token && { authorization: `Bearer ${token}` }),
        ...(body && { 'content-type': json ? 'application/json' : 'application/x-www-form-urlencoded' }),
      },
      signal: AbortSignal.timeout(20_000),
    })
    sent.end(body)
    const [response] = await once(sent, 'response')
    let text = ''
    for await (const chunk of response.setEncoding('utf8')) text += chunk
    const id = response.headers['x-request-id']
    return {
      status: response.statusCode,
      body: /json/.test(response.headers['content-type'] ?? '') ? JSON.parse(text) : undefined,
      ms: performance.now() - startedAt,
      async worker() {
        await isThere(({ reqId }) => reqId === id)
        return find(({ reqId }) => reqId === id)?.['pid'] as number
      },
    }
  }
  const tryLogIn = (username: string, secret = password, agent?: Agent) =>
    call('/token', { form: { username, password: secret }, ...(agent && { agent }) })
  const metric = async (name: string) => {
    const text = await (await fetch(String(metricsAt))).text()
    return Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
        ?.split(' ')
        .at(-1) ?? 0,
    )
  }

  return {
    child,
    output,
    ended,
    lines,
    isThere,
    call,
    metric,
    signUp: (username: string) => call('/signup', { json: { username, password } }),
    tryLogIn,
    async logIn(username: string, secret = password): Promise<Tokens> {
      const { status, body } = await tryLogIn(username, secret)
      if (status !== 200) throw new Error(`login failed: ${JSON.stringify(body)}`)
      return body
    },
    refresh: (refreshToken: string) => call('/refresh', { json: { refresh_token: refreshToken } }),
    /** Calls on so many new connections, which are dealt out to the workers in turn. */
    async times<T>(count: number, call: (index: number) => Promise<T>): Promise<T[]> {
      return Promise.all(Array.from({ length: count }, (_, index) => call(index)))
    },
  }
}

const distinct = <T>(values: T[]): T[] => [...new Set(values)]

const rounds = isLong ? 20 : 1

/** Somewhat less than a worker waits for the others before it answers for a revocation. */
const longestWaitMs = 240

/**
 * Whatever revokes tokens at one worker: when it is answered, no worker takes them.
 *
 * One that took long may have been answered before a worker that got no turn on this machine had caught up.
 */
async function revokedEverywhere(t: Test, service: Service, workers: number): Promise<void> {
  const { call, logIn, signUp } = service
  await signUp('ada')
  const ways: Record<string, (by: Tokens, of: Tokens) => Promise<Answer>> = {
    'a logout': (_by, of) => call('/logout', { method: 'POST', token: of.access_token }),
    'a session ended by another': (by, of) =>
      call(`/users/me/sessions/${claimsOf(of.access_token)['sid']}`, { method: 'DELETE', token: by.access_token }),
    'a revoked access token': (_by, of) => call('/revoke', { form: { token: of.access_token } }),
    'a spent refresh token': async (_by, of) => {
      const { body } = await service.refresh(of.refresh_token)
      await service.refresh(body.refresh_token)
      return service.refresh(of.refresh_token)
    },
    'all sessions': (by) => call('/users/me/sessions', { method: 'DELETE', token: by.access_token }),
  }
  const refusedBy: number[] = []
  let atOnce = 0
  for (let round = 0; round < rounds; round++) {
    for (const [what, revoke] of Object.entries(ways)) {
      const [by, of] = await Promise.all([logIn('ada'), logIn('ada')])
      const before = await service.times(2 * workers, () => call('/verify', { token: of.access_token }))
      t.same(distinct(before.map(({ status }) => status)), [204], `${what}: taken before`)
      const answer = await revoke(by, of)
      t.ok(answer.status < 300 || what === 'a spent refresh token', `${what}: ${answer.status}`)
      const check = () => service.times(2 * workers, () => call('/verify', { token: of.access_token }))
      if (answer.ms < longestWaitMs) atOnce += 1
      else await until(async () => (await check()).every(({ status }) => status === 401))
      const after = await check()
      t.same(distinct(after.map(({ status }) => status)), [401], `${what}: refused by all`)
      refusedBy.push(...(await Promise.all(after.map(({ worker }) => worker()))))
    }
  }
  t.equal(distinct(refusedBy).length, workers, 'every worker was asked')
  t.ok(atOnce > 0, `${atOnce} of ${rounds * Object.keys(ways).length} were answered fast enough to tell`)
}

async function oneLineage(t: Test, service: Service, workers: number): Promise<void> {
  await service.signUp('edsger')
  let { refresh_token: token } = await service.logIn('edsger')
  for (let round = 0; round < rounds; round++) {
    const answers = await service.times(50, () => service.refresh(token))
    t.same(distinct(answers.map(({ status }) => status)), [200])
    const successors = distinct(answers.map(({ body }) => body.refresh_token))
    t.equal(successors.length, 1)
    t.equal(distinct(await Promise.all(answers.map(({ worker }) => worker()))).length, workers, 'over all workers')
    token = successors[0]
  }
}

t.test('three workers over LMDB', async (t) => {
  const workers = 3
  const dataDir = await newDir(t)
  const service = await start(t, {
    ...cheapHashing,
    AUTH_DATA_DIR: dataDir,
    AUTH_WORKERS: String(workers),
    AUTH_HASH_CONCURRENCY: '3',
    AUTH_METRICS_PORT: '0',
    AUTH_ACESS_TTL: '1m',
  })
  const { call, metric } = service

  await t.test('one line says that all of them listen, on one port', async (t) => {
    const listening = service.lines().filter(({ msg }) => /listen/i.test(String(msg)))
    t.match(listening, [
      {
        pid: service.child.pid,
        workers,
        store: 'lmdb',
        msg: /^Latchkey listens on http:\/\/127\.0\.0\.1:[0-9]+, on LMDB: a new, empty store$/,
      },
    ])
    t.equal(listening.length, 1)
    t.equal(service.lines().filter(({ msg }) => /AUTH_ACESS_TTL/.test(String(msg))).length, 1, 'and one warns')
    t.equal(service.lines().filter(({ event }) => event === 'key.rotated').length, 1, 'one signing key was made')
    const answers = await service.times(4 * workers, () => call('/livez'))
    t.equal(distinct(await Promise.all(answers.map(({ worker }) => worker()))).length, workers)
    t.equal(
      await metric('latchkey_http_request_duration_seconds_count{method="GET",route="/livez",status="200"}'),
      4 * workers,
    )
    t.equal(await metric('latchkey_workers'), workers)
  })

  await t.test('what one worker revokes, the others refuse before it is answered', (t) =>
    revokedEverywhere(t, service, workers),
  )

  await t.test('fifty refreshes at once are one lineage', (t) => oneLineage(t, service, workers))

  await t.test(
    'wrong logins at once pass about ten for each worker at most, and then none passes at any',
    async (t) => {
      await service.signUp('alan')
      const guesses = await service.times(60, () => service.tryLogIn('alan', 'a wrong password, truly'))
      t.same(distinct(guesses.map(({ status }) => status)).sort(), [400, 429])
      const tried = guesses.filter(({ status }) => status === 400).length
      t.ok(tried >= 10 && tried <= 12 * workers, `${tried} of 60 were tried`)
      const after = await service.times(2 * workers, () => service.tryLogIn('alan'))
      t.same(distinct(after.map(({ status }) => status)), [429])
    },
  )

  await t.test('whichever worker is asked, it is told why another has refused a request', async (t) => {
    const { client_secret } = await runJson(['client', 'add', 'ops', '--scope', 'admin'], { AUTH_DATA_DIR: dataDir })
    const form = { grant_type: 'client_credentials', client_id: 'ops', client_secret }
    const { access_token: token } = (await call('/token', { form })).body
    const refused = await service.times(2 * workers, () => call('/users/me'))
    const answers = await Promise.all(
      refused.map(({ body }) => service.times(workers, () => call(`/admin/explain/${body.request_id}`, { token }))),
    )
    t.same(distinct(answers.flat().map(({ status, body }) => `${status} ${body.code}`)), ['200 missing_token'])
  })

  await t.test('a worker that is stuck holds nobody up, and catches up', async (t) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    t.teardown(() => agent.destroy())
    const sessions = await service.times(6, () => service.logIn('ada'))
    const own = await (await call('/livez', { agent })).worker()
    const others = await service.times(2 * workers, () => call('/livez'))
    const stuck = (await Promise.all(others.map(({ worker }) => worker()))).find((pid) => pid !== own) as number
    process.kill(stuck, 'SIGSTOP')
    t.teardown(() => process.kill(stuck, 'SIGCONT'))
    const logouts: Answer[] = []
    for (const { access_token } of sessions)
      logouts.push(await call('/logout', { method: 'POST', token: access_token, agent }))
    t.same(distinct(logouts.map(({ status }) => status)), [204])
    const [first, ...later] = logouts.map(({ ms }) => ms) as [number, ...number[]]
    t.ok(first < 5_000, `the first waited ${first.toFixed()} ms`)
    t.ok(Math.min(...later) < longestWaitMs, 'the others do not wait for one that is late already')
    t.equal((await call('/verify', { token: sessions[0]?.access_token as string, agent })).status, 401)
    process.kill(stuck, 'SIGCONT')
    const isRefused = async () => {
      const answers = await service.times(2 * workers, () =>
        call('/verify', { token: sessions.at(-1)?.access_token as string }),
      )
      const askedIt = (await Promise.all(answers.map(({ worker }) => worker()))).includes(stuck)
      return askedIt && answers.every(({ status }) => status === 401)
    }
    t.ok((await until(isRefused)) < 5_000)
  })

  await t.test('kill -9 of a worker loses nothing that was answered, and the others go on', async (t) => {
    let isOver = false
    const untilOver = async (step: () => Promise<void>) => {
      while (!isOver) await Promise.all([step().catch(() => {}), sleep(20)])
    }
    const signedUp: { username: string; at: number }[] = []
    const lineages = new Map<string, string>()
    for (const username of ['grace', 'barbara', 'frances']) {
      await service.signUp(username)
      lineages.set(username, (await service.logIn(username)).refresh_token)
    }
    let count = 0
    const busy = [
      ...Array.from({ length: 4 }, () =>
        untilOver(async () => {
          const username = `user-${++count}`
          if ((await service.signUp(username)).status === 201) signedUp.push({ username, at: performance.now() })
        }),
      ),
      ...[...lineages.keys()].map((username) =>
        untilOver(async () => {
          const { status, body } = await service.refresh(lineages.get(username) as string)
          if (status === 200) lineages.set(username, body.refresh_token)
        }),
      ),
    ]
    await until(async () => signedUp.length >= 10)
    const counted = await metric(
      'latchkey_http_request_duration_seconds_count{method="POST",route="/refresh",status="200"}',
    )
    const victim = await (await call('/livez')).worker()
    process.kill(victim, 'SIGKILL')
    const killedAt = performance.now()
    await service.isThere(({ event, worker }) => event === 'worker.ended' && worker === victim)
    t.equal((await call('/readyz')).status, 200)
    await service.isThere(({ event }) => event === 'worker.started')
    t.ok(
      (await metric('latchkey_http_request_duration_seconds_count{method="POST",route="/refresh",status="200"}')) >=
        counted,
      'what it had counted stays in the sum',
    )
    t.equal(await metric('latchkey_workers'), workers)
    isOver = true
    await Promise.all(busy)
    t.match(
      service.lines().filter(({ event }) => String(event).startsWith('worker.')),
      [
        { event: 'worker.ended', level: 50, worker: victim, how: 'SIGKILL' },
        { event: 'worker.started', level: 30 },
      ],
    )
    t.ok(signedUp.some(({ at }) => at > killedAt))
    const logins = await Promise.all(signedUp.map(({ username }) => service.tryLogIn(username)))
    t.same(distinct(logins.map(({ status }) => status)), [200], `each of ${signedUp.length} logs in`)
    for (const [username, token] of lineages) t.equal((await service.refresh(token)).status, 200, `${username} goes on`)
  })

  await t.test('one that was started later is told of revocations too', (t) => revokedEverywhere(t, service, workers))

  service.child.kill('SIGINT')
  t.same(await service.ended, { code: 0, signal: null })
  t.equal(service.output.stderr, '')
})

t.test('two workers over PostgreSQL', async (t) => {
  const workers = 2
  const service = await start(t, {
    ...cheapHashing,
    ...(await stores['pg']?.(t)),
    // Long enough for several to be seen at once.
    AUTH_ARGON2_MEMORY: '19456',
    AUTH_ARGON2_TIME: '10',
    AUTH_SHUTDOWN_GRACE: '30s',
    AUTH_WORKERS: String(workers),
    AUTH_HASH_CONCURRENCY: '3',
    AUTH_METRICS_PORT: '0',
  })
  t.match(
    service.lines().find(({ workers }) => workers !== undefined),
    { workers, store: 'pg' },
  )

  await t.test('what one worker revokes, the others refuse before it is answered', (t) =>
    revokedEverywhere(t, service, workers),
  )

  await t.test('fifty refreshes at once are one lineage', (t) => oneLineage(t, service, workers))

  await t.test(
    'SIGTERM lets the requests in flight finish at every worker, and ends with 0; hashes are of all workers together',
    async (t) => {
      const agents = Array.from({ length: 6 }, () => new Agent({ keepAlive: true, maxSockets: 1 }))
      t.teardown(() => {
        for (const agent of agents) agent.destroy()
      })
      const open = await Promise.all(agents.map((agent) => service.call('/readyz', { agent })))
      t.equal(distinct(await Promise.all(open.map(({ worker }) => worker()))).length, 2)

      const logins = service.times(12, (index) => service.tryLogIn(`nobody-${index}`))
      let areAnswered = false
      logins.then(() => {
        areAnswered = true
      })
      const running: number[] = []
      await until(
        async () => running.push(await service.metric('latchkey_hashes_running')) > 0 && running.includes(3),
        5_000,
        0,
      )
      t.equal(Math.max(...running), 3, 'three are hashed at once, in all')

      service.child.kill('SIGTERM')
      await service.isThere(({ signal }) => signal === 'SIGTERM')
      t.notOk(areAnswered, 'requests are in flight')
      const readyz = () =>
        Promise.all(
          agents.map((agent) =>
            service.call('/readyz', { agent }).then(
              ({ status }) => status,
              () => 0,
            ),
          ),
        )
      t.ok((await until(async () => !(await readyz()).includes(200), 1_000)) < 1_000, '/readyz fails at each of them')
      t.same(distinct((await logins).map(({ status }) => status)), [400])
    },
  )
  t.same(await service.ended, { code: 0, signal: null })
  t.equal(service.output.stderr, '')
})

t.test('what stops the start of one process stops that of several, with the same line, once', async (t) => {
  // A port that is taken: in `listening.test.ts`.
  const cases: [Record<string, string>, number, RegExp][] = [
    [{ AUTH_WORKERS: '2', AUTH_ACCESS_TTL: 'soon' }, 78, /^AUTH_ACCESS_TTL: expected [^\n]+\n$/],
    [{ AUTH_WORKERS: '2', AUTH_DATA_DIR: '/dev/null/data' }, 78, /^AUTH_DATA_DIR: expected [^\n]+\n$/],
  ]
  for (const [settings, exitCode, line] of cases) {
    const { output, ended } = await runProgram(t, { ...cheapHashing, AUTH_DATA_DIR: await newDir(t), ...settings })
    t.same(await ended, { code: exitCode, signal: null })
    t.match(output.stderr, line)
    t.notMatch(output.stdout, /Latchkey listens/)
  }
})

t.test('AUTH_WORKERS is a number or auto', async (t) => {
  t.equal(readConfig({}).AUTH_WORKERS, 1)
  t.equal(readConfig({ AUTH_WORKERS: '4' }).AUTH_WORKERS, 4)
  t.ok(readConfig({ AUTH_WORKERS: 'auto' }).AUTH_WORKERS >= 1)
  for (const text of ['0', '65', '-1', '1.5', 'Auto', '2 ', 'many']) {
    t.throws(
      () => readConfig({ AUTH_WORKERS: text }),
      { message: /^AUTH_WORKERS: expected a whole number from 1 to 64, or auto, got / },
      text,
    )
  }
})
