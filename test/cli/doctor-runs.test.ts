import { randomUUID } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Server as NetServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { runChecks } from '../../cli/doctor/check.ts'
import { gatherFacts } from '../../cli/doctor/facts.ts'
import { proxies } from '../../cli/doctor/proxies.ts'
import { readConfig } from '../../config.ts'
import { createProbes, probeField } from '../../plugins/keys/probe.ts'
import { run as runHere, runProcess } from '../support/cli.ts'
import { complaints, secret } from '../support/doctor.ts'
import { cheapHashing, json, newDir, onOneStore, storeOf, stores } from '../support/helper.ts'

/* `latchkey doctor` as it is run: beside a service, before there is one, and where something does not answer. */

/** Runs it with `--json`. @returns its exit code and lines */
async function doctor(env: Record<string, string>, args: string[] = [], run: typeof runHere = runHere) {
  const { code, stdout, stderr } = await run(['doctor', '--json', ...args], env)
  return { code, stderr, text: stdout, lines: JSON.parse(stdout) as Parameters<typeof complaints>[0] }
}
/** But for what is of this machine, and of hashing that is cheap for the test. */
const ofTheSetUp = (lines: Parameters<typeof complaints>[0]) =>
  complaints(lines.filter(({ id }) => !/^(node|cores|memory|limits\..*|disk\..*|insecure|store\..*)$/.test(id)))

async function listening(t: Test, server: NetServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** A port that nothing listens on. */
async function freePort(t: Test): Promise<number> {
  const server = createTcpServer()
  const port = await listening(t, server)
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The service, in this process. @returns its settings and app */
async function serve(t: Test, settings: Record<string, string>) {
  const port = await freePort(t)
  const env: Record<string, string> = { ...cheapHashing, LOG_LEVEL: 'silent', PORT: String(port), ...settings }
  const app = await buildApp(readConfig(env))
  t.teardown(() => app.close())
  await app.listen({ host: '127.0.0.1', port })
  return { env, app, port }
}

/** A proxy in front of a service, which sends an X-Forwarded-For as `forward` makes it of that of its client. */
async function startProxy(t: Test, port: number, forward: (claimed: string | undefined) => string | undefined) {
  const proxy = createServer((incoming, outgoing) => {
    const { 'x-forwarded-for': claimed, ...headers } = incoming.headers
    const forwarded = forward(claimed as string | undefined)
    const onward = request(
      {
        port,
        host: '127.0.0.1',
        path: incoming.url,
        method: incoming.method,
        headers: { ...headers, ...(forwarded !== undefined && { 'x-forwarded-for': forwarded }) },
      },
      (answer) => {
        outgoing.writeHead(answer.statusCode as number, answer.headers)
        answer.pipe(outgoing)
      },
    )
    incoming.pipe(onward)
  })
  return `http://127.0.0.1:${await listening(t, proxy)}`
}

/** Runs it as a process beside a service. */
async function isContentBeside(
  t: Test,
  { env, app }: Awaited<ReturnType<typeof serve>>,
  says: string[],
  exits: number,
) {
  const { code, stderr, lines, text } = await doctor(env, [], runProcess)
  t.same(ofTheSetUp(lines), says)
  t.equal(stderr, '')
  t.equal(code, exits)
  const looked = lines.filter(({ verdict }) => verdict !== 'skipped').map(({ id }) => id)
  for (const id of ['store.write', 'keys.secret', 'issuer.keys', 'service', 'proxies.direct', 'hash.time'])
    t.ok(looked.includes(id), id)
  const { rows } = await storeOf(app).exportRows('records', { limit: 10 })
  t.notOk(
    rows.some(({ kind }) => kind === 'doctor'),
    'it leaves nothing behind',
  )
  for (const hidden of [env['AUTH_SECRET'] ?? secret, 'postgres:test@']) t.notOk(text.includes(hidden))
}

t.test('beside a running service on PostgreSQL it finds what is wrong there, and no more', async (t) => {
  const service = await serve(t, { ...(await stores['pg']?.(t)) })
  // The database of the tests does not sync.
  await isContentBeside(t, service, ['failed database.fsync: fsync of the database'], 2)
})

t.test('beside a running service on the embedded store', async (t) => {
  const service = await serve(t, { AUTH_DATA_DIR: await newDir(t), AUTH_TRUSTED_PROXIES: '127.0.0.1' })
  const { env, port } = service

  await t.test('it finds nothing wrong', (t) => isContentBeside(t, service, [], 1))

  await t.test('it tries out whether a proxy may be believed', async (t) => {
    const client = '198.51.100.9'
    const kinds: Record<string, [forward: (claimed?: string) => string | undefined, says: string[]]> = {
      'sets it': [() => client, []],
      'adds to it': [(claimed) => [claimed, client].filter(Boolean).join(', '), []],
      'passes on what the client claims': [
        (claimed) => claimed,
        ['warning proxies.forwarded: the proxy', 'failed proxies.forged: the proxy'],
      ],
      'removes it': [() => undefined, ['warning proxies.forwarded: the proxy']],
    }
    for (const [title, [forward, says]] of Object.entries(kinds)) {
      const { facts } = gatherFacts({ ...env, AUTH_ISSUER: await startProxy(t, port, forward) })
      t.same(complaints(await runChecks(proxies, facts)), says, title)
    }
  })

  await t.test('from outside it needs no settings', async (t) => {
    const made = await runHere(['client', 'add', 'files', '--introspect', '--json'], env)
    const client = { LATCHKEY_CLIENT_ID: 'files', LATCHKEY_CLIENT_SECRET: JSON.parse(made.stdout).client_secret }
    const { code, lines } = await doctor(client, ['--url', `http://localhost:${port}`])
    t.same(complaints(lines), [])
    t.equal(code, 0)
    t.equal(lines.find(({ id }) => id === 'url.revocations')?.verdict, 'ok', 'the stream too')
  })
})

t.test('before the first start it makes nothing, and is content', async (t) => {
  const dir = join(await newDir(t), 'data')
  const { code, lines } = await doctor({ AUTH_DATA_DIR: dir, PORT: String(await freePort(t)) })
  t.same(ofTheSetUp(lines), [])
  t.ok(code < 2)
  t.notOk(existsSync(dir))
})

t.test('a first start on PostgreSQL is left to the service', async (t) => {
  const env = { ...(await stores['pg']?.(t)), PORT: String(await freePort(t)) }
  const { lines } = await doctor(env)
  t.match(lines.find(({ id }) => id === 'database.schema')?.seen, 'the first start makes it')
  t.match((await doctor(env)).lines.find(({ id }) => id === 'database.schema')?.seen, 'the first start makes it')
})

t.test('wrong settings are a line each, for people too, and no secret is in any', async (t) => {
  const env = { PORT: 'x', AUTH_ACCESS_TTL: 'y', AUTH_SECRET: 'short-hidden', AUTH_SECRTE: 'misspelt-hidden' }
  const { code, stdout, stderr } = await runHere(['doctor'], env)
  t.equal(code, 2)
  t.equal(stderr, '')
  t.match(stdout, /^failed +settings +PORT: expected a whole number.*\n +PORT: /m)
  t.match(stdout, /^failed +settings +AUTH_ACCESS_TTL: /m)
  t.match(stdout, /^failed +settings +AUTH_SECRET: /m)
  t.match(stdout, /^warning +settings.unknown +AUTH_SECRTE is no setting.*\n +AUTH_SECRTE: did you mean AUTH_SECRET\?/m)
  t.notMatch(stdout, /hidden/)
  t.notMatch(stdout, /\n {4}at /)
})

for (const [title, answers] of Object.entries({ 'says nothing': false, 'cuts every connection': true })) {
  t.test(`a database that ${title} is told of in time, without its password`, async (t) => {
    const port = await listening(
      t,
      createTcpServer((socket) => void (answers && socket.destroy())),
    )
    const startedAt = performance.now()
    const { code, text, lines } = await doctor(
      {
        DATABASE_URL: `postgres://latchkey:top%2Fhidden@127.0.0.1:${port}/latchkey`,
        AUTH_SECRET: randomUUID(),
        PORT: String(await freePort(t)),
      },
      [],
      runProcess,
    )
    t.ok(performance.now() - startedAt < 10_000)
    t.equal(code, 2)
    t.same(ofTheSetUp(lines), ['failed database: DATABASE_URL', 'warning issuer: AUTH_ISSUER'])
    t.notMatch(text, /hidden/)
  })
}

t.test(
  'what another program says is told without a secret that stands in it, also one that came by file',
  async (t) => {
    const port = await listening(
      t,
      createTcpServer((socket) => {
        socket.on('error', () => {})
        // An ErrorResponse of PostgreSQL's protocol.
        socket.once('data', () => {
          const fields = Buffer.from('SFATAL\0C28P01\0Mthe password top/hidden, written top%2Fhidden, is wrong\0\0')
          const head = Buffer.from('E\0\0\0\0')
          head.writeInt32BE(fields.length + 4, 1)
          socket.end(Buffer.concat([head, fields]))
        })
      }),
    )
    const file = join(await newDir(t), 'url')
    writeFileSync(file, `postgres://latchkey:top%2Fhidden@127.0.0.1:${port}/latchkey\n`)
    const { lines, text } = await doctor({
      DATABASE_URL_FILE: file,
      AUTH_SECRET: randomUUID(),
      PORT: String(await freePort(t)),
    })
    t.match(lines.find(({ id }) => id === 'database')?.seen, 'the password …, written …, is wrong')
    t.notMatch(text, /hidden/)
  },
)

t.test('what is wrong with the call is a usage error', async (t) => {
  for (const url of ['auth.example.com', 'ftp://a', 'https://a:b@c', 'https://a?b']) {
    const { code, stdout, stderr } = await runHere(['doctor', '--url', url])
    t.equal(code, 64, url)
    t.equal(stdout, '')
    t.match(stderr, /^--url: expected [^\n]+\n$/)
  }
})

onOneStore('how a request arrived is told to a probe under AUTH_SECRET, and to nobody else', async (t, build) => {
  const { app, clock } = await build({ AUTH_SECRET: secret, AUTH_TRUSTED_PROXIES: '127.0.0.1' })
  const { make } = createProbes(app.secrets)
  const ask = async (probe?: string) =>
    json(
      await app.inject({
        url: '/livez',
        headers: { 'x-forwarded-for': '203.0.113.77', ...(probe !== undefined && { [probeField]: probe }) },
      }),
    )
  t.same(await ask(make(clock.now)), {
    status: 'ok',
    arrived: { peer: '127.0.0.1', forwarded_for: '203.0.113.77', address: '203.0.113.77' },
  })
  const good = make(clock.now)
  const others = [
    undefined,
    '',
    'x',
    good.slice(0, -1),
    `${good}x`,
    good.replace(/^./, '9'),
    `${clock.now}.${'A'.repeat(43)}`,
  ]
  for (const probe of [...others, make(clock.now - 61_000), make(clock.now + 61_000), `${good}, ${good}`])
    t.same(await ask(probe), { status: 'ok' }, `${probe}`)
})
