import { FastifyOtelInstrumentation } from '@fastify/otel'
import { context } from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { toRefusal } from '../http/errors.ts'

/** What load balancers ask each second tells nothing, and would be most of what is recorded. */
const probes = new Set(['/livez', '/readyz'])

/**
 * A span for each request, by `@fastify/otel`, which takes `traceparent` from the request (W3C Trace Context). First of
 * all plugins, so that what the others log and do belongs to it. What the span may say of a request is decided in
 * `process/tracing.ts`.
 */
export default fp(
  async (app: FastifyInstance) => {
    const instrumentation = new FastifyOtelInstrumentation({
      // Each hook and handler would have a span, and an error its stack.
      instrumentHooks: false,
      instrumentHandler: false,
      recordExceptions: false,
      ignorePaths: ({ url }) => probes.has(url.split('?', 1)[0] as string),
      requestHook: (span, { id, method, routeOptions: { url } }) => {
        span.updateName(url === undefined ? method : `${method} ${url}`)
        span.setAttribute('latchkey.request_id', id)
      },
    })
    await app.register(instrumentation.plugin())

    app.addHook('onRequest', (request, reply, done) => {
      const { span } = request.opentelemetry()
      if (span) {
        const { traceId, spanId } = span.spanContext()
        request.log = request.log.child({ trace_id: traceId, span_id: spanId })
        reply.log = request.log
      }
      done()
    })
    // A body arrives in events of the socket, which know of no request.
    app.addHook('preValidation', (request, _reply, done) => {
      const { context: ofRequest } = request.opentelemetry()
      if (ofRequest) context.with(ofRequest, done)
      else done()
    })
    app.addHook('onError', async (request, _reply, error) => {
      request.opentelemetry().span?.setAttribute('error.type', toRefusal(error, request).code)
    })
  },
  { name: 'tracing' },
)
