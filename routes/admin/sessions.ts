import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { Id, strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { AdminSession, toSession } from '../../schemas/sessions.ts'
import { NextPage, nextPage, PageQuery, readPage, sessionPosition } from '../pages.ts'
import { actions, adminRoute, idFrom, unknown } from './actions.ts'

const params = Type.Object({ id: Id })

/** Sessions of users, for administrators. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { userAdmin, sessions } = app
  ignoreBodies(app)

  app.get(
    '/admin/users/:id/sessions',
    {
      schema: {
        operationId: 'adminListUserSessions',
        ...adminRoute,
        summary: 'List the sessions of a user, newest first',
        params,
        querystring: strictObject(PageQuery),
        response: {
          200: Type.Object({ sessions: Type.Array(AdminSession), ...NextPage }),
          ...problemResponses(400, 401, 403, 404, 503),
        },
      },
    },
    async ({ params, query }) => {
      const page = readPage(query, sessionPosition)
      const { id: userId } = await userAdmin.get({ id: idFrom(params, 'user') })
      const found = await sessions.list(userId, page)
      return {
        sessions: found.sessions.map(toSession),
        ...nextPage(found.next),
      }
    },
  )

  await app.register(
    actions(params, (params) => idFrom(params, 'user'), [
      {
        route: 'DELETE /admin/users/:id/sessions',
        operationId: 'adminEndUserSessions',
        summary: 'End all sessions of a user',
        async act(caller, id) {
          if (!(await sessions.endAll(caller, id))) throw unknown('user')
        },
      },
    ]),
  )

  await app.register(
    actions(params, (params) => idFrom(params, 'session'), [
      {
        route: 'DELETE /admin/sessions/:id',
        operationId: 'adminEndSession',
        summary: 'End a session',
        async act(caller, id) {
          const session = await sessions.find(id)
          const isEnded = session !== undefined && (await sessions.end(caller, session.id, session.userId))
          if (!isEnded) throw unknown('session')
        },
      },
    ]),
  )
}

export default plugin
