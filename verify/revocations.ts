import type { Claims } from './token.ts'

/** What is not accepted any more, as the feed tells it; `lifeMs` is for how long a token that it concerns can be alive. */
export type Entry = { id: string; lifeMs: number } & (
  | { kind: 'jti' | 'sid' | 'key' }
  | { kind: 'user'; generation: number; exceptSid: string | undefined }
  | { kind: 'client'; generation: number }
)

/** Of the user and of the client, at the time that a token was made. */
export interface Generations {
  user: number
  client: number
}

/** The generations that a token was made in, from its jti `<user>.<client>.<random>`; 0 for one that the jti does not have. */
export function generationsOf(jti: string): Generations {
  const [, user = 0, client = 0] = /^(\d{1,15})\.(?:(\d{1,15})\.)?/.exec(jti) ?? []
  return { user: Number(user), client: Number(client) }
}

/**
 * Holds the revocations that are in force, in memory.
 *
 * @param onKeyWithdrawn is told at once which key verifies nothing any more
 * @param uptimeMs on a clock that nobody sets
 */
export function createRevocations(
  onKeyWithdrawn: (kid: string) => void = () => {},
  uptimeMs = () => performance.now(),
) {
  // A map for each kind, so that the ids are looked up as they are: this is on the way of every check. Of most there are very many,
  // and nothing to keep but until when, on a clock that nobody sets: one that leaps ahead for a moment has nothing forgotten.
  const named = { jti: new Map<string, number>(), sid: new Map<string, number>(), key: new Map<string, number>() }
  const user = new Map<string, { untilMs: number; generation: number; exceptSid: string | undefined }>()
  const client = new Map<string, { untilMs: number; generation: number }>()

  return {
    get size() {
      return named.jti.size + named.sid.size + named.key.size + user.size + client.size
    },

    /** Entries may come twice and out of order; a later generation covers an earlier one. */
    add(entry: Entry): void {
      const untilMs = uptimeMs() + entry.lifeMs
      if (entry.kind === 'user' || entry.kind === 'client') {
        const known = (entry.kind === 'user' ? user : client).get(entry.id)
        if (known && known.generation > entry.generation) return
        const { id, generation } = entry
        const until = Math.max(known?.untilMs ?? 0, untilMs)
        if (entry.kind === 'user') user.set(id, { untilMs: until, generation, exceptSid: entry.exceptSid })
        else client.set(id, { untilMs: until, generation })
        return
      }
      const map = named[entry.kind]
      map.set(entry.id, Math.max(map.get(entry.id) ?? 0, untilMs))
      if (entry.kind === 'key') onKeyWithdrawn(entry.id)
    },

    /** Forgets what no token that is alive can be concerned by. */
    forgetExpired(): void {
      const nowMs = uptimeMs()
      for (const map of Object.values(named)) for (const [id, untilMs] of map) if (untilMs <= nowMs) map.delete(id)
      for (const map of [user, client]) for (const [id, { untilMs }] of map) if (untilMs <= nowMs) map.delete(id)
    },

    /** Whether a key was withdrawn, although a replica that lags behind may still publish it. */
    isKeyWithdrawn: (kid: string): boolean => named.key.has(kid),

    /** Whether a token is refused before its time; the rules are the server's. */
    isRevoked({ jti, sid, sub, client_id: clientId }: Claims, generations: Generations): boolean {
      if (named.jti.has(jti)) return true
      const ofClient = client.get(clientId)
      if (ofClient && generations.client < ofClient.generation) return true
      if (sid === undefined) return false
      if (named.sid.has(sid)) return true
      const ofUser = user.get(sub)
      return ofUser !== undefined && generations.user < ofUser.generation && sid !== ofUser.exceptSid
    },
  }
}
export type Revocations = ReturnType<typeof createRevocations>

/** What the feed said, and where in it one is then. */
export interface News {
  entries: Entry[]
  /** of kinds that are not known here: a later server's */
  unknownKinds: string[]
  /** whether it is a page, and there is another behind it */
  more: boolean
}

/**
 * Reads `{"revocations": […]}`.
 *
 * @param now for entries that do not say when they were made
 * @throws {Error} when anything in it is not as it has to be: an entry that was not understood may be the one that counts
 */
export function readNews(message: unknown, now: number): News {
  const { revocations: list, more } = (message ?? {}) as { revocations?: unknown; more?: unknown }
  if (!Array.isArray(list)) throw new Error('the feed sent something that is no list of revocations')
  const news: News = { entries: [], unknownKinds: [], more: more === true }
  for (const item of list) {
    const {
      kind,
      id,
      generation,
      except_sid: exceptSid,
      revoked_at: revoked,
      expires_at: expires,
    } = (item ?? {}) as Record<string, unknown>
    const expiresAt = typeof expires === 'string' ? Date.parse(expires) : Number.NaN
    if (typeof kind !== 'string' || typeof id !== 'string' || Number.isNaN(expiresAt))
      throw new Error('the feed sent a malformed entry')
    const revokedAt = typeof revoked === 'string' ? Date.parse(revoked) : Number.NaN
    const lifeMs = expiresAt - (Number.isNaN(revokedAt) ? now : revokedAt)
    if (kind === 'jti' || kind === 'sid' || kind === 'key') news.entries.push({ kind, id, lifeMs })
    else if (kind === 'user' || kind === 'client') {
      const isExcepted = typeof exceptSid === 'string'
      if (!Number.isInteger(generation) || !(isExcepted || exceptSid === undefined))
        throw new Error('the feed sent a malformed entry')
      const common = { id, generation: generation as number, lifeMs }
      news.entries.push(
        kind === 'user' ? { kind, ...common, exceptSid: isExcepted ? exceptSid : undefined } : { kind, ...common },
      )
    } else news.unknownKinds.push(kind)
  }
  return news
}
