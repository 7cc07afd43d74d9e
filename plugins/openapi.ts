import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** `security` of a route that takes an access token. */
export const withToken = [{ login: [] }, { bearer: [] }]

/** Describes every route by OpenAPI 3.1, from the schemas that it is checked by: `/openapi.json`, and `/docs` to try it. */
export default fp(
  async (app: FastifyInstance, { version }: { version: string }) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Latchkey',
          description: 'Accounts, sessions and tokens. Press Authorize and log in to try the routes that need a token.',
          version,
        },
        components: {
          securitySchemes: {
            login: {
              type: 'oauth2',
              description: 'Username and password; leave the client as it is',
              flows: { password: { tokenUrl: '/token', refreshUrl: '/token', scopes: {} } },
            },
            bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
          },
        },
      },
    })
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: true,
      uiConfig: { deepLinking: true, tryItOutEnabled: true },
      initOAuth: { clientId: 'first-party' },
    })
    app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  },
  { name: 'openapi' },
)
