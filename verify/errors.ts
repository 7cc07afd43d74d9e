import { type SignInDemand, signInLacks } from '../domain/authentication.ts'
import { bearerChallenge, tokenFailures } from '../domain/bearer.ts'
import { omitUndefined } from '../domain/omit-undefined.ts'

/** The problem types of the refusals, as the server names them; `verifier_unavailable` is the verifier's own. */
const problems = {
  missing_token: [401, 'An access token is required'],
  invalid_token: [401, 'The access token was refused'],
  insufficient_user_authentication: [401, 'A stronger or a more recent sign-in is needed'],
  insufficient_scope: [403, 'The access token does not carry the scope that is needed'],
  verifier_unavailable: [503, 'Access tokens cannot be checked at the moment'],
} as const

/** Every way in which a token is not accepted: type of the problem, and the words for the client. */
const failures = {
  missing: ['missing_token', problems.missing_token[1]],
  expired: ['invalid_token', tokenFailures.expired],
  revoked: ['invalid_token', tokenFailures.revoked],
  invalid: ['invalid_token', tokenFailures.invalid],
  scope: ['insufficient_scope', 'The access token lacks the scope that is needed'],
  role: ['insufficient_scope', 'The access token lacks the role that is needed'],
  level: ['insufficient_user_authentication', signInLacks.level],
  age: ['insufficient_user_authentication', signInLacks.age],
  unavailable: ['verifier_unavailable', problems.verifier_unavailable[1]],
} as const

export type Failure = keyof typeof failures

/** The body of the answer, RFC 9457. */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
}

const retryAfterSeconds = 5

/** What was needed: `scope` of a failure for `scope`, `signIn` of one for `level` or `age`. */
interface Needed {
  scope?: string
  signIn?: SignInDemand
}

function challengeOf(failure: Failure, { scope, signIn = {} }: Needed): string | undefined {
  if (failure === 'unavailable') return undefined
  if (failure === 'missing') return bearerChallenge()
  if (failure === 'role' || failure === 'scope') return bearerChallenge('insufficient_scope', omitUndefined({ scope }))
  if (failure === 'level' || failure === 'age')
    return bearerChallenge('insufficient_user_authentication', { description: signInLacks[failure], signIn })
  return bearerChallenge('invalid_token', { description: tokenFailures[failure] })
}

/**
 * Why a token was not accepted, and the whole answer to the request that brought it: RFC 6750 §3, RFC 9470 §3 and RFC 9457.
 *
 * ```ts
 * response.writeHead(error.statusCode, error.headers).end(JSON.stringify(error.body))
 * ```
 *
 * `message` says exactly why, for the log. Neither it nor the answer ever holds the token or a secret.
 */
export class VerifierError extends Error {
  override readonly name: string = 'VerifierError'
  readonly failure: Failure
  /** 401, 403 or 503 */
  readonly statusCode: number
  /** `content-type` and `cache-control`, with `www-authenticate` of a refusal or `retry-after` (seconds) of a 503 */
  readonly headers: Readonly<Record<string, string>>
  /** RFC 6750 §3; undefined for a 503 */
  readonly wwwAuthenticate: string | undefined
  readonly body: Readonly<Problem>

  /**
   * @param reason words for the log
   * @param about what was needed; `detail` are words for the client in the place of the usual ones
   */
  constructor(failure: Failure, reason: string, about: Needed & { detail?: string | undefined; cause?: unknown } = {}) {
    super(reason, { cause: about.cause })
    const [problem, usual] = failures[failure]
    const { detail = usual } = about
    const [status, title] = problems[problem]
    this.failure = failure
    this.statusCode = status
    this.wwwAuthenticate = challengeOf(failure, about)
    this.headers = {
      'content-type': 'application/problem+json; charset=utf-8',
      'cache-control': 'no-store',
      ...(this.wwwAuthenticate === undefined
        ? { 'retry-after': String(retryAfterSeconds) }
        : { 'www-authenticate': this.wwwAuthenticate }),
    }
    this.body = { type: `urn:latchkey:problem:${problem}`, title, status, detail }
  }
}

/** The same error, whose answer names the metadata of the service that was asked (RFC 9728 §5.1). */
export function pointTo(resourceMetadata: string | undefined, error: unknown): unknown {
  if (resourceMetadata === undefined || !(error instanceof TokenRefused)) return error
  const wwwAuthenticate = `${error.wwwAuthenticate}, resource_metadata="${resourceMetadata}"`
  return Object.assign(error, { wwwAuthenticate, headers: { ...error.headers, 'www-authenticate': wwwAuthenticate } })
}

/**
 * The token is missing, expired, revoked, invalid, its user's sign-in too weak or too old (401), or it lacks a scope or
 * role (403).
 */
export class TokenRefused extends VerifierError {
  override readonly name = 'TokenRefused'
}

/**
 * Whether the token is good is not known: keys or revocations cannot be fetched. 503, never to be read as "revoked".
 */
export class VerifierUnavailable extends VerifierError {
  override readonly name = 'VerifierUnavailable'

  constructor(reason: string, cause?: unknown) {
    super('unavailable', reason, { cause })
  }
}
