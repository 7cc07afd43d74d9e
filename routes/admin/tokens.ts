import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { allowNoBody } from '../../plugins/http/bodies.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { TokenResponse } from '../../schemas/oauth.ts'
import { Id, Scope, strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { adminRoute, idFrom } from './actions.ts'

/** A token of a user for an administrator. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { impersonation } = app
  acceptJson(app)

  app.post(
    '/admin/users/:id/token',
    {
      preValidation: allowNoBody,
      schema: {
        operationId: 'adminImpersonateUser',
        ...adminRoute,
        summary: 'Get a token to see what a user sees, for 15 minutes',
        description:
          'It carries `act` with the id of the administrator, reads but changes nothing here, has no refresh token, ' +
          'and ends with the access of either. Not for administrators.',
        params: Type.Object({ id: Id }),
        body: strictObject({
          scope: Type.Optional(Scope),
          audience: Type.Optional(
            Type.String({
              minLength: 1,
              maxLength: 256,
              description: 'Which service it is for; AUTH_AUDIENCE by default',
            }),
          ),
        }),
        response: {
          200: Type.Omit(TokenResponse, ['refresh_token'], { description: 'Access token response' }),
          ...problemResponses(400, 401, 403, 404, 409, 413, 415, 503),
        },
      },
    },
    ({ caller, token, params, body }) => impersonation.issue(caller, token, idFrom(params, 'user'), body),
  )
}

export default plugin
