export interface User {
  /** UUID, the `sub` of tokens */
  id: string
  /** as typed */
  username: string
  /** NFKC and lower case, unique */
  nameKey: string
  /** PHC string */
  passwordHash: string
  roles: string[]
  createdAt: number
  disabledAt?: number
  /** Rises when all sessions end at once. Sessions and access tokens carry the generation that they were made in. */
  generation: number
}

/**
 * Whether a user may have tokens now: the one rule for every way to get them. `isCurrent` in `stores/postgres/sql.ts`
 * is the same for one statement.
 *
 * @param generation in which a session, or whatever stands for the user, was made; without one, the user's own
 */
export function mayHaveTokens(user: User | undefined, generation = user?.generation): user is User {
  return user !== undefined && user.disabledAt === undefined && user.generation === generation
}
