import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { acceptJson } from '../../plugins/http/json.ts'
import { strictObject } from '../../schemas/parts.ts'
import { Done, problemResponses } from '../../schemas/responses.ts'
import { AdminWebhook, toWebhook } from '../../schemas/webhooks.ts'
import { actions, adminRoute } from './actions.ts'

const Params = Type.Object({ id: Type.String() })

/** Endpoints that are told of events, for administrators. What they are is in AUTH_WEBHOOKS_FILE. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { webhooks } = app
  acceptJson(app)

  app.get(
    '/admin/webhooks',
    {
      schema: {
        operationId: 'adminListWebhooks',
        ...adminRoute,
        summary: 'List webhooks, and how far each has been told',
        response: { 200: Type.Object({ webhooks: Type.Array(AdminWebhook) }), ...problemResponses(401, 403, 503) },
      },
    },
    async () => ({
      webhooks: await Promise.all(
        webhooks.senders.map(async ({ endpoint, look }) => toWebhook(endpoint, await look())),
      ),
    }),
  )

  app.post(
    '/admin/webhooks/:id/resend',
    {
      schema: {
        operationId: 'adminResendWebhook',
        ...adminRoute,
        summary: 'Send all events since a time again, in order',
        description: 'They have the ids that they had. One that is disabled has to be enabled as well.',
        params: Params,
        body: strictObject({
          since: Type.String({ description: 'A length of time, such as `2h`, or a time', examples: ['2h'] }),
        }),
        response: { 204: Done, ...problemResponses(400, 401, 403, 404, 413, 415, 503) },
      },
    },
    async ({ params, body, caller }, reply) => {
      await webhooks.resend(caller, params.id, body.since)
      return reply.code(204).send(null)
    },
  )

  await app.register(
    actions(Params, ({ id }) => id, [
      {
        route: 'POST /admin/webhooks/:id/enable',
        operationId: 'adminEnableWebhook',
        summary: 'Go on with the next event, at once: after it was disabled, or while it waits for its next try',
        act: webhooks.enable,
      },
    ]),
  )
}

export default plugin
