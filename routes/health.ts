import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../errors.ts'
import { problemResponses } from '../schemas/responses.ts'

const Status = Type.Object({ status: Type.Literal('ok') })

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { store, drain } = app

  app.get(
    '/livez',
    {
      schema: {
        operationId: 'getLiveness',
        summary: 'Liveness: the process runs',
        tags: ['health'],
        response: { 200: Status, ...problemResponses(400) },
      },
    },
    async () => ({
      status: 'ok' as const,
    }),
  )

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'getReadiness',
        summary: 'Readiness: the store answers, and the process is not shutting down',
        tags: ['health'],
        response: { 200: Status, ...problemResponses(400, 503) },
      },
    },
    async () => {
      if (drain.signal.aborted) throw new Refusal('draining')
      await store.ping()
      return { status: 'ok' as const }
    },
  )
}

export default plugin
