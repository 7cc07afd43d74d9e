import { type SignIn, type SignInDemand, type SignInLack, signInLacks } from './domain/authentication.ts'
import { bearerChallenge, type TokenFailure, tokenFailures } from './domain/bearer.ts'
import { type Check, type CheckName, checked } from './domain/checks.ts'
import { adminScope } from './domain/client.ts'
import { omitUndefined } from './domain/omit-undefined.ts'

/**
 * Every error response: HTTP status, code of RFC 6749 §5.2 (for OAuth endpoints), title (of the RFC 9457 problem, for
 * all other routes), and the check that failed where the refusal names none. `docs/errors.md` explains each. The exact
 * reason goes to the log and to `latchkey explain` only.
 */
const table = {
  malformed_request: [400, 'invalid_request', 'The request could not be read', 'message'],
  malformed_body: [400, 'invalid_request', 'The body could not be read', 'body'],
  malformed_url: [400, 'invalid_request', 'The URL could not be read', 'url'],
  invalid_request: [400, 'invalid_request', 'The request is not valid', 'parameters'],
  refused: [400, 'invalid_request', 'The request was refused', 'server_part'],
  unsupported_grant_type: [400, 'unsupported_grant_type', 'The grant type is not supported', 'grant_type'],
  unauthorized_client: [400, 'unauthorized_client', 'The client may not use this grant', 'client_grants'],
  invalid_grant: [400, 'invalid_grant', 'The grant is not valid', 'account'],
  authorization_pending: [400, 'authorization_pending', 'The user has not decided yet', 'device_code'],
  slow_down: [400, 'slow_down', 'The device asks too often', 'device_code'],
  expired_token: [400, 'expired_token', 'The device code has expired', 'device_code'],
  device_refused: [400, 'access_denied', 'The user has refused', 'device_code'],
  invalid_code: [400, 'invalid_grant', 'The link or code is not valid, was used, or has expired', 'mail_link'],
  insufficient_authorization: [400, 'insufficient_authorization', 'More is needed to sign in', 'second_factor'],
  invalid_session: [400, 'invalid_session', 'The auth_session is not valid, was used, or has expired', 'auth_session'],
  unmet_authentication_requirements: [
    400,
    'unmet_authentication_requirements',
    'None of the acr_values is known here',
    'second_factor',
  ],
  unsupported_response_type: [400, 'unsupported_response_type', 'The response_type must be code', 'response_type'],
  request_not_supported: [400, 'request_not_supported', 'The parameter request is not read', 'authorization_request'],
  request_uri_not_supported: [
    400,
    'request_uri_not_supported',
    'The request_uri is none of POST /par',
    'authorization_request',
  ],
  login_required: [400, 'login_required', 'The user has to sign in', 'browser_session'],
  consent_required: [400, 'consent_required', 'The user has to allow it', 'consent'],
  interaction_required: [400, 'interaction_required', 'The user has to do something', 'browser_session'],
  access_denied: [403, 'access_denied', 'The user has not allowed it', 'consent'],
  invalid_scope: [400, 'invalid_scope', 'The scope is not valid', 'client_scopes'],
  invalid_target: [400, 'invalid_target', 'The client may not ask for this resource', 'client_audience'],
  invalid_client: [401, 'invalid_client', 'Client authentication failed', 'client'],
  missing_token: [401, 'invalid_token', 'An access token is required', 'bearer_token'],
  invalid_token: [401, 'invalid_token', 'The access token was refused', 'access_token'],
  insufficient_user_authentication: [
    401,
    'insufficient_user_authentication',
    'A stronger or a more recent sign-in is needed',
    'sign_in_level',
  ],
  insufficient_scope: [403, 'insufficient_scope', 'The access token does not carry the scope that is needed', 'scope'],
  users_only: [403, 'insufficient_scope', 'This route needs the access token of a user', 'user_token'],
  read_only_token: [403, 'insufficient_scope', 'This token of an administrator for a user may only read', 'user_token'],
  may_not_introspect: [403, 'unauthorized_client', 'The client may not introspect tokens', 'client_introspect'],
  signup_closed: [403, 'access_denied', 'Signup is closed', 'signup'],
  foreign_form: [403, 'access_denied', 'The form was sent from another site', 'form_origin'],
  wrong_password: [403, 'access_denied', 'The password is wrong', 'password'],
  administrator_account: [403, 'access_denied', 'No token is made for an administrator', 'account'],
  not_found: [404, 'invalid_request', 'Not found', 'look_up'],
  method_not_allowed: [405, 'invalid_request', 'Method not allowed', 'method'],
  request_timeout: [408, 'invalid_request', 'The request timed out', 'arrival_seconds'],
  username_taken: [409, 'invalid_request', 'The username is taken', 'username'],
  client_id_taken: [409, 'invalid_request', 'The client_id is taken', 'client_id'],
  email_taken: [409, 'invalid_request', 'The address is that of another user', 'email'],
  too_many_factors: [409, 'invalid_request', 'There are as many second factors as there may be', 'second_factor'],
  last_factor: [409, 'invalid_request', 'The last way to sign in cannot be removed', 'second_factor'],
  own_account: [409, 'invalid_request', 'You cannot remove your own admin access', 'own_access'],
  user_disabled: [409, 'invalid_request', 'The user is disabled', 'account'],
  operators_key: [
    409,
    'invalid_request',
    'The signing key is set by AUTH_SIGNING_KEY_FILE: change it there, and restart',
    'signing_key',
  ],
  body_too_large: [413, 'invalid_request', 'The body is too large', 'body_bytes'],
  unsupported_media_type: [415, 'invalid_request', 'The content type is not supported', 'content_type'],
  unsupported_encoding: [415, 'invalid_request', 'The content encoding is not supported', 'content_encoding'],
  too_many_failures: [429, 'invalid_request', 'Too many failed attempts', 'failures_from_network'],
  too_many_requests: [429, 'invalid_request', 'Too many requests', 'mails_asked_for'],
  header_too_large: [431, 'invalid_request', 'The header fields are too large', 'header_bytes'],
  internal_error: [500, 'server_error', 'Internal server error', 'program'],
  overloaded: [503, 'temporarily_unavailable', 'The service is busy', 'hashes_waiting'],
  store_unavailable: [503, 'temporarily_unavailable', 'The store is unavailable', 'store'],
  draining: [503, 'temporarily_unavailable', 'The service is shutting down', 'shutdown'],
} as const satisfies Record<string, readonly [status: number, oauth: string, title: string, check: CheckName]>

export type ErrorCode = keyof typeof table

/** A refused member of the body, by its JSON pointer (RFC 6901). */
export interface InvalidMember {
  pointer: string
  detail: string
}

/** The details of a refusal, beside its code. */
export interface RefusalDetails {
  /** in the place of that of the table */
  status?: number
  /** of the body, beside those of every error; for an endpoint of OAuth */
  members?: Record<string, unknown>
  /** for the client: never a secret, never more than it may know */
  detail?: string
  /** for the log: exactly why */
  reason?: string
  /** for who may ask why (`latchkey explain`): the one that decided first, and what else was looked at */
  checks?: Check[]
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
  readonly members: Record<string, unknown> | undefined
  readonly #checks: Check[] | undefined

  constructor(
    code: ErrorCode,
    { status, detail, reason, checks, headers = {}, errors, members, cause }: RefusalDetails = {},
  ) {
    const [statusCode, oauthCode, title] = table[code]
    // An answer, and no fault: nobody reads where it was made, and to find that out takes half of what a refusal takes.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super(reason ?? detail ?? title, { cause })
    Error.stackTraceLimit = stackTraceLimit
    this.code = code
    this.statusCode = status ?? statusCode
    this.oauthCode = oauthCode
    this.title = title
    this.detail = detail ?? title
    this.reason = reason
    this.headers = headers
    this.errors = errors
    this.members = members
    this.#checks = checks
  }

  /** What was looked at, the check that decided first. */
  get checks(): Check[] {
    return this.#checks ?? [checked(table[this.code][3], this.reason ?? this.detail)]
  }
}

/** 400 `invalid_request`: a parameter is not there, or is empty (RFC 6749 §3.2). */
export const missingParameter = (name: string): Refusal =>
  new Refusal('invalid_request', { detail: `The parameter ${name} is missing` })

/** 400 `invalid_request`: a member of the body cannot be what it is. @param detail words that go on after its name */
export const invalidMember = (pointer: `/${string}`, detail: string): Refusal =>
  new Refusal('invalid_request', { detail: `The ${pointer.slice(1)} ${detail}`, errors: [{ pointer, detail }] })

/** 400 `invalid_scope`: the scope `admin` was asked for by whoever has not the role. */
export const adminScopeRefused = (roles: string[]): Refusal =>
  new Refusal('invalid_scope', {
    detail: `The scope ${adminScope} is for users with the role ${adminScope}`,
    checks: [checked('role', roles.join(', ') || 'none', adminScope)],
  })

/** 403: the password that is asked for before a change is wrong. @param pointer of the member that it came in */
export const wrongPassword = (pointer: `/${string}`): Refusal =>
  new Refusal('wrong_password', { reason: 'wrong password', errors: [{ pointer, detail: 'is wrong' }] })

/** For `catch`, where a refusal means "no": any other error is thrown on. */
export function ignoreRefusal(error: unknown): undefined {
  if (!(error instanceof Refusal)) throw error
}

/** Every code of the table. */
export const errorCodes = Object.keys(table) as ErrorCode[]

/** No bearer token came: 401 without an error code, RFC 6750 §3.1. @param detail words for the client */
export const tokenMissing = (detail?: string): Refusal =>
  new Refusal('missing_token', omitUndefined({ detail, headers: challenge() }))

/**
 * A bearer token was presented and is refused: 401, RFC 6750 §3.1.
 *
 * @param failure which of the three
 * @param reason for the log
 */
export function tokenRefused(failure: TokenFailure, reason: string, ...checks: Check[]): Refusal {
  const detail = tokenFailures[failure]
  const headers = challenge('invalid_token', { description: detail })
  return new Refusal('invalid_token', { detail, reason, headers, ...(checks.length > 0 && { checks }) })
}

/**
 * A good access token lacks what is needed: 403, RFC 6750 §3.1.
 *
 * @param scope that is needed, for the challenge
 */
export const insufficientScope = ({
  scope,
  ...details
}: Pick<RefusalDetails, 'detail' | 'reason' | 'checks'> & { scope?: string }): Refusal =>
  new Refusal('insufficient_scope', { ...details, headers: challenge('insufficient_scope', omitUndefined({ scope })) })

/**
 * The user has signed in too weakly, or too long ago: 401, RFC 9470 §3.
 *
 * @param lack which of the two
 * @param demand all that the next sign-in needs, for the challenge
 * @param signIn what there is
 * @param now milliseconds since the epoch
 */
export function insufficientAuthentication(
  lack: SignInLack,
  demand: SignInDemand,
  { acr = 'none', auth_time: authTime }: SignIn,
  now: number,
): Refusal {
  const detail = signInLacks[lack]
  const seconds = authTime === undefined ? 'unknown' : Math.round(now / 1000 - authTime)
  return new Refusal('insufficient_user_authentication', {
    detail,
    reason: lack === 'level' ? `the level of the sign-in is ${acr}` : `seconds since the sign-in: ${seconds}`,
    checks: [
      lack === 'level'
        ? checked('sign_in_level', acr, demand.acr)
        : checked('sign_in_seconds', seconds, demand.maxAgeSeconds),
    ],
    headers: challenge('insufficient_user_authentication', { description: detail, signIn: demand }),
  })
}

/** The access token is that of a client, on a route for users. */
export const usersOnly = (): Refusal => new Refusal('users_only', { headers: challenge('insufficient_scope') })

/** The access token is that of an administrator who acts for the user, on a route that changes something. */
export const readOnlyToken = (administrator: string): Refusal =>
  new Refusal('read_only_token', {
    headers: challenge('insufficient_scope'),
    reason: `the token is for ${administrator} to read by`,
  })

const challenge = (...about: Parameters<typeof bearerChallenge>) => ({ 'www-authenticate': bearerChallenge(...about) })
