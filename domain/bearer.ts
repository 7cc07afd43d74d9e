/* How an access token is presented, and how it is refused: RFC 6750, and RFC 9470. */

import type { SignInDemand } from './authentication.ts'
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
 * The value of WWW-Authenticate, RFC 6750 §3 and RFC 9470 §3. Without an error code where no bearer token came (RFC
 * 6750 §3.1).
 *
 * @param about `scope` that is needed, left out where it could not stand in a header; `signIn` that is needed
 */
export function bearerChallenge(
  error?: 'invalid_token' | 'insufficient_scope' | 'insufficient_user_authentication',
  { description, scope, signIn = {} }: { description?: string; scope?: string; signIn?: SignInDemand } = {},
): string {
  let challenge = 'Bearer realm="latchkey"'
  if (error !== undefined) challenge += `, error="${error}"`
  if (description !== undefined) challenge += `, error_description="${description}"`
  if (scope !== undefined && isScope(scope)) challenge += `, scope="${scope}"`
  if (signIn.acr !== undefined) challenge += `, acr_values="${signIn.acr}"`
  if (signIn.maxAgeSeconds !== undefined) challenge += `, max_age="${signIn.maxAgeSeconds}"`
  return challenge
}
