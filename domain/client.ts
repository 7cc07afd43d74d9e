/** Who asks for tokens, RFC 6749 §2. */
export interface Client {
  /** the `client_id` */
  id: string
  type: 'confidential' | 'public'
  /** values of `grant_type` */
  grants: string[]
  scopes: string[]
  /** what its tokens are for, their `aud`; empty for that of the settings */
  audience: string[]
  /** which tokens it may ask about: none, those for its audience, or all */
  introspect: 'none' | 'audience' | 'all'
  /** that are good, the newest first */
  secrets: ClientSecret[]
  createdAt: number
  disabledAt?: number
  /** by AUTH_CLIENTS_FILE, and gone when that does not name it any more */
  isDeclared: boolean
  /** Rises with every change. Access tokens carry the generation that they were made in. Begins at the time of creation, so that one who comes later under the same id is ahead. */
  generation: number
}

export interface ClientSecret {
  hash: string
  createdAt: number
  /** after which it is refused, where another has taken its place */
  expiresAt?: number
}
