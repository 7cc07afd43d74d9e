import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { exportPKCS8, generateKeyPair } from 'jose'
import type { Client } from '../../domain/client.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { User } from '../../domain/user.ts'
import { administered, type Call, isProblem, logInAs } from '../support/admin.ts'
import {
  challenges,
  challengeTo,
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

const seconds = 1000
const minutes = 60 * seconds
const otherPassword = 'another horse, another battery'
const lackingScope = 'Bearer realm="latchkey", error="insufficient_scope", scope="admin"'
const uuid = '0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b'

/** Asks until it is so. @returns whether it was within a second */
async function withinASecond(isSo: () => Promise<boolean>): Promise<boolean> {
  const startedAt = performance.now()
  while (!(await isSo())) {
    if (performance.now() - startedAt > 1000) return false
    await sleep(20)
  }
  return true
}

const clientToken = (app: FastifyInstance, client_id: string, client_secret: string, fields = {}) =>
  postForm(app, '/token', { grant_type: 'client_credentials', client_id, client_secret, ...fields })

// Who may

onOneStore(
  'every route of /admin/ is for a good token with the scope admin, and says so before it reads a body',
  async (t, build) => {
    const { app, token } = await administered(build)
    await signUp(app)
    const { access_token: userToken } = await logIn(app)
    const elsewhere = await app.accessTokens.issue({
      ...{ sub: 'latchkey cli', client_id: 'latchkey cli', scope: 'admin', aud: 'https://elsewhere.example' },
      generations: { user: 0, client: 0 },
    })
    const { paths } = json(await app.inject({ url: '/openapi.json' }))
    let routes = 0
    for (const [path, operations] of Object.entries<
      Record<string, { tags: string[]; summary: string; security: object[] }>
    >(paths)) {
      if (!path.startsWith('/admin/')) continue
      for (const [method, { tags, summary, security }] of Object.entries(operations)) {
        routes += 1
        t.same(tags, ['admin'])
        t.ok(summary && security.length > 0)
        const request = {
          method: method.toUpperCase() as 'GET',
          url: path.replace(/\{.*?\}/, uuid),
          ...(method !== 'get' && { payload: '{"broken', headers: { 'content-type': 'application/json' } }),
        }
        const what = `${request.method} ${path}`
        const anonymous = await app.inject(request)
        await isProblem(t, anonymous, 401, 'missing_token', what)
        t.equal(anonymous.headers['www-authenticate'], challenges.missing)
        for (const bad of [`${token}x`, 'x', elsewhere]) {
          const refused = await withToken(app, bad, request)
          await isProblem(t, refused, 401, 'invalid_token', what)
          t.equal(refused.headers['www-authenticate'], challenges.invalid)
        }
        const lacking = await withToken(app, userToken, request)
        await isProblem(t, lacking, 403, 'insufficient_scope', what)
        t.equal(lacking.headers['www-authenticate'], lackingScope)
      }
    }
    t.ok(routes > 20)
  },
)

overStores(
  'a user gets the scope with the role only, and is refused in the moment that the role is gone',
  async (t, build) => {
    const { app, call, token, adminId } = await administered(build)
    const { id } = json(await call('POST', '/admin/users', { username: 'ada', password, roles: ['editor'] }))
    t.equal(json(await logInAs(app, 'ada', { scope: 'admin' })).error, 'invalid_scope')
    t.equal((await call('PUT', `/admin/users/${id}/roles`, { roles: ['admin', 'editor'] })).statusCode, 204)
    const tokens: Tokens = json(await logInAs(app, 'ada', { scope: 'admin' }))
    const asAda = (on: FastifyInstance) => withToken(on, tokens.access_token, { url: '/admin/keys' })
    t.equal((await asAda(app)).statusCode, 200)
    const plain = await logIn(app, 'ada')
    t.equal(
      (await withToken(app, plain.access_token, { url: '/admin/keys' })).statusCode,
      403,
      'not by a token that did not ask for it',
    )

    await giveRoles(storeOf(app), id, ['editor'])
    const refused = await asAda(app)
    await isProblem(t, refused, 403, 'insufficient_scope', 'by what is in the store, whatever is remembered')
    t.equal(refused.headers['www-authenticate'], lackingScope)
    t.notMatch(
      json(await refresh(app, tokens.refresh_token)).scope ?? '',
      /admin/,
      'nor does a refresh bring the scope back',
    )

    await call('PUT', `/admin/users/${id}/roles`, { roles: ['admin'] })
    t.notOk(await isAccepted(app, tokens.access_token), 'and when a role is taken away by its route, all is refused')
    const { app: other } = await (await build()).beside()
    t.equal((await withToken(other, token, { url: '/admin/keys' })).statusCode, 401, 'a token of another service')
    t.equal((await call('GET', `/admin/users/${adminId}`)).statusCode, 200)
  },
)

onOneStore("a client's own token with the scope admin works, for as long as the client may", async (t, build) => {
  const { app, call } = await administered(build)
  const made = json(await call('POST', '/admin/clients', { client_id: 'robot', scopes: ['admin', 'other'] }))
  const { access_token } = json(await clientToken(app, 'robot', made.client_secret))
  const { access_token: narrow } = json(await clientToken(app, 'robot', made.client_secret, { scope: 'other' }))
  const asRobot = (url: string, method = 'GET', by = access_token) =>
    withToken(app, by, { method: method as 'GET', url })
  t.equal((await asRobot('/admin/users')).statusCode, 200)
  t.equal((await asRobot('/admin/users', 'GET', narrow)).statusCode, 403)
  await isProblem(t, await asRobot('/admin/clients/robot', 'DELETE'), 409, 'own_account', 'itself')
  const client = await app.clients.get('robot')
  await storeOf(app).replaceClient({ ...client, scopes: ['other'], generation: client.generation + 1 })
  await isProblem(
    t,
    await asRobot('/admin/users'),
    403,
    'insufficient_scope',
    'a scope that is not the client’s any more',
  )
  await storeOf(app).replaceClient({ ...client, generation: client.generation + 2 })
  t.equal((await asRobot('/admin/users')).statusCode, 200)
  await call('POST', '/admin/clients/robot/disable')
  t.equal((await asRobot('/admin/users')).headers['www-authenticate'], challenges.revoked)
})

onOneStore('administrators end the administration of others, never their own', async (t, build) => {
  const { app, call, adminId } = await administered(build)
  for (const [method, path, body] of [
    ['DELETE', ''],
    ['POST', '/disable'],
    ['PUT', '/roles', { roles: [] }],
  ] as const) {
    await isProblem(
      t,
      await call(method, `/admin/users/${adminId}${path}`, body),
      409,
      'own_account',
      `${method} ${path}`,
    )
  }
  t.equal(
    (await call('PUT', `/admin/users/${adminId}/roles`, { roles: ['admin', 'more'] })).statusCode,
    204,
    'adding is fine',
  )
  const { id } = json(await call('POST', '/admin/users', { username: 'ada', password, roles: ['admin'] }))
  const { access_token } = json(await logInAs(app, 'ada', { scope: 'admin' }))
  const other = await withToken(app, access_token, { method: 'POST', url: `/admin/users/${adminId}/disable` })
  t.equal(other.statusCode, 204)
  t.equal((await call('DELETE', `/admin/users/${id}`)).statusCode, 401, 'who is disabled is out')
})

// Users

overStores(
  'users are made while signup is closed, found, and changed, and each act is a line that says who did it',
  async (t, build) => {
    const open = await administered(build)
    const { app, logs, restart } = await open.restart({ AUTH_SIGNUP: 'closed' })
    t.ok(restart)
    const call: Call = (method, url, payload) =>
      withToken(app, open.token, { method: method as 'GET', url, ...(payload && { payload }) })
    t.equal((await signUp(app, 'eve')).statusCode, 403)
    const made = await call('POST', '/admin/users', { username: 'Étienne', password, roles: ['a', 'b'] })
    t.equal(made.statusCode, 201)
    const { id } = json(made)
    t.equal(made.headers['location'], `/admin/users/${id}`)
    t.match(made.headers['cache-control'], 'no-store')
    t.match(json(made), { username: 'Étienne', roles: ['a', 'b'], created_at: String })
    t.same(json(await call('GET', `/admin/users/${id}`)), json(made))
    for (const name of ['Étienne', 'ÉTIENNE', 'e\u0301tienne']) {
      t.same(
        json(await call('GET', `/admin/users?username=${encodeURIComponent(name)}`)),
        { users: [json(made)] },
        name,
      )
    }
    for (const name of ['nobody', 'a b', 'x'.repeat(5000)]) {
      t.same(
        json(await call('GET', `/admin/users?username=${encodeURIComponent(name)}`)),
        { users: [] },
        JSON.stringify(name.slice(0, 20)),
      )
    }
    await isProblem(
      t,
      await call('POST', '/admin/users', { username: 'étienne', password }),
      409,
      'username_taken',
      'a name that is taken',
    )

    for (const [method, path, body] of [
      ['PUT', '/roles', { roles: ['b'] }],
      ['PUT', '/password', { password: otherPassword }],
      ['POST', '/disable'],
      ['POST', '/enable'],
      ['DELETE', '/sessions'],
      ['DELETE', ''],
    ] as const) {
      const answer = await call(method, `/admin/users/${id}${path}`, body)
      t.equal(answer.statusCode, 204, `${method} ${path}`)
      t.equal(answer.body, '')
      const again = await call(method, `/admin/users/${uuid}${path}`, body)
      await isProblem(t, again, 404, 'not_found', `${method} ${path} of nobody`)
    }
    t.equal((await call('GET', `/admin/users/${id}`)).statusCode, 404)
    const events = [
      'user.created',
      'user.roles_set',
      'password.set',
      'user.disabled',
      'user.enabled',
      'sessions.ended',
      'user.deleted',
    ]
    const lines = logs.filter(({ event }) => typeof event === 'string' && events.includes(event))
    t.same(
      lines.map(({ event }) => event),
      events,
    )
    for (const line of lines) t.match(line, { level: 30, by: open.adminId, sub: id, reqId: String })
  },
)

onOneStore('bodies and queries of /admin/ are read strictly', async (t, build) => {
  const { call, token, app } = await administered(build)
  const { id } = json(await signUp(app, 'ada'))
  const role = (name: unknown) => ['PUT', `/admin/users/${id}/roles`, { roles: [name] }] as const
  const client = (over: object) => ['POST', '/admin/clients', { client_id: 'x', ...over }] as const
  const cases: (readonly [InjectOptions['method'], string, object?])[] = [
    ['POST', '/admin/users', {}],
    ['POST', '/admin/users', { username: 'bob' }],
    ['POST', '/admin/users', { username: 'bob', password, admin: true }],
    ['POST', '/admin/users', { username: 'bob', password, roles: 'admin' }],
    ['POST', '/admin/users', { username: 'bob', password: 15 }],
    ['POST', '/admin/users', { username: 'bob', password: 'short' }],
    ['POST', '/admin/users', { username: 'b b', password }],
    ...['', ' ', 'a,b', 'a"b', 'a\\b', 'a b', 'é', 'x'.repeat(65), 1, null, {}, 'a\n'].map(role),
    ['PUT', `/admin/users/${id}/roles`, { roles: ['a', 'a'] }],
    ['PUT', `/admin/users/${id}/roles`, { roles: Array.from({ length: 33 }, (_, i) => `r${i}`) }],
    ['PUT', `/admin/users/${id}/roles`, {}],
    ['PUT', `/admin/users/${id}/password`, { password: 'ada ada ada' }],
    ['PUT', `/admin/users/${id}/password`, { password, current_password: password }],
    ['GET', '/admin/users?limit=0'],
    ['GET', '/admin/users?limit=101'],
    ['GET', '/admin/users?limit=1e2'],
    ['GET', '/admin/users?limit=5&limit=6'],
    ['GET', '/admin/users?user=ada'],
    ['GET', '/admin/clients?username=ada'],
    ['POST', '/admin/clients', {}],
    ...['', 'a b', 'é', 'x'.repeat(129), 'a\n', '.', '..', 'latchkey cli', uuid].map((client_id) =>
      client({ client_id }),
    ),
    client({ client_secret: 'mine' }),
    client({ grants: ['implicit'] }),
    client({ grants: ['password', 'password'] }),
    client({ scopes: ['a b'] }),
    client({ first_party: 'true' }),
    client({ introspect: 'some' }),
    client({ introspect: 'none' }),
    client({ type: 'public', introspect: true }),
    client({ type: 'public', grants: ['client_credentials'] }),
    client({ type: 'secret' }),
    ['POST', '/admin/clients', { client_id: 'first-party' }],
    ...[-1, 1.5, '60', 30 * 86_400 + 1].map(
      (overlap_seconds) => ['POST', '/admin/clients/x/rotate-secret', { overlap_seconds }] as const,
    ),
    ['POST', '/admin/keys/rotate', { leaked: 'true' }],
    ['POST', '/admin/keys/rotate', { kid: 'x' }],
  ]
  for (const [method, url, body] of cases) {
    const answer = await call(method, url, body)
    await isProblem(t, answer, 400, 'invalid_request', `${method} ${url} ${JSON.stringify(body)?.slice(0, 80)}`)
    t.ok(json(answer).errors?.length > 0, 'and says which member')
  }
  const form = { 'content-type': 'application/x-www-form-urlencoded' }
  const asForm = await withToken(app, token, {
    method: 'POST',
    url: '/admin/users',
    headers: form,
    payload: 'username=a',
  })
  await isProblem(t, asForm, 415, 'unsupported_media_type', 'a form')
  t.equal(
    (
      await call('PUT', `/admin/users/${id}/roles`, {
        roles: ['x'.repeat(64), "!#$%&'()*+-./:;<=>?@[]^_`{|}~", '__proto__'],
      })
    ).statusCode,
    204,
  )
})

overStores('disabling, deleting and setting a password bite at once, here and beside', async (t, build) => {
  const test = await administered(build, { AUTH_THROTTLE: 'off' })
  const { app, call } = test
  const { app: beside } = await test.beside()
  const wrong = await logInAs(app, 'root', { password: 'wrong' })
  for (const [what, method, path, body] of [
    ['disabled', 'POST', '/disable'],
    ['deleted', 'DELETE', ''],
    ['password', 'PUT', '/password', { password: otherPassword }],
    ['sessions', 'DELETE', '/sessions'],
    ['role', 'PUT', '/roles', { roles: [] }],
  ] as const) {
    const { id } = json(await call('POST', '/admin/users', { username: what, password, roles: ['reader'] }))
    const tokens = await logIn(app, what)
    t.ok(await isAccepted(beside, tokens.access_token))
    t.equal((await call(method, `/admin/users/${id}${path}`, body)).statusCode, 204, what)
    t.equal(await challengeTo(app, tokens.access_token), challenges.revoked, `${what}: access token`)
    t.ok(
      await withinASecond(async () => (await challengeTo(beside, tokens.access_token)) === challenges.revoked),
      `${what}: beside, too`,
    )
    for (const on of [app, beside]) {
      const refused = await refresh(on, tokens.refresh_token)
      t.equal(refused.statusCode, 400)
      t.equal(json(refused).error, 'invalid_grant')
    }
    if (what === 'sessions' || what === 'role') {
      t.equal((await logInAs(app, what)).statusCode, 200)
      continue
    }
    for (const on of [app, beside]) {
      const login = await logInAs(on, what)
      t.equal(login.statusCode, 400, `${what}: login`)
      t.equal(login.body, wrong.body, 'the same, byte by byte, as for a wrong password')
    }
    if (what === 'password') t.equal((await logInAs(beside, what, { password: otherPassword })).statusCode, 200)
    if (what !== 'disabled') continue
    t.match(json(await call('GET', `/admin/users/${id}`)), { disabled_at: String })
    await call('POST', `/admin/users/${id}/enable`)
    t.equal(json(await call('GET', `/admin/users/${id}`)).disabled_at, undefined)
    t.equal((await logInAs(beside, what)).statusCode, 200)
    t.equal((await refresh(app, tokens.refresh_token)).statusCode, 400, 'what was ended stays so')
  }
})

overStores('the sessions of a user are listed and ended, one or all', async (t, build) => {
  const { app, call, clock, adminId, logs } = await administered(build)
  const { id } = json(await signUp(app, 'ada'))
  const tokens: Tokens[] = []
  for (let n = 0; n < 5; n += 1) {
    clock.now += seconds
    tokens.push(await logIn(app, 'ada'))
  }
  const listed: { id: string; created_at: string }[] = []
  let url = `/admin/users/${id}/sessions?limit=2`
  for (;;) {
    const page = json(await call('GET', url))
    t.ok(page.sessions.length <= 2)
    listed.push(...page.sessions)
    if (!page.next_cursor) break
    url = `/admin/users/${id}/sessions?limit=2&cursor=${page.next_cursor}`
  }
  t.equal(new Set(listed.map(({ id }) => id)).size, 5)
  t.same(
    listed,
    [...listed].sort((a, b) => b.created_at.localeCompare(a.created_at)),
    'newest first',
  )
  t.match(listed[0], { client_id: 'first-party', address: '127.0.0.1', user_agent: String, last_used_at: String })
  for (const cursor of ['x', 'AAAA', Buffer.from('9999999999999/x').toString('base64url'), '']) {
    await isProblem(
      t,
      await call('GET', `/admin/users/${id}/sessions?cursor=${cursor}`),
      400,
      'invalid_request',
      `cursor ${cursor}`,
    )
  }
  t.equal((await call('DELETE', `/admin/sessions/${listed[0]?.id}`)).statusCode, 204)
  t.match(logs.at(-1), { event: 'session.ended', sub: id, sid: listed[0]?.id, by: adminId })
  t.equal((await call('DELETE', `/admin/sessions/${listed[0]?.id}`)).statusCode, 404)
  t.equal(await challengeTo(app, tokens[4]?.access_token ?? ''), challenges.revoked)
  t.ok(await isAccepted(app, tokens[3]?.access_token ?? ''))
  t.equal((await call('DELETE', `/admin/users/${id}/sessions`)).statusCode, 204)
  t.same(json(await call('GET', `/admin/users/${id}/sessions`)), { sessions: [] })
  t.notOk(await isAccepted(app, tokens[3]?.access_token ?? ''))
})

// Lists

const userNamed = (username: string, at: number): User => ({
  ...{
    id: randomUUID(),
    username,
    nameKey: username,
    passwordHash: '$argon2id$hash',
    roles: [],
    createdAt: at,
    generation: 0,
  },
})

overStores('a list is complete and has nobody twice, while users come and go', async (t, build) => {
  const { app, call, clock } = await administered(build)
  const names = Array.from({ length: 230 }, (_, i) => `u${String(i).padStart(3, '0')}`)
  const [kept, leaving] = [names.filter((_, i) => i % 10 !== 5), names.filter((_, i) => i % 10 === 5)]
  const rows = names.map((name) => userNamed(name, clock.now))
  await app.store.importRows('users', [...rows, userNamed('i\u0307stanbul', clock.now), userNamed('李小龍', clock.now)])
  for (const limit of [undefined, 1, 7, 100]) {
    const seen: string[] = []
    let cursor = ''
    do {
      const query = new URLSearchParams({ ...(limit && { limit: String(limit) }), ...(cursor && { cursor }) })
      const page = json(await call('GET', `/admin/users?${query}`))
      t.ok(page.users.length <= (limit ?? 100))
      seen.push(...page.users.map((user: { username: string }) => user.username))
      cursor = page.next_cursor
      if (limit !== 7) continue
      const gone = leaving.pop()
      if (gone)
        await storeOf(app).deleteUser(rows[names.indexOf(gone)]?.id ?? '', {
          now: clock.now,
          expiresAt: clock.now,
        } as End)
      await app.store.importRows('users', [userNamed(`n${leaving.length}`, clock.now)])
    } while (cursor)
    t.equal(new Set(seen).size, seen.length, `limit ${limit}: nobody twice`)
    for (const name of [...kept, 'root', '李小龍'])
      if (!seen.includes(name)) t.fail(`limit ${limit}: ${name} is missing`)
  }
})

overStores('a cursor that no page gave is 400, or the place in the order that it names', async (t, build) => {
  const { call } = await administered(build)
  await call('POST', '/admin/clients', { client_id: 'a' })
  const encode = (text: string | Buffer) => Buffer.from(text).toString('base64url')
  const bad = ['', 'x', '!', 'cm9vdA==', encode(''), encode('\0'), encode('a\0b'), encode(Buffer.from([0xff, 0xfe]))]
  for (const path of ['/admin/users', '/admin/clients']) {
    for (const cursor of [...bad, encode('x'.repeat(257)), 'A'.repeat(2000)]) {
      await isProblem(
        t,
        await call('GET', `${path}?cursor=${cursor}`),
        400,
        'invalid_request',
        `${path} ${cursor.slice(0, 20)}`,
      )
    }
    for (const text of [
      "'; DROP TABLE latchkey_users",
      '__proto__',
      '\x01\x02',
      '\uffff',
      '𐐀'.repeat(200),
      '%',
      '\\',
      'x'.repeat(256),
    ]) {
      t.equal((await call('GET', `${path}?cursor=${encode(text)}`)).statusCode, 200, JSON.stringify(text.slice(0, 20)))
    }
  }
})

overStores('no id does harm: what is none is 404', async (t, build) => {
  const { app, call } = await administered(build)
  const odd = [
    '__proto__',
    'constructor',
    'toString',
    '%00',
    '%2e%2e',
    '%2f',
    'x'.repeat(10_000),
    '%F0%9F%98%80',
    "'--",
    '*',
    '0',
    ' ',
  ]
  for (const id of [...odd, uuid, uuid.toUpperCase()].map((text) =>
    text.startsWith('%') ? text : encodeURIComponent(text),
  )) {
    for (const [method, url, body] of [
      ['GET', `/admin/users/${id}`],
      ['DELETE', `/admin/users/${id}`],
      ['POST', `/admin/users/${id}/disable`],
      ['POST', `/admin/users/${id}/enable`],
      ['PUT', `/admin/users/${id}/roles`, { roles: [] }],
      ['PUT', `/admin/users/${id}/password`, { password }],
      ['GET', `/admin/users/${id}/sessions`],
      ['DELETE', `/admin/users/${id}/sessions`],
      ['DELETE', `/admin/sessions/${id}`],
      ['GET', `/admin/clients/${id}`],
      ['DELETE', `/admin/clients/${id}`],
      ['POST', `/admin/clients/${id}/disable`],
      ['POST', `/admin/clients/${id}/enable`],
      ['POST', `/admin/clients/${id}/rotate-secret`],
      ['DELETE', `/admin/keys/${id}`],
    ] as const) {
      const { statusCode } = await call(method, url, body)
      // The test's own client takes dot segments out of a URL, as browsers do, and ends up elsewhere.
      const expected = id === '%2e%2e' ? [404, 405] : [404]
      t.ok(expected.includes(statusCode), `${method} ${url.slice(0, 60)}: ${statusCode}`)
    }
  }
  t.equal((await app.inject({ url: '/readyz' })).statusCode, 200)
})

// Clients

onOneStore('clients are made, shown and removed; a secret is in one answer, and no hash in any', async (t, build) => {
  const { app, call, answers, logs, adminId } = await administered(build)
  const full = {
    scopes: ['b', 'a'],
    audience: ['https://a.example'],
    introspect: 'all',
    grants: ['client_credentials', 'password'],
  }
  const made = await call('POST', '/admin/clients', { client_id: 'orders', ...full })
  t.equal(made.statusCode, 201)
  t.equal(made.headers['location'], '/admin/clients/orders')
  const { client_secret: secret, ...shown } = json(made)
  t.match(secret, /^lks_[\w-]{43}$/)
  t.match(shown, {
    client_id: 'orders',
    type: 'confidential',
    ...full,
    declared: false,
    created_at: String,
    secrets: [{ created_at: String }],
  })
  t.same(json(await call('GET', '/admin/clients/orders')), shown)
  t.same(json(await call('GET', '/admin/clients')), { clients: [shown] })
  await isProblem(
    t,
    await call('POST', '/admin/clients', { client_id: 'orders' }),
    409,
    'client_id_taken',
    'an id that is taken',
  )
  t.match(json(await call('GET', '/admin/clients/first-party')).detail, /built in/)

  const app1 = json(
    await call('POST', '/admin/clients', { client_id: 'app', type: 'public', grants: ['password', 'refresh_token'] }),
  )
  t.match(app1, { type: 'public', introspect: false, first_party: false, audience: [], scopes: [], secrets: [] })
  t.notOk('client_secret' in app1)
  const own = json(await call('POST', '/admin/clients', { client_id: 'own', type: 'public', first_party: true }))
  t.match(own, { first_party: true, grants: ['authorization_code', 'refresh_token'] })
  const plain = json(await call('POST', '/admin/clients', { client_id: 'plain', introspect: true }))
  t.match(plain, { type: 'confidential', grants: ['client_credentials'], introspect: true })
  t.same(json(await call('GET', '/admin/clients?limit=2')).clients.length, 2)

  const tokens: Tokens = json(await logInAs(app, 'root', { client_id: 'app' }))
  t.ok(await isAccepted(app, tokens.access_token))
  t.equal((await call('POST', '/admin/clients/app/disable')).statusCode, 204)
  t.match(json(await call('GET', '/admin/clients/app')), { disabled_at: String })
  t.equal(await challengeTo(app, tokens.access_token), challenges.revoked, 'tokens of users who came by it, too')
  t.equal((await logInAs(app, 'root', { client_id: 'app' })).statusCode, 401)
  t.equal((await call('POST', '/admin/clients/app/enable')).statusCode, 204)
  t.equal((await logInAs(app, 'root', { client_id: 'app' })).statusCode, 200)
  t.equal((await call('DELETE', '/admin/clients/orders')).statusCode, 204)
  t.equal((await call('GET', '/admin/clients/orders')).statusCode, 404)
  t.equal((await clientToken(app, 'orders', secret)).statusCode, 401)
  t.match(
    logs.filter(({ event }) => String(event).startsWith('client.')),
    ['orders', 'app', 'own', 'plain', 'app', 'app', 'orders'].map((client_id) => ({ client_id, by: adminId })),
  )
  const rotated = json(await call('POST', '/admin/clients/plain/rotate-secret')).client_secret
  for (const [what, text] of Object.entries({ secret, rotated, plain: plain.client_secret })) {
    t.equal(answers.filter(({ body }) => body.includes(text)).length, 1, `${what} is in one answer`)
  }
  t.notMatch(JSON.stringify(answers.map(({ body }) => body)), /argon2|sha256:|hmac:|"hash"|sealed|"d":/)
  t.notMatch(JSON.stringify(logs), /argon2|sha256:|lks_|lkr_|eyJ|correct horse/)
})

overStores('a client_id may be any visible ASCII, and its URL percent-encodes it', async (t, build) => {
  const { call } = await administered(build)
  const every = Array.from({ length: 94 }, (_, i) => String.fromCharCode(0x21 + i))
  const ids = [
    ...every.filter((c) => c !== '.'),
    every.join(''),
    'a%2Fb',
    '%00',
    '../x',
    'a/../b',
    '__proto__',
    'x'.repeat(128),
    '/'.repeat(128),
  ]
  for (const id of ids) {
    const made = await call('POST', '/admin/clients', { client_id: id })
    t.equal(made.statusCode, 201, id)
    const url = String(made.headers['location'])
    t.equal(json(await call('GET', url)).client_id, id, url)
    // Each character is in one of the long ones, too.
    if (id.length === 1) continue
    t.equal((await call('POST', `${url}/disable`)).statusCode, 204)
    t.equal((await call('POST', `${url}/rotate-secret`, { overlap_seconds: 1 })).statusCode, 200)
  }
  const seen: string[] = []
  let cursor = ''
  do {
    const page = json(await call('GET', `/admin/clients?limit=10${cursor && `&cursor=${cursor}`}`))
    seen.push(...page.clients.map((client: { client_id: string }) => client.client_id))
    cursor = page.next_cursor
  } while (cursor)
  t.same([...seen].sort(), [...ids].sort())
  for (const id of ids) t.equal((await call('DELETE', `/admin/clients/${encodeURIComponent(id)}`)).statusCode, 204, id)
})

onOneStore('a rotated secret: two are good for the overlap, and none of before after a leak', async (t, build) => {
  const { app, call, clock } = await administered(build, { AUTH_ACCESS_TTL: '30d' })
  const ask = async (secret: string) => (await clientToken(app, 'robot', secret)).statusCode
  const rotate = async (body?: object) =>
    json(await call('POST', '/admin/clients/robot/rotate-secret', body)).client_secret
  const { client_secret: first } = json(await call('POST', '/admin/clients', { client_id: 'robot', scopes: ['admin'] }))
  const second = await rotate()
  t.match(json(await call('GET', '/admin/clients/robot')).secrets, [{ created_at: String }, { expires_at: String }])
  t.same([await ask(first), await ask(second)], [200, 200])
  clock.now += 24 * 60 * minutes - 1
  t.same([await ask(first), await ask(second)], [200, 200], 'a day, when nobody says how long')
  clock.now += 1
  t.same([await ask(first), await ask(second)], [401, 200])
  t.equal(json(await call('GET', '/admin/clients/robot')).secrets.length, 1)
  const third = await rotate({ overlap_seconds: 60 })
  clock.now += 60 * seconds
  t.same([await ask(second), await ask(third)], [401, 200])

  const { access_token } = json(await clientToken(app, 'robot', third))
  const fourth = await rotate({ overlap_seconds: 0 })
  t.same([await ask(third), await ask(fourth)], [401, 200])
  t.equal((await withToken(app, access_token, { url: '/admin/keys' })).headers['www-authenticate'], challenges.revoked)
  await call('POST', '/admin/clients', { client_id: 'app', type: 'public', grants: ['password'] })
  await isProblem(t, await call('POST', '/admin/clients/app/rotate-secret'), 400, 'invalid_request', 'a public client')
})

onOneStore(
  'a declared client is shown as such and disabled, but neither deleted nor given a secret',
  async (t, build) => {
    const path = join(await newDir(t), 'clients.json')
    await writeFile(path, JSON.stringify([{ client_id: 'declared', client_secret: 'x'.repeat(40) }]))
    const { call } = await administered(build, { AUTH_CLIENTS_FILE: path })
    t.match(json(await call('GET', '/admin/clients/declared')), { declared: true })
    for (const [method, act] of [
      ['DELETE', ''],
      ['POST', '/rotate-secret'],
    ] as const) {
      const refused = await call(method, `/admin/clients/declared${act}`)
      await isProblem(t, refused, 400, 'invalid_request', `${method}${act}`)
      t.match(json(refused).detail, /AUTH_CLIENTS_FILE/)
    }
    t.equal((await call('POST', '/admin/clients/declared/disable')).statusCode, 204)
  },
)

// Keys

const kidOf = (token: string): string =>
  JSON.parse(Buffer.from(token.split('.')[0] as string, 'base64url').toString()).kid

overStores('the next signing key is made at a word, published, and signs ten minutes later', async (t, build) => {
  const test = await administered(build, { AUTH_PAGES: 'off' })
  const { app, call, clock, token, logs, adminId } = test
  const { app: beside } = await test.beside()
  const published = async () =>
    json(await app.inject({ url: '/.well-known/jwks.json' })).keys.map(({ kid }: { kid: string }) => kid)
  const [first] = json(await call('GET', '/admin/keys')).keys
  t.match(first, { kid: kidOf(token), alg: 'ES256', state: 'current', created_at: String, signs_from: String })
  const next = json(await call('POST', '/admin/keys/rotate'))
  t.match(next, { state: 'next', signs_from: new Date(clock.now + 10 * minutes).toISOString() })
  t.match(logs.at(-1), { event: 'key.rotated', kid: next.kid, by: adminId })
  t.same(json(await call('POST', '/admin/keys/rotate', {})), next, 'asked for again, it is the same one')
  t.same(await published(), [next.kid, first.kid])
  clock.now += 10 * minutes - 1
  t.equal(kidOf((await logIn(app, 'root')).access_token), first.kid)
  clock.now += 1
  const last = await logIn(app, 'root')
  t.equal(kidOf(last.access_token), next.kid)
  const { access_token } = json(await logInAs(app, 'root', { scope: 'admin' }))
  const asRoot = (method: 'GET' | 'DELETE', url: string) => withToken(app, access_token, { method, url })
  t.match(json(await asRoot('GET', '/admin/keys')).keys, [
    { state: 'current' },
    { kid: first.kid, state: 'previous', retires_at: String },
  ])
  t.ok(await withinASecond(() => isAccepted(beside, last.access_token)), 'beside, the new key is found')

  const old = await app.accessTokens.issue({ sub: 'x', client_id: 'x', aud: 'x', generations: { user: 0, client: 0 } })
  t.equal(kidOf(old), next.kid)
  t.equal((await asRoot('DELETE', `/admin/keys/${first.kid}`)).statusCode, 204)
  t.same(await published(), [next.kid])
  t.match(
    logs.filter(({ event }) => event === 'key.withdrawn'),
    [{ kid: first.kid, by: adminId }],
  )
  t.equal((await asRoot('DELETE', `/admin/keys/${first.kid}`)).statusCode, 204, 'asked for again, it is done')
  t.equal(logs.filter(({ event }) => event === 'key.withdrawn').length, 1)
  await isProblem(t, await asRoot('DELETE', '/admin/keys/unknown'), 404, 'not_found', 'one that never was')
})

overStores(
  'the key that signs is revoked: a new one signs at once, what the old one signed is refused everywhere, and nobody logs in again',
  async (t, build) => {
    const test = await administered(build)
    const { app, call, token, logs } = test
    const { app: beside } = await test.beside()
    await signUp(app, 'ada')
    const tokens = await logIn(app, 'ada')
    const stolen = kidOf(tokens.access_token)
    for (const on of [app, beside]) t.ok(await isAccepted(on, tokens.access_token))
    const { client_secret } = json(await call('POST', '/admin/clients', { client_id: 'api', introspect: true }))

    // Two administrators at once make one new key, not two.
    const revoke = (on: FastifyInstance) => withToken(on, token, { method: 'DELETE', url: `/admin/keys/${stolen}` })
    for (const { statusCode } of await Promise.all([revoke(app), revoke(beside), revoke(app)]))
      t.ok([204, 401].includes(statusCode), `${statusCode}: done, or the token of who asked is refused by then`)
    for (const on of [app, beside]) {
      t.ok(await withinASecond(async () => (await challengeTo(on, tokens.access_token)) === challenges.invalid))
      const asked = await postForm(on, '/introspect', { client_id: 'api', client_secret, token: tokens.access_token })
      t.same(json(asked), { active: false })
    }
    const { keys } = json(await app.inject({ url: '/.well-known/jwks.json' }))
    const jwks = keys.filter(({ alg }: { alg: string }) => alg === 'ES256')
    t.equal(jwks.length, 1)
    t.not(jwks[0].kid, stolen)
    t.match(logs.findLast(({ event }) => event === 'key.withdrawn') ?? { kid: stolen }, { kid: stolen })
    let { refresh_token } = tokens
    for (const on of [beside, app]) {
      const next: Tokens = json(await refresh(on, refresh_token))
      t.equal(kidOf(next.access_token), jwks[0].kid)
      t.ok(await isAccepted(on, next.access_token))
      refresh_token = next.refresh_token
    }
  },
)

overStores(
  'a leaked key: every access token is refused at once, beside within a second, and sessions go on',
  async (t, build) => {
    const test = await administered(build, { AUTH_PAGES: 'off' })
    const { app, call, token, clock } = test
    const { app: beside } = await test.beside()
    await call('POST', '/admin/keys/rotate')
    await signUp(app, 'ada')
    const tokens = await logIn(app, 'ada')
    for (const on of [app, beside])
      t.ok(await isAccepted(on, tokens.access_token), 'it has been seen by both, and is remembered')
    const forged = await app.accessTokens.issue({
      ...{ sub: randomUUID(), client_id: 'first-party', sid: randomUUID(), aud: test.config.AUTH_AUDIENCE },
      generations: { user: Number.MAX_SAFE_INTEGER, client: 0 },
    })

    const { client_secret } = json(await call('POST', '/admin/clients', { client_id: 'api', introspect: true }))
    const introspect = async (on: FastifyInstance, token: string) =>
      json(await postForm(on, '/introspect', { client_id: 'api', client_secret, token })).active
    for (const on of [app, beside]) t.equal(await introspect(on, tokens.access_token), true)

    clock.now += seconds
    const answer = await call('POST', '/admin/keys/rotate', { leaked: true })
    t.match(json(answer), { state: 'current', signs_from: new Date(clock.now).toISOString() })
    for (const bad of [tokens.access_token, token, forged]) t.equal(await challengeTo(app, bad), challenges.invalid)
    t.ok(
      await withinASecond(async () => (await challengeTo(beside, tokens.access_token)) === challenges.invalid),
      'beside',
    )
    for (const on of [app, beside]) t.equal(await introspect(on, tokens.access_token), false)
    for (const on of [app, beside]) {
      t.same(
        json(await on.inject({ url: '/.well-known/jwks.json' })).keys.map(({ kid }: { kid: string }) => kid),
        [json(answer).kid],
      )
    }
    const next: Tokens = json(await refresh(beside, tokens.refresh_token))
    t.equal(kidOf(next.access_token), json(answer).kid, 'the other process signs with the new key')
    for (const on of [app, beside]) t.ok(await isAccepted(on, next.access_token))
  },
)

onOneStore("the operator's own key is not rotated; the one before it can be revoked", async (t, build) => {
  const path = join(await newDir(t), 'key.pem')
  const writeKey = async () =>
    writeFile(path, await exportPKCS8((await generateKeyPair('ES256', { extractable: true })).privateKey))
  await writeKey()
  const first = await administered(build, { AUTH_SIGNING_KEY_FILE: path })
  for (const body of [{}, { leaked: true }]) {
    const refused = await first.call('POST', '/admin/keys/rotate', body)
    await isProblem(t, refused, 409, 'operators_key', JSON.stringify(body))
    t.match(json(refused).detail, /AUTH_SIGNING_KEY_FILE/)
  }
  const revoked = await first.call('DELETE', `/admin/keys/${kidOf(first.token)}`)
  await isProblem(t, revoked, 409, 'operators_key', 'it would be there again with the next start')
  await writeKey()
  const { app } = await first.restart()
  t.ok(await isAccepted(app, first.token))
  const { access_token } = json(await logInAs(app, 'root', { scope: 'admin' }))
  const withdrawn = await withToken(app, access_token, { method: 'DELETE', url: `/admin/keys/${kidOf(first.token)}` })
  t.equal(withdrawn.statusCode, 204)
  t.equal(await challengeTo(app, first.token), challenges.invalid)
  t.ok(await isAccepted(app, access_token))
})

onOneStore('while the store is away, /admin/ is 503 and changes nothing', async (t, build) => {
  const { app, call } = await administered(build)
  const { StoreUnavailable } = await import('../../stores/store.ts')
  const { findUser } = app.store
  app.store.findUser = async () => {
    throw new StoreUnavailable(new Error('away'))
  }
  await isProblem(
    t,
    await call('POST', '/admin/clients', { client_id: 'x' }),
    503,
    'store_unavailable',
    'no yes without the store',
  )
  app.store.findUser = findUser
  t.equal((await call('GET', '/admin/clients/x')).statusCode, 404)
})

onOneStore('a client with a grant that only a newer release knows is shown', async (t, build) => {
  const { app, call } = await administered(build)
  json(await call('POST', '/admin/clients', { client_id: 'orders' }))
  const [orders] = (await app.store.exportRows('clients', { limit: 1 })).rows as Client[]
  const grants = ['urn:ietf:params:oauth:grant-type:token-exchange']
  await app.store.importRows('clients', [{ ...(orders as Client), id: 'newer', grants }])
  t.match(json(await call('GET', '/admin/clients')).clients, [{ client_id: 'newer', grants }, { client_id: 'orders' }])
  t.same(json(await call('GET', '/admin/clients/newer')).grants, grants)
})
