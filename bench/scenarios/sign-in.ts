/*
 * What signing in in a browser costs, step by step, beside the password grant: CPU time of the process, without HTTP, and
 * calls of the store. And what the pages weigh.
 *
 *     npm run bench:sign-in -- [--times 100] [--postgres] [--json]
 *
 * Hashes are as cheap as can be, so that what is around them shows: a real one comes to each step with a password. By
 * `inject`, of which each step has some 0.1 ms; `GET /livez` says how much. Medians of all times.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { password } from '../load.ts'
import { median, round } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { writeClients } from '../service.ts'
import { openServer } from './postgres.ts'
import { readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ times: 100, postgres: false })
const redirectUri = 'https://app.example/callback'
const [id, secret] = ['bench', 'a-secret-of-the-benchmark-that-is-long-enough']
const basic = { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` }

/** Counts the calls of the store from now on. */
function countCalls(store: FastifyInstance['store']): () => number {
  let calls = 0
  for (const [name, method] of Object.entries(store)) {
    if (typeof method !== 'function') continue
    const counted = (...values: unknown[]) => {
      calls++
      return (method as (...values: unknown[]) => unknown).apply(store, values)
    }
    Object.assign(store, { [name]: counted })
  }
  return () => calls
}

interface Answer {
  statusCode: number
  body: string
  location: string
}

await runScenario(async () => {
  const dir = makeDir()
  const database = flags.postgres ? await (await openServer()).createDatabase() : undefined
  const clients = [
    { client_id: id, client_secret: secret, redirect_uris: [redirectUri], consent: 'implicit', pkce: 'optional' },
  ]
  const settings = {
    ...{ AUTH_DATA_DIR: dir, AUTH_ISSUER: 'http://localhost:3000', AUTH_CLIENTS_FILE: writeClients(dir, clients) },
    ...{ AUTH_THROTTLE: 'off', AUTH_INSECURE: '1', AUTH_ARGON2_MEMORY: '8', AUTH_ARGON2_TIME: '1' },
    ...{ LOG_LEVEL: 'warn', ...(database && { DATABASE_URL: database.url, AUTH_SECRET: secret }) },
  }
  const app = await buildApp(readConfig(settings))
  onEnd(() => app.close())
  const callsOfStore = countCalls(app.store)
  const steps = new Map<string, { cpuUs: number[]; calls: number[]; bytes: number }>()

  /** A browser, or an app where it is asked for nothing else. */
  function newBrowser() {
    const jar = new Map<string, string>()
    return async function send(
      step: string,
      url: string,
      form?: Record<string, string>,
      headers: Record<string, string> = {},
    ): Promise<Answer> {
      const measured = steps.get(step) ?? { cpuUs: [], calls: [], bytes: 0 }
      steps.set(step, measured)
      const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
      const [cpu, calls] = [process.cpuUsage(), callsOfStore()]
      const answer = await app.inject({
        method: form ? 'POST' : 'GET',
        url,
        headers: {
          ...(cookie !== '' && { cookie }),
          ...(form && { 'content-type': 'application/x-www-form-urlencoded' }),
          ...headers,
        },
        ...(form && { payload: new URLSearchParams(form).toString() }),
      })
      const { user, system } = process.cpuUsage(cpu)
      measured.cpuUs.push(user + system)
      measured.calls.push(callsOfStore() - calls)
      measured.bytes = answer.rawPayload.length
      if (answer.statusCode >= 400) throw new Error(`${step}: ${answer.statusCode} ${answer.body}`)
      for (const { name, value } of answer.cookies) jar.set(name, value)
      const { statusCode, body } = answer
      return { statusCode, body, location: String(answer.headers['location']) }
    }
  }
  const hidden = ({ body }: Answer) =>
    Object.fromEntries(
      [...body.matchAll(/type="hidden" name="(\w+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value]),
    )
  const authorize = (scope: string, challenge: string) =>
    `/authorize?${new URLSearchParams({
      ...{ client_id: id, redirect_uri: redirectUri, response_type: 'code', state: 'x', scope },
      ...{ code_challenge: challenge, code_challenge_method: 'S256' },
    })}`
  const refresh = async (step: string, answer: Answer, headers = {}) =>
    newBrowser()(
      step,
      '/token',
      { grant_type: 'refresh_token', refresh_token: JSON.parse(answer.body).refresh_token },
      headers,
    )

  /** From the request of an app to its tokens. */
  async function signIn(username: string): Promise<void> {
    const send = newBrowser()
    const verifier = randomBytes(32).toString('base64url')
    const challenge = createHash('sha256').update(verifier).digest('base64url')
    const trade = (step: string, { location }: Answer) => {
      const code = new URL(location).searchParams.get('code') ?? ''
      const grant = { grant_type: 'authorization_code', code, code_verifier: verifier, redirect_uri: redirectUri }
      return newBrowser()(step, '/token', grant, basic)
    }
    const asked = await send('GET /authorize, nobody is signed in', authorize('openid', challenge))
    const page = await send('GET /sign-in', asked.location)
    const fields = { ...hidden(page), username, password }
    const done = await send('POST /sign-in, the password', '/sign-in', fields, { 'sec-fetch-site': 'same-origin' })
    const first = await trade('POST /token, the code, openid', done)
    await refresh('POST /token, refresh, openid', first, basic)
    const again = await send('GET /authorize, signed in', authorize('x', challenge))
    const second = await trade('POST /token, the code', again)
    await refresh('POST /token, refresh, a session of the browser', second, basic)
    for (const path of ['', '/password', '/factors', '/sessions', '/apps', '/activity'])
      await send(`GET /account${path}`, `/account${path}`)
  }

  for (let n = 0; n < flags.times; n++) {
    const username = `user-${n}`
    const send = newBrowser()
    await app.inject({ method: 'POST', url: '/signup', payload: { username, password } })
    await send('GET /livez', '/livez')
    await signIn(username)
    const tokens = await send('POST /token, the password grant', '/token', {
      grant_type: 'password',
      username,
      password,
    })
    await refresh('POST /token, refresh, a session without a browser', tokens)
    await send('GET /sign-up', '/sign-up')
  }
  const sheet = /href="(\/pages\/[^"]+\.css)"/.exec((await app.inject('/sign-in')).body)?.[1] ?? ''
  const sheetBytes = (await app.inject(sheet)).rawPayload.length
  const isPage = (step: string) => /^GET \/(sign|account)/.test(step)
  return {
    [`Each step, ${app.store.product}, medians of ${flags.times}`]: [...steps].map(([step, { cpuUs, calls }]) => ({
      step,
      cpuUs: round(median(cpuUs)),
      callsOfStore: median(calls),
    })),
    'Bytes of a page, and with its style sheet': [...steps]
      .filter(([step]) => isPage(step))
      .map(([step, { bytes }]) => ({ page: step, bytes, withStyle: bytes + sheetBytes })),
  }
})
