import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { acceptForms } from '../../plugins/http/form.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { clientCredentials, RefreshToken, TokenResponse } from '../../schemas/oauth.ts'
import { strictObject } from '../../schemas/parts.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { checkGrant, grants } from './grants/index.ts'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clientAuthentication } = app
  acceptJson(app)
  await acceptForms(app)

  app.post(
    '/refresh',
    {
      config: { errors: 'oauth' },
      schema: {
        operationId: 'refreshTokens',
        summary: 'Refresh: exchange a refresh token for the next pair',
        description: 'The same as `grant_type=refresh_token` at `/token` for a public client; takes JSON too.',
        tags: ['tokens'],
        body: {
          content: {
            'application/json': {
              schema: strictObject({ refresh_token: RefreshToken }),
            },
            'application/x-www-form-urlencoded': {
              schema: Type.Object({ refresh_token: RefreshToken, client_id: clientCredentials.client_id }),
            },
          },
        },
        response: { 200: TokenResponse, ...oauthResponses(400, 401, 413, 415, 429, 503) },
      },
    },
    async ({ caller, headers, body }, reply) => {
      reply.header('pragma', 'no-cache')
      const { refresh_token, ...credentials } = body as { refresh_token: string; client_id?: string }
      const client = await clientAuthentication.identify(caller, headers.authorization, credentials)
      checkGrant(client, 'refresh_token')
      return grants.refresh_token.handle(app, { caller, client, form: { refresh_token } })
    },
  )
}

export default plugin
