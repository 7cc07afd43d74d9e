import type { Claims } from './token.ts'

/** What is not accepted any more, as the feed tells it. */
export type Entry = { id: string; expiresAt: number } & (
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
 */
export function createRevocations(onKeyWithdrawn: (kid: string) => void = () => {}) {
  // A map for each kind, so that the ids are looked up as they are: this is on the way of every check.
  const inForce = { jti: new Map(), sid: new Map(), key: new Map(), user: new Map(), client: new Map() } as {
    [Kind in Entry['kind']]: Map<string, Extract<Entry, { kind: Kind }>>
  }
  const maps: Map<string, Entry>[] = Object.values(inForce)

  return {
    get size() {
      return maps.reduce((sum, { size }) => sum + size, 0)
    },

    /** Entries may come twice and out of order; a later generation covers an earlier one. */
    add(entry: Entry): void {
      const map: Map<string, Entry> = inForce[entry.kind]
      const known = map.get(entry.id)
      if (known) {
        if ('generation' in known && 'generation' in entry && known.generation > entry.generation) return
        if (known.expiresAt > entry.expiresAt) entry.expiresAt = known.expiresAt
      }
      map.set(entry.id, entry)
      if (entry.kind === 'key') onKeyWithdrawn(entry.id)
    },

    /** Forgets what no token that is alive can be concerned by. */
    forgetExpired(now: number): void {
      for (const map of maps) for (const [id, { expiresAt }] of map) if (expiresAt <= now) map.delete(id)
    },

    /** Whether a key was withdrawn, although a replica that lags behind may still publish it. */
    isKeyWithdrawn: (kid: string): boolean => inForce.key.has(kid),

    /** Whether a token is refused before its time; the rules are the server's. */
    isRevoked({ jti, sid, sub, client_id: clientId }: Claims, generations: Generations): boolean {
      if (inForce.jti.has(jti)) return true
      const client = inForce.client.get(clientId)
      if (client && generations.client < client.generation) return true
      if (sid === undefined) return false
      if (inForce.sid.has(sid)) return true
      const user = inForce.user.get(sub)
      return user !== undefined && generations.user < user.generation && sid !== user.exceptSid
    },
  }
}
export type Revocations = ReturnType<typeof createRevocations>

/** What the feed said, and where in it one is then. */
export interface News {
  entries: Entry[]
  /** of kinds that are not known here: a later server's */
  unknownKinds: string[]
}

/**
 * Reads `{"revocations": […]}`.
 *
 * @throws {Error} when anything in it is not as it has to be: an entry that was not understood may be the one that counts
 */
export function readNews(message: unknown): News {
  const list = (message as { revocations?: unknown } | null)?.revocations
  if (!Array.isArray(list)) throw new Error('the feed sent something that is no list of revocations')
  const news: News = { entries: [], unknownKinds: [] }
  for (const item of list) {
    const { kind, id, generation, except_sid: exceptSid, expires_at: expires } = (item ?? {}) as Record<string, unknown>
    const expiresAt = typeof expires === 'string' ? Date.parse(expires) : Number.NaN
    if (typeof kind !== 'string' || typeof id !== 'string' || Number.isNaN(expiresAt)) throw new Error('the feed sent a malformed entry')
    if (kind === 'jti' || kind === 'sid' || kind === 'key') news.entries.push({ kind, id, expiresAt })
    else if (kind === 'user' || kind === 'client') {
      const isExcepted = typeof exceptSid === 'string'
      if (!Number.isInteger(generation) || !(isExcepted || exceptSid === undefined)) throw new Error('the feed sent a malformed entry')
      const common = { id, generation: generation as number, expiresAt }
      news.entries.push(kind === 'user' ? { kind, ...common, exceptSid: isExcepted ? exceptSid : undefined } : { kind, ...common })
    } else news.unknownKinds.push(kind)
  }
  return news
}
