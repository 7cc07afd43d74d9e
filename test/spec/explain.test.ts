import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import t from 'tap'
import type { CheckName } from '../../domain/checks.ts'
import { deviceGrant } from '../../domain/grant.ts'
import { type ErrorCode, errorCodes } from '../../errors.ts'
import { createRecentRefusals } from '../../plugins/run/recent-refusals.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { openBrowser } from '../support/browser.ts'
import { basic, callerFrom, makeClient } from '../support/client-helper.ts'
import { codesOf, decide, letExpire, makeDeviceClient, poll } from '../support/devices.ts'
import {
  begin,
  challenge,
  codeOf,
  giveRecoveryCodes,
  giveTotp,
  leavePasskeyAlone,
  wrongCode,
} from '../support/factors.ts'
import {
  type Build,
  json,
  listen,
  newDir,
  onOneStore,
  overStores,
  password,
  postForm,
  type Scope,
  sendRaw,
  signUp,
  storeOf,
  withToken,
} from '../support/helper.ts'
import { mailsInto } from '../support/mail.ts'

/* Why a request was refused, by its x-request-id: docs/explain.md. */

const wrong = 'wrong horse battery staple'
const idOf = ({ headers }: LightMyRequestResponse) => String(headers['x-request-id'])
const tryLogIn = (app: FastifyInstance, username: string, secret: string, options: InjectOptions = {}) =>
  postForm(app, '/token', { username, password: secret }, options)

/** The service with an administrator. @returns what asks why, as it */
async function administered(build: Build, settings: Record<string, string> = {}) {
  const test = await build(settings)
  const { app } = test
  const root = await app.users.signUp(callerFrom('198.51.100.1', app.log), {
    username: 'root',
    password,
    roles: ['admin'],
  })
  const answer = await postForm(app, '/token', { username: 'root', password, scope: 'admin' })
  const { access_token: token } = json(answer)
  return {
    ...test,
    rootId: root.id,
    token,
    ask: (id: string, of = app) => withToken(of, token, { url: `/admin/explain/${id}` }),
  }
}

/** A private key of the operator's own, so that `operators_key` can be provoked. */
async function keyFile(t: Scope): Promise<string> {
  const path = join(await newDir(t), 'key.pem')
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await writeFile(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  return path
}

/** Has a method of the store fail while a request is made. */
async function during<T>(
  app: FastifyInstance,
  method: 'findUser' | 'findUserByName',
  error: Error,
  call: () => Promise<T>,
) {
  const store = storeOf(app)
  const works = store[method]
  store[method] = () => Promise.reject(error)
  try {
    return await call()
  } finally {
    store[method] = works as never
  }
}

onOneStore('for each error that there is, an administrator is told which check failed', async (t, build) => {
  const settings = {
    AUTH_SIGNUP: 'closed',
    ...(await mailsInto(t)),
    AUTH_SIGNING_KEY_FILE: await keyFile(t),
    AUTH_HASH_CONCURRENCY: '1',
    AUTH_HASH_MAX_WAIT: '1s',
  }
  const { app, token, rootId, ask } = await administered(build, settings)
  const origin = await listen(app)
  const secrets = [password, wrong, token]
  const asRoot = (method: string, url: string, payload?: object) =>
    withToken(app, token, { method: method as 'GET', url, ...(payload && { payload }) })
  const raw = async (text: string) => /x-request-id: (\S+)/i.exec(await sendRaw(origin, text))?.[1] ?? ''
  const post = (url: string, payload: string | object, headers = {}) =>
    app.inject({ method: 'POST', url, payload, headers: { 'content-type': 'application/json', ...headers } })
  const machine = await makeClient(app, { id: 'machine', scopes: ['read'], audience: ['https://api.example'] })
  secrets.push(machine.secret)
  const { access_token: ofMachine } = json(
    await postForm(app, '/token', { grant_type: 'client_credentials', resource: '' }, basic(machine)),
  )
  const ofService = await makeClient(app, { id: 'service' })
  const { access_token: forUs } = json(
    await postForm(app, '/token', { grant_type: 'client_credentials' }, basic(ofService)),
  )
  secrets.push(ofMachine, forUs)

  await makeDeviceClient(app)
  async function signedIn(username: string): Promise<string> {
    await app.users.signUp(callerFrom('198.51.100.1', app.log), { username, password })
    const { access_token } = json(await tryLogIn(app, username, password))
    secrets.push(access_token)
    return access_token
  }

  const redirectUri = 'https://app.example/callback'
  await makeClient(app, { id: 'web', type: 'public', grants: ['authorization_code'], redirectUris: [redirectUri] })
  const browser = openBrowser(app)
  const challenged = { code_challenge: 'x'.repeat(43), code_challenge_method: 'S256' }
  const authorize = (more: Record<string, string>) =>
    `/authorize?${new URLSearchParams({ client_id: 'web', redirect_uri: redirectUri, response_type: 'code', ...challenged, ...more })}`

  type Provoke = () => Promise<LightMyRequestResponse | string>
  /** how each is provoked, the check that decides, and its limit and setting where there are such */
  const table: Record<ErrorCode, [Provoke, CheckName, limit?: string | number | undefined, setting?: string]> = {
    malformed_request: [() => raw('GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'), 'message'],
    malformed_body: [() => post('/signup', '{"username"'), 'body'],
    malformed_url: [() => app.inject('/livez?a=%zz'), 'url'],
    invalid_request: [() => post('/signup', { username: 'x' }), 'parameters'],
    refused: [() => raw('GET /docs/static/%2e%2e/%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n'), 'server_part'],
    unsupported_grant_type: [
      () => postForm(app, '/token', { grant_type: 'implicit' }),
      'grant_type',
      `password, refresh_token, authorization_code, client_credentials, ${deviceGrant}`,
    ],
    unauthorized_client: [
      () => postForm(app, '/token', { grant_type: 'client_credentials' }),
      'client_grants',
      'password, refresh_token, authorization_code',
    ],
    invalid_grant: [() => tryLogIn(app, 'root', wrong), 'password'],
    insufficient_authorization: [
      async () => {
        await app.users.signUp(callerFrom('198.51.100.1', app.log), { username: 'flora', password })
        secrets.push((await giveTotp(app, 'flora')).secret)
        return begin(app, 'flora')
      },
      'second_factor',
      'totp',
    ],
    invalid_session: [() => challenge(app, { auth_session: 'lka_x', otp: '123456' }), 'auth_session'],
    unmet_authentication_requirements: [
      () => challenge(app, { username: 'root', password, acr_values: 'urn:example:gold' }),
      'second_factor',
    ],
    authorization_pending: [async () => poll(app, await codesOf(app)), 'device_code'],
    slow_down: [
      async () => {
        const codes = await codesOf(app)
        await poll(app, codes)
        return poll(app, codes)
      },
      'device_code',
    ],
    expired_token: [
      async () => {
        const codes = await codesOf(app)
        await letExpire(app, codes)
        return poll(app, codes)
      },
      'device_code',
    ],
    device_refused: [
      async () => {
        const codes = await codesOf(app)
        await decide(app, codes, 'refuse', 'root')
        return poll(app, codes)
      },
      'device_code',
    ],
    invalid_code: [() => post('/email/verify', { token: 'lkv_x' }), 'mail_link'],
    unsupported_response_type: [() => browser.open(authorize({ response_type: 'token' })), 'response_type', 'code'],
    request_not_supported: [() => browser.open(authorize({ request: 'e30.e30.' })), 'authorization_request'],
    request_uri_not_supported: [
      () => browser.open(authorize({ request_uri: 'https://app.example/request' })),
      'authorization_request',
    ],
    login_required: [
      () => browser.open(authorize({ prompt: 'none' })),
      'browser_session',
      undefined,
      'AUTH_BROWSER_IDLE_TTL',
    ],
    consent_required: [
      async () => {
        await app.users.signUp(callerFrom('198.51.100.1', app.log), { username: 'ines', password })
        await browser.signIn('ines')
        return browser.open(authorize({ prompt: 'none' }))
      },
      'consent',
    ],
    access_denied: [
      async () => browser.submit(await browser.open(authorize({})), { decision: 'deny' }, '/consent'),
      'consent',
    ],
    interaction_required: [
      async () => {
        secrets.push((await giveTotp(app, 'ines')).secret)
        return browser.open(authorize({ prompt: 'none' }))
      },
      'browser_session',
      undefined,
      'AUTH_BROWSER_IDLE_TTL',
    ],
    invalid_scope: [
      () => postForm(app, '/token', { grant_type: 'client_credentials', scope: 'write' }, basic(machine)),
      'client_scopes',
      'read',
    ],
    invalid_target: [
      () =>
        postForm(app, '/token', { grant_type: 'client_credentials', resource: 'https://x.example' }, basic(machine)),
      'client_audience',
      'https://api.example',
    ],
    invalid_client: [() => postForm(app, '/revoke', { token: 'x' }, basic({ id: 'machine', secret: wrong })), 'client'],
    missing_token: [() => app.inject('/users/me'), 'bearer_token'],
    invalid_token: [
      () => withToken(app, ofMachine, { url: '/users/me' }),
      'audience',
      'http://localhost:3000',
      'AUTH_AUDIENCE',
    ],
    insufficient_user_authentication: [
      () => withToken(app, token, { url: '/verify?acr=urn:latchkey:acr:2' }),
      'sign_in_level',
      'urn:latchkey:acr:2',
    ],
    insufficient_scope: [() => withToken(app, token, { url: '/verify?scope=read' }), 'scope', 'read'],
    users_only: [() => withToken(app, forUs, { url: '/users/me' }), 'user_token'],
    read_only_token: [
      async () => {
        const { id } = await app.users.signUp(callerFrom('198.51.100.1', app.log), { username: 'bob', password })
        const { access_token } = json(await asRoot('POST', `/admin/users/${id}/token`))
        secrets.push(access_token)
        return withToken(app, access_token, { method: 'POST', url: '/logout' })
      },
      'user_token',
    ],
    administrator_account: [() => asRoot('POST', `/admin/users/${rootId}/token`), 'account'],
    user_disabled: [
      async () => {
        const { id } = await app.users.signUp(callerFrom('198.51.100.1', app.log), { username: 'carol', password })
        await asRoot('POST', `/admin/users/${id}/disable`)
        return asRoot('POST', `/admin/users/${id}/token`)
      },
      'account',
    ],
    may_not_introspect: [
      () => postForm(app, '/introspect', { token: 'x' }, basic(machine)),
      'client_introspect',
      'own or all',
    ],
    signup_closed: [() => signUp(app, 'eve'), 'signup', undefined, 'AUTH_SIGNUP'],
    foreign_form: [
      () => postForm(app, '/sign-up', {}, { headers: { 'sec-fetch-site': 'cross-site' } }),
      'form_origin',
      'same-origin',
      'AUTH_ISSUER',
    ],
    wrong_password: [() => asRoot('DELETE', '/users/me', { password: wrong }), 'password'],
    not_found: [() => asRoot('GET', `/admin/users/${randomUUID()}`), 'look_up'],
    method_not_allowed: [() => app.inject({ method: 'DELETE', url: '/livez' }), 'method', 'GET, HEAD'],
    request_timeout: [
      () => {
        Object.assign(app.server, { requestTimeout: 400, headersTimeout: 400 })
        return raw('GET /livez HTTP/1.1\r\n')
      },
      'arrival_seconds',
      0.4,
    ],
    username_taken: [() => asRoot('POST', '/admin/users', { username: 'ROOT', password }), 'username'],
    email_taken: [
      async () => {
        await asRoot('PATCH', `/admin/users/${rootId}`, { email: 'root@example.com', email_verified: true })
        const { id } = json(await asRoot('POST', '/admin/users', { username: 'dan', password }))
        return asRoot('PATCH', `/admin/users/${id}`, { email: 'root@example.com', email_verified: true })
      },
      'email',
    ],
    too_many_factors: [
      async () => {
        const of = await signedIn('gina')
        for (let n = 0; n < 20; n++) await giveRecoveryCodes(app, 'gina')
        return withToken(app, of, { method: 'POST', url: '/users/me/factors/totp' })
      },
      'second_factor',
      20,
    ],
    last_factor: [
      async () => {
        const of = await signedIn('hugo')
        const passkey = await leavePasskeyAlone(app, of)
        return withToken(app, of, { method: 'DELETE', url: `/users/me/factors/${passkey}` })
      },
      'password',
    ],
    client_id_taken: [() => asRoot('POST', '/admin/clients', { client_id: 'machine' }), 'client_id'],
    own_account: [() => asRoot('POST', `/admin/users/${rootId}/disable`), 'own_access'],
    operators_key: [() => asRoot('POST', '/admin/keys/rotate', {}), 'signing_key', undefined, 'AUTH_SIGNING_KEY_FILE'],
    body_too_large: [() => post('/signup', 'x'.repeat(17_000)), 'body_bytes', 16_384],
    unsupported_media_type: [
      () => post('/signup', 'x', { 'content-type': 'text/plain' }),
      'content_type',
      'application/json',
    ],
    unsupported_encoding: [() => post('/signup', 'x', { 'content-encoding': 'gzip' }), 'content_encoding', 'identity'],
    too_many_failures: [
      async () => {
        for (let n = 0; n < 10; n++) await tryLogIn(app, 'eve', wrong)
        return tryLogIn(app, 'eve', wrong)
      },
      'failures_from_network',
      10,
      'AUTH_THROTTLE',
    ],
    too_many_requests: [
      async () => {
        const ask = () => post('/password/forgot', { username: 'eve' })
        for (let n = 0; n < 20; n++) await ask()
        return ask()
      },
      'mails_asked_for',
      20,
      'AUTH_THROTTLE',
    ],
    header_too_large: [
      () => raw(`GET /livez HTTP/1.1\r\nHost: a\r\nx: ${'x'.repeat(17_000)}\r\n\r\n`),
      'header_bytes',
      16_384,
    ],
    internal_error: [
      () => during(app, 'findUser', new RangeError(wrong), () => asRoot('GET', `/admin/users/${randomUUID()}`)),
      'program',
    ],
    overloaded: [
      async () => {
        let release = (_: never) => {}
        const caller = callerFrom('198.51.100.9', app.log)
        const holding = app.hashing.verify(
          caller,
          undefined,
          wrong,
          () => new Promise<never>((done) => (release = done)),
        )
        const answer = await tryLogIn(app, 'root', password)
        release(false as never)
        await holding
        return answer
      },
      'hash_wait_seconds',
      1,
      'AUTH_HASH_MAX_WAIT',
    ],
    store_unavailable: [
      () => during(app, 'findUserByName', new StoreUnavailable(new Error(wrong)), () => tryLogIn(app, 'root', wrong)),
      'store',
      undefined,
      'AUTH_DATA_DIR',
    ],
    draining: [
      () => {
        app.drain.begin()
        return app.inject('/readyz')
      },
      'shutdown',
      undefined,
      'AUTH_SHUTDOWN_GRACE',
    ],
  }
  t.same(Object.keys(table).sort(), [...errorCodes].sort())

  for (const [code, [provoke, name, limit, setting]] of Object.entries(table)) {
    const refused = await provoke()
    const id = typeof refused === 'string' ? refused : idOf(refused)
    const answer = await ask(id)
    const { request_id, at, route, status, checks, code: told, ...rest } = json(answer)
    if (answer.statusCode !== 200) t.fail(`${code}: ${answer.body}`)
    t.same([told, request_id, rest], [code, id, {}])
    // What goes back to an app by the browser is a redirect.
    if (typeof refused !== 'string' && refused.statusCode !== 303) t.equal(status, refused.statusCode, code)
    t.match({ at, route }, { at: /^\d{4}-.*Z$/, route: /^\(no request\)$|^[A-Z]+ (\/[\w/:.*-]*|\(no route\))$/ }, code)
    const [first] = checks
    t.same([first.name, first.limit, first.setting], [name, limit, setting], `${code}: ${JSON.stringify(checks)}`)
    t.ok(first.seen === 0 || first.seen, code)
    t.notOk(
      secrets.some((secret) => answer.body.includes(secret)),
      `${code}: nothing secret`,
    )
  }
})

/** The rows of refusals in the store of an app. */
const storedBy = async (app: FastifyInstance) =>
  (await app.store.exportRows('records', { limit: 2_000 })).rows.filter(({ kind }) => kind === 'refusal')

overStores('failed logins, 403, 409, 429 and 5xx are kept in the store for a while', async (t, build) => {
  const first = await administered(build, {
    AUTH_EXPLAIN_RETENTION: '30m',
    AUTH_SIGNUP: 'closed',
    AUTH_ACCESS_TTL: '1h',
  })
  const { app, clock, token } = first
  const stored: Record<string, LightMyRequestResponse> = {
    'an unknown user': await tryLogIn(app, 'zoltan', wrong),
    'a wrong password': await tryLogIn(app, 'root', wrong),
    'a 403': await signUp(app, 'eve'),
    'a 409': await withToken(app, token, {
      method: 'POST',
      url: '/admin/users',
      payload: { username: 'root', password },
    }),
    'a 500': await during(app, 'findUser', new Error('x'), () =>
      withToken(app, token, { url: `/admin/users/${first.rootId}` }),
    ),
    'a 503': await during(app, 'findUserByName', new StoreUnavailable(new Error('x')), () =>
      tryLogIn(app, 'ada', wrong),
    ),
  }
  t.equal(stored['an unknown user']?.body, stored['a wrong password']?.body, 'what the client gets tells nothing')
  const inMemory = [await app.inject('/users/me'), await postForm(app, '/token', {}), await app.inject('/nothing')]
  for (const refused of [...Object.values(stored), ...inMemory])
    t.equal((await first.ask(idOf(refused))).statusCode, 200, 'at once, by the process itself')

  const { app: again } = await first.restart()
  for (const [what, refused] of Object.entries(stored)) {
    const told = await first.ask(idOf(refused), again)
    t.match(
      json(told),
      { request_id: idOf(refused), status: refused.statusCode, checks: [{}] },
      `${what}, at the end too`,
    )
  }
  const seen = async (what: string) =>
    json(await first.ask(idOf(stored[what] as LightMyRequestResponse), again)).checks[0]
  t.same(await seen('an unknown user'), { name: 'account', seen: 'unknown user' })
  t.same(await seen('a wrong password'), { name: 'password', seen: 'wrong password' })
  for (const refused of inMemory) t.equal((await first.ask(idOf(refused), again)).statusCode, 404)
  t.notMatch(
    JSON.stringify(await storedBy(again)),
    new RegExp(`${wrong}|zoltan|127\\.0\\.0\\.1"|root"`),
    'no name, no address',
  )

  clock.now += 30 * 60_000
  clock.passedMs = 30 * 60_000
  await again.revocations.poll()
  for (const refused of Object.values(stored)) t.equal((await first.ask(idOf(refused), again)).statusCode, 404)
  await again.sweeper.round()
  t.same(await storedBy(again), [], 'and is swept')
})

onOneStore('why a second factor was wrong is kept as well, and says whether a clock is', async (t, build) => {
  const test = await administered(build)
  const { app, clock, ask } = test
  const { id } = json(await signUp(app, 'flora'))
  const { secret } = await giveTotp(app, 'flora')
  const [recoveryCode] = await giveRecoveryCodes(app, 'flora')
  const fresh = async () => json(await begin(app, 'flora')).auth_session
  const show = async (fields: object) => challenge(app, { auth_session: await fresh(), ...fields })
  const otp = codeOf(secret, clock.now)
  t.equal((await show({ otp })).statusCode, 200)
  const refused: [seen: string, answer: LightMyRequestResponse][] = [
    ['wrong code', await show({ otp: wrongCode(secret, clock.now) })],
    ['a code that was used before', await show({ otp })],
    [
      'a code of 120 s ago: by a clock that is wrong, or typed late',
      await show({ otp: codeOf(secret, clock.now, -4) }),
    ],
    [
      'a code of 300 s ahead: by a clock that is wrong, or typed late',
      await show({ otp: codeOf(secret, clock.now, 10) }),
    ],
    ['wrong recovery code', await show({ recovery_code: `${recoveryCode}x` })],
    ['wrong passkey: none was asked for', await show({ webauthn: '{}' })],
  ]
  const { app: again } = await test.restart()
  for (const [seen, answer] of refused) {
    t.equal(json(answer).error, 'insufficient_authorization')
    t.notMatch(answer.body, /ago|ahead|before/, 'the client is not told')
    const told = await ask(idOf(answer), again)
    const [factor, account, ofSession, ...counted] = json(told).checks
    t.same(factor, { name: 'second_factor', seen, limit: 'totp, recovery_code' })
    t.same(account, { name: 'account', seen: `user ${id}` })
    t.same(ofSession, { name: 'auth_session', seen: '1 wrong so far', limit: 5 })
    const isCounted = !seen.startsWith('wrong passkey')
    t.equal(
      counted.some(({ name }: { name: string }) => name === 'failures_from_network'),
      isCounted,
      seen,
    )
    t.notMatch(told.body, new RegExp(`${otp}|${recoveryCode}`))
  }
})

onOneStore('the id is one of ours, whatever a client sends', async (t, build) => {
  const { app, ask } = await administered(build)
  const id = randomUUID()
  const refused = await Promise.all(
    ['/users/me', '/nothing'].map((url) => app.inject({ url, headers: { 'x-request-id': id, 'request-id': id } })),
  )
  t.equal(new Set([id, ...refused.map(idOf)]).size, 3)
  t.equal((await ask(id)).statusCode, 404)
  for (const text of ['x', '%00', 'a'.repeat(128), '__proto__', `${id}%0a`])
    t.equal((await ask(text)).statusCode, 404, text)
  t.match(json(await ask(idOf(refused[0] as LightMyRequestResponse).toUpperCase())), { code: 'missing_token' })
  t.equal((await app.inject(`/admin/explain/${refused.map(idOf)[0]}`)).statusCode, 401, 'for administrators')
})

onOneStore('a storm of refusals fills no store, and one network leaves room for the others', async (t, build) => {
  const settings = { AUTH_SIGNUP: 'closed', AUTH_TRUSTED_PROXIES: '127.0.0.1', LOG_LEVEL: 'silent' }
  const { app, clock, ask } = await administered(build, settings)
  const refusedFrom = async (address: string, times: number) => {
    const ids: string[] = []
    const headers = { 'x-forwarded-for': address }
    for (let n = 0; n < times; n++)
      ids.push(
        idOf(await app.inject({ method: 'POST', url: '/signup', headers, payload: { username: 'eve', password } })),
      )
    return ids
  }
  const first = await refusedFrom('203.0.113.7', 400)
  const second = await refusedFrom('198.51.100.7', 200)
  const third = await refusedFrom('192.0.2.7', 150)
  for (const ids of [first, second, third])
    for (const id of [ids[0], ids.at(-1)])
      t.equal((await ask(id as string)).statusCode, 200, 'in memory, where not in the store')
  clock.passedMs = 60_000
  const [later] = await refusedFrom('203.0.113.7', 1)
  await app.explanations.close()
  const rows = (await storedBy(app)).map(({ id }) => id)
  const of = (ids: string[]) => ids.filter((id) => rows.includes(id)).length
  t.same([of(first), of(second), of(third)], [300, 200, 100])
  t.ok(rows.includes(later as string), 'in the next minute there is room again')
})

onOneStore('nobody can have much kept: what is looked at is cut short', async (t, build) => {
  const { app, token, ask } = await administered(build)
  const long = 'x'.repeat(4_000)
  const routes = [`scope=${long}`, `role=${long}`, `audience=${long}`, `${long}=1`].map((query) => `/verify?${query}`)
  const refused = await Promise.all([
    ...routes.map((url) => withToken(app, token, { url })),
    app.inject({ url: `/${long}`, headers: { 'user-agent': long } }),
    app.inject({
      method: 'OPTIONS',
      url: '/token',
      headers: { origin: long, 'access-control-request-method': 'POST' },
    }),
    postForm(app, '/token', { grant_type: long, username: long, password: long }),
    postForm(app, '/token', { username: 'root', password, scope: long, resource: long }),
    app.inject({ method: 'POST', url: '/signup', headers: { 'content-type': long }, payload: 'x' }),
    app.inject({ method: 'POST', url: '/signup', payload: { [long]: long } }),
  ])
  for (const answer of refused) {
    const { body, statusCode } = await ask(idOf(answer))
    t.ok(statusCode === 200 && body.length < 2_048, body)
  }
})

onOneStore('what the store does not take is tried again', async (t, build) => {
  const first = await administered(build, { AUTH_SIGNUP: 'closed' })
  const store = storeOf(first.app)
  const { importRows } = store
  store.importRows = () => Promise.reject(new StoreUnavailable(new Error('x')))
  const refused = await signUp(first.app, 'eve')
  while (!first.logs.some(({ msg }) => /could not be stored/.test(String(msg)))) await sleep(20)
  t.equal((await first.ask(idOf(refused))).statusCode, 200)
  store.importRows = importRows
  const { app } = await first.restart()
  t.match(json(await first.ask(idOf(refused), app)), { code: 'signup_closed' })
})

t.test('memory is bounded, and a network with more than its share makes room for itself', async (t) => {
  const recent = createRecentRefusals(10, 4)
  const add = (network: string, ...ids: string[]) => {
    for (const id of ids) recent.add(network, { requestId: id, at: 0, data: '{}' })
  }
  const has = (...ids: string[]) => ids.map((id) => recent.find(id) !== undefined)
  add('quiet', 'q1')
  add('a person', 'p1', 'p2')
  add('a flood', ...Array.from({ length: 100 }, (_, n) => `f${n}`))
  t.equal(recent.size, 10)
  t.same(has('q1', 'p1', 'p2', 'f92', 'f93', 'f99'), [true, true, true, false, true, true])
  add('a person', 'p3')
  t.same(has('q1', 'p1', 'p3'), [false, true, true], 'the one that was quiet for longest makes room')
  for (let n = 0; n < 100; n++) add(`network ${n}`, `n${n}`)
  t.equal(recent.size, 10)
  t.same(has('p3', 'f99', 'n90', 'n99'), [false, false, true, true])
})
