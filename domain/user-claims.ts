import type { User } from './user.ts'

/** What apps may be told of a user, OpenID Connect Core §5.1, by the scope that gives it (§5.4). */
export const claimsOfScope = {
  profile: ['name', 'preferred_username'],
  email: ['email', 'email_verified'],
} as const

/** Of what people see of themselves. */
type Told = Pick<User, 'username' | 'email' | 'emailKey'>

const values: Record<string, (user: Told) => string | boolean | undefined> = {
  name: ({ username }) => username,
  preferred_username: ({ username }) => username,
  email: ({ email }) => email,
  email_verified: ({ email, emailKey }) => (email === undefined ? undefined : emailKey !== undefined),
}

/**
 * Claims of a user.
 *
 * @param names of claims; what is none of ours, or not known of this user, is left out
 */
export function claimsOfUser(user: Told, names: readonly string[]): Record<string, string | boolean> {
  const claims: Record<string, string | boolean> = {}
  for (const name of names) {
    const value = Object.hasOwn(values, name) ? values[name]?.(user) : undefined
    if (value !== undefined) claims[name] = value
  }
  return claims
}

/** The names of the claims that a scope gives. */
export const claimsOf = (scope: readonly string[]): string[] =>
  scope.flatMap((name) => (Object.hasOwn(claimsOfScope, name) ? claimsOfScope[name as keyof typeof claimsOfScope] : []))
