import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import { Password, strictObject, Username } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { NewUser, toUser } from '../../schemas/users.ts'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, users, invitations } = app
  acceptJson(app)

  app.post(
    '/signup',
    {
      schema: {
        operationId: 'signUp',
        summary: 'Sign up: create an account',
        tags: ['accounts'],
        description: 'By an invitation also while signup is closed. The `username` is required where none says it.',
        body: strictObject({
          username: Type.Optional(Username),
          password: Password,
          invitation: Type.Optional(Type.String({ description: 'The token of an invitation', examples: ['lki_…'] })),
        }),
        response: { 201: NewUser, ...problemResponses(400, 403, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { invitation, ...given } = request.body
      if (invitation === undefined && config.AUTH_SIGNUP === 'closed') throw new Refusal('signup_closed')
      const account = { ...given, locale: localeOf(request) }
      const user =
        invitation === undefined
          ? await users.signUp(request.caller, account)
          : await invitations.accept(request.caller, invitation, account)
      reply.code(201).header('location', `${app.publicPath}/users/me`)
      return toUser(user)
    },
  )
}

export default plugin
