import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { checked } from '../../domain/checks.ts'
import { openIdScope } from '../../domain/scope.ts'
import { claimsOf, claimsOfUser } from '../../domain/user-claims.ts'
import { insufficientScope, tokenRefused, usersOnly } from '../../errors.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'

const UserInfo = Type.Object({
  sub: Type.String({ description: 'The id of the user' }),
  name: Type.Optional(Type.String({ description: 'With the scope `profile`' })),
  preferred_username: Type.Optional(Type.String()),
  email: Type.Optional(Type.String({ description: 'With the scope `email`' })),
  email_verified: Type.Optional(Type.Boolean()),
})

/**
 * Who the user of an access token is, OpenID Connect Core §5.3. The token may be for any audience: an app reads it with
 * the token that it has. A POST is the same, and its body is not read: tokens are taken from their header alone.
 */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { profiles, requireAnyToken } = app
  ignoreBodies(app)

  async function userInfo({ token }: FastifyRequest) {
    if (token.sid === undefined) throw usersOnly()
    const scope = token.scope?.split(' ') ?? []
    if (!scope.includes(openIdScope)) {
      const reason = `the access token lacks the scope ${openIdScope}`
      const checks = [checked('scope', token.scope ?? 'none', openIdScope)]
      throw insufficientScope({ scope: openIdScope, reason, checks })
    }
    const user = await profiles.find(token.sub)
    if (!user) throw tokenRefused('invalid', 'the user of the token is gone')
    return { sub: token.sub, ...claimsOfUser(user, claimsOf(scope)) }
  }

  for (const [method, operationId] of [
    ['GET', 'getUserInfo'],
    ['POST', 'postUserInfo'],
  ] as const) {
    app.route({
      method,
      url: '/userinfo',
      onRequest: requireAnyToken,
      schema: {
        operationId,
        summary: 'Get who the user of an access token is (OpenID Connect)',
        tags: ['checking'],
        security: withToken,
        response: { 200: UserInfo, ...problemResponses(401, 403, 503) },
      },
      handler: userInfo,
    })
  }
}

export default plugin
