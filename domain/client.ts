import type { SigningAlg } from './signing-key.ts'

/** Who asks for tokens, RFC 6749 §2. */
export interface Client {
  /** the `client_id` */
  id: string
  type: 'confidential' | 'public'
  /** values of `grant_type` */
  grants: string[]
  scopes: string[]
  /** what its tokens are for, their `aud`; empty for that of the settings */
  audience: string[]
  /** which tokens it may ask about: none, those for its audience, or all */
  introspect: 'none' | 'audience' | 'all'
  /** whether it is an app of the service's own, which asks for the password itself; see `isFirstParty` */
  firstParty?: boolean
  /** what people know it by; its id, where it has none */
  name?: string
  /** where a browser may be sent back to, compared as text; none, where the client is no app with a browser */
  redirectUris?: string[]
  /** where a browser may be sent after signing out */
  postLogoutRedirectUris?: string[]
  /** who is told that a session of its has ended with the browser's, OpenID Connect Back-Channel Logout 1.0 */
  backchannelLogoutUri?: string
  /** see `needsPkce` */
  pkce?: 'required' | 'optional'
  /** see `asksConsent` */
  consent?: 'ask' | 'implicit'
  /** see `idTokenAlgOf` */
  idTokenAlg?: SigningAlg
  /** whether its requests for authorization have to be pushed, RFC 9126 §6 */
  requirePar?: boolean
  /** that are good, the newest first */
  secrets: ClientSecret[]
  createdAt: number
  disabledAt?: number
  /** by AUTH_CLIENTS_FILE, and gone when that does not name it any more */
  isDeclared: boolean
  /**
   * Rises with every change. Access tokens carry the generation that they were made in. Begins at the time of creation,
   * so that one who comes later under the same id is ahead.
   */
  generation: number
}

export interface ClientSecret {
  hash: string
  createdAt: number
  /** after which it is refused, where another has taken its place */
  expiresAt?: number
}

/** The members of a client that its administrator decides. */
export type ClientDefinition = Pick<
  Client,
  | 'id'
  | 'type'
  | 'grants'
  | 'scopes'
  | 'audience'
  | 'introspect'
  | 'firstParty'
  | 'name'
  | 'redirectUris'
  | 'postLogoutRedirectUris'
  | 'backchannelLogoutUri'
  | 'pkce'
  | 'consent'
  | 'idTokenAlg'
  | 'requirePar'
>

/** What members of a client become; undefined for what is taken away. */
export type ClientChanges = Partial<Omit<ClientDefinition, 'id' | 'type' | 'name' | 'backchannelLogoutUri'>> & {
  name?: string | undefined
  backchannelLogoutUri?: string | undefined
}

/** The client that is meant when a request names none. */
export const firstPartyId = 'first-party'
/** Which is none itself: its scopes and its audience are those of each app that nobody has registered. */
export const anyAppId = 'https://*'
/** Opens `/admin/`: asked for by name, and given to users only who have the role of the same name. */
export const adminScope = 'admin'

/** Used until a client with this id is created. */
export const builtInFirstParty: Client = {
  id: firstPartyId,
  type: 'public',
  grants: ['password', 'refresh_token', 'authorization_code'],
  scopes: [adminScope],
  audience: [],
  introspect: 'none',
  firstParty: true,
  secrets: [],
  createdAt: 0,
  isDeclared: false,
  generation: 0,
}

/**
 * The pages of this service, by which people sign in in a browser: a client of `/challenge` in this process, which no
 * request can name, for it is never stored.
 */
export const pagesClient: Client = {
  ...builtInFirstParty,
  id: 'latchkey:pages',
  grants: ['authorization_code'],
  scopes: [],
}

/** Whether an id may be the URL of an app's metadata. */
export const isUrlId = (id: string): boolean => /^https?:\/\//.test(id)

/** Whether nobody has registered a client: `domain/client-metadata.ts`. */
export const isUnregistered = ({ id, createdAt }: Pick<Client, 'id' | 'createdAt'>): boolean =>
  createdAt === 0 && isUrlId(id)

/**
 * Whether a client is an app of the service's own: its users type their passwords and codes into it, so it may ask at
 * `/challenge`. Where nobody has said so, `first-party` is one, and no other.
 */
export const isFirstParty = ({ id, firstParty = id === firstPartyId }: Pick<Client, 'id' | 'firstParty'>): boolean =>
  firstParty

/**
 * The grants of a client. `first-party` has `authorization_code` with `password`: those who made one of its name before
 * there were second factors gave it what there was, and its users could not sign in with a factor.
 */
export function grantsOf(client: ClientDefinition): string[] {
  const { id, grants } = client
  const isOlder = id === firstPartyId && grants.includes('password') && !grants.includes('authorization_code')
  return isOlder && isFirstParty(client) ? [...grants, 'authorization_code'] : grants
}

/** Whether a client may sign users in by `POST /challenge`. */
export const mayChallenge = (client: ClientDefinition): boolean =>
  isFirstParty(client) && grantsOf(client).includes('authorization_code')

/**
 * Which client of its id this is, for the sessions that it opens: another may be made under the same id. The built-in
 * one is always the same.
 *
 * @returns milliseconds since the epoch; undefined for `first-party`
 */
export const clientBirth = ({ id, createdAt }: Client): number | undefined =>
  id === firstPartyId ? undefined : createdAt

/** Whether its codes need a code_challenge (RFC 7636): always, unless an administrator has said otherwise. */
export const needsPkce = ({ type, pkce = 'required' }: Pick<Client, 'type' | 'pkce'>): boolean =>
  type === 'public' || pkce === 'required'

/** Whether its users are asked before it gets anything. What the service's own apps may have needs no asking. */
export const asksConsent = (client: Pick<Client, 'id' | 'firstParty' | 'consent'>): boolean =>
  (client.consent ?? (isFirstParty(client) ? 'implicit' : 'ask')) === 'ask'

/**
 * Whether what users have allowed it is remembered. Of an app that nobody has registered it is not known whether it is
 * still the same one: on one device, any program can take its address (RFC 8252 §8.6).
 */
export const remembersConsent = (client: Client): boolean => !isUnregistered(client)

/** What its ID tokens are signed by: what every client has to know, OpenID Connect Discovery §3, where it says nothing. */
export const idTokenAlgOf = ({ idTokenAlg = 'RS256' }: Pick<Client, 'idTokenAlg'>): SigningAlg => idTokenAlg

/** RFC 6749 appendix A.1 without the space; it goes into header fields and keys of the store. */
export const wellFormedClientId = /^[\x21-\x7e]{1,128}$/
