import type { FastifyInstance } from 'fastify'
import {
  basic,
  type Credentials,
  clientCredentials,
  inForm,
  isOAuthError,
  makeClient,
  rawBasic,
  tokenOf,
  until,
} from '../support/client-helper.ts'
import {
  challenges,
  claimsOf,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  signUp,
  withToken,
} from '../support/helper.ts'

/* Tokens of services, RFC 6749 §4.4, and what a client may have: grants, scopes, audiences. */

const files = 'https://files.example'
const mail = 'https://mail.example'
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** What a proxy would be told of a token. */
const verify = (app: FastifyInstance, token: string, audience?: string) =>
  withToken(app, token, { url: `/verify${audience === undefined ? '' : `?${new URLSearchParams({ audience })}`}` })

const passwordGrant = (app: FastifyInstance, client: Credentials, fields: Record<string, string> = {}) =>
  postForm(app, '/token', { grant_type: 'password', username: 'ada', password, ...fields }, basic(client))
const refreshGrant = (
  app: FastifyInstance,
  client: Credentials,
  refresh_token: string,
  fields: Record<string, string> = {},
) => postForm(app, '/token', { grant_type: 'refresh_token', refresh_token, ...fields }, basic(client))

const headerOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[0] as string, 'base64url').toString())

onOneStore('client_credentials gives an access token by RFC 9068, and no refresh token', async (t, build) => {
  const { app, clock, config } = await build()
  const orders = await makeClient(app, {
    id: 'orders',
    grants: ['client_credentials', 'refresh_token'],
    scopes: ['files:read'],
  })
  const response = await clientCredentials(app, orders)
  t.match(response.headers, { 'cache-control': 'no-store', pragma: 'no-cache' })
  const { access_token, ...answer } = json(response)
  t.same(answer, { token_type: 'Bearer', expires_in: 600, scope: 'files:read' })
  t.match(headerOf(access_token), { typ: 'at+jwt', alg: 'ES256', kid: String })
  const { jti, iat, exp, ...claims } = claimsOf(access_token)
  t.same(claims, {
    iss: config.AUTH_ISSUER,
    aud: config.AUTH_AUDIENCE,
    sub: 'orders',
    client_id: 'orders',
    scope: 'files:read',
  })
  t.same([iat, exp], [Math.floor(clock.now / 1000), Math.floor(clock.now / 1000) + 600])
  t.type(jti, 'string')
  t.not(claimsOf(await tokenOf(app, orders))['jti'], jti)

  const bare = json(await clientCredentials(app, await makeClient(app, { id: 'bare' })))
  t.same(Object.keys(bare).sort(), ['access_token', 'expires_in', 'token_type'], 'no scope where there is none')
  t.notOk('scope' in claimsOf(bare.access_token))
})

onOneStore('the token of a client is good at /verify, and 403 where a user is needed', async (t, build) => {
  const { app } = await build()
  const token = await tokenOf(app, await makeClient(app, { id: 'orders', scopes: ['files:read'] }))
  const verified = await verify(app, token)
  t.equal(verified.statusCode, 204)
  const told = {
    'x-auth-subject': 'orders',
    'x-auth-client': 'orders',
    'x-auth-scope': 'files:read',
    'x-auth-roles': '',
  }
  t.match(verified.headers, told)
  const routes = [
    ['GET', '/protected'],
    ['GET', '/users/me'],
    ['DELETE', '/users/me'],
    ['POST', '/users/me/password'],
    ['GET', '/users/me/sessions'],
    ['DELETE', '/users/me/sessions'],
    ['DELETE', '/users/me/sessions/0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b'],
    ['POST', '/logout'],
  ] as const
  for (const [method, url] of routes) {
    const refused = await withToken(app, token, { method, url })
    t.equal(refused.statusCode, 403, `${method} ${url}`)
    t.match(refused.headers['www-authenticate'], /^Bearer realm="latchkey", error="insufficient_scope"$/)
    t.match(json(refused), { type: 'urn:latchkey:problem:users_only', status: 403 })
  }
  t.equal((await verify(app, token)).statusCode, 204, 'and none of them did anything to it')
})

onOneStore('each client has its grants; any other is unauthorized_client', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const all = ['password', 'refresh_token', 'authorization_code', 'client_credentials'] as const
  const { refresh_token } = await logIn(app)
  for (const [i, grants] of [[], ...all.map((grant) => [grant]), [...all]].entries()) {
    const client = await makeClient(app, { id: `client-${i}`, grants })
    const own = grants.length === all.length ? json(await passwordGrant(app, client)).refresh_token : refresh_token
    const sent: Record<string, Record<string, string>> = {
      password: { username: 'ada', password },
      refresh_token: { refresh_token: own },
      authorization_code: { code: 'lkc_x' },
      client_credentials: {},
    }
    for (const grant_type of all) {
      const response = await postForm(app, '/token', { grant_type, ...sent[grant_type] }, basic(client))
      const what = `${grant_type} of [${grants}]`
      if (!grants.includes(grant_type)) isOAuthError(t, response, 400, 'unauthorized_client', what)
      else if (grant_type === 'authorization_code' || (grant_type === 'refresh_token' && own === refresh_token))
        isOAuthError(t, response, 400, 'invalid_grant', what)
      else t.equal(response.statusCode, 200, what)
    }
    isOAuthError(
      t,
      await postForm(app, '/token', { grant_type: 'other' }, basic(client)),
      400,
      'unsupported_grant_type',
    )
  }
  const implied = await postForm(
    app,
    '/token',
    { username: 'ada', password },
    basic(await makeClient(app, { id: 'service' })),
  )
  isOAuthError(t, implied, 400, 'unauthorized_client', 'a login without grant_type is one')
})

onOneStore('a public client gets no token of its own', async (t, build) => {
  const { app } = await build()
  const definition = { type: 'public', grants: ['password'], scopes: [], audience: [], introspect: 'none' } as const
  await app.clients.create(app, { ...definition, id: 'web', grants: ['password'], scopes: [], audience: [] })
  const grant = { grant_type: 'client_credentials' }
  isOAuthError(t, await postForm(app, '/token', grant), 400, 'unauthorized_client', 'first-party')
  isOAuthError(
    t,
    await postForm(app, '/token', { ...grant, client_id: 'web' }),
    400,
    'unauthorized_client',
    'by client_id',
  )
  isOAuthError(t, await postForm(app, '/token', grant, rawBasic('web:')), 400, 'unauthorized_client', 'by Basic')
  const wrong = makeClient(app, { id: 'app', type: 'public' })
  t.match(
    await wrong.catch((error: unknown) => error),
    { statusCode: 400, errors: [{ pointer: '/grants' }] },
    'nor can it be given the grant',
  )
})

onOneStore('a confidential client logs users in and refreshes, as itself only', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const web = await makeClient(app, { id: 'web', grants: ['password', 'refresh_token'] })
  const login = json(await passwordGrant(app, web))
  t.match(claimsOf(login.access_token), { client_id: 'web', sub: uuid, sid: uuid })
  t.equal((await withToken(app, login.access_token, { url: '/protected' })).statusCode, 200)
  const sessions = json(await withToken(app, login.access_token, { url: '/users/me/sessions' }))
  t.match(JSON.stringify(sessions), /"web"/, 'the list of sessions names it')

  const fields = { grant_type: 'refresh_token', refresh_token: login.refresh_token }
  isOAuthError(t, await postForm(app, '/token', fields), 400, 'invalid_grant', 'first-party')
  isOAuthError(
    t,
    await postForm(app, '/token', { ...fields, client_id: 'web' }),
    401,
    'invalid_client',
    'without a secret',
  )
  isOAuthError(
    t,
    await refreshGrant(app, { ...web, secret: 'wrong' }, login.refresh_token),
    401,
    'invalid_client',
    'with a wrong one',
  )
  isOAuthError(
    t,
    await postForm(app, '/refresh', { refresh_token: login.refresh_token }),
    400,
    'invalid_grant',
    'POST /refresh',
  )
  const next = await postForm(app, '/token', { ...fields, ...inForm(web) })
  t.equal(next.statusCode, 200)
  t.equal((await refreshGrant(app, web, json(next).refresh_token)).statusCode, 200)
  t.match(claimsOf(json(next).access_token), { client_id: 'web', sid: claimsOf(login.access_token)['sid'] })
})

onOneStore('a client without the grant refresh_token gets no refresh token', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const kiosk = await makeClient(app, { id: 'kiosk', grants: ['password'] })
  const login = json(await passwordGrant(app, kiosk))
  t.same(Object.keys(login).sort(), ['access_token', 'expires_in', 'token_type'])
  t.equal((await withToken(app, login.access_token, { url: '/protected' })).statusCode, 200)
  t.equal(
    (await withToken(app, login.access_token, { method: 'POST', url: '/logout' })).statusCode,
    204,
    'its session can be ended',
  )
  t.equal(
    (await withToken(app, login.access_token, { url: '/protected' })).headers['www-authenticate'],
    challenges.revoked,
  )
})

onOneStore('scopes: all of the client by default, a subset as asked for, no other', async (t, build) => {
  const { app } = await build()
  const orders = await makeClient(app, { id: 'orders', scopes: ['files:read', 'files:write', 'a!#[]~'] })
  const scopeOf = async (scope: string) => {
    const answer = json(await clientCredentials(app, orders, { scope }))
    t.equal(claimsOf(answer.access_token)['scope'], answer.scope, 'the answer says what the token has (RFC 6749 §5.1)')
    return answer.scope
  }
  t.equal(json(await clientCredentials(app, orders)).scope, 'files:read files:write a!#[]~')
  t.equal(await scopeOf(''), 'files:read files:write a!#[]~', 'an empty parameter is none')
  t.equal(await scopeOf('files:write'), 'files:write')
  t.equal(await scopeOf('a!#[]~ files:read'), 'a!#[]~ files:read')
  t.equal(await scopeOf('files:read files:read'), 'files:read', 'said twice is said once')
  const refused = [
    'files',
    'files:read files:delete',
    'FILES:READ',
    'admin',
    'openid',
    '*',
    'files:*',
    '__proto__',
    'length',
  ]
  const malformed = [
    ' ',
    ' files:read',
    'files:read ',
    'files:read  files:write',
    'files:read\tfiles:write',
    'files:read\n',
    'a"b',
    'a\\b',
    'é',
  ]
  malformed.push('files:read,files:write', 'x'.repeat(10_000))
  for (const scope of [...refused, ...malformed]) {
    const response = await clientCredentials(app, orders, { scope })
    isOAuthError(t, response, 400, 'invalid_scope', encodeURIComponent(scope.slice(0, 40)))
  }
  const none = await makeClient(app, { id: 'none' })
  isOAuthError(
    t,
    await clientCredentials(app, none, { scope: 'files:read' }),
    400,
    'invalid_scope',
    'a client without any',
  )
})

overStores(
  'scopes of a session: a refresh may narrow them and never widen, and the session keeps its own',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const web = await makeClient(app, { id: 'web', grants: ['password', 'refresh_token'], scopes: ['a', 'b', 'c'] })
    const login = json(await passwordGrant(app, web, { scope: 'a b' }))
    t.equal(login.scope, 'a b')
    let { refresh_token } = login
    for (const scope of ['a b c', 'c', 'd', 'a  b', 'admin']) {
      isOAuthError(t, await refreshGrant(app, web, refresh_token, { scope }), 400, 'invalid_scope', scope)
    }
    for (const [asked, given] of [
      ['b', 'b'],
      ['a', 'a'],
      ['b a', 'b a'],
      ['', 'a b'],
    ] as const) {
      const answer = json(await refreshGrant(app, web, refresh_token, { scope: asked }))
      t.equal(answer.scope, given, `asked for "${asked}"`)
      t.equal(claimsOf(answer.access_token)['scope'], given)
      refresh_token = answer.refresh_token
    }
    t.equal(json(await refreshGrant(app, web, refresh_token)).scope, 'a b', 'what it was narrowed to once is not kept')
  },
)

onOneStore('a scope that a login may not have opens no session and hashes nothing', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const web = await makeClient(app, { id: 'web', grants: ['password'], scopes: ['a', 'admin'] })
  isOAuthError(
    t,
    await passwordGrant(app, web, { scope: 'b', password: 'wrong' }),
    400,
    'invalid_scope',
    'before the password is looked at',
  )
  isOAuthError(t, await passwordGrant(app, web, { scope: 'admin' }), 400, 'invalid_scope', 'admin needs the role')
  isOAuthError(
    t,
    await passwordGrant(app, web, { scope: 'admin', password: 'wrong' }),
    400,
    'invalid_grant',
    'which only the user is told',
  )
  t.equal(json(await passwordGrant(app, web)).scope, 'a', 'and is not given unasked')
})

onOneStore(
  'resource (RFC 8707) chooses among the audiences of the client; any other is invalid_target',
  async (t, build) => {
    const { app, config } = await build()
    await signUp(app)
    const grants = ['client_credentials', 'password', 'refresh_token']
    const none = await makeClient(app, { id: 'none', grants })
    const one = await makeClient(app, { id: 'one', grants, audience: [files] })
    const two = await makeClient(app, { id: 'two', grants, audience: [files, mail] })
    const own = config.AUTH_AUDIENCE
    for (const [client, byDefault, allowed] of [
      [none, own, [own]],
      [one, files, [files]],
      [two, [files, mail], [files, mail]],
    ] as const) {
      const login = json(await passwordGrant(app, client))
      for (const ask of [
        (fields: Record<string, string>) => clientCredentials(app, client, fields),
        (fields: Record<string, string>) => passwordGrant(app, client, fields),
        (fields: Record<string, string>) => refreshGrant(app, client, login.refresh_token, fields),
      ]) {
        for (const fields of [{}, { resource: '' }] as Record<string, string>[]) {
          t.same(claimsOf(json(await ask(fields)).access_token)['aud'], byDefault, `${client.id} by default`)
        }
        for (const resource of allowed)
          t.equal(claimsOf(json(await ask({ resource })).access_token)['aud'], resource, `${client.id} for ${resource}`)
        for (const resource of [
          ...[own, files, mail].filter((one) => !allowed.some((other) => other === one)),
          `${files}/`,
          '*',
          'constructor',
        ]) {
          isOAuthError(t, await ask({ resource }), 400, 'invalid_target', `${client.id} for ${resource}`)
        }
      }
    }
    const repeated =
      `grant_type=client_credentials&resource=${encodeURIComponent(files)}` + `&resource=${encodeURIComponent(mail)}`
    const headers = { 'content-type': 'application/x-www-form-urlencoded', ...basic(two).headers }
    isOAuthError(
      t,
      await app.inject({ method: 'POST', url: '/token', headers, payload: repeated }),
      400,
      'invalid_request',
      'one at a time',
    )
  },
)

onOneStore('a token for another audience is refused here, and good at /verify for that audience', async (t, build) => {
  const { app, config } = await build()
  await signUp(app)
  const grants = ['client_credentials', 'password']
  const one = await makeClient(app, { id: 'one', grants, audience: [files] })
  const both = await makeClient(app, { id: 'both', grants, audience: [files, config.AUTH_AUDIENCE] })
  const foreign = json(await passwordGrant(app, one)).access_token
  for (const [method, url] of [
    ['GET', '/protected'],
    ['GET', '/users/me'],
    ['GET', '/users/me/sessions'],
    ['POST', '/logout'],
    ['DELETE', '/users/me'],
    ['GET', '/verify'],
  ] as const) {
    const refused = await withToken(app, foreign, { method, url })
    t.same([refused.statusCode, refused.headers['www-authenticate']], [401, challenges.invalid], `${method} ${url}`)
  }
  t.equal((await verify(app, foreign, files)).statusCode, 204)
  for (const audience of [mail, `${files}/`, files.toUpperCase(), `${files} ${mail}`, 'https://files']) {
    t.equal((await verify(app, foreign, audience)).statusCode, 401, `/verify?audience=${audience}`)
  }
  t.equal((await verify(app, foreign, '')).statusCode, 400, 'an empty demand is none that could be met')
  t.equal(
    (await withToken(app, foreign, { url: `/verify?audience=${files}&audience=${mail}` })).statusCode,
    400,
    'one audience only',
  )
  const ofClient = await tokenOf(app, one)
  t.same([(await verify(app, ofClient)).statusCode, (await verify(app, ofClient, files)).statusCode], [401, 204])

  const forBoth = json(await passwordGrant(app, both)).access_token
  t.same(claimsOf(forBoth)['aud'], [files, config.AUTH_AUDIENCE])
  t.equal((await withToken(app, forBoth, { url: '/protected' })).statusCode, 200, 'one of several audiences')
  t.same([(await verify(app, forBoth)).statusCode, (await verify(app, forBoth, files)).statusCode], [204, 204])
  t.equal((await verify(app, forBoth, mail)).statusCode, 401)
  const narrowed = json(await passwordGrant(app, both, { resource: files })).access_token
  t.equal((await withToken(app, narrowed, { url: '/protected' })).statusCode, 401, 'not when it was asked for another')
})

overStores('a new secret is taken at once, and the one before it for as long as was said', async (t, build) => {
  const { app, clock } = await build()
  const first = await makeClient(app, { id: 'orders' })
  const token = await tokenOf(app, first)
  const second = { id: 'orders', secret: await app.clients.rotateSecret(app, 'orders', 60) }
  t.match(second.secret, /^lks_[A-Za-z0-9_-]{43}$/, '256 bits')
  t.ok(await tokenOf(app, first))
  t.ok(await tokenOf(app, second))
  clock.now += 60_000
  isOAuthError(t, await clientCredentials(app, first), 401, 'invalid_client', 'its time is up')
  t.ok(await tokenOf(app, second))
  t.equal((await verify(app, token)).statusCode, 204, 'tokens live on')

  const third = { id: 'orders', secret: await app.clients.rotateSecret(app, 'orders', 60) }
  const fourth = { id: 'orders', secret: await app.clients.rotateSecret(app, 'orders', 60) }
  isOAuthError(t, await clientCredentials(app, second), 401, 'invalid_client', 'two are good, not three')
  for (const client of [third, fourth]) t.ok(await tokenOf(app, client))

  const last = { id: 'orders', secret: await app.clients.rotateSecret(app, 'orders', 0) }
  isOAuthError(
    t,
    await clientCredentials(app, fourth),
    401,
    'invalid_client',
    'a secret that has leaked is refused at once',
  )
  t.equal((await verify(app, token)).headers['www-authenticate'], challenges.revoked, 'and so are the tokens')
  t.equal((await verify(app, await tokenOf(app, last))).statusCode, 204)
})

overStores('of secrets that are made at once two are good: the newest, and the one before it', async (t, build) => {
  const { app } = await build()
  await makeClient(app, { id: 'orders' })
  const made = await Promise.all(Array.from({ length: 5 }, () => app.clients.rotateSecret(app, 'orders', 60)))
  t.equal(new Set(made).size, 5)
  const good = []
  for (const secret of made)
    if ((await clientCredentials(app, { id: 'orders', secret })).statusCode === 200) good.push(secret)
  t.equal(good.length, 2, 'the newest and the one before it')
})

overStores(
  'what another process changes of a client is seen: a new secret at once, the rest within a second',
  async (t, build) => {
    const one = await build()
    const two = await one.beside()
    const orders = await makeClient(one.app, { id: 'orders' })
    t.ok(await tokenOf(two.app, orders), 'a client made elsewhere')
    const token = await tokenOf(two.app, orders)
    const changed = { id: 'orders', secret: await one.app.clients.rotateSecret(one.app, 'orders', 0) }
    t.ok(await tokenOf(two.app, changed), 'the new secret')
    await until(async () => (await clientCredentials(two.app, orders)).statusCode === 401)
    await until(async () => (await verify(two.app, token)).statusCode === 401)
    await one.app.clients.disable(one.app, 'orders')
    await until(async () => (await clientCredentials(two.app, changed)).statusCode === 401)
    await one.app.clients.enable(one.app, 'orders')
    t.ok(await tokenOf(two.app, changed), 'a client that is enabled again is served at once')
  },
)

overStores(
  'a client that is disabled is refused, and so are its tokens; enabled again it gets new ones',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const orders = await makeClient(app, { id: 'orders', grants: ['client_credentials', 'password', 'refresh_token'] })
    const another = await makeClient(app, { id: 'another' })
    const [token, login, other, direct] = [
      await tokenOf(app, orders),
      json(await passwordGrant(app, orders)),
      await tokenOf(app, another),
      await logIn(app),
    ]
    await app.clients.disable(app, 'orders')
    isOAuthError(t, await clientCredentials(app, orders), 401, 'invalid_client', 'client_credentials')
    isOAuthError(t, await passwordGrant(app, orders), 401, 'invalid_client', 'password')
    isOAuthError(t, await refreshGrant(app, orders, login.refresh_token), 401, 'invalid_client', 'refresh_token')
    isOAuthError(t, await postForm(app, '/revoke', { token }, basic(orders)), 401, 'invalid_client', '/revoke')
    for (const refused of [token, login.access_token])
      t.equal((await verify(app, refused)).headers['www-authenticate'], challenges.revoked)
    t.equal(
      (await withToken(app, login.access_token, { url: '/protected' })).statusCode,
      401,
      'users who came by it too',
    )
    for (const good of [other, direct.access_token]) t.equal((await verify(app, good)).statusCode, 204, 'nobody else')

    await app.clients.enable(app, 'orders')
    t.equal((await verify(app, await tokenOf(app, orders))).statusCode, 204)
    t.equal((await verify(app, token)).statusCode, 401, 'what was refused stays so')
    const next = await refreshGrant(app, orders, login.refresh_token)
    t.equal(next.statusCode, 200, 'its users are still logged in')
    t.equal((await verify(app, json(next).access_token)).statusCode, 204)
  },
)

overStores(
  'a client that is deleted is unknown, its tokens are refused, and one of the same id later is another',
  async (t, build) => {
    const { app, clock } = await build()
    const orders = await makeClient(app, { id: 'orders' })
    const token = await tokenOf(app, orders)
    await app.clients.remove(app, 'orders')
    isOAuthError(t, await clientCredentials(app, orders), 401, 'invalid_client')
    t.equal((await verify(app, token)).headers['www-authenticate'], challenges.revoked)
    clock.now += 10
    const again = await makeClient(app, { id: 'orders' })
    isOAuthError(t, await clientCredentials(app, orders), 401, 'invalid_client', 'the secret of the one before')
    t.equal((await verify(app, await tokenOf(app, again))).statusCode, 204)
    t.equal((await verify(app, token)).statusCode, 401, 'the token of the one before')
  },
)

overStores('a client that is disabled while it asks gets no token that is good afterwards', async (t, build) => {
  const { app } = await build()
  const orders = await makeClient(app, { id: 'orders' })
  const race = Array.from({ length: 20 }, () => clientCredentials(app, orders))
  const disabled = app.clients.disable(app, 'orders')
  race.push(...Array.from({ length: 20 }, () => clientCredentials(app, orders)))
  const answers = await Promise.all(race)
  await disabled
  for (const response of answers) {
    if (response.statusCode === 200) t.equal((await verify(app, json(response).access_token)).statusCode, 401)
    else if (response.statusCode !== 429) isOAuthError(t, response, 401, 'invalid_client')
  }
})
