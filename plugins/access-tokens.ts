import { randomUUID } from 'node:crypto'
import jwt, { type JWT } from '@fastify/jwt'
import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import { tokenRefused } from '../errors.ts'
import type { SigningKey } from './signing-keys.ts'

declare module 'fastify' {
  interface FastifyInstance {
    accessTokens: ReturnType<typeof createAccessTokens>
  }
}

/** Of the year 9999, the last that a date can be written for (RFC 3339); no token ends later. */
const lastSecond = 253_402_300_799

/** The claims of an access token, RFC 9068 §2.2, and those of a session. */
export const AccessTokenClaims = Type.Object({
  iss: Type.String(),
  aud: Type.Union([Type.String(), Type.Array(Type.String())]),
  sub: Type.String({ minLength: 1 }),
  client_id: Type.String({ minLength: 1 }),
  iat: Type.Integer({ minimum: 0, maximum: lastSecond }),
  exp: Type.Integer({ minimum: 0, maximum: lastSecond }),
  jti: Type.String({ minLength: 1 }),
  sid: Type.Optional(Type.String()),
  scope: Type.Optional(Type.String()),
  roles: Type.Optional(Type.Array(Type.String())),
})
export type AccessTokenClaims = Static<typeof AccessTokenClaims>

/** What the caller decides of a new token; the rest follows from the settings and the time. */
export type AccessTokenSubject = Pick<AccessTokenClaims, 'aud' | 'sub' | 'client_id' | 'sid' | 'scope' | 'roles'> & {
  /** travel in the jti, so that all older tokens can be revoked by one entry */
  generations: Generations
}

/** What every check that does not change with time has passed, and the key that it depends on. */
interface Verified {
  claims: AccessTokenClaims
  kid: string
}

/** Of the user and of the client, at the time that a token was made. */
export interface Generations {
  user: number
  client: number
}

const claimsCheck = TypeCompiler.Compile(AccessTokenClaims)
const header = /^[A-Za-z0-9_-]+(?=\.)/
const cachedTokens = 5_000
/** How far the clocks of two replicas may be apart. */
export const clockSkewSeconds = 60

/** The generations that a token was made in, from its jti `<user>.<client>.<random>`; 0 for one that the jti does not have. */
export function generationsOf(jti: string): Generations {
  const [, user = 0, client = 0] = /^(\d{1,15})\.(?:(\d{1,15})\.)?/.exec(jti) ?? []
  return { user: Number(user), client: Number(client) }
}

/**
 * Signs and checks access tokens, each key by a `@fastify/jwt` of its own, so that a signer and a verifier are made once
 * a key and a new key needs no restart.
 */
function createAccessTokens({ config, signingKeys, now }: FastifyInstance) {
  const { AUTH_ISSUER: iss, AUTH_ACCESS_TTL: ttlSeconds } = config
  const jwtByKey = new WeakMap<SigningKey, JWT>()
  /** Only tokens that passed every check that does not change with time. The key is the whole text, so nothing can be confused. */
  const verified = new Lru<Verified>(cachedTokens)

  async function jwtOf(key: SigningKey): Promise<JWT> {
    const known = jwtByKey.get(key)
    if (known) return known
    const holder = Fastify()
    await holder.register(jwt, {
      secret: {
        public: key.publicKey.export({ format: 'pem', type: 'spki' }) as string,
        ...(key.privateKey && { private: key.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string }),
      },
      sign: { algorithm: key.alg, kid: key.kid, header: { alg: key.alg, typ: 'at+jwt' } },
      verify: {
        algorithms: [key.alg],
        allowedIss: iss,
        checkTyp: 'at+jwt',
        requiredClaims: ['iss', 'aud', 'sub', 'client_id', 'iat', 'exp', 'jti'],
        // Told by the app's clock below, on each use and not only on the first.
        ignoreExpiration: true,
      },
    })
    await holder.ready()
    jwtByKey.set(key, holder.jwt)
    return holder.jwt
  }

  return {
    ttlSeconds,

    /**
     * Until when a revocation made now has to be remembered.
     *
     * @returns milliseconds since the epoch, after the last token issued before now is refused for its age
     */
    forgottenAt: () => now() + (ttlSeconds + clockSkewSeconds) * 1000,

    /** Makes an access token, RFC 9068 §2. */
    async issue({ generations, ...subject }: AccessTokenSubject): Promise<string> {
      const iat = Math.floor(now() / 1000)
      const key = signingKeys.current()
      const signer = jwtByKey.get(key) ?? (await jwtOf(key))
      return signer.sign({
        iss,
        ...subject,
        iat,
        exp: iat + ttlSeconds,
        jti: `${generations.user}.${generations.client}.${randomUUID()}`,
      })
    },

    /**
     * Checks a presented token by RFC 9068 §4 and RFC 8725: signature by a key of ours, type, issuer, claims, time.
     * Does not look at whom it is for, nor at revocations.
     *
     * @throws {Refusal} 401 `invalid_token`, expired or invalid
     */
    async verify(token: string): Promise<AccessTokenClaims> {
      let known = verified.get(token)
      if (!known) {
        known = await verifyOnce(token)
        verified.set(token, known)
      }
      const { claims, kid } = known
      const nowSeconds = now() / 1000
      // A life that AUTH_ACCESS_TTL does not allow would outlive the revocations, which are kept for that long.
      if (nowSeconds >= Math.min(claims.exp, claims.iat + ttlSeconds)) throw tokenRefused('expired', 'the access token expired')
      if (claims.iat > nowSeconds + clockSkewSeconds) throw tokenRefused('invalid', 'iat is in the future')
      // It may have been withdrawn since the token was verified.
      if (!signingKeys.has(kid)) throw tokenRefused('invalid', 'its key is none of ours any more')
      return claims
    },
  }

  async function verifyOnce(token: string): Promise<Verified> {
    const key = await signingKeys.find(kidOf(token))
    if (!key) throw tokenRefused('invalid', 'no key of ours has its kid')
    let claims: unknown
    try {
      claims = (await jwtOf(key)).verify(token)
    } catch (error) {
      throw tokenRefused('invalid', (error as { code?: string }).code ?? 'not a JWT')
    }
    if (!claimsCheck.Check(claims)) throw tokenRefused('invalid', 'a claim is missing or of a wrong type')
    return { claims, kid: key.kid }
  }
}

/** The kid in the header of a JWS; whether it is true shows when its key verifies. */
function kidOf(token: string): string {
  try {
    const { kid } = JSON.parse(Buffer.from(header.exec(token)?.[0] ?? '', 'base64url').toString())
    if (typeof kid === 'string') return kid
  } catch {
    // Refused below.
  }
  throw tokenRefused('invalid', 'not a JWT with a kid')
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('accessTokens', createAccessTokens(app))
  },
  { name: 'access-tokens', dependencies: ['signing-keys'] },
)
