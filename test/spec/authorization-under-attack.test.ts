import { createHmac, createPublicKey, type JsonWebKey } from 'node:crypto'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { Client } from '../../domain/client.ts'
import { createVerifier } from '../../verify/index.ts'
import { answerOf, behind, type Opened, openBrowser } from '../support/browser.ts'
import { basic, type Credentials, introspect, isOAuthError, makeClient } from '../support/client-helper.ts'
import { codesOf, makeDeviceClient, poll } from '../support/devices.ts'
import { challengeOfVerifier } from '../support/factors.ts'
import {
  type Build,
  isAccepted,
  json,
  listen,
  onOneApp,
  overStores,
  postForm,
  sendRaw,
  signUp,
  storeOf,
  type TestApp,
  withToken,
} from '../support/helper.ts'
import { said } from '../support/sign-outs.ts'

/* Signing in in the browser, and what apps get of it, under attack. What one route refuses is in its own file. */

const redirectUri = 'https://app.example/callback'
const verifier = 'v'.repeat(43)
const pkce = { code_challenge: challengeOfVerifier(verifier), code_challenge_method: 'S256' }
const request = { redirect_uri: redirectUri, response_type: 'code', scope: 'openid', ...pkce }

const urlFor = (parameters: Record<string, string> = {}, client_id = 'app') =>
  `/authorize?${new URLSearchParams({ client_id, ...request, state: 'xyz', ...parameters })}`
const grantOf = (code: string | undefined) => ({
  ...{ grant_type: 'authorization_code', code: code ?? 'none', code_verifier: verifier, redirect_uri: redirectUri },
})

const makeApp = (app: FastifyInstance, more: Partial<Client> = {}): Promise<Credentials> =>
  makeClient(app, {
    ...{ id: 'app', grants: ['authorization_code', 'refresh_token'], scopes: ['files:read'] },
    ...{ redirectUris: [redirectUri], consent: 'implicit', ...more },
  })

const trade = (app: FastifyInstance, client: Credentials, code: string | undefined) =>
  postForm(app, '/token', grantOf(code), basic(client))

const userNamed = async (app: FastifyInstance, name = 'ada') => {
  const user = await storeOf(app).findUserByName(name)
  if (!user) throw new Error(`no user ${name}`)
  return user
}
const callerOf = (app: FastifyInstance) => ({ log: app.log }) as never

const isPage = ({ statusCode, headers }: LightMyRequestResponse) => statusCode < 500 && headers.location === undefined

/** Ada, signed in in a browser. */
async function signedIn(app: FastifyInstance) {
  const browser = openBrowser(app)
  await browser.signIn('ada')
  return browser
}

/* Several at once, over two replicas and their sockets. */

type Form = Record<string, string>

/** @returns sends a form to one replica or the other */
async function serveTwice(build: Build) {
  const test = await build({ AUTH_THROTTLE: 'off' })
  const { app: beside } = await test.beside()
  await signUp(test.app)
  const origins = [await listen(test.app), await listen(beside)] as const
  const at = (i: number) => origins[i % 2] as string
  async function post(i: number, client: Credentials, form: Form): Promise<{ status: number; body: Form }> {
    const body = new URLSearchParams(form)
    const answer = await fetch(`${at(i)}/token`, { method: 'POST', body, headers: basic(client).headers })
    return { status: answer.status, body: (await answer.json()) as Form }
  }
  const browser = openBrowser(behind(at(0)))
  await browser.signIn('ada')
  const codeFor = async (id?: string) => answerOf(await browser.request('GET', urlFor({}, id)))['code'] as string
  const refresh = (i: number, client: Credentials, { refresh_token = '' }: Form) =>
    post(i, client, { grant_type: 'refresh_token', refresh_token })
  return { ...test, beside, at, post, refresh, browser, codeFor }
}

overStores('over two replicas a code is good once, and who has signed out has signed out', async (t, build) => {
  const { app, beside, post, refresh, browser, codeFor } = await serveTwice(build)
  const client = await makeApp(app)
  /** At neither replica, in neither way. */
  async function areDead(tokens: Form, what: string): Promise<void> {
    t.equal((await refresh(1, client, tokens)).body['error'], 'invalid_grant', what)
    for (const one of [app, beside]) {
      await one.revocations.pull()
      t.notOk(await isAccepted(one, tokens['access_token'] as string), what)
    }
  }

  const code = await codeFor()
  const all = await Promise.all(Array.from({ length: 100 }, (_, i) => post(i, client, grantOf(code))))
  const good = all.filter(({ status }) => status === 200)
  t.ok(good.length <= 1, `${good.length} of a hundred at once`)
  // A store that has too much to do says so.
  const refused = ['invalid_grant', 'temporarily_unavailable']
  t.same(
    all.filter(({ status, body }) => status !== 200 && !refused.includes(body['error'] as string)),
    [],
  )
  for (const { body } of good) await areDead(body, 'the others have ended what it gave')

  for (let round = 0; round < 3; round++) {
    if (round > 0) await browser.signIn('ada')
    const first = (await post(round, client, grantOf(await codeFor()))).body
    const codes = [await codeFor(), await codeFor(), await codeFor()]
    const page = await browser.open('/sign-out')
    const [, ...answers] = await Promise.all([
      browser.submit(page, {}, '/sign-out'),
      ...codes.map((code, i) => post(i, client, grantOf(code))),
      ...codes.map((_, i) => refresh(i, client, first)),
    ])
    const given = answers.filter(({ status }) => status === 200).map(({ body }) => body)
    for (const tokens of [first, ...given]) await areDead(tokens, `signed out, while ${given.length} were given`)
  }
})

overStores('what a user has taken back gives nothing, not even a code that is on its way', async (t, build) => {
  const { app, post, refresh, browser } = await serveTwice(build)
  const client = await makeApp(app, { consent: 'ask' })
  const { id } = await userNamed(app)
  const withdraw = (clientId = client.id) => app.consents.withdraw(callerOf(app), id, clientId)
  const allow = async () => answerOf(await browser.submit(await browser.open(urlFor()), { decision: 'allow' }))['code']

  const late = await allow()
  await withdraw()
  isOAuthError(t, await trade(app, client, late), 400, 'invalid_grant')
  for (let round = 0; round < 3; round++) {
    const code = await allow()
    const [{ body }] = await Promise.all([post(round, client, grantOf(code)), withdraw()])
    const again = body['refresh_token'] === undefined ? body : (await refresh(round, client, body)).body
    t.equal(again['error'], 'invalid_grant', 'at once')
  }
  t.equal((await trade(app, client, await allow())).statusCode, 200, 'and may be allowed again')

  // Whoever has talked a user into it does not ask before the user has seen what it was.
  await makeDeviceClient(app, { consent: 'implicit' })
  const codes = await codesOf(app)
  t.match(await browser.submit(await browser.open(codes.verification_uri_complete), { decision: 'allow' }), {
    statusCode: 200,
  })
  t.equal(await withdraw('cli'), true)
  isOAuthError(t, await poll(app, codes), 400, 'invalid_grant')
})

/* One at a time. */

async function serve(build: Build): Promise<TestApp & { client: Credentials; origin: string }> {
  const test = await build({ AUTH_THROTTLE: 'off' })
  const client = await makeApp(test.app)
  await signUp(test.app)
  return { ...test, client, origin: await listen(test.app) }
}

const one = onOneApp(async (_t, build) => serve(build))

const part = (content: object) => Buffer.from(JSON.stringify(content)).toString('base64url')

one('no kind of token passes for another, by whatever algorithm its header names', async (t, { app, ...test }) => {
  const { client, origin: url } = test
  const asker = await makeClient(app, { id: 'asker', introspect: 'all' })
  const at = createVerifier({ issuer: app.config.AUTH_ISSUER, url, clientId: asker.id, clientSecret: asker.secret })
  t.teardown(() => at.close())
  const browser = await signedIn(app)
  const { access_token, id_token } = json(
    await trade(app, client, answerOf(await browser.request('GET', urlFor()))['code']),
  )
  t.ok(await at.verify(`Bearer ${access_token}`))
  const isNoAccessToken = async (what: string, token: string) => {
    t.equal((await withToken(app, token, { url: '/users/me' })).statusCode, 401, what)
    t.equal((await withToken(app, token, { url: '/userinfo' })).statusCode, 401, what)
    t.same(json(await introspect(app, asker, token)), { active: false }, what)
    const judged = at.verify(`Bearer ${token}`).then(
      () => 'good',
      ({ failure }) => failure,
    )
    t.equal(await judged, 'invalid', what)
  }
  const logoutToken = await app.idTokens.logoutToken({
    ...{ client: await app.clients.get('app'), sub: said(id_token).sub, sid: said(id_token).sid },
  })
  await isNoAccessToken('an ID token', id_token)
  await isNoAccessToken('a logout token', logoutToken)
  t.ok(await app.idTokens.readHint(id_token))
  for (const token of [access_token, logoutToken]) t.equal(await app.idTokens.readHint(token), undefined)

  const { keys } = json(await app.inject({ url: '/.well-known/jwks.json' })) as {
    keys: (JsonWebKey & { kid: string })[]
  }
  t.equal(keys.length, 3)
  for (const key of keys) {
    const pem = createPublicKey({ key, format: 'jwk' }).export({ type: 'spki', format: 'pem' }) as string
    for (const alg of ['HS256', 'none', 'RS256', 'ES256', 'EdDSA', 'PS256']) {
      for (const [typ, claims] of [
        ['at+jwt', said(access_token)],
        ['JWT', said(id_token)],
      ]) {
        const input = `${part({ alg, typ, kid: key.kid })}.${part(claims)}`
        // By what everybody has: the public key as a secret (RFC 8725 §2.1).
        const token = `${input}.${alg === 'none' ? '' : createHmac('sha256', pem).update(input).digest('base64url')}`
        if (typ === 'JWT') t.equal(await app.idTokens.readHint(token), undefined, `${alg} by ${key.kty}`)
        else await isNoAccessToken(`${alg} by ${key.kty}`, token)
      }
      // The signature of one kind behind the header of another.
      const [, body, signature] = id_token.split('.')
      await isNoAccessToken(alg, `${part({ alg, typ: 'at+jwt', kid: key.kid })}.${body}.${signature}`)
    }
  }
  t.equal((await postForm(app, '/revoke', { token: id_token }, basic(client))).statusCode, 200)
  t.ok(await isAccepted(app, access_token), 'an ID token revokes nothing')
})

one('/userinfo takes an access token with openid, from its header alone', async (t, { app, client }) => {
  const browser = await signedIn(app)
  const tokensFor = async (scope: string) =>
    json(await trade(app, client, answerOf(await browser.request('GET', urlFor({ scope })))['code']))
  const { access_token } = await tokensFor('openid')
  const form = { 'content-type': 'application/x-www-form-urlencoded' }
  t.equal((await withToken(app, access_token, { url: '/userinfo' })).statusCode, 200)
  for (const options of [
    { url: `/userinfo?access_token=${access_token}` },
    { url: '/userinfo', headers: { cookie: `access_token=${access_token}` } },
    { url: '/userinfo', method: 'POST' as const, headers: form, payload: `access_token=${access_token}` },
  ])
    t.equal((await app.inject(options)).statusCode, 401, options.url)
  t.equal((await withToken(app, (await tokensFor('files:read')).access_token, { url: '/userinfo' })).statusCode, 403)
})

one('a session gets no scope that it was not given', async (t, { app, client }) => {
  const browser = await signedIn(app)
  const { refresh_token } = json(await trade(app, client, answerOf(await browser.request('GET', urlFor()))['code']))
  for (const scope of ['openid offline_access', 'openid email', 'files:read', 'admin'])
    isOAuthError(
      t,
      await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token, scope }, basic(client)),
      400,
      'invalid_scope',
      scope,
    )
  const { scope } = json(
    await trade(
      app,
      await makeApp(app, { id: 'powerful', scopes: ['admin', 'files:read'] }),
      answerOf(await browser.request('GET', urlFor({ scope: 'openid admin files:read' }, 'powerful')))['code'],
    ),
  )
  t.equal(scope, 'openid files:read', 'admin is for whoever has the role')
})

/** Ada stands at the question of an app. @returns what she then says, and the code that came of it before */
async function atTheQuestion(app: FastifyInstance, id: string) {
  const credentials = await makeApp(app, { id, consent: 'ask' })
  const browser = await signedIn(app)
  const open = async () => browser.open(urlFor({}, id))
  const page = await open()
  const { code } = answerOf(await browser.submit(await open(), { decision: 'allow' }))
  return { credentials, code, allow: (): Promise<Opened> => browser.submit(page, { decision: 'allow' }) }
}

one('a client that has changed while its user decides gets nothing, nor does another of its id', async (t, { app }) => {
  const changes: Record<string, (id: string) => Promise<unknown>> = {
    disabled: (id) => app.clients.disable(app, id),
    removed: (id) => app.clients.remove(app, id),
    'with another redirect_uri': (id) => app.clients.edit(app, id, { redirectUris: ['https://evil.example/callback'] }),
    'made anew': async (id) => {
      await app.clients.remove(app, id)
      return makeApp(app, { id, consent: 'ask' })
    },
  }
  for (const [what, change] of Object.entries(changes)) {
    const id = what.replaceAll(' ', '-')
    const { credentials, code, allow } = await atTheQuestion(app, id)
    const changed = (await change(id)) as Partial<Credentials>
    t.ok(isPage(await allow()), what)
    const now = { ...credentials, ...(typeof changed?.secret === 'string' && { secret: changed.secret }) }
    const answer = await trade(app, now, code)
    if (what === 'with another redirect_uri') t.equal(answer.statusCode, 200, 'the code went to where it was good')
    else t.notOk(json(answer).access_token, what)
    if (what !== 'made anew') continue
    const again = await (await signedIn(app)).open(urlFor({}, id))
    t.match(again.url, /^\/consent/, 'another client of the same id is asked about anew')
  }
})

one('whoever may not have tokens any more gets none for a code, and signs in again', async (t, { app }) => {
  const { id } = await userNamed(app)
  for (const [what, change] of [
    ['disabled', () => app.userAdmin.disable(callerOf(app), id)],
    ['sessions', () => app.sessions.endAll(callerOf(app), id)],
  ] as const) {
    const { credentials, code, allow } = await atTheQuestion(app, `of-${what}`)
    await change()
    t.match((await allow()).url, /^\/sign-in/, what)
    isOAuthError(t, await trade(app, credentials, code), 400, 'invalid_grant', what)
    if (what === 'disabled') await app.userAdmin.enable(callerOf(app), id)
  }
})

one('no value of a parameter makes an error inside, or leads elsewhere', async (t, { app, client }) => {
  const browser = await signedIn(app)
  const odd = [
    ...[
      '\0',
      'a\0b',
      '\ud800',
      '\u202e',
      '__proto__',
      '"><script>alert(1)</script>',
      'a\r\nset-cookie: x=1',
      '{}',
      '[]',
    ],
    ...['null', '-1', "'; --", '//evil.example', 'https://evil.example', 'x'.repeat(3_000), '[['.repeat(500)],
  ]
  const names = [
    ...['client_id', 'redirect_uri', 'response_type', 'response_mode', 'scope', 'state', 'nonce', 'prompt', 'max_age'],
    ...['login_hint', 'id_token_hint', 'ui_locales', 'acr_values', 'claims', 'resource', 'request', 'request_uri'],
    ...['code_challenge', '__proto__', 'constructor'],
  ]
  const isOurs = /^\/(sign-in|sign-up)\?request=[\w-]+(&ui_locales=[^&]*)?$/
  for (const name of names) {
    for (const value of odd) {
      const what = `${name}=${JSON.stringify(value).slice(0, 60)}`
      const answer = await browser.request('GET', urlFor({ [name]: value }))
      const to = String(answer.headers.location ?? '')
      const isWell = answer.statusCode === 303 ? isOurs.test(to) || to.startsWith(`${redirectUri}?`) : isPage(answer)
      // In a loop of hundreds each `t.ok` costs more than the request.
      if (!isWell || !/^[\x21-\x7e]*$/.test(to) || to.includes('<')) t.fail(`${what}: ${answer.statusCode} ${to}`)
      if (/<script>alert|x=1/.test(`${answer.body}${answer.headers['set-cookie']}`)) t.fail(`${what}: in the page`)
      const pushed = await postForm(app, '/par', { client_id: 'app', ...request, [name]: value }, basic(client))
      if (pushed.statusCode >= 500) t.fail(`${what} pushed: ${pushed.body}`)
    }
    for (const raw of ['%ff', '%', '%C0%AF', '%0d%0aset-cookie:x=1'])
      if ((await browser.request('GET', `${urlFor()}&${name}=${raw}`)).statusCode >= 500) t.fail(`${name}=${raw}`)
  }
  for (const mode of ['query', 'form_post']) {
    const { body, headers } = await browser.request('GET', urlFor({ state: '"><script>', response_mode: mode }))
    t.notMatch(`${body}${headers.location ?? ''}`, /"><script>/)
  }
})

one('what a proxy might read in another way is no other address', async (t, { app, origin }) => {
  const query = urlFor().slice('/authorize'.length)
  const evil = 'https%3A%2F%2Fevil.example'
  for (const target of [
    ...[
      `//evil.example/authorize${query}`,
      `http://evil.example/authorize${query}`,
      `/\\evil.example/authorize${query}`,
    ],
    ...[`/authorize/..;/${query}`, `/authorize;x=1${query}`, `/%61uthorize${query}`, `/./authorize${query}`],
    ...[`/authorize${query}&redirect_uri=${evil}`, `/authorize${query}&%72edirect_uri=${evil}`],
    ...[`/authorize${query}&redirect_uri%00=${evil}`, `/authorize${query}&redirect_uri[]=${evil}`],
    ...[`/authorize${query};redirect_uri=${evil}`, '//evil.example', '//evil.example/%2e%2e', '/account//evil.example'],
  ]) {
    const answer = await sendRaw(origin, `GET ${target} HTTP/1.1\r\nHost: evil.example\r\n\r\n`)
    const [, to = ''] = /\r\nlocation: ([^\r]*)/i.exec(answer) ?? []
    t.match(answer, /^HTTP\/1\.1 (303|400|404)/, target)
    t.match(to, /^(\/sign-in\?.*)?$/, target)
  }
  for (const url of ['/.well-known/openid-configuration', urlFor({ prompt: 'none' })]) {
    const forged = { host: 'evil.example', 'x-forwarded-host': 'evil.example', forwarded: 'host=evil.example' }
    const { body, headers } = await app.inject({ url, headers: forged })
    t.notMatch(`${body}${headers.location}`, 'evil.example', 'the issuer is never taken from a request')
  }
})

one('a look at a link gives no code, and uses up nothing', async (t, { app, client }) => {
  const browser = await signedIn(app)
  const cookie = [...browser.jar].map(([name, value]) => `${name}=${value}`).join('; ')
  const { request_uri } = json(await postForm(app, '/par', { client_id: 'app', ...request }, basic(client)))
  const named = `/authorize?${new URLSearchParams({ client_id: 'app', request_uri })}`
  for (const url of [urlFor(), named]) {
    const { statusCode, headers } = await app.inject({ method: 'HEAD', url, headers: { cookie } })
    t.match([statusCode, headers.location], [405, undefined])
  }
  const answer = await browser.request('GET', named)
  t.match([answerOf(answer)['code'], answer.headers['cache-control']], [/^lkc_/, 'no-store'])
})
