import type { Client } from '../../domain/client.ts'
import type { Failures } from '../../domain/failures.ts'
import { isUuid } from '../../domain/ids.ts'
import type { Revocation } from '../../domain/revocation.ts'
import type { Session } from '../../domain/session.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'
import type { User } from '../../domain/user.ts'

/*
 * The rows of the PostgreSQL store as its statements return them, and as the service knows them.
 */

export interface UserRow {
  u_id: string
  u_username: string
  u_name_key: string
  u_password_hash: string
  u_roles: string[]
  u_created_at: number
  u_disabled_at: number | null
  u_generation: number
}

export interface ClientRow {
  id: string
  generation: number
  created_at: number
  disabled_at: number | null
  is_declared: boolean
  type: Client['type']
  grants: string[]
  scopes: string[]
  audience: string[]
  introspect: Client['introspect']
  secrets: string
}

export interface SessionRow {
  s_id: string
  s_user_id: string
  s_client_id: string
  s_client_created_at: number | null
  s_scope: string[]
  s_generation: number
  s_counter: number
  s_created_at: number
  s_refreshed_at: number
  s_address: string
  s_user_agent: string
}

export interface RevocationRow {
  line: number
  number: number
  kind: Revocation['kind']
  id: string
  generation: number | null
  except_session_id: string | null
  revoked_at: number
  expires_at: number
}

export interface SigningKeyRow {
  kid: string
  alg: SigningKeyRecord['alg']
  public_jwk: string
  sealed_private_key: Buffer | null
  created_at: number
  signs_from: number
}

export interface FailuresRow {
  key: string
  count: number
  last_at: number
  tag: string | null
}

export const toUser = (row: UserRow): User => ({
  id: row.u_id,
  username: row.u_username,
  nameKey: row.u_name_key,
  passwordHash: row.u_password_hash,
  roles: row.u_roles,
  createdAt: row.u_created_at,
  generation: row.u_generation,
  ...(row.u_disabled_at !== null && { disabledAt: row.u_disabled_at }),
})

export const toClient = (row: ClientRow): Client => ({
  id: row.id,
  type: row.type,
  grants: row.grants,
  scopes: row.scopes,
  audience: row.audience,
  introspect: row.introspect,
  secrets: JSON.parse(row.secrets),
  createdAt: row.created_at,
  isDeclared: row.is_declared,
  generation: row.generation,
  ...(row.disabled_at !== null && { disabledAt: row.disabled_at }),
})

/** The values of a client, in the order of the columns. */
export const clientValues = ({ id, type, grants, scopes, audience, introspect, secrets, ...rest }: Client) => [
  ...[id, rest.generation, rest.createdAt, rest.disabledAt, rest.isDeclared, type],
  ...[grants, scopes, audience, introspect, JSON.stringify(secrets)],
]

export const toSession = (row: SessionRow): Session => ({
  id: row.s_id,
  userId: row.s_user_id,
  clientId: row.s_client_id,
  scope: row.s_scope,
  generation: row.s_generation,
  counter: row.s_counter,
  createdAt: row.s_created_at,
  refreshedAt: row.s_refreshed_at,
  address: row.s_address,
  userAgent: row.s_user_agent,
  ...(row.s_client_created_at !== null && { clientCreatedAt: row.s_client_created_at }),
})

export const toRevocation = ({ kind, id, generation, except_session_id, revoked_at, expires_at }: RevocationRow) =>
  ({
    kind,
    id,
    revokedAt: revoked_at,
    expiresAt: expires_at,
    ...(generation !== null && { generation }),
    ...(except_session_id !== null && { exceptSessionId: except_session_id }),
  }) as Revocation

export const toSigningKey = (row: SigningKeyRow): SigningKeyRecord => ({
  kid: row.kid,
  alg: row.alg,
  publicJwk: row.public_jwk,
  createdAt: row.created_at,
  signsFrom: row.signs_from,
  ...(row.sealed_private_key !== null && { sealedPrivateKey: row.sealed_private_key }),
})

export const toFailures = ({ count, last_at, tag }: FailuresRow): Failures => ({
  count,
  lastAt: last_at,
  ...(tag !== null && { tag }),
})

/** What is no UUID is the id of nothing; the database would not compare it but fail. */
export const uuidOrNull = (text: string | undefined) => (text !== undefined && isUuid(text) ? text : null)
export const firstUuid = '00000000-0000-0000-0000-000000000000'
