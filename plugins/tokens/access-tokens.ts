import { type KeyObject, randomUUID, sign } from 'node:crypto'
import { promisify } from 'node:util'
import jwt, { type JWT } from '@fastify/jwt'
import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import { parseStrictJson } from '../../domain/strict-json.ts'
import { clockSkewSeconds } from '../../domain/time.ts'
import { tokenRefused } from '../../errors.ts'
import type { SigningKey } from '../keys/signing-keys.ts'

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
const compactJws = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+$/
const cachedTokens = 5_000

/** The generations that a token was made in, from its jti `<user>.<client>.<random>`; 0 for one that the jti does not have. */
export function generationsOf(jti: string): Generations {
  const [, user = 0, client = 0] = /^(\d{1,15})\.(?:(\d{1,15})\.)?/.exec(jti) ?? []
  return { user: Number(user), client: Number(client) }
}

/**
 * Signs and checks access tokens. Checks are made by a `@fastify/jwt` for each key, so that a verifier is made once and a
 * new key needs no restart.
 */
function createAccessTokens({ config, signingKeys, now }: FastifyInstance) {
  const { AUTH_ISSUER: iss } = config
  const ttlSeconds = config.AUTH_ACCESS_TTL.seconds
  const signers = new WeakMap<SigningKey, ReturnType<typeof createSigner>>()
  const jwtByKey = new WeakMap<SigningKey, JWT>()
  /** Only tokens that passed every check that does not change with time. The key is the whole text, so nothing can be confused. */
  const verified = new Lru<Verified>(cachedTokens)

  async function jwtOf(key: SigningKey): Promise<JWT> {
    const known = jwtByKey.get(key)
    if (known) return known
    const holder = Fastify()
    await holder.register(jwt, {
      secret: { public: key.publicKey.export({ format: 'pem', type: 'spki' }) as string },
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

    /**
     * Makes an access token, RFC 9068 §2.
     *
     * @param where it is signed: on this thread, or on one of libuv's pool
     */
    async issue({ generations, ...subject }: AccessTokenSubject, where: 'here' | 'pool' = 'here'): Promise<string> {
      const iat = Math.floor(now() / 1000)
      const key = signingKeys.current()
      const signer = signers.get(key) ?? createSigner(key)
      signers.set(key, signer)
      const jti = `${generations.user}.${generations.client}.${randomUUID()}`
      return signer({ iss, ...subject, iat, exp: iat + ttlSeconds, jti }, where)
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
      if (nowSeconds >= Math.min(claims.exp, claims.iat + ttlSeconds))
        throw tokenRefused('expired', 'the access token expired')
      if (claims.iat > nowSeconds + clockSkewSeconds) throw tokenRefused('invalid', 'iat is in the future')
      // It may have been withdrawn since the token was verified.
      if (!signingKeys.has(kid)) throw tokenRefused('invalid', 'its key is none of ours any more')
      return claims
    },
  }

  async function verifyOnce(token: string): Promise<Verified> {
    const [, header, payload] = compactJws.exec(token) ?? []
    const key = await signingKeys.find(kidOf(header))
    if (!key) throw tokenRefused('invalid', 'no key of ours has its kid')
    let claims: unknown
    try {
      claims = (await jwtOf(key)).verify(token)
    } catch (error) {
      throw tokenRefused('invalid', (error as { code?: string }).code ?? 'not a JWT')
    }
    // fast-jwt reads whatever JSON.parse makes of the bytes, and another verifier may read them in another way.
    if (!readPart(payload)) throw tokenRefused('invalid', 'its payload has more than one reading')
    if (!claimsCheck.Check(claims)) throw tokenRefused('invalid', 'a claim is missing or of a wrong type')
    return { claims, kid: key.kid }
  }
}

/**
 * Signs by one key, RFC 7515 §7.1. `@fastify/jwt` can sign on the thread that answers requests only, where the signature is half
 * of what a token for a service costs. Waking another thread costs as much as a third of it.
 */
function createSigner({ kid, alg, privateKey }: SigningKey & { privateKey: KeyObject }) {
  const header = encode({ alg, typ: 'at+jwt', kid })
  // Ed25519 hashes by itself; RFC 7518 §3.4 wants the two numbers of an ECDSA signature side by side.
  const hash = alg === 'EdDSA' ? null : 'sha256'
  const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
  // An RSA signature takes ten times as long as the others.
  const isSlow = alg === 'RS256'

  return async (claims: AccessTokenClaims, where: 'here' | 'pool'): Promise<string> => {
    const input = `${header}.${encode(claims)}`
    const bytes = Buffer.from(input)
    const signature = where === 'here' && !isSlow ? sign(hash, bytes, key) : await signInPool(hash, bytes, key)
    return `${input}.${signature.toString('base64url')}`
  }
}

const signInPool = promisify(sign)
const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')

/** The kid in the header of a JWS; whether it is true shows when its key verifies. */
function kidOf(header: string | undefined): string {
  const { kid } = readPart(header) ?? {}
  if (typeof kid === 'string') return kid
  throw tokenRefused('invalid', 'not a JWT with a kid')
}

/** A part of a JWT; undefined for what is no JSON object, or one that can be read in two ways. */
function readPart(part = ''): Record<string, unknown> | undefined {
  try {
    const value = parseStrictJson(Buffer.from(part, 'base64url'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('accessTokens', createAccessTokens(app))
  },
  { name: 'access-tokens', dependencies: ['signing-keys'] },
)
