import { erasingEvent } from '../../domain/audit.ts'
import { clockSkewMs } from '../../domain/time.ts'
import { type TableName, tableNames } from '../rows.ts'
import { revocations, tables } from './tables.ts'

/**
 * Every statement of the PostgreSQL store. The lists of columns come from `tables.ts`, all else is written here.
 *
 * - The SQL stays inside what CockroachDB, YugabyteDB and Citus run as well: no advisory locks, no triggers, no
 *   functions, no sequences, and never two changes of one table in one statement, which CockroachDB refuses.
 *   `test/stores/postgres.test.ts` holds it to that.
 * - Each is a transaction of its own and one round trip. At READ COMMITTED all parts of a statement see one snapshot,
 *   but an UPDATE or DELETE that had to wait for a row looks at that row anew: so what can race is repeated in the
 *   WHERE of the row that changes, and what a statement says of a row that it did not change may be as old as its
 *   start.
 * - A value in a SELECT list has its type written out: CockroachDB does not take it from the column that it ends up in.
 * - Rows are locked in one order, user or client, session, head of the revocations, heads of the audit rows, so that no
 *   two statements wait for each other.
 */
export interface Statement {
  /** prepared once a connection under this name; without one it is planned anew each time, with the values at hand */
  readonly name?: string
  readonly text: string
}

const { signingKeys, clients, users, sessions, failures, records, audit } = tables

/**
 * Revocations are numbered in this many independent lines, so that ending sessions waits for no more than every eighth
 * other one.
 */
export const revocationLines = 8

/** The same of audit rows. Those of a user are all in one line, so that followers have them in order. */
export const auditLines = 8

/** {@link isOfClient} of `store.ts`. @param createdAt of the client that presents the token, or NULL */
const isOfClient = (id: string, createdAt: string) => `s.client_id = ${id} AND (${createdAt} IS NULL OR CASE
        WHEN s.client_created_at IS NULL THEN s.created_at + ${clockSkewMs} >= ${createdAt}
        ELSE s.client_created_at = ${createdAt} END)`

const isCurrent = 'u.id = s.user_id AND u.generation = s.generation AND u.disabled_at IS NULL'

/**
 * Writes audit rows in the statement of what they tell of. They are placed in lines as revocations are, see
 * {@link recording}; a line goes on by as many numbers as there are rows at most.
 *
 * @param first number of the first of its values: an array for each column, the lines of the rows, and how many rows
 * @param isTold whether the row `g` is to be written, by CTEs that come before
 */
const auditing = (first: number, isTold: string) => {
  const lines = `$${first + audit.count}::smallint[]`
  const rows = `$${first + audit.count + 1}::bigint`
  return `
  told AS (
    SELECT ${audit.unnested('g')}, g.line, g.place
    FROM unnest(${audit.arrayParameters(first)}, ${lines}) WITH ORDINALITY AS g (${audit.list}, line, place)
    WHERE ${isTold}
  ),
  audit_head AS (
    INSERT INTO latchkey_audit_heads AS h (line, number)
    SELECT told.line, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + ${rows}
    FROM told GROUP BY told.line ORDER BY told.line
    ON CONFLICT (line) DO UPDATE SET number = greatest(h.number + ${rows}, excluded.number)
    RETURNING h.line, h.number
  ),
  audited AS (
    INSERT INTO latchkey_audit (${audit.list}, erases, line, number)
    SELECT ${audit.unnested('told')}, told.event = '${erasingEvent}', told.line, audit_head.number - ${rows} + told.place
    FROM told JOIN audit_head ON audit_head.line = told.line
    ON CONFLICT DO NOTHING
    RETURNING id
  )`
}

/** A change that records no revocation, with its audit rows. @param changed CTE @param first as of {@link auditing} */
const telling = (first: number, changed: string, list = 'id') => `
  WITH changed AS (${changed}
    RETURNING ${list}
  ),${auditing(first, 'EXISTS (SELECT 1 FROM changed)')}
  SELECT ${list} FROM changed`

/**
 * Records a revocation for the row of `ended`, if there is one, in the same statement that ended it.
 *
 * A follower must miss nothing, so numbers have to become visible in their order. A sequence, or the time of the
 * insert, would not do: the one numbered first may commit last, behind a cursor that went by. Here the row of
 * `latchkey_revocation_heads` stays locked until the commit, so the next number of a line is given out after the one
 * before it can be read. No overlap has to be read again, however long a commit takes, and a poll that finds nothing
 * costs a look into the index for each line.
 *
 * Numbers follow the clock of the database (microseconds), and at least rise by one when it does not: after a failover
 * that lost the newest rows, or a restore, the next number is still beyond every cursor that was given out.
 *
 * Then come the audit rows of it.
 *
 * @param first as of {@link auditing}
 * @param ended CTEs, the last of which is `ended (kind, id, generation, except_session_id, …)` with at most one row
 */
const recording = (first: number, ended: string) => `
  WITH ${ended},
  head AS (
    INSERT INTO latchkey_revocation_heads AS h (line, number)
    SELECT $1::smallint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM ended
    ON CONFLICT (line) DO UPDATE SET number = greatest(h.number + 1, excluded.number)
    RETURNING h.line, h.number
  ),
  recorded AS (
    INSERT INTO latchkey_revocations (line, number, kind, id, generation, except_session_id, revoked_at, expires_at)
    SELECT head.line, head.number, ended.kind, ended.id, ended.generation, ended.except_session_id,
      $2::bigint, $3::bigint
    FROM head, ended
    RETURNING number
  ),${auditing(first, 'EXISTS (SELECT 1 FROM recorded)')}
  SELECT * FROM ended`

/**
 * Puts a client in the place of the one of the generation before.
 *
 * @param first number of its first value; they come in the order of the columns
 */
const replacingClient = (first: number) => `
      UPDATE latchkey_clients SET ${clients.assignments(first)}
      WHERE id = ${clients.parameter('id', first)} AND generation = ${clients.parameter('generation', first)} - 1`

/** Users with one of the ids $1, names $2, verified addresses $3, or external ids $4 of the sources $5. */
const usersOfImport = `
    SELECT ${users.list} FROM latchkey_users u WHERE u.id IN (
      SELECT i.id FROM latchkey_users i WHERE i.id = ANY($1::uuid[])
      UNION SELECT n.id FROM latchkey_users n WHERE n.name_key = ANY($2::text[])
      UNION SELECT e.id FROM latchkey_users e WHERE e.email_key IS NOT NULL AND e.email_key = ANY($3::text[])
      UNION SELECT x.id FROM latchkey_users x
        WHERE x.external_id IS NOT NULL AND x.external_id = ANY($4::text[]) AND x.source = ANY($5::text[]))`

/**
 * What a rotation does not know already. A refresh is the most frequent write, and each column costs both sides time:
 * the client and what was written come from the request, and a session that is rotated has a user who is current, of
 * whom tokens have no address.
 */
const rotated = `${sessions.select('s', { without: ['clientId', 'counter', 'refreshedAt', 'address', 'userAgent'] })},
      ${users.select('u', { without: ['id', 'disabledAt', 'generation', 'email', 'emailKey', 'source', 'externalId'] })}`

/** Whether `r` is the live record of a kind and an id at a time, which are the values from the first. */
const isLiveRecord = (first = 1) =>
  `r.kind = $${first}::text AND r.id = $${first + 1}::text
      AND r.expires_at > $${first + 2}::bigint AND r.spent_at IS NULL`

/**
 * Takes a record in the statement of what it is taken for, so that both happen or neither. One that is presented many
 * times at once is locked by the first; the others wait for its commit, look at the row anew, and find it spent.
 *
 * @param first number of the first of its values: kind, id, now, what it gave, until when that is kept
 * @param act CTEs that change something only where there is a row of `held (id, owner, data, …)`, the last of them
 *   `acted` with a row where it was done
 * @param audited further CTEs
 */
const takingRecord = (first: number, act = 'acted AS (SELECT 1 AS one FROM held)', audited = '') => `
  WITH held AS (
    SELECT ${records.list} FROM latchkey_records r WHERE ${isLiveRecord(first)} FOR UPDATE
  ),
  ${act},
  taken AS (
    UPDATE latchkey_records r
    SET spent_at = $${first + 2}::bigint, gave = $${first + 3}::text, expires_at = $${first + 4}::bigint, data = '',
      created_at = least(r.created_at, $${first + 2}::bigint), version = r.version + 1, owner_slot = NULL, source_slot = NULL
    FROM held WHERE r.id = held.id AND EXISTS (SELECT 1 FROM acted)
    RETURNING r.id
  )${audited}
  SELECT held.* FROM held JOIN taken ON taken.id = held.id`

/** How many values `takingRecord` has. */
const takingValueCount = 5

const opening = (from: string) => `
    INSERT INTO latchkey_sessions (${sessions.list})
    SELECT ${sessions.parameters}
    FROM ${from}
    WHERE u.id = ${sessions.parameter('userId')} AND u.generation = ${sessions.parameter('generation')}
      AND u.disabled_at IS NULL`

/**
 * A slot that no live record of an owner or source has. Rows that were moved here have none, and count all the same.
 *
 * @param most parameter: how many there are @param start parameter: where the search begins, so that two at once seldom
 *   choose the same
 */
const freeSlot = (holder: 'owner' | 'source', most: string, start: string) => `
      SELECT g.n % ${most}::bigint AS slot
      FROM generate_series(${start}::bigint, ${start}::bigint + ${most}::bigint - 1) AS g (n)
      WHERE NOT EXISTS (
          SELECT 1 FROM latchkey_records r
          WHERE r.kind = ${records.parameter('kind')} AND r.${holder} = ${records.parameter(holder)}
            AND r.${holder}_slot = g.n % ${most}::bigint)
        AND ${most}::bigint > (
          SELECT count(*) FROM latchkey_records r
          WHERE r.kind = ${records.parameter('kind')} AND r.${holder} = ${records.parameter(holder)}
            AND r.expires_at > ${records.parameter('createdAt')} AND r.spent_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM latchkey_records r WHERE r.id = ${records.parameter('id')})
      LIMIT 1`
const [perOwner, perSource, start] = [1, 2, 3].map((i) => `$${records.count + i}`) as [string, string, string]

/** Locked in the order of the keys: two calls with the same keys in another order would wait for each other. */
const lockedFailures = `
      SELECT f.key FROM latchkey_failures f
      WHERE f.key = ANY($1::text[])
        AND EXISTS (
          SELECT 1 FROM unnest($1::text[], $2::text[]) AS k (key, tag)
          WHERE k.key = f.key AND k.tag IS NOT DISTINCT FROM f.tag)
      ORDER BY f.key FOR UPDATE`

/** Of a new signing key: the kid of the one before it, or '', after its own values. */
const follows = `$${signingKeys.count + 1}::text`

const prepared = {
  ping: 'SELECT 1 AS ok FROM latchkey_schema LIMIT 1',

  createUser: telling(
    users.count + 1,
    `
    INSERT INTO latchkey_users (${users.list}) VALUES (${users.parameters})
    ON CONFLICT DO NOTHING`,
  ),
  findUser: `SELECT ${users.list} FROM latchkey_users WHERE id = $1`,
  findUserByName: `SELECT ${users.list} FROM latchkey_users WHERE name_key = $1`,
  replacePasswordHash: 'UPDATE latchkey_users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 RETURNING id',
  changePassword: recording(
    8,
    `
    changed AS (
      UPDATE latchkey_users SET password_hash = $6, generation = generation + 1
      WHERE id = $4::uuid AND password_hash = $5
      RETURNING id, generation
    ),
    kept AS (
      UPDATE latchkey_sessions s SET generation = changed.generation
      FROM changed
      WHERE s.id = $7::uuid AND s.user_id = changed.id AND s.generation = changed.generation - 1
      RETURNING s.id
    ),
    ended AS (
      SELECT 'user' AS kind, changed.id::text AS id, changed.generation, kept.id AS except_session_id
      FROM changed LEFT JOIN kept ON true
    )`,
  ),
  endUserSessions: recording(
    5,
    `
    ended AS (
      UPDATE latchkey_users SET generation = generation + 1
      WHERE id = $4::uuid
      RETURNING 'user' AS kind, id::text AS id, generation, NULL::uuid AS except_session_id
    )`,
  ),
  deleteUser: recording(
    6,
    `
    ended AS (
      DELETE FROM latchkey_users
      WHERE id = $4::uuid
      RETURNING 'user' AS kind, id::text AS id, $5::bigint AS generation, NULL::uuid AS except_session_id
    )`,
  ),
  // Disabled since the time of the revocation. The generation rises, or sessions opened before would be alive again
  // once enabled.
  disableUser: recording(
    5,
    `
    ended AS (
      UPDATE latchkey_users SET disabled_at = $2::bigint, generation = generation + 1
      WHERE id = $4::uuid
      RETURNING 'user' AS kind, id::text AS id, generation, NULL::uuid AS except_session_id
    )`,
  ),
  enableUser: telling(2, 'UPDATE latchkey_users SET disabled_at = NULL WHERE id = $1::uuid'),
  setRoles: telling(4, 'UPDATE latchkey_users SET roles = $3::text[] WHERE id = $1::uuid AND roles = $2::text[]'),
  setRolesAndEnd: recording(
    7,
    `
    ended AS (
      UPDATE latchkey_users SET roles = $6::text[], generation = generation + 1
      WHERE id = $4::uuid AND roles = $5::text[]
      RETURNING 'user' AS kind, id::text AS id, generation, NULL::uuid AS except_session_id
    )`,
  ),

  createClient: telling(
    clients.count + 1,
    `
    INSERT INTO latchkey_clients (${clients.list}) VALUES (${clients.parameters})
    ON CONFLICT DO NOTHING`,
  ),
  findClient: `SELECT ${clients.list} FROM latchkey_clients WHERE id = $1`,
  replaceClient: telling(clients.count + 1, replacingClient(1)),
  replaceClientAndEnd: recording(
    4 + clients.count,
    `
    ended AS (${replacingClient(4)}
      RETURNING 'client' AS kind, id, generation, NULL::uuid AS except_session_id
    )`,
  ),
  // One generation more than its newest tokens: a client that is created later under this id begins beyond it.
  deleteClient: recording(
    5,
    `
    ended AS (
      DELETE FROM latchkey_clients
      WHERE id = $4::text
      RETURNING 'client' AS kind, id, generation + 1 AS generation, NULL::uuid AS except_session_id
    )`,
  ),

  // The user's row is not locked: the session carries the generation that it was opened for, so a password change or an
  // end of all sessions that commits between this snapshot and this commit has ended it as if it had been there before.
  createSession: telling(sessions.count + 1, opening('latchkey_users u')),
  createSessionTaking: takingRecord(
    sessions.count + 1,
    `acted AS (${opening('latchkey_users u, held')}
    RETURNING id)`,
    `,${auditing(sessions.count + takingValueCount + 1, 'EXISTS (SELECT 1 FROM taken)')}`,
  ),
  // Compare and set, by the same conditions as judgeRotation's `rotated`. No row: see `findRotation`. A creation in the
  // future becomes now; the same value again is no change to PostgreSQL, and the update stays a heap-only one.
  rotateSession: `
    UPDATE latchkey_sessions s
    SET counter = $2::bigint + 1, refreshed_at = $3::bigint, address = $4, user_agent = $5,
      created_at = CASE WHEN s.created_at > $11::bigint THEN $3::bigint ELSE s.created_at END
    FROM latchkey_users u
    WHERE s.id = $1 AND s.counter <= $2::bigint AND ${isOfClient('$6', '$10::bigint')}
      AND $3::bigint < s.refreshed_at + $7::bigint AND $3::bigint < s.created_at + $8::bigint
      AND s.scope @> $9::text[] AND ${isCurrent}
    RETURNING ${rotated}`,
  // The same for many sessions, none of them twice. Their rows are locked in the order of their ids first, or two
  // batches with the same sessions in them could wait for each other; a row that had to be waited for is looked at anew
  // by the UPDATE.
  rotateSessions: `
    WITH asked AS (
      SELECT a.id, a.counter, a.refreshed_at, a.address, a.user_agent, a.client_id, a.scope::text[] AS scope,
        a.client_created_at
      FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $9::text[], $10::bigint[])
        AS a (id, counter, refreshed_at, address, user_agent, client_id, scope, client_created_at)
    ),
    locked AS (
      SELECT s.id FROM latchkey_sessions s WHERE s.id = ANY($1::uuid[]) ORDER BY s.id FOR UPDATE
    )
    UPDATE latchkey_sessions s
    SET counter = a.counter + 1, refreshed_at = a.refreshed_at, address = a.address, user_agent = a.user_agent,
      created_at = CASE WHEN s.created_at > $11::bigint THEN a.refreshed_at ELSE s.created_at END
    FROM asked a, latchkey_users u
    WHERE s.id = a.id AND s.id IN (SELECT locked.id FROM locked) AND s.counter <= a.counter
      AND ${isOfClient('a.client_id', 'a.client_created_at')}
      AND a.refreshed_at < s.refreshed_at + $7::bigint AND a.refreshed_at < s.created_at + $8::bigint
      AND s.scope @> a.scope AND ${isCurrent}
    RETURNING ${rotated}`,
  // Why a session was not rotated, for the caller to judge.
  findRotation: `
    SELECT ${sessions.select('s')}, ${users.select('u')}
    FROM latchkey_sessions s JOIN latchkey_users u ON u.id = s.user_id
    WHERE s.id = $1`,
  endReusedSession: recording(
    6,
    `
    ended AS (
      DELETE FROM latchkey_sessions s
      WHERE s.id = $4::uuid AND s.counter > $5::bigint
      RETURNING 'sid' AS kind, s.id::text AS id, NULL::bigint AS generation, NULL::uuid AS except_session_id,
        ${sessions.select('s')}
    )`,
  ),
  endSession: recording(
    6,
    `
    ended AS (
      DELETE FROM latchkey_sessions
      WHERE id = $4::uuid AND ($5::uuid IS NULL OR user_id = $5::uuid)
      RETURNING 'sid' AS kind, id::text AS id, NULL::bigint AS generation, NULL::uuid AS except_session_id
    )`,
  ),
  findSession: `SELECT ${sessions.list} FROM latchkey_sessions WHERE id = $1`,
  listSessions: `
    SELECT ${sessions.select('s')}
    FROM latchkey_sessions s JOIN latchkey_users u ON ${isCurrent}
    WHERE s.user_id = $1 AND (s.created_at, s.id) < ($2::bigint, $3::uuid)
      AND $4::bigint < s.refreshed_at + $5::bigint AND $4::bigint < s.created_at + $6::bigint
    ORDER BY s.created_at DESC, s.id DESC
    LIMIT $7`,

  // $8: whether it names one thing, which is revoked or not.
  revoke: recording(
    9,
    `
    ended AS (
      SELECT $4::text AS kind, $5::text AS id, $6::bigint AS generation, $7::uuid AS except_session_id
      WHERE NOT $8::boolean OR NOT EXISTS (
        SELECT 1 FROM latchkey_revocations r WHERE r.kind = $4::text AND r.id = $5::text AND r.expires_at > $2::bigint)
    )`,
  ),
  // A part for each line, in the order of its numbers and of at most $9 rows.
  revocationsSince: Array.from(
    { length: revocationLines },
    (_, line) => `
    (SELECT line, number, ${revocations.list}
    FROM latchkey_revocations WHERE line = ${line} AND number > $${line + 1}::bigint
    ORDER BY number LIMIT $${revocationLines + 1}::bigint)`,
  ).join(' UNION ALL'),

  listSigningKeys: `SELECT ${signingKeys.list} FROM latchkey_signing_keys ORDER BY created_at`,
  // Two that follow the same key both pass the WHERE; the unique (alg, follows) lets one of them in.
  addSigningKey: telling(
    signingKeys.count + 2,
    `
    INSERT INTO latchkey_signing_keys (${signingKeys.list}, follows)
    SELECT ${signingKeys.parameters}, ${follows}
    WHERE ${follows} = coalesce((
        SELECT k.kid FROM latchkey_signing_keys k WHERE k.alg = ${signingKeys.parameter('alg')}
        ORDER BY k.created_at DESC LIMIT 1), '')
      AND NOT EXISTS (
        SELECT 1 FROM latchkey_signing_keys k
        WHERE k.alg = ${signingKeys.parameter('alg')} AND k.created_at >= ${signingKeys.parameter('createdAt')})
    ON CONFLICT DO NOTHING`,
    'kid',
  ),
  removeSigningKey: telling(2, 'DELETE FROM latchkey_signing_keys WHERE kid = $1::text', 'kid'),
  resealSigningKey: `
    UPDATE latchkey_signing_keys SET sealed_private_key = $3::bytea
    WHERE kid = $1::text AND sealed_private_key = $2::bytea
    RETURNING kid`,
  // As `recording`, for several: the line goes on by as many numbers as there are keys at most, $5.
  withdrawSigningKeys: `
    WITH ended AS (
      DELETE FROM latchkey_signing_keys WHERE kid = ANY($4::text[]) RETURNING kid
    ),
    placed AS (
      SELECT kid, row_number() OVER (ORDER BY kid) AS place FROM ended
    ),
    head AS (
      INSERT INTO latchkey_revocation_heads AS h (line, number)
      SELECT $1::smallint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $5::bigint
      FROM placed WHERE place = 1
      ON CONFLICT (line) DO UPDATE SET number = greatest(h.number + $5::bigint, excluded.number)
      RETURNING h.line, h.number
    ),
    recorded AS (
      INSERT INTO latchkey_revocations (line, number, kind, id, revoked_at, expires_at)
      SELECT head.line, head.number - $5::bigint + placed.place, 'key', placed.kid, $2::bigint, $3::bigint
      FROM head, placed
      RETURNING number
    ),${auditing(6, `EXISTS (SELECT 1 FROM recorded) AND EXISTS (SELECT 1 FROM ended WHERE kid = ($4::text[])[g.place])`)}
    SELECT kid FROM ended`,

  findFailures: `SELECT ${failures.list} FROM latchkey_failures WHERE key = ANY($1::text[])`,
  // In the order of the keys, as `lockedFailures`.
  recordFailure: `
    INSERT INTO latchkey_failures AS f (key, tag, count, last_at)
    SELECT k.key, k.tag, 1, $3::bigint FROM unnest($1::text[], $2::text[]) AS k (key, tag) ORDER BY k.key
    ON CONFLICT (key) DO UPDATE SET
      count = CASE WHEN f.tag IS NOT DISTINCT FROM excluded.tag THEN f.count + 1 ELSE 1 END,
      last_at = excluded.last_at, tag = excluded.tag
    WHERE f.tag IS NOT DISTINCT FROM excluded.tag
      OR f.count < $4::bigint OR f.last_at < $5::bigint OR f.last_at > $6::bigint
    RETURNING ${failures.list}`,
  capFailures: `
    UPDATE latchkey_failures SET last_at = $3::bigint
    WHERE last_at > $3::bigint AND key IN (${lockedFailures})`,
  // No row: another call took the slot. Nothing free: the bound, or slots of what has expired.
  issueRecord: `
    WITH free_owner AS (${freeSlot('owner', perOwner, start)}),
    free_source AS (${freeSlot('source', perSource, start)}),
    issued AS (
      INSERT INTO latchkey_records (${records.list}, owner_slot, source_slot)
      SELECT ${records.parameters}, free_owner.slot, free_source.slot FROM free_owner, free_source
      ON CONFLICT DO NOTHING
      RETURNING id
    )
    SELECT (SELECT count(*) FROM issued) AS issued, (SELECT count(*) FROM free_owner, free_source) AS free`,
  removeExpiredRecords: `
    DELETE FROM latchkey_records
    WHERE kind = $1::text AND (owner = $2::text OR source = $3::text) AND expires_at <= $4::bigint
    RETURNING id`,
  findRecord: `
    SELECT ${records.list} FROM latchkey_records
    WHERE kind = $1::text AND id = $2::text AND expires_at > $3::bigint`,
  takeRecord: takingRecord(1),
  missRecord: `
    UPDATE latchkey_records r SET misses = r.misses + 1, version = r.version + 1,
      spent_at = CASE WHEN r.misses + 1 >= $4::bigint THEN $3::bigint END,
      expires_at = CASE WHEN r.misses + 1 >= $4::bigint THEN $3::bigint ELSE r.expires_at END
    WHERE ${isLiveRecord()}
    RETURNING misses`,
  replaceRecord: `
    UPDATE latchkey_records r SET data = $5::text, version = r.version + 1
    WHERE ${isLiveRecord()} AND r.version = $4::bigint
    RETURNING id`,
  endRecords: `
    DELETE FROM latchkey_records WHERE owner = $1::text AND kind = ANY($2::text[]) AND spent_at IS NULL
    RETURNING id`,
  removeRecord: 'DELETE FROM latchkey_records WHERE id = $1',

  clearFailures: `DELETE FROM latchkey_failures WHERE key IN (${lockedFailures})`,

  addAudit: `WITH ${auditing(1, 'true')}
    SELECT id FROM audited`,
  // A part for each line, as `revocationsSince`.
  auditSince: Array.from(
    { length: auditLines },
    (_, line) => `
    (SELECT line, number, ${audit.list}
    FROM latchkey_audit WHERE line = ${line} AND number > $${line + 1}::bigint
    ORDER BY number LIMIT $${auditLines + 1}::bigint)`,
  ).join(' UNION ALL'),
  auditHeads: 'SELECT line, number FROM latchkey_audit_heads',
  removeAudit: 'DELETE FROM latchkey_audit WHERE id = $1::uuid RETURNING id',
} as const

/**
 * One step of a sweep: looks at the rows behind a key, and removes the dead ones among them. Says too how many it has
 * seen whose times lie in the future: they are put right by another statement, for none may change a table twice.
 *
 * Whether a row is dead is asked in the DELETE, which looks again at a row that was refreshed meanwhile.
 */
const sweeping = (table: string, key: string, after: string, isDead: string, isAhead = 'false') => `
  WITH looked AS (
    SELECT ${key}, ${isAhead} AS is_ahead FROM ${table} WHERE (${key}) > (${after}) ORDER BY ${key} LIMIT $1
  ),
  removed AS (DELETE FROM ${table} t WHERE (${key}) IN (SELECT ${key} FROM looked) AND ${isDead} RETURNING 1 AS one)
  SELECT ${key}, (SELECT count(*) FROM looked) AS looked, (SELECT count(*) FROM removed) AS removed,
    (SELECT count(*) FROM looked WHERE is_ahead) AS ahead
  FROM looked ORDER BY ${key.replaceAll(',', ' DESC,')} DESC LIMIT 1`

/** The rows of an index between two ids, the newest first. */
const auditPage = `
    SELECT ${audit.list} FROM latchkey_audit
    WHERE id < $1::uuid AND id >= $2::uuid ORDER BY id DESC LIMIT $3`
/**
 * Compared and sorted by both columns of the index. With `user_id = $4 ORDER BY id`, a planner that takes the rows of a
 * busy user for evenly spread goes back through the rows of everybody, all of them where that user's are the oldest.
 */
const auditPageOf = (column: string, type: string) => `
    SELECT ${audit.list} FROM latchkey_audit
    WHERE ${column} IS NOT NULL
      AND (${column}, id) < ($4::${type}, $1::uuid) AND (${column}, id) >= ($4::${type}, $2::uuid)
    ORDER BY ${column} DESC, id DESC LIMIT $3`
/** The same, from the row $2 on to the newest. */
const auditBehind = (column: string, value: string) => `
        ${column} IS NOT NULL AND (${column}, id) > (${value}, $2::uuid)
        AND (${column}, id) <= (${value}, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
        ORDER BY ${column}, id`

/** Planned anew each time: a plan for any LIMIT and any position would read the whole table once it is large. */
const planned = {
  listClients: `SELECT ${clients.list} FROM latchkey_clients WHERE id > $1::text ORDER BY id LIMIT $2`,
  // From the prefix $2 on, before $3, behind $1; of the $4 first those that were made after $5. The last of them comes
  // in any case, for the next page begins behind it.
  listUsersByName: `
    SELECT ${users.list}, place FROM (
      SELECT ${users.list}, row_number() OVER (ORDER BY name_key COLLATE "C") AS place FROM (
        SELECT ${users.list} FROM latchkey_users
        WHERE name_key COLLATE "C" > $1::text AND name_key COLLATE "C" >= $2::text AND name_key COLLATE "C" < $3::text
        ORDER BY name_key COLLATE "C" LIMIT $4::bigint
      ) AS looked
    ) AS placed
    WHERE created_at > $5::bigint OR place = $4::bigint
    ORDER BY place`,
  listUsersByCreation: `
    SELECT ${users.list} FROM latchkey_users
    WHERE (created_at, id) > ($1::bigint, $2::uuid) ORDER BY created_at, id LIMIT $3::bigint`,
  // "At most the session's", not "unequal": a session may have been carried into a generation that this snapshot does
  // not show yet.
  sweepSessions: sweeping(
    'latchkey_sessions',
    'id',
    '$2::uuid',
    `($3::bigint >= t.refreshed_at + $4::bigint OR $3::bigint >= t.created_at + $5::bigint OR NOT EXISTS (
      SELECT 1 FROM latchkey_users u
      WHERE u.id = t.user_id AND u.generation <= t.generation AND u.disabled_at IS NULL))`,
    'greatest(created_at, refreshed_at) > $6::bigint',
  ),
  // From $1 to $2; $3 is now, and what is later than $4 lies in the future. A rotation was at $5, or its grace would
  // begin anew.
  putSessionsRight: `
    UPDATE latchkey_sessions SET
      created_at = CASE WHEN created_at > $4::bigint THEN $3::bigint ELSE created_at END,
      refreshed_at = CASE WHEN refreshed_at > $4::bigint THEN $5::bigint ELSE refreshed_at END
    WHERE id > $1::uuid AND id <= $2::uuid AND greatest(created_at, refreshed_at) > $4::bigint`,
  sweepFailures: sweeping('latchkey_failures', 'key', '$2::text', 't.last_at < $3::bigint', 'last_at > $4::bigint'),
  putFailuresRight: `
    UPDATE latchkey_failures SET last_at = $3::bigint
    WHERE key > $1::text AND key <= $2::text AND last_at > $4::bigint`,
  sweepRevocations: sweeping(
    'latchkey_revocations',
    'line, number',
    '$2::smallint, $3::bigint',
    't.expires_at <= $4::bigint',
  ),
  sweepRecords: sweeping('latchkey_records', 'id', '$2::text', 't.expires_at <= $3::bigint', 'created_at > $4::bigint'),
  putRecordsRight: `
    UPDATE latchkey_records SET created_at = $3::bigint, expires_at = $3::bigint + expires_at - created_at
    WHERE id > $1::text AND id <= $2::text AND created_at > $4::bigint`,
  auditPage,
  auditPageOfUser: auditPageOf('user_id', 'uuid'),
  auditPageOfSession: auditPageOf('session', 'uuid'),
  auditPageOfClient: auditPageOf('client', 'text'),
  // The oldest deletion after $1 whose user may have rows that tell of a person; $2: or $1 itself.
  nextErasure: `
    SELECT id, user_id, at FROM latchkey_audit
    WHERE erases AND id >= $1::uuid AND (id > $1::uuid OR $2::boolean) ORDER BY id LIMIT 1`,
  // About the user $1 and of what they did, the next $3 rows after $2.
  eraseAudit: `
    WITH looked AS (
      (SELECT id FROM latchkey_audit WHERE ${auditBehind('user_id', '$1::uuid')} LIMIT $3)
      UNION
      (SELECT id FROM latchkey_audit WHERE ${auditBehind('made_by', '$1::uuid::text')} LIMIT $3)
      ORDER BY id LIMIT $3
    ),
    erased AS (
      UPDATE latchkey_audit SET address = NULL, user_agent = NULL
      WHERE id IN (SELECT id FROM looked) AND (address IS NOT NULL OR user_agent IS NOT NULL)
      RETURNING id
    )
    SELECT id, (SELECT count(*) FROM looked) AS looked FROM looked ORDER BY id DESC LIMIT 1`,
  endErasure: 'UPDATE latchkey_audit SET erases = false WHERE id = $1::uuid RETURNING id',
  // By their ids, which rise with time.
  sweepAudit: `
    DELETE FROM latchkey_audit
    WHERE id IN (SELECT id FROM latchkey_audit WHERE id < $1::uuid ORDER BY id LIMIT $2)
    RETURNING id`,
  findAuditAhead: 'SELECT id FROM latchkey_audit WHERE id >= $1::uuid ORDER BY id DESC LIMIT $2',
  putAuditRight: `
    UPDATE latchkey_audit a SET id = g.next, at = $3::bigint
    FROM unnest($1::uuid[], $2::uuid[]) AS g (id, next) WHERE a.id = g.id`,
  schemaVersion: 'SELECT max(version) AS version FROM latchkey_schema',
  // Through the indexes of texts, which are broken when the sort order of the system changed under them (a new glibc).
  checkNames: `
    SELECT u.id, (SELECT count(*) FROM latchkey_users n WHERE n.name_key = u.name_key) AS names,
      (SELECT count(*) FROM latchkey_users n WHERE n.email_key IS NOT NULL AND n.email_key = u.email_key)
        + CASE WHEN u.email_key IS NULL THEN 1 ELSE 0 END AS addresses,
      (SELECT count(*) FROM latchkey_users n
        WHERE n.external_id IS NOT NULL AND n.external_id = u.external_id AND n.source = u.source)
        + CASE WHEN u.external_id IS NULL THEN 1 ELSE 0 END AS imports
    FROM (
      SELECT id, name_key, email_key, source, external_id FROM latchkey_users WHERE id > $1::uuid ORDER BY id LIMIT $2
    ) u
    ORDER BY u.id`,
  findForImport: usersOfImport,
  // In the order of their ids, so that two imports do not wait for each other.
  lockForImport: `${usersOfImport} ORDER BY u.id FOR UPDATE`,
  // A name or address that was taken in between is left out; see `importUsers` of `store.ts`.
  importUsers: `
    INSERT INTO latchkey_users (${users.list})
    SELECT ${users.unnested('g')} FROM unnest(${users.arrayParameters()}) AS g (${users.list}) ORDER BY g.name_key
    ON CONFLICT DO NOTHING
    RETURNING id`,
  updateImported: `
    UPDATE latchkey_users u SET ${users.assignedFrom('g')}
    FROM unnest(${users.arrayParameters()}) AS g (${users.list})
    WHERE u.id = g.id
    RETURNING u.id`,
} as const

/**
 * Puts rows in, each in the place of the one with its key unless that is ahead of it (see `isAhead` of `rows.ts`). Rows
 * come as one array for each column.
 *
 * @param isFree whether the row `g` may be put in
 * @param extra a column that no row has, and its value
 */
function importing(table: TableName, { isFree = 'true', extra = {} as Record<string, string> } = {}): string {
  const { name, key, list, unnested, arrayParameters, excluded, rising } = tables[table]
  const isNoStepBack = ['true', ...rising.map((column) => `t.${column} <= excluded.${column}`)].join(' AND ')
  return `
    INSERT INTO ${name} AS t (${[list, ...Object.keys(extra)]})
    SELECT ${[unnested('g'), ...Object.values(extra)]}
    FROM unnest(${arrayParameters()}) AS g (${list})
    WHERE ${isFree}
    ON CONFLICT (${key}) DO UPDATE SET ${excluded}
    WHERE ${isNoStepBack}
    RETURNING t.${key}`
}

const imports: { [T in TableName]: string } = {
  // What it follows is nothing that addSigningKey asks for: it has not come in a race, and its predecessor may be long
  // gone.
  signingKeys: importing('signingKeys', { extra: { follows: "'moved: ' || g.kid" } }),
  clients: importing('clients'),
  users: importing('users', {
    isFree: `NOT EXISTS (SELECT 1 FROM latchkey_users n WHERE n.name_key = g.name_key AND n.id <> g.id)
      AND NOT EXISTS (
        SELECT 1 FROM latchkey_users n
        WHERE n.email_key IS NOT NULL AND n.email_key = g.email_key AND n.id <> g.id)
      AND NOT EXISTS (
        SELECT 1 FROM latchkey_users n
        WHERE n.external_id IS NOT NULL AND n.external_id = g.external_id AND n.source = g.source AND n.id <> g.id)`,
  }),
  sessions: importing('sessions'),
  failures: importing('failures'),
  records: importing('records'),
  audit: importing('audit', { extra: { erases: `g.event = '${erasingEvent}'` } }),
}

/** For the moving of a table. Planned anew each time: one process uses them now and then. */
export interface MovingStatements {
  /** behind the key $1, at most $2 rows */
  page: Statement
  /** those with the keys $1 */
  find: Statement
  import: Statement
}

function moving(table: TableName): MovingStatements {
  const { name, list, key, keyType } = tables[table]
  return {
    page: { text: `SELECT ${list} FROM ${name} WHERE ${key} > $1::${keyType} ORDER BY ${key} LIMIT $2` },
    find: { text: `SELECT ${list} FROM ${name} WHERE ${key} = ANY($1::${keyType}[])` },
    import: { text: imports[table] },
  }
}

type StatementName = keyof typeof prepared | keyof typeof planned

export const statements = Object.fromEntries([
  ...Object.entries(prepared).map(([name, text]) => [name, { name, text }]),
  ...Object.entries(planned).map(([name, text]) => [name, { text }]),
]) as Record<StatementName, Statement>

export const movingStatements = Object.fromEntries(tableNames.map((table) => [table, moving(table)])) as Record<
  TableName,
  MovingStatements
>

/** All of them by name, for the tests that look at the SQL. */
export const everyStatement: Record<string, Statement> = {
  ...statements,
  ...Object.fromEntries(
    tableNames.flatMap((table) =>
      Object.entries(movingStatements[table]).map(([what, statement]) => [`${what} ${table}`, statement]),
    ),
  ),
}
