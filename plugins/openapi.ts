import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** `security` of a route that takes an access token. */
export const withToken = [{ login: [] }, { bearer: [] }]

/** The one inline style of the page. */
const inlineStyle = "'unsafe-hashes' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='"

/** The page loads nothing from elsewhere, and has to work where there is no TLS before it: upgraded to https it would be blank. */
const forPlainHttp = (policy: string) =>
  policy
    .replace(/upgrade-insecure-requests;?/, '')
    .replace(/ ?validator\.swagger\.io/, '')
    .replace(/(style-src [^;]*)https:/, `$1${inlineStyle}`)

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
      transformStaticCSP: (policy) => forPlainHttp(policy),
      uiConfig: { deepLinking: true, tryItOutEnabled: true, layout: 'BaseLayout', validatorUrl: null },
      initOAuth: { clientId: 'first-party' },
    })
    app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  },
  { name: 'openapi' },
)
