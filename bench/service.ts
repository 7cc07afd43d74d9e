/* The service that is measured: one of its own on a temporary store, or one that runs. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { type Config, readConfig } from '../config.ts'
import { splitHosts } from '../stores/postgres/hosts.ts'
import { bearer, logIn, password, signUp, type Tokens } from './client.ts'
import { residentMB } from './meter.ts'
import { inFlight, onEnd, stop } from './processes.ts'
import type { BenchOptions } from './run.ts'

/** A service with users who are logged in. */
export interface Service {
  origin: string
  /** undefined for one that somebody else started */
  pid: number | undefined
  /** one session for each connection */
  sessions: Tokens[]
  users: string[]
  password: string
}

export interface Services {
  main: Service
  /** on LMDB, to compare PostgreSQL with */
  embedded?: Service
  /** may get tokens and introspect; undefined where there is none */
  client: { id: string; secret: string } | undefined
  /** undefined where it is not known */
  argon2: { memory: number; passes: number; lanes: number } | undefined
  hashesAtOnce: number
  algorithm: string
  issuer: string
  audience: string
  store: string
  dir: string
  databaseUrl?: string
  readyMs?: number
  /** before the first request */
  idleMB?: number
  notes: string[]
  /** Takes back what was made in a service of somebody else. */
  leave(): Promise<void>
}

const startMs = 30_000
const lookMs = 5
/** `f_type` of a file system in memory, statfs(2). */
const tmpfs = 0x01021994
const clientId = 'bench-service'

export async function startServices(options: BenchOptions): Promise<Services> {
  return options.url === undefined ? startOwn(options) : useRunning(options, options.url)
}

async function startOwn({ connections, databaseUrl, workers }: BenchOptions): Promise<Services> {
  const dir = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))
  onEnd(() => rmSync(dir, { recursive: true, force: true }))
  const secret = randomBytes(32).toString('base64url')
  const clientsFile = join(dir, 'clients.json')
  writeFileSync(clientsFile, JSON.stringify([{ client_id: clientId, client_secret: secret, introspect: 'all' }]), {
    mode: 0o600,
  })
  const ownUrl = databaseUrl && (await makeSchema(databaseUrl))

  /** As the service is shipped, but for what a bench needs; hashing, signing and logging are those of the environment's settings. */
  const settings = {
    ...process.env,
    ...{ HOST: '127.0.0.1', PORT: '0', DATABASE_URL: '', DATABASE_URL_FILE: '', AUTH_METRICS_PORT: '' },
    ...{ AUTH_SECRET: randomBytes(32).toString('base64url'), AUTH_SECRET_FILE: '', AUTH_SECRET_PREVIOUS: '' },
    ...{ AUTH_ISSUER: '', AUTH_AUDIENCE: '', AUTH_CLIENTS_FILE: clientsFile },
    ...{ AUTH_SIGNUP: 'open', AUTH_PASSWORD_GRANT: 'on', AUTH_PASSWORD_MIN: '15' },
    // Of many connections each waits for its turn, and all are answered; and a long run outlives the tokens of its start.
    ...{ AUTH_HASH_MAX_WAIT: '60s', AUTH_ACCESS_TTL: '1d', AUTH_WORKERS: workers ?? '' },
  }
  const start = async (
    name: string,
    database: string | undefined,
  ): Promise<Service & { readyMs: number; idleMB: number | undefined }> => {
    const env = { ...settings, DATABASE_URL: database ?? '', AUTH_DATA_DIR: join(dir, name) }
    const { origin, pid, readyMs } = await startServer(env, join(dir, `${name}.log`))
    const idleMB = residentMB(pid)
    const users = Array.from({ length: connections }, (_, n) => `user-${n}`)
    const sessions: Tokens[] = []
    await inFlight(connections, availableParallelism(), async (n) => {
      await signUp(origin, users[n] as string)
      sessions[n] = await logIn(origin, users[n] as string)
    })
    return { origin, pid, readyMs, idleMB, users, sessions, password }
  }

  const { readyMs, idleMB, ...main } = await start('main', ownUrl)
  const embedded = ownUrl ? await start('embedded', undefined) : undefined
  const config: Config = readConfig(settings)
  const isInMemory = statfsSync(dir).type === tmpfs
  return {
    main,
    ...(embedded && { embedded }),
    client: { id: clientId, secret },
    argon2: {
      memory: config.AUTH_ARGON2_MEMORY,
      passes: config.AUTH_ARGON2_TIME,
      lanes: config.AUTH_ARGON2_PARALLELISM,
    },
    hashesAtOnce: config.AUTH_HASH_CONCURRENCY,
    algorithm: config.AUTH_SIGNING_ALG,
    ...claimsOf(main),
    store: ownUrl ? 'PostgreSQL' : 'LMDB',
    dir: join(dir, 'bare'),
    ...(ownUrl && { databaseUrl: ownUrl }),
    readyMs,
    ...(idleMB !== undefined && { idleMB }),
    notes:
      isInMemory && !ownUrl
        ? ['The temporary directory is in memory, where a sync costs nothing: set TMPDIR to one on a disk.']
        : [],
    async leave() {},
  }
}

/** Of a service that runs, what can be measured from outside. */
async function useRunning({ connections }: BenchOptions, url: string): Promise<Services> {
  const origin = new URL(url).origin
  const { LATCHKEY_USERNAME, LATCHKEY_PASSWORD, LATCHKEY_CLIENT_ID, LATCHKEY_CLIENT_SECRET } = process.env
  const alive = await fetch(`${origin}/livez`).catch((error) => error as Error)
  if (alive instanceof Error || !alive.ok)
    throw new Error(`${origin} does not answer as Latchkey does: ${reasonOf(alive)}`)

  const isOwn = LATCHKEY_USERNAME === undefined
  const username = LATCHKEY_USERNAME ?? `bench-${randomBytes(6).toString('hex')}`
  const secret = isOwn ? password : (LATCHKEY_PASSWORD ?? '')
  if (isOwn) {
    await signUp(origin, username).catch((error) => {
      const advice = 'where signup is closed, put an account made for this into LATCHKEY_USERNAME and LATCHKEY_PASSWORD'
      throw new Error(`${(error as Error).message}; ${advice}`)
    })
  }
  const sessions: Tokens[] = []
  const leave = async () => {
    const tokens = await logIn(origin, username, secret)
    const headers = { ...bearer(tokens), ...(isOwn && { 'content-type': 'application/json' }) }
    const path = isOwn ? '/users/me' : '/users/me/sessions'
    const response = await fetch(origin + path, {
      ...{ method: 'DELETE', headers },
      ...(isOwn && { body: JSON.stringify({ password: secret }) }),
    })
    if (!response.ok) throw new Error(`DELETE ${path}: ${response.status}; the account ${username} is still there`)
  }
  let hasLeft = false
  const leaveOnce = async () => {
    if (hasLeft) return
    hasLeft = true
    await leave()
  }
  onEnd(leaveOnce)
  await inFlight(connections, availableParallelism(), async (n) => {
    sessions[n] = await logIn(origin, username, secret)
  })
  const main = { origin, pid: undefined, sessions, users: Array(connections).fill(username), password: secret }
  return {
    main,
    client:
      LATCHKEY_CLIENT_ID && LATCHKEY_CLIENT_SECRET
        ? { id: LATCHKEY_CLIENT_ID, secret: LATCHKEY_CLIENT_SECRET }
        : undefined,
    argon2: undefined,
    hashesAtOnce: availableParallelism(),
    algorithm: headerOf(main).alg,
    ...claimsOf(main),
    store: `that of ${origin}`,
    dir: '',
    notes: LATCHKEY_CLIENT_ID
      ? []
      : [
          'Client credentials and introspections need a confidential client in LATCHKEY_CLIENT_ID and LATCHKEY_CLIENT_SECRET.',
        ],
    leave: leaveOnce,
  }
}

/** Starts the service as `npm start` does, its log in a file, and waits until it listens. */
async function startServer(
  env: NodeJS.ProcessEnv,
  logPath: string,
): Promise<{ origin: string; pid: number; readyMs: number }> {
  const program = fileURLToPath(new URL('../start.cjs', import.meta.url))
  if (!existsSync(program)) throw new Error('The service is not built: run "npm run build" first')
  const log = openSync(logPath, 'a')
  const startedAt = performance.now()
  const child = spawn(process.execPath, ['--max-semi-space-size=4', program], { env, stdio: ['ignore', log, log] })
  closeSync(log)
  onEnd(() => stop(child))
  while (performance.now() - startedAt < startMs) {
    const text = readFileSync(logPath, 'utf8')
    const origin = /Latchkey listens on (https?:\/\/[^",\s]+)/.exec(text)?.[1]
    if (origin) return { origin, pid: child.pid as number, readyMs: performance.now() - startedAt }
    if (child.exitCode !== null) throw new Error(`The service did not start: ${text.trim().split('\n').at(-1)}`)
    await sleep(lookMs)
  }
  throw new Error(`The service did not start within ${startMs / 1000} s`)
}

/** @returns a URL in which everything goes into a schema of its own, which goes when the benchmark ends */
async function makeSchema(databaseUrl: string): Promise<string> {
  const schema = `latchkey_bench_${randomBytes(6).toString('hex')}`
  const run = async (sql: string) => {
    const client = new pg.Client(splitHosts(databaseUrl)[0])
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query(sql)
    } catch (error) {
      throw new Error(`The database cannot be used: ${reasonOf(error)}`)
    } finally {
      await client.end().catch(() => {})
    }
  }
  await run(`CREATE SCHEMA ${schema}`)
  onEnd(() => run(`DROP SCHEMA IF EXISTS ${schema} CASCADE`))
  return `${databaseUrl}${databaseUrl.includes('?') ? '&' : '?'}options=-csearch_path%3D${schema}`
}

const part = (token: string, index: 0 | 1) =>
  JSON.parse(Buffer.from(token.split('.')[index] as string, 'base64url').toString())
const headerOf = ({ sessions }: Service): { alg: string } => part(sessions[0]?.access_token ?? '', 0)
/** What a token says is what the service was told, or made up by itself. */
function claimsOf({ sessions }: Service): { issuer: string; audience: string } {
  const { iss, aud } = part(sessions[0]?.access_token ?? '', 1)
  return { issuer: iss, audience: [aud].flat()[0] }
}

function reasonOf(error: unknown): string {
  if (error instanceof Response) return `status ${error.status}`
  const { cause, message, code } = error as NodeJS.ErrnoException & { cause?: NodeJS.ErrnoException }
  return cause?.message || message || cause?.code || code || 'no reason was given'
}
