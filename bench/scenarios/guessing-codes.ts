/*
 * What somebody who knows the password gets through to the codes of an authenticator app, over two replicas on one
 * PostgreSQL behind a proxy:
 *
 *     npm run bench:guessing-codes -- [--seconds 8] [--connections 64] [--json] [--assert]
 *
 * Each attacker signs in step by step, at both replicas, and guesses with each `auth_session` until it is dead. `judged`
 * is how many codes were compared; for everything else there was a wait, or no `auth_session`. `chance` is that of
 * having been in by then: three codes of a million are good at a time. Then `patient` has the same attackers wait for as
 * long as they are told to, and moves the clock by that. With `--assert` it fails where more is judged than the limits
 * say.
 */
import { availableParallelism } from 'node:os'
import type { FastifyInstance } from 'fastify'
import { TOTP } from 'otpauth'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { bearer, call, json, logIn, password, signUp } from '../load.ts'
import { inFlight, round } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { type Server, startServer } from '../service.ts'
import { makeSecret } from '../services.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ seconds: 8, connections: 64, assert: false })
const replicaCount = 2
const allowed = { fromPrefix: 10, fromAnywhere: 100 }

interface Attacker {
  who: string
  from(n: number): string
  limit: number
}

const attackers: Attacker[] = [
  { who: 'one address', from: () => '198.51.100.7', limit: allowed.fromPrefix },
  { who: '50 networks', from: (n) => `198.51.${n % 50}.7`, limit: allowed.fromAnywhere },
  { who: 'a new /64 for each step', from: (n) => `2001:db8:${n.toString(16)}::1`, limit: allowed.fromAnywhere },
]

const chanceOf = (judged: number) => `${round((1 - (1 - 3e-6) ** judged) * 100, 4)} %`
const codeOf = (secret: string, now: number) => new TOTP({ secret }).generate({ timestamp: now })
const randomCode = () => String(Math.floor(Math.random() * 1e6)).padStart(6, '0')

/** Sends a step of a sign-in. @returns the status, and the body */
type Step = (n: number, fields: Record<string, string>, address: string) => Promise<{ status: number; body: StepBody }>
interface StepBody {
  auth_session?: string
  waitMs: number
}

/** A guesser who goes from one `auth_session` to the next. */
function createGuesser(step: Step, username: string, from: Attacker['from']) {
  let value: string | undefined
  const seen = { judged: 0, refused: 0, others: 0, isIn: false }
  return {
    seen,
    /** Takes one step. @returns milliseconds that it is told to wait for */
    async next(n: number): Promise<number> {
      const isGuess = value !== undefined
      const fields = value === undefined ? { username, password } : { auth_session: value, otp: randomCode() }
      const { status, body } = await step(n, fields, from(n))
      value = body.auth_session
      if (isGuess && status === 200) seen.isIn = true
      if (isGuess && (status === 200 || value !== undefined)) seen.judged += 1
      else if (status === 429) seen.refused += 1
      else seen.others += 1
      return body.waitMs
    },
  }
}

await runScenario(async () => {
  progress(`starting PostgreSQL and ${replicaCount} replicas …`)
  const server = await openServer()
  const { url } = await server.createDatabase()
  const dir = makeDir()
  const settings = { DATABASE_URL: url, AUTH_SECRET: makeSecret(), AUTH_ISSUER: 'http://localhost', LOG_LEVEL: 'info' }
  const shared = { ...settings, HOST: '127.0.0.1', PORT: '0', AUTH_TRUSTED_PROXIES: '127.0.0.0/8' }
  const replicas: Server[] = []
  for (let n = 0; n < replicaCount; n++) replicas.push(await startServer(shared, `${dir}/replica-${n}.log`))
  const storm = []
  for (const [n, attacker] of attackers.entries()) storm.push(await attack(attacker, `storm-${n}`, replicas))
  return {
    environment: [{ node: process.version, cores: availableParallelism(), postgres: server.version, ...flags }],
    'a storm of guesses, with the settings that are shipped': storm,
    'patience: what is judged in a day': await inADay(shared, replicas[0] as Server),
  }
})

/** Makes an account with an authenticator app. @returns its secret */
async function enrol({ origin }: Server, username: string): Promise<string> {
  await signUp(origin, username)
  const headers = bearer(await logIn(origin, username))
  const made = await call(`${origin}/users/me/factors/totp`, 201, { method: 'POST', headers })
  const { id, secret } = JSON.parse(made)
  const body = JSON.stringify({ code: codeOf(secret, Date.now()) })
  const init = { method: 'POST', headers: { ...headers, ...json }, body }
  await call(`${origin}/users/me/factors/totp/${id}/confirm`, 204, init)
  return secret
}

async function attack({ who, from, limit }: Attacker, username: string, replicas: Server[]) {
  progress(`${who} …`)
  await enrol(replicas[0] as Server, username)
  const endAt = performance.now() + flags.seconds * 1000
  const step: Step = async (n, fields, address) => {
    const { origin } = replicas[n % replicaCount] as Server
    const headers = { 'x-forwarded-for': address }
    const response = await fetch(`${origin}/challenge`, { method: 'POST', headers, body: new URLSearchParams(fields) })
    return { status: response.status, body: (await response.json()) as StepBody }
  }
  let sent = 0
  const guessers = Array.from({ length: flags.connections }, () => createGuesser(step, username, from))
  await Promise.all(
    guessers.map(async (guesser) => {
      while (performance.now() < endAt) await guesser.next(sent++)
    }),
  )
  const sum = (name: 'judged' | 'refused' | 'others') => guessers.reduce((all, { seen }) => all + seen[name], 0)
  const judged = sum('judged')
  // Those that are under way at the other replica are not known yet.
  if (flags.assert && judged > limit + flags.connections) process.exitCode = 1
  return { who, steps: sent, judged, refused: sum('refused'), others: sum('others'), chance: chanceOf(judged) }
}

/** Two replicas in this process, on the same database, with a clock that is moved. */
async function inADay(settings: Record<string, string>, server: Server) {
  const clock = { now: Date.now(), passedMs: 0 }
  const cheap = { AUTH_INSECURE: '1', AUTH_ARGON2_MEMORY: '8', AUTH_ARGON2_TIME: '1', LOG_LEVEL: 'silent' }
  const config = readConfig({ ...settings, ...cheap })
  const times = { now: () => clock.now, uptimeMs: () => performance.now() + clock.passedMs }
  const apps = await inFlight(replicaCount, 1, () => buildApp(config, times))
  for (const app of apps) onEnd(() => app.close())
  const step: Step = async (n, fields, remoteAddress) => {
    const response = await (apps[n % replicaCount] as FastifyInstance).inject({
      ...{ method: 'POST', url: '/challenge', remoteAddress, payload: new URLSearchParams(fields).toString() },
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    const waitMs = Number(response.headers['retry-after'] ?? 0) * 1000
    return { status: response.statusCode, body: { ...response.json(), waitMs } }
  }
  const [hourMs, dayMs] = [3_600_000, 86_400_000]
  /** @param ownerEveryMs how often the owner signs in, by which what has failed is forgotten */
  async function guessFor(who: string, username: string, from: Attacker['from'], ownerEveryMs = dayMs) {
    progress(`${who}, for a day …`)
    const secret = await enrol(server, username)
    const guesser = createGuesser(step, username, from)
    const endAt = clock.now + dayMs
    let [n, ownerWaited] = [0, 0]
    for (let ownerAt = clock.now + ownerEveryMs; clock.now < endAt; n++) {
      const waitMs = await guesser.next(n)
      clock.now += waitMs
      clock.passedMs += waitMs
      if (clock.now < ownerAt || ownerEveryMs === dayMs) continue
      ownerAt += ownerEveryMs
      const first = await step(n, { username, password }, '192.0.2.1')
      const { auth_session: value } = first.body
      const otp = codeOf(secret, clock.now)
      const last = value === undefined ? first : await step(n, { auth_session: value, otp }, '192.0.2.1')
      if (last.status === 429) ownerWaited += 1
    }
    const { judged } = guesser.seen
    return { who, judged, ownerWaited, chance: chanceOf(judged) }
  }
  const [one, many] = [attackers[0], attackers[2]] as [Attacker, Attacker]
  return [
    await guessFor(one.who, 'day-1', one.from),
    await guessFor(many.who, 'day-2', many.from),
    await guessFor(`${one.who}, while the owner signs in each hour`, 'day-3', one.from, hourMs),
    await guessFor(`${many.who}, while the owner signs in each hour`, 'day-4', many.from, hourMs),
  ]
}
