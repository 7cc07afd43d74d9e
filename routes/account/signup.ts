import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { Id, Password, Timestamp, toTimestamp, Username } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, users } = app
  acceptJson(app)

  app.post(
    '/signup',
    {
      schema: {
        operationId: 'signUp',
        summary: 'Sign up: create an account',
        tags: ['accounts'],
        body: Type.Object({ username: Username, password: Password }, { additionalProperties: false }),
        response: {
          201: Type.Object({ id: Id, username: Username, created_at: Timestamp }, { description: 'The account' }),
          ...problemResponses(400, 403, 409, 413, 415, 503),
        },
      },
    },
    async (request, reply) => {
      if (config.AUTH_SIGNUP === 'closed') throw new Refusal('signup_closed')
      const { username, password } = request.body
      const user = await users.signUp(request.caller, username, password)
      reply.code(201).header('location', `${app.publicPath}/users/me`)
      return { id: user.id, username: user.username, created_at: toTimestamp(user.createdAt) }
    },
  )
}

export default plugin
