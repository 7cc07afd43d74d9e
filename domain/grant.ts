import { adminScope, type Client } from './client.ts'
import { isOpenIdScope, isScopeName } from './scope.ts'
import type { User } from './user.ts'

/** RFC 8628 §3.4: the grant of a device that has no browser of its own. */
export const deviceGrant = 'urn:ietf:params:oauth:grant-type:device_code'

/** Values of `grant_type`. What each does is in `routes/oauth/grants/`. */
export const grantTypes = [
  'password',
  'refresh_token',
  'authorization_code',
  'client_credentials',
  deviceGrant,
] as const
export type GrantType = (typeof grantTypes)[number]

/** What a token request is granted. */
export interface Granted {
  scope: string[]
  aud: string | string[]
}

/** Reads a `scope`, RFC 6749 §3.3. @returns its names, each once; undefined where it is malformed */
export function parseScope(scope: string): string[] | undefined {
  const names = scope.split(' ')
  return names.every(isScopeName) ? [...new Set(names)] : undefined
}

/**
 * The audiences that a client may ask for.
 *
 * @param fallback AUTH_AUDIENCE
 * @returns at least one
 */
export const audienceOf = ({ audience }: Client, fallback: string): string[] =>
  audience.length > 0 ? audience : [fallback]

/** Whether a user may have a scope: `admin` is for users with the role of the same name. */
const mayHave = ({ roles }: User, name: string): boolean => name !== adminScope || roles.includes(adminScope)

/** Whether a user may have every name of a scope. */
export const mayHaveScope = (user: User, scope: string[]): boolean => scope.every((name) => mayHave(user, name))

/** The part of a granted scope that its client may still have, and its user. */
export const remainingScope = (scope: string[], client: Client, user: User): string[] =>
  scope.filter((name) => (client.scopes.includes(name) || isOpenIdScope(name)) && mayHave(user, name))
