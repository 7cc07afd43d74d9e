import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { End } from '../../domain/lifetimes.ts'
import {
  basic,
  type Credentials,
  clientCredentials,
  failStore,
  inForm,
  introspect,
  isOAuthError,
  makeClient,
  tokenOf,
  until,
  watchStore,
} from '../support/client-helper.ts'
import {
  type Build,
  cheapHashing,
  claimsOf,
  giveRoles,
  isAccepted,
  json,
  logIn,
  newDir,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  type Tokens,
  withToken,
} from '../support/helper.ts'

/* RFC 7662, and what one client may learn of, or do to, the tokens of another. */

const files = 'https://files.example'
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const challenge = 'Basic realm="latchkey", charset="UTF-8"'
const second = 1000
const day = 86_400 * second

/** The service with a user, a client that may see all, and one that may see what is meant for it. */
async function serve(build: Build, settings: Record<string, string> = {}) {
  const test = await build(settings)
  const { app } = test
  await signUp(app)
  const all = await makeClient(app, { id: 'all', introspect: 'all' })
  const api = await makeClient(app, { id: 'api', introspect: 'audience' })
  const ofFiles = await makeClient(app, { id: 'files', introspect: 'audience', audience: [files] })
  return { ...test, all, api, ofFiles }
}

/** Exactly `{"active":false}`, RFC 7662 §2.2, and nothing that a cache may keep. */
async function isInactive(
  t: Test,
  app: FastifyInstance,
  asks: Credentials,
  token: string,
  what: string,
): Promise<void> {
  const response = await introspect(app, asks, token)
  t.same([response.statusCode, response.body], [200, '{"active":false}'], what)
  t.equal(response.headers['cache-control'], 'no-store')
}

const isActive = async (app: FastifyInstance, asks: Credentials, token: string) =>
  json(await introspect(app, asks, token)).active

/** A user who logs in by a confidential client. */
async function logInBy(
  app: FastifyInstance,
  client: Credentials,
  fields: Record<string, string> = {},
): Promise<Tokens> {
  const response = await postForm(
    app,
    '/token',
    { grant_type: 'password', username: 'ada', password, ...fields },
    basic(client),
  )
  if (response.statusCode !== 200) throw new Error(`login failed: ${response.body}`)
  return json(response)
}
const refreshBy = (app: FastifyInstance, client: Credentials, refresh_token: string) =>
  postForm(app, '/token', { grant_type: 'refresh_token', refresh_token }, basic(client))

onOneStore('an access token that is good is told of by its claims', async (t, build) => {
  const { app, all, config } = await serve(build)
  const { access_token } = await logIn(app)
  const response = await introspect(app, all, access_token)
  t.equal(response.statusCode, 200)
  t.match(response.headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store' })
  t.same(json(response), { active: true, token_type: 'Bearer', ...claimsOf(access_token) })
  t.match(json(response), {
    iss: config.AUTH_ISSUER,
    aud: config.AUTH_AUDIENCE,
    sub: uuid,
    sid: uuid,
    client_id: 'first-party',
  })
  t.notOk(response.body.includes('"ada"'), 'no name and no other personal data')

  const orders = await makeClient(app, { id: 'orders', scopes: ['files:read'] })
  const token = await tokenOf(app, orders)
  t.match(json(await introspect(app, all, token)), {
    active: true,
    sub: 'orders',
    client_id: 'orders',
    scope: 'files:read',
  })
  t.notOk('sid' in json(await introspect(app, all, token)))
})

onOneStore('roles and several audiences are told', async (t, build) => {
  const { app, all } = await serve(build)
  const user = await app.store.findUserByName('ada')
  await giveRoles(storeOf(app), user?.id as string, ['editor', 'reader'])
  const both = await makeClient(app, { id: 'both', grants: ['password'], audience: [files, 'https://mail.example'] })
  const { access_token } = await logInBy(app, both)
  t.match(json(await introspect(app, all, access_token)), {
    roles: ['editor', 'reader'],
    aud: [files, 'https://mail.example'],
  })
})

onOneStore('how the user has signed in is told', async (t, build) => {
  const { app, all, clock, config } = await serve(build)
  const signIn = { auth_time: Math.floor(clock.now / 1000) - 5, amr: ['pwd', 'otp', 'mfa'], acr: 'urn:latchkey:acr:2' }
  const subject = { aud: config.AUTH_AUDIENCE, sub: 'ada', client_id: 'first-party', sid: 'session' }
  const token = await app.accessTokens.issue({ ...subject, ...signIn, generations: { user: 0, client: 0 } })
  t.match(json(await introspect(app, all, token)), { active: true, ...signIn })
})

onOneStore('a text that is no token of ours is inactive', async (t, build) => {
  const { app, all } = await serve(build)
  const foreign = await build()
  await signUp(foreign.app)
  const theirs = await logIn(foreign.app)
  const { access_token, refresh_token } = await logIn(app)
  const [header, payload, signature] = access_token.split('.') as [string, string, string]
  const forge = (claims: object, head: object = {}) => {
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const headers = JSON.parse(Buffer.from(header, 'base64url').toString())
    return `${encode({ ...headers, ...head })}.${encode({ ...claimsOf(access_token), ...claims })}.${signature}`
  }
  const texts = {
    garbage: 'x',
    'a space': ' ',
    'an e-mail address': 'ada@example.com',
    'an access token of another server': theirs.access_token,
    'a refresh token of another server': theirs.refresh_token,
    'another claim': forge({ sub: 'root' }),
    'another type': forge({}, { typ: 'JWT' }),
    'no algorithm': `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url')}.${payload}.`,
    'no signature': `${header}.${payload}.`,
    'two parts': `${header}.${payload}`,
    'four parts': `${access_token}.x`,
    'a token and a space': `${access_token} `,
    'a scheme and a token': `Bearer ${access_token}`,
    'a flipped refresh token': refresh_token.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')),
    'a cut refresh token': refresh_token.slice(0, -1),
    'a secret': all.secret,
    'a session id': String(claimsOf(access_token)['sid']),
    'a long text': 'x'.repeat(10_000),
    'dots only': '.'.repeat(1000),
  }
  for (const [what, token] of Object.entries(texts)) await isInactive(t, app, all, token, what)
  t.ok(await isActive(app, all, access_token))
})

overStores(
  'an access token is inactive once it has expired, is revoked, or its session, user or client has ended',
  async (t, build) => {
    const { app, all, clock } = await serve(build)
    const bearer = (token: string, method: 'POST' | 'DELETE', url: string, payload?: object) =>
      withToken(app, token, { method, url, ...(payload && { payload }) })
    const ends: Record<string, (tokens: Tokens) => Promise<unknown>> = {
      'revoked by itself': ({ access_token }) => postForm(app, '/revoke', { token: access_token }),
      'revoked by its refresh token': ({ refresh_token }) => postForm(app, '/revoke', { token: refresh_token }),
      'after the logout': ({ access_token }) => bearer(access_token, 'POST', '/logout'),
      'when all sessions have ended': ({ access_token }) => bearer(access_token, 'DELETE', '/users/me/sessions'),
      'of a session that ended by theft': async ({ refresh_token }) => {
        await refresh(app, json(await refresh(app, refresh_token)).refresh_token)
        await refresh(app, refresh_token)
      },
      'after a password change elsewhere': async () => {
        const { access_token } = await logIn(app)
        await bearer(access_token, 'POST', '/users/me/password', {
          current_password: password,
          new_password: `${password}!`,
        })
        const again = await logIn(app, 'ada', `${password}!`)
        await bearer(again.access_token, 'POST', '/users/me/password', {
          current_password: `${password}!`,
          new_password: password,
        })
      },
      'of a user who is disabled': async ({ access_token }) => {
        const sub = claimsOf(access_token)['sub'] as string
        await storeOf(app).disableUser(sub, { now: clock.now, expiresAt: clock.now + 3600 * second } as End)
        await app.revocations.pull()
        await storeOf(app).enableUser(sub)
      },
      'at its end': async () => {
        clock.now += 600 * second
      },
      'of a user who is gone': ({ access_token }) => bearer(access_token, 'DELETE', '/users/me', { password }),
    }
    for (const [what, end] of Object.entries(ends)) {
      const tokens = await logIn(app)
      t.ok(await isActive(app, all, tokens.access_token), `active, not yet ${what}`)
      await end(tokens)
      await isInactive(t, app, all, tokens.access_token, what)
    }
  },
)

onOneStore('only a confidential client with the right may ask', async (t, build) => {
  const { app, all } = await serve(build)
  const { access_token: token } = await logIn(app)
  const none = await makeClient(app, { id: 'none' })
  const disabled = await makeClient(app, { id: 'disabled', introspect: 'all' })
  await app.clients.disable(app, 'disabled')
  const unauthenticated = {
    'no credentials': await postForm(app, '/introspect', { token }),
    'a bearer token': await withToken(app, token, {
      ...{ method: 'POST', url: '/introspect', payload: new URLSearchParams({ token }).toString() },
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    }),
    'a public client': await postForm(app, '/introspect', { token, client_id: 'first-party' }),
    'a public client by Basic': await introspect(app, { id: 'first-party', secret: '' }, token),
    'no secret': await postForm(app, '/introspect', { token, client_id: 'all' }),
    'a wrong secret': await introspect(app, { ...all, secret: 'wrong' }, token),
    'a disabled client': await introspect(app, disabled, token),
    'a secret alone': await postForm(app, '/introspect', { token, client_secret: all.secret }),
  }
  for (const [what, response] of Object.entries(unauthenticated)) {
    isOAuthError(t, response, 401, 'invalid_client', what)
    if (what !== 'no secret') t.equal(response.headers['www-authenticate'], challenge, what)
  }
  const forbidden = await introspect(app, none, token)
  isOAuthError(t, forbidden, 403, 'unauthorized_client', 'a client without the right')
  isOAuthError(
    t,
    await introspect(app, none, await tokenOf(app, none)),
    403,
    'unauthorized_client',
    'not even of its own token',
  )

  const byForm = await postForm(app, '/introspect', { token, ...inForm(all) })
  t.equal(json(byForm).active, true, 'client_secret_post')
  isOAuthError(t, await introspect(app, all, ''), 400, 'invalid_request', 'no token')
  isOAuthError(
    t,
    await introspect(app, { ...all, secret: 'wrong' }, ''),
    401,
    'invalid_client',
    'who asks is looked at first',
  )
  for (const url of ['/introspect', `/introspect?token=${token}`]) {
    t.equal((await app.inject({ url, ...basic(all) })).statusCode, 405, 'GET')
    isOAuthError(t, await postForm(app, url, {}, basic(all)), 400, 'invalid_request', 'a token in the query')
  }
})

onOneStore(
  'a client sees access tokens that are meant for it, and its own; with the right to all, all',
  async (t, build) => {
    const { app, all, api, ofFiles, config } = await serve(build)
    const grants = ['client_credentials', 'password']
    const audiences = { own: [], files: [files], both: [files, config.AUTH_AUDIENCE], other: ['https://other.example'] }
    const expected = { own: [true, false], files: [false, true], both: [true, true], other: [false, false] }
    for (const [name, audience] of Object.entries(audiences)) {
      const client = await makeClient(app, { id: `by-${name}`, grants, audience })
      for (const token of [await tokenOf(app, client), (await logInBy(app, client)).access_token]) {
        const seen = [await isActive(app, api, token), await isActive(app, ofFiles, token)]
        t.same(seen, expected[name as keyof typeof expected], `for ${name}`)
        t.equal(await isActive(app, all, token), true)
        if (!seen[0]) await isInactive(t, app, api, token, 'for others it is as any that is not good')
      }
    }
    const narrowed = await makeClient(app, { id: 'narrowed', audience: [files, config.AUTH_AUDIENCE] })
    const token = await tokenOf(app, narrowed, { resource: files })
    t.same(
      [await isActive(app, api, token), await isActive(app, ofFiles, token)],
      [false, true],
      'by the aud of the token, not of its client',
    )

    const self = await makeClient(app, { id: 'self', introspect: 'audience', audience: ['https://self.example'] })
    const before = await tokenOf(app, self)
    const stored = await app.clients.find('self')
    if (stored)
      await storeOf(app).replaceClient({
        ...stored,
        audience: ['https://moved.example'],
        generation: stored.generation + 1,
      })
    t.same((await app.clients.find('self', app.uptimeMs()))?.audience, ['https://moved.example'])
    t.equal(await isActive(app, self, before), true, 'its own')
  },
)

onOneStore(
  'a refresh token is told of to its own client and to the right to all, and to no service that ' +
    'could take it for an access token',
  async (t, build) => {
    const { app, all, api, clock, config } = await serve(build)
    const web = await makeClient(app, {
      id: 'web',
      grants: ['password', 'refresh_token'],
      introspect: 'audience',
      scopes: ['a', 'b'],
    })
    const { refresh_token, access_token } = await logInBy(app, web, { scope: 'a' })
    const expected = {
      active: true,
      token_type: 'refresh_token',
      iss: config.AUTH_ISSUER,
      sub: claimsOf(access_token)['sub'],
      client_id: 'web',
      scope: 'a',
      sid: claimsOf(access_token)['sid'],
      iat: Math.floor(clock.now / 1000),
      exp: Math.floor((clock.now + 30 * day) / 1000),
    }
    for (const client of [all, web]) t.same(json(await introspect(app, client, refresh_token)), expected, client.id)
    t.equal(await isActive(app, api, access_token), true)
    await isInactive(t, app, api, refresh_token, 'a service of the same audience')
    const asked = await introspect(app, api, refresh_token, { token_type_hint: 'refresh_token' })
    t.same(json(asked), expected, 'unless it says that a refresh token is what it asks about')

    clock.now += 29 * day
    const next = json(await refreshBy(app, web, refresh_token)).refresh_token
    clock.now += 29 * day
    const last = json(await refreshBy(app, web, next)).refresh_token
    clock.now += 29 * day
    const told = json(await introspect(app, all, json(await refreshBy(app, web, last)).refresh_token))
    t.equal(told.exp, expected.iat + 90 * 86_400, 'no longer than the session may live')
  },
)

overStores('a refresh token that is spent is inactive, and asking about it ends no session', async (t, build) => {
  const { app, all, clock } = await serve(build)
  const first = await logIn(app)
  const next = json(await refresh(app, first.refresh_token))
  await isInactive(t, app, all, first.refresh_token, 'spent, within the grace')
  clock.now += 31 * second
  await isInactive(t, app, all, first.refresh_token, 'spent')
  t.equal(await isActive(app, all, next.refresh_token), true)
  t.ok(await isAccepted(app, next.access_token), 'the session lives')
  const last = await refresh(app, next.refresh_token)
  t.equal(last.statusCode, 200)
  const sessions = json(await withToken(app, next.access_token, { url: '/users/me/sessions' }))
  const before = JSON.stringify(sessions)
  for (const token of [first.refresh_token, next.refresh_token, json(last).refresh_token])
    await introspect(app, all, token)
  t.equal(
    JSON.stringify(json(await withToken(app, next.access_token, { url: '/users/me/sessions' }))),
    before,
    'nothing of it has changed',
  )
  t.equal((await refresh(app, json(last).refresh_token)).statusCode, 200)
})

overStores(
  'a refresh token is inactive once its session has ended or expired, or its client may not refresh',
  async (t, build) => {
    const { app, all, clock } = await serve(build)
    const web = await makeClient(app, { id: 'web', grants: ['password', 'refresh_token'] })
    const ends: Record<string, (tokens: Tokens) => Promise<unknown>> = {
      'after the logout': ({ access_token }) => withToken(app, access_token, { method: 'POST', url: '/logout' }),
      revoked: ({ refresh_token }) => postForm(app, '/revoke', { token: refresh_token }, basic(web)),
      'when all sessions have ended': ({ access_token }) =>
        withToken(app, access_token, { method: 'DELETE', url: '/users/me/sessions' }),
      'idle for too long': async () => {
        clock.now += 30 * day
      },
      'of a user who is gone': ({ access_token }) =>
        withToken(app, access_token, { method: 'DELETE', url: '/users/me', payload: { password } }),
    }
    for (const [what, end] of Object.entries(ends)) {
      const tokens = await logInBy(app, web)
      t.equal(await isActive(app, all, tokens.refresh_token), true)
      await end(tokens)
      await isInactive(t, app, all, tokens.refresh_token, what)
    }
    await signUp(app)
    const { refresh_token } = await logInBy(app, web)
    await app.clients.disable(app, 'web')
    await isInactive(t, app, all, refresh_token, 'of a client that is disabled')
    await app.clients.enable(app, 'web')
    t.equal(await isActive(app, all, refresh_token), true)
    const client = await app.store.findClient('web')
    if (client) await storeOf(app).replaceClient({ ...client, grants: ['password'], generation: client.generation + 1 })
    await until(async () => !(await isActive(app, all, refresh_token)))
    await app.clients.remove(app, 'web')
    await isInactive(t, app, all, refresh_token, 'of a client that is gone')
  },
)

onOneStore('token_type_hint is a hint: wrong, unknown or long, it changes nothing', async (t, build) => {
  const { app, all } = await serve(build)
  const { access_token, refresh_token } = await logIn(app)
  for (const token_type_hint of ['access_token', 'refresh_token', 'id_token', '', '__proto__', 'x'.repeat(1000)]) {
    for (const [token, token_type] of [
      [access_token, 'Bearer'],
      [refresh_token, 'refresh_token'],
    ] as const) {
      t.match(
        json(await introspect(app, all, token, { token_type_hint })),
        { active: true, token_type },
        token_type_hint.slice(0, 20),
      )
    }
    t.equal((await introspect(app, all, 'x', { token_type_hint })).body, '{"active":false}')
  }
})

onOneStore('a store that fails is 503, and never inactive', async (t, build) => {
  const { app, all } = await serve(build)
  const tokens = await logIn(app)
  const garbage = app.refreshTokens.encode('0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b', 3)
  await tokenOf(app, all)
  for (const method of ['findSession', 'findUser', 'findClient', 'findFailures', '.'] as const) {
    const names = new RegExp(method)
    const heal = failStore(app, names)
    for (const token of [tokens.refresh_token, garbage, tokens.access_token]) {
      const response = await introspect(app, all, token)
      const what = `${method} fails`
      if (response.statusCode === 503) {
        isOAuthError(t, response, 503, 'temporarily_unavailable', what)
        t.match(response.headers['retry-after'], /^[1-9]/)
      } else t.equal(json(response).active, token !== garbage, `${what}: an answer is a true one`)
    }
    if (method === 'findSession')
      isOAuthError(t, await introspect(app, all, tokens.refresh_token), 503, 'temporarily_unavailable')
    heal()
  }
  t.equal(await isActive(app, all, tokens.refresh_token), true, 'and it heals by itself')
})

onOneStore(
  'an access token is judged from memory: a client that has just been here costs no call of the store',
  async (t, build) => {
    const { app, all } = await serve(build)
    const { access_token } = await logIn(app)
    const calls = watchStore(app, /find|record|rotate/)
    await until(async () => {
      calls.length = 0
      t.ok(await isActive(app, all, access_token))
      return calls.length === 0
    })
  },
)

onOneStore('a process that has not heard of the store for long refuses to vouch: 503', async (t) => {
  let skippedMs = 0
  const settings = {
    ...cheapHashing,
    AUTH_ISSUER: 'http://localhost:3000',
    AUTH_DATA_DIR: await newDir(t),
    LOG_LEVEL: 'silent',
  }
  const app = await buildApp(readConfig(settings), { uptimeMs: () => performance.now() + skippedMs })
  t.teardown(() => app.close())
  await signUp(app)
  const all = await makeClient(app, { id: 'all', introspect: 'all' })
  const { access_token } = await logIn(app)
  const heal = failStore(app, /revocationsSince/)
  skippedMs = 4 * 60_000
  t.equal(await isActive(app, all, access_token), true)
  skippedMs = 6 * 60_000
  isOAuthError(t, await introspect(app, all, access_token), 503, 'temporarily_unavailable')
  t.equal((await withToken(app, access_token, { url: '/verify' })).statusCode, 503)
  heal()
  await app.revocations.pull()
  t.equal(await isActive(app, all, access_token), true)
})

overStores('what another process revokes is inactive here within a second', async (t, build) => {
  const one = await serve(build)
  const two = await one.beside()
  const tokens = await logIn(one.app)
  t.ok(await isActive(two.app, one.all, tokens.access_token))
  await withToken(one.app, tokens.access_token, { method: 'POST', url: '/logout' })
  await until(async () => !(await isActive(two.app, one.all, tokens.access_token)))
  await isInactive(t, two.app, one.all, tokens.refresh_token, 'the refresh token at once, for the store is asked')
})

onOneStore('the refresh token of another client is invalid_grant, and the session is untouched', async (t, build) => {
  const { app, clock } = await serve(build)
  const grants = ['password', 'refresh_token']
  const [web, thief] = [await makeClient(app, { id: 'web', grants }), await makeClient(app, { id: 'thief', grants })]
  const first = await logInBy(app, web)
  const next = json(await refreshBy(app, web, first.refresh_token))
  const ahead = app.refreshTokens.encode(claimsOf(first.access_token)['sid'] as string, 9)
  clock.now += 31 * second
  for (const token of [first.refresh_token, next.refresh_token, ahead]) {
    isOAuthError(t, await refreshBy(app, thief, token), 400, 'invalid_grant', 'another confidential client')
    isOAuthError(t, await refresh(app, token), 400, 'invalid_grant', 'first-party')
    isOAuthError(t, await postForm(app, '/refresh', { refresh_token: token }), 400, 'invalid_grant', 'POST /refresh')
  }
  t.ok(await isAccepted(app, next.access_token), 'a spent one ends nothing either')
  const last = await refreshBy(app, web, next.refresh_token)
  t.equal(last.statusCode, 200)
  const own = await logIn(app)
  isOAuthError(t, await refreshBy(app, thief, own.refresh_token), 400, 'invalid_grant', 'the other way round')
  t.equal((await refresh(app, own.refresh_token)).statusCode, 200)
})

onOneStore('revocation by another client leaves a token alone, and its own client ends it', async (t, build) => {
  const { app, all } = await serve(build)
  const grants = ['client_credentials', 'password', 'refresh_token']
  const [web, thief] = [await makeClient(app, { id: 'web', grants }), await makeClient(app, { id: 'thief', grants })]
  const login = await logInBy(app, web)
  const own = await tokenOf(app, web)
  for (const token of [login.access_token, login.refresh_token, own]) {
    t.equal((await postForm(app, '/revoke', { token }, basic(thief))).statusCode, 200)
    t.equal((await postForm(app, '/revoke', { token })).statusCode, 200, 'first-party')
    t.equal(
      (await postForm(app, '/revoke', { token }, basic(all))).statusCode,
      200,
      'the right to see is not the right to end',
    )
    isOAuthError(
      t,
      await postForm(app, '/revoke', { token, client_id: 'web' }),
      401,
      'invalid_client',
      'without its secret',
    )
    isOAuthError(
      t,
      await postForm(app, '/revoke', { token, ...inForm(thief) }, basic(web)),
      400,
      'invalid_request',
      'two clients',
    )
    t.equal(await isActive(app, all, token), true)
  }
  t.equal((await postForm(app, '/revoke', { token: own }, basic(web))).body, '{}')
  await isInactive(t, app, all, own, 'its own')
  t.equal((await postForm(app, '/revoke', { token: login.refresh_token, ...inForm(web) })).statusCode, 200)
  await isInactive(t, app, all, login.access_token, 'the refresh token ends the session')
  isOAuthError(t, await refreshBy(app, web, login.refresh_token), 400, 'invalid_grant')
  t.ok(await tokenOf(app, web), 'the client itself goes on')
})

onOneStore('of a client that is disabled nothing is good, and enabled again its users go on', async (t, build) => {
  const { app, all } = await serve(build)
  const web = await makeClient(app, {
    id: 'web',
    grants: ['client_credentials', 'password', 'refresh_token'],
    introspect: 'all',
  })
  const login = await logInBy(app, web)
  const own = await tokenOf(app, web)
  await app.clients.disable(app, 'web')
  for (const token of [login.access_token, login.refresh_token, own])
    await isInactive(t, app, all, token, 'of a disabled client')
  isOAuthError(t, await refreshBy(app, web, login.refresh_token), 401, 'invalid_client')
  isOAuthError(t, await clientCredentials(app, web), 401, 'invalid_client')
  isOAuthError(t, await introspect(app, web, own), 401, 'invalid_client')
  isOAuthError(t, await postForm(app, '/revoke', { token: login.refresh_token }, basic(web)), 401, 'invalid_client')

  await app.clients.enable(app, 'web')
  for (const token of [login.access_token, own]) await isInactive(t, app, all, token, 'access tokens of before')
  const next = json(await refreshBy(app, web, login.refresh_token))
  t.equal(await isActive(app, web, next.access_token), true)
  t.equal(await isActive(app, web, await tokenOf(app, web)), true)
})
