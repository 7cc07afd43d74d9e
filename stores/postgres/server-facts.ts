import { TLSSocket } from 'node:tls'
import pg from 'pg'
import { parse } from 'pg-connection-string'
import { splitHosts } from './hosts.ts'

/** How connections are shared out by a pooler; `none` is the server itself. */
export type Pooling = 'none' | 'session' | 'transaction' | 'statement'

/** What one PostgreSQL server, or what speaks like it, says of itself. */
export interface ServerFacts {
  /** `version()` */
  version: string
  /** of PostgreSQL, such as 180004 */
  number: number
  /** its clock minus ours, in milliseconds */
  aheadMs: number
  /** by name; undefined where it is unknown to it */
  settings: Record<string, string | undefined>
  isStandby: boolean
  /** connections of all clients; undefined where it does not tell */
  connections: number | undefined
  /** between us and it, or a pooler */
  isEncrypted: boolean
  /** whether its certificate is checked */
  isVerified: boolean
  isLocal: boolean
  pooling: Pooling
  standbys: { state: string | null; sync: string | null; lagMs: number | null }[]
  /** steps of our schema that were taken; undefined where there is no table of them */
  steps: number[] | undefined
  mayCreate: boolean
}

/** A host of DATABASE_URL. */
export interface Server {
  /** without user and password */
  host: string
  /** or why it could not be asked */
  facts: ServerFacts | string
}

const withinMs = 2_000
const settingNames = [
  'fsync',
  'synchronous_commit',
  'full_page_writes',
  'default_transaction_read_only',
  'max_connections',
  'superuser_reserved_connections',
  'synchronous_standby_names',
  'server_encoding',
]

/** Asks all hosts of a URL at once, and changes nothing. */
export const readServers = (url: string): Promise<Server[]> =>
  Promise.all(
    splitHosts(url).map(async (one): Promise<Server> => {
      const { host, port } = parse(one)
      const name = `${host ?? 'localhost'}:${port ?? 5432}`
      try {
        return { host: name, facts: await readServer(one) }
      } catch (error) {
        const { message, code } = error as NodeJS.ErrnoException
        return { host: name, facts: (message || code || 'no reason was given').replace(/\s+/g, ' ') }
      }
    }),
  )

async function readServer(url: string): Promise<ServerFacts> {
  const client = await connect(url)
  try {
    // biome-ignore lint/suspicious/noExplicitAny: each statement has its own columns
    const rows = async (text: string): Promise<any[]> => (await client.query(text)).rows
    /** What an engine or a user without the right does not tell. */
    const ifTold = (text: string) => rows(text).catch(() => undefined)
    const beganMs = Date.now()
    const [first] = await rows(`SELECT version() AS version, pg_backend_pid() AS pid,
      extract(epoch FROM clock_timestamp()) * 1000 AS now, pg_is_in_recovery() AS is_standby`)
    const halfWayMs = (beganMs + Date.now()) / 2
    const columns = settingNames.map((name) => `current_setting('${name}', true) AS ${name}`)
    const [settings] = (await ifTold(`SELECT ${columns.join(', ')}`)) ?? []
    const [number] = (await ifTold(`SELECT current_setting('server_version_num', true) AS number`)) ?? []
    const [connections] =
      (await ifTold('SELECT count(*)::int AS n FROM pg_stat_activity WHERE datid IS NOT NULL')) ?? []
    const [mayCreate] = (await ifTold(`SELECT has_schema_privilege(current_schema(), 'CREATE') AS may`)) ?? []
    const standbys = await ifTold(`SELECT state, sync_state AS sync,
      extract(epoch FROM replay_lag)::float * 1000 AS "lagMs" FROM pg_stat_replication`)
    const steps = await ifTold('SELECT version::int AS version FROM latchkey_schema ORDER BY version')
    const { stream } = (client as unknown as { connection: { stream: TLSSocket } }).connection
    const { ssl } = parse(url) as { ssl?: { rejectUnauthorized?: boolean } }
    const { processID } = client as unknown as { processID: number | null }
    return {
      version: first.version,
      number: Number(number?.number ?? 0),
      aheadMs: Number(first.now) - halfWayMs,
      settings: Object.fromEntries(settingNames.map((name) => [name, settings?.[name] ?? undefined])),
      isStandby: first.is_standby === true,
      connections: connections?.n,
      isEncrypted: stream instanceof TLSSocket,
      isVerified: stream instanceof TLSSocket && ssl?.rejectUnauthorized !== false,
      isLocal: stream.remoteAddress === undefined || /^(::ffff:)?127\.|^::1$/.test(stream.remoteAddress),
      pooling: first.pid === processID ? 'none' : await poolingOf(client, url),
      standbys: standbys ?? [],
      steps: steps?.map(({ version }) => version),
      mayCreate: mayCreate?.may !== false,
    }
  } finally {
    await end(client)
  }
}

/**
 * How a pooler shares connections out. It gives a transaction the server connection that another client has let go of;
 * by sessions, that one would still be the other's.
 */
async function poolingOf(client: pg.Client, url: string): Promise<Pooling> {
  const pidOf = async (one: pg.Client) => (await one.query('SELECT pg_backend_pid() AS pid')).rows[0].pid as number
  const other = await connect(url)
  try {
    const pid = await pidOf(client)
    try {
      await other.query('BEGIN')
    } catch {
      return 'statement'
    }
    return (await pidOf(other)) === pid ? 'transaction' : 'session'
  } finally {
    await end(other)
  }
}

async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString,
    connectionTimeoutMillis: withinMs,
    query_timeout: withinMs,
    fallback_application_name: 'latchkey doctor',
  } as pg.ClientConfig)
  client.on('error', () => {})
  await client.connect()
  return client
}

/** A server that does not answer keeps the connection open. */
async function end(client: pg.Client): Promise<void> {
  const { stream } = (client as unknown as { connection: { stream: TLSSocket } }).connection
  const timer = setTimeout(() => stream.destroy(), 200)
  await client.end().catch(() => {})
  clearTimeout(timer)
}
