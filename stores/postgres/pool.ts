import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { StoreUnavailable, type Usage } from '../store.ts'
import { splitHosts } from './hosts.ts'
import type { Statement } from './statement.ts'

/** Connections to a PostgreSQL, or one of several, that is writable. */
export interface Postgres {
  /**
   * Runs a statement, and again when it surely had no effect and may have one now.
   * @throws StoreUnavailable within five seconds, whatever the server does
   */
  query<Row>(statement: Statement, values: unknown[]): Promise<Row[]>
  /**
   * Lends one connection, for what is more than a statement.
   * @throws StoreUnavailable for whatever `work` rejects with
   */
  connected<T>(work: (connection: Connection) => Promise<T>): Promise<T>
  /** Connections now and at most, and calls that wait for one. */
  usage(): Usage['pg'] | undefined
  /**
   * Runs statements on one connection as one transaction: what `work` rejects with undoes it, and is thrown as it is.
   *
   * @param mode of `BEGIN`
   */
  transaction<T>(mode: string, work: (query: Postgres['query']) => Promise<T>): Promise<T>
  /** Lets the statements under way finish and closes the connections. Further calls reject. */
  close(): Promise<void>
}

export interface Connection {
  // biome-ignore lint/suspicious/noExplicitAny: the columns are the statement's
  query(text: string, timeoutMs?: number): Promise<any[]>
}

export interface PoolOptions {
  /** most connections at once */
  maxConnections?: number
  /** called when a call has failed */
  hasFailed?: () => void
}

// Below the five seconds within which a caller must have its 503: the two steps of a checkout, then the statement.
const totalMs = 4500
const connectMs = 1500
const verifyMs = 1000
const statementMs = 2500
/**
 * The server stops a statement a little before this side stops waiting for it, so that it is known to have had no
 * effect.
 */
const statementOnServerMs = 2000
const triesAtMost = 8
const lifetimeSeconds = 30 * 60
/** Of each process, where nothing else is said. */
export const connectionsAtMost = 12
/** Of one that moves a whole store, where nobody waits for an answer. */
const longStatementMs = 60 * 60_000

/** Another transaction has committed the same name meanwhile: the statement sees it when it runs again. */
const uniqueViolation = '23505'
const serializationFailure = '40001'
const deadlock = '40P01'
const readOnly = '25006'
const tooManyConnections = '53300'
/**
 * After these a statement surely had no effect and can be run again. After any other failure, such as a lost
 * connection, it may have been committed: the caller gets a 503, and retries if that is safe.
 */
const hadNoEffect = new Set([uniqueViolation, serializationFailure, deadlock, readOnly, tooManyConnections])

const hasTimeToConnect = (deadline: number) => performance.now() + connectMs + verifyMs < deadline

/** The SQLSTATE that a server gave as the reason, if one did. */
export const sqlState = (error: unknown): string | undefined =>
  error instanceof pg.DatabaseError ? error.code : undefined

/** What an operator reads: the setting, and what the server or the driver says. */
function whyUnavailable(error: unknown): string {
  const state = sqlState(error)
  return `DATABASE_URL: the database cannot be used: ${(error as Error).message}${state ? ` (SQLSTATE ${state})` : ''}`
}

/**
 * Opens a pool; connections are made when they are needed.
 *
 * @param url `postgres://user:password@host:port,host:port/database?…`; of several hosts the first that is writable is
 *   used
 * @throws when the URL cannot be read
 */
export function openPool(url: string, { maxConnections = connectionsAtMost, hasFailed }: PoolOptions = {}): Postgres {
  const urls = splitHosts(url)
  // Only to have a mistake in the URL found at the start.
  for (const connectionString of urls) new pg.Client({ connectionString })
  let preferred = 0
  /** connections to a server itself, with no pooler in between */
  const direct = new WeakSet<pg.ClientBase>()

  class HostClient extends pg.Client {
    constructor(config?: pg.ClientConfig) {
      super({ ...config, connectionString: urls[preferred] as string })
    }
  }

  const pool = new pg.Pool({
    Client: HostClient,
    max: maxConnections,
    idleTimeoutMillis: 60_000,
    maxLifetimeSeconds: lifetimeSeconds,
    connectionTimeoutMillis: connectMs,
    query_timeout: statementMs,
    keepAlive: true,
    fallback_application_name: 'latchkey',
    types: { getTypeParser },
    // Not as `verify`: a connection whose caller stops waiting meanwhile would never be given back.
    onConnect: async (client: pg.ClientBase) => {
      try {
        if (await makeReady(client)) direct.add(client)
      } catch (error) {
        // Else its end would wait for the server.
        ;(client as unknown as { connection: { stream: Socket } }).connection.stream.destroy()
        throw error
      }
    },
  } as pg.PoolConfig)
  // A connection that breaks emits 'error', idle or lent, and would end the process if nobody listened.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))

  /** Gets a connection to a writable host, trying each host once as long as there is time. */
  async function checkOut(deadline: number): Promise<pg.PoolClient> {
    for (let tries = 1; ; tries++) {
      const tried = preferred
      try {
        return await pool.connect()
      } catch (error) {
        // All connections were busy: not the fault of the host.
        if ((error as Error).message === 'timeout exceeded when trying to connect') throw error
        passOver(tried)
        if (tries >= urls.length || !hasTimeToConnect(deadline)) throw error
      }
    }
  }
  /** Makes the next host the preferred one, unless another call did already. */
  function passOver(host: number): void {
    if (preferred === host) preferred = (host + 1) % urls.length
  }

  async function runOnce<Row>(statement: Statement, values: unknown[], deadline: number): Promise<Row[]> {
    const host = preferred
    const client = await checkOut(deadline)
    let isUsable = false
    try {
      const query_timeout = Math.max(1, Math.min(statementMs, deadline - performance.now()))
      // Behind a pooler the next statement may be on another server connection, which does not have it.
      const { text, name } = statement
      const config = { text, values, query_timeout, ...(name !== undefined && direct.has(client) && { name }) }
      const { rows } = await client.query<Row & pg.QueryResultRow>(config as pg.QueryConfig)
      isUsable = true
      return rows
    } catch (error) {
      const code = sqlState(error)
      isUsable = code === serializationFailure || code === deadlock
      if (code === readOnly) passOver(host)
      throw error
    } finally {
      client.release(!isUsable)
    }
  }

  async function run<Row>(statement: Statement, values: unknown[]): Promise<Row[]> {
    const deadline = performance.now() + totalMs
    for (let tries = 1; ; tries++) {
      try {
        return await runOnce(statement, values, deadline)
      } catch (error) {
        if (!hadNoEffect.has(sqlState(error) ?? '') || tries === triesAtMost) throw error
        // Exponential backoff with jitter, or the same calls would collide again.
        await sleep(2 ** tries * (2 + Math.random() * 4))
        if (!hasTimeToConnect(deadline)) throw error
      }
    }
  }

  let closing: Promise<void> | undefined
  const underWay = new Set<Promise<unknown>>()
  async function guarded<T>(work: () => Promise<T>): Promise<T> {
    if (closing) throw new StoreUnavailable(new Error('The store is closed'))
    const working = work()
    underWay.add(working)
    try {
      return await working
    } catch (error) {
      hasFailed?.()
      throw new StoreUnavailable(error, whyUnavailable(error))
    } finally {
      underWay.delete(working)
    }
  }

  return {
    query: (statement, values) => guarded(() => run(statement, values)),
    connected: (work) =>
      guarded(async () => {
        const client = await checkOut(performance.now() + totalMs)
        let isUsable = false
        try {
          const result = await work({
            query: async (text, timeoutMs = statementOnServerMs) =>
              (await client.query({ text, query_timeout: timeoutMs } as pg.QueryConfig)).rows,
          })
          isUsable = true
          return result
        } finally {
          client.release(!isUsable)
        }
      }),
    usage() {
      if (closing) return undefined
      const { totalCount: open, idleCount: idle, waitingCount: waiting } = pool
      return { open, idle, most: maxConnections, waiting }
    },
    async transaction(mode, work) {
      const client = await guarded(() => checkOut(performance.now() + totalMs))
      let before: Promise<unknown> = Promise.resolve()
      // One after the other: a connection has one statement at a time.
      // biome-ignore lint/suspicious/noExplicitAny: the columns are the statement's
      const query = ({ text }: Statement, values: unknown[]): Promise<any[]> => {
        const config = { text, values, query_timeout: longStatementMs } as pg.QueryConfig
        const result = guarded(() => before.then(async () => (await client.query(config)).rows))
        before = result.catch(() => {})
        return result
      }
      let isUsable = false
      try {
        await query({ text: `BEGIN ${mode}` }, [])
        await query({ text: `SET LOCAL statement_timeout = ${longStatementMs}` }, [])
        // A file or a pipe on this side may be slow.
        await query({ text: 'SET LOCAL idle_in_transaction_session_timeout = 0' }, [])
        const result = await work(query)
        await query({ text: 'COMMIT' }, [])
        isUsable = true
        return result
      } finally {
        // Without its connection, the server undoes what was not committed.
        client.release(!isUsable)
      }
    },
    close() {
      closing ??= Promise.allSettled(underWay).then(() => pool.end())
      return closing
    },
  }
}

/**
 * Makes a new connection ready. Every statement finds its rows by an index, but a plan is kept for as long as the
 * connection: one that was made while a table had few rows would read all of it when it has many, a million for each
 * refresh, until the server analyzes the table. So reading whole tables is made the last resort.
 *
 * A pooler (PgBouncer in transaction mode) lends a server connection for a transaction: what is set on it would stay
 * with it and be another's. So nothing is set behind one, and no statement is prepared there, which is planned with the
 * values at hand then, and so needs no such setting. A pooler shows by the process id that it gave the connection,
 * which is none of the server's.
 *
 * @returns whether the connection is to the server itself
 * @throws on a standby, as libpq's `target_session_attrs=read-write` does
 */
async function makeReady(client: pg.ClientBase): Promise<boolean> {
  // In one round trip. Not as parameters of the start: a pooler refuses those that it does not know.
  const { processID = 0 } = client as { processID?: number | null }
  const set = (name: string, value: string) =>
    `CASE WHEN pg_backend_pid() = ${Number(processID)} THEN set_config('${name}', '${value}', false) END`
  const text = `SELECT pg_backend_pid() AS pid, current_setting('transaction_read_only') AS read_only,
    ${set('enable_seqscan', 'off')}, ${set('statement_timeout', String(statementOnServerMs))}`
  const { rows } = await client.query({ text, query_timeout: verifyMs } as pg.QueryConfig)
  const [{ pid, read_only: readOnly }] = rows as [{ pid: number; read_only: string }]
  if (readOnly !== 'off') throw new Error('This server is read-only')
  return pid === processID
}

/** All bigints of the schema are milliseconds and counters, which a number holds exactly. */
const getTypeParser: typeof pg.types.getTypeParser = (oid: number, format?: unknown) =>
  oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format as 'text')
