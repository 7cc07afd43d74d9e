import { client, session, user } from './columns.ts'

/** One page of a table, by its key. */
const page = (columns: string, from: string, key: string, type: string) =>
  `SELECT ${columns} FROM ${from} WHERE ${key} > $1::${type} ORDER BY ${key} LIMIT $2`

const signingKey = 'kid, alg, public_jwk, sealed_private_key, created_at, signs_from'

/**
 * The statements that move the store's rows and check it, many rows a statement. Planned anew each time, as they are used by one process now and then.
 *
 * Rows come as one array for each column. An array of arrays would be flattened, so the lists in them come as array literals.
 */
export const transfer = {
  exportUsers: page(user, 'latchkey_users u', 'u.id', 'uuid'),
  exportClients: page(client, 'latchkey_clients', 'id', 'text'),
  exportSessions: page(session, 'latchkey_sessions s', 's.id', 'uuid'),
  exportSigningKeys: page(signingKey, 'latchkey_signing_keys', 'kid', 'text'),
  exportFailures: page('key, count, last_at, tag', 'latchkey_failures', 'key', 'text'),

  findUsers: `SELECT ${user} FROM latchkey_users u WHERE u.id = ANY($1::uuid[])`,
  findClients: `SELECT ${client} FROM latchkey_clients WHERE id = ANY($1::text[])`,
  findSessions: `SELECT ${session} FROM latchkey_sessions s WHERE s.id = ANY($1::uuid[])`,
  findSigningKeys: `SELECT ${signingKey} FROM latchkey_signing_keys WHERE kid = ANY($1::text[])`,

  // A row that is as given is not written again, so that a copy that is repeated costs no more than the reading.
  importUsers: `
    INSERT INTO latchkey_users AS u (id, username, name_key, password_hash, roles, created_at, disabled_at, generation)
    SELECT g.id, g.username, g.name_key, g.password_hash, g.roles::text[], g.created_at, g.disabled_at, g.generation
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[])
      AS g (id, username, name_key, password_hash, roles, created_at, disabled_at, generation)
    WHERE NOT EXISTS (SELECT 1 FROM latchkey_users n WHERE n.name_key = g.name_key AND n.id <> g.id)
    ON CONFLICT (id) DO UPDATE SET
      username = excluded.username, name_key = excluded.name_key, password_hash = excluded.password_hash, roles = excluded.roles,
      created_at = excluded.created_at, disabled_at = excluded.disabled_at, generation = excluded.generation
    WHERE u.generation <= excluded.generation
    RETURNING u.id`,
  importClients: `
    INSERT INTO latchkey_clients AS c (${client})
    SELECT g.id, g.generation, g.created_at, g.disabled_at, g.is_declared, g.type,
      g.grants::text[], g.scopes::text[], g.audience::text[], g.introspect, g.secrets
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])
      AS g (${client})
    ON CONFLICT (id) DO UPDATE SET
      generation = excluded.generation, created_at = excluded.created_at, disabled_at = excluded.disabled_at,
      is_declared = excluded.is_declared, type = excluded.type, grants = excluded.grants, scopes = excluded.scopes,
      audience = excluded.audience, introspect = excluded.introspect, secrets = excluded.secrets
    WHERE c.generation <= excluded.generation
    RETURNING c.id`,
  importSessions: `
    INSERT INTO latchkey_sessions AS s
      (id, user_id, client_id, client_created_at, scope, generation, counter, created_at, refreshed_at, address, user_agent)
    SELECT g.id, g.user_id, g.client_id, g.client_created_at, g.scope::text[], g.generation, g.counter, g.created_at, g.refreshed_at,
      g.address, g.user_agent
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
        $10::text[], $11::text[])
      AS g (id, user_id, client_id, client_created_at, scope, generation, counter, created_at, refreshed_at, address, user_agent)
    ON CONFLICT (id) DO UPDATE SET
      user_id = excluded.user_id, client_id = excluded.client_id, client_created_at = excluded.client_created_at, scope = excluded.scope,
      generation = excluded.generation, counter = excluded.counter, created_at = excluded.created_at, refreshed_at = excluded.refreshed_at,
      address = excluded.address, user_agent = excluded.user_agent
    WHERE s.counter <= excluded.counter AND s.generation <= excluded.generation
    RETURNING s.id`,
  // What it follows is nothing that addSigningKey asks for: it has not come in a race, and its predecessor may be long gone.
  importSigningKeys: `
    INSERT INTO latchkey_signing_keys (kid, alg, public_jwk, sealed_private_key, created_at, signs_from, follows)
    SELECT g.kid, g.alg, g.public_jwk, g.sealed_private_key, g.created_at, g.signs_from, 'moved: ' || g.kid
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[])
      AS g (kid, alg, public_jwk, sealed_private_key, created_at, signs_from)
    ON CONFLICT (kid) DO UPDATE SET
      alg = excluded.alg, public_jwk = excluded.public_jwk, sealed_private_key = excluded.sealed_private_key,
      created_at = excluded.created_at, signs_from = excluded.signs_from
    RETURNING kid`,
  importFailures: `
    INSERT INTO latchkey_failures (key, count, last_at, tag)
    SELECT g.key, g.count, g.last_at, g.tag FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS g (key, count, last_at, tag)
    ON CONFLICT (key) DO UPDATE SET count = excluded.count, last_at = excluded.last_at, tag = excluded.tag
    RETURNING key`,

  schemaVersion: 'SELECT max(version) AS version FROM latchkey_schema',
  // Through the index of the names, which is broken when the sort order of the system changed under it (a new glibc).
  checkNames: `
    SELECT u.id, (SELECT count(*) FROM latchkey_users n WHERE n.name_key = u.name_key) AS holders
    FROM (SELECT id, name_key FROM latchkey_users WHERE id > $1::uuid ORDER BY id LIMIT $2) u
    ORDER BY u.id`,
} as const
