import { type Static, Type } from '@sinclair/typebox'
import { type Client, type ClientDefinition, firstPartyId, grantsOf, isFirstParty } from '../domain/client.ts'
import { grantTypes } from '../domain/grant.ts'
import { scopeCharacter } from '../domain/scope.ts'
import { Timestamp, toTimestamp } from './parts.ts'

/* A client as JSON: at `/admin/clients`, in AUTH_CLIENTS_FILE, and for `latchkey client`. */

export const ClientId = Type.String({ description: '1 to 128 visible ASCII characters', examples: ['orders'] })

export const ClientSecret = Type.String({ description: 'Shown now and never again', examples: ['lks_…'] })

/** What is decided when a client is created. */
export const clientMembers = {
  type: Type.Union([Type.Literal('confidential'), Type.Literal('public')], {
    description: '`confidential` where a secret can be kept, `public` in browsers and apps',
  }),
  grants: Type.Array(Type.Union(grantTypes.map((grant) => Type.Literal(grant))), {
    uniqueItems: true,
    description: 'The grants it may use at `POST /token`',
  }),
  scopes: Type.Array(Type.String({ pattern: `^${scopeCharacter}{1,128}$` }), {
    uniqueItems: true,
    maxItems: 100,
    description: 'The scopes it may ask for',
    examples: [['files:read', 'files:write']],
  }),
  audience: Type.Array(Type.String({ minLength: 1, maxLength: 512 }), {
    uniqueItems: true,
    maxItems: 20,
    description: 'The `aud` of its tokens; AUTH_AUDIENCE when empty',
    examples: [['https://files.example.com']],
  }),
  introspect: Type.Union([Type.Boolean(), Type.Literal('all')], {
    description: 'Whether it may introspect tokens of others: those for its audience, or `all`',
  }),
  first_party: Type.Boolean({
    description: 'Whether it is an app of your own, which asks for the password itself and may use `POST /challenge`',
  }),
}

/** The same, each with a default. */
export const newClientMembers = Type.Partial(Type.Object(clientMembers)).properties

/** A client as administrators see it. */
export const AdminClient = Type.Object({
  client_id: ClientId,
  ...clientMembers,
  // A newer release may have stored others.
  grants: Type.Array(Type.String(), { description: clientMembers.grants.description as string }),
  declared: Type.Boolean({ description: 'Whether it is in AUTH_CLIENTS_FILE' }),
  created_at: Timestamp,
  disabled_at: Type.Optional(Timestamp),
  secrets: Type.Array(Type.Object({ created_at: Timestamp, expires_at: Type.Optional(Timestamp) }), {
    description: 'Creation and expiry of its secrets, newest first; never the secrets',
  }),
})

/** The members of a new client as they come; `type` has been decided. */
type NewClient = Partial<Omit<Static<typeof AdminClient>, 'introspect'>> & {
  client_id: string
  type: Client['type']
  introspect?: boolean | 'audience' | 'all'
}

/** Gives the members that a new client does not name their defaults, the same over HTTP and in AUTH_CLIENTS_FILE. */
export function toDefinition(json: NewClient): ClientDefinition {
  const { client_id: id, type, scopes = [], audience = [], ...rest } = json
  const { grants = defaultGrants(json), introspect = false, first_party: firstParty = id === firstPartyId } = rest
  return { id, type, grants, scopes, audience, introspect: toRight(introspect), firstParty }
}

function defaultGrants({ type, first_party }: NewClient): string[] {
  if (first_party) return ['authorization_code', 'refresh_token']
  return type === 'confidential' ? ['client_credentials'] : []
}

const toRight = (introspect: boolean | 'audience' | 'all'): Client['introspect'] =>
  introspect === 'all' ? 'all' : introspect ? 'audience' : 'none'

/** @param now milliseconds since the epoch; expired secrets are left out */
export function toClient(client: Client, now: number): Static<typeof AdminClient> {
  const { id, type, scopes, audience, introspect, isDeclared, createdAt, disabledAt, secrets } = client
  return {
    client_id: id,
    type,
    grants: grantsOf(client),
    scopes,
    audience,
    introspect: introspect === 'all' ? 'all' : introspect === 'audience',
    first_party: isFirstParty(client),
    declared: isDeclared,
    created_at: toTimestamp(createdAt),
    ...(disabledAt !== undefined && { disabled_at: toTimestamp(disabledAt) }),
    secrets: secrets
      .filter(({ expiresAt = Number.POSITIVE_INFINITY }) => expiresAt > now)
      .map(({ createdAt, expiresAt }) => ({
        created_at: toTimestamp(createdAt),
        ...(expiresAt !== undefined && { expires_at: toTimestamp(expiresAt) }),
      })),
  }
}
