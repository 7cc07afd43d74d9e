/*
 * What `latchkey/verify` costs and how soon it refuses, in one run:
 *
 *     npm run bench:verify -- [--rounds 7] [--tokens 2000] [--logouts 240] [--lmdb] [--json]
 *
 * The cost of a check beside `jwtVerify` of jose with a local key set; and the time from a `POST /logout` to the refusal by a verifier
 * in another process than the service, which is this one: at the node that it follows, and, over PostgreSQL, at another replica. `--lmdb`
 * leaves PostgreSQL out.
 */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import { createVerifier, type Verifier, VerifierError } from '../../verify/index.ts'
import { bearer, form, logIn, signUp } from '../load.ts'
import { inFlight, median, onEnd, progress, quantile, round, runToEnd, start, type Target } from '../processes.ts'
import { openServer } from './postgres.ts'

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    tokens: { type: 'string', default: '2000' },
    logouts: { type: 'string', default: '240' },
    lmdb: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
const rounds = Number(flags.rounds)
const tokenCount = Number(flags.tokens)
const logouts = Number(flags.logouts)

const user = 'bench'
const issuer = 'http://localhost'
const client = { client_id: 'bench', client_secret: randomBytes(32).toString('base64url') }
const repeatedChecks = 50_000

const directory = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))

await runToEnd(async () => {
  onEnd(() => rmSync(directory, { recursive: true, force: true }))
  const clients = join(directory, 'clients.json')
  writeFileSync(
    clients,
    JSON.stringify([{ ...client, type: 'confidential', grants: ['client_credentials'], introspect: true }]),
  )
  const common = {
    AUTH_ISSUER: issuer,
    AUTH_CLIENTS_FILE: clients,
    // What a login costs is measured elsewhere.
    ...{ AUTH_INSECURE: '1', AUTH_ARGON2_MEMORY: '8', AUTH_ARGON2_TIME: '1' },
  }
  progress('starting the service …')
  const embedded = await start('../start.cjs', { ...common, DATABASE_URL: '', AUTH_DATA_DIR: join(directory, 'data') })
  await signUp(embedded.url, user)

  const cost = await measureCost(embedded)
  const lag = [await measureLag('LMDB, the node that is followed', embedded, embedded)]
  let postgres: string | undefined
  if (!flags.lmdb) {
    progress('starting PostgreSQL and two replicas …')
    const server = await openServer()
    postgres = server.version
    const { url } = await server.createDatabase()
    const settings = { ...common, DATABASE_URL: url, AUTH_SECRET: randomBytes(32).toString('base64url') }
    const [one, other] = [await start('../start.cjs', settings), await start('../start.cjs', settings)]
    await signUp(one.url, user)
    lag.push(await measureLag('PostgreSQL, the replica that is followed', one, one))
    lag.push(await measureLag('PostgreSQL, another replica', one, other))
  }
  const environment = {
    node: process.version,
    cores: availableParallelism(),
    ...(postgres && { postgres }),
    rounds,
    logouts,
  }
  if (flags.json) console.log(JSON.stringify({ environment, cost, lag }, null, 2))
  else {
    console.log(environment)
    console.table(cost)
    console.table(lag)
  }
})

async function follow({ url }: Target, cacheSize = 5_000): Promise<Verifier> {
  const { client_id: clientId, client_secret: clientSecret } = client
  const verifier = createVerifier({ issuer, url, clientId, clientSecret, cacheSize })
  onEnd(() => verifier.close())
  await verifier.ready()
  return verifier
}

interface CostRow {
  what: string
  /** microseconds for one check, one after the other, and with 16 under way */
  us: number
  usOf16: number
  /** the cost of bare jose divided by this, one after the other; medians of the rounds' ratios */
  timesFaster: number
}

/** In rounds of everything, so that a disturbance of the machine meets all alike; medians of the rounds. */
async function measureCost(target: Target): Promise<CostRow[]> {
  progress(`what a check costs, by ${tokenCount} tokens in ${rounds} rounds …`)
  const tokens: string[] = []
  await inFlight(tokenCount, 8, async () => tokens.push(await clientToken(target)))
  const [remembering, forgetful] = [await follow(target), await follow(target, 1)]
  const keys = createLocalJWKSet((await (await fetch(`${target.url}/.well-known/jwks.json`)).json()) as JSONWebKeySet)
  const expected = {
    ...{ issuer, audience: issuer, typ: 'at+jwt', algorithms: ['ES256'] },
    requiredClaims: ['exp', 'sub', 'client_id', 'iat', 'jti'],
  }
  // A header field is a new text with each request, of which nobody has computed a hash yet.
  const copies = (of: readonly string[], count: number) =>
    Array.from({ length: count }, (_, n) => Buffer.from(`Bearer ${of[n % of.length]}`).toString('latin1'))

  const cases: Record<string, { texts: () => string[]; check: (text: string) => Promise<unknown> }> = {
    'jose jwtVerify, local key set': { texts: () => tokens, check: (token) => jwtVerify(token, keys, expected) },
    'latchkey/verify, new token': { texts: () => tokens, check: (token) => forgetful.verify(token) },
    'latchkey/verify, repeated token': {
      texts: () => copies(tokens.slice(0, 100), repeatedChecks),
      check: (header) => remembering.verify(header),
    },
  }
  const measured = new Map(Object.keys(cases).map((what) => [what, { us: [] as number[], usOf16: [] as number[] }]))
  // The first round warms up.
  for (let n = 0; n <= rounds; n++) {
    for (const [what, { texts, check }] of Object.entries(cases)) {
      for (const [figure, concurrency] of [['us', 1] as const, ['usOf16', 16] as const]) {
        const list = texts()
        const startedAt = performance.now()
        await inFlight(list.length, concurrency, (index) => check(list[index] as string))
        const us = ((performance.now() - startedAt) / list.length) * 1000
        if (n > 0) measured.get(what)?.[figure].push(us)
      }
    }
  }
  const bare = measured.get('jose jwtVerify, local key set')?.us ?? []
  return [...measured].map(([what, { us, usOf16 }]) => ({
    what,
    us: round(median(us)),
    usOf16: round(median(usOf16)),
    timesFaster: round(median(us.map((value, n) => (bare[n] ?? Number.NaN) / value))),
  }))
}

async function clientToken({ url }: Target): Promise<string> {
  const body = new URLSearchParams({ grant_type: 'client_credentials', ...client }).toString()
  const response = await fetch(`${url}/token`, { method: 'POST', headers: form, body })
  if (response.status !== 200) throw new Error(`client_credentials: ${response.status} ${await response.text()}`)
  return ((await response.json()) as { access_token: string }).access_token
}

interface LagRow {
  logoutAt: string
  logouts: number
  /** milliseconds from sending the logout to the first refusal */
  p50: number
  p99: number
  max: number
  /** the same from the answer to the logout; 0 when the refusal came before the answer */
  p50AfterAnswer: number
  p99AfterAnswer: number
}

/** Logs out at one node, and asks a verifier that follows another, or the same, until it refuses. */
async function measureLag(logoutAt: string, followed: Target, other: Target): Promise<LagRow> {
  progress(`how soon a logout is a refusal: ${logoutAt} …`)
  const verifier = await follow(followed)
  const sessions: { access_token: string; refresh_token: string }[] = []
  await inFlight(logouts, 4, async () => sessions.push(await logIn(followed.url, user)))
  const lags: number[] = []
  const lagsAfterAnswer: number[] = []
  await inFlight(logouts, 4, async (n) => {
    const tokens = sessions[n] as (typeof sessions)[number]
    await verifier.verify(tokens.access_token)
    // At any moment of what the service does every so often.
    await sleep(Math.random() * 400)
    const sentAt = performance.now()
    let answeredAt = Number.POSITIVE_INFINITY
    const logout = fetch(`${other.url}/logout`, { method: 'POST', headers: bearer(tokens) }).then((response) => {
      answeredAt = performance.now()
      if (response.status !== 204) throw new Error(`logout: ${response.status}`)
    })
    while (!(await isRevoked(verifier, tokens.access_token))) {
      if (performance.now() - sentAt > 10_000) throw new Error('not refused after ten seconds')
      await sleep(1)
    }
    const refusedAt = performance.now()
    await logout
    lags.push(refusedAt - sentAt)
    lagsAfterAnswer.push(Math.max(0, refusedAt - answeredAt))
  })
  await verifier.close()
  return {
    logoutAt,
    logouts,
    p50: round(quantile(lags, 0.5)),
    p99: round(quantile(lags, 0.99)),
    max: round(quantile(lags, 1)),
    p50AfterAnswer: round(quantile(lagsAfterAnswer, 0.5)),
    p99AfterAnswer: round(quantile(lagsAfterAnswer, 0.99)),
  }
}

async function isRevoked(verifier: Verifier, token: string): Promise<boolean> {
  try {
    await verifier.verify(token)
    return false
  } catch (error) {
    if (error instanceof VerifierError && error.failure === 'revoked') return true
    throw error
  }
}
