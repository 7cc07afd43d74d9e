import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Revocation, StoreUnavailable } from '../stores/store.ts'
import { type AccessTokenClaims, generationsOf } from './access-tokens.ts'

declare module 'fastify' {
  interface FastifyInstance {
    revocations: Awaited<ReturnType<typeof createRevocations>>
  }
}

/** How often the revocations of other processes are fetched. */
const pollMs = 400

/** Not heard of the store for so long, a process no longer says that it knows everything. */
const upToDateMs = 2_000

/** Cut off from the store, a process vouches for tokens for so long, and then refuses to. */
const mostStaleMs = 5 * 60_000

/** Is told what has been revoked, and the cursor that stands behind it. */
export type Follower = (revocations: Revocation[], cursor: string) => void

/**
 * What is revoked, answered from memory. Each process follows the store; what it revoked itself it knows before it answers.
 */
async function createRevocations(app: FastifyInstance) {
  const { store, now, uptimeMs, log } = app
  const inForce = new Map<string, Revocation>()
  let cursor: string | undefined

  let heardAtMs = uptimeMs()
  const followers = new Set<Follower>()

  /** Has the other processes of this machine catch up; undefined where there are none. */
  let tellOthers: (() => Promise<void>) | undefined

  /** Catches up with the store. */
  async function catchUp(): Promise<void> {
    const askedAtMs = uptimeMs()
    const { revocations, cursor: next } = await store.revocationsSince(cursor)
    cursor = next
    heardAtMs = askedAtMs
    for (const revocation of revocations) {
      const key = `${revocation.kind}:${revocation.id}`
      const known = inForce.get(key)
      // Entries may come twice and out of order; a later generation covers the earlier.
      if (known && 'generation' in known && 'generation' in revocation && known.generation > revocation.generation) continue
      inForce.set(key, revocation)
    }
    // Awaited: a key that was withdrawn is to be gone when this process says that it has caught up.
    if (revocations.some(({ kind }) => kind === 'key')) await app.signingKeys.poll()
    if (revocations.length > 0) for (const follower of followers) follower(revocations, next)
  }

  /** After something was revoked here: when it resolves, this process and the others of this machine refuse it. */
  async function pull(): Promise<void> {
    await Promise.all([catchUp(), tellOthers?.()])
  }

  function forgetExpired(): void {
    for (const [key, { expiresAt }] of inForce) if (expiresAt <= now()) inForce.delete(key)
  }

  await catchUp()
  let isPolling = false
  const poll = async () => {
    if (isPolling) return
    isPolling = true
    try {
      await catchUp()
      forgetExpired()
    } catch (error) {
      log.warn({ err: error }, 'the revocations could not be fetched; those known stay in force')
    } finally {
      isPolling = false
    }
  }
  const timer = setInterval(poll, pollMs).unref()
  app.addHook('onClose', async () => clearInterval(timer))

  return {
    pull,
    catchUp,
    /** @param tell is waited for before whoever revoked something is answered; bounded in time, and never fails */
    tellOthersBy(tell: () => Promise<void>): void {
      tellOthers = tell
    },
    get size() {
      return inForce.size
    },

    /** Whether what this process knows is what the store knew a moment ago. */
    get isUpToDate() {
      return uptimeMs() - heardAtMs < upToDateMs
    },
    /** Where this process is in the store's list. */
    get cursor() {
      return cursor
    },
    /** What was revoked since a cursor: everything in force without one. */
    since: (position: string | undefined) => store.revocationsSince(position),
    /** Tells a follower of everything that comes from now on. @returns a function that ends it */
    follow(follower: Follower): () => void {
      followers.add(follower)
      return () => void followers.delete(follower)
    },

    /** Records that one access token, all of one session, or all that one key has signed, are refused from now on. */
    async revoke(kind: 'jti' | 'sid' | 'key', id: string): Promise<void> {
      await store.revoke({ kind, id, revokedAt: now(), expiresAt: app.accessTokens.forgottenAt() })
      await pull()
    },

    /**
     * @param claims of a token that has been verified
     * @throws {StoreUnavailable} when the store has not been heard of for so long that the answer would be a guess
     */
    isRevoked({ jti, sid, sub, client_id: clientId }: AccessTokenClaims): boolean {
      if (uptimeMs() - heardAtMs > mostStaleMs) throw new StoreUnavailable(new Error('the revocations are too old to vouch for a token'))
      if (inForce.size === 0) return false
      if (inForce.has(`jti:${jti}`)) return true
      const client = inForce.get(`client:${clientId}`)
      if (client?.kind === 'client' && generationsOf(jti).client < client.generation) return true
      if (sid === undefined) return false
      if (inForce.has(`sid:${sid}`)) return true
      const user = inForce.get(`user:${sub}`)
      return user?.kind === 'user' && generationsOf(jti).user < user.generation && sid !== user.exceptSessionId
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('revocations', await createRevocations(app))
  },
  { name: 'revocations', dependencies: ['store', 'access-tokens'] },
)
