import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** Lets browsers of the origins in AUTH_CORS_ORIGINS call this service. No cookie is ever read, so none is allowed for. */
export default fp(
  async (app: FastifyInstance) => {
    const { AUTH_CORS_ORIGINS: origin } = app.config
    if (!origin) return
    await app.register(cors, {
      origin,
      methods: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'],
      // The login form of Swagger UI, and so of FastAPI's /docs, sends the last one.
      allowedHeaders: ['authorization', 'content-type', 'x-requested-with'],
      exposedHeaders: ['x-request-id', 'www-authenticate', 'retry-after', 'location'],
      maxAge: 600,
      strictPreflight: false,
    })
  },
  { name: 'cors' },
)
