import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { json, listen, logIn, onOneStore, password, postForm, sendRaw, signUp } from '../support/helper.ts'

/* With AUTH_CORS_ORIGINS every answer is what it is without, and a page of an origin in it can read it. */

const ours = 'https://app.example.com'
const others = [
  'https://evil.example',
  'null',
  `${ours}.evil.example`,
  'http://app.example.com',
  `${ours}:8443`,
  `${ours}/`,
  'HTTPS://app.example.com',
  '',
]

const preflight = (
  app: FastifyInstance,
  url: string,
  { origin = ours, method = 'POST', fields = 'content-type' } = {},
) =>
  app.inject({
    method: 'OPTIONS',
    url,
    headers: { origin, 'access-control-request-method': method, 'access-control-request-headers': fields },
  })

/** Whether a page of an origin can read an answer, and no cache gives it to another. */
function isReadable(
  t: Test,
  { headers }: LightMyRequestResponse,
  what: string,
  origin: string | undefined = ours,
): void {
  t.equal(headers['access-control-allow-origin'], origin, what)
  t.equal(headers['vary'], 'Origin', what)
  t.equal(headers['access-control-allow-credentials'], undefined)
  if (origin) t.match(headers['access-control-expose-headers'], /x-request-id/)
}

/** Requests that are refused before a route is reached, and by what comes behind. */
const refused: [method: string, url: string, status: number, headers?: Record<string, string>, payload?: string][] = [
  ['GET', '/nope/', 404],
  ['GET', '/nope', 404],
  ['POST', '/nope', 404, { 'content-type': 'application/json' }, '{}'],
  ['POST', '/token/', 404],
  ['GET', '/users/me/', 404],
  ['GET', '/docs/nope', 404],
  ['GET', '/docs/static/nope', 404],
  ['GET', `/users/me/sessions/${'x'.repeat(200)}`, 404],
  ['DELETE', `/users/me/sessions/${'x'.repeat(200)}`, 404],
  ['GET', '//', 404],
  ['OPTIONS', '/nope', 404],
  ['GET', '/token', 405],
  ['HEAD', '/token', 405],
  ['TRACE', '/token', 405],
  ['PROPFIND', '/livez', 405],
  ['PATCH', '/users/me', 405],
  ['PUT', '/docs/', 405],
  ['DELETE', '/docs/static/swagger-ui.css', 405],
  ['POST', '/openapi.json', 405],
  ['POST', '/.well-known/jwks.json', 405],
  ['OPTIONS', '/token', 405],
  ['OPTIONS', '/livez', 405],
  ['GET', '/%zz', 400],
  ['GET', '/livez?%zz', 400],
  ['POST', '/signup', 400, { 'content-type': 'application/json' }, '{'],
  ['POST', '/signup', 415, { 'content-type': 'text/plain' }, 'x'],
  ['POST', '/token', 415, { 'content-type': 'application/x-www-form-urlencoded', 'content-encoding': 'gzip' }, 'x'],
  ['POST', '/token', 413, { 'content-type': 'application/x-www-form-urlencoded' }, 'x'.repeat(20_000)],
  ['GET', '/livez', 400, { host: 'a b' }],
  ['GET', '/protected', 401],
  ['GET', '/docs/static/..%5c', 403],
]

onOneStore(
  'what is refused is refused alike with CORS on and off, and a page that may call can read it, contract §4',
  async (t, build) => {
    const { app } = await build({ AUTH_CORS_ORIGINS: ours })
    const { app: without } = await build()
    for (const [method, url, status, headers = {}, payload] of refused) {
      const options = { method: method as 'GET', url, headers, ...(payload !== undefined && { payload }) }
      const what = `${method} ${url}`
      const [plain, unset] = [await app.inject(options), await without.inject(options)]
      for (const response of [plain, unset]) {
        t.equal(response.statusCode, status, what)
        t.equal(response.headers['allow'], unset.headers['allow'], what)
        if (status === 405) t.notMatch(response.headers['allow'], /OPTIONS|^$/, what)
        if (method !== 'HEAD') t.equal(response.headers['content-type'], unset.headers['content-type'], what)
      }
      isReadable(t, await app.inject({ ...options, headers: { ...headers, origin: ours } }), what)
      const foreign = await app.inject({ ...options, headers: { ...headers, origin: 'https://evil.example' } })
      t.equal(foreign.headers['access-control-allow-origin'], undefined, what)
      t.equal(foreign.headers['vary'], 'Origin', what)
      t.equal(foreign.statusCode, status, what)
      t.equal(unset.headers['vary'], undefined, what)
    }
  },
)

onOneStore('the same over a socket: no Host, two Hosts, OPTIONS *', async (t, build) => {
  const { app } = await build({ AUTH_CORS_ORIGINS: ours })
  const origin = await listen(app)
  for (const [text, status] of [
    [`GET /livez HTTP/1.1\r\nOrigin: ${ours}\r\n\r\n`, 400],
    [`GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\nOrigin: ${ours}\r\n\r\n`, 400],
    [`OPTIONS * HTTP/1.1\r\nHost: a\r\nOrigin: ${ours}\r\n\r\n`, 404],
    [`OPTIONS /token HTTP/1.1\r\nHost: a\r\nOrigin: ${ours}\r\n\r\n`, 405],
    [`OPTIONS /%zz HTTP/1.1\r\nHost: a\r\nOrigin: ${ours}\r\nAccess-Control-Request-Method: GET\r\n\r\n`, 400],
  ] as const) {
    const answer = await sendRaw(origin, text)
    t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), text)
    t.match(answer, /\r\naccess-control-allow-origin: https:\/\/app\.example\.com\r\n/i, text)
    t.match(answer, /\r\nx-content-type-options: nosniff\r\n/i, text)
  }
})

onOneStore('a preflight is answered for what pages and their tracing send, Fetch §3.2.2', async (t, build) => {
  const { app } = await build({ AUTH_CORS_ORIGINS: `${ours},http://localhost:5173` })
  const fields =
    'authorization,baggage,cache-control,content-type,last-event-id,traceparent,tracestate,x-request-id,x-requested-with'
  for (const [url, method] of [
    ['/token', 'POST'],
    ['/users/me', 'DELETE'],
    ['/users/me', 'PATCH'],
    ['/admin/users/1/roles', 'PUT'],
    ['/docs/', 'GET'],
    ['/nope', 'GET'],
  ] as const) {
    const response = await preflight(app, url, { method, fields })
    t.equal(response.statusCode, 204, url)
    isReadable(t, response, url)
    t.equal(response.headers['content-length'], '0')
    t.equal(response.headers['access-control-max-age'], '600')
    t.match(String(response.headers['access-control-allow-methods']).split(', '), new Set([method]))
    const allowed = String(response.headers['access-control-allow-headers']).split(', ')
    t.same(
      fields.split(',').filter((name) => !allowed.includes(name)),
      [],
      'every field',
    )
  }
  isReadable(t, await preflight(app, '/token', { origin: 'http://localhost:5173' }), 'another', 'http://localhost:5173')
})

onOneStore('a preflight that is refused says which setting decides, in the answer and in the log', async (t, build) => {
  for (const settings of [{ AUTH_CORS_ORIGINS: ours }, {}] as Record<string, string>[]) {
    const { app, logs } = await build(settings)
    for (const origin of others) {
      const response = await preflight(app, '/token', { origin })
      t.equal(response.statusCode, 405, origin)
      t.equal(response.headers['allow'], 'POST')
      for (const name of ['origin', 'methods', 'headers'])
        t.notOk(response.headers[`access-control-allow-${name}`], origin)
      t.match(json(response).error_description, /AUTH_CORS_ORIGINS/)
      const line = logs.find(({ reqId }) => reqId === response.headers['x-request-id'])
      t.equal(line?.['level'], 30)
      t.match(line?.['reason'], /AUTH_CORS_ORIGINS/)
      t.ok(String(line?.['reason']).includes(JSON.stringify(origin)), 'and names the origin')
    }
    const long = await preflight(app, '/token', { origin: `https://${'x'.repeat(5_000)}` })
    t.ok(
      JSON.stringify(logs.find(({ reqId }) => reqId === long.headers['x-request-id'])).length < 600,
      'a long one in short',
    )
  }
})

onOneStore('what succeeds can be read by pages that may call, and by no others', async (t, build) => {
  const { app } = await build({ AUTH_CORS_ORIGINS: ours })
  await signUp(app)
  const { access_token } = await logIn(app)
  const headers = { authorization: `Bearer ${access_token}` }
  for (const url of ['/livez', '/protected', '/.well-known/jwks.json', '/openapi.json', '/docs/']) {
    isReadable(t, await app.inject({ url, headers: { ...headers, origin: ours } }), url)
    for (const origin of others) {
      const response = await app.inject({ url, headers: { ...headers, origin } })
      t.equal(response.headers['access-control-allow-origin'], undefined, `${url} from ${origin}`)
      t.equal(response.headers['vary'], 'Origin')
    }
  }
  const login = await postForm(app, '/token', { username: 'ada', password }, { headers: { origin: ours } })
  isReadable(t, login, 'a login')
  t.equal(
    (await app.inject({ url: '/livez' })).headers['vary'],
    'Origin',
    'a cache must not keep an answer without Origin for all',
  )
})
