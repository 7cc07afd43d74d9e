import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { password, sharedPostgres, type Tokens } from '../support/helper.ts'
import { isLong, replicaSettings } from '../support/processes.ts'
import { freePort, type StartProxy, startHaproxy, startNginx, startRoundRobin } from '../support/proxies.ts'
import { type Running, runProgram } from '../support/running.ts'

/*
 * An upgrade as operators do it: two replicas behind a proxy are ended by SIGTERM and started again, one after the
 * other, while people sign up, log in, refresh and call. In the long form (`npm run test:rolling`) behind nginx and HAProxy
 * too, with the settings that deploy/ has for them.
 */

const postgres = await sharedPostgres()
const [clients, rounds, pauseMs] = isLong ? [48, Number(process.env['LATCHKEY_ROUNDS'] ?? 5), 0] : [6, 1, 50]
if (isLong) t.setTimeout(1_800_000)

interface Failure {
  path: string
  why: string
}

/** People who call through a proxy, each on a connection that is kept, one request after the other. */
function startLoad(origin: string) {
  const failures: Failure[] = []
  let requests = 0
  let isOver = false

  async function call(agent: Agent, path: string, { body, token }: { body?: object | string; token?: string } = {}) {
    const isJson = typeof body === 'object'
    const type = isJson ? 'application/json' : 'application/x-www-form-urlencoded'
    requests += 1
    try {
      const sent = request(origin + path, {
        agent,
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          ...(body !== undefined && { 'content-type': type }),
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
        },
      })
      sent.end(isJson ? JSON.stringify(body) : body)
      const [response] = await once(sent, 'response')
      let text = ''
      for await (const chunk of response.setEncoding('utf8')) text += chunk
      if (response.statusCode < 300) return text
      failures.push({ path, why: `${response.statusCode} ${text.slice(0, 200)}` })
    } catch (error) {
      failures.push({ path, why: String((error as NodeJS.ErrnoException).code ?? error) })
    }
    return undefined
  }

  /** @returns the tokens that the person ends with; undefined after a failure */
  async function live(number: number): Promise<Tokens | undefined> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const username = `person-${number}`
    const logIn = new URLSearchParams({ username, password }).toString()
    const tokensOf = (text: string | undefined) => (text === undefined ? undefined : (JSON.parse(text) as Tokens))
    await call(agent, '/signup', { body: { username, password } })
    let tokens = tokensOf(await call(agent, '/token', { body: logIn }))
    for (let turn = 1; tokens && !isOver; turn++) {
      const { refresh_token } = tokens
      const form: string = new URLSearchParams({ grant_type: 'refresh_token', refresh_token }).toString()
      tokens = tokensOf(await call(agent, '/token', { body: form }))
      if (tokens) await call(agent, '/protected', { token: tokens.access_token })
      if (turn % 20 === 0) await call(agent, '/token', { body: logIn })
      if (pauseMs > 0) await sleep(pauseMs)
    }
    agent.destroy()
    return tokens
  }

  const lives = Array.from({ length: clients }, (_, number) => live(number))
  return {
    async end() {
      isOver = true
      return { tokens: await Promise.all(lives), failures, requests }
    },
  }
}

const title = 'a rolling restart of two replicas loses no request, and logs nobody out'

async function roll(t: Test, startProxy: StartProxy, workers: [string, string]): Promise<void> {
  const ports = [await freePort(), await freePort()] as [number, number]
  const proxy = await startProxy(t, ports)
  if ('missing' in proxy) return void t.test(title, { skip: proxy.missing }, () => {})
  const settings = replicaSettings(await postgres.createDatabase())
  // In the short form a replica with several at work comes back with one.
  const start = (which: 0 | 1, round = -1) =>
    runProgram(t, {
      ...settings,
      PORT: String(ports[which]),
      AUTH_WORKERS: isLong || round < 0 ? workers[which] : '1',
      AUTH_THROTTLE: 'off',
    })
  const running: [Running, Running] = [await start(0), await start(1)]
  const all = [...running]
  await Promise.all(running.map((replica) => replica.listening()))
  // A proxy that asks for /readyz has to have heard.
  await sleep(isLong ? 1_000 : 100)

  const load = startLoad(proxy.origin)
  for (let round = 0; round < rounds; round++) {
    for (const which of [0, 1] as const) {
      await sleep(isLong ? 2_500 : 200)
      t.match(await running[which].stop(), { code: 0, signal: null })
      running[which] = await start(which, round)
      all.push(running[which])
      await running[which].listening()
    }
  }
  await sleep(isLong ? 1_000 : 200)
  const { tokens, failures, requests } = await load.end()
  t.comment(`${requests} requests, ${failures.length} failed, ${2 * rounds} restarts`)
  t.same(failures, [], 'no request failed')
  t.ok(requests > 20 * clients, `${requests} requests`)
  t.equal(tokens.filter((last) => last === undefined).length, 0, 'nobody was logged out')
  for (const { output } of all) {
    t.equal(output.stderr, '')
    t.equal(/.*refresh\.reused.*/.exec(output.stdout)?.[0], undefined)
  }
}

t.test(`${title} [a proxy that asks for /readyz; one replica has two workers]`, (t) =>
  roll(t, startRoundRobin, ['1', '2']),
)

for (const [name, start] of isLong ? Object.entries({ nginx: startNginx, HAProxy: startHaproxy }) : []) {
  for (const workers of ['1', '2'])
    await t.test(`${title} [${name}, ${workers} at work]`, (t) => roll(t, start, [workers, workers]))
}
