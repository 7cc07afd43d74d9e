/*
 * What a guesser gets through to the password, over two replicas on one PostgreSQL behind a proxy:
 *
 *     npm run bench:guessing -- [--seconds 8] [--connections 64] [--json] [--assert]
 *
 * Each attacker sends as many guesses as it can, to both replicas at once, at an account of its own, and has the
 * addresses that its row says: the proxy writes them into X-Forwarded-For, behind what the attacker has written there.
 * `judged` is how many guesses were compared with the password; all others were refused without a look at it. Then
 * `patient` has the same attackers wait for as long as they are told to, and moves the clock by that: what they get
 * through in a day. With `--assert` it fails where more is judged than the limits say.
 */
import { randomBytes } from 'node:crypto'
import { Agent, request } from 'node:http'
import { availableParallelism } from 'node:os'
import type pg from 'pg'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { password, signUp } from '../load.ts'
import { inFlight } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { type Server, startServer } from '../service.ts'
import { makeSecret } from '../services.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ seconds: 8, connections: 64, assert: false })
const replicaCount = 2
/** Guesses that were let in at once are judged together: as many as are hashed at once, in each replica. */
const underWay = replicaCount * availableParallelism()
const allowed = { fromPrefix: 10, fromAnywhere: 100 }

interface Attacker {
  who: string
  /** X-Forwarded-For of the nth guess, as the proxy sends it on; the last address is the attacker's own */
  from(n: number): string
  /** of the nth guess; the attacker's own account when not given */
  name?(n: number): string
  /** guesses that may be judged at once; undefined where each is at another account */
  limit?: number
}

const four = (n: number) => `${11 + ((n >> 16) % 100)}.${(n >> 8) & 255}.${n & 255}.1`
const six = (n: number) => `2001:db8:${(n >> 16).toString(16)}:${(n & 0xffff).toString(16)}::1`
const host = '198.51.100.7'

const attackers: Attacker[] = [
  { who: 'one address', from: () => host, limit: allowed.fromPrefix },
  { who: 'one address, which forges others', from: (n) => `${four(n)}, ${six(n)}, ${host}`, limit: allowed.fromPrefix },
  { who: 'a /24', from: (n) => `198.51.100.${n & 255}`, limit: allowed.fromPrefix },
  { who: 'a /64', from: () => `2001:db8::${randomBytes(2).toString('hex')}`, limit: allowed.fromPrefix },
  { who: 'a new /24 for each guess', from: four, limit: allowed.fromAnywhere },
  { who: 'a new /64 for each guess', from: six, limit: allowed.fromAnywhere },
  {
    // To have the counts of the account fall out of the rows and memory in which they are kept.
    who: 'the same, and ten invented names for each guess',
    from: six,
    name: (n) => (n % 11 === 0 ? 'guessed' : `nobody-${n}`),
    limit: allowed.fromAnywhere,
  },
  { who: 'one address, one guess at each account', from: () => host, name: (n) => `invented-${n}` },
]

await runScenario(async () => {
  progress(`starting PostgreSQL and ${replicaCount} replicas …`)
  const server = await openServer()
  const { url, client } = await server.createDatabase()
  const dir = makeDir()
  const settings = { DATABASE_URL: url, AUTH_SECRET: makeSecret(), AUTH_ISSUER: 'http://localhost', LOG_LEVEL: 'info' }
  const shared = { ...settings, HOST: '127.0.0.1', PORT: '0', AUTH_TRUSTED_PROXIES: '127.0.0.0/8' }
  const replicas: Server[] = []
  for (let n = 0; n < replicaCount; n++) replicas.push(await startServer(shared, `${dir}/replica-${n}.log`))
  const storm = []
  for (const [n, attacker] of attackers.entries()) {
    progress(`${attacker.who} …`)
    storm.push(await attack(attacker, `account-${n}`, replicas, client))
  }
  return {
    environment: [{ node: process.version, cores: availableParallelism(), postgres: server.version, ...flags }],
    'a storm of guesses, with the settings that are shipped': storm,
    'patience: what is judged in a day': await inADay(shared),
  }
})

async function attack({ who, from, name, limit }: Attacker, account: string, replicas: Server[], client: pg.Client) {
  await signUp(replicas[0]?.origin as string, account)
  const agent = new Agent({ keepAlive: true })
  const statuses = new Map<string, number>()
  const count = (of: string) => statuses.get(of) ?? 0
  const rowsBefore = await countRows(client)
  const endAt = performance.now() + flags.seconds * 1000
  let sent = 0
  const guess = async () => {
    while (performance.now() < endAt) {
      const n = sent++
      const username = name?.(n).replace('guessed', account) ?? account
      const { origin } = replicas[n % replicas.length] as Server
      const status = await tryLogIn(agent, origin, username, `not the password ${n}`, from(n))
      const of = limit !== undefined && username !== account ? 'aside' : String(status)
      statuses.set(of, count(of) + 1)
    }
  }
  await Promise.all(Array.from({ length: flags.connections }, guess))
  // From elsewhere, with the right password: at the account that was guessed at.
  const owner = await tryLogIn(agent, replicas[0]?.origin as string, account, password, '192.0.2.1')
  agent.destroy()
  const judged = count('400')
  if (flags.assert && limit !== undefined && judged > limit + underWay) process.exitCode = 1
  return {
    who,
    guesses: sent - count('aside'),
    judged,
    ...{ refused: count('429'), shed: count('503'), others: count('aside') },
    owner: owner === 200 ? 'logs in' : 'waits',
    rows: (await countRows(client)) - rowsBefore,
  }
}

async function countRows(client: pg.Client): Promise<number> {
  const { rows } = await client.query('SELECT count(*)::int AS rows FROM latchkey_failures')
  return rows[0].rows
}

function tryLogIn(agent: Agent, origin: string, username: string, secret: string, from: string): Promise<number> {
  const body = new URLSearchParams({ username, password: secret }).toString()
  const headers = { 'content-type': 'application/x-www-form-urlencoded', 'x-forwarded-for': from }
  return new Promise((resolve, reject) => {
    request(`${origin}/token`, { agent, method: 'POST', headers }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode as number))
    })
      .on('error', reject)
      .end(body)
  })
}

/** Two replicas in this process, on the same database, with a clock that is moved. */
async function inADay(settings: Record<string, string>) {
  const clock = { now: Date.now(), passedMs: 0 }
  const cheap = { AUTH_INSECURE: '1', AUTH_ARGON2_MEMORY: '8', AUTH_ARGON2_TIME: '1', LOG_LEVEL: 'silent' }
  const config = readConfig({ ...settings, ...cheap })
  const times = { now: () => clock.now, uptimeMs: () => performance.now() + clock.passedMs }
  const apps = await inFlight(replicaCount, 1, () => buildApp(config, times))
  for (const app of apps) onEnd(() => app.close())
  const tryOn = async (n: number, username: string, secret: string, address: string) => {
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const response = await (apps[n % replicaCount] as (typeof apps)[number]).inject({
      ...{ method: 'POST', url: '/token', remoteAddress: address, headers: form },
      payload: new URLSearchParams({ username, password: secret }).toString(),
    })
    return { status: response.statusCode, waitMs: Number(response.headers['retry-after'] ?? 0) * 1000 }
  }
  const dayMs = 86_400_000
  /** @param loginEveryMs how often the owner logs in, by which what has failed from anywhere is forgotten */
  async function guessFor(who: string, account: string, from: (n: number) => string, loginEveryMs = dayMs) {
    progress(`${who}, for a day …`)
    await apps[0]?.inject({ method: 'POST', url: '/signup', payload: { username: account, password } })
    const endAt = clock.now + dayMs
    let [judged, sent, ownerWaited] = [0, 0, 0]
    for (let loginAt = clock.now + loginEveryMs; clock.now < endAt; ) {
      const { status, waitMs } = await tryOn(sent, account, `not the password ${sent}`, from(sent))
      sent += 1
      if (status === 400) judged += 1
      clock.now += waitMs
      clock.passedMs += waitMs
      if (clock.now < loginAt || loginEveryMs === dayMs) continue
      loginAt += loginEveryMs
      if ((await tryOn(sent, account, password, '192.0.2.1')).status === 429) ownerWaited += 1
    }
    return { who, judged, ownerWaited }
  }
  const perHour = 3_600_000
  return [
    await guessFor('one address', 'day-1', () => host),
    await guessFor('a new /64 for each guess', 'day-2', six),
    await guessFor('one address, while the owner logs in each hour', 'day-3', () => host, perHour),
    await guessFor('a new /64 for each guess, while the owner logs in each hour', 'day-4', six, perHour),
  ]
}
