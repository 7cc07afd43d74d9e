import type { RevokedTokens } from '../domain/revocation.ts'

/** A revocation as the feed tells it; `lifeMs` is how long a token that it concerns can be alive. */
export type Entry = RevokedTokens & { lifeMs: number }

/** What the feed said. */
export interface News {
  entries: Entry[]
  /** kinds that are not known here: a later server's */
  unknownKinds: string[]
  /** whether it is a page with another behind it */
  more: boolean
}

/**
 * Reads `{"revocations": […]}`.
 *
 * @param now for entries that do not say when they were made
 * @throws {Error} when any of it is malformed: an entry that was not understood may be the one that counts
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
      if (!Number.isInteger(generation) || !(exceptSid === undefined || typeof exceptSid === 'string'))
        throw new Error('the feed sent a malformed entry')
      const common = { id, generation: generation as number, lifeMs }
      if (kind === 'client') news.entries.push({ kind, ...common })
      else news.entries.push({ kind, ...common, ...(exceptSid !== undefined && { exceptSessionId: exceptSid }) })
    } else news.unknownKinds.push(kind)
  }
  return news
}
