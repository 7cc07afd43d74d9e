import { connect } from 'node:net'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { type Store, StoreUnavailable } from '../../stores/store.ts'
import {
  challenges,
  isAccepted,
  json,
  listen,
  logIn,
  onOneStore,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  type Tokens,
  withToken,
} from '../support/helper.ts'

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const form = 'application/x-www-form-urlencoded'

/** Every error: an id, and nothing that a cache may keep. */
function isRefusal(t: Test, { statusCode, headers }: LightMyRequestResponse, status: number, what: string): void {
  t.equal(statusCode, status, what)
  t.match(headers['x-request-id'], uuid)
  t.equal(headers['cache-control'], 'no-store')
}

/** RFC 6749 §5.2 */
function isOAuthError(t: Test, response: LightMyRequestResponse, status: number, error: string, what = error): void {
  isRefusal(t, response, status, what)
  t.equal(response.headers['content-type'], 'application/json; charset=utf-8')
  t.equal(response.headers['pragma'], 'no-cache')
  const { error: code, error_description: description, request_id: id, ...rest } = json(response)
  t.equal(code, error, what)
  t.match(description, /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/)
  if (status >= 500) t.equal(id, response.headers['x-request-id'])
  t.same(rest, {})
}

/** RFC 9457 */
function isProblem(t: Test, response: LightMyRequestResponse, status: number, what: string): void {
  isRefusal(t, response, status, what)
  t.equal(response.headers['content-type'], 'application/problem+json; charset=utf-8')
  const { type, title, status: inBody, detail, request_id: id, errors, ...rest } = json(response)
  t.match({ type, title, detail }, { type: /^urn:/, title: /./, detail: /./ })
  t.equal(inBody, status)
  if (status >= 500 || status === 401) t.equal(id, response.headers['x-request-id'])
  for (const error of errors ?? []) t.match(error, { pointer: /^(\/|$)/, detail: /./ })
  t.same(rest, {})
}

const postJson = (app: FastifyInstance, url: string, payload: string | Buffer, options: InjectOptions = {}) =>
  app.inject({
    method: 'POST',
    url,
    payload,
    ...options,
    headers: { 'content-type': 'application/json', ...options.headers },
  })

/** Sends a body as it is, encoded or not. */
const postRaw = (app: FastifyInstance, url: string, payload: string | Buffer, contentType: string | null = form) =>
  app.inject({ method: 'POST', url, payload, headers: contentType === null ? {} : { 'content-type': contentType } })

const oauthRoutes: Record<string, string[]> = { '/token': ['POST'], '/refresh': ['POST'], '/revoke': ['POST'] }
const otherRoutes: Record<string, string[]> = {
  '/signup': ['POST'],
  '/protected': ['GET', 'HEAD'],
  '/users/me': ['GET', 'HEAD', 'DELETE'],
  '/users/me/password': ['POST'],
  '/users/me/sessions': ['GET', 'HEAD', 'DELETE'],
  '/users/me/sessions/0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b': ['DELETE'],
  '/logout': ['POST'],
  '/verify': ['GET', 'HEAD'],
  '/.well-known/jwks.json': ['GET', 'HEAD'],
  '/.well-known/oauth-authorization-server': ['GET', 'HEAD'],
  '/.well-known/openid-configuration': ['GET', 'HEAD'],
  '/livez': ['GET', 'HEAD'],
  '/readyz': ['GET', 'HEAD'],
  '/openapi.json': ['GET', 'HEAD'],
}

onOneStore('a wrong method is 405 with Allow, in the shape of the family', async (t, build) => {
  const { app } = await build()
  for (const [url, methods] of Object.entries({ ...oauthRoutes, ...otherRoutes })) {
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']) {
      if (methods.includes(method)) continue
      const response = await app.inject({ method: method as 'GET', url: `${url}?x=1` })
      const what = `${method} ${url}`
      if (method === 'HEAD') isRefusal(t, response, 405, what)
      else if (url in oauthRoutes) isOAuthError(t, response, 405, 'invalid_request', what)
      else isProblem(t, response, 405, what)
      t.same(String(response.headers['allow']).split(', ').sort(), [...methods].sort(), `Allow of ${what}`)
    }
  }
})

onOneStore('a wrong content type is 415', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { access_token } = await logIn(app)
  const good = new URLSearchParams({ grant_type: 'password', username: 'ada', password }).toString()
  for (const url of ['/token', '/revoke']) {
    for (const type of [
      'application/json',
      'text/plain',
      'multipart/mixed; boundary=x',
      'application/xml',
      'x',
      '',
      null,
    ]) {
      isOAuthError(t, await postRaw(app, url, good, type), 415, 'invalid_request', `${type} at ${url}`)
    }
  }
  for (const type of ['text/plain', 'multipart/form-data; boundary=x', 'application/jsonp', null]) {
    isOAuthError(
      t,
      await postRaw(app, '/refresh', '{"refresh_token":"x"}', type),
      415,
      'invalid_request',
      `${type} at /refresh`,
    )
  }
  const body = JSON.stringify({ username: 'bob', password, current_password: password, new_password: password })
  for (const [method, url] of [
    ['POST', '/signup'],
    ['POST', '/users/me/password'],
    ['DELETE', '/users/me'],
  ] as const) {
    for (const type of [form, 'text/plain', 'application/problem+json', null]) {
      const headers = { ...(type !== null && { 'content-type': type }) }
      isProblem(
        t,
        await withToken(app, access_token, { method, url, payload: body, headers }),
        415,
        `${type} at ${url}`,
      )
    }
  }
})

onOneStore('parameters of a right content type are no hindrance', async (t, build) => {
  const { app } = await build()
  const created = await postJson(app, '/signup', JSON.stringify({ username: 'ada', password }), {
    headers: { 'content-type': 'application/json; charset=utf-8' },
  })
  t.equal(created.statusCode, 201)
  const fields = new URLSearchParams({ grant_type: 'password', username: 'ada', password }).toString()
  t.equal((await postRaw(app, '/token', fields, `${form}; charset=UTF-8`)).statusCode, 200)
  t.equal(
    (await postRaw(app, '/token', fields, 'Application/X-WWW-Form-URLEncoded')).statusCode,
    200,
    'media types have no case',
  )
})

onOneStore('a body over 16 KiB is 413, and one of 16 KiB is read', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { access_token } = await logIn(app)
  const most = 16 * 1024
  const formOf = (bytes: number) => `grant_type=refresh_token&refresh_token=${'x'.repeat(bytes - 39)}`
  const jsonOf = (bytes: number) => `{"refresh_token":"${'x'.repeat(bytes - 20)}"}`
  t.equal(formOf(most).length, most)
  t.equal(jsonOf(most).length, most)
  isOAuthError(t, await postRaw(app, '/token', formOf(most)), 400, 'invalid_grant')
  isOAuthError(t, await postRaw(app, '/token', formOf(most + 1)), 413, 'invalid_request')
  isOAuthError(t, await postJson(app, '/refresh', jsonOf(most)), 400, 'invalid_grant')
  isOAuthError(t, await postJson(app, '/refresh', jsonOf(most + 1)), 413, 'invalid_request')
  isOAuthError(t, await postRaw(app, '/revoke', formOf(most + 1)), 413, 'invalid_request')
  isProblem(t, await postJson(app, '/signup', `{"username":"${'x'.repeat(most)}"}`), 413, '/signup')
  const logout = {
    method: 'POST',
    url: '/logout',
    payload: 'x'.repeat(most + 1),
    headers: { 'content-type': form },
  } as const
  isProblem(t, await withToken(app, access_token, logout), 413, 'a body that nobody reads')
  t.ok(await isAccepted(app, access_token))
})

onOneStore('bad JSON, invalid UTF-8, NUL and lone surrogates are 400', async (t, build) => {
  const { app } = await build()
  const texts = {
    nothing: '',
    'white space': ' ',
    'an open brace': '{',
    'a trailing comma': '{"username":"ada","password":"x",}',
    'single quotes': "{'username':'ada'}",
    NaN: '{"username":NaN}',
    'two values': '{}{}',
    'a raw control character': '{"username":"a\tb"}',
    'an array': '[]',
    null: 'null',
    'a string': '"username"',
    'a number': '1',
    'a NUL': String.raw`{"username":"a\u0000","password":"xxxxxxxxxxxxxxxxxxxx"}`,
    'a NUL in a name': String.raw`{"username":"ada","password":"xxxxxxxxxxxxxxxxxxxx","\u0000":1}`,
    'a lone high surrogate': String.raw`{"username":"ada","password":"xxxxxxxxxxxxxxxxxxxx\ud800"}`,
    'a lone low surrogate': String.raw`{"username":"ada","password":"\udfffxxxxxxxxxxxxxxxxxxxx"}`,
    'surrogates the wrong way round': String.raw`{"username":"ada","password":"xxxxxxxxxxxxxxxxxxxx\udc00\ud800"}`,
    'a lone surrogate in a name': String.raw`{"username":"ada","password":"xxxxxxxxxxxxxxxxxxxx","\ud800":1}`,
    __proto__: '{"username":"ada","password":"xxxxxxxxxxxxxxxxxxxx","__proto__":{}}',
    'an escaped __proto__': String.raw`{"username":"ada","password":"xxxxxxxxxxxxxxxxxxxx","\u005f_proto__":{"x":1}}`,
    'constructor.prototype': '{"username":"ada","password":"xxxxxxxxxxxxxxxxxxxx","constructor":{"prototype":{}}}',
    'deep arrays': `{"username":${'['.repeat(8000)}${']'.repeat(8000)}}`,
    'deep objects': `{"username":${'{"a":'.repeat(2000)}1${'}'.repeat(2000)}}`,
    'deep and never closed': '['.repeat(16_000),
  }
  for (const [what, text] of Object.entries(texts)) isProblem(t, await postJson(app, '/signup', text), 400, what)

  const bytes = {
    'a stray 0xff': [0xff],
    'an overlong NUL': [0xc0, 0x80],
    'a surrogate': [0xed, 0xa0, 0x80],
    'half a character': [0xc3],
  }
  for (const [what, sequence] of Object.entries(bytes)) {
    const body = Buffer.concat([
      Buffer.from('{"username":"ada","password":"xxxxxxxxxxxxxxxxxxxx'),
      Buffer.from(sequence),
      Buffer.from('"}'),
    ])
    isProblem(t, await postJson(app, '/signup', body), 400, what)
    isOAuthError(t, await postJson(app, '/refresh', Buffer.from(body)), 400, 'invalid_request', what)
  }
  t.equal((await signUp(app, 'ada')).statusCode, 201, 'none of them made an account')
})

onOneStore('a wrong JSON type is never coerced: 400 with a pointer', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { access_token, refresh_token } = await logIn(app)
  const wrong: unknown[] = [12345, 0, 1.5, true, null, [], ['ada'], {}, { toString: 'ada' }]
  for (const value of wrong) {
    const what = JSON.stringify(value)
    const bodies = [
      ['POST', '/signup', { username: value, password }, '/username'],
      ['POST', '/signup', { username: 'bob', password: value }, '/password'],
      ['POST', '/users/me/password', { current_password: value, new_password: password }, '/current_password'],
      ['POST', '/users/me/password', { current_password: password, new_password: value }, '/new_password'],
      ['DELETE', '/users/me', { password: value }, '/password'],
    ] as const
    for (const [method, url, payload, pointer] of bodies) {
      const response = await withToken(app, access_token, { method, url, payload: payload as object })
      isProblem(t, response, 400, `${what} at ${url}`)
      t.match(json(response).errors, [{ pointer, detail: /string/ }])
    }
    const refreshed = await app.inject({ method: 'POST', url: '/refresh', payload: { refresh_token: value } })
    isOAuthError(t, refreshed, 400, 'invalid_request', `${what} at /refresh`)
  }
  t.ok((await refresh(app, refresh_token)).statusCode === 200)
})

onOneStore('a missing or an unknown JSON property is 400 with a pointer', async (t, build) => {
  const { app } = await build()
  const errorsOf = async (payload: object) => {
    const response = await app.inject({ method: 'POST', url: '/signup', payload })
    isProblem(t, response, 400, JSON.stringify(payload))
    return json(response).errors
  }
  t.same(await errorsOf({}), [{ pointer: '/password', detail: 'is required' }])
  t.same(await errorsOf({ password }), [{ pointer: '/username', detail: 'is required' }], 'without an invitation')
  t.match(await errorsOf({ username: 'ada' }), [{ pointer: '/password' }])
  t.match(await errorsOf({ username: 'ada', password, roles: ['admin'] }), [{ pointer: '/roles' }])
  t.match(await errorsOf({ username: 'ada', password, 'a/b~c': 1 }), [{ pointer: '/a~1b~0c' }], 'by RFC 6901')
  t.match(await errorsOf({ username: 'ada', password, constructor: 1 }), [{ pointer: '/constructor' }])
  t.match(await errorsOf({ username: 'ada', password, toString: 1 }), [{ pointer: '/toString' }])
  const response = await app.inject({
    method: 'POST',
    url: '/refresh',
    payload: { refresh_token: 'x', grant_type: 'x' },
  })
  isOAuthError(t, response, 400, 'invalid_request', 'at /refresh')
  t.equal((await signUp(app, 'ada')).statusCode, 201, 'none of them made an account')
})

onOneStore('bad form encoding, invalid UTF-8 and NUL are 400', async (t, build) => {
  const { app } = await build()
  const bad = ['%', '%2', '%zz', '%u0041', '%ff', '%C0%80', '%ED%A0%80', '%C3', '%F5%80%80%80', '%00', 'a%00b']
  for (const text of bad) {
    isOAuthError(
      t,
      await postRaw(app, '/token', `grant_type=password&username=${text}&password=x`),
      400,
      'invalid_request',
      `value ${text}`,
    )
    isOAuthError(
      t,
      await postRaw(app, '/token', `grant_type=password&username=a&password=x&${text}=1`),
      400,
      'invalid_request',
      `name ${text}`,
    )
    isOAuthError(t, await postRaw(app, '/revoke', `token=${text}`), 400, 'invalid_request', `${text} at /revoke`)
    isOAuthError(
      t,
      await postRaw(app, '/refresh', `refresh_token=${text}`),
      400,
      'invalid_request',
      `${text} at /refresh`,
    )
  }
  for (const byte of [0xff, 0x80, 0x00]) {
    const body = Buffer.concat([Buffer.from('grant_type=password&username=ada&password=x'), Buffer.from([byte])])
    isOAuthError(t, await postRaw(app, '/token', body), 400, 'invalid_request', `a raw byte ${byte}`)
  }
})

onOneStore('a repeated form field is 400, in any spelling of its name', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const login = `grant_type=password&username=ada&password=${encodeURIComponent(password)}`
  t.equal((await postRaw(app, '/token', login)).statusCode, 200)
  for (const more of [
    'grant_type=password',
    'username=ada',
    '%75sername=ada',
    'username',
    'username=',
    'a=1&a=1',
    'a&a',
    '__proto__=1&__proto__=2',
  ]) {
    isOAuthError(t, await postRaw(app, '/token', `${login}&${more}`), 400, 'invalid_request', more)
  }
  isOAuthError(t, await postRaw(app, '/revoke', 'token=a&token=a'), 400, 'invalid_request', 'at /revoke')
  isOAuthError(
    t,
    await postRaw(app, '/refresh', 'refresh_token=a&refresh_token=a'),
    400,
    'invalid_request',
    'at /refresh',
  )
  t.equal(
    (await postRaw(app, '/token', `${login}&__proto__=1&constructor=2&&x`)).statusCode,
    200,
    'unknown ones are ignored',
  )
  t.equal((await postRaw(app, '/token', `${login}&username[]=bob&username.x=1`)).statusCode, 200, 'nothing is nested')
})

onOneStore('a missing or empty parameter is invalid_request', async (t, build) => {
  const { app } = await build()
  const bodies = [
    '',
    '&',
    '=',
    'username=ada',
    'password=x',
    'grant_type=',
    'grant_type=&username=ada&password=x',
    'grant_type=password',
    'grant_type=password&username=ada',
    'grant_type=password&username=ada&password=',
    'grant_type=password&username=&password=x',
    'grant_type=refresh_token',
    'grant_type=refresh_token&refresh_token=',
  ]
  for (const body of bodies) isOAuthError(t, await postRaw(app, '/token', body), 400, 'invalid_request', body)
  isOAuthError(t, await postRaw(app, '/revoke', ''), 400, 'invalid_request', 'POST /revoke without a token')
  isOAuthError(t, await postRaw(app, '/revoke', 'token='), 400, 'invalid_request', 'POST /revoke with an empty one')
  isOAuthError(t, await postRaw(app, '/refresh', ''), 400, 'invalid_request', 'POST /refresh without a token')
  isOAuthError(
    t,
    await postRaw(app, '/refresh', 'refresh_token='),
    400,
    'invalid_request',
    'POST /refresh with an empty one',
  )
  isOAuthError(t, await postJson(app, '/refresh', '{}'), 400, 'invalid_request', 'POST /refresh with an empty object')
})

onOneStore('an unknown grant is unsupported_grant_type', async (t, build) => {
  const { app } = await build()
  for (const grant of [
    'implicit',
    'PASSWORD',
    ' password',
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'ü',
  ]) {
    isOAuthError(
      t,
      await postForm(app, '/token', { grant_type: grant, username: 'a', password: 'b' }),
      400,
      'unsupported_grant_type',
      grant,
    )
  }
})

onOneStore('an unknown client, or a secret that nobody gave out, is invalid_client 401', async (t, build) => {
  const { app, logs } = await build()
  await signUp(app)
  const login = { grant_type: 'password', username: 'ada', password }
  const basic = (text: string) => ({ headers: { authorization: `Basic ${Buffer.from(text).toString('base64')}` } })
  for (const id of ['another', '__proto__', 'constructor', 'First-Party']) {
    const byForm = await postForm(app, '/token', { ...login, client_id: id })
    t.equal(byForm.statusCode, 401, id)
    t.equal(json(byForm).error, 'invalid_client')
    t.notOk(byForm.headers['www-authenticate'], 'no challenge where Basic was not used')
    t.equal((await postForm(app, '/revoke', { token: 'x', client_id: id })).statusCode, 401)
  }
  t.equal((await postForm(app, '/token', { ...login, client_id: 'first-party', client_secret: 'x' })).statusCode, 401)
  for (const text of ['another:secret', 'first-party:secret', 'no colon', '', '%:%', '\xff:\xff']) {
    const byHeader = await postForm(app, '/token', login, basic(text))
    t.equal(byHeader.statusCode, 401, JSON.stringify(text))
    t.equal(json(byHeader).error, 'invalid_client')
    t.match(byHeader.headers['www-authenticate'], /^Basic realm="latchkey"/)
    t.equal(json(byHeader).request_id, byHeader.headers['x-request-id'], 'an authentication failure names its id')
    t.ok(logs.some(({ reqId, reason }) => reqId === byHeader.headers['x-request-id'] && typeof reason === 'string'))
  }
  const both = await postForm(
    app,
    '/token',
    { ...login, client_id: 'another', client_secret: 'secret' },
    basic('another:secret'),
  )
  isOAuthError(t, both, 400, 'invalid_request', 'in two places')
})

onOneStore('credentials and tokens in the query, a cookie or a body are not read', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { access_token, refresh_token } = await logIn(app)
  const inQuery = new URLSearchParams({ grant_type: 'password', username: 'ada', password })
  isOAuthError(t, await postRaw(app, `/token?${inQuery}`, ''), 400, 'invalid_request', 'a login in the query')
  isOAuthError(
    t,
    await postRaw(app, `/refresh?refresh_token=${refresh_token}`, ''),
    400,
    'invalid_request',
    'a refresh token in the query',
  )
  t.equal(
    (await postForm(app, '/token?client_id=another', { grant_type: 'password', username: 'ada', password })).statusCode,
    200,
  )

  for (const response of [
    await app.inject({ url: `/protected?access_token=${access_token}` }),
    await app.inject({ url: '/protected', headers: { cookie: `access_token=${access_token}; token=${access_token}` } }),
    await app.inject({
      url: '/protected',
      headers: { 'x-access-token': access_token, 'proxy-authorization': `Bearer ${access_token}` },
    }),
    await postForm(app, '/logout', { access_token, token: access_token }),
  ]) {
    isProblem(t, response, 401, 'not read')
    t.equal(response.headers['www-authenticate'], challenges.missing)
  }
})

onOneStore('bearer failures have the challenges of RFC 6750, exactly', async (t, build) => {
  const { app, clock, logs } = await build()
  await signUp(app)
  const { access_token } = await logIn(app)
  const refused = async (authorization: string | undefined, challenge: string, url = '/protected') => {
    const response = await app.inject({ url, headers: authorization === undefined ? {} : { authorization } })
    isProblem(t, response, 401, `${authorization} at ${url}`)
    t.equal(response.headers['www-authenticate'], challenge)
    const lines = logs.filter(({ reqId }) => reqId === response.headers['x-request-id'])
    t.ok(
      lines.some(({ reason, status }) => status === 401 && typeof reason === 'string'),
      'and a line of the log says why',
    )
  }
  for (const url of ['/protected', '/users/me', '/users/me/sessions', '/verify'])
    await refused(undefined, challenges.missing, url)
  for (const none of ['', 'Basic YTpi', 'Digest x', access_token, `Bearerx ${access_token}`, `Token ${access_token}`])
    await refused(none, challenges.missing)
  const [head, body, signature] = access_token.split('.') as [string, string, string]
  for (const bad of [
    'Bearer',
    'Bearer ',
    'Bearer null',
    `Bearer ${access_token} ${access_token}`,
    `Bearer ${access_token},x`,
    `Bearer "${access_token}"`,
    `Bearer ${head}.${body}`,
    `Bearer ${head}.${body}.`,
    `Bearer ${head}..${signature}`,
    `Bearer ${'.'.repeat(100)}`,
  ]) {
    await refused(bad, challenges.invalid)
  }
  for (const good of [`bearer ${access_token}`, `BEARER  ${access_token}`]) {
    t.equal(
      (await app.inject({ url: '/protected', headers: { authorization: good } })).statusCode,
      200,
      'the scheme has no case',
    )
  }

  const lacking = await withToken(app, access_token, { url: '/verify?scope=admin%20read' })
  isProblem(t, lacking, 403, 'lacking scope')
  t.equal(
    lacking.headers['www-authenticate'],
    'Bearer realm="latchkey", error="insufficient_scope", scope="admin read"',
  )
  const injected = await withToken(app, access_token, { url: '/verify?scope=a%22,%20x=%22%0d%0ab' })
  isProblem(t, injected, 400, 'a scope that no header can hold, and no token')

  await postForm(app, '/revoke', { token: access_token })
  await refused(`Bearer ${access_token}`, challenges.revoked)
  clock.now += 10 * 60_000
  await refused(`Bearer ${access_token}`, challenges.expired)
})

onOneStore('GET /verify answers a reverse proxy with 204 and who it is', async (t, build) => {
  const { app } = await build()
  const { id } = json(await signUp(app))
  const { access_token } = await logIn(app)
  const response = await withToken(app, access_token, { url: '/verify' })
  t.equal(response.statusCode, 204)
  t.equal(response.body, '')
  t.match(response.headers, {
    'x-auth-subject': id,
    'x-auth-client': 'first-party',
    'x-auth-scope': '',
    'x-auth-roles': '',
  })
  isProblem(t, await withToken(app, access_token, { url: '/verify?role=admin' }), 403, 'lacking role')
  for (const query of ['scope=a&scope=b', 'role=a&role=b']) {
    isProblem(t, await withToken(app, access_token, { url: `/verify?${query}` }), 400, query)
  }
})

onOneStore('GET /verify holds the sign-in against a level and an age, RFC 9470', async (t, build) => {
  const { app, clock, config } = await build()
  const { id: sub } = json(await signUp(app))
  const signedInAt = Math.floor(clock.now / 1000)
  const tokenWith = (signIn: { acr?: string; auth_time?: number } = {}) =>
    app.accessTokens.issue({
      ...{ aud: config.AUTH_AUDIENCE, sub, client_id: 'first-party', sid: 'session' },
      generations: { user: 0, client: 0 },
      ...signIn,
    })
  const [oneFactor, twoFactors, none] = [
    await tokenWith({ acr: 'urn:latchkey:acr:1', auth_time: signedInAt }),
    await tokenWith({ acr: 'urn:latchkey:acr:2', auth_time: signedInAt }),
    await tokenWith(),
  ]
  const refused = async (token: string, query: string, challenge: string) => {
    const response = await withToken(app, token, { url: `/verify?${query}` })
    isProblem(t, response, 401, query)
    t.equal(response.headers['www-authenticate'], `Bearer realm="latchkey", ${challenge}`, query)
    t.match(json(response), { type: 'urn:latchkey:problem:insufficient_user_authentication', request_id: /./ })
  }
  const passes = async (token: string, query: string) =>
    t.equal((await withToken(app, token, { url: `/verify?${query}` })).statusCode, 204, query)
  const [levelOne, levelTwo] = ['acr=urn:latchkey:acr:1', 'acr=urn:latchkey:acr:2']
  const lacksLevel =
    'error="insufficient_user_authentication", error_description="A different authentication level is required"'
  const lacksAge =
    'error="insufficient_user_authentication", error_description="More recent authentication is required"'

  await passes(oneFactor, levelOne)
  await passes(twoFactors, levelOne)
  await passes(twoFactors, `${levelTwo}&max_age=60`)
  await refused(oneFactor, levelTwo, `${lacksLevel}, acr_values="urn:latchkey:acr:2"`)
  const both = 'acr_values="urn:latchkey:acr:2", max_age="60"'
  await refused(oneFactor, `${levelTwo}&max_age=60`, `${lacksLevel}, ${both}`)
  await refused(none, levelOne, `${lacksLevel}, acr_values="urn:latchkey:acr:1"`)
  await refused(none, 'max_age=60', `${lacksAge}, max_age="60"`)

  clock.now = (signedInAt + 60) * 1000
  await passes(twoFactors, 'max_age=60')
  clock.now += 1
  await refused(twoFactors, 'max_age=60', `${lacksAge}, max_age="60"`)
  await refused(twoFactors, `${levelTwo}&max_age=60`, `${lacksAge}, ${both}`)
  await passes(twoFactors, 'max_age=61')
  await refused(twoFactors, 'max_age=0', `${lacksAge}, max_age="0"`)
  const ahead = await tokenWith({ auth_time: signedInAt + 600 })
  await refused(ahead, 'max_age=60', `${lacksAge}, max_age="60"`)

  for (const query of [
    ...['acr=', 'acr=2', 'acr=urn:latchkey:acr:3', 'acr=urn:latchkey:acr:1%20urn:latchkey:acr:2'],
    ...['max_age=', 'max_age=060', 'max_age=-1', 'max_age=1.5', 'max_age=1e3', 'max_age=99999999999', 'max_age=5m'],
    ...[`${levelOne}&${levelTwo}`, 'max_age=60&max_age=60', 'acr_values=urn:latchkey:acr:2', 'maxAge=60'],
  ])
    isProblem(t, await withToken(app, twoFactors, { url: `/verify?${query}` }), 400, query)
})

onOneStore('an answer for a URL that leads nowhere never repeats it', async (t, build) => {
  const { app, logs } = await build()
  const secret = 'lkr_c2VjcmV0'
  for (const url of [
    `/${secret}`,
    `/token/${secret}`,
    `/${secret}?token=${secret}`,
    `/users/me/sessions/1/${secret}`,
    `//${secret}`,
    `/protected/?${secret}`,
    '/PROTECTED',
    `/docs/${secret}`,
    `/docs/static/${secret}`,
    `/docs/static/../../${secret}`,
  ]) {
    const response = await app.inject({ url })
    isProblem(t, response, 404, url)
    t.notOk(response.body.includes(secret), 'nothing is repeated')
  }
  for (const url of [`/%`, `/%zz${secret}`, `/${secret}/%ff`, `/users/me/sessions/%E0%A4%A`, `/token%`]) {
    const response = await app.inject({ url })
    isProblem(t, response, 400, url)
    t.notOk(response.body.includes(secret), 'nothing is repeated')
  }
  const long = await app.inject({ method: 'DELETE', url: `/users/me/sessions/${secret.repeat(300)}` })
  t.ok([401, 404, 414].includes(long.statusCode), `an endless path is ${long.statusCode}`)
  t.notOk(long.body.includes(secret))
  t.notOk(JSON.stringify(logs).includes(`token=${secret}`), 'a query is never logged')
})

onOneStore('every answer carries x-request-id, and it is not the one that a client sends', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { access_token } = await logIn(app)
  const requests: InjectOptions[] = [
    ...Object.keys({ ...oauthRoutes, ...otherRoutes }).flatMap((url) => [
      { url },
      { url, method: 'POST' as const },
      { url, method: 'HEAD' as const },
      { url, headers: { authorization: `Bearer ${access_token}` } },
    ]),
    { url: '/docs' },
    { url: '/docs/' },
    { url: '/nowhere' },
    { url: '/%' },
    { method: 'POST', url: '/token', payload: 'x'.repeat(20_000), headers: { 'content-type': form } },
  ]
  const ids = new Set<unknown>()
  for (const options of requests) {
    const response = await app.inject({
      ...options,
      headers: { ...options.headers, 'x-request-id': 'theirs', 'request-id': 'theirs' },
    })
    if (!uuid.test(String(response.headers['x-request-id'])))
      t.fail(`${options.method ?? 'GET'} ${options.url}: ${response.headers['x-request-id']}`)
    ids.add(response.headers['x-request-id'])
  }
  t.equal(ids.size, requests.length, 'each its own')
})

onOneStore('what the HTTP parser refuses is answered as JSON with an id too', async (t, build) => {
  const { app } = await build()
  const { port } = new URL(await listen(app))
  const send = (text: string) =>
    new Promise<string>((resolve, reject) => {
      let answer = ''
      const socket = connect(Number(port), '127.0.0.1', () => socket.end(text))
      socket.setEncoding('latin1').on('data', (chunk) => {
        answer += chunk
      })
      socket.on('close', () => resolve(answer)).on('error', reject)
    })
  const requests: [what: string, text: string, status: number][] = [
    ['no HTTP', 'GARBAGE\r\n\r\n', 400],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
    ['two lengths', 'POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd', 400],
    [
      'a length and chunks',
      'POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc',
      400,
    ],
    ['a NUL in the path', 'GET /li\0vez HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['a folded header', 'GET /livez HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\nBad Name: x\r\n\r\n', 400],
    ['no Host', 'GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
    [
      'an expectation that is not understood is ignored',
      'GET /livez HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nConnection: close\r\n\r\n',
      200,
    ],
    ['headers of 20 KB', `GET /livez HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
    [
      'a body over 16 KiB',
      `POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: ${form}\r\nContent-Length: 20000\r\n\r\nabc`,
      413,
    ],
    [
      'chunks over 16 KiB',
      `POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: ${form}\r\nTransfer-Encoding: ` +
        `chunked\r\n\r\n5000\r\n${'x'.repeat(0x5000)}\r\n0\r\n\r\n`,
      413,
    ],
    ['a method of WebDAV', 'PROPFIND /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 405],
    ['OPTIONS *', 'OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 404],
    ['a path that decodes to nothing', 'GET /%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 400],
  ]
  for (const [what, text, status] of requests) {
    const answer = await send(text)
    t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), what)
    t.match(answer, /\r\nx-request-id: [0-9a-f-]{36}\r\n/i, `${what}: an id`)
    t.match(answer, /\r\ncontent-type: application\/(problem\+)?json; charset=utf-8\r\n/i, `${what}: JSON`)
  }
  const head = await send('HEAD /protected HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  t.match(head, /^HTTP\/1\.1 401 /)
  t.match(head, /\r\n\r\n$/, 'HEAD has no body')
})

onOneStore('every answer with a token or personal data has Cache-Control: no-store', async (t, build) => {
  const { app } = await build()
  const created = await signUp(app)
  const login = await postForm(app, '/token', { grant_type: 'password', username: 'ada', password })
  const { access_token, refresh_token } = json(login)
  const refreshed = await app.inject({ method: 'POST', url: '/refresh', payload: { refresh_token } })
  const answers = [created, login, refreshed, await refresh(app, json(refreshed).refresh_token)]
  for (const url of ['/protected', '/users/me', '/users/me/sessions', '/verify'])
    answers.push(await withToken(app, access_token, { url }))
  for (const response of answers) {
    t.ok(response.statusCode < 300)
    t.equal(response.headers['cache-control'], 'no-store')
  }
  t.equal(created.headers['location'], '/users/me')
  t.equal(login.headers['pragma'], 'no-cache')
  t.equal(login.headers['content-type'], 'application/json; charset=utf-8')
})

onOneStore('the public documents may be cached, and say by ETag when they changed', async (t, build) => {
  const { app } = await build()
  const jwks = await app.inject({ url: '/.well-known/jwks.json' })
  t.equal(jwks.headers['cache-control'], 'public, max-age=300')
  const etag = jwks.headers['etag'] as string
  t.match(etag, /^"[^"]+"$/)
  for (const known of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
    const again = await app.inject({ url: '/.well-known/jwks.json', headers: { 'if-none-match': known } })
    t.equal(again.statusCode, 304, known)
    t.equal(again.body, '')
    t.equal(again.headers['etag'], etag)
  }
  t.equal((await app.inject({ url: '/.well-known/jwks.json', headers: { 'if-none-match': '"x"' } })).statusCode, 200)
})

onOneStore('HEAD answers as GET does, without a body', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { access_token } = await logIn(app)
  for (const url of [
    '/livez',
    '/readyz',
    '/protected',
    '/users/me',
    '/users/me/sessions',
    '/verify',
    '/.well-known/jwks.json',
  ]) {
    const [get, head] = [
      await withToken(app, access_token, { url }),
      await withToken(app, access_token, { url, method: 'HEAD' }),
    ]
    t.equal(head.statusCode, get.statusCode, url)
    t.equal(head.body, '')
    t.equal(head.headers['cache-control'], get.headers['cache-control'])
  }
  const refused = await app.inject({ method: 'HEAD', url: '/protected' })
  t.equal(refused.statusCode, 401)
  t.equal(refused.headers['www-authenticate'], challenges.missing)
})

const storeMethods = [
  'ping',
  'createUser',
  'findUser',
  'findUserByName',
  'changePassword',
  'deleteUser',
  'createSession',
  'rotateSession',
  'findSession',
  'listSessions',
  'endSession',
  'endUserSessions',
  'revoke',
  'revocationsSince',
  'findFailures',
  'recordFailure',
  'clearFailures',
] as const satisfies (keyof Store)[]

/** One request for each thing that the service does, for a user of its own. */
function requestsOf(
  app: FastifyInstance,
  username: string,
  tokens: Tokens,
): [family: 'oauth' | 'problem', send: () => Promise<LightMyRequestResponse>][] {
  const bearer = (options: InjectOptions) => () => withToken(app, tokens.access_token, options)
  return [
    ['problem', () => app.inject({ url: '/readyz' })],
    ['problem', bearer({ url: '/protected' })],
    ['problem', bearer({ url: '/users/me' })],
    ['problem', bearer({ url: '/users/me/sessions' })],
    ['oauth', () => refresh(app, tokens.refresh_token)],
    ['oauth', () => postForm(app, '/token', { username, password: 'wrong' })],
    ['oauth', () => postForm(app, '/token', { username, password })],
    ['oauth', () => postForm(app, '/revoke', { token: 'lkr_garbage' })],
    ['problem', () => signUp(app, `${username}2`)],
    [
      'problem',
      bearer({
        method: 'POST',
        url: '/users/me/password',
        payload: { current_password: password, new_password: `${password}!` },
      }),
    ],
    ['problem', bearer({ method: 'DELETE', url: '/users/me', payload: { password: `${password}!` } })],
  ]
}

onOneStore(
  'a store that fails is 503 with Retry-After in both families, and never a wrong answer',
  async (t, build) => {
    const { app, logs } = await build()
    for (const [index, method] of storeMethods.entries()) {
      await signUp(app, `user${index}`)
      const tokens = await logIn(app, `user${index}`)
      const spare = await logIn(app, `user${index}`)
      const original = storeOf(app)[method]
      const fail = () => Promise.reject(new StoreUnavailable(new Error('SELECT secret FROM disk at /var/lib')))
      Object.assign(app.store, { [method]: fail })
      let failures = 0
      for (const [family, send] of requestsOf(app, `user${index}`, tokens)) {
        const response = await send()
        if (response.statusCode !== 503) continue
        failures += 1
        if (family === 'oauth') isOAuthError(t, response, 503, 'temporarily_unavailable', `${method} fails`)
        else isProblem(t, response, 503, `${method} fails`)
        t.match(response.headers['retry-after'], /^[1-9][0-9]*$/)
        t.notMatch(response.body, /SELECT|var\/lib|stores/)
        t.ok(
          logs.some(
            ({ reqId, err }) =>
              reqId === response.headers['x-request-id'] && JSON.stringify(err ?? '').includes('SELECT'),
          ),
          'the log says why',
        )
      }
      const revoked = await postForm(app, '/revoke', { token: spare.refresh_token })
      Object.assign(app.store, { [method]: original })
      if (revoked.statusCode === 200)
        t.equal((await refresh(app, spare.refresh_token)).statusCode, 400, `revoked while ${method} fails`)
      else isOAuthError(t, revoked, 503, 'temporarily_unavailable', `${method} fails at /revoke`)
      t.ok(
        failures > 0 || ['findSession', 'endSession', 'endUserSessions', 'revoke'].includes(method),
        `${method} is asked for something`,
      )
    }
  },
)

onOneStore('a store that fails ends no session and takes no login', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const tokens = await logIn(app)
  const failing = new Set<string>()
  for (const method of storeMethods) {
    const original = storeOf(app)[method] as (...args: unknown[]) => unknown
    const orFail = (...args: unknown[]) =>
      failing.has(method) ? Promise.reject(new StoreUnavailable(new Error('down'))) : original(...args)
    Object.assign(app.store, { [method]: orFail })
  }
  for (const method of storeMethods) failing.add(method)
  isOAuthError(t, await refresh(app, tokens.refresh_token), 503, 'temporarily_unavailable')
  isOAuthError(t, await postForm(app, '/token', { username: 'ada', password }), 503, 'temporarily_unavailable')
  isOAuthError(t, await postForm(app, '/revoke', { token: tokens.refresh_token }), 503, 'temporarily_unavailable')
  isOAuthError(t, await postForm(app, '/revoke', { token: tokens.access_token }), 503, 'temporarily_unavailable')
  isProblem(t, await withToken(app, tokens.access_token, { method: 'POST', url: '/logout' }), 503, 'POST /logout')
  isProblem(
    t,
    await withToken(app, tokens.access_token, { method: 'DELETE', url: '/users/me/sessions' }),
    503,
    'DELETE /users/me/sessions',
  )
  isProblem(t, await app.inject({ url: '/readyz' }), 503, 'GET /readyz')
  t.equal((await app.inject({ url: '/livez' })).statusCode, 200, 'the process is alive')
  t.equal(
    (await withToken(app, tokens.access_token, { url: '/verify' })).statusCode,
    204,
    'checking tokens by key goes on',
  )
  t.equal((await app.inject({ url: '/.well-known/jwks.json' })).statusCode, 200)
  failing.clear()
  t.equal((await app.inject({ url: '/readyz' })).statusCode, 200, 'and it heals by itself')
  t.ok(await isAccepted(app, tokens.access_token))
  t.equal((await refresh(app, tokens.refresh_token)).statusCode, 200)
})

onOneStore('a fault that nobody foresaw is 500 and says nothing', async (t, build) => {
  const { app, logs } = await build()
  await signUp(app)
  const tokens = await logIn(app)
  const fault = () => Promise.reject(new TypeError(`cannot read ${password} of undefined`))
  Object.assign(app.store, { findUser: fault, rotateSession: fault, findUserByName: fault })
  for (const [family, response] of [
    ['problem', await withToken(app, tokens.access_token, { url: '/protected' })],
    ['problem', await signUp(app, 'bob')],
    ['oauth', await refresh(app, tokens.refresh_token)],
    ['oauth', await postForm(app, '/token', { username: 'ada', password })],
  ] as const) {
    if (family === 'oauth') isOAuthError(t, response, 500, 'server_error')
    else isProblem(t, response, 500, 'server error')
    t.notMatch(response.body, /TypeError|cannot read|horse|at /)
    t.ok(
      logs.some(({ reqId, status, err }) => reqId === response.headers['x-request-id'] && status === 500 && err),
      'the log says why',
    )
  }
})

onOneStore('what a form cannot say by mistake: names of JavaScript are only names', async (t, build) => {
  const { app } = await build()
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf']) {
    isOAuthError(t, await postRaw(app, '/token', `${name}=password`), 400, 'invalid_request', name)
    const login = await postForm(app, '/token', { username: name, password: name })
    isOAuthError(t, login, 400, 'invalid_grant', `${name} as a user`)
  }
})
