import { isPage } from '../support/browser.ts'
import { basic, makeClient } from '../support/client-helper.ts'
import { listen, logIn, onOneStore, sendRaw, signUp } from '../support/helper.ts'

/* What Node's parser lets pass and HTTP wants refused, over real sockets. */

const form = 'application/x-www-form-urlencoded'

/** Sends each request, and compares the status of the (first) answer. */
async function compare(
  origin: string,
  requests: Record<string, [text: string, status: number, ...more: RegExp[]]>,
): Promise<string[]> {
  const wrong: string[] = []
  for (const [what, [text, status, ...more]] of Object.entries(requests)) {
    const answer = await sendRaw(origin, text)
    const isAsWanted = answer.startsWith(`HTTP/1.1 ${status} `) && more.every((pattern) => pattern.test(answer))
    const hasId = /\r\nx-request-id: [0-9a-f-]{36}\r\n/i.test(answer)
    if (!isAsWanted || !hasId) wrong.push(`${what}: ${answer.slice(0, 400)}`)
  }
  return wrong
}

/** @param fields beside `Host: x` and `Connection: close` */
const get = (path: string, ...fields: string[]) =>
  `GET ${path} HTTP/1.1\r\n${['Host: x', 'Connection: close', ...fields].join('\r\n')}\r\n\r\n`
const post = (path: string, body: string, ...fields: string[]) =>
  `POST ${path} HTTP/1.1\r\n${['Host: x', 'Connection: close', `Content-Length: ${body.length}`, ...fields].join('\r\n')}` +
  `\r\n\r\n${body}`

const chunked = (version: string, ...fields: string[]) =>
  `POST /revoke HTTP/${version}\r\n${['Host: x', `Content-Type: ${form}`, ...fields].join('\r\n')}\r\n\r\n` +
  '7\r\ntoken=x\r\n0\r\n\r\n'

onOneStore(
  'a field that decides something and comes twice is 400, also with the same value, RFC 9110 §5.3 and RFC 9112 §3.2',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const { access_token: token } = await logIn(app)
    const { authorization } = basic(await makeClient(app, { id: 'orders', introspect: 'all' })).headers
    const origin = await listen(app)
    const bearer = `Authorization: Bearer ${token}`
    const many = Array.from({ length: 2_400 }, () => 'a:').join('\r\n')
    t.same(
      await compare(origin, {
        'Host, the same': [get('/livez', 'Host: x'), 400],
        'Host, another': [get('/livez', 'Host: y'), 400],
        'Host, in another case': [get('/livez', 'hOST: x'), 400],
        'Host, empty': [get('/livez', 'Host:'), 400],
        'Host, on an unknown path': [get('/nope', 'Host: y'), 400],
        'Host, with a wrong method': [get('/token', 'Host: y'), 400],
        'Authorization, the same': [get('/users/me', bearer, bearer), 400],
        'Authorization, another first': [get('/users/me', 'Authorization: Bearer x', bearer), 400],
        'Authorization, another last': [get('/users/me', bearer, 'authorization: Basic eDp4'), 400],
        'Authorization, an empty one': [get('/users/me', bearer, 'Authorization:'), 400],
        'Authorization, after more fields than Node keeps': [
          get('/users/me', bearer, many, 'Authorization: Bearer x'),
          400,
        ],
        'Authorization, where nobody reads it': [get('/livez', bearer, bearer), 400],
        'Authorization at /introspect': [
          post(
            '/introspect',
            'token=x',
            `Content-Type: ${form}`,
            `Authorization: ${authorization}`,
            `Authorization: ${authorization}`,
          ),
          400,
        ],
        'Authorization at /revoke': [
          post('/revoke', 'token=x', `Content-Type: ${form}`, `Authorization: ${authorization}`, bearer),
          400,
        ],
        'Content-Type, the same': [post('/revoke', 'token=x', `Content-Type: ${form}`, `Content-Type: ${form}`), 400],
        'Content-Type, another': [
          post('/revoke', 'token=x', `Content-Type: ${form}`, 'Content-Type: application/json'),
          400,
        ],
        'Content-Length, the same': [post('/revoke', 'token=x', `Content-Type: ${form}`, 'Content-Length: 7'), 400],
        'Content-Length, another': [post('/revoke', 'token=x', `Content-Type: ${form}`, 'Content-Length: 0'), 400],
        'Content-Length as a list': [`POST /revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 7, 7\r\n\r\ntoken=x`, 400],
        'Last-Event-ID': [
          get('/revocations', `Authorization: ${authorization}`, 'Last-Event-ID: 1', 'Last-Event-ID: 2'),
          400,
        ],
        'once each': [
          get('/users/me', bearer, 'Accept: a', 'Accept: b', 'Cookie: a=1', 'Cookie: b=2', 'X-Forwarded-For: 1.2.3.4'),
          200,
        ],
      }),
      [],
    )
  },
)

onOneStore('a Host that is missing or not valid is 400, RFC 9112 §3.2', async (t, build) => {
  const { app } = await build()
  const origin = await listen(app)
  const withHost = (host: string, target = '/livez') =>
    `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
  const bad = [
    'a b',
    'a/b',
    '/',
    'a?b',
    'a#b',
    'user@a',
    'user:pw@a',
    'a,b',
    'a, b',
    'a:b',
    'a:80:80',
    'a:65536',
    'a:-1',
    'a:999999',
    '',
  ]
  bad.push(
    'http://a',
    '[::1',
    '::1',
    '[::g]',
    '[::1]x',
    '[::1]:x',
    '[1.2.3.4]',
    '[fe80::1%25lo]',
    '[]',
    '\xe4',
    'a\\b',
    '<a>',
    'a"b',
    '%',
    '%zz',
    ':80',
  )
  const good = [
    'a',
    'localhost',
    'localhost:3000',
    'A.example.COM',
    'a:',
    'a:80',
    'a:65535',
    '127.0.0.1',
    '127.0.0.1:3000',
    '[::1]',
    '[::1]:3000',
  ]
  good.push('[::ffff:1.2.3.4]', 'my_service', 'my_service:3000', 'xn--bcher-kva.example', 'a.', 'a%20b', 'a;b')
  const requests: Parameters<typeof compare>[1] = {
    'no Host': ['GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
    'no Host in HTTP/1.0': ['GET /livez HTTP/1.0\r\n\r\n', 200],
    'an empty Host in HTTP/1.0': ['GET /livez HTTP/1.0\r\nHost:\r\n\r\n', 200],
    'a bad Host in HTTP/1.0': ['GET /livez HTTP/1.0\r\nHost: a b\r\n\r\n', 400],
    'a bad Host on an unknown path': [withHost('a b', '/nope'), 400],
  }
  for (const host of bad) requests[`Host: ${host}`] = [withHost(host), 400, /malformed_request/]
  for (const host of good) requests[`Host: ${host}`] = [withHost(host), 200]
  t.same(await compare(origin, requests), [])
})

onOneStore('a request target is a path or a whole URI, and nothing else, RFC 9112 §3.2', async (t, build) => {
  const { app } = await build()
  const origin = await listen(app)
  t.same(
    await compare(origin, {
      'a whole URI': [get('http://x/livez'), 200],
      'a whole URI of https': [get('https://x:8443/livez?a'), 200],
      'a whole URI, in capitals': [get('HTTP://X/livez'), 200],
      'a whole URI of an unknown path': [get('http://x/nope'), 404],
      'a whole URI without a path': [get('http://x'), 303, /\r\nlocation: \/account\r\n/i],
      'a whole URI with a wrong method': [get('http://x/token'), 405, /\r\nallow: POST\r\n/i],
      'a whole URI beside an empty Host': ['GET http://x/livez HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n', 400],
      'the same in HTTP/1.0': ['GET http://x/livez HTTP/1.0\r\nHost:\r\n\r\n', 400],
      'a whole URI without Host': ['GET http://x/livez HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
      'with a user': [get('http://ada:secret@x/livez'), 400],
      'without a host': [get('http:///livez'), 400],
      'with a bad port': [get('http://x:70000/livez'), 400],
      'with a fragment': [get('http://x/livez#a'), 400],
      'of another scheme': [get('ftp://x/livez'), 400],
      'with a bad escape': [get('http://x/%zz'), 400],
      'an asterisk': ['OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 404],
      'an asterisk with GET': [get('*'), 400],
      'CONNECT to another host': [
        'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n',
        405,
        /\r\nconnection: close\r\n/,
      ],
      'two slashes': [get('//'), 404],
      'two slashes and a host': [get('//x/livez'), 404],
      'a bad escape': [get('/%zz'), 400],
      'half an escape': [get('/livez%2'), 400],
      'no UTF-8': [get('/%ff'), 400],
      'a NUL, encoded': [get('/%00'), 404],
      dots: [get('/../livez'), 404],
      'an encoded slash': [get('/users%2fme'), 404],
      'a bad escape in the query': [get('/livez?a=%zz'), 400],
      'no UTF-8 in the query': [get('/verify?scope=%ff'), 400],
      'half an escape in the query': [
        post('/token?%', 'grant_type=x', `Content-Type: ${form}`),
        400,
        /"error":"invalid_request"/,
      ],
    }),
    [],
  )
})

onOneStore(
  'a transfer coding that is not understood is 400, and in HTTP/1.0 the connection is closed, RFC 9112 §6.1',
  async (t, build) => {
    const { app } = await build()
    const origin = await listen(app)
    const closes = /\r\nconnection: close\r\n/i
    t.same(
      await compare(origin, {
        chunked: [chunked('1.1', 'Transfer-Encoding: chunked'), 200],
        'chunked, in capitals': [chunked('1.1', 'Transfer-Encoding: CHUNKED'), 200],
        'gzip before it': [chunked('1.1', 'Transfer-Encoding: gzip, chunked'), 400],
        'gzip before it, in a field of its own': [
          chunked('1.1', 'Transfer-Encoding: gzip', 'Transfer-Encoding: chunked'),
          400,
        ],
        'chunked twice': [chunked('1.1', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'), 400],
        'not chunked in the end': [chunked('1.1', 'Transfer-Encoding: chunked, gzip'), 400],
        identity: [chunked('1.1', 'Transfer-Encoding: identity'), 400],
        'a coding nobody knows': [chunked('1.1', 'Transfer-Encoding: xchunked'), 400],
        'with a Content-Length': [chunked('1.1', 'Content-Length: 7', 'Transfer-Encoding: chunked'), 400],
        'with a Content-Length after it': [chunked('1.1', 'Transfer-Encoding: chunked', 'Content-Length: 7'), 400],
        'in HTTP/1.0': [chunked('1.0', 'Transfer-Encoding: chunked', 'Connection: keep-alive'), 200, closes],
        'in HTTP/1.0, with a length': [
          chunked('1.0', 'Transfer-Encoding: chunked', 'Content-Length: 7', 'Connection: keep-alive'),
          400,
          closes,
        ],
        'in HTTP/1.0, on an unknown path': [
          'GET /nope HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n',
          404,
          closes,
        ],
      }),
      [],
    )
  },
)

onOneStore('an expectation is met or ignored, RFC 9110 §10.1.1', async (t, build) => {
  const { app } = await build()
  const origin = await listen(app)
  const answered = (expect: string) => post('/revoke', 'token=x', `Content-Type: ${form}`, `Expect: ${expect}`)
  t.match(await sendRaw(origin, answered('100-continue')), /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/)
  t.same(
    await compare(origin, {
      'not understood': [answered('miracles'), 200],
      'two, one of them not understood': [get('/livez', 'Expect: 200-ok', 'Expect: miracles'), 200],
      'not understood, on an unknown path': [get('/nope', 'Expect: miracles'), 404],
      'not understood, with two Hosts': [get('/livez', 'Host: y', 'Expect: miracles'), 400],
    }),
    [],
  )
})

onOneStore('a Content-Encoding that is not undone is 415 on every route, RFC 9110 §8.4', async (t, build) => {
  const { app } = await build()
  const origin = await listen(app)
  const wrong: string[] = []
  for (const [pattern, { methods, family }] of app.knownPaths) {
    for (const method of methods) {
      for (const coding of ['gzip', 'GZIP', 'br', 'identity, gzip', 'x-gzip', 'deflate,identity', 'identityidentity']) {
        const url = pattern.replace(/:\w+|\*/g, 'x')
        const answer = await app.inject({
          method: method as 'GET',
          url,
          headers: { 'content-encoding': coding },
          payload: 'token=x',
        })
        const isRight = answer.statusCode === 415 && answer.headers['accept-encoding'] === 'identity'
        const isOfFamily =
          method === 'HEAD' ||
          String(answer.headers['content-type']).startsWith(
            isPage(url) ? 'text/html' : family === 'oauth' ? 'application/json' : 'application/problem',
          )
        if (!isRight || !isOfFamily)
          wrong.push(`${method} ${url} ${coding}: ${answer.statusCode} ${answer.headers['content-type']}`)
      }
    }
  }
  t.same(wrong, [])
  t.same(
    await compare(origin, {
      identity: [post('/revoke', 'token=x', `Content-Type: ${form}`, 'Content-Encoding: identity'), 200],
      'no coding': [post('/revoke', 'token=x', `Content-Type: ${form}`, 'Content-Encoding:'), 200],
      'in chunks': [chunked('1.1', 'Transfer-Encoding: chunked', 'Content-Encoding: gzip'), 415],
      'without a body, as a proxy asks for another request': [
        get('/livez', 'Content-Encoding: gzip', 'Content-Length: 0'),
        200,
      ],
      'on an unknown path': [post('/nope', 'token=x', 'Content-Encoding: gzip'), 404],
      'in two fields': [post('/revoke', 'token=x', 'Content-Encoding: identity', 'Content-Encoding: gzip'), 415],
    }),
    [],
  )
})

onOneStore(
  'a refusal of a plugin keeps its status, and loses its words: nothing that is below 500 becomes a 500',
  async (t, build) => {
    const { app, logs } = await build()
    const origin = await listen(app)
    const css = '/docs/static/swagger-ui.css'
    const refused = /"type":"urn:latchkey:problem:refused","title":"The request was refused"/
    t.same(
      await compare(origin, {
        'two dots': [get('/docs/static/..'), 403, refused],
        'encoded dots': [get('/docs/static/%2e%2e/%2e%2e/package.json'), 403, refused],
        'an encoded slash': [get('/docs/static/..%2f..%2fpackage.json'), 404, /not_found/],
        'a backslash': [get('/docs/static/..%5c..%5c'), 403, refused],
        'a NUL': [get('/docs/static/%00'), 403, refused],
        'a NUL in a name': [get('/docs/static/swagger-ui.css%00.js'), 403, refused],
        'a hidden file': [get('/docs/static/.env'), 404, /not_found/],
        'a name that is too long': [get(`/docs/static/${'a'.repeat(5_000)}`), 403, refused],
        'another version of the file': [get(css, 'If-Match: "x"'), 412, refused],
        'a range that it does not have': [get(css, 'Range: bytes=99999999-'), 416, refused],
      }),
      [],
    )
    t.notOk(
      logs.some(({ level, err }) => (level as number) >= 50 || err),
      'no alarm and no stack in the log',
    )
  },
)

onOneStore(
  'whatever carries a status below 500 keeps it, in the shape of the family, and anything else is a 500',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const { access_token } = await logIn(app)
    const refuseWith = (error: object) => {
      app.accessTokens.verify = () => Promise.reject(Object.assign(new Error('secret words'), error))
      return app.inject({ url: '/users/me', headers: { authorization: `Bearer ${access_token}` } })
    }
    for (const status of [
      400, 401, 402, 403, 404, 406, 408, 409, 410, 411, 412, 413, 414, 416, 417, 418, 422, 425, 428, 429, 431, 451, 499,
    ]) {
      const response = await refuseWith({ statusCode: status, code: 'FST_ERR_ANY' })
      t.match(
        { ...response.json(), statusCode: response.statusCode },
        { status, statusCode: status, type: /^urn:latchkey:problem:/ },
      )
      t.notMatch(response.body, /secret words|FST_ERR/)
    }
    for (const status of [undefined, 0, 200, 302, 399, 500, 501, 503, 599, 1000, Number.NaN]) {
      const response = await refuseWith({ statusCode: status })
      t.match(
        { ...response.json(), statusCode: response.statusCode },
        { status: 500, statusCode: 500, type: /internal_error$/ },
        `${status}`,
      )
      t.notMatch(response.body, /secret words/)
    }
  },
)
