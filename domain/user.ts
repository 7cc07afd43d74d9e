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
