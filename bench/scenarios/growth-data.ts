/* Users with a session each, loaded into a store: the same in both. The ids spread like random ones. */
import { createHash, randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { openLmdbStore } from '../../stores/lmdb/store.ts'
import type { Store } from '../../stores/store.ts'
import { makeDir } from '../processes.ts'
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
}
export const createdAt = Date.now() - 3_600_000
/** One user a millisecond. */
export const madeAt = (n: number): number => createdAt - n
const passwordHash = `$argon2id$v=19$m=19456,t=2,p=1$${'s'.repeat(22)}$${'h'.repeat(43)}`
export const sender = {
  clientId: 'first-party',
  address: '203.0.113.77',
  userAgent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
}

/** As PostgreSQL's `md5(text)::uuid`. */
const uuid = (text: string) =>
  createHash('md5')
    .update(text)
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
export const userId = (n: number): string => uuid(`user ${n}`)
export const sessionId = (n: number): string => uuid(`session ${n}`)
export const nameOf = (n: number): string => `user-${n}@example.com`

/** Of the users who are signed in in a browser, too. */
const browsersAtMost = 20_000
/** Of a user. */
export const browserSession = (n: number, id = uuid(`browser ${n}`)): BrowserSession => ({
  ...{ id, userId: userId(n), generation: 0, secretHash: randomBytes(32).toString('base64url') },
  ...{ createdAt, seenAt: createdAt, authAt: createdAt, amr: ['pwd'] },
  ...{ address: sender.address, userAgent: sender.userAgent },
})

/** What a sign-in in a browser takes. */
export async function issueCode(store: Store): Promise<RecordTaking> {
  const [kind, id, now] = ['code', randomBytes(32).toString('base64url'), Date.now()]
  const times = { createdAt: now, expiresAt: now + 60_000, misses: 0, version: 1 }
  await store.issueRecord({ kind, id, owner: id, source: id, data: '', ...times }, { perOwner: 1, perSource: 1 })
  return { kind, id, now }
}

const perBatch = 2_000

/** Through the store's own methods, in batches that share a commit. */
export async function loadLmdb(size: number): Promise<Loaded> {
  const dataDir = makeDir()
  const store = openLmdbStore(dataDir)
  const bytes = () => statSync(join(dataDir, 'lmdb', 'data.mdb')).size
  /** @returns bytes of a row on disk */
  const load = async (add: (n: number) => Promise<boolean>, count = size) => {
    const before = bytes()
    for (let from = 0; from < count; from += perBatch) {
      const batch = Array.from({ length: Math.min(perBatch, count - from) }, (_, index) => add(from + index))
      if ((await Promise.all(batch)).includes(false)) throw new Error('a row was refused')
    }
    return Math.round((bytes() - before) / count)
  }
  // First, for pages that were freed by others are used again and count as nothing.
  const rows = Array.from({ length: Math.min(size, browsersAtMost) }, (_, n) => browserSession(n))
  const browserSessionBytes = await load(
    async (n) => (await store.importRows('browserSessions', [rows[n] as BrowserSession])) === 1,
    rows.length,
  )
  const userBytes = await load((n) => {
    const [id, username] = [userId(n), nameOf(n)]
    const user = { id, username, nameKey: username, passwordHash, roles: [], createdAt: madeAt(n), generation: 0 }
    return store.createUser(user)
  })
  const sessionBytes = await load((n) => {
    const [id, user] = [sessionId(n), userId(n)]
    const age = { generation: 0, counter: 0, createdAt, refreshedAt: createdAt }
    return store.createSession({ id, userId: user, scope: [], ...age, ...sender })
  })
  await store.close()
  const env = { ...common, AUTH_DATA_DIR: dataDir, DATABASE_URL: '' }
  return { env, disk: { userBytes, sessionBytes, browserSessionBytes } }
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
