import { lacksFactor, type MfaPolicy } from './factor.ts'
import { omitUndefined } from './omit-undefined.ts'

/** The languages of mails and pages. */
export const locales = ['en', 'ko'] as const
export type Locale = (typeof locales)[number]

export interface User {
  /** UUID, the `sub` of tokens */
  id: string
  /** as typed */
  username: string
  /** NFKC and lower case, unique */
  nameKey: string
  /** PHC string; {@link noPassword} for a user who has none yet */
  passwordHash: string
  roles: string[]
  createdAt: number
  disabledAt?: number
  /** as typed */
  email?: string
  /** mapped, unique; only of an address that is verified */
  emailKey?: string
  /** in which mails are written: what the user asked for last */
  locale?: Locale
  /** where an import had the user from, and what they were called there: the two are unique together */
  source?: string
  externalId?: string
  /** whether there is a second factor, in the row of `UserFactors` */
  hasFactors?: true
  /** Rises when all sessions end at once. Sessions and access tokens carry the generation that they were made in. */
  generation: number
}

/** What a user is called and written to, and may do: what `changeUser` of the store changes. */
export type UserProfile = Pick<User, 'username' | 'nameKey' | 'email' | 'emailKey' | 'roles' | 'locale'>

export const profileOf = ({ username, nameKey, email, emailKey, roles, locale }: UserProfile): UserProfile =>
  omitUndefined({ username, nameKey, email, emailKey, roles, locale })

/** In the place of a hash. No password is right, and an administrator may set one. */
export const noPassword = '!'

/**
 * Whether a user may have tokens, for all that has changed since a time: what ends sessions, too. `isCurrent` in
 * `stores/postgres/tables/sessions.ts` is the same for one statement.
 *
 * @param generation in which a session, or whatever stands for the user, was made; without one, the user's own
 */
export function mayHaveTokens(user: User | undefined, generation = user?.generation): user is User {
  return user !== undefined && user.disabledAt === undefined && user.generation === generation
}

/** Why a user may not have tokens now, in words for the log. */
export type NoTokens = 'gone, disabled or changed' | 'a factor was not shown' | 'has no factor'

/**
 * Why a user may not have tokens now: the one rule of every way to get them. A refresh has it in the step of the store,
 * by `judgeRotation`: what a sign-in has shown is in its session.
 *
 * @param generation of whatever stands for the user; without one, the user's own
 * @param factor that was shown in the sign-in @param mfa AUTH_MFA
 */
export function whyNoTokens(
  user: User | undefined,
  { generation, factor, mfa }: { generation?: number; factor?: string | undefined; mfa: MfaPolicy },
): NoTokens | undefined {
  if (!mayHaveTokens(user, generation)) return 'gone, disabled or changed'
  if (user.hasFactors && factor === undefined) return 'a factor was not shown'
  return lacksFactor(user, mfa) ? 'has no factor' : undefined
}
