import { bearerChallenge, type TokenFailure, tokenFailures } from './domain/bearer.ts'
import { omitUndefined } from './domain/omit-undefined.ts'

/**
 * Every error response: HTTP status, code of RFC 6749 §5.2 (for OAuth endpoints), and title (of the RFC 9457 problem,
 * for all other routes). `docs/errors.md` explains each. The exact reason goes to the log only.
 */
const table = {
  malformed_request: [400, 'invalid_request', 'The request could not be read'],
  malformed_body: [400, 'invalid_request', 'The body could not be read'],
  malformed_url: [400, 'invalid_request', 'The URL could not be read'],
  invalid_request: [400, 'invalid_request', 'The request is not valid'],
  refused: [400, 'invalid_request', 'The request was refused'],
  unsupported_grant_type: [400, 'unsupported_grant_type', 'The grant type is not supported'],
  unauthorized_client: [400, 'unauthorized_client', 'The client may not use this grant'],
  invalid_grant: [400, 'invalid_grant', 'The grant is not valid'],
  invalid_scope: [400, 'invalid_scope', 'The scope is not valid'],
  invalid_target: [400, 'invalid_target', 'The client may not ask for this resource'],
  invalid_client: [401, 'invalid_client', 'Client authentication failed'],
  missing_token: [401, 'invalid_token', 'An access token is required'],
  invalid_token: [401, 'invalid_token', 'The access token was refused'],
  insufficient_scope: [403, 'insufficient_scope', 'The access token does not carry the scope that is needed'],
  users_only: [403, 'insufficient_scope', 'This route needs the access token of a user'],
  may_not_introspect: [403, 'unauthorized_client', 'The client may not introspect tokens'],
  signup_closed: [403, 'access_denied', 'Signup is closed'],
  wrong_password: [403, 'access_denied', 'The password is wrong'],
  not_found: [404, 'invalid_request', 'Not found'],
  method_not_allowed: [405, 'invalid_request', 'Method not allowed'],
  request_timeout: [408, 'invalid_request', 'The request timed out'],
  username_taken: [409, 'invalid_request', 'The username is taken'],
  client_id_taken: [409, 'invalid_request', 'The client_id is taken'],
  own_account: [409, 'invalid_request', 'You cannot remove your own admin access'],
  operators_key: [
    409,
    'invalid_request',
    'The signing key is set by AUTH_SIGNING_KEY_FILE: change it there, and restart',
  ],
  body_too_large: [413, 'invalid_request', 'The body is too large'],
  unsupported_media_type: [415, 'invalid_request', 'The content type is not supported'],
  unsupported_encoding: [415, 'invalid_request', 'The content encoding is not supported'],
  too_many_failures: [429, 'invalid_request', 'Too many failed attempts'],
  header_too_large: [431, 'invalid_request', 'The header fields are too large'],
  internal_error: [500, 'server_error', 'Internal server error'],
  overloaded: [503, 'temporarily_unavailable', 'The service is busy'],
  store_unavailable: [503, 'temporarily_unavailable', 'The store is unavailable'],
  draining: [503, 'temporarily_unavailable', 'The service is shutting down'],
} as const satisfies Record<string, readonly [status: number, oauth: string, title: string]>

export type ErrorCode = keyof typeof table

/** A refused member of the body, by its JSON pointer (RFC 6901). */
export interface InvalidMember {
  pointer: string
  detail: string
}

/** The details of a refusal, beside its code. */
export interface RefusalDetails {
  /** for `refused`, which has no status of its own */
  status?: number
  /** for the client: never a secret, never more than it may know */
  detail?: string
  /** for the log: exactly why */
  reason?: string
  headers?: Record<string, string>
  errors?: InvalidMember[]
  cause?: unknown
}

/** An error response. Thrown anywhere, and sent by `plugins/http/errors.ts` in the format of the endpoint. */
export class Refusal extends Error {
  readonly code: ErrorCode
  readonly statusCode: number
  /** code of RFC 6749 §5.2 */
  readonly oauthCode: string
  readonly title: string
  readonly detail: string
  readonly reason: string | undefined
  readonly headers: Record<string, string>
  readonly errors: InvalidMember[] | undefined

  constructor(code: ErrorCode, { status, detail, reason, headers = {}, errors, cause }: RefusalDetails = {}) {
    const [statusCode, oauthCode, title] = table[code]
    super(reason ?? detail ?? title, { cause })
    this.code = code
    this.statusCode = status ?? statusCode
    this.oauthCode = oauthCode
    this.title = title
    this.detail = detail ?? title
    this.reason = reason
    this.headers = headers
    this.errors = errors
  }
}

/** 400 `invalid_request`: a parameter is not there, or is empty (RFC 6749 §3.2). */
export const missingParameter = (name: string): Refusal =>
  new Refusal('invalid_request', { detail: `The parameter ${name} is missing` })

/** For `catch`, where a refusal means "no": any other error is thrown on. */
export function ignoreRefusal(error: unknown): undefined {
  if (!(error instanceof Refusal)) throw error
}

/** No bearer token came: 401 without an error code, RFC 6750 §3.1. @param detail words for the client */
export const tokenMissing = (detail?: string): Refusal =>
  new Refusal('missing_token', omitUndefined({ detail, headers: challenge() }))

/**
 * A bearer token was presented and is refused: 401, RFC 6750 §3.1.
 *
 * @param failure which of the three
 * @param reason for the log
 */
export function tokenRefused(failure: TokenFailure, reason: string): Refusal {
  const detail = tokenFailures[failure]
  return new Refusal('invalid_token', { detail, reason, headers: challenge('invalid_token', { description: detail }) })
}

/**
 * A good access token lacks what is needed: 403, RFC 6750 §3.1.
 *
 * @param scope that is needed, for the challenge
 */
export const insufficientScope = ({
  scope,
  ...details
}: Pick<RefusalDetails, 'detail' | 'reason'> & { scope?: string }): Refusal =>
  new Refusal('insufficient_scope', { ...details, headers: challenge('insufficient_scope', omitUndefined({ scope })) })

/** The access token is that of a client, on a route for users. */
export const usersOnly = (): Refusal => new Refusal('users_only', { headers: challenge('insufficient_scope') })

const challenge = (...about: Parameters<typeof bearerChallenge>) => ({ 'www-authenticate': bearerChallenge(...about) })
