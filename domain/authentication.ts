import type { AccessTokenClaims } from './access-token.ts'
import { elapsedMs, isFuture } from './time.ts'

/** Authentication Method References, RFC 8176 §2. A recovery code has none, and shows by `mfa` alone. */
export const amrs = ['pwd', 'otp', 'hwk', 'swk', 'user', 'mfa'] as const
export type Amr = (typeof amrs)[number]

/** What a person has signed in with, in a word, for counting. */
export const signInMethods = [
  'password',
  'password_totp',
  'password_passkey',
  'password_recovery_code',
  'passkey',
] as const
export type SignInMethod = (typeof signInMethods)[number]

export function signInMethodOf(amr: Amr[]): SignInMethod {
  if (amr.includes('hwk') || amr.includes('swk')) return amr.includes('pwd') ? 'password_passkey' : 'passkey'
  if (amr.includes('otp')) return 'password_totp'
  return amr.includes('mfa') ? 'password_recovery_code' : 'password'
}

/** How a person has signed in, as the session of it keeps. */
export interface Authentication {
  /** milliseconds since the epoch, the `auth_time` of tokens */
  authAt: number
  amr: Amr[]
  /** the id of the second factor, or of the passkey that was both; one factor, where there is none */
  factor?: string
}

/** What `acr` says (RFC 9470 §4), the lowest first: one factor, and two, or a passkey that has verified its user. */
export const acrValues = ['urn:latchkey:acr:1', 'urn:latchkey:acr:2'] as const
export type Acr = (typeof acrValues)[number]
export const [oneFactor, twoFactors] = acrValues

/** The first that is known, of those that a client asks for, the best first. */
export const firstKnownAcr = (values: string[]): Acr | undefined =>
  values.find((value): value is Acr => acrValues.some((known) => known === value))

/** How old a sign-in may be for a change of factors, in seconds: the `max_age` of what is refused. */
export const freshForSeconds = 300

/**
 * What a sign-in is worth now. A second factor counts for a while and not for the life of a session, which is weeks.
 *
 * @param stepUpTtlMs AUTH_STEP_UP_TTL
 */
export function acrOf(
  { authAt, factor }: Pick<Authentication, 'authAt' | 'factor'>,
  now: number,
  stepUpTtlMs: number,
): Acr {
  return factor !== undefined && isWithin(authAt, stepUpTtlMs, now) ? twoFactors : oneFactor
}

/** Whether something was at most so long ago. A time in the future was by a clock that was wrong, and is no proof. */
export const isWithin = (at: number, lastMs: number, now: number): boolean =>
  !isFuture(at, now) && elapsedMs(at, now) <= lastMs

/** Whether one level is at least another. */
export const isAtLeast = (acr: Acr, wanted: Acr): boolean => acrValues.indexOf(acr) >= acrValues.indexOf(wanted)

/** What is asked of the sign-in of a user, RFC 9470 §4. */
export interface SignInDemand {
  /** the least level */
  acr?: Acr | undefined
  /** how long ago it may be */
  maxAgeSeconds?: number | undefined
}

/** What the claims of a token say of it. */
export type SignIn = Pick<AccessTokenClaims, 'acr' | 'auth_time'>

/**
 * The `auth_time` of tokens, in whole seconds, and so up to a second before the sign-in. Whoever judges its age judges
 * this: an API would refuse as too old what was good enough for a step-up.
 */
export const authTimeOf = ({ authAt }: Pick<Authentication, 'authAt'>): number => Math.floor(authAt / 1000)

/** What a sign-in lacks, in the words of RFC 9470 §3. */
export const signInLacks = {
  level: 'A different authentication level is required',
  age: 'More recent authentication is required',
} as const
export type SignInLack = keyof typeof signInLacks

/**
 * Holds a sign-in against what is asked of it.
 *
 * @param signIn where a claim is missing, nothing is known, and what is asked is lacking
 * @returns what a new sign-in would have to mend; undefined when there is nothing
 */
export function lackOf(
  { acr, auth_time: authTime }: SignIn,
  { acr: wanted, maxAgeSeconds }: SignInDemand,
  now: number,
): SignInLack | undefined {
  if (wanted !== undefined && !(acr !== undefined && isAtLeast(acr as Acr, wanted))) return 'level'
  if (maxAgeSeconds === undefined) return undefined
  return authTime !== undefined && isWithin(authTime * 1000, maxAgeSeconds * 1000, now) ? undefined : 'age'
}
