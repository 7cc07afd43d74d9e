import { setImmediate as nextTurn } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type RouteOptions } from 'fastify'

/*
 * What answers for `/openapi.json` and `/docs`, made when somebody asks for the first time: the packages are a tenth of
 * the CPU time of a start and 4 MB, and most processes are never asked.
 */

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

/** In which a request keeps its target as it came: `inject` would resolve the dots in it. */
const targetField = 'x-target'
/** What a request says of the copy of a file that it has, RFC 9110 §13 and §14. */
const fieldsPassedOn = ['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since', 'if-range', 'range']
/** Said by the app that answers. */
const ownFields = new Set(['connection', 'date', 'keep-alive', 'transfer-encoding'])

/** @param publicPath that a proxy in front adds to each path */
async function buildApp(
  routes: readonly RouteOptions[],
  { version, publicPath: path }: { version: string; publicPath: string },
): Promise<FastifyInstance> {
  const app = Fastify({ rewriteUrl: ({ headers }) => String(headers[targetField]), exposeHeadRoutes: true })
  // Nothing is checked or written by the schemas here.
  app.setValidatorCompiler(() => () => true)
  app.setSerializerCompiler(() => JSON.stringify)
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
  // Loading takes long: others have a turn in between.
  await nextTurn()
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
  for (const { method, url, schema = {} } of routes) app.route({ method, url, schema, handler: async () => {} })
  await app.ready()
  return app
}

/**
 * Makes what answers requests for the documentation of an app.
 *
 * @param routes of that app
 * @returns sends a page, a file or the document, or throws an error with the status of a refusal
 */
export async function createDocumentation(
  routes: readonly RouteOptions[],
  of: { version: string; publicPath: string },
) {
  const app = await buildApp(routes, of)
  return async ({ raw }: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const passedOn = fieldsPassedOn.map((name) => [name, raw.headers[name]] as const)
    const headers = Object.fromEntries([[targetField, raw.url], ...passedOn.filter(([, value]) => value !== undefined)])
    const { statusCode, headers: fields, rawPayload } = await app.inject({ url: '/', headers })
    if (statusCode >= 400) throw Object.assign(new Error(`the documentation: ${statusCode}`), { statusCode })
    for (const [name, value] of Object.entries(fields)) if (!ownFields.has(name)) reply.header(name, value)
    return reply.code(statusCode).send(rawPayload)
  }
}
