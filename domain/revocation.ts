/** Which access tokens are refused from now on. */
export type Revocation = { revokedAt: number; expiresAt: number } & (
  | { kind: 'jti' | 'sid'; id: string }
  /** tokens that were signed with a key that is withdrawn, whatever they say; recorded so that everyone looks at the keys */
  | { kind: 'key'; id: string }
  /** tokens of the user from before `generation`, but for those of one session */
  | { kind: 'user'; id: string; generation: number; exceptSessionId?: string }
  /** tokens of the client from before its `generation` */
  | { kind: 'client'; id: string; generation: number }
)

/** Whether a revocation names one thing that is revoked or not; one of a user or client says up to which generation. */
export const namesOne = ({ kind }: Revocation): boolean => kind === 'jti' || kind === 'sid' || kind === 'key'

/** A generation that no token reaches: of a user who is gone. */
export const everyGeneration = Number.MAX_SAFE_INTEGER
