import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { tokenRefused } from '../../errors.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { profiles } = app
  ignoreBodies(app)

  app.get(
    '/protected',
    {
      schema: {
        operationId: 'getGreeting',
        summary: 'Greet the logged-in user',
        tags: ['accounts'],
        security: withToken,
        response: { 200: Type.Object({ message: Type.String() }), ...problemResponses(401, 403, 503) },
      },
    },
    async (request) => {
      const user = await profiles.find(request.token.sub)
      if (!user) throw tokenRefused('invalid', 'the user of the token is gone')
      return { message: `Hello ${user.username}! This is a protected route` }
    },
  )
}

export default plugin
