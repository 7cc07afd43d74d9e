import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

const tags = {
  accounts: 'Sign up, and manage your own account',
  tokens: 'Log in, refresh, revoke; and tokens for services',
  browser: 'Sign in in the browser: OAuth 2.0 authorization code, and OpenID Connect',
  sessions: 'List and end your own sessions',
  factors: 'Your own second factors: authenticator apps, recovery codes, passkeys',
  checking: 'Check tokens: for services and reverse proxies',
  admin: 'Users, clients, sessions and keys. Log in with the scope admin',
  health: 'For supervisors and load balancers',
}

/** The one inline style of the page. */
const inlineStyle = "'unsafe-hashes' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='"

/**
 * The page loads nothing from elsewhere. It has to work without TLS, where an upgrade to https would leave it blank.
 */
const forPlainHttp = (policy: string) =>
  policy
    .replace(/upgrade-insecure-requests;?/, '')
    .replace(/ ?validator\.swagger\.io/, '')
    .replace(/(style-src [^;]*)https:/, `$1${inlineStyle}`)

/**
 * The page loads its files by relative paths, so that a proxy may serve it anywhere; hence one URL, with a slash, and
 * relative redirects.
 */
async function toPage({ url }: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
  const [path = ''] = url.split('?', 1)
  if (path.endsWith('/docs')) return reply.redirect('docs/')
  if (path.endsWith('/docs/static/index.html')) return reply.redirect('../')
  return undefined
}

/**
 * Describes every route by OpenAPI 3.1, from the schemas that it is checked by: `/openapi.json`, and `/docs` to try it.
 */
export default fp(
  async (app: FastifyInstance, { version }: { version: string }) => {
    const { publicPath: path } = app
    await app.register(import('@fastify/swagger'), {
      // By text: with the path /auth it would make /orize of /authorize.
      stripBasePath: false,
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Latchkey',
          description: 'Accounts, sessions and tokens. Press Authorize and log in to try the routes that need a token.',
          version,
          license: { name: 'Apache License 2.0', identifier: 'Apache-2.0' },
        },
        // Relative to the host of the document; the path is the one that a proxy in front adds.
        servers: [{ url: path === '' ? '/' : path }],
        tags: Object.entries(tags).map(([name, description]) => ({ name, description })),
        // Routes that say nothing else are public.
        security: [],
        components: {
          securitySchemes: {
            login: {
              type: 'oauth2',
              description: 'Username and password; leave the client as it is',
              flows: {
                password: {
                  tokenUrl: `${path}/token`,
                  refreshUrl: `${path}/token`,
                  scopes: { admin: 'Administer Latchkey; for users with the role admin' },
                },
              },
            },
            bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'An access token' },
            client: {
              type: 'http',
              scheme: 'basic',
              description: 'The client_id and client_secret of a confidential client',
            },
          },
        },
      },
    })
    await app.register(import('@fastify/swagger-ui'), {
      routePrefix: '/docs',
      staticCSP: true,
      transformStaticCSP: (policy) => forPlainHttp(policy),
      uiConfig: {
        deepLinking: true,
        tryItOutEnabled: true,
        layout: 'BaseLayout',
        validatorUrl: null,
        // Runs in the page. Without it the browser itself asks for the credentials of `WWW-Authenticate: Basic`, and
        // the page hangs.
        requestInterceptor: (request) => Object.assign(request, { credentials: 'omit' }),
      },
      theme: { title: 'Latchkey' },
      initOAuth: { clientId: 'first-party' },
      uiHooks: { onRequest: toPage },
    })
    app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  },
  { name: 'openapi' },
)
