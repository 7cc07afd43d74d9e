import { Type } from '@sinclair/typebox'
import { Audience, ClientId, ClientType, GrantTypes, ScopeNames } from './clients.ts'
import { Id, Roles, Timestamp, Username } from './parts.ts'

/** What `/admin/` shows. An answer has these members and no others: no hash and no key is among them. */

export const AdminUser = Type.Object({
  id: Id,
  username: Username,
  roles: Roles,
  created_at: Timestamp,
  disabled_at: Type.Optional(Timestamp),
})

export const AdminSession = Type.Object({
  id: Id,
  created_at: Timestamp,
  last_used_at: Timestamp,
  client_id: Type.String(),
  scope: Type.Optional(Type.String()),
  address: Type.String(),
  user_agent: Type.String(),
})

export const Introspect = Type.Union([Type.Boolean(), Type.Literal('all')], {
  description: 'Whether it may ask about tokens of others: about those meant for its audience, or `all`',
})

export const AdminClient = Type.Object({
  client_id: ClientId,
  type: ClientType,
  grants: GrantTypes,
  scopes: ScopeNames,
  audience: Audience,
  introspect: Introspect,
  declared: Type.Boolean({ description: 'whether it is in AUTH_CLIENTS_FILE' }),
  created_at: Timestamp,
  disabled_at: Type.Optional(Timestamp),
  secrets: Type.Array(Type.Object({ created_at: Timestamp, expires_at: Type.Optional(Timestamp) }), {
    description: 'How old its secrets are, the newest first; never what they are',
  }),
})

export const ClientSecret = Type.String({ description: 'Shown now and never again', examples: ['lks_…'] })

export const AdminKey = Type.Object({
  kid: Type.String(),
  alg: Type.String(),
  state: Type.Union([Type.Literal('next'), Type.Literal('current'), Type.Literal('previous')], {
    description: '`next` is published and does not sign yet, `current` signs, `previous` only verifies',
  }),
  created_at: Timestamp,
  signs_from: Timestamp,
  retires_at: Type.Optional(Timestamp),
})

export const PageQuery = {
  limit: Type.Optional(Type.String({ pattern: '^([1-9][0-9]?|100)$', description: '1 to 100; 100 when not sent' })),
  cursor: Type.Optional(
    Type.String({ minLength: 1, maxLength: 1366, description: '`next_cursor` of the page before' }),
  ),
}

export const NextCursor = Type.Optional(Type.String({ description: 'Of the next page; not there on the last one' }))
