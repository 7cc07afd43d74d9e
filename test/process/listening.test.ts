import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { ConfigError, readConfig } from '../../config.ts'
import { listen as listenOn, resolveHost } from '../../process/listening.ts'
import { serveMetrics } from '../../process/metrics-port.ts'
import { cheapHashing, listen, newDir } from '../support/helper.ts'
import { runProgram } from '../support/running.ts'

/* Where it listens, what is said when it cannot, and for how long it waits for a request. */

async function takenPort(t: Test): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return String((server.address() as { port: number }).port)
}

t.test('either port that is taken stops the start, names its setting and leaves no store behind', async (t) => {
  const port = await takenPort(t)
  const cases: [settings: Record<string, string>, name: string][] = [
    [{ PORT: port }, 'PORT'],
    [{ AUTH_METRICS_PORT: port, AUTH_WORKERS: '2' }, 'AUTH_METRICS_PORT'],
  ]
  for (const [settings, name] of cases) {
    const { cwd, output, ended } = await runProgram(t, { ...cheapHashing, ...settings })
    t.same(await ended, { code: 1, signal: null }, JSON.stringify(settings))
    t.equal(output.stderr, `${name}: something else listens on port ${port} of 127.0.0.1; set ${name} to another\n`)
    t.notMatch(output.stdout, /Latchkey listens/)
    t.notOk(existsSync(join(cwd, 'data')), 'no store is made')
  }
})

t.test('a port that is taken is named beside a store that is there', async (t) => {
  const AUTH_DATA_DIR = await newDir(t)
  const port = await takenPort(t)
  const config = readConfig({ ...cheapHashing, AUTH_DATA_DIR, AUTH_METRICS_PORT: port })
  const app = await buildApp(config, { logStream: { write() {} } })
  await t.rejects(
    serveMetrics(config, app.log, async () => ''),
    {
      message: new RegExp(`^AUTH_METRICS_PORT: something else listens on port ${port} `),
    },
  )
  await app.close()
  const { output, ended } = await runProgram(t, { ...cheapHashing, AUTH_DATA_DIR, PORT: port })
  t.same(await ended, { code: 1, signal: null })
  t.match(output.stderr, new RegExp(`^PORT: something else listens on port ${port} [^\\n]+\\n$`))
})

t.test('HOST that is no address of this machine stops the start with 78, as does a name that nobody has', async (t) => {
  for (const name of ['x86_64-conda-linux-gnu', '127.0.0.1:3000', 'nobody.invalid']) {
    const error = await resolveHost(name).catch((thrown: unknown) => thrown)
    t.ok(error instanceof ConfigError, name)
    t.match(error, { message: /^HOST: expected [^\n]+$/ })
  }
  const { output, ended, cwd } = await runProgram(t, { ...cheapHashing, HOST: '192.0.2.1' })
  t.same(await ended, { code: 78, signal: null })
  t.match(output.stderr, /^HOST: expected [^\n]+\n$/)
  t.notOk(existsSync(join(cwd, 'data')))
})

// As a process: in `server.test.ts`.
t.test('HOST is listened on at one address, with an origin that can be called', async (t) => {
  t.equal(await resolveHost('localhost'), '127.0.0.1')
  for (const literal of ['127.0.0.1', '::1', '::', '0.0.0.0']) t.equal(await resolveHost(literal), literal)

  for (const host of ['0.0.0.0', '::1']) {
    const server = createHttpServer((_request, response) => response.end())
    const origin = await listenOn(server, await resolveHost(host), 0, 'PORT')
    t.equal((await fetch(origin)).status, 200, origin)
    server.close()
  }
})

t.test('the header of a request, and all of it, have to arrive in the same time, each sent byte by byte', async (t) => {
  const requestTimeoutMs = 600
  const config = readConfig({ ...cheapHashing, AUTH_DATA_DIR: await newDir(t) })
  const app = await buildApp(config, { logStream: { write() {} }, requestTimeoutMs })
  t.teardown(() => app.close())
  const { port } = new URL(await listen(app))

  const begins = {
    'a header': ['', 'GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: '],
    'a body': [
      'POST /refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n',
      '"',
    ],
  }
  await Promise.all(
    Object.entries(begins).map(async ([what, [atOnce, slowly]]) => {
      const socket = connect(Number(port), '127.0.0.1')
      await once(socket, 'connect')
      let answer = ''
      socket.setEncoding('utf8').on('data', (chunk) => {
        answer += chunk
      })
      socket.on('error', () => {})
      const startedAt = performance.now()
      socket.write(`${atOnce}${slowly}`)
      const ended = once(socket, 'close')
      while (!socket.closed && performance.now() - startedAt < 10_000) {
        if (socket.writable) socket.write('x')
        await sleep(20)
      }
      await ended
      const ms = performance.now() - startedAt
      t.match(answer, /^HTTP\/1\.1 408 /, what)
      t.ok(ms >= requestTimeoutMs - 50 && ms < 2 * requestTimeoutMs + 500, `${what}: ${ms.toFixed()} ms`)
    }),
  )
})

t.test('AUTH_KEEP_ALIVE is for how long an idle connection is kept', async (t) => {
  const config = readConfig({ ...cheapHashing, AUTH_DATA_DIR: await newDir(t) })
  t.equal(config.AUTH_KEEP_ALIVE.seconds, 130)
  const app = await buildApp({ ...config, AUTH_KEEP_ALIVE: { seconds: 7, ms: 7000 } }, { logStream: { write() {} } })
  t.teardown(() => app.close())
  const response = await fetch(`${await listen(app)}/livez`)
  t.equal(response.headers.get('keep-alive'), 'timeout=7')
})
