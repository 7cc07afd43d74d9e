import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../errors.ts'
import { createProbes, probeField } from '../plugins/keys/probe.ts'
import { problemResponses } from '../schemas/responses.ts'

const Status = Type.Object({ status: Type.Literal('ok') })

const Liveness = Type.Object({
  status: Type.Literal('ok'),
  arrived: Type.Optional(
    Type.Object(
      { peer: Type.String(), forwarded_for: Type.String(), address: Type.String() },
      { description: 'How a probe of `latchkey doctor`, made under AUTH_SECRET, came here; of no other request' },
    ),
  ),
})

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { store, drain, secrets, now } = app
  const probes = createProbes(secrets)

  app.get(
    '/livez',
    {
      schema: {
        operationId: 'getLiveness',
        summary: 'Liveness: the process runs',
        tags: ['health'],
        response: { 200: Liveness, ...problemResponses(400) },
      },
    },
    async ({ headers, socket, address }) => ({
      status: 'ok' as const,
      ...(probes.isGood(headers[probeField], now()) && {
        arrived: {
          peer: socket.remoteAddress ?? '',
          forwarded_for: String(headers['x-forwarded-for'] ?? ''),
          address,
        },
      }),
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
