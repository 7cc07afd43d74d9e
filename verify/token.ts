import {
  type AccessTokenClaims,
  hasAudience,
  InvalidToken,
  readClaims,
  readHeader,
  type UnverifiedToken,
} from '../domain/access-token.ts'
import { bearerTokenOf, isBearer, whatIsMissing } from '../domain/bearer.ts'
import { TokenRefused } from './errors.ts'

/** The server takes no more than 16 KiB of header fields. */
const maxTokenLength = 8 * 1024

/**
 * Takes the token out of the value of an Authorization header, RFC 6750 §2.1.
 *
 * @throws {TokenRefused} `missing` when there is none, or another scheme; `invalid` when it cannot be a token
 */
export function tokenOfHeader(authorization: string | undefined): string {
  if (!isBearer(authorization))
    throw new TokenRefused('missing', 'no bearer token', { detail: whatIsMissing(authorization) })
  if (authorization.length > maxTokenLength) throw new TokenRefused('invalid', 'the token is too long')
  const token = bearerTokenOf(authorization)
  if (!token) throw new TokenRefused('invalid', 'not a b64token')
  return token
}

const usualPrefix = 'Bearer '

/**
 * The token, if it is a good one: enough to look for it among the verified ones, which are known by their whole text.
 */
export const likelyTokenOf = (presented: string | undefined): string =>
  typeof presented !== 'string'
    ? ''
    : presented.startsWith(usualPrefix)
      ? presented.slice(usualPrefix.length)
      : presented

/** The token of a header or of itself: no token has a space in it, and none is called `Bearer`. */
export function tokenOf(presented: string | undefined): string {
  if (typeof presented !== 'string' || presented === '' || presented.includes(' ') || isBearer(presented))
    return tokenOfHeader(presented)
  return presented
}

/**
 * Reads the header of a token whose signature has not been verified.
 *
 * @throws {TokenRefused} `invalid` for what cannot be an access token
 */
export function readUnverified(token: string): UnverifiedToken {
  if (token.length > maxTokenLength) throw new TokenRefused('invalid', 'the token is too long')
  return orRefused(() => readHeader(token))
}

/**
 * Reads the claims of a token whose signature has been verified. Does not look at the time.
 *
 * @param audience one of these has to be in `aud`
 * @throws {TokenRefused} `invalid`
 */
export function readVerified(payload: string, issuer: string, audience: readonly string[]): AccessTokenClaims {
  const claims = orRefused(() => readClaims(payload, issuer))
  if (!audience.some((one) => hasAudience(claims, one))) throw new TokenRefused('invalid', 'aud is another')
  return claims
}

function orRefused<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof InvalidToken) throw new TokenRefused('invalid', error.message)
    throw error
  }
}
