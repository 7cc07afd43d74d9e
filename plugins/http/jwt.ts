import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { signingAlgs } from '../../domain/signing-key.ts'
import { tokenRefused } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** what `jwtVerify` checks: the token of the Authorization field, or of a form that asks about one */
    presentedToken: string
  }
}
declare module '@fastify/jwt' {
  interface FastifyJWT {
    /** Never a user: a form may ask about the token of somebody else. Guards set `request.token`. */
    user: null
  }
}

/**
 * Registers `@fastify/jwt`, once. It checks access tokens: signature, algorithm, type, issuer and claims, by the key
 * that the `kid` names. Only `plugins/tokens/access-tokens.ts` calls it, which remembers what passed, looks at the
 * time and the key on each use, and signs new tokens with the same keys.
 *
 * Checked by `request.jwtVerify()`, which keeps a verifier for each key, and not by `app.jwt.verify()`, which makes
 * one for each call where the key is not fixed: 108 µs of CPU for a token not seen before against 238 (ES256, Node 20,
 * `npm run bench:tokens`).
 */
export default fp(
  async (app: FastifyInstance) => {
    const { config, signingKeys, command } = app
    // Its requests carry the key of its process, and no token.
    if (command) return

    /** The key of the `kid`, and for no other algorithm than its own (RFC 8725 §3.1). */
    async function findPublicKey(_request: FastifyRequest, token: object): Promise<string> {
      const { kid, alg } = (token as { header: { kid?: unknown; alg?: unknown } }).header
      const key = typeof kid === 'string' ? await signingKeys.find(kid) : undefined
      if (!key) throw tokenRefused('invalid', 'no key of ours has its kid')
      if (key.alg !== alg) throw tokenRefused('invalid', 'alg is not that of its key')
      return key.publicPem
    }

    app.decorateRequest('presentedToken', '')
    await app.register(import('@fastify/jwt'), {
      secret: { public: findPublicKey },
      decode: { complete: true },
      verify: {
        extractToken: (request) => request.presentedToken,
        algorithms: [...signingAlgs],
        allowedIss: config.AUTH_ISSUER,
        checkTyp: 'at+jwt',
        requiredClaims: ['iss', 'aud', 'sub', 'client_id', 'iat', 'exp', 'jti'],
        // Judged by the app's clock, on each use and not only on the first.
        ignoreExpiration: true,
        ignoreNotBefore: true,
      },
      formatUser: () => null,
    })
  },
  { name: 'jwt', dependencies: ['signing-keys'] },
)
