import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { openPool } from '../../stores/postgres/pool.ts'
import { openPostgresStore } from '../../stores/postgres/store.ts'
import { until } from '../support/client-helper.ts'
import {
  challenges,
  challengeTo,
  cheapHashing,
  json,
  logIn,
  refresh,
  sharedPostgres,
  signUp,
  withToken,
} from '../support/helper.ts'
import type { SharedPostgres } from '../support/postgres.ts'
import { isLong } from '../support/processes.ts'
import { storeContract } from './contract.ts'

/* Behind PgBouncer, as Debian has it, with no setting for Latchkey's sake. Skipped where it is not installed. */

const skip = spawnSync('pgbouncer', ['--version']).error && 'pgbouncer is not installed'
const isAllowed = process.getuid?.() !== 0
/** PgBouncer does not run as root. */
const nobody = { uid: 65_534, gid: 65_534 }

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** @returns what makes a URL of the server one through the pooler */
async function startPgBouncer(
  t: Test,
  { url: serverUrl }: SharedPostgres,
  mode: string,
): Promise<(url: string) => string> {
  const dir = await mkdtemp(join(tmpdir(), 'latchkey-pgbouncer-'))
  const port = await freePort()
  const serverPort = new URL(serverUrl).port
  const lines = [
    '[databases]',
    `* = host=127.0.0.1 port=${serverPort} user=postgres password=test`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = any',
    `pool_mode = ${mode}`,
    // The contract opens a dozen stores.
    'max_client_conn = 300',
    // Fewer than the two replicas open connections: in transaction mode they share them.
    `default_pool_size = ${mode === 'transaction' ? 4 : 90}`,
  ]
  await writeFile(join(dir, 'pgbouncer.ini'), lines.join('\n'))
  await chmod(dir, 0o755)
  const pooler = spawn('pgbouncer', ['-q', join(dir, 'pgbouncer.ini')], { stdio: 'ignore', ...(!isAllowed && nobody) })
  const ended = new Promise((resolve) => pooler.once('exit', resolve))
  t.teardown(async () => {
    pooler.kill('SIGKILL')
    await ended
    await rm(dir, { recursive: true, force: true })
  })
  await until(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(socket.destroy() && true)).on('error', () =>
          resolve(false),
        )
      }),
  )
  return (url) => url.replace(`127.0.0.1:${serverPort}`, `127.0.0.1:${port}`)
}

const poolModes = ['session', 'transaction']
if (skip) t.test('behind PgBouncer', { skip }, async () => {})
else {
  const postgres = await sharedPostgres()

  for (const mode of poolModes) {
    t.test(`two replicas that start at once behind PgBouncer work as without [${mode}]`, async (t) => {
      const through = await startPgBouncer(t, postgres, mode)
      const url = await postgres.createDatabase()
      const settings = { ...cheapHashing, AUTH_SECRET: randomUUID(), LOG_LEVEL: 'silent', DATABASE_URL: through(url) }
      const [one, other] = await Promise.all([buildApp(readConfig(settings)), buildApp(readConfig(settings))])
      t.teardown(() => Promise.all([one.close(), other.close()]))

      t.equal((await signUp(one)).statusCode, 201)
      const login = await logIn(other)
      const both = (i: number) => (i % 2 ? one : other)
      const patiently = async (i: number) => {
        let answer = await refresh(both(i), login.refresh_token)
        // A machine that is busy may take longer for a connection than anybody waits.
        while (answer.statusCode === 503) answer = await refresh(both(i), login.refresh_token)
        return answer
      }
      const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => patiently(i)))
      t.same(new Set(answers.map(({ statusCode }) => statusCode)), new Set([200]))
      t.equal(
        new Set(answers.map((answer) => json(answer).refresh_token)).size,
        1,
        'fifty refreshes at once, one lineage',
      )

      const startedMs = performance.now()
      await withToken(one, login.access_token, { method: 'POST', url: '/logout' })
      await until(async () => (await challengeTo(other, login.access_token)) === challenges.revoked)
      t.comment(`revoked at the other after ${(performance.now() - startedMs).toFixed()} ms`)
      t.ok(performance.now() - startedMs < 2_000, 'revoked at the other within a second, on a busy machine two')

      const left = "SELECT setting FROM pg_settings WHERE name IN ('enable_seqscan', 'statement_timeout') ORDER BY name"
      for (let n = 0; n < 8; n += 1) {
        t.same(
          await postgres.execute(left, through(url)),
          [{ setting: 'on' }, { setting: '0' }],
          'no setting is left for others',
        )
      }
    })

    // A session of PgBouncer has a connection to itself: all that differs is tested above.
    if (mode === 'session' && !isLong) continue
    t.test(`the contract, through PgBouncer [${mode}]`, async (t) => {
      const through = await startPgBouncer(t, postgres, mode)
      const url = through(await postgres.createDatabase())
      await storeContract(t, 'pg', () => openPostgresStore(url))
    })
  }

  t.test(
    'a connection says by itself whether there is a pooler: only without one are statements prepared and settings made',
    async (t) => {
      const url = await postgres.createDatabase()
      const urls = { direct: url, session: (await startPgBouncer(t, postgres, 'session'))(url) }
      for (const [how, url] of Object.entries(urls)) {
        const pool = openPool(url, { maxConnections: 1 })
        t.teardown(() => pool.close())
        for (let n = 0; n < 3; n += 1) await pool.query({ name: 'one', text: 'SELECT $1::int AS one' }, [n])
        const seen = await pool.connected(async (connection) => [
          await connection.query('SELECT name FROM pg_prepared_statements'),
          await connection.query('SHOW statement_timeout'),
          await connection.query('SHOW enable_seqscan'),
        ])
        const isDirect = how === 'direct'
        t.same(seen, [
          isDirect ? [{ name: 'one' }] : [],
          [{ statement_timeout: isDirect ? '2s' : '0' }],
          [{ enable_seqscan: isDirect ? 'off' : 'on' }],
        ])
      }
    },
  )
}
