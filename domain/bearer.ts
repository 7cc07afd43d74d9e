/* How an access token is presented, and how it is refused: RFC 6750. */

import { isScope } from './scope.ts'

const scheme = /^Bearer( |$)/i
const credentials = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i

/** Whether the value of an Authorization field has the scheme Bearer, in any case. */
export const isBearer = (authorization: string | undefined): authorization is string =>
  typeof authorization === 'string' && scheme.test(authorization)

/** The token of an Authorization field, RFC 6750 §2.1. @returns undefined when it is not one b64token */
export const bearerTokenOf = (authorization: string): string | undefined => credentials.exec(authorization)?.[1]

/**
 * Explains why a field holds no bearer token: tutorials send the token alone, or after a word of their own.
 *
 * @returns words for the client; undefined without an Authorization field
 */
export function whatIsMissing(authorization: string | undefined): string | undefined {
  if (!authorization) return undefined
  const what = /^[\w-]+\.[\w-]+\.[\w-]+$/.test(authorization) ? 'the token alone' : 'another scheme'
  return `An access token is required, after the word Bearer and a space: the Authorization field holds ${what}`
}

/** The words by which a client tells the failures of an access token apart. */
export const tokenFailures = {
  expired: 'The access token expired',
  revoked: 'The access token was revoked',
  invalid: 'The access token is invalid',
} as const
export type TokenFailure = keyof typeof tokenFailures

/**
 * The value of WWW-Authenticate, RFC 6750 §3. Without an error code where no bearer token came (§3.1).
 *
 * @param scope that is needed; left out where it could not stand in a header
 */
export function bearerChallenge(
  error?: 'invalid_token' | 'insufficient_scope',
  { description, scope }: { description?: string; scope?: string } = {},
): string {
  let challenge = 'Bearer realm="latchkey"'
  if (error !== undefined) challenge += `, error="${error}"`
  if (description !== undefined) challenge += `, error_description="${description}"`
  if (scope !== undefined && isScope(scope)) challenge += `, scope="${scope}"`
  return challenge
}
