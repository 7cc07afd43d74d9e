import cors from '@fastify/cors'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { originMatcher } from '../../config/origins.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Lets the page that sent a request read the answer, where its origin may; for answers that no hook is run for. */
    letReadAcrossOrigins: (request: FastifyRequest, reply: FastifyReply) => void
  }
}

const exposedHeaders = ['x-request-id', 'www-authenticate', 'retry-after', 'location', 'allow']
const allowedHeaders = [
  ...['authorization', 'content-type', 'cache-control', 'last-event-id', 'x-request-id'],
  // Tracing, which libraries add to every fetch.
  ...['traceparent', 'tracestate', 'baggage'],
  // The login form of Swagger UI, and so of FastAPI's /docs.
  'x-requested-with',
]

/** Whether a browser asks if it may send what it was asked to send, Fetch §3.2.2. */
export const isPreflight = ({ method, headers }: FastifyRequest): boolean =>
  method === 'OPTIONS' && headers.origin !== undefined && headers['access-control-request-method'] !== undefined

/**
 * Lets browsers of the origins in AUTH_CORS_ORIGINS call this service, and read every answer of it, also one that is sent before a
 * route is reached. No cookie is ever read, so none is allowed for. Preflights are answered by `known-paths`.
 */
export default fp(
  async (app: FastifyInstance) => {
    const { AUTH_CORS_ORIGINS: origins } = app.config
    if (!origins) return void app.decorate('letReadAcrossOrigins', () => {})
    const isAllowed = originMatcher(origins)
    await app.register(cors, {
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
