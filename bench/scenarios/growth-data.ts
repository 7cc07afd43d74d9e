/* Users with a session each, loaded into a store. */
import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { argon2 } from '../../plugins/login/argon2.ts'
import type { Store } from '../../stores/store.ts'
import { password } from '../load.ts'
import { makeDir, startRemote } from '../processes.ts'
import type { Load, LoadedBytes } from './growth-load.ts'
import { browsersAtMost, sender } from './growth-rows.ts'
import { fillBeforeIndexes, readWalBytes } from './postgres.ts'

export interface Loaded {
  env: Record<string, string>
  /** bytes of a row, by what they are for */
  disk: Record<string, number>
  /** that the indexes of users take, made for a store of an older release; PostgreSQL only */
  indexSeconds?: number
  /** write-ahead log so far; PostgreSQL only */
  walBytes?: () => Promise<number>
}

const common = {
  AUTH_SECRET: randomBytes(32).toString('base64url'),
  AUTH_ISSUER: 'http://localhost',
  LOG_LEVEL: 'silent',
  ...{ AUTH_INSECURE: '1', AUTH_ARGON2_MEMORY: '8', AUTH_ARGON2_TIME: '1', AUTH_THROTTLE: 'off' },
}
export const createdAt = Date.now() - 3_600_000
/** One user a millisecond. */
export const madeAt = (n: number): number => createdAt - n
/** Of `password`, as cheap as argon2 makes it, with the settings that say so: a login is measured without its hash. */
const passwordHash = await argon2.hash(password, { memoryCost: 8, timeCost: 1, parallelism: 1 })

/** What a sign-in in a browser takes. */
export async function issueCode(store: Store): Promise<RecordTaking> {
  const [kind, id, now] = ['code', randomBytes(32).toString('base64url'), Date.now()]
  const times = { createdAt: now, expiresAt: now + 60_000, misses: 0, version: 1 }
  await store.issueRecord({ kind, id, owner: id, source: id, data: '', ...times }, { perOwner: 1, perSource: 1 })
  return { kind, id, now }
}

/** By another process, so that this one opens the store as after a restart. */
export async function loadLmdb(size: number): Promise<Loaded> {
  const dataDir = makeDir()
  const loader = startRemote('scenarios/growth-load.js')
  const disk = await loader.call<LoadedBytes>('load', { dataDir, size, passwordHash, createdAt } satisfies Load)
  return { env: { ...common, AUTH_DATA_DIR: dataDir, DATABASE_URL: '' }, disk }
}

export async function loadPostgres(size: number, { url, client }: { url: string; client: pg.Client }): Promise<Loaded> {
  const env = { ...common, DATABASE_URL: url }
  // For the schema.
  await (await buildApp(readConfig(env))).close()
  const made = await fillBeforeIndexes(client, ['latchkey_users', 'latchkey_sessions'], async () => {
    await client.query(
      `INSERT INTO latchkey_users (id, username, name_key, password_hash, roles, created_at, generation)
     SELECT md5('user ' || n)::uuid, 'user-' || n || '@example.com', 'user-' || n || '@example.com', $2, '{}', $3::bigint - n, 0
     FROM generate_series(0, $1::int - 1) AS n`,
      [size, passwordHash, createdAt],
    )
    await client.query(
      `INSERT INTO latchkey_sessions
       (id, user_id, generation, counter, created_at, refreshed_at, client_id, address, user_agent, scope)
     SELECT md5('session ' || n)::uuid, md5('user ' || n)::uuid, 0, 0, $2, $2, $5, $3, $4, '{}'
     FROM generate_series(0, $1::int - 1) AS n`,
      [size, createdAt, sender.address, sender.userAgent, sender.clientId],
    )
  })
  const indexSeconds = (made['latchkey_users_by_name'] ?? 0) + (made['latchkey_users_by_creation'] ?? 0)
  const browsers = Math.min(size, browsersAtMost)
  await client.query(
    `INSERT INTO latchkey_browser_sessions
       (id, user_id, generation, secret_hash, created_at, seen_at, auth_at, amr, address, user_agent)
     SELECT md5('browser ' || n)::uuid, md5('user ' || n)::uuid, 0, $5, $2, $2, $2, '{pwd}', $3, $4
     FROM generate_series(0, $1::int - 1) AS n`,
    [browsers, createdAt, sender.address, sender.userAgent, 's'.repeat(43)],
  )
  for (const table of ['users', 'sessions', 'browser_sessions']) await client.query(`VACUUM ANALYZE latchkey_${table}`)
  await client.query('CHECKPOINT')
  const { rows } = await client.query(
    `SELECT replace(c.relname, 'latchkey_', '') AS name, pg_relation_size(c.oid)::float8 AS bytes FROM pg_class c
     WHERE c.relname LIKE 'latchkey_users%' OR c.relname LIKE 'latchkey_sessions%' OR
       c.relname LIKE 'latchkey_browser_sessions%'`,
  )
  const countOf = (name: string) => (name.startsWith('browser') ? browsers : size)
  const perRow = (of: string) =>
    Math.round(
      rows.filter(({ name }) => name.startsWith(of)).reduce((total, { bytes }) => total + bytes, 0) / countOf(of),
    )
  const parts = rows.map(({ name, bytes }) => [`${name}Bytes`, Math.round(bytes / countOf(name))])
  return {
    env,
    disk: {
      ...{ userBytes: perRow('users'), sessionBytes: perRow('sessions') },
      ...{ browserSessionBytes: perRow('browser_sessions'), ...Object.fromEntries(parts) },
    },
    indexSeconds,
    walBytes: () => readWalBytes(client),
  }
}
