import { type SigningAlg, signingAlgs } from './signing-key.ts'
import { parseStrictJson } from './strict-json.ts'

/**
 * The claims of an access token, RFC 9068 §2.2, and those of a session. They are frozen: every request with the same
 * token gets the same object.
 */
export interface AccessTokenClaims {
  readonly iss: string
  readonly aud: string | readonly string[]
  /** the user's id; the client's in a token of its own */
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
  /** when the user signed in, RFC 9470 §6.1; only of one who has a second factor, or has stepped up */
  readonly auth_time?: number
  /** by what, RFC 8176 §2 */
  readonly amr?: readonly string[]
  /** and what that was worth when the token was made: one of `acrValues`, or of a later release */
  readonly acr?: string
  /** the administrator who holds the token and acts for the user, RFC 8693 §4.1 */
  readonly act?: { readonly sub: string }
  /** other claims that the signer put in, unchecked */
  readonly [claim: string]: unknown
}

/** Why a text is not an access token, in words for the log: never with a part of the token. */
export class InvalidToken extends Error {}

const compactJws = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/
const accessTokenType = /^(application\/)?at\+jwt$/i

/** The parts of a JWT in compact form, before its signature has been verified. */
export interface UnverifiedToken {
  /** which key the token claims to be signed by */
  kid: string
  alg: SigningAlg
  /** base64url */
  payload: string
  signature: string
  /** what is signed */
  input: string
}

/**
 * Reads the header of an access token.
 *
 * @throws {InvalidToken} as `readJws`
 */
export const readHeader = (token: string): UnverifiedToken => readJws(token, accessTokenType, 'typ is not at+jwt')

/**
 * Reads the header of a JWT, RFC 7515 §4.1. Its words about where to find a key (`jwk`, `jku`, `x5u`, `x5c`) are not
 * read.
 *
 * @param type of `typ`: without it a token of one kind would pass for one of another (RFC 8725 §3.11)
 * @throws {InvalidToken} for another `typ` or `alg`, without a `kid`, with a `crit`, and for JSON with more than one
 * reading
 */
export function readJws(token: string, type: RegExp, wrongType: string): UnverifiedToken {
  const [, part, payload, signature] = compactJws.exec(token) ?? []
  if (part === undefined || payload === undefined || signature === undefined) throw new InvalidToken('not a signed JWT')
  const header = readPart(part)
  const { typ, alg, kid } = header
  if (typeof typ !== 'string' || !type.test(typ)) throw new InvalidToken(wrongType)
  if (!signingAlgs.includes(alg as SigningAlg)) throw new InvalidToken('alg is not one of those taken')
  if (typeof kid !== 'string') throw new InvalidToken('not a JWT with a kid')
  // RFC 7515 §4.1.11: critical members have to be understood, and none is.
  if ('crit' in header) throw new InvalidToken('crit is not understood')
  return { kid, alg: alg as SigningAlg, payload, signature, input: `${part}.${payload}` }
}

/** Of the year 9999, the last that a date can be written for (RFC 3339); no token ends later. */
const lastSecond = 253_402_300_799

/**
 * Reads the claims, RFC 9068 §4 and RFC 7519 §4.1: all are there, of their type, and by the issuer. Checks neither
 * audience nor time.
 *
 * @param payload base64url, of a token whose signature has been verified
 * @returns the claims, frozen
 * @throws {InvalidToken} otherwise, and for JSON with more than one reading: another verifier might read other claims
 */
export function readClaims(payload: string, issuer: string): AccessTokenClaims {
  const claims = readPart(payload)
  const { iss, aud, sub, client_id: clientId, iat, exp, nbf, jti, sid, scope, roles, act } = claims
  const { auth_time: authTime, amr, acr } = claims
  if (iss !== issuer) throw new InvalidToken('iss is another')
  if (!(typeof aud === 'string' || areTexts(aud))) throw new InvalidToken('aud is missing or no text')
  if (!isText(sub) || !isText(clientId) || !isText(jti))
    throw new InvalidToken('sub, client_id or jti is missing or no text')
  if (!isTime(exp) || !isTime(iat) || !(nbf === undefined || isTime(nbf)))
    throw new InvalidToken('exp, iat or nbf is missing or no time')
  if (!(sid === undefined || isText(sid))) throw new InvalidToken('sid is no text')
  if (!(scope === undefined || typeof scope === 'string')) throw new InvalidToken('scope is no text')
  if (!(roles === undefined || areTexts(roles))) throw new InvalidToken('roles is no list of texts')
  if (!(authTime === undefined || isTime(authTime))) throw new InvalidToken('auth_time is no time')
  if (!(amr === undefined || areTexts(amr))) throw new InvalidToken('amr is no list of texts')
  if (!(acr === undefined || isText(acr))) throw new InvalidToken('acr is no text')
  if (!(act === undefined || isText((act as { sub?: unknown } | null)?.sub))) throw new InvalidToken('act has no sub')
  return freeze(claims) as unknown as AccessTokenClaims
}

export const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
const areTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string')
const isTime = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= lastSecond

/** A part of a JWT as the JSON object that it is. */
export function readPart(part: string): Record<string, unknown> {
  let value: unknown
  try {
    value = parseStrictJson(Buffer.from(part, 'base64url'))
  } catch {
    // Refused below. Never with the parser's words, which may quote the token.
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InvalidToken('no JSON object that has one reading')
  return value as Record<string, unknown>
}

function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const member of Object.values(value)) freeze(member)
  return Object.freeze(value)
}

/** Whether a token is for an audience, RFC 7519 §4.1.3. */
export const hasAudience = ({ aud }: AccessTokenClaims, audience: string): boolean =>
  typeof aud === 'string' ? aud === audience : aud.includes(audience)

/**
 * Whether it is the time of a token. To be asked on every use of it.
 *
 * @param maxAgeSeconds since `iat`, whatever `exp` says: revocations are remembered for that long only
 * @param clockSkewSeconds that the signer's clock may be ahead. `exp` is exact
 * @returns undefined when it is
 */
export function wrongTime(
  { exp, iat, nbf = 0 }: AccessTokenClaims,
  nowSeconds: number,
  { maxAgeSeconds, clockSkewSeconds }: { maxAgeSeconds: number; clockSkewSeconds: number },
): { failure: 'expired' | 'invalid'; reason: string } | undefined {
  if (nowSeconds >= Math.min(exp, iat + maxAgeSeconds))
    return { failure: 'expired', reason: 'the access token expired' }
  const early = iat > nowSeconds + clockSkewSeconds ? 'iat' : nbf > nowSeconds + clockSkewSeconds ? 'nbf' : undefined
  return early && { failure: 'invalid', reason: `${early} is in the future` }
}

/** Of the user and of the client, at the time that a token was made. One revocation ends all tokens of earlier ones. */
export interface Generations {
  user: number
  client: number
}

/**
 * The jti of a new token: `<user>.<client>.<random>`; behind a `~` that of the administrator's own token, where one was
 * made by it for a user.
 */
export const jtiOf = ({ user, client }: Generations, random: string, ofActor?: string): string =>
  `${user}.${client}.${random}${ofActor === undefined ? '' : `~${ofActor}`}`

/** What decides whether a token was revoked. */
export type Revocable = Pick<AccessTokenClaims, 'jti' | 'sid' | 'sub' | 'client_id' | 'act'>

/**
 * The token by which an administrator got another, for a user: when it is refused, so is the other.
 *
 * @returns undefined for a token that nobody else holds
 */
export function tokenOfActor({ act, jti, sid, client_id }: Revocable): Revocable | undefined {
  return act && { sub: act.sub, jti: jti.slice(jti.indexOf('~') + 1), client_id, ...(sid !== undefined && { sid }) }
}

/** The generations that a token was made in, from its jti; 0 for each that the jti does not have. */
export function generationsOf(jti: string): Generations {
  const [, user = 0, client = 0] = /^(\d{1,15})\.(?:(\d{1,15})\.)?/.exec(jti) ?? []
  return { user: Number(user), client: Number(client) }
}
