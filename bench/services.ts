/* What `latchkey bench` measures: a service of its own on a temporary store, or one that is running. */
import { randomBytes } from 'node:crypto'
import { statfsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { readConfig } from '../config.ts'
import { splitHosts } from '../stores/postgres/hosts.ts'
import { bearer, json, logIn, password, signUp } from './load.ts'
import type { BenchOptions } from './options.ts'
import { makeDir, onEnd } from './processes.ts'
import { benchSettings, logInAll, type Service, startService, writeClients } from './service.ts'

export interface Services {
  main: Service
  /** on LMDB, to compare PostgreSQL with */
  embedded?: Service
  /** may get tokens and introspect */
  client?: { id: string; secret: string }
  /** options of argon2, where they are known */
  hashes?: { memoryCost: number; timeCost: number; parallelism: number }
  /** hashes that are computed at once */
  atOnce: number
  algorithm: string
  store: string
  dir: string
  databaseUrl?: string
  readyMs?: number
  /** before the first request */
  idleMB?: number
  notes: string[]
  /** Removes what was made in a service of somebody else. */
  leave(): Promise<void>
}

/** `f_type` of a file system in memory, statfs(2). */
const tmpfs = 0x01021994
const clientId = 'bench-service'

export const startServices = (options: BenchOptions): Promise<Services> =>
  options.url === undefined ? startOwn(options) : useRunning(options, options.url)

export const makeSecret = () => randomBytes(32).toString('base64url')

async function startOwn({ connections, databaseUrl, workers }: BenchOptions): Promise<Services> {
  const dir = makeDir()
  const secret = makeSecret()
  const ownUrl = databaseUrl && (await makeSchema(databaseUrl))
  const settings = {
    ...benchSettings,
    AUTH_SECRET: makeSecret(),
    AUTH_CLIENTS_FILE: writeClients(dir, [{ client_id: clientId, client_secret: secret, introspect: 'all' }]),
    AUTH_WORKERS: workers ?? '',
  }
  const start = (name: string, database: string | undefined) =>
    startService(dir, name, { ...settings, DATABASE_URL: database ?? '' }, connections)
  const { readyMs, idleMB, ...main } = await start('main', ownUrl)
  const embedded = ownUrl ? await start('embedded', undefined) : undefined
  const config = readConfig({ ...process.env, ...settings })
  const isInMemory = statfsSync(dir).type === tmpfs && !ownUrl
  return {
    main,
    ...(embedded && { embedded }),
    client: { id: clientId, secret },
    hashes: {
      memoryCost: config.AUTH_ARGON2_MEMORY,
      timeCost: config.AUTH_ARGON2_TIME,
      parallelism: config.AUTH_ARGON2_PARALLELISM,
    },
    atOnce: config.AUTH_HASH_CONCURRENCY,
    algorithm: config.AUTH_SIGNING_ALG,
    store: ownUrl ? 'PostgreSQL' : 'LMDB',
    dir: join(dir, 'bare'),
    ...(ownUrl && { databaseUrl: ownUrl }),
    readyMs,
    ...(idleMB !== undefined && { idleMB }),
    notes: isInMemory
      ? ['The temporary directory is in memory, where a sync costs nothing: set TMPDIR to one on a disk.']
      : [],
    async leave() {},
  }
}

/** Measures what a running service shows from outside. */
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
  let hasLeft = false
  const leave = async () => {
    if (hasLeft) return
    hasLeft = true
    const headers = bearer(await logIn(origin, username, secret))
    const [path, init] = isOwn
      ? ['/users/me', { headers: { ...headers, ...json }, body: JSON.stringify({ password: secret }) }]
      : ['/users/me/sessions', { headers }]
    const response = await fetch(origin + path, { method: 'DELETE', ...init })
    if (!response.ok) throw new Error(`DELETE ${path}: ${response.status}; the account ${username} is still there`)
  }
  onEnd(leave)
  const users = Array<string>(connections).fill(username)
  const main = { origin, pid: undefined, users, password: secret, sessions: await logInAll(origin, users, secret) }
  const needed = 'a confidential client in LATCHKEY_CLIENT_ID and LATCHKEY_CLIENT_SECRET'
  return {
    main,
    ...(LATCHKEY_CLIENT_ID && { client: { id: LATCHKEY_CLIENT_ID, secret: LATCHKEY_CLIENT_SECRET ?? '' } }),
    atOnce: availableParallelism(),
    algorithm: partOf(main, 0)['alg'],
    store: `that of ${origin}`,
    dir: '',
    notes: LATCHKEY_CLIENT_ID ? [] : [`Client credentials and introspections need ${needed}.`],
    leave,
  }
}

/** @returns the URL with a new schema as its search path; the schema is dropped at the end */
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

/** Header (0) or claims (1) of an access token: the service may have derived what is in them. */
export const partOf = ({ sessions }: Service, index: 0 | 1) =>
  JSON.parse(Buffer.from((sessions[0]?.access_token ?? '').split('.')[index] as string, 'base64url').toString())

function reasonOf(error: unknown): string {
  if (error instanceof Response) return `status ${error.status}`
  const { cause, message, code } = error as NodeJS.ErrnoException & { cause?: NodeJS.ErrnoException }
  return cause?.message || message || cause?.code || code || 'no reason was given'
}
