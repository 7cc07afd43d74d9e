import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { originMatcher } from '../../config/origins.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Sets the CORS fields of a response that no hook is run for. */
    letReadAcrossOrigins: (request: FastifyRequest, reply: FastifyReply) => void
  }
}

const exposedHeaders = ['x-request-id', 'www-authenticate', 'retry-after', 'location', 'allow']
/**
 * Tracing libraries add `traceparent`, `tracestate` and `baggage` to every fetch; the login form of Swagger UI
 * `x-requested-with`.
 */
const allowedHeaders = [
  'authorization',
  'content-type',
  'cache-control',
  'last-event-id',
  'x-request-id',
  'traceparent',
  'tracestate',
  'baggage',
  'x-requested-with',
]

/** Whether a request is a CORS preflight, Fetch §3.2.2. */
export const isPreflight = ({ method, headers }: FastifyRequest): boolean =>
  method === 'OPTIONS' && headers.origin !== undefined && headers['access-control-request-method'] !== undefined

/**
 * Lets pages of the origins in AUTH_CORS_ORIGINS call this service and read every response, also one that is sent
 * before a route is reached. Credentials are not allowed: cookies are for pages, which no script of another origin reads. `known-paths.ts` answers
 * preflights.
 */
export default fp(
  async (app: FastifyInstance) => {
    const { AUTH_CORS_ORIGINS: origins } = app.config
    if (!origins) return void app.decorate('letReadAcrossOrigins', () => {})
    const isAllowed = originMatcher(origins)
    await app.register(import('@fastify/cors'), {
      origin: (origin, done) => done(null, origin !== undefined && isAllowed(origin)),
      methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
      allowedHeaders,
      exposedHeaders,
      maxAge: 600,
      strictPreflight: false,
      preflightContinue: true,
    })
    app.decorate('letReadAcrossOrigins', ({ headers: { origin } }, reply) => {
      reply.header('vary', 'Origin')
      if (origin === undefined || !isAllowed(origin)) return
      reply.headers({
        'access-control-allow-origin': origin,
        'access-control-expose-headers': exposedHeaders.join(', '),
      })
    })
  },
  { name: 'cors' },
)
