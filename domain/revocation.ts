import { generationsOf, type Revocable, tokenOfActor } from './access-token.ts'

/** Which access tokens are refused. */
export type RevokedTokens =
  | { kind: 'jti' | 'sid'; id: string }
  /**
   * tokens that were signed with a key that is withdrawn, whatever they say; recorded so that everyone looks at the
   * keys
   */
  | { kind: 'key'; id: string }
  /** tokens of the user from before `generation`, but for those of one session */
  | { kind: 'user'; id: string; generation: number; exceptSessionId?: string }
  /** tokens of the client from before its `generation` */
  | { kind: 'client'; id: string; generation: number }

/** Which access tokens are refused from now on. */
export type Revocation = { revokedAt: number; expiresAt: number } & RevokedTokens

/** Whether a revocation names one thing that is revoked or not; one of a user or client says up to which generation. */
export const namesOne = ({ kind }: Revocation): boolean => kind === 'jti' || kind === 'sid' || kind === 'key'

/** A generation that no token reaches: of a user who is gone. */
export const everyGeneration = Number.MAX_SAFE_INTEGER

/** Up to which generation tokens are refused, and until when that has to be known. */
interface Revoked {
  generation: number
  exceptSessionId: string | undefined
  until: number
}

/** The revocations in force, in memory. Times are milliseconds on a clock of the caller's that nobody sets. */
export type RevocationSet = ReturnType<typeof createRevocationSet>

/**
 * Makes an empty set. A map for each kind, so that ids are looked up as they are: every check of a token comes here.
 */
export function createRevocationSet() {
  const named = { jti: new Map<string, number>(), sid: new Map<string, number>(), key: new Map<string, number>() }
  const upTo = { user: new Map<string, Revoked>(), client: new Map<string, Revoked>() }

  function* expiries(): Generator<[of: Map<string, unknown>, kind: RevokedTokens['kind'], id: string, until: number]> {
    for (const kind of ['jti', 'sid', 'key'] as const)
      for (const [id, until] of named[kind]) yield [named[kind], kind, id, until]
    for (const kind of ['user', 'client'] as const)
      for (const [id, { until }] of upTo[kind]) yield [upTo[kind], kind, id, until]
  }
  let looking = expiries()

  /**
   * Whether a token was revoked: by itself, with its session, its client or its user, or with the token of the
   * administrator who holds it. Does not look at its key.
   */
  function isRevoked(token: Revocable): boolean {
    const { jti, sid, sub, client_id: clientId } = token
    if (named.jti.has(jti)) return true
    const ofActor = token.act && tokenOfActor(token)
    if (ofActor && isRevoked(ofActor)) return true
    const client = upTo.client.get(clientId)
    if (client && generationsOf(jti).client < client.generation) return true
    if (sid === undefined) return false
    if (named.sid.has(sid)) return true
    const user = upTo.user.get(sub)
    return user !== undefined && generationsOf(jti).user < user.generation && sid !== user.exceptSessionId
  }

  return {
    get size() {
      return named.jti.size + named.sid.size + named.key.size + upTo.user.size + upTo.client.size
    },

    /**
     * Adds a revocation. It may come twice and out of order: the later generation and the later end of two are kept.
     */
    add(tokens: RevokedTokens, until: number): void {
      const { id } = tokens
      if (tokens.kind === 'user' || tokens.kind === 'client') {
        const { kind, generation } = tokens
        const exceptSessionId = tokens.kind === 'user' ? tokens.exceptSessionId : undefined
        const known = upTo[kind].get(id)
        const last = known && known.generation > generation ? known : { generation, exceptSessionId }
        upTo[kind].set(id, { ...last, until: Math.max(known?.until ?? until, until) })
      } else {
        const ofKind = named[tokens.kind]
        ofKind.set(id, Math.max(ofKind.get(id) ?? until, until))
      }
    },

    /** Whether this one thing was revoked. */
    has: (kind: 'jti' | 'sid' | 'key', id: string): boolean => named[kind].has(id),

    /** Up to which generation the tokens of a client are refused; 0 for none. */
    generationOfClient: (id: string): number => upTo.client.get(id)?.generation ?? 0,

    isRevoked,

    /**
     * Forgets revocations that concern no living token any more.
     *
     * @param atMost entries are looked at; the next call goes on behind them
     * @param onForgotten is told of each
     */
    forgetExpired(now: number, atMost: number, onForgotten?: (kind: RevokedTokens['kind'], id: string) => void): void {
      for (let looked = 0; looked < atMost; looked++) {
        const { done, value } = looking.next()
        if (done) {
          looking = expiries()
          return
        }
        const [of, kind, id, until] = value
        if (until > now) continue
        of.delete(id)
        onForgotten?.(kind, id)
      }
    },
  }
}
