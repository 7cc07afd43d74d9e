import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, createServer, request } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { Drain, drainingResponse } from '../../plugins/http/draining.ts'
import { closePort, drainAndClose, openSockets } from '../../process/drain.ts'
import { cheapHashing, listen, onOneStore } from '../support/helper.ts'
import { until } from '../support/processes.ts'
import { program } from '../support/program.ts'
import { runProgram } from '../support/running.ts'

/* What a proxy sees of a process that ends: RFC 9112 §9.6, contract section 7. */

interface Answer {
  status: number | undefined
  connection: string | undefined
  text: string
}

async function start(t: Test, settings: Record<string, string>) {
  const running = await runProgram(t, { ...cheapHashing, ...settings })
  const { child } = running
  const ended = running.ended.then(({ code, signal }) => ({ code, signal, atMs: performance.now() }))
  const port = Number(new URL(await running.listening()).port)

  /** @param agent keeps to one connection; without it the call has a new one */
  async function call(
    path: string,
    { method = 'GET', agent }: { method?: string; agent?: Agent } = {},
  ): Promise<Answer> {
    const sent = request({
      host: '127.0.0.1',
      port,
      path,
      method,
      agent: agent ?? false,
      headers: agent ? {} : { connection: 'keep-alive' },
    })
    sent.end()
    const [response] = await once(sent, 'response')
    let text = ''
    for await (const chunk of response.setEncoding('utf8')) text += chunk
    return { status: response.statusCode, connection: response.headers.connection, text }
  }
  /** So many kept connections, each with a request answered. */
  async function keep(count: number): Promise<Agent[]> {
    const agents = Array.from({ length: count }, () => new Agent({ keepAlive: true, maxSockets: 1 }))
    t.teardown(() => {
      for (const agent of agents) agent.destroy()
    })
    for (const agent of agents) t.match(await call('/livez', { agent }), { status: 200, connection: 'keep-alive' })
    return agents
  }
  return { child, port, call, keep, ended }
}

for (const workers of ['1', '2']) {
  t.test(
    `after SIGTERM it goes on answering, and every answer ends its connection, RFC 9112 §9.6 [${workers} at work]`,
    async (t) => {
      const { child, call, keep, port, ended } = await start(t, { AUTH_WORKERS: workers, AUTH_SHUTDOWN_GRACE: '6s' })
      // The last one stays, and asks for nothing more.
      const agents = await keep(7)
      const [late, ready, missing, method, bad, page] = agents as [Agent, Agent, Agent, Agent, Agent, Agent]
      const silent = connect(port, '127.0.0.1')
      silent.on('error', () => {})
      await once(silent, 'connect')

      const stoppedAt = performance.now()
      child.kill('SIGTERM')
      await until(async () => (await call('/readyz')).status === 503)
      await sleep(300 - (performance.now() - stoppedAt))
      child.kill('SIGTERM')

      const closes = { connection: 'close' }
      t.match(
        await call('/livez', { agent: late }),
        { status: 200, ...closes },
        'a request on a kept connection is answered',
      )
      t.match(await call('/readyz', { agent: ready }), { status: 503, text: /draining/, ...closes })
      t.match(await call('/nowhere', { agent: missing }), { status: 404, ...closes })
      t.match(await call('/token', { agent: method }), { status: 405, ...closes })
      t.match(await call('/%zz', { agent: bad }), { status: 400, ...closes })
      t.match(await call('/docs/static/index.html', { agent: page }), closes, 'a file that is streamed')
      t.match(await call('/livez'), { status: 200, ...closes }, 'and so is one on a new connection')

      const { code, signal, atMs } = await ended
      await t.test('a SIGTERM that is repeated changes nothing', async (t) =>
        t.same({ code, signal }, { code: 0, signal: null }),
      )
      await t.test('with somebody who stays, or who never asked for anything, it ends within the grace', async (t) =>
        t.ok(atMs - stoppedAt < 4_000, `after ${atMs - stoppedAt} ms`),
      )
      await t.rejects(call('/livez'), { code: 'ECONNREFUSED' })
    },
  )
}

onOneStore('with nobody connected it ends at once', async (t, build) => {
  const { app } = await build()
  const sockets = openSockets(app.server)
  await listen(app)
  const stoppedAt = performance.now()
  await drainAndClose(app, sockets, 10_000, (hold) => closePort(app.server, hold))
  t.ok(performance.now() - stoppedAt < 1_000)
})

t.test('a second Ctrl-C ends it at once, and the echo of the first does not', async (t) => {
  const signals = pathToFileURL(program('process/signals.js')).href
  const script = `import { onSignals } from '${signals}'
    onSignals(() => console.log('stopping'))
    setInterval(() => {}, 1000)
    console.log('ready')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'close')
  await once(child.stdout, 'data')
  child.kill('SIGINT')
  await once(child.stdout, 'data')
  child.kill('SIGINT')
  await sleep(700)
  t.equal(child.exitCode, null)
  child.kill('SIGINT')
  t.same(await ended, [130, null])
})

t.test('answers are held while the port is closed, and go when it is, or by themselves', async (t) => {
  const drain = new Drain()
  const server = createServer({ ServerResponse: drainingResponse(drain) }, (_request, response) => response.end('here'))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const ask = async () => (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } })).text()

  let release = () => {}
  drain.held = new Promise((resolve) => {
    release = resolve
  })
  let isAnswered = false
  const held = ask().then((text) => {
    isAnswered = true
    return text
  })
  await once(server, 'request')
  await sleep(20)
  t.equal(isAnswered, false)
  release()
  t.equal(await held, 'here')
  drain.hold()
  t.equal(await ask(), 'here', 'without anybody who lets them go')
  t.equal(drain.held, undefined)
})
