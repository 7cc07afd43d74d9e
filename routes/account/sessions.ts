import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { Id, strictObject } from '../../schemas/parts.ts'
import { Done, problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'
import { OwnSession, toSession } from '../../schemas/sessions.ts'
import { NextPage, nextPage, PageQuery, readPage, sessionPosition } from '../pages.ts'

/** A user's own sessions. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { sessions } = app
  ignoreBodies(app)

  app.get(
    '/users/me/sessions',
    {
      schema: {
        operationId: 'listSessions',
        summary: 'List your sessions, newest first',
        tags: ['sessions'],
        security: withToken,
        querystring: strictObject(PageQuery),
        response: {
          200: Type.Object({ sessions: Type.Array(OwnSession), ...NextPage }),
          ...problemResponses(400, 401, 403, 503),
        },
      },
    },
    async ({ query, token }) => {
      const page = await sessions.list(token.sub, readPage(query, sessionPosition))
      return {
        sessions: page.sessions.map((session) => ({ ...toSession(session), current: session.id === token.sid })),
        ...nextPage(page.next),
      }
    },
  )

  app.delete(
    '/users/me/sessions/:id',
    {
      schema: {
        operationId: 'endSession',
        summary: 'End a session',
        tags: ['sessions'],
        security: withToken,
        params: Type.Object({ id: Id }),
        response: { 204: Done, ...problemResponses(401, 403, 404, 503) },
      },
    },
    async (request, reply) => {
      const isEnded = await sessions.end(request.caller, request.params.id, request.token.sub)
      if (!isEnded) throw new Refusal('not_found', { detail: 'There is no such session' })
      return reply.code(204).send(null)
    },
  )

  app.delete(
    '/users/me/sessions',
    {
      schema: {
        operationId: 'endAllSessions',
        summary: 'End all sessions, including this one',
        tags: ['sessions'],
        security: withToken,
        response: { 204: Done, ...problemResponses(401, 403, 503) },
      },
    },
    async (request, reply) => {
      await sessions.endAll(request.caller, request.token.sub)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/logout',
    {
      schema: {
        operationId: 'logOut',
        summary: 'Log out: end this session',
        tags: ['sessions'],
        security: withToken,
        response: { 204: Done, ...problemResponses(401, 403, 503) },
      },
    },
    async (request, reply) => {
      const { sid, sub } = request.token
      // No session, or one that has expired and been swept: the token alone is revoked.
      const isEnded = sid !== undefined && (await sessions.end(request.caller, sid, sub))
      if (!isEnded) await sessions.revokeAccessToken(request.caller, request.token)
      return reply.code(204).send(null)
    },
  )
}

export default plugin
