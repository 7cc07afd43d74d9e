import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { acceptJson } from '../../plugins/http/json.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import { Email, Password, strictObject, Username } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { NewUser, toUser } from '../../schemas/users.ts'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { publicPath, newAccounts } = app
  acceptJson(app)

  app.post(
    '/signup',
    {
      schema: {
        operationId: 'signUp',
        summary: 'Sign up: create an account',
        tags: ['accounts'],
        description:
          'By an invitation also while signup is closed. The `username` is required where none says it. An address gets a ' +
          'mail to verify it; the answer is the same where somebody else has it, who is told.',
        body: strictObject({
          username: Type.Optional(Username),
          password: Password,
          email: Type.Optional(Email),
          invitation: Type.Optional(Type.String({ description: 'The token of an invitation', examples: ['lki_…'] })),
        }),
        response: { 201: NewUser, ...problemResponses(400, 403, 409, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { user, verification } = await newAccounts.make(request.caller, {
        ...request.body,
        locale: localeOf(request),
      })
      reply.code(201).header('location', `${publicPath}/users/me`)
      return { ...toUser(user), ...(verification !== undefined && { email_verification_id: verification }) }
    },
  )
}

export default plugin
