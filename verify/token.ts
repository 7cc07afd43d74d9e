import { parseStrictJson } from '../domain/strict-json.ts'
import { TokenRefused } from './errors.ts'

/** The claims of an access token, RFC 9068 §2.2, and those of a session. They are frozen: every request with the token gets the same object. */
export interface Claims {
  readonly iss: string
  readonly aud: string | readonly string[]
  /** the user's id; the client's for a token of its own */
  readonly sub: string
  readonly client_id: string
  /** seconds since the epoch, as `exp` and `nbf` */
  readonly iat: number
  readonly exp: number
  readonly nbf?: number
  readonly jti: string
  /** the session; not in a client's own token */
  readonly sid?: string
  /** names with a space between them */
  readonly scope?: string
  readonly roles?: readonly string[]
  /** what else the signer put in, unchecked */
  readonly [claim: string]: unknown
}

/** Signature algorithms that are taken, each by a key that is for it and no other (RFC 8725 §3.1). */
export const algorithms = ['ES256', 'RS256', 'EdDSA'] as const
export type Alg = (typeof algorithms)[number]

/** The server takes no more than 16 KiB of header fields. */
const maxTokenLength = 8 * 1024
/** Of the year 9999, the last that a date can be written for. */
const lastSecond = 253_402_300_799

export const scheme = /^Bearer( |$)/i
/** RFC 6750 §2.1: the scheme in any case, one b64token. */
const credentials = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i
const compactJws = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/
const accessTokenType = /^(application\/)?at\+jwt$/i

/**
 * Takes the token out of the value of an Authorization header, RFC 6750 §2.1.
 *
 * @throws {TokenRefused} `missing` when there is none, or another scheme; `invalid` when it cannot be a token
 */
export function tokenOfHeader(authorization: string | undefined): string {
  if (typeof authorization !== 'string' || !scheme.test(authorization)) {
    throw new TokenRefused('missing', 'no bearer token', { detail: whatIsMissing(authorization) })
  }
  if (authorization.length > maxTokenLength) throw new TokenRefused('invalid', 'the token is too long')
  const token = credentials.exec(authorization)?.[1]
  if (!token) throw new TokenRefused('invalid', 'not a b64token')
  return token
}

/**
 * Tutorials send the token alone, or after a word of their own.
 *
 * @returns words for the client; undefined where there is no Authorization field
 */
export function whatIsMissing(authorization: string | undefined): string | undefined {
  if (!authorization) return undefined
  const what = /^[\w-]+\.[\w-]+\.[\w-]+$/.test(authorization) ? 'the token alone' : 'another scheme'
  return `An access token is required, after the word Bearer and a space: the Authorization field holds ${what}`
}

const usualPrefix = 'Bearer '

/** What is the token if it is a good one: enough to look for those that are known, as exactly they are. */
export const likelyTokenOf = (presented: string | undefined): string =>
  typeof presented !== 'string'
    ? ''
    : presented.startsWith(usualPrefix)
      ? presented.slice(usualPrefix.length)
      : presented

/** The token of a header or of itself: no token has a space in it, and none is called `Bearer`. */
export function tokenOf(presented: string | undefined): string {
  if (typeof presented !== 'string' || presented === '' || presented.includes(' ') || scheme.test(presented))
    return tokenOfHeader(presented)
  return presented
}

/** What the header of a JWS says of the key; true only when that key verifies. */
export interface KeyHint {
  kid: string
  alg: Alg
}

/**
 * Reads the header of a JWT, RFC 7515 §4.1. Whatever it says about where to find a key (`jwk`, `jku`, `x5u`, `x5c`) is not read.
 *
 * @throws {TokenRefused} `invalid` for what cannot be an access token: another `typ` or `alg`, no `kid`, anything `crit`
 */
export function readHeader(token: string): KeyHint {
  if (token.length > maxTokenLength) throw invalid('the token is too long')
  const part = compactJws.exec(token)?.[1]
  if (part === undefined) throw invalid('not a signed JWT')
  const header = parse(Buffer.from(part, 'base64url'))
  const { typ, alg, kid } = header
  if (typeof typ !== 'string' || !accessTokenType.test(typ)) throw invalid('typ is not at+jwt')
  if (!algorithms.includes(alg as Alg)) throw invalid('alg is not one of those taken')
  if (typeof kid !== 'string') throw invalid('no kid')
  // RFC 7515 §4.1.11: what is critical has to be understood, and nothing of it is.
  if ('crit' in header) throw invalid('crit is not understood')
  return { kid, alg: alg as Alg }
}

/**
 * Checks the claims that do not change with time, RFC 9068 §4 and RFC 7519 §4.1. Does not look at `exp`, `nbf` and `iat` but for their type.
 *
 * @param payload of a signature that has been verified
 * @returns the claims, frozen
 * @throws {TokenRefused} `invalid`
 */
export function readClaims(payload: Uint8Array, issuer: string, audience: readonly string[]): Claims {
  const claims = parse(payload)
  const { iss, aud, sub, client_id: clientId, iat, exp, nbf, jti, sid, scope, roles } = claims
  if (iss !== issuer) throw invalid('iss is another')
  if (!(isText(aud) ? audience.includes(aud) : areTexts(aud) && aud.some((one) => audience.includes(one))))
    throw invalid('aud is another')
  if (!isText(sub) || !isText(clientId) || !isText(jti)) throw invalid('sub, client_id or jti is missing or no text')
  if (!isTime(exp) || !isTime(iat) || !(nbf === undefined || isTime(nbf)))
    throw invalid('exp, iat or nbf is missing or no time')
  if (!(sid === undefined || isText(sid))) throw invalid('sid is no text')
  if (!(scope === undefined || typeof scope === 'string')) throw invalid('scope is no text')
  if (!(roles === undefined || areTexts(roles))) throw invalid('roles is no list of texts')
  return freeze(claims) as unknown as Claims
}

const invalid = (reason: string) => new TokenRefused('invalid', reason)
const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
const areTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string')
const isTime = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= lastSecond

function parse(json: Uint8Array): Record<string, unknown> {
  let value: unknown
  try {
    value = parseStrictJson(json)
  } catch {
    // Refused below. Never with the parser's words, which may quote the token.
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid('no JSON object that has one reading')
  return value as Record<string, unknown>
}

function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const member of Object.values(value)) freeze(member)
  return Object.freeze(value)
}
