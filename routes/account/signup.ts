import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { Password, strictObject, Username } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { NewUser, toUser } from '../../schemas/users.ts'

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
        body: strictObject({ username: Username, password: Password }),
        response: { 201: NewUser, ...problemResponses(400, 403, 409, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      if (config.AUTH_SIGNUP === 'closed') throw new Refusal('signup_closed')
      const { username, password } = request.body
      const user = await users.signUp(request.caller, username, password)
      reply.code(201).header('location', `${app.publicPath}/users/me`)
      return toUser(user)
    },
  )
}

export default plugin
