import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { ignoreRefusal, missingParameter } from '../../errors.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { PresentedToken } from '../../schemas/oauth.ts'
import { oauthResponses } from '../../schemas/responses.ts'
import { maybeWithClient } from '../../schemas/security.ts'

/** RFC 7009. The kind of a token shows from its text, so `token_type_hint` is not needed (§2.1). */
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
          'A refresh token ends its session. An access token is refused; after many of its tokens, the session ends. ' +
          '200 for an unknown token too.',
        tags: ['tokens'],
        security: maybeWithClient,
        consumes: ['application/x-www-form-urlencoded'],
        body: PresentedToken,
        response: {
          200: Type.Object({}, { description: 'The token is revoked or was never valid' }),
          ...oauthResponses(400, 401, 413, 415, 429, 503),
        },
      },
    },
    async (request) => {
      const { token, ...form } = request.body
      const client = await clientAuthentication.identify(request.caller, request.headers.authorization, form)
      if (!token) throw missingParameter('token')
      await sessions.endByRefreshToken(request.caller, token, client)
      const claims = await accessTokens.verify(request, token).catch(ignoreRefusal)
      if (claims?.client_id === client.id) await sessions.revokeAccessToken(request.caller, claims)
      return {}
    },
  )
}

export default plugin
