import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { RefreshToken, TokenResponse } from '../../schemas/oauth.ts'
import { oauthResponses } from '../../schemas/responses.ts'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clients, clientAuthentication, sessions } = app
  acceptJson(app)
  await acceptForms(app)

  app.post(
    '/refresh',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'refreshTokens',
        summary: 'Trade a refresh token for the next pair',
        description:
          'The same as `grant_type=refresh_token` at `/token` for the public client, for those who would rather send JSON.',
        tags: ['tokens'],
        body: {
          content: {
            'application/json': {
              schema: Type.Object({ refresh_token: RefreshToken }, { additionalProperties: false }),
            },
            'application/x-www-form-urlencoded': {
              schema: Type.Object({
                refresh_token: RefreshToken,
                client_id: Type.Optional(Type.String({ examples: [''] })),
              }),
            },
          },
        },
        response: { 200: TokenResponse, ...oauthResponses(400, 401, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { refresh_token: token, ...form } = request.body as { refresh_token: string; client_id?: string }
      reply.header('pragma', 'no-cache')
      if (!token) throw new Refusal('invalid_request', { detail: 'The parameter refresh_token is missing' })
      const client = await clientAuthentication.identify(request.caller, request.headers.authorization, form)
      if (!client.grants.includes('refresh_token')) throw new Refusal('unauthorized_client')
      return sessions.refresh(request, token, client, { aud: clients.grantAudience(client, undefined) })
    },
  )
}

export default plugin
