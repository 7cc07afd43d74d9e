import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { whatIsMissing } from '../../domain/bearer.ts'
import { Refusal, tokenRefused } from '../../errors.ts'
import type { AccessTokenClaims } from './access-tokens.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** An onRequest hook: lets a request pass that brings a good access token, for whomever it is; its claims are then `request.token`. */
    requireAnyToken: (request: FastifyRequest) => Promise<void>
    /** The same for a token that is for Latchkey's own routes, by its `aud`. */
    requireToken: (request: FastifyRequest) => Promise<void>
    /** The same for a token of a user, in a session. */
    requireUser: (request: FastifyRequest) => Promise<void>
  }
  interface FastifyRequest {
    token: AccessTokenClaims
  }
}

/** RFC 6750 §2.1: the scheme in any case, one b64token. */
const credentials = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i
const scheme = /^Bearer( |$)/i

/** Whether a token is for an audience, RFC 7519 §4.1.3. */
export const isFor = ({ aud }: AccessTokenClaims, audience: string): boolean =>
  typeof aud === 'string' ? aud === audience : aud.includes(audience)

/** Guards routes by RFC 6750. Tokens are read from the Authorization header and from nowhere else. */
export default fp(
  async (app: FastifyInstance) => {
    const { config, accessTokens, revocations } = app

    app.decorateRequest('token', null as unknown as AccessTokenClaims)
    async function requireAnyToken(request: FastifyRequest): Promise<void> {
      const { authorization } = request.headers
      if (authorization === undefined || !scheme.test(authorization)) {
        const detail = whatIsMissing(authorization)
        // Without an error code: RFC 6750 §3.1 has none where no bearer token came.
        throw new Refusal('missing_token', {
          ...(detail && { detail }),
          headers: { 'www-authenticate': 'Bearer realm="latchkey"' },
        })
      }
      const token = credentials.exec(authorization)?.[1]
      if (!token) throw tokenRefused('invalid', 'not a b64token')
      const claims = await accessTokens.verify(token)
      if (revocations.isRevoked(claims)) throw tokenRefused('revoked', 'the access token was revoked')
      request.token = claims
    }
    async function requireToken(request: FastifyRequest): Promise<void> {
      await requireAnyToken(request)
      if (!isFor(request.token, config.AUTH_AUDIENCE)) throw tokenRefused('invalid', 'aud is another')
    }
    async function requireUser(request: FastifyRequest): Promise<void> {
      await requireToken(request)
      if (request.token.sid !== undefined) return
      throw new Refusal('users_only', {
        headers: { 'www-authenticate': 'Bearer realm="latchkey", error="insufficient_scope"' },
      })
    }
    app.decorate('requireAnyToken', requireAnyToken)
    app.decorate('requireToken', requireToken)
    app.decorate('requireUser', requireUser)
  },
  { name: 'bearer', dependencies: ['access-tokens', 'revocations'] },
)
