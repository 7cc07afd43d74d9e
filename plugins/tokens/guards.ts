import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type AccessTokenClaims, hasAudience } from '../../domain/access-token.ts'
import { bearerTokenOf, isBearer, whatIsMissing } from '../../domain/bearer.ts'
import { commandLine } from '../../domain/caller.ts'
import { type Check, checked } from '../../domain/checks.ts'
import { adminScope } from '../../domain/client.ts'
import { insufficientScope, readOnlyToken, tokenMissing, tokenRefused, usersOnly } from '../../errors.ts'

const claims: unique symbol = Symbol('claims')

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * An onRequest hook: lets a request pass that brings a good access token, for any audience; its claims are then
     * `request.token`.
     */
    requireAnyToken: (request: FastifyRequest) => Promise<void>
    /** The same for a token of a user, in a session, that is for Latchkey's own routes by its `aud`. */
    requireUser: (request: FastifyRequest) => Promise<void>
    /**
     * The same for a token with the scope `admin`, of an administrator; what is logged of the request then says `by`
     * whom.
     */
    requireAdmin: (request: FastifyRequest, reply: FastifyReply) => Promise<void>
  }
  interface FastifyRequest {
    /**
     * The claims of the access token. Throws on a route without one of the guards above, so that it cannot be missing
     * unnoticed.
     */
    token: AccessTokenClaims
    [claims]: AccessTokenClaims | null
  }
}

/**
 * Guards routes by RFC 6750, before anything is read of a body. Tokens are read from the Authorization header and from
 * nowhere else.
 */
function createGuards({
  config,
  accessTokens,
  revocations,
  users,
  clients,
  uptimeMs,
  command,
}: Pick<FastifyInstance, 'config' | 'accessTokens' | 'revocations' | 'users' | 'clients' | 'uptimeMs' | 'command'>) {
  const { AUTH_ISSUER: iss, AUTH_AUDIENCE: ownAudience } = config
  const ofCommand = { iss, aud: ownAudience, sub: commandLine, client_id: commandLine, iat: 0, exp: 0, jti: '' }

  async function readToken(request: FastifyRequest): Promise<AccessTokenClaims> {
    const { authorization } = request.headers
    if (!isBearer(authorization)) throw tokenMissing(whatIsMissing(authorization))
    const token = bearerTokenOf(authorization)
    if (!token) throw tokenRefused('invalid', 'not a b64token')
    const read = await accessTokens.verify(request, token)
    if (revocations.isRevoked(read)) {
      const reason = 'the access token was revoked'
      throw tokenRefused('revoked', reason, checked('revocation', 'of the token, its session, user, client or key'))
    }
    request[claims] = read
    return read
  }

  async function readOwnToken(request: FastifyRequest): Promise<AccessTokenClaims> {
    const read = await readToken(request)
    if (!hasAudience(read, ownAudience)) {
      throw tokenRefused('invalid', 'aud is another', checked('audience', [read.aud].flat().join(' '), ownAudience))
    }
    return read
  }

  /** Checked in the store on every request: neither the token's claims nor a cache may grant administration. */
  async function isAdministrator({ sub, sid }: AccessTokenClaims): Promise<boolean> {
    if (sid !== undefined) return (await users.find(sub))?.roles.includes(adminScope) ?? false
    const client = await clients.find(sub, uptimeMs())
    return client !== undefined && client.disabledAt === undefined && client.scopes.includes(adminScope)
  }

  const adminsOnly = (reason: string, seen: Check) =>
    insufficientScope({ detail: 'This is for administrators', scope: adminScope, reason, checks: [seen] })

  return {
    async requireAnyToken(request: FastifyRequest): Promise<void> {
      await readToken(request)
    },

    async requireUser(request: FastifyRequest): Promise<void> {
      const { sid, act } = await readOwnToken(request)
      if (sid === undefined) throw usersOnly()
      // Who looks at an account for its user changes nothing of it.
      if (act && request.method !== 'GET' && request.method !== 'HEAD') throw readOnlyToken(act.sub)
    },

    async requireAdmin(request: FastifyRequest, reply: FastifyReply): Promise<void> {
      if (command && request.headers.authorization === command.key) {
        request[claims] = ofCommand
        return logAs(commandLine, request, reply)
      }
      const read = await readOwnToken(request)
      logAs(read.sub, request, reply)
      if (!read.scope?.split(' ').includes(adminScope)) {
        const reason = 'the access token lacks the scope admin'
        throw adminsOnly(reason, checked('scope', read.scope ?? 'none', adminScope))
      }
      if (read.act || !(await isAdministrator(read))) {
        const reason = 'no administrator any more'
        throw adminsOnly(reason, checked('administrator', `${read.sub} is ${reason}`))
      }
    },
  }
}

function logAs(by: string, request: FastifyRequest, reply: FastifyReply): void {
  request.by = by
  request.log = request.log.child({ by })
  reply.log = request.log
}

export default fp(
  async (app: FastifyInstance) => {
    const { requireAnyToken, requireUser, requireAdmin } = createGuards(app)
    app.decorateRequest(claims, null)
    app.decorateRequest('token', {
      getter() {
        const read = this[claims]
        if (!read) throw new Error('request.token was read on a route without a guard')
        return read
      },
    })
    app.decorate('requireAnyToken', requireAnyToken)
    app.decorate('requireUser', requireUser)
    app.decorate('requireAdmin', requireAdmin)
  },
  { name: 'guards', dependencies: ['request-caller', 'access-tokens', 'revocations', 'users', 'clients'] },
)
