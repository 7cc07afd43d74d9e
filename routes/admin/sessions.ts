import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { AdminSession, NextCursor, PageQuery } from '../../schemas/admin.ts'
import { problemResponses } from '../../schemas/errors.ts'
import { Id, toTimestamp } from '../../schemas/parts.ts'
import { common, idFrom, nextCursor, readPage, sessionPosition } from './shared.ts'

const params = Type.Object({ id: Id })

/** The sessions of others. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { users, sessions, store } = app
  ignoreBodies(app)

  app.get(
    '/admin/users/:id/sessions',
    {
      schema: {
        operationId: 'adminListUserSessions',
        ...common,
        summary: 'The sessions of a user, newest first',
        params,
        querystring: Type.Object(PageQuery, { additionalProperties: false }),
        response: {
          200: Type.Object({ sessions: Type.Array(AdminSession), next_cursor: NextCursor }),
          ...problemResponses(400, 401, 403, 404, 503),
        },
      },
    },
    async ({ params, query }) => {
      const page = readPage(query, sessionPosition)
      const { id: userId } = await users.get({ id: idFrom(params, 'user') })
      const found = await sessions.list(userId, page)
      return {
        sessions: found.sessions.map(({ id, createdAt, refreshedAt, clientId, scope, address, userAgent }) => ({
          id,
          created_at: toTimestamp(createdAt),
          last_used_at: toTimestamp(refreshedAt),
          client_id: clientId,
          ...(scope.length > 0 && { scope: scope.join(' ') }),
          address,
          user_agent: userAgent,
        })),
        ...nextCursor(found.next),
      }
    },
  )

  app.delete(
    '/admin/users/:id/sessions',
    {
      schema: {
        operationId: 'adminEndUserSessions',
        ...common,
        summary: 'End all sessions of a user',
        params,
        response: {
          204: Type.Null({ description: 'All sessions have ended' }),
          ...problemResponses(401, 403, 404, 503),
        },
      },
    },
    async (request, reply) => {
      const { id } = await users.get({ id: idFrom(request.params, 'user') })
      await sessions.endAll(request, id)
      return reply.code(204).send(null)
    },
  )

  app.delete(
    '/admin/sessions/:id',
    {
      schema: {
        operationId: 'adminEndSession',
        ...common,
        summary: 'End one session',
        params,
        response: { 204: Type.Null({ description: 'The session has ended' }), ...problemResponses(401, 403, 404, 503) },
      },
    },
    async (request, reply) => {
      const session = await store.findSession(idFrom(request.params, 'session'))
      const isEnded = session !== undefined && (await sessions.end(request, session.id, session.userId))
      if (!isEnded) throw new Refusal('not_found', { detail: 'There is no such session' })
      return reply.code(204).send(null)
    },
  )
}

export default plugin
