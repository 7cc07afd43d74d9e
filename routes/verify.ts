import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal, tokenRefused } from '../errors.ts'
import { isFor } from '../plugins/bearer.ts'
import { ignoreBodies } from '../plugins/body-parsers.ts'
import { withToken } from '../plugins/openapi.ts'
import { problemAnswers } from '../schemas/errors.ts'

/** For reverse proxies, which ask before they pass a request on: nginx `auth_request`, Traefik ForwardAuth, Caddy `forward_auth`. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config } = app
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
        querystring: Type.Object({
          scope: Type.Optional(Type.String({ description: 'scope names that the token must carry, with a space between them' })),
          audience: Type.Optional(Type.String({ description: 'whom the token must be for; AUTH_AUDIENCE when not sent' })),
          role: Type.Optional(Type.String({ description: 'a role that the user must have' })),
        }),
        response: {
          204: Type.Null({ description: 'The token is good: X-Auth-Subject, X-Auth-Client, X-Auth-Scope and X-Auth-Roles tell of it' }),
          ...problemAnswers(400, 401, 403),
        },
      },
    },
    async ({ token, query }, reply) => {
      if (!isFor(token, query.audience ?? config.AUTH_AUDIENCE)) throw tokenRefused('invalid', 'aud is another')
      const scope = token.scope?.split(' ') ?? []
      const needed = query.scope?.split(' ').filter((name) => name !== '') ?? []
      if (needed.some((name) => !scope.includes(name))) throw lacking('scope', needed.join(' '))
      if (query.role !== undefined && !token.roles?.includes(query.role)) throw lacking('role', query.role)
      return reply
        .headers({
          'x-auth-subject': token.sub,
          'x-auth-client': token.client_id,
          'x-auth-scope': token.scope ?? '',
          'x-auth-roles': token.roles?.join(',') ?? '',
        })
        .code(204)
        .send(null)
    },
  )
}

/** RFC 6750 §3.1 `insufficient_scope`. What is needed came from the request, and is repeated only where a header can hold it. */
function lacking(what: 'scope' | 'role', needed: string): Refusal {
  const isPlain = what === 'scope' && /^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$/.test(needed)
  return new Refusal('insufficient_scope', {
    detail: `The access token lacks the ${what} that is needed`,
    headers: { 'www-authenticate': `Bearer realm="latchkey", error="insufficient_scope"${isPlain ? `, scope="${needed}"` : ''}` },
  })
}

export default plugin
