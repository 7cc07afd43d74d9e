import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Client } from '../../plugins/clients/clients.ts'
import { ignoreBodies } from '../../plugins/http/bodies.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { withClient } from '../../schemas/security.ts'
import { createPages, RevocationEntry, textOf } from './revocation-pages.ts'
import { createStreams } from './revocation-streams.ts'

/** What was revoked, for services that check access tokens by key alone: as a list since a cursor, page by page, or as a stream that goes on. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { clientAuthentication } = app
  ignoreBodies(app)
  const callers = new WeakMap<FastifyRequest, Client>()
  const readPage = createPages(app)
  const stream = createStreams(app, readPage)

  app.get(
    '/revocations',
    {
      // Before the query is looked at: a stranger is told nothing but that.
      preValidation: async (request) =>
        void callers.set(
          request,
          await clientAuthentication.identifyIntrospector(request.caller, request.headers.authorization, {}),
        ),
      schema: {
        operationId: 'listRevocations',
        summary: 'Follow what is revoked',
        description:
          'For confidential clients with the introspection right, by HTTP Basic. With `Accept: text/event-stream` a stream: events `revocations` (the first at once) and `heartbeat` every 5 s while this process is up to date, each with the cursor as its id. Where there is more than a page, `more` is true: ask for the next at once, or wait for the event behind.',
        tags: ['checking'],
        security: withClient,
        produces: ['application/json', 'text/event-stream'],
        querystring: Type.Object(
          {
            since: Type.Optional(
              Type.String({
                pattern: '\\S',
                maxLength: 256,
                description: 'the `cursor` of the answer before; without one, all that is in force',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            revocations: Type.Array(RevocationEntry),
            cursor: Type.String(),
            more: Type.Optional(Type.Literal(true, { description: 'there is more behind the cursor' })),
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
