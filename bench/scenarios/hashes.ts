/*
 * What the time of a refused login tells, and what a storm of them does to other routes:
 *
 *     npm run bench:hashes -- [--rounds 41] [--seconds 4] [--json]
 *
 * `refused logins` has users of each kind in one store, and sends a wrong password to each in turn, in another order each
 * round, one at a time: `ofCurrent` is the median beside that of a user whose hash is of today. What is cheaper is padded
 * to 1; what is dearer shows. `sameAnswer` compares the answers byte by byte. Then, for some kinds, guesses come as fast
 * as they are answered, and `GET /livez` is asked meanwhile.
 */
import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { noPassword, type User } from '../../domain/user.ts'
import { openStore } from '../../stores/open.ts'
import { median, quantile, round } from '../meter.ts'
import { makeDir } from '../processes.ts'
import { benchSettings, startServer } from '../service.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ rounds: 41, seconds: 4 })
const concurrency = 16

const base64 = (bytes: number) => randomBytes(bytes).toString('base64').replaceAll('=', '')
const crypt = (characters: number) =>
  randomBytes(2 * characters)
    .toString('base64')
    .replaceAll(/[+=]/g, '')
    .slice(0, characters)
const phc = (head: string, bytes = 32) => `$${head}$${base64(16)}$${base64(bytes)}`
const current = () => phc('argon2id$v=19$m=19456,t=2,p=1')

/** Which no password fits. The first is that of today; undefined is no user at all. */
const kinds: Record<string, string | undefined> = {
  current: current(),
  unknown: undefined,
  disabled: current(),
  'verified address': current(),
  'unverified address': current(),
  'unknown address': undefined,
  'without a password': noPassword,
  'argon2id m=4096 t=3': phc('argon2id$v=19$m=4096,t=3,p=1'),
  'phpass 2^13': `$P$B${crypt(30)}`,
  'wrapped MD5': `$wrapped$md5$$${'A'.repeat(22)}${current()}`,
  'wrapped phpass 2^13': `$wrapped$P$B${crypt(8)}${'.'.repeat(22)}${current()}`,
  'PBKDF2-SHA256 20,000': phc('pbkdf2-sha256$i=20000'),
  'PBKDF2-SHA256 75,000': phc('pbkdf2-sha256$i=75000'),
  'PBKDF2-SHA512 40,000': phc('pbkdf2-sha512$i=40000', 64),
  'PBKDF2-SHA1 100,000': phc('pbkdf2-sha1$i=100000', 20),
  'bcrypt 5': `$2b$05$${crypt(53)}`,
  'bcrypt 8': `$2b$08$${crypt(53)}`,
  'bcrypt 10': `$2b$10$${crypt(53)}`,
  'bcrypt 12': `$2b$12$${crypt(53)}`,
  'scrypt N=2^13 r=8 p=1': phc('scrypt$ln=13,r=8,p=1'),
  'Firebase scrypt': phc('firebase-scrypt$ln=14,r=8,p=1', 64),
  'better-auth scrypt': phc('scrypt-nfkc$ln=14,r=16,p=1', 64),
  'PBKDF2-SHA512 210,000': phc('pbkdf2-sha512$i=210000', 64),
  'PBKDF2-SHA256 600,000': phc('pbkdf2-sha256$i=600000'),
}
const nameOf = (kind: string) => kind.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
const emailOf = (kind: string) => (kind.endsWith(' address') ? `${nameOf(kind)}@example.com` : undefined)

await runScenario(async () => {
  const dir = makeDir()
  const store = await openStore({ kind: 'lmdb', dir })
  const users = Object.entries(kinds).flatMap(([kind, passwordHash]): User[] => {
    const [username, createdAt] = [nameOf(kind), Date.now()]
    if (passwordHash === undefined) return []
    const user = { id: randomUUID(), username, nameKey: username, passwordHash, roles: [], createdAt, generation: 0 }
    const email = emailOf(kind)
    const isVerified = kind === 'verified address'
    return [
      {
        ...user,
        ...(kind === 'disabled' && { disabledAt: createdAt }),
        ...(email !== undefined && { email, ...(isVerified && { emailKey: email }) }),
      },
    ]
  })
  await store.importRows('users', users)
  await store.close()
  const settings = { ...benchSettings, AUTH_DATA_DIR: dir, AUTH_THROTTLE: 'off' }
  const server = await startServer(settings, `${dir}/log`)
  const agent = new Agent({ keepAlive: true })
  const logIn = (kind: string) => ask(agent, `${server.origin}/token`, emailOf(kind) ?? nameOf(kind))
  const refused = await refusedLogins(logIn)
  const storms = []
  for (const kind of ['current', 'phpass 2^13', 'bcrypt 10', 'better-auth scrypt', 'PBKDF2-SHA256 20,000'])
    storms.push(await storm(kind, logIn, () => ask(agent, `${server.origin}/livez`)))
  agent.destroy()
  return { 'refused logins': refused, 'GET /livez meanwhile': storms }
})

interface Answer {
  ms: number
  status: number
  /** without the date and the request id */
  text: string
}

function ask(agent: Agent, url: string, username?: string): Promise<Answer> {
  const startedMs = performance.now()
  return new Promise((resolve, reject) => {
    const headers = username === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }
    const sent = request(url, { agent, method: username === undefined ? 'GET' : 'POST', headers }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text) => {
        body += text
      })
      response.on('end', () => {
        const ms = performance.now() - startedMs
        const kept = Object.entries(response.headers).filter(([name]) => !/^(date|x-request-id|keep-alive)$/.test(name))
        const text = JSON.stringify([response.statusCode, kept, body.replaceAll(/[0-9a-f-]{36}/g, '')])
        resolve({ ms, status: response.statusCode as number, text })
      })
    })
    const password = `not the password ${randomInt(1e9)}`
    sent.on('error', reject).end(username === undefined ? '' : new URLSearchParams({ username, password }).toString())
  })
}

async function refusedLogins(logIn: (kind: string) => Promise<Answer>) {
  progress(`refused logins, ${flags.rounds} rounds of ${Object.keys(kinds).length} kinds …`)
  const times = new Map(Object.keys(kinds).map((kind) => [kind, [] as number[]]))
  const texts = new Map<string, string>()
  /** In which paddings are learned. */
  const warmUp = 20
  for (let n = 0; n < warmUp + flags.rounds; n++) {
    const order = [...times].map((entry) => ({ entry, at: Math.random() })).toSorted((a, b) => a.at - b.at)
    for (const { entry } of order) {
      const [kind, all] = entry
      const { ms, text } = await logIn(kind)
      if (n >= warmUp) all.push(ms)
      texts.set(kind, text)
    }
  }
  const ofCurrent = median(times.get('current') ?? [])
  return [...times].map(([kind, all]) => ({
    kind,
    p10Ms: round(quantile(all, 0.1)),
    medianMs: round(median(all)),
    p90Ms: round(quantile(all, 0.9)),
    ofCurrent: round(median(all) / ofCurrent, 2),
    sameAnswer: texts.get(kind) === texts.get('unknown'),
  }))
}

async function storm(kind: string, logIn: (kind: string) => Promise<Answer>, live: () => Promise<Answer>) {
  progress(`a storm of guesses at a hash of ${kind} …`)
  const endAt = performance.now() + flags.seconds * 1000
  const statuses: number[] = []
  const guess = async () => {
    while (performance.now() < endAt) statuses.push((await logIn(kind)).status)
  }
  const guesses = Array.from({ length: concurrency }, guess)
  const times: number[] = []
  while (performance.now() < endAt) {
    times.push((await live()).ms)
    await sleep(5)
  }
  await Promise.all(guesses)
  return {
    guessesAt: kind,
    guessesPerSecond: round(statuses.length / flags.seconds),
    ...{ p50Ms: round(median(times)), p99Ms: round(quantile(times, 0.99)), maxMs: round(quantile(times, 1)) },
  }
}
