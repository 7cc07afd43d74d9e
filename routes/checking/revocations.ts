import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Client } from '../../domain/client.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { RevocationEntry } from '../../schemas/revocations.ts'
import { withClient } from '../../schemas/security.ts'
import { createPages, textOf } from './revocation-pages.ts'
import { createStreams } from './revocation-streams.ts'

/** Revocations, for services that check access tokens by key alone: pages since a cursor, or a stream. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clientAuthentication } = app
  ignoreBodies(app)
  const callers = new WeakMap<FastifyRequest, Client>()
  const readPage = createPages(app)
  const stream = createStreams(app, readPage)

  app.get(
    '/revocations',
    {
      // Before the query is validated: strangers learn nothing about it.
      preValidation: async (request) =>
        void callers.set(
          request,
          await clientAuthentication.identifyIntrospector(request.caller, request.headers.authorization, {}),
        ),
      schema: {
        operationId: 'listRevocations',
        summary: 'Follow revocations',
        description:
          'For confidential clients with the introspection right, by HTTP Basic. With `Accept: text/event-stream`, a ' +
          'stream of events `revocations` (the first at once) and `heartbeat` (every 5 s while this process is up to ' +
          'date), each with the cursor as its id. `more` is true where there is another page: ask for it at once, or ' +
          'wait for its event.',
        tags: ['checking'],
        security: withClient,
        produces: ['application/json', 'text/event-stream'],
        querystring: strictObject({
          since: Type.Optional(
            Type.String({
              pattern: '\\S',
              maxLength: 256,
              description: '`cursor` of the last response; without it, all revocations in force',
            }),
          ),
        }),
        response: {
          200: Type.Object({
            revocations: Type.Array(RevocationEntry),
            cursor: Type.String(),
            more: Type.Optional(Type.Literal(true, { description: 'There is another page' })),
          }),
          ...problemResponses(400, 401, 403, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const client = callers.get(request) as Client
      const { accept = '', 'last-event-id': lastEventId } = request.headers
      const since = (typeof lastEventId === 'string' && lastEventId) || request.query.since
      if (request.method === 'GET' && /(^|,) *text\/event-stream *(;|,|$)/.test(accept))
        return stream(reply, client.id, since)
      return reply.type('application/json').send(textOf(await readPage(since)).json as never)
    },
  )
}

export default plugin
