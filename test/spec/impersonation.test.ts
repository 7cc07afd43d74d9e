import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import { administered, isProblem, logInAs } from '../support/admin.ts'
import { introspect, makeClient, tokenOf } from '../support/client-helper.ts'
import {
  type Build,
  challenges,
  challengeTo,
  claimsOf,
  isAccepted,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  storeOf,
  withToken,
} from '../support/helper.ts'

/* POST /admin/users/:id/token: an administrator sees what a user sees, RFC 8693 §4.1. */

const minutes = 60_000

/** The service with an administrator, `ada`, whose access the test may end, and a user, `bob`. */
const withAnother = async (build: Build, settings = {}) => another(await administered(build, settings))

/** @param suffix of their names, for several in one service */
async function another(test: Awaited<ReturnType<typeof administered>>, suffix = '') {
  const { app, call } = test
  const make = async (username: string, role: string) =>
    json(await call('POST', '/admin/users', { username: `${username}${suffix}`, password, roles: [role] })).id
  const [adminId, userId] = [await make('ada', 'admin'), await make('bob', 'editor')]
  const tokens = json(await logInAs(app, `ada${suffix}`, { scope: 'admin' }))
  const ask = (payload?: object, id = userId, token = tokens.access_token): Promise<LightMyRequestResponse> =>
    withToken(app, token, { method: 'POST', url: `/admin/users/${id}/token`, ...(payload && { payload }) })
  const get = async () => json(await ask()).access_token
  return {
    ...test,
    rootId: test.adminId,
    adminId,
    userId,
    tokens,
    ask,
    get,
    logInUser: () => logIn(app, `bob${suffix}`),
  }
}

overStores('an administrator gets a token of a user for 15 minutes, and it is recorded first', async (t, build) => {
  const { app, ask, adminId, userId, tokens, logs } = await withAnother(build)
  const answer = await ask()
  t.equal(answer.statusCode, 200)
  t.match(answer.headers['cache-control'], 'no-store')
  const { access_token, ...rest } = json(answer)
  t.same(rest, { token_type: 'Bearer', expires_in: 900 }, 'no refresh token')
  const claims = claimsOf(access_token)
  const own = claimsOf(tokens.access_token)
  t.same(claims['act'], { sub: adminId })
  t.match(claims, { iss: own['iss'], aud: own['aud'], sub: userId, client_id: 'first-party', roles: ['editor'] })
  t.equal(Number(claims['exp']) - Number(claims['iat']), 900)
  t.equal(claims['sid'], own['sid'], 'in the session of the administrator')
  t.notOk('scope' in claims)
  t.match(
    logs.filter(({ event }) => event === 'user.impersonated'),
    [{ sub: userId, by: adminId, client_id: 'first-party', scope: '', reqId: String }],
  )
  const { rows } = await app.store.listAudit({ user: userId, event: 'user.impersonated' }, { limit: 10 })
  t.match(rows, [{ user: userId, by: adminId, outcome: 'success', requestId: answer.headers['x-request-id'] }])

  const narrow = json(await ask({ scope: 'orders:read', audience: 'https://orders.example' }))
  t.match(claimsOf(narrow.access_token), { scope: 'orders:read', aud: 'https://orders.example' })
  t.equal(narrow.scope, 'orders:read')
})

overStores('it sees what the user sees and changes nothing', async (t, build) => {
  const { app, get, userId, tokens } = await withAnother(build)
  const token = await get()
  const { sessions } = json(await withToken(app, (await logIn(app, 'bob')).access_token, { url: '/users/me/sessions' }))
  t.match(json(await withToken(app, token, { url: '/users/me' })), { id: userId, username: 'bob', roles: ['editor'] })
  t.match(json(await withToken(app, token, { url: '/protected' })), { message: /^Hello bob!/ })
  t.match(json(await withToken(app, token, { url: '/users/me/sessions' })), {
    sessions: [{ id: sessions[0].id, current: false }],
  })
  t.equal((await withToken(app, token, { url: '/users/me', method: 'HEAD' })).statusCode, 200)
  for (const [method, url, payload] of [
    ['POST', '/logout'],
    ['DELETE', '/users/me', { password }],
    ['POST', '/users/me/password', { current_password: password, new_password: 'another horse, another battery' }],
    ['DELETE', '/users/me/sessions'],
    ['DELETE', `/users/me/sessions/${sessions[0].id}`],
  ] as const) {
    const answer = await withToken(app, token, { method, url, ...(payload && { payload }) })
    await isProblem(t, answer, 403, 'read_only_token', `${method} ${url}`)
    t.equal(answer.headers['www-authenticate'], 'Bearer realm="latchkey", error="insufficient_scope"')
  }
  for (const url of ['/admin/users', `/admin/users/${userId}`])
    await isProblem(t, await withToken(app, token, { url }), 403, 'insufficient_scope', url)
  const nested = await withToken(app, token, { method: 'POST', url: `/admin/users/${userId}/token` })
  await isProblem(t, nested, 403, 'insufficient_scope', 'and it brings no other')
  t.ok(await isAccepted(app, tokens.access_token))
})

onOneStore(
  'it is not for administrators, nor for who is disabled or gone, and never has the scope admin',
  async (t, build) => {
    const { ask, call, rootId, adminId, userId } = await withAnother(build)
    for (const id of [rootId, adminId])
      await isProblem(t, await ask(undefined, id), 403, 'administrator_account', 'another, or oneself')
    for (const scope of ['admin', 'a admin', ' ', 'a  b', 'é'])
      await isProblem(t, await ask({ scope }), 400, 'invalid_scope', JSON.stringify(scope))
    for (const body of [{ scope: 1 }, { audience: '' }, { ttl: 3600 }, { audience: ['a'] }, []])
      await isProblem(t, await ask(body), 400, 'invalid_request', JSON.stringify(body))
    for (const id of ['0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b', 'bob'])
      await isProblem(t, await ask(undefined, id), 404, 'not_found', id)
    await call('POST', `/admin/users/${userId}/disable`)
    await isProblem(t, await ask(), 409, 'user_disabled', 'disabled')
  },
)

type Another = Awaited<ReturnType<typeof withAnother>>

/** What ends it, and whether that is an act on the user or on the administrator. */
const endings: Record<string, (test: Another) => Promise<unknown>> = {
  'the user is disabled': ({ call, userId }) => call('POST', `/admin/users/${userId}/disable`),
  'the user is deleted': ({ call, userId }) => call('DELETE', `/admin/users/${userId}`),
  'the sessions of the user end': ({ call, userId }) => call('DELETE', `/admin/users/${userId}/sessions`),
  'the roles of the user shrink': ({ call, userId }) => call('PUT', `/admin/users/${userId}/roles`, { roles: [] }),
  'the user sets a password': async ({ app, logInUser }) =>
    withToken(app, (await logInUser()).access_token, {
      method: 'POST',
      url: '/users/me/password',
      payload: { current_password: password, new_password: 'another horse, another battery' },
    }),
  'the administrator is disabled': ({ call, adminId }) => call('POST', `/admin/users/${adminId}/disable`),
  'the administrator is deleted': ({ call, adminId }) => call('DELETE', `/admin/users/${adminId}`),
  'the role is taken away': ({ call, adminId }) => call('PUT', `/admin/users/${adminId}/roles`, { roles: [] }),
  'the sessions of the administrator end': ({ call, adminId }) => call('DELETE', `/admin/users/${adminId}/sessions`),
  'the administrator logs out': ({ app, tokens }) =>
    withToken(app, tokens.access_token, { method: 'POST', url: '/logout' }),
  'the access token of the administrator is revoked': ({ app, tokens }) =>
    postForm(app, '/revoke', { token: tokens.access_token }),
}

overStores('it ends in the moment that the access of the user or of the administrator ends', async (t, build) => {
  const service = await administered(build)
  for (const [number, [what, end]] of Object.entries(endings).entries()) {
    const test = await another(service, String(number))
    const token = await test.get()
    t.ok(await isAccepted(test.app, token), 'before')
    await end(test)
    t.equal(await challengeTo(test.app, token), challenges.revoked, what)
  }
})

onOneStore('it outlives what does not end the access of either', async (t, build) => {
  const { app, get, tokens, call, userId, ask } = await withAnother(build)
  const token = await get()
  await withToken(app, tokens.access_token, {
    method: 'POST',
    url: '/users/me/password',
    payload: { current_password: password, new_password: 'another horse, another battery' },
  })
  t.ok(await isAccepted(app, token), 'a new password of the administrator, who keeps the session')
  await call('PUT', `/admin/users/${userId}/roles`, { roles: ['editor', 'more'] })
  t.ok(await isAccepted(app, token))

  // Each is revoked by itself, and that never ends the session of the administrator.
  for (let n = 0; n < 12; n++) {
    const each = json(await ask()).access_token
    await postForm(app, '/revoke', { token: each })
    t.equal(await challengeTo(app, each), challenges.revoked)
  }
  t.ok(await isAccepted(app, tokens.access_token))
  t.ok(await isAccepted(app, token))
})

onOneStore('it lives for 15 minutes whatever the life of other tokens, and so do revocations', async (t, build) => {
  for (const AUTH_ACCESS_TTL of ['1m', '1d']) {
    const test = await withAnother(build, { AUTH_ACCESS_TTL })
    const { app, clock, get, call, userId } = test
    const [ended, token] = [await get(), await get()]
    await postForm(app, '/revoke', { token: ended })
    const ask = async (one: string) => challengeTo(app, one)
    clock.now += 14 * minutes
    await app.sweeper.round()
    await app.revocations.poll()
    t.equal(await ask(ended), challenges.revoked, 'still remembered')
    t.ok(await isAccepted(app, token), AUTH_ACCESS_TTL)
    clock.now += 1 * minutes
    t.equal(await ask(token), challenges.expired)
    t.equal((await call('GET', `/admin/users/${userId}`)).statusCode, AUTH_ACCESS_TTL === '1d' ? 200 : 401)
  }
})

onOneStore('a client with the scope admin gets one too, which ends with the client', async (t, build) => {
  const { app, ask, call, userId } = await withAnother(build)
  const client = await makeClient(app, { id: 'support', scopes: ['admin'] })
  const token = json(await ask(undefined, userId, await tokenOf(app, client, { scope: 'admin' }))).access_token
  t.match(claimsOf(token), { act: { sub: 'support' }, client_id: 'support', sub: userId, sid: String })
  t.match(json(await withToken(app, token, { url: '/users/me' })), { username: 'bob' })
  await call('POST', '/admin/clients/support/disable')
  t.equal(await challengeTo(app, token), challenges.revoked)
})

onOneStore('services and proxies are told who holds the token', async (t, build) => {
  const { app, get, ask, adminId, userId, tokens } = await withAnother(build)
  const token = await get()
  const asker = await makeClient(app, { id: 'orders', introspect: 'all' })
  const told = json(await introspect(app, asker, token))
  t.match(told, { active: true, sub: userId, act: { sub: adminId } })
  t.notOk('act' in json(await introspect(app, asker, tokens.access_token)))
  const headersOf = async (one: string, on: FastifyInstance = app) =>
    (await withToken(on, one, { url: '/verify' })).headers
  t.match(await headersOf(token), { 'x-auth-subject': userId, 'x-auth-actor': adminId })
  t.equal((await headersOf(tokens.access_token))['x-auth-actor'], '', 'nobody else')
  t.ok(json(await ask({ scope: 'orders:read' })).access_token)
  await storeOf(app).deleteClient('orders', { now: 0, expiresAt: 0 } as never)
})
