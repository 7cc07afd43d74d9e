import { setImmediate } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { AccessTokenClaims } from '../../domain/access-token.ts'
import { checked } from '../../domain/checks.ts'
import { revocationExpiry } from '../../domain/lifetimes.ts'
import { createRevocationSet, type Revocation } from '../../domain/revocation.ts'
import { clockSkewMs } from '../../domain/time.ts'
import { Refusal } from '../../errors.ts'
import type { AuditedWrites } from '../../stores/audit.ts'
import { type Store, StoreUnavailable } from '../../stores/store.ts'
import type { RevocationPage } from '../../stores/tables/revocations.ts'

declare module 'fastify' {
  interface FastifyInstance {
    revocations: Awaited<ReturnType<typeof createRevocations>>
  }
}

/** How often the revocations of other processes are fetched. */
const pollMs = 400

/** After this long without an answer of the store, a process no longer says that it knows everything. */
const upToDateMs = 2_000

/** A process that is cut off from the store vouches for tokens this long, and then refuses to. */
export const mostStaleMs = 5 * 60_000

/**
 * A session gets a token with each refresh. After this many were revoked one by one, the next ends the session: one
 * entry for all.
 */
export const tokensOfSessionAtMost = 10
/** A client's own tokens have no session that could end. At most this many of them are in force as revocations. */
export const tokensOfClientAtMost = 10_000
/** Some of them have expired by then. */
const retryAfterSeconds = '60'

/** Entries looked at with each poll, whether they have expired: a hundred thousand take ten seconds. */
const forgetAtOnce = 5_000

/** Hears what has been revoked, a page at a time. What it promises is waited for. */
export type Follower = (page: RevocationPage) => Promise<void> | void

/**
 * What is revoked, answered from memory. Each process follows the store, and knows its own revocations before it
 * answers.
 */
async function createRevocations({
  config,
  store: anyStore,
  jobs,
  now,
  leaps,
  uptimeMs,
}: Pick<FastifyInstance, 'config' | 'store' | 'jobs' | 'now' | 'leaps' | 'uptimeMs'>) {
  // The one write of its own; all others go through `changes`, which stands on this.
  const store = anyStore as Store
  const accessTtlSeconds = config.AUTH_ACCESS_TTL.seconds
  const inForce = createRevocationSet()
  /** by `jti`: the session or client of a token that was revoked here and by itself */
  const ownerOf = new Map<string, string>()
  /** how many of these each owner has, with those that are being recorded */
  const owned = new Map<string, number>()
  /** by kind and id: what is being recorded just now */
  const recording = new Map<string, Promise<boolean>>()
  let cursor: string | undefined

  const revocationLastsMs = revocationExpiry(0, accessTtlSeconds)
  let heldUntilMs = 0

  let heardAtMs = uptimeMs()
  const followers = new Set<Follower>()

  /** Has the other processes of this machine catch up; undefined where there are none. */
  let tellOthers: (() => Promise<void>) | undefined

  const count = (owner: string, by: 1 | -1) => {
    const tokens = (owned.get(owner) ?? 0) + by
    if (tokens > 0) owned.set(owner, tokens)
    else owned.delete(owner)
  }

  /**
   * Keeps a revocation for its whole life from now on, on a clock that nobody sets: it is still known when a clock
   * that was wrong for a while has been put right.
   */
  function learn(revocation: Revocation): void {
    const { revokedAt, expiresAt } = revocation
    inForce.add(revocation, uptimeMs() + Math.max(0, expiresAt - revokedAt))
    if (now() - revokedAt > clockSkewMs) heldUntilMs = uptimeMs() + revocationLastsMs
  }

  const forgetSome = (): void =>
    inForce.forgetExpired(uptimeMs() - leaps.behindMs(), forgetAtOnce, (kind, id) => {
      const owner = kind === 'jti' ? ownerOf.get(id) : undefined
      if (owner !== undefined && ownerOf.delete(id)) count(owner, -1)
    })

  /** Reads on to the end, and lets others have the event loop between the pages. */
  async function readOn(): Promise<void> {
    for (;;) {
      const askedAtMs = uptimeMs()
      const page = await store.revocationsSince(cursor)
      cursor = page.cursor
      for (const revocation of page.revocations) learn(revocation)
      if (page.revocations.length > 0) for (const follower of followers) await follower(page)
      if (!page.more) {
        heardAtMs = askedAtMs
        return
      }
      await setImmediate()
    }
  }

  let reading: Promise<void> | undefined
  let readingNext: Promise<void> | undefined
  /** Catches up with what is in the store by the time of this call. Calls during a reading share the next one. */
  function catchUp(): Promise<void> {
    if (!reading) {
      reading = readOn().finally(() => {
        reading = undefined
      })
      return reading
    }
    readingNext ??= reading
      .finally(() => {
        readingNext = undefined
      })
      .then(catchUp)
    return readingNext
  }

  /** After something was revoked here: when it resolves, this process and the others of this machine refuse it. */
  async function pull(): Promise<void> {
    await Promise.all([catchUp(), tellOthers?.()])
  }

  /** @returns whether this call recorded it: it may be known already, or another call may be recording it */
  async function revokeOnce(
    kind: 'jti' | 'sid',
    id: string,
    { owner, write = store }: { owner?: string; write?: Pick<AuditedWrites, 'revoke'> } = {},
  ): Promise<boolean> {
    const key = `${kind}:${id}`
    const underWay = recording.get(key)
    if (underWay || inForce.has(kind, id)) {
      await underWay
      return false
    }
    const revocation: Revocation = { kind, id, revokedAt: now(), expiresAt: revocationExpiry(now(), accessTtlSeconds) }
    if (owner !== undefined) count(owner, 1)
    const done = write.revoke(revocation).then((isRecorded) => {
      learn(revocation)
      return isRecorded
    })
    recording.set(key, done)
    let isRecorded: boolean
    try {
      isRecorded = await done
      if (owner !== undefined) ownerOf.set(id, owner)
    } catch (error) {
      if (owner !== undefined) count(owner, -1)
      throw error
    } finally {
      recording.delete(key)
    }
    await pull()
    return isRecorded
  }

  /**
   * @param claims of a token that has been verified
   * @throws {StoreUnavailable} when the store has been silent so long that the answer would be a guess
   */
  function isRevoked(claims: AccessTokenClaims): boolean {
    if (uptimeMs() - heardAtMs > mostStaleMs)
      throw new StoreUnavailable(new Error('the revocations are too old to vouch for a token'))
    // Of a token from before the clock was set back nobody remembers whether it was revoked.
    const issuedBefore = (claims.iat + 1) * 1000
    return !leaps.mayBeWithin(issuedBefore, revocationLastsMs) || inForce.isRevoked(claims)
  }

  await catchUp()
  heldUntilMs = uptimeMs() + revocationLastsMs
  async function poll(): Promise<void> {
    // Leaps of the clock are seen also where nobody asks for the time.
    now()
    await catchUp()
    forgetSome()
  }
  jobs.every(pollMs, poll, 'the revocations could not be fetched; those known stay in force')

  return {
    pull,
    catchUp,
    poll,
    /** @param tell is awaited before a revocation made here is answered; bounded in time, and never fails */
    tellOthersBy(tell: () => Promise<void>): void {
      tellOthers = tell
    },
    get size() {
      return inForce.size
    },

    /** How long ago the store was read to its end. */
    get ageMs() {
      return uptimeMs() - heardAtMs
    },
    /** Whether what this process knows is what the store knew a moment ago. */
    get isUpToDate() {
      return uptimeMs() - heardAtMs < upToDateMs
    },
    /**
     * Whether the store may forget revocations that have expired: not those that were there at the start, nor those of
     * a process whose clock is behind, until the last token that they can concern has expired as time passes.
     */
    get maySweep() {
      return uptimeMs() > heldUntilMs
    },
    /** Where this process is in the store's list. */
    get cursor() {
      return cursor
    },
    /** A page of what was revoked since a cursor: of everything in force without one. */
    since: (position: string | undefined) => store.revocationsSince(position),
    /** Tells a follower of everything that comes from now on. @returns a function that ends it */
    follow(follower: Follower): () => void {
      followers.add(follower)
      return () => void followers.delete(follower)
    },

    /** Whether a signing key was revoked, and a token of it could be alive. */
    isKeyRevoked: (kid: string): boolean => inForce.has('key', kid),
    /** Up to which generation the tokens of a client are refused; 0 for none. */
    revokedGenerationOf: inForce.generationOfClient,

    /**
     * Refuses one access token from now on, RFC 7009 §2. What is revoked already, by whatever, is not recorded again.
     *
     * @param write the store, in a change
     * @param claims of a token that has been verified
     * @returns whether this call has recorded it; `many` when nothing was done: too many tokens of the session were revoked one by one, so it is to be
     * ended (§2.1)
     * @throws {Refusal} 503 when too many of a client's own tokens are in force as revocations
     */
    async revokeToken(write: AuditedWrites, claims: AccessTokenClaims): Promise<boolean | 'many'> {
      if (isRevoked(claims)) return false
      const { jti, client_id: clientId, act } = claims
      // One that an administrator holds is in their session, which its end must not end.
      const sid = act ? undefined : claims.sid
      const owner = sid === undefined ? `client:${clientId}` : `sid:${sid}`
      const tokens = recording.has(`jti:${jti}`) ? 0 : (owned.get(owner) ?? 0)
      if (sid !== undefined && tokens >= tokensOfSessionAtMost) return 'many'
      if (tokens >= tokensOfClientAtMost) {
        const reason = `the client has revoked ${tokens} of its tokens one by one`
        const checks = [checked('tokens_revoked', tokens, tokensOfClientAtMost), checked('client', clientId)]
        throw new Refusal('overloaded', { reason, checks, headers: { 'retry-after': retryAfterSeconds } })
      }
      return revokeOnce('jti', jti, { owner, write })
    },

    /** Refuses all access tokens of a session whose row is gone. */
    async revokeSession(sid: string): Promise<void> {
      await revokeOnce('sid', sid)
    },

    isRevoked,
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('revocations', await createRevocations(app))
  },
  { name: 'revocations', dependencies: ['store', 'jobs'] },
)
