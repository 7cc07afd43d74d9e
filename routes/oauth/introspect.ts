import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'
import type { Client } from '../../plugins/clients/clients.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { isFor } from '../../plugins/tokens/bearer.ts'
import { Roles, Scope } from '../../schemas/parts.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { withClient } from '../../schemas/security.ts'

const Seconds = (description: string) =>
  Type.Optional(Type.Integer({ description: `${description}, seconds since the epoch` }))

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
    jti: Type.Optional(Type.String()),
    iat: Seconds('when it was made'),
    exp: Seconds('when it ends'),
  },
  { description: 'RFC 7662 §2.2; of a token that is not good, only `{"active":false}`' },
)
type IntrospectionResponse = Static<typeof IntrospectionResponse>

const inactive: IntrospectionResponse = { active: false }

/**
 * RFC 7662. A token is inactive until it has shown itself to be good, and meant for the one who asks.
 *
 * An access token is judged from memory; a refresh token by the store, which changes nothing: to ask about a spent one ends no session.
 */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, clients, clientAuthentication, accessTokens, revocations, sessions } = app
  await acceptForms(app)

  async function introspectAccessToken(token: string, asks: Client): Promise<IntrospectionResponse> {
    const claims = await accessTokens.verify(token).catch(ignoreRefusal)
    if (!claims || revocations.isRevoked(claims)) return inactive
    const isMeantFor =
      clients.audience(asks).some((audience) => isFor(claims, audience)) || claims.client_id === asks.id
    return isMeantFor || asks.introspect === 'all' ? { active: true, token_type: 'Bearer', ...claims } : inactive
  }

  /**
   * A refresh token is meant for no audience but for us: a service that took an `active` one for an access token would let in, for
   * weeks, whoever has stolen it. So it is seen by its own client, with the right to all, and where the hint says that a refresh
   * token is what is asked about.
   */
  async function introspectRefreshToken(
    token: string,
    asks: Client,
    isAskedFor: boolean,
  ): Promise<IntrospectionResponse> {
    const found = await sessions.findByRefreshToken(token)
    const client = found && (await clients.find(found.session.clientId))
    if (!client || client.disabledAt !== undefined || !client.grants.includes('refresh_token')) return inactive
    const audience = clients.audience(client)
    const isMeantFor = isAskedFor && clients.audience(asks).some((one) => audience.includes(one))
    if (client.id !== asks.id && asks.introspect !== 'all' && !isMeantFor) return inactive
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
        summary: 'Ask whether a token is good',
        description:
          'For confidential clients with the introspection right. A client is told of access tokens that are meant for it by their `aud`, of its own tokens, and of all with the right to all. The store failing is 503, never inactive.',
        tags: ['checking'],
        security: withClient,
        consumes: ['application/x-www-form-urlencoded'],
        body: Type.Object({
          token: Type.Optional(Type.String()),
          token_type_hint: Type.Optional(Type.String({ examples: ['access_token', 'refresh_token'] })),
          client_id: Type.Optional(Type.String({ examples: [''] })),
          client_secret: Type.Optional(Type.String({ examples: [''] })),
        }),
        response: { 200: IntrospectionResponse, ...oauthResponses(400, 401, 403, 413, 415, 429, 503) },
      },
    },
    async (
      request: FastifyRequest<{
        Body: { token?: string; token_type_hint?: string; client_id?: string; client_secret?: string }
      }>,
    ) => {
      const { token, token_type_hint: hint, ...form } = request.body
      const client = await clientAuthentication.identifyIntrospector(
        request.caller,
        request.headers.authorization,
        form,
      )
      if (!token) throw new Refusal('invalid_request', { detail: 'The parameter token is missing' })
      const answer = await introspectAccessToken(token, client)
      return answer.active ? answer : introspectRefreshToken(token, client, hint === 'refresh_token')
    },
  )
}

function ignoreRefusal(error: unknown): undefined {
  if (!(error instanceof Refusal)) throw error
}

export default plugin
