/*
 * What a page of the audit trail costs among ten million rows, a day of a large service or ninety of a small one:
 *
 *     npm run bench:audit -- [--rows 10000000] [--stores lmdb,pg] [--json]
 *
 * The rows are of 100,000 users with sessions of twenty events, and one event in 100,000 is a rare one. For each way
 * to ask, `firstMs` is the median of first pages of a hundred, and `nextMs` that of pages behind them; `plan` is how
 * PostgreSQL finds the first. Then the rare event alone is asked for, and one that there is nowhere, page after page to
 * the end. It fails where an answer is not what was put in. Ten million rows need 6 GB of disk; what PostgreSQL is
 * started with stands in `PG_FLAGS`.
 */
import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import { type AuditFilter, type AuditRow, newAuditId } from '../../domain/audit.ts'
import { openLmdbStore } from '../../stores/lmdb/store.ts'
import { migrations } from '../../stores/postgres/migrations.ts'
import type { Statement } from '../../stores/postgres/statement.ts'
import { openPostgresStore } from '../../stores/postgres/store.ts'
import { statements } from '../../stores/postgres/tables/audit.ts'
import type { Store } from '../../stores/store.ts'
import { median, round } from '../meter.ts'
import { makeDir, onEnd } from '../processes.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ rows: 10_000_000, stores: 'lmdb,pg' })
const size = flags.rows
const limit = 100
const [users, perSession, perRare, pagesAtMost] = [100_000, 20, 100_000, 5]
const perBatch = 5_000
const firstAt = Date.now() - 90 * 86_400_000
const msPerRow = (90 * 86_400_000) / size
const [rare, common] = ['user.disabled', 'login.succeeded']
const clients = 10
const address = '203.0.113.77'
const userAgent = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0'

const atOf = (n: number) => Math.floor(firstAt + n * msPerRow)
/** As PostgreSQL's `md5(text)::uuid`. */
const uuidOf = (text: string) =>
  createHash('md5')
    .update(text)
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
const userOf = (n: number) => uuidOf(`user ${Math.floor(n / perSession) % users}`)
const sessionOf = (n: number) => uuidOf(`session ${Math.floor(n / perSession)}`)
const clientOf = (n: number) => `client-${Math.floor(n / perSession) % clients}`

function rowOf(n: number): AuditRow {
  const at = atOf(n)
  const of = { user: userOf(n), session: sessionOf(n), client: clientOf(n) }
  const event = n % perRare === 0 ? rare : common
  return { id: newAuditId(at), at, event, outcome: 'success', ...of, address, userAgent, requestId: uuidOf(`${n}`) }
}

interface Subject {
  store: Store
  bytes: () => Promise<number>
  explain?: (filter: AuditFilter) => Promise<string>
}

const openings = {
  async lmdb(): Promise<Subject> {
    const dir = makeDir()
    const store = openLmdbStore(dir)
    for (let n = 0; n < size; n += perBatch) {
      await store.addAudit(Array.from({ length: Math.min(perBatch, size - n) }, (_, i) => rowOf(n + i)))
      if (n % 500_000 === 0) progress(`lmdb: ${n} of ${size} rows …`)
    }
    return { store, bytes: async () => statSync(join(dir, 'lmdb', 'data.mdb')).size }
  },
  async pg(): Promise<Subject> {
    const { url, client } = await (await openServer()).createDatabase()
    const store = await openPostgresStore(url)
    await fill(client)
    async function bytes() {
      const { rows } = await client.query(`SELECT pg_total_relation_size('latchkey_audit')::float8 AS bytes`)
      return rows[0].bytes as number
    }
    return { store, bytes, explain: (filter) => planOf(client, filter) }
  },
}

/** The rows of `rowOf`, with the indexes made behind them. */
async function fill(client: pg.Client): Promise<void> {
  const indexes = migrations.flatMap(({ statements }) => statements.filter((sql) => sql.includes('latchkey_audit_by_')))
  for (const [, name] of indexes.join('\n').matchAll(/(latchkey_audit_by_\w+)/g))
    await client.query(`DROP INDEX ${name}`)
  progress(`pg: ${size} rows …`)
  await client.query(
    `INSERT INTO latchkey_audit (id, at, erases, user_id, session, event, outcome, client, address, user_agent, request_id)
     SELECT (lpad(to_hex(at), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || left(md5(n::text), 15))::uuid,
       at, false, md5('user ' || n / $4 % $5)::uuid, md5('session ' || n / $4)::uuid,
       CASE n % $6 WHEN 0 THEN $7 ELSE $8 END, 'success', 'client-' || n / $4 % $9, $10, $11, md5(n::text)::uuid::text
     FROM (SELECT n, floor($2::float8 + n * $3::float8)::bigint AS at FROM generate_series(0, $1::int - 1) AS n) AS rows`.replaceAll(
      /\$([4569])/g,
      '$$$1::int',
    ),
    [size, firstAt, msPerRow, perSession, users, perRare, rare, common, clients, address, userAgent],
  )
  progress('pg: the indexes …')
  for (const sql of indexes) await client.query(sql)
  await client.query('VACUUM ANALYZE latchkey_audit')
}

/** How PostgreSQL finds a first page, and how many of its blocks of 8 KiB it looks at. */
async function planOf(client: pg.Client, { user, session, client: of, since = 0 }: AuditFilter): Promise<string> {
  const statement: Statement = session
    ? statements.auditPageOfSession
    : user
      ? statements.auditPageOfUser
      : of
        ? statements.auditPageOfClient
        : statements.auditPage
  const range = ['ffffffff-ffff-ffff-ffff-ffffffffffff', newAuditId(since), limit + 1]
  const value = session ?? user ?? of
  const { rows } = await client.query(
    `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${statement.text}`,
    value === undefined ? range : [...range, value],
  )
  const { Plan: top } = rows[0]['QUERY PLAN'][0]
  let scan = top
  while (scan.Plans) [scan] = scan.Plans
  return `${scan['Node Type']} ${scan['Index Name'] ?? ''}, ${top['Shared Hit Blocks'] + top['Shared Read Blocks']} blocks`
}

const any = () => Math.floor(Math.random() * size)
const asked: Record<string, () => AuditFilter> = {
  'all, newest first': () => ({}),
  'since a time': () => ({ since: atOf(any()) }),
  'of a user': () => ({ user: userOf(any()) }),
  'of a user, since a time': () => ({ user: userOf(any()), since: atOf(any()) }),
  'of a session': () => ({ session: sessionOf(any()) }),
  'of a client': () => ({ client: clientOf(any()) }),
  'of a user, one event': () => ({ user: userOf(any()), event: common }),
  'one event, frequent': () => ({ event: common }),
  'one event, rare': () => ({ event: rare }),
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; value: T }> {
  const startedAt = performance.now()
  const value = await work()
  return { ms: performance.now() - startedAt, value }
}

async function measure(name: string, what: string, { store, explain }: Subject, filterOf: () => AuditFilter) {
  const [first, next]: [number[], number[]] = [[], []]
  for (let turn = 0; turn < 10; turn++) {
    const filter = filterOf()
    let after: string | undefined
    for (let page = 0; page < pagesAtMost && (page === 0 || after !== undefined); page++) {
      const { ms, value } = await timed(() => store.listAudit(filter, { limit, ...(after !== undefined && { after }) }))
      ;(page === 0 ? first : next).push(ms)
      after = value.next
    }
  }
  const nextMs = next.length > 0 ? round(median(next), 2) : ''
  const plan = explain ? await explain(filterOf()) : ''
  return { store: name, what, firstMs: round(median(first), 2), nextMs, plan }
}

/** Asks for page after page, until there is none. */
async function walk(name: string, { store }: Subject, event: string, expected: number) {
  let [pages, found, slowestMs] = [0, 0, 0]
  let after: string | undefined
  const startedAt = performance.now()
  do {
    const { ms, value } = await timed(() =>
      store.listAudit({ event }, { limit, ...(after !== undefined && { after }) }),
    )
    pages += 1
    found += value.rows.length
    slowestMs = Math.max(slowestMs, ms)
    after = value.next
  } while (after !== undefined)
  if (found !== expected) throw new Error(`${name}: ${found} rows of ${event}, not ${expected}`)
  const seconds = round((performance.now() - startedAt) / 1000)
  return { store: name, event, found, pages, seconds, slowestPageMs: round(slowestMs) }
}

await runScenario(async () => {
  const loaded: object[] = []
  const pages: object[] = []
  const walks: object[] = []
  for (const name of flags.stores.split(',') as (keyof typeof openings)[]) {
    const { ms, value: subject } = await timed(openings[name])
    onEnd(() => subject.store.close())
    loaded.push({
      store: name,
      rows: size,
      seconds: Math.round(ms / 1000),
      MB: Math.round((await subject.bytes()) / 1e6),
    })
    for (const [what, filterOf] of Object.entries(asked)) {
      progress(`${name}: ${what} …`)
      pages.push(await measure(name, what, subject, filterOf))
    }
    progress(`${name}: one event, to the end …`)
    walks.push(await walk(name, subject, rare, Math.ceil(size / perRare)), await walk(name, subject, 'user.deleted', 0))
  }
  return { 'rows put in': loaded, 'pages of a hundred, ms': pages, 'one event alone, to the end': walks }
})
