import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { hasAudience } from '../../domain/access-token.ts'
import type { Client } from '../../domain/client.ts'
import { audienceOf } from '../../domain/grant.ts'
import { ignoreRefusal, missingParameter } from '../../errors.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { PresentedToken } from '../../schemas/oauth.ts'
import { Roles, Scope } from '../../schemas/parts.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { withClient } from '../../schemas/security.ts'

const Seconds = (description: string) =>
  Type.Optional(Type.Integer({ description: `${description}, in seconds since the epoch` }))

const IntrospectionResponse = Type.Object(
  {
    active: Type.Boolean(),
    token_type: Type.Optional(Type.String({ examples: ['Bearer'] })),
    iss: Type.Optional(Type.String()),
    sub: Type.Optional(Type.String()),
    aud: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String())])),
    client_id: Type.Optional(Type.String()),
    scope: Type.Optional(Scope),
    sid: Type.Optional(Type.String()),
    roles: Type.Optional(Roles),
    act: Type.Optional(
      Type.Object({ sub: Type.String() }, { description: 'The administrator who holds the token, RFC 8693 §4.1' }),
    ),
    auth_time: Seconds('the user signed in'),
    amr: Type.Optional(Type.Array(Type.String(), { description: 'By what the user signed in, RFC 8176' })),
    acr: Type.Optional(Type.String({ description: 'What that was worth, RFC 9470', examples: ['urn:latchkey:acr:2'] })),
    jti: Type.Optional(Type.String()),
    iat: Seconds('issued'),
    exp: Seconds('expires'),
  },
  { description: 'RFC 7662 §2.2; for a token that is not active, exactly `{"active":false}`' },
)
type IntrospectionResponse = Static<typeof IntrospectionResponse>

const inactive: IntrospectionResponse = { active: false }

/**
 * RFC 7662. A token is inactive until every check has passed: it is valid, and meant for the client that asks.
 *
 * Access tokens are checked in memory, refresh tokens in the store. A spent refresh token ends no session here.
 */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, clients, clientAuthentication, accessTokens, revocations, sessions } = app
  await acceptForms(app)

  async function introspectAccessToken(
    request: FastifyRequest,
    token: string,
    asker: Client,
  ): Promise<IntrospectionResponse> {
    const claims = await accessTokens.verify(request, token).catch(ignoreRefusal)
    if (!claims || revocations.isRevoked(claims)) return inactive
    const isMeantFor =
      audienceOf(asker, config.AUTH_AUDIENCE).some((audience) => hasAudience(claims, audience)) ||
      claims.client_id === asker.id
    if (!isMeantFor && asker.introspect !== 'all') return inactive
    return { active: true, token_type: 'Bearer', ...claims } as IntrospectionResponse
  }

  /**
   * A refresh token is for Latchkey alone. A service that took an `active` one for an access token would accept a
   * stolen one for weeks. So it is active only for its own client, for clients with the right to all, and for others of
   * its audience that send the hint `refresh_token`.
   */
  async function introspectRefreshToken(
    token: string,
    asker: Client,
    isHinted: boolean,
  ): Promise<IntrospectionResponse> {
    const found = await sessions.findByRefreshToken(token)
    const client = found && (await clients.find(found.session.clientId))
    if (!client || client.disabledAt !== undefined || !client.grants.includes('refresh_token')) return inactive
    const audience = audienceOf(client, config.AUTH_AUDIENCE)
    const isMeantFor = isHinted && audienceOf(asker, config.AUTH_AUDIENCE).some((one) => audience.includes(one))
    if (client.id !== asker.id && asker.introspect !== 'all' && !isMeantFor) return inactive
    const { id: sid, scope, createdAt, refreshedAt } = found.session
    const { idleTtlMs, maxTtlMs } = sessions.limits()
    return {
      active: true,
      token_type: 'refresh_token',
      iss: config.AUTH_ISSUER,
      sub: found.user.id,
      client_id: client.id,
      ...(scope.length > 0 && { scope: scope.join(' ') }),
      sid,
      ...(found.user.roles.length > 0 && { roles: found.user.roles }),
      iat: Math.floor(refreshedAt / 1000),
      exp: Math.floor(Math.min(refreshedAt + idleTtlMs, createdAt + maxTtlMs) / 1000),
    }
  }

  app.post(
    '/introspect',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'introspectToken',
        summary: 'Introspect a token',
        description:
          'For confidential clients with the introspection right: about access tokens for their audience, their own ' +
          'tokens, or all tokens. A store failure is 503, never inactive.',
        tags: ['checking'],
        security: withClient,
        consumes: ['application/x-www-form-urlencoded'],
        body: PresentedToken,
        response: { 200: IntrospectionResponse, ...oauthResponses(400, 401, 403, 413, 415, 429, 503) },
      },
    },
    async (request) => {
      const { token, token_type_hint: hint, ...form } = request.body
      const client = await clientAuthentication.identifyIntrospector(
        request.caller,
        request.headers.authorization,
        form,
      )
      if (!token) throw missingParameter('token')
      const answer = await introspectAccessToken(request, token, client)
      return answer.active ? answer : introspectRefreshToken(token, client, hint === 'refresh_token')
    },
  )
}

export default plugin
