import { setTimeout as sleep } from 'node:timers/promises'
import { StoreTooNew } from '../store.ts'
import { type Connection, type Postgres, sqlState } from './pool.ts'

/**
 * The schema, as the steps that lead to it. A step that was ever released is never edited: what comes next is a new
 * one.
 *
 * Expand and contract: a step only adds, and what it adds has a default or may be null, so that the release before goes
 * on working on the new schema while replicas are replaced one by one. Every step can be run again after it was cut off
 * in the middle (`IF NOT EXISTS`), as YugabyteDB does not undo DDL with its transaction.
 *
 * A step that the release before cannot go on with begins a new format: its version is the next multiple of 1000. A
 * release refuses a schema of a later format than its own.
 *
 * There are no foreign keys: a session outlived by its user is dead by its generation and swept later, so that deleting
 * a user with many sessions is one row, opening a session locks no user, and on an engine that spreads its tables no
 * row drags another along.
 */
export const migrations: readonly { version: number; statements: readonly string[] }[] = [
  {
    version: 1,
    statements: [
      `CREATE TABLE IF NOT EXISTS latchkey_users (
        id uuid PRIMARY KEY,
        generation bigint NOT NULL,
        created_at bigint NOT NULL,
        disabled_at bigint,
        username text NOT NULL,
        name_key text NOT NULL UNIQUE,
        password_hash text NOT NULL,
        roles text[] NOT NULL
      )`,
      // Room is left in each page, and no index holds a column that a refresh changes, so that the new version of a row
      // stays in its page and touches no index (PostgreSQL's heap-only tuples): a refresh writes one row and nothing
      // else.
      `CREATE TABLE IF NOT EXISTS latchkey_sessions (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        generation bigint NOT NULL,
        counter bigint NOT NULL,
        created_at bigint NOT NULL,
        refreshed_at bigint NOT NULL,
        client_id text NOT NULL,
        address text NOT NULL,
        user_agent text NOT NULL,
        scope text[] NOT NULL
      ) WITH (fillfactor = 70)`,
      'CREATE INDEX IF NOT EXISTS latchkey_sessions_by_user ON latchkey_sessions (user_id, created_at DESC, id DESC)',
      `CREATE TABLE IF NOT EXISTS latchkey_revocation_heads (
        line smallint PRIMARY KEY,
        number bigint NOT NULL
      ) WITH (fillfactor = 10)`,
      `CREATE TABLE IF NOT EXISTS latchkey_revocations (
        line smallint NOT NULL,
        number bigint NOT NULL,
        generation bigint,
        revoked_at bigint NOT NULL,
        expires_at bigint NOT NULL,
        except_session_id uuid,
        kind text NOT NULL,
        id text NOT NULL,
        PRIMARY KEY (line, number)
      )`,
      `CREATE TABLE IF NOT EXISTS latchkey_signing_keys (
        kid text PRIMARY KEY,
        created_at bigint NOT NULL,
        signs_from bigint NOT NULL,
        alg text NOT NULL,
        public_jwk text NOT NULL,
        sealed_private_key bytea,
        follows text NOT NULL,
        UNIQUE (alg, follows)
      )`,
      `CREATE TABLE IF NOT EXISTS latchkey_failures (
        key text PRIMARY KEY,
        count bigint NOT NULL,
        last_at bigint NOT NULL
      ) WITH (fillfactor = 70)`,
    ],
  },
  {
    version: 2,
    statements: [
      // The secrets of a client are read and replaced together, so they are one text (JSON) and no rows of their own.
      `CREATE TABLE IF NOT EXISTS latchkey_clients (
        id text PRIMARY KEY,
        generation bigint NOT NULL,
        created_at bigint NOT NULL,
        disabled_at bigint,
        is_declared boolean NOT NULL,
        type text NOT NULL,
        grants text[] NOT NULL,
        scopes text[] NOT NULL,
        audience text[] NOT NULL,
        introspect text NOT NULL,
        secrets text NOT NULL
      )`,
    ],
  },
  {
    version: 3,
    statements: [
      'ALTER TABLE latchkey_sessions ADD COLUMN IF NOT EXISTS client_created_at bigint',
      // Whether a token is revoked already.
      'CREATE INDEX IF NOT EXISTS latchkey_revocations_by_id ON latchkey_revocations (kind, id)',
      'ALTER TABLE latchkey_failures ADD COLUMN IF NOT EXISTS tag text',
    ],
  },
  {
    version: 4,
    statements: [
      `CREATE TABLE IF NOT EXISTS latchkey_records (
        id text PRIMARY KEY,
        created_at bigint NOT NULL,
        expires_at bigint NOT NULL,
        misses bigint NOT NULL,
        version bigint NOT NULL,
        spent_at bigint,
        owner_slot bigint,
        source_slot bigint,
        kind text NOT NULL,
        owner text NOT NULL,
        source text NOT NULL,
        data text NOT NULL,
        gave text
      )`,
      // A live record has a slot of its owner and one of its source: an owner with n slots has at most n, whatever is
      // raced.
      `CREATE UNIQUE INDEX IF NOT EXISTS latchkey_records_by_owner ON latchkey_records (kind, owner, owner_slot)`,
      `CREATE UNIQUE INDEX IF NOT EXISTS latchkey_records_by_source ON latchkey_records (kind, source, source_slot)`,
    ],
  },
  {
    version: 5,
    statements: [
      'ALTER TABLE latchkey_users ADD COLUMN IF NOT EXISTS email text',
      'ALTER TABLE latchkey_users ADD COLUMN IF NOT EXISTS email_key text',
      'ALTER TABLE latchkey_users ADD COLUMN IF NOT EXISTS source text',
      'ALTER TABLE latchkey_users ADD COLUMN IF NOT EXISTS external_id text',
      // Partial, so that users without the one or the other cost nothing.
      `CREATE UNIQUE INDEX IF NOT EXISTS latchkey_users_by_email ON latchkey_users (email_key)
        WHERE email_key IS NOT NULL`,
      `CREATE UNIQUE INDEX IF NOT EXISTS latchkey_users_by_external_id ON latchkey_users (external_id, source)
        WHERE external_id IS NOT NULL`,
    ],
  },
  {
    version: 6,
    statements: [
      // By the bytes of the names, in the order of which a prefix is a range; and no change of the system's sort order
      // can break it.
      `CREATE INDEX IF NOT EXISTS latchkey_users_by_name ON latchkey_users ((name_key COLLATE "C"))`,
      'CREATE INDEX IF NOT EXISTS latchkey_users_by_creation ON latchkey_users (created_at, id)',
    ],
  },
  {
    version: 7,
    statements: [
      // A row that was moved here has no place in a line, for followers of another store have seen it there.
      `CREATE TABLE IF NOT EXISTS latchkey_audit (
        id uuid PRIMARY KEY,
        number bigint,
        at bigint NOT NULL,
        line smallint,
        erases boolean NOT NULL,
        user_id uuid,
        session uuid,
        event text NOT NULL,
        outcome text NOT NULL,
        client text,
        made_by text,
        address text,
        user_agent text,
        request_id text,
        detail text
      )`,
      'CREATE INDEX IF NOT EXISTS latchkey_audit_by_place ON latchkey_audit (line, number) WHERE line IS NOT NULL',
      'CREATE INDEX IF NOT EXISTS latchkey_audit_by_user ON latchkey_audit (user_id, id) WHERE user_id IS NOT NULL',
      'CREATE INDEX IF NOT EXISTS latchkey_audit_by_session ON latchkey_audit (session, id) WHERE session IS NOT NULL',
      'CREATE INDEX IF NOT EXISTS latchkey_audit_by_client ON latchkey_audit (client, id) WHERE client IS NOT NULL',
      'CREATE INDEX IF NOT EXISTS latchkey_audit_by_actor ON latchkey_audit (made_by, id) WHERE made_by IS NOT NULL',
      // Deleted users whose rows may still tell of a person.
      'CREATE INDEX IF NOT EXISTS latchkey_audit_erasing ON latchkey_audit (id) WHERE erases',
      `CREATE TABLE IF NOT EXISTS latchkey_audit_heads (
        line smallint PRIMARY KEY,
        number bigint NOT NULL
      ) WITH (fillfactor = 10)`,
    ],
  },
  {
    version: 8,
    statements: [
      'ALTER TABLE latchkey_users ADD COLUMN IF NOT EXISTS locale text',
      'ALTER TABLE latchkey_records ADD COLUMN IF NOT EXISTS due_at bigint',
      // What is to be sent, and no more: a look at it costs the same however many records there are.
      `CREATE INDEX IF NOT EXISTS latchkey_records_by_due ON latchkey_records (kind, due_at, id)
        WHERE due_at IS NOT NULL AND spent_at IS NULL`,
    ],
  },
  {
    version: 9,
    statements: [
      'ALTER TABLE latchkey_users ADD COLUMN IF NOT EXISTS has_factors boolean',
      'ALTER TABLE latchkey_sessions ADD COLUMN IF NOT EXISTS auth_at bigint',
      'ALTER TABLE latchkey_sessions ADD COLUMN IF NOT EXISTS amr text[]',
      'ALTER TABLE latchkey_sessions ADD COLUMN IF NOT EXISTS factor text',
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS first_party boolean',
      // One row for each user, and not in that of the user: a refresh reads users, and nothing of this.
      `CREATE TABLE IF NOT EXISTS latchkey_factors (
        user_id uuid PRIMARY KEY,
        factors text NOT NULL,
        version bigint NOT NULL
      )`,
    ],
  },
  {
    version: 10,
    statements: [
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS name text',
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS redirect_uris text[]',
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS post_logout_redirect_uris text[]',
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS backchannel_logout_uri text',
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS pkce text',
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS consent text',
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS id_token_alg text',
      'ALTER TABLE latchkey_clients ADD COLUMN IF NOT EXISTS require_par boolean',
      'ALTER TABLE latchkey_sessions ADD COLUMN IF NOT EXISTS parent uuid',
      'CREATE INDEX IF NOT EXISTS latchkey_sessions_by_parent ON latchkey_sessions (parent) WHERE parent IS NOT NULL',
      `CREATE TABLE IF NOT EXISTS latchkey_browser_sessions (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        generation bigint NOT NULL,
        secret_hash text NOT NULL,
        created_at bigint NOT NULL,
        seen_at bigint NOT NULL,
        address text NOT NULL,
        user_agent text NOT NULL,
        auth_at bigint NOT NULL,
        amr text[] NOT NULL,
        factor text
      ) WITH (fillfactor = 70)`,
      `CREATE INDEX IF NOT EXISTS latchkey_browser_sessions_by_user
        ON latchkey_browser_sessions (user_id, created_at DESC, id DESC)`,
      `CREATE TABLE IF NOT EXISTS latchkey_consents (
        user_id uuid PRIMARY KEY,
        consents text NOT NULL,
        version bigint NOT NULL
      )`,
    ],
  },
]

/** The steps that were taken, one row each. */
const schemaTable =
  'CREATE TABLE IF NOT EXISTS latchkey_schema (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL)'

/** Formats are counted from 1. */
const formatOf = (version: number) => 1 + Math.floor(version / 1000)

const undefinedTable = '42P01'

/**
 * What a replica may get when another is taking the same step: unique violation (also of the catalogue, by `IF NOT
 * EXISTS`), duplicate table or object, serialization failure, deadlock, "tuple concurrently updated". Each means: look
 * again.
 */
const lostRace = new Set(['23505', '42P07', '42710', '40001', '40P01', 'XX000'])

/** A step on a large table takes its time; a replica that waits for another's step waits as long. */
const stepMs = 10 * 60_000
const triesAtMost = 50

/**
 * Brings the schema of the database up to this release's. One that is newer already, and only has more, is left as it
 * is.
 *
 * @param steps the release's own, but in tests
 * @returns whether there was none, and this made it
 * @throws StoreUnavailable when the database cannot be reached, or refuses a step
 * @throws {StoreTooNew} for a schema of a later format
 */
export async function migrate(postgres: Postgres, steps = migrations): Promise<boolean> {
  let isNew = false
  let newest = 0
  const known = formatOf(Math.max(...steps.map(({ version }) => version)))
  await postgres.connected(async (connection) => {
    for (let tries = 1; ; tries++) {
      try {
        const taken = await stepsTaken(connection)
        newest = Math.max(0, ...taken)
        if (formatOf(newest) > known) return
        for (const { version, statements } of steps) {
          if (taken.has(version)) continue
          await connection.query('BEGIN')
          await connection.query(`SET LOCAL statement_timeout = ${stepMs}`)
          // First of all, so that a second replica waits here for the first one's commit, and then finds the row taken.
          await connection.query(`INSERT INTO latchkey_schema (version, applied_at) VALUES (${version}, now())`)
          for (const statement of statements) await connection.query(statement, stepMs)
          await connection.query('COMMIT')
          isNew ||= version === 1
        }
        return
      } catch (error) {
        if (!lostRace.has(sqlState(error) ?? '') || tries === triesAtMost) throw error
        await connection.query('ROLLBACK')
        await sleep(20 + Math.random() * 80)
      }
    }
  })
  if (formatOf(newest) > known) throw new StoreTooNew(formatOf(newest), known)
  return isNew
}

/**
 * The steps that were taken. Where nothing is to be done, this is all that runs, and needs no more than the right to
 * read.
 */
async function stepsTaken(connection: Connection): Promise<Set<number>> {
  try {
    const rows = (await connection.query('SELECT version FROM latchkey_schema')) as { version: number | string }[]
    return new Set(rows.map(({ version }) => Number(version)))
  } catch (error) {
    if (sqlState(error) !== undefinedTable) throw error
    await connection.query(schemaTable)
    return new Set()
  }
}
