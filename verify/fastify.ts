import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { AccessTokenClaims } from '../domain/access-token.ts'
import { isBearer } from '../domain/bearer.ts'
import { omitUndefined } from '../domain/omit-undefined.ts'
import { pointTo, VerifierError } from './errors.ts'
import type { VerifierOptions } from './options.ts'
import { tokenOfHeader } from './token.ts'
import { createVerifier, type Requirements, readRequirements, type Verifier } from './verifier.ts'

/** An onRequest hook. */
export type TokenGuard = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>

declare module 'fastify' {
  interface FastifyInstance {
    verifier: Verifier
    /**
     * Makes an onRequest hook that lets a request pass whose access token is good, and carries what is required; its
     * claims are then `request.token`. Tokens are read from the Authorization header and from nowhere else.
     */
    requireToken: (requirements?: Requirements) => TokenGuard
  }
  interface FastifyRequest {
    /** the claims, on a route with `requireToken` */
    token: AccessTokenClaims
  }
}

/** The options of a verifier, or one that exists already, which the app then does not close. */
export type LatchkeyVerifyOptions = (VerifierOptions | { verifier: Verifier }) & {
  /**
   * answers a request that is refused in another way, and returns the reply; `(error) => { throw error }` leaves it to
   * the app's error handler
   */
  refuse?: (error: VerifierError, request: FastifyRequest, reply: FastifyReply) => unknown
}

const plugin: FastifyPluginAsync<LatchkeyVerifyOptions> = async (app, { refuse = sendProblem, ...options }) => {
  const verifier =
    'verifier' in options
      ? options.verifier
      : createVerifier({
          onEvent: ({ level, message, type }) => app.log[level]({ event: type }, `latchkey/verify: ${message}`),
          ...options,
        })
  if (!('verifier' in options)) app.addHook('onClose', () => verifier.close())

  /** A token without its scheme is none here; this says so. */
  function refuseOthers(authorization: string | undefined): void {
    try {
      tokenOfHeader(authorization)
    } catch (error) {
      throw pointTo(verifier.resourceMetadata, error)
    }
  }

  function requireToken(requirements: Requirements = {}): TokenGuard {
    // At start and not with the first request: a wrong one stops the app.
    const { maxAgeSeconds: maxAge, ...others } = readRequirements(requirements)
    const needed = omitUndefined({ ...others, maxAge })
    return async (request, reply) => {
      try {
        const { authorization } = request.headers
        if (!isBearer(authorization)) refuseOthers(authorization)
        const token = await verifier.verify(authorization, needed)
        request.token = token as FastifyRequest['token']
      } catch (error) {
        if (!(error instanceof VerifierError)) throw error
        const answer = refuse(error, request, reply)
        if (answer === reply) return reply
        await answer
        // `refuse` may have forgotten to answer; the request must not pass.
        if (!reply.sent) throw error
        return reply
      }
      return undefined
    }
  }
  app.decorate('verifier', verifier)
  app.decorate('requireToken' as string, requireToken)
  app.decorateRequest('token' as string, null)
}

/** The answer that the server itself would give, RFC 6750 §3 and RFC 9457, and a line in the log that says why. */
function sendProblem(error: VerifierError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { statusCode, failure, message: reason, cause, headers, body } = error
  if (statusCode >= 500)
    request.log.error({ failure, reason, ...(cause !== undefined && { err: cause }) }, 'a token could not be checked')
  else request.log.info({ failure, reason }, 'a token was refused')
  return reply
    .code(statusCode)
    .headers(headers)
    .serializer(JSON.stringify)
    .send({ ...body, ...(statusCode !== 403 && { request_id: request.id }) })
}

/**
 * Guards routes of a Fastify app: decorates it with `requireToken(requirements?)` and `verifier`, and requests with
 * `token`.
 *
 * ```ts
 * await app.register(latchkeyVerify, { issuer: 'https://auth.example.com', clientId, clientSecret })
 * app.get('/files', { onRequest: app.requireToken({ scope: 'files:read' }) }, ({ token }) => filesOf(token.sub))
 * ```
 */
export const latchkeyVerify: FastifyPluginAsync<LatchkeyVerifyOptions> = fp(plugin, {
  name: 'latchkey-verify',
  fastify: '5.x',
})
