import {
  challenges,
  json,
  logIn,
  onOneStore,
  password,
  postForm,
  refresh,
  signUp,
  withToken,
} from '../support/helper.ts'

/*
 * Who calls as a tutorial or another server has it is told what is right, in `detail`, and nothing of the request is
 * repeated.
 */

const logInBy = /POST \/token/
const refreshBy = /POST \/refresh/
const signUpBy = /POST \/signup/

const paths: Record<string, RegExp> = {
  '/': /GET \/docs/,
  '/login': logInBy,
  '/login/': logInBy,
  '/Login': logInBy,
  '/sign-in': logInBy,
  '/auth/login': logInBy,
  '/api/v1/auth/login': logInBy,
  '/oauth/token': logInBy,
  '/oauth2/token': logInBy,
  '/auth/token': logInBy,
  '/connect/token': logInBy,
  '/login?username=ada&password=x': logInBy,
  '/refresh_token': refreshBy,
  '/refresh-token': refreshBy,
  '/refreshToken': refreshBy,
  '/token/refresh': refreshBy,
  '/auth/refresh': refreshBy,
  '/register': signUpBy,
  '/users': signUpBy,
  '/users/': signUpBy,
  '/auth/register': signUpBy,
  '/sign_up': signUpBy,
  '/me': /GET \/users\/me/,
  '/userinfo': /GET \/users\/me/,
  '/signout': /POST \/logout/,
  '/auth/logout': /POST \/logout/,
  '/health': /\/livez.*\/readyz/,
  '/healthz': /\/livez.*\/readyz/,
  '/jwks.json': /\/\.well-known\/jwks\.json/,
  '/metrics': /AUTH_METRICS_PORT/,
  '/swagger': /GET \/docs/,
  '/token/': /at \/token: without a slash/,
  '/protected/': /at \/protected: without a slash/,
  '/protected//': /at \/protected: without a slash/,
  '/PROTECTED': /at \/protected:/,
  '/users/me/': /at \/users\/me: without a slash/,
  '/users//me': /at \/users\/me:/,
  '/protcted': /at \/protected$/,
  '/tokn': /at \/token$/,
  '/user/me': /at \/users\/me$|GET \/users\/me/,
  '/.well-known/jwks.jsn': /at \/\.well-known\/jwks\.json$/,
}

onOneStore('the 404 of a path that others have says what is right here', async (t, build) => {
  // Else some of the names are those of pages.
  const { app } = await build({ AUTH_PAGES: 'off' })
  for (const [url, hint] of Object.entries(paths)) {
    for (const method of ['GET', 'POST'] as const) {
      const response = await app.inject({ method, url })
      t.match(
        { status: response.statusCode, ...json(response) },
        { status: 404, title: 'Not found', detail: hint },
        `${method} ${url}`,
      )
    }
  }
  const secret = 'lkr_c2VjcmV0'
  for (const url of [
    `/login?token=${secret}`,
    `/${secret}`,
    `/token/${secret}`,
    `/users/${secret}`,
    `/protected/?${secret}`,
    `/logi${secret}`,
  ]) {
    t.notMatch((await app.inject({ url })).body, /lkr_|c2Vj/, url)
  }
  for (const url of [
    '/wp-login.php',
    '/.env',
    '/a',
    '/xyz',
    `/${'login'.repeat(50)}`,
    '/api/v1/orders',
    '/robots.txt',
    '/favicon.ico',
  ]) {
    t.equal(json(await app.inject({ url })).detail, 'Not found', `nothing is guessed: ${url}`)
  }
  const { app: below } = await build({ AUTH_ISSUER: 'https://example.com/auth' })
  t.match(json(await below.inject({ url: '/login' })).detail, /POST \/auth\/token/)
  t.match(json(await below.inject({ url: '/protected/' })).detail, /at \/auth\/protected:/)
  for (const url of ['/auth', '/auth/', '/auth/token', '/auth/.well-known/jwks.json'])
    t.match(json(await below.inject({ url })).detail, /the proxy in front has to take \/auth, .* away/, url)
  t.equal(json(await below.inject({ url: '/auth/xyz' })).detail, 'Not found')
})

onOneStore('a wrong method is told the right ones in words', async (t, build) => {
  const { app } = await build()
  t.match(json(await app.inject({ url: '/logout' })), { status: 405, detail: 'This route takes POST' })
  t.match(json(await app.inject({ url: '/signup' })), { status: 405, detail: 'This route takes POST' })
  t.match(json(await app.inject({ url: '/token' })), {
    error: 'invalid_request',
    error_description: 'This route takes POST',
  })
  t.match(json(await app.inject({ method: 'PUT', url: '/users/me' })), {
    detail: 'This route takes GET and HEAD and DELETE',
  })
})

onOneStore(
  '401 for a token without Bearer, or after another word, says so, and has the challenge of RFC 6750 §3 without a code',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const { access_token } = await logIn(app)
    const cases: Record<string, RegExp> = {
      [access_token]: /Bearer.*the token alone/,
      [`Token ${access_token}`]: /Bearer.*another scheme/,
      [`JWT ${access_token}`]: /Bearer.*another scheme/,
      'Basic YTpi': /Bearer.*another scheme/,
      [`Bearer:${access_token}`]: /Bearer.*another scheme/,
      [`Bearer${access_token}`]: /Bearer/,
    }
    for (const [authorization, detail] of Object.entries(cases)) {
      for (const url of ['/protected', '/users/me', '/verify', '/admin/users']) {
        const response = await app.inject({ url, headers: { authorization } })
        t.match(
          { status: response.statusCode, ...json(response) },
          { status: 401, detail },
          `${authorization.slice(0, 12)} at ${url}`,
        )
        t.equal(response.headers['www-authenticate'], challenges.missing)
        t.notOk(response.body.includes(access_token.slice(-20)))
      }
    }
    t.equal(json(await app.inject({ url: '/protected' })).detail, 'An access token is required')
  },
)

onOneStore('415 names what came and what the route takes, RFC 9110 §15.5.16', async (t, build) => {
  const { app } = await build()
  const send = (url: string, type: string | undefined) =>
    app.inject({ method: 'POST', url, payload: 'x', headers: type === undefined ? {} : { 'content-type': type } })
  const taken: Record<string, string> = {
    '/signup': 'application/json',
    '/token': 'application/x-www-form-urlencoded or multipart/form-data',
    '/refresh': 'application/json or application/x-www-form-urlencoded',
    '/revoke': 'application/x-www-form-urlencoded',
    '/introspect': 'application/x-www-form-urlencoded',
  }
  for (const [url, types] of Object.entries(taken)) {
    for (const [type, named] of [
      ['text/plain; secret=lkr_c2VjcmV0', 'text/plain'],
      ['TEXT/XML', 'text/xml'],
      [undefined, 'a body without a Content-Type'],
      ['', 'a body without a Content-Type'],
      ['lkr_c2VjcmV0', 'something else'],
      ['a"b/c', 'something else'],
      [`text/${'x'.repeat(500)}`, 'something else'],
    ] as const) {
      const response = await send(url, type)
      const { detail, error_description: description = detail } = json(response)
      t.equal(response.statusCode, 415, `${type} at ${url}`)
      t.equal(description, `This route takes ${types}, and what came is ${named}`)
      t.equal(response.headers['accept'], types.replace(' or ', ', '))
    }
  }
})

onOneStore('half a login is told of its other half', async (t, build) => {
  const { app } = await build()
  const told = async (fields: Record<string, string>) => json(await postForm(app, '/token', fields)).error_description
  t.equal(await told({ username: 'ada' }), 'The parameter password is missing')
  t.equal(await told({ password: 'x' }), 'The parameter username is missing')
  t.equal(await told({ username: 'ada', password: '' }), 'The parameter password is missing')
  t.equal(await told({ grant_type: 'password', username: 'ada' }), 'The parameter password is missing')
  t.equal(await told({}), 'The parameter grant_type is missing')
  t.equal(await told({ grant_type: '', username: 'ada' }), 'The parameter grant_type is missing')
})

onOneStore('of many errors the first five are named, each once, and how many more there are', async (t, build) => {
  const { app } = await build()
  const unknown = Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`member${index}`, index]))
  const signup = await app.inject({
    method: 'POST',
    url: '/signup',
    payload: { username: 'ada', password, ...unknown },
  })
  t.equal(signup.statusCode, 400)
  t.equal(json(signup).errors.length, 5)
  t.equal(json(signup).detail, '/member0 is not known here, and 399 more')
  t.ok(signup.body.length < 700, `${signup.body.length} bytes`)
  const refreshed = await app.inject({ method: 'POST', url: '/refresh', payload: { refresh_token: 'x', ...unknown } })
  t.match(
    json(refreshed).error_description,
    /^\/member0 is not known here, .*\/member4 is not known here, and 395 more$/,
  )
  t.equal(json(refreshed).errors, undefined)

  for (const payload of [
    JSON.stringify(Array(7_000).fill(1)),
    JSON.stringify({ username: Array(7_000).fill(1), password: 1 }),
    `{${Array.from({ length: 1_500 }, (_, i) => `"${i}":1`).join()}}`,
  ]) {
    const response = await app.inject({
      method: 'POST',
      url: '/signup',
      payload,
      headers: { 'content-type': 'application/json' },
    })
    t.equal(response.statusCode, 400)
    t.ok(response.body.length < 1_000, `an answer is not larger than what asked for it: ${response.body.length}`)
  }
  await signUp(app)
  const tokens = await logIn(app)
  t.equal((await refresh(app, tokens.refresh_token)).statusCode, 200)
  t.equal((await withToken(app, tokens.access_token, { url: '/protected' })).statusCode, 200)
})
