import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Refusal, tokenRefused } from '../errors.ts'
import type { AccessTokenClaims } from './access-tokens.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook: lets a request pass that brings a good access token, whose claims are then `request.token`. */
    requireToken: (request: FastifyRequest) => Promise<void>
  }
  interface FastifyRequest {
    token: AccessTokenClaims
  }
}

/** RFC 6750 §2.1: the scheme in any case, one b64token. */
const credentials = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i
const scheme = /^Bearer( |$)/i

/** Guards routes by RFC 6750. Tokens are read from the Authorization header and from nowhere else. */
export default fp(
  async (app: FastifyInstance) => {
    const { accessTokens, revocations } = app

    app.decorateRequest('token', null as unknown as AccessTokenClaims)
    app.decorate('requireToken', async (request: FastifyRequest) => {
      const { authorization } = request.headers
      if (authorization === undefined || !scheme.test(authorization)) {
        throw new Refusal('missing_token', { headers: { 'www-authenticate': 'Bearer realm="latchkey"' } })
      }
      const token = credentials.exec(authorization)?.[1]
      if (!token) throw tokenRefused('invalid', 'not a b64token')
      const claims = await accessTokens.verify(token)
      if (revocations.isRevoked(claims)) throw tokenRefused('revoked', 'the access token was revoked')
      request.token = claims
    })
  },
  { name: 'bearer', dependencies: ['access-tokens', 'revocations'] },
)
