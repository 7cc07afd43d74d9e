import { type Static, Type } from '@sinclair/typebox'
import {
  asksConsent,
  type Client,
  type ClientChanges,
  type ClientDefinition,
  firstPartyId,
  grantsOf,
  idTokenAlgOf,
  isFirstParty,
  needsPkce,
} from '../domain/client.ts'
import { grantTypes } from '../domain/grant.ts'
import { omitUndefined } from '../domain/omit-undefined.ts'
import { scopeCharacter } from '../domain/scope.ts'
import { Timestamp, toTimestamp } from './parts.ts'

/* A client as JSON: at `/admin/clients`, in AUTH_CLIENTS_FILE, and for `latchkey client`. */

export const ClientId = Type.String({ description: '1 to 128 visible ASCII characters', examples: ['orders'] })

export const ClientSecret = Type.String({ description: 'Shown now and never again', examples: ['lks_…'] })

const RedirectUris = (description: string, path: string) =>
  Type.Array(Type.String({ maxLength: 2048 }), {
    uniqueItems: true,
    maxItems: 100,
    description,
    examples: [[`https://app.example.com${path}`]],
  })

/** Of apps that people sign in to in a browser. */
const browserMembers = {
  name: Type.String({
    minLength: 1,
    maxLength: 100,
    description: 'What people know it by; the `client_id` when left out',
  }),
  redirect_uris: RedirectUris(
    'Where a browser may be sent back to: https, http on this device, or the scheme of an app. Compared as text; ' +
      'for public clients, the port of 127.0.0.1 and [::1] may be any',
    '/callback',
  ),
  post_logout_redirect_uris: RedirectUris('Where a browser may be sent after signing out; compared as text', '/'),
  backchannel_logout_uri: Type.String({
    maxLength: 2048,
    description:
      'Told that a session of its has ended with that of the browser, OpenID Connect Back-Channel Logout 1.0',
    examples: ['https://app.example.com/backchannel-logout'],
  }),
  pkce: Type.Union([Type.Literal('required'), Type.Literal('optional')], {
    description: 'Whether a code needs a `code_challenge` (RFC 7636); `optional` for confidential clients only',
  }),
  consent: Type.Union([Type.Literal('ask'), Type.Literal('implicit')], {
    description: 'Whether users are asked before it gets anything; `implicit` by default with `first_party`',
  }),
  id_token_alg: Type.Union([Type.Literal('RS256'), Type.Literal('ES256'), Type.Literal('EdDSA')], {
    description: 'What its ID tokens are signed by; RS256 by default',
  }),
  require_par: Type.Boolean({ description: 'Whether it has to push its requests for authorization, RFC 9126' }),
}

const BrowserMembers = Type.Object(browserMembers)

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
  ...browserMembers,
}

/** The same, each with a default. */
export const newClientMembers = Type.Partial(Type.Object(clientMembers)).properties

const { type: _, ...changeable } = clientMembers
/** What may be changed of a client; null takes away what need not be there. */
export const changedClientMembers = Type.Partial(
  Type.Object({
    ...changeable,
    name: Type.Union([clientMembers.name, Type.Null()]),
    backchannel_logout_uri: Type.Union([clientMembers.backchannel_logout_uri, Type.Null()]),
  }),
).properties
const Changes = Type.Object(changedClientMembers)

/** A client as administrators see it: what nobody has decided with its default. */
export const AdminClient = Type.Object({
  client_id: ClientId,
  ...clientMembers,
  name: Type.Optional(clientMembers.name),
  backchannel_logout_uri: Type.Optional(clientMembers.backchannel_logout_uri),
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
  const ofBrowser = omitUndefined(toBrowserMembers(json))
  return { id, type, grants, scopes, audience, introspect: toRight(introspect), firstParty, ...ofBrowser }
}

const toBrowserMembers = (json: Partial<Static<typeof BrowserMembers>>) => ({
  name: json.name,
  redirectUris: json.redirect_uris,
  postLogoutRedirectUris: json.post_logout_redirect_uris,
  backchannelLogoutUri: json.backchannel_logout_uri,
  pkce: json.pkce,
  consent: json.consent,
  idTokenAlg: json.id_token_alg,
  requirePar: json.require_par,
})

/**
 * Makes other members of a client.
 *
 * @param json the members that are to change
 * @returns what they become; undefined for what is taken away
 */
export function toChanges({ name, backchannel_logout_uri, ...json }: Static<typeof Changes>): ClientChanges {
  const { grants, scopes, audience, introspect, first_party: firstParty } = json
  return {
    ...omitUndefined({ grants, scopes, audience, firstParty, ...toBrowserMembers(json) }),
    ...(introspect !== undefined && { introspect: toRight(introspect) }),
    ...(name !== undefined && { name: name ?? undefined }),
    ...(backchannel_logout_uri !== undefined && { backchannelLogoutUri: backchannel_logout_uri ?? undefined }),
  }
}

function defaultGrants({ type, first_party, redirect_uris = [] }: NewClient): string[] {
  if (first_party || redirect_uris.length > 0) return ['authorization_code', 'refresh_token']
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
    ...omitUndefined({ name: client.name }),
    redirect_uris: client.redirectUris ?? [],
    post_logout_redirect_uris: client.postLogoutRedirectUris ?? [],
    ...omitUndefined({ backchannel_logout_uri: client.backchannelLogoutUri }),
    pkce: needsPkce(client) ? 'required' : 'optional',
    consent: asksConsent(client) ? 'ask' : 'implicit',
    id_token_alg: idTokenAlgOf(client),
    require_par: client.requirePar ?? false,
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
