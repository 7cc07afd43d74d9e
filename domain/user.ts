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
  /** where an import had the user from, and what they were called there: the two are unique together */
  source?: string
  externalId?: string
  /** Rises when all sessions end at once. Sessions and access tokens carry the generation that they were made in. */
  generation: number
}

/** In the place of a hash. No password is right, and an administrator may set one. */
export const noPassword = '!'

/**
 * Whether a user may have tokens now: the one rule for every way to get them. `isCurrent` in
 * `stores/postgres/tables/sessions.ts` is the same for one statement.
 *
 * @param generation in which a session, or whatever stands for the user, was made; without one, the user's own
 */
export function mayHaveTokens(user: User | undefined, generation = user?.generation): user is User {
  return user !== undefined && user.disabledAt === undefined && user.generation === generation
}
