import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import {
  type AccessTokenClaims,
  type Generations,
  InvalidToken,
  jtiOf,
  readClaims,
  readHeader,
  wrongTime,
} from '../../domain/access-token.ts'
import { checked } from '../../domain/checks.ts'
import { actingTtlSeconds } from '../../domain/lifetimes.ts'
import { clockSkewSeconds } from '../../domain/time.ts'
import { Refusal, tokenRefused } from '../../errors.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { createSigner } from './signing.ts'

declare module 'fastify' {
  interface FastifyInstance {
    accessTokens: ReturnType<typeof createAccessTokens>
  }
}

/** What the issuer of a new token decides; the other claims follow from the settings and the time. */
export type AccessTokenSubject = Pick<AccessTokenClaims, 'aud' | 'sub' | 'client_id'> & {
  [Claim in 'sid' | 'scope' | 'roles' | 'auth_time' | 'amr' | 'acr']?: AccessTokenClaims[Claim] | undefined
} & {
  /** travel in the jti, so that all older tokens can be revoked by one entry */
  generations: Generations
  /** the administrator who is to hold it, and the jti of their own token */
  actor?: { sub: string; jti: string }
  /** `exp` at the latest, seconds since the epoch */
  lastsUntil?: number | undefined
}

/** A token that passed every check that does not change with time. */
interface Verified {
  claims: AccessTokenClaims
  /** of the key that signed it */
  kid: string
}

const cachedTokens = 5_000

/** Signs and checks access tokens. */
function createAccessTokens({
  config,
  signingKeys,
  traced,
  now,
}: Pick<FastifyInstance, 'config' | 'signingKeys' | 'traced' | 'now'>) {
  const iss = config.AUTH_ISSUER
  const ttlSeconds = config.AUTH_ACCESS_TTL.seconds
  // A life that AUTH_ACCESS_TTL does not allow would outlive the revocations, which are kept for that long.
  const limits = { maxAgeSeconds: ttlSeconds, clockSkewSeconds }
  const actingLimits = { maxAgeSeconds: actingTtlSeconds, clockSkewSeconds }
  const sign = traced('sign', createSigner(config.AUTH_WORKERS))
  /** by the whole text, so that nothing can be confused */
  const verified = new Lru<Verified>(cachedTokens)

  /**
   * Checks what does not change with time, by `@fastify/jwt` (see `plugins/http/jwt.ts`) and by the rules that verify/
   * shares.
   */
  async function verifyOnce(request: FastifyRequest, token: string): Promise<Verified> {
    try {
      const { kid, payload } = readHeader(token)
      request.presentedToken = token
      await request.jwtVerify()
      return { kid, claims: readClaims(payload, iss) }
    } catch (error) {
      if (error instanceof Refusal || error instanceof StoreUnavailable) throw error
      const reason = error instanceof InvalidToken ? error.message : (error as { code?: string }).code
      // readClaims says so in these words.
      const checks = reason === 'iss is another' ? [checked('issuer', 'another', iss)] : []
      throw tokenRefused('invalid', reason ?? 'not a JWT', ...checks)
    }
  }

  return {
    ttlSeconds,

    /** Makes an access token, RFC 9068 §2. */
    issue(subject: AccessTokenSubject): Promise<string> {
      const { aud, sub, client_id, sid, scope, roles, auth_time, acr, amr, generations, actor, lastsUntil } = subject
      const iat = Math.floor(now() / 1000)
      const exp = actor ? iat + actingTtlSeconds : Math.min(iat + ttlSeconds, lastsUntil ?? Number.POSITIVE_INFINITY)
      const jti = jtiOf(generations, randomUUID(), actor?.jti)
      const act = actor && { sub: actor.sub }
      // Always the same members: what is undefined is left out of JSON.
      const claims = { iss, aud, sub, client_id, sid, scope, roles, auth_time, acr, amr, act, iat, exp, jti }
      return sign(signingKeys.current(), 'at+jwt', claims)
    },

    /**
     * Checks a presented token by RFC 9068 §4 and RFC 8725: signature by a key of ours, type, issuer, claims, time.
     * Does not look at its audience, nor at revocations.
     *
     * @param request that presents it
     * @returns the claims, frozen
     * @throws {Refusal} 401 `invalid_token`, expired or invalid
     * @throws {StoreUnavailable} when its key is not known here, and cannot be looked up
     */
    async verify(request: FastifyRequest, token: string): Promise<AccessTokenClaims> {
      let known = verified.get(token)
      if (!known) {
        known = await verifyOnce(request, token)
        verified.set(token, known)
      }
      const { claims, kid } = known
      const wrong = wrongTime(claims, now() / 1000, claims.act ? actingLimits : limits)
      if (wrong) {
        const age = checked('access_token_seconds', Math.round(now() / 1000 - claims.iat), ttlSeconds)
        throw tokenRefused(wrong.failure, wrong.reason, age)
      }
      // It may have been withdrawn since the token was verified.
      if (!signingKeys.has(kid)) throw tokenRefused('invalid', 'its key is none of ours any more')
      return claims
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('accessTokens', createAccessTokens(app))
  },
  { name: 'access-tokens', dependencies: ['signing-keys', 'jwt'] },
)
