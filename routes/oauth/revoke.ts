import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { maybeWithClient } from '../../schemas/security.ts'

/** RFC 7009. What kind a token is shows from the token itself, so the hint is not needed (§2.1). */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clientAuthentication, sessions, accessTokens } = app
  await acceptForms(app)

  app.post(
    '/revoke',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'revokeToken',
        summary: 'Revoke a token',
        description:
          'A refresh token ends its session; an access token is refused from now on, and where many of its session were, the session ends. 200 for an unknown token too: it is not good, which is what was asked for.',
        tags: ['tokens'],
        security: maybeWithClient,
        consumes: ['application/x-www-form-urlencoded'],
        body: Type.Object({
          token: Type.Optional(Type.String()),
          token_type_hint: Type.Optional(Type.String({ examples: ['access_token', 'refresh_token'] })),
          client_id: Type.Optional(Type.String({ examples: [''] })),
          client_secret: Type.Optional(Type.String({ examples: [''] })),
        }),
        response: {
          200: Type.Object({}, { description: 'The token is not good any more' }),
          ...oauthResponses(400, 401, 413, 415, 429, 503),
        },
      },
    },
    async (request) => {
      const { token, ...form } = request.body
      const client = await clientAuthentication.identify(request.caller, request.headers.authorization, form)
      if (!token) throw new Refusal('invalid_request', { detail: 'The parameter token is missing' })
      await sessions.endByRefreshToken(request, token, client)
      const claims = await accessTokens.verify(token).catch(ignoreRefusal)
      if (claims?.client_id === client.id) await sessions.revokeAccessToken(request, claims)
      return {}
    },
  )
}

function ignoreRefusal(error: unknown): undefined {
  if (!(error instanceof Refusal)) throw error
}

export default plugin
