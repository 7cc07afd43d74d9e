import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { FactorList, toFactorList } from '../../schemas/factors.ts'
import { Id } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { actions, adminRoute, idFrom } from './actions.ts'

const params = Type.Object({ id: Id })

/** Second factors of users, for administrators: who has lost theirs gets none but a reset. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { userAdmin } = app

  app.get(
    '/admin/users/:id/factors',
    {
      schema: {
        operationId: 'adminListUserFactors',
        ...adminRoute,
        summary: 'List the second factors of a user, in the order in which they were added',
        params,
        response: { 200: FactorList, ...problemResponses(401, 403, 404, 503) },
      },
    },
    async ({ params }) => toFactorList(await userAdmin.factorsOf(idFrom(params, 'user'))),
  )

  await app.register(
    actions(params, (params) => idFrom(params, 'user'), [
      {
        route: 'DELETE /admin/users/:id/factors',
        operationId: 'adminResetUserFactors',
        summary: 'Remove all second factors of a user, recovery codes too; all sessions end',
        notOwn: true,
        act: userAdmin.resetFactors,
      },
    ]),
  )
}

export default plugin
