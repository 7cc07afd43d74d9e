import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { problemResponses } from '../../schemas/errors.ts'
import { Id, Timestamp, toTimestamp } from '../../schemas/parts.ts'
import { withToken } from '../../schemas/security.ts'

const defaultPageSize = 100

/** What people see of their sessions, and how they end them. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { sessions } = app
  ignoreBodies(app)

  app.get(
    '/users/me/sessions',
    {
      schema: {
        operationId: 'listSessions',
        summary: 'The sessions, newest first',
        tags: ['sessions'],
        security: withToken,
        querystring: Type.Object(
          {
            limit: Type.Optional(
              Type.String({ pattern: '^([1-9][0-9]?|100)$', description: `1 to ${defaultPageSize}` }),
            ),
            cursor: Type.Optional(
              Type.String({ pattern: '^[0-9]{13}/[0-9a-f-]{36}$', description: '`next_cursor` of the page before' }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            sessions: Type.Array(
              Type.Object({
                id: Id,
                created_at: Timestamp,
                last_used_at: Timestamp,
                client_id: Type.String(),
                address: Type.String(),
                user_agent: Type.String(),
                current: Type.Boolean({ description: 'whether it is the one that asks' }),
              }),
            ),
            next_cursor: Type.Optional(Type.String()),
          }),
          ...problemResponses(400, 401, 403, 503),
        },
      },
    },
    async (request) => {
      const { limit = defaultPageSize, cursor } = request.query
      const page = await sessions.list(request.token.sub, {
        limit: Number(limit),
        ...(cursor !== undefined && { after: cursor }),
      })
      return {
        sessions: page.sessions.map((session) => ({
          id: session.id,
          created_at: toTimestamp(session.createdAt),
          last_used_at: toTimestamp(session.refreshedAt),
          client_id: session.clientId,
          address: session.address,
          user_agent: session.userAgent,
          current: session.id === request.token.sid,
        })),
        ...(page.next !== undefined && { next_cursor: page.next }),
      }
    },
  )

  app.delete(
    '/users/me/sessions/:id',
    {
      schema: {
        operationId: 'endSession',
        summary: 'End one session',
        tags: ['sessions'],
        security: withToken,
        params: Type.Object({ id: Id }),
        response: { 204: Type.Null({ description: 'The session has ended' }), ...problemResponses(401, 403, 404, 503) },
      },
    },
    async (request, reply) => {
      const isEnded = await sessions.end(request, request.params.id, request.token.sub)
      if (!isEnded) throw new Refusal('not_found', { detail: 'There is no such session' })
      return reply.code(204).send(null)
    },
  )

  app.delete(
    '/users/me/sessions',
    {
      schema: {
        operationId: 'endAllSessions',
        summary: 'End all sessions, this one too',
        tags: ['sessions'],
        security: withToken,
        response: { 204: Type.Null({ description: 'All sessions have ended' }), ...problemResponses(401, 403, 503) },
      },
    },
    async (request, reply) => {
      await sessions.endAll(request, request.token.sub)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/logout',
    {
      schema: {
        operationId: 'logOut',
        summary: 'End this session',
        tags: ['sessions'],
        security: withToken,
        response: { 204: Type.Null({ description: 'The session has ended' }), ...problemResponses(401, 403, 503) },
      },
    },
    async (request, reply) => {
      const { sid, sub } = request.token
      // A token without a session, or with one that has expired and been swept, is refused by itself.
      const isEnded = sid !== undefined && (await sessions.end(request, sid, sub))
      if (!isEnded) await sessions.revokeAccessToken(request, request.token)
      return reply.code(204).send(null)
    },
  )
}

export default plugin
