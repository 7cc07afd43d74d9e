import { createHash, createPublicKey, randomUUID, verify } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { InvalidToken } from '../../domain/access-token.ts'
import { acrOf, authTimeOf } from '../../domain/authentication.ts'
import type { Client } from '../../domain/client.ts'
import { type IdTokenHint, readIdToken } from '../../domain/id-token.ts'
import { authenticationOf, type Session } from '../../domain/session.ts'
import type { SigningAlg } from '../../domain/signing-key.ts'
import type { User } from '../../domain/user.ts'
import { claimsOfUser } from '../../domain/user-claims.ts'
import { createSigner } from './signing.ts'
import { dsaEncoding, hashOf } from './signing-thread.ts'

declare module 'fastify' {
  interface FastifyInstance {
    idTokens: ReturnType<typeof createIdTokens>
  }
}

/** What an ID token is about. */
interface IdTokenSubject {
  client: Client
  user: User
  session: Session
  /** that comes with it, and is bound to it by `at_hash` */
  accessToken?: string
  /** as the client has sent it */
  nonce?: string
  /** names of claims of the user that it asked to have in the ID token; all others are for `/userinfo` */
  claims?: string[]
}

/** OpenID Connect Back-Channel Logout 1.0 §2.4: two minutes at most are recommended. */
const logoutTtlSeconds = 120
const logoutEvent = 'http://schemas.openid.net/event/backchannel-logout'

/** RS256 is what every client has to know (OpenID Connect Discovery §3). */
const algOf = ({ idTokenAlg = 'RS256' }: Client): SigningAlg => idTokenAlg

/**
 * Signs what apps are told of a sign-in, OpenID Connect Core §2, and of its end. These are no access tokens, nor is an
 * access token one of these: each kind has its own `typ`, and what takes one refuses the others.
 */
function createIdTokens({ config, signingKeys, now }: Pick<FastifyInstance, 'config' | 'signingKeys' | 'now'>) {
  const iss = config.AUTH_ISSUER
  const seconds = () => Math.floor(now() / 1000)
  const signToken = createSigner(config.AUTH_WORKERS)

  async function sign(client: Client, typ: string, claims: object): Promise<string> {
    const key = await signingKeys.currentOf(algOf(client))
    return signToken(key, typ, { iss, aud: client.id, ...claims })
  }

  return {
    /** that ID tokens may be signed by, as a client has chosen */
    algs: signingKeys.algs,

    /** Makes an ID token, OpenID Connect Core §2. */
    async issue({ client, user, session, accessToken, nonce, claims = [] }: IdTokenSubject): Promise<string> {
      const signIn = authenticationOf(session)
      const iat = seconds()
      return sign(client, 'JWT', {
        sub: user.id,
        iat,
        exp: iat + config.AUTH_ACCESS_TTL.seconds,
        auth_time: authTimeOf(signIn),
        acr: acrOf(signIn, now(), config.AUTH_STEP_UP_TTL.ms),
        amr: signIn.amr,
        sid: session.id,
        ...(nonce !== undefined && { nonce }),
        ...(accessToken !== undefined && { at_hash: halfHash(accessToken, algOf(client)) }),
        ...claimsOfUser(user, claims),
      })
    },

    /**
     * Reads an ID token that an app sends back as a hint of who its user is: at `/authorize`, and at `/sign-out`
     * (OpenID Connect RP-Initiated Logout 1.0 §4). It proves nothing about who sends it, and may be old.
     *
     * @returns undefined where no key of ours has signed it, or its key was given up, and for a token of another kind
     */
    async readHint(token: string): Promise<IdTokenHint | undefined> {
      try {
        const { kid, alg, input, signature, claims } = readIdToken(token, iss)
        const key = await signingKeys.find(kid)
        if (key?.alg !== alg) return undefined
        const publicKey = { key: createPublicKey(key.publicPem), dsaEncoding } as const
        return verify(hashOf(alg), Buffer.from(input), publicKey, Buffer.from(signature, 'base64url'))
          ? claims
          : undefined
      } catch (error) {
        if (error instanceof InvalidToken) return undefined
        throw error
      }
    },

    /** Tells an app that a session of its has ended, OpenID Connect Back-Channel Logout 1.0 §2.4. */
    async logoutToken({ client, sub, sid }: { client: Client; sub: string; sid: string }): Promise<string> {
      const iat = seconds()
      const times = { iat, exp: iat + logoutTtlSeconds }
      return sign(client, 'logout+jwt', { sub, sid, ...times, jti: randomUUID(), events: { [logoutEvent]: {} } })
    },
  }
}

/** The left half of a hash, OpenID Connect Core §3.1.3.6; of Ed25519 it is SHA-512, which that hashes by. */
function halfHash(text: string, alg: SigningAlg): string {
  const hash = createHash(alg === 'EdDSA' ? 'sha512' : 'sha256')
    .update(text)
    .digest()
  return hash.subarray(0, hash.length / 2).toString('base64url')
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('idTokens', createIdTokens(app))
  },
  { name: 'id-tokens', dependencies: ['signing-keys'] },
)
