import type { FastifyInstance } from 'fastify'
import {
  challenges,
  challengeTo,
  isAccepted,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  withToken,
} from '../support/helper.ts'

/*
 * The tutorials that this service grew from, each called as its reader would call it. What they do works; what they
 * leave out or get wrong is done here.
 */

const minutes = 60_000

onOneStore(
  'FastAPI, token reissue: a token is issued and checked, and gives way to a new one that ends too',
  async (t, build) => {
    const { app, clock } = await build()
    await signUp(app)
    const first = await logIn(app)
    const openedAt = clock.now

    clock.now += 9 * minutes
    t.ok(await isAccepted(app, first.access_token), 'the token is good for its life')
    clock.now += 1 * minutes
    t.equal(await challengeTo(app, first.access_token), challenges.expired, 'and not a second longer')

    const second = json(await postForm(app, '/refresh', { refresh_token: first.refresh_token }))
    t.ok(await isAccepted(app, second.access_token), 'the refresh token gives a new one')
    t.equal((await refresh(app, second.access_token)).statusCode, 400, 'an access token does not renew itself')
    t.equal(
      (await withToken(app, second.refresh_token, { url: '/protected' })).statusCode,
      401,
      'a refresh token opens nothing',
    )

    let { refresh_token: token } = second
    let renewals = 0
    for (; renewals < 100; renewals += 1) {
      clock.now += 24 * 60 * minutes
      const response = await refresh(app, token)
      if (response.statusCode !== 200) break
      token = json(response).refresh_token
    }
    t.equal(renewals, 89, 'however diligently it is renewed')
    t.ok(clock.now - openedAt >= 90 * 24 * 60 * minutes, 'it ends after 90 days')
  },
)

onOneStore(
  'Flask, token renewal: login, a guard, renewal before expiry, and a message for each failure',
  async (t, build) => {
    const { app, clock } = await build()
    await signUp(app)
    const { access_token: token, refresh_token } = await logIn(app)

    clock.now += 5 * minutes
    const renewed = await app.inject({ method: 'POST', url: '/refresh', payload: { refresh_token } })
    t.equal(renewed.statusCode, 200, 'renewal comes before expiry')
    t.ok(await isAccepted(app, json(renewed).access_token))

    const messages = async (authorization?: string) => {
      const response = await app.inject({
        url: '/protected',
        headers: authorization === undefined ? {} : { authorization },
      })
      t.equal(response.statusCode, 401)
      return [response.headers['www-authenticate'], json(response).detail]
    }
    t.same(await messages(), [challenges.missing, 'An access token is required'], 'missing')
    t.same(await messages('Bearer not.a.token'), [challenges.invalid, 'The access token is invalid'], 'invalid')
    const [challenge, detail] = await messages(token)
    t.equal(challenge, challenges.missing, 'the raw header is not a token')
    t.match(detail, /Bearer/, 'and its sender is told so')
    clock.now += 5 * minutes
    t.same(await messages(`Bearer ${token}`), [challenges.expired, 'The access token expired'], 'expired')
  },
)

onOneStore(
  'FastAPI, issue and verify: a form login without grant_type, the profile by bearer, and real accounts',
  async (t, build) => {
    const { app } = await build()
    const created = json(await signUp(app, 'johndoe'))

    // As OAuth2PasswordRequestForm's own client (the docs page of FastAPI) sends it.
    const form = { username: 'johndoe', password, scope: '', client_id: '', client_secret: '' }
    const login = await postForm(app, '/token', form)
    t.equal(login.statusCode, 200)
    t.match(json(login), { token_type: 'Bearer', expires_in: 600, access_token: String, refresh_token: String })
    t.equal(
      (await postForm(app, '/token', { username: 'johndoe', password })).statusCode,
      200,
      'with nothing but the two fields',
    )
    t.equal(
      (await postForm(app, '/token', { ...form, grant_type: 'password' })).statusCode,
      200,
      'and with the grant named',
    )

    const profile = await withToken(app, json(login).access_token, { url: '/users/me' })
    t.equal(profile.statusCode, 200)
    t.same(json(profile), { id: created.id, username: 'johndoe', roles: [], created_at: created.created_at })

    const stranger = await app.inject({ url: '/users/me' })
    t.equal(stranger.statusCode, 401)
    t.match(stranger.headers['www-authenticate'], /^Bearer/)
    const wrong = await postForm(app, '/token', { ...form, password: 'fakehashedsecret' })
    t.equal(wrong.statusCode, 400, 'the password is checked')
    t.equal(json(wrong).error, 'invalid_grant')
  },
)

onOneStore('FastAPI, issue and verify: a chosen lifetime holds', async (t, build) => {
  const { app, clock } = await build({ AUTH_ACCESS_TTL: '30m' })
  await signUp(app)
  const login = json(await postForm(app, '/token', { username: 'ada', password }))
  t.equal(login.expires_in, 1800)
  clock.now += 30 * minutes - 1000
  t.ok(await isAccepted(app, login.access_token))
  clock.now += 1000
  t.notOk(await isAccepted(app, login.access_token))
})

onOneStore('Flask, expiry: each token has its own exp, and the user of a token is looked up', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const old = await logIn(app)
  clock.now += 6 * minutes
  const young = await logIn(app)
  clock.now += 6 * minutes
  t.equal(await challengeTo(app, old.access_token), challenges.expired, 'expiry is counted from the issue of a token')
  t.ok(await isAccepted(app, young.access_token), 'and not from the start of the service')

  await withToken(app, young.access_token, { method: 'DELETE', url: '/users/me', payload: { password } })
  const gone = await withToken(app, young.access_token, { url: '/protected' })
  t.equal(gone.statusCode, 401, "a deleted user's token is refused")
  t.match(gone.headers['www-authenticate'], /error="invalid_token"/)
})

onOneStore('FastAPI, JWT chapter: sign up once, get a token by form, and be greeted', async (t, build) => {
  const { app } = await build()
  const created = await signUp(app, 'Grace')
  t.equal(created.statusCode, 201)
  t.match(json(created), { id: String, username: 'Grace', created_at: String })
  t.notOk(created.body.includes(password), 'the password is not shown')
  t.equal((await signUp(app, 'Grace')).statusCode, 409, 'a taken name is refused')

  const { access_token } = await logIn(app, 'Grace')
  const greeting = await withToken(app, access_token, { url: '/protected' })
  t.equal(greeting.statusCode, 200)
  t.same(json(greeting), { message: 'Hello Grace! This is a protected route' })
})

overStores('FastAPI, JWT chapter: accounts and sessions outlive the process', async (t, build) => {
  const first = await build()
  await signUp(first.app)
  const tokens = await logIn(first.app)
  const { app } = await first.restart()
  t.ok(await isAccepted(app, tokens.access_token), 'the token is still good')
  t.equal((await refresh(app, tokens.refresh_token)).statusCode, 200, 'and so is the session')
  t.ok(await logIn(app), 'and the account')
})

const webApp = 'https://app.example.com'

/** What a browser does before a fetch with JSON or a bearer token. */
const preflight = (app: FastifyInstance, origin: string, url: string, method: string, headers: string) =>
  app.inject({
    method: 'OPTIONS',
    url,
    headers: { origin, 'access-control-request-method': method, 'access-control-request-headers': headers },
  })

onOneStore('FastAPI, JWT chapter: fetch in a browser of an origin in AUTH_CORS_ORIGINS', async (t, build) => {
  const { app } = await build({ AUTH_CORS_ORIGINS: `${webApp}, http://localhost:5173` })
  for (const origin of [webApp, 'http://localhost:5173']) {
    for (const [url, method, headers] of [
      ['/signup', 'POST', 'content-type'],
      ['/protected', 'GET', 'authorization'],
      ['/users/me/sessions/1', 'DELETE', 'authorization'],
      ['/users/me/password', 'POST', 'authorization,content-type'],
    ] as const) {
      const allowed = await preflight(app, origin, url, method, headers)
      t.equal(allowed.statusCode, 204, `preflight of ${method} ${url}`)
      t.equal(allowed.headers['access-control-allow-origin'], origin)
      t.match(allowed.headers['access-control-allow-methods'], method)
      for (const name of headers.split(',')) t.match(allowed.headers['access-control-allow-headers'], name)
      t.match(allowed.headers.vary, /origin/i, 'no cache mixes origins up')
    }

    const login = await postForm(app, '/token', { username: 'nobody', password }, { headers: { origin } })
    t.equal(login.headers['access-control-allow-origin'], origin, 'a failure can be read too')
    const refused = await app.inject({ url: '/protected', headers: { origin } })
    t.equal(refused.headers['access-control-allow-origin'], origin)
    t.match(refused.headers['access-control-expose-headers'], /www-authenticate/i, 'and its challenge')
    t.notOk(refused.headers['access-control-allow-credentials'], 'cookies are never asked for')
  }
})

onOneStore('FastAPI, JWT chapter: a browser of any other origin gets nothing', async (t, build) => {
  const listed = await build({ AUTH_CORS_ORIGINS: webApp })
  const unset = await build()
  for (const { app } of [listed, unset]) {
    for (const origin of [
      'https://evil.example',
      'null',
      `${webApp}.evil.example`,
      'http://app.example.com',
      `${webApp}:8443`,
    ]) {
      const asked = await preflight(app, origin, '/token', 'POST', 'content-type')
      t.notOk(asked.headers['access-control-allow-origin'], `preflight from ${origin}`)
      const called = await postForm(app, '/token', { username: 'nobody', password }, { headers: { origin } })
      t.notOk(called.headers['access-control-allow-origin'], `a call from ${origin}`)
    }
  }
})
