import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { hasAudience } from '../../domain/access-token.ts'
import { acrValues, lackOf } from '../../domain/authentication.ts'
import { checked } from '../../domain/checks.ts'
import { roleCharacter, scopePattern } from '../../domain/scope.ts'
import { insufficientAuthentication, insufficientScope, tokenRefused } from '../../errors.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'

/** An unknown, empty, repeated or malformed demand is 400: a proxy's typing error must not open the service. */
const Demands = strictObject({
  scope: Type.Optional(
    Type.String({
      pattern: scopePattern,
      description: 'Scopes that the token must have, separated by spaces',
    }),
  ),
  audience: Type.Optional(
    Type.String({ pattern: '\\S', description: 'The audience that the token must have; AUTH_AUDIENCE by default' }),
  ),
  role: Type.Optional(
    Type.String({
      pattern: `^${roleCharacter}+$`,
      description: 'A role that the user must have',
    }),
  ),
  acr: Type.Optional(
    Type.Union(
      acrValues.map((value) => Type.Literal(value)),
      { description: 'The least level of the sign-in, RFC 9470' },
    ),
  ),
  max_age: Type.Optional(
    Type.String({ pattern: '^(0|[1-9][0-9]{0,8})$', description: 'How many seconds ago the user may have signed in' }),
  ),
})

/** For reverse proxies: nginx `auth_request`, Traefik ForwardAuth, Caddy `forward_auth`. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, now } = app
  ignoreBodies(app)

  app.get(
    '/verify',
    {
      onRequest: app.requireAnyToken,
      schema: {
        operationId: 'verifyToken',
        summary: 'Check a token for a reverse proxy',
        tags: ['checking'],
        security: withToken,
        querystring: Demands,
        response: {
          204: Type.Null({
            description:
              'The token is valid. X-Auth-Subject, X-Auth-Client, X-Auth-Scope and X-Auth-Roles describe it; ' +
              'X-Auth-Actor is the administrator who holds it in the place of the user',
          }),
          ...problemResponses(400, 401, 403),
        },
      },
    },
    async ({ token, query }, reply) => {
      const audience = query.audience ?? config.AUTH_AUDIENCE
      if (!hasAudience(token, audience))
        throw tokenRefused('invalid', 'aud is another', checked('audience', [token.aud].flat().join(' '), audience))
      const scope = token.scope?.split(' ') ?? []
      const needed = query.scope?.split(' ') ?? []
      if (needed.some((name) => !scope.includes(name)))
        throw insufficientScope({
          detail: lacking('scope'),
          scope: needed.join(' '),
          checks: [checked('scope', token.scope ?? 'none', needed.join(' '))],
        })
      if (query.role !== undefined && !token.roles?.includes(query.role)) {
        const checks = [checked('role', token.roles?.join(', ') || 'none', query.role)]
        throw insufficientScope({ detail: lacking('role'), checks })
      }
      const demand = { acr: query.acr, maxAgeSeconds: query.max_age === undefined ? undefined : Number(query.max_age) }
      const lack = lackOf(token, demand, now())
      if (lack) throw insufficientAuthentication(lack, demand, token, now())
      return reply
        .headers({
          'x-auth-subject': token.sub,
          'x-auth-client': token.client_id,
          'x-auth-scope': token.scope ?? '',
          'x-auth-roles': token.roles?.join(',') ?? '',
          'x-auth-actor': token.act?.sub ?? '',
        })
        .code(204)
        .send(null)
    },
  )
}

const lacking = (what: 'scope' | 'role') => `The access token lacks the ${what} that is needed`

export default plugin
