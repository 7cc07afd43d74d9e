import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Client } from '../../domain/client.ts'
import { answerOf, openBrowser } from '../support/browser.ts'
import { basic, makeClient } from '../support/client-helper.ts'
import { codeOf, giveTotp } from '../support/factors.ts'
import { json, onOneStore, overStores, postForm, signUp, withToken } from '../support/helper.ts'

/* The authorization code flow, RFC 6749 §4.1 with PKCE, and what OpenID Connect adds to the request. */

const redirectUri = 'https://app.example/callback'
const issuer = 'http://localhost:3000'

const newProof = () => {
  const verifier = randomBytes(32).toString('base64url')
  const challenge = createHash('sha256').update(verifier).digest('base64url')
  return { verifier, asked: { code_challenge: challenge, code_challenge_method: 'S256' } }
}

/** The URL that an app sends a browser to. */
const authorizeUrl = (parameters: Record<string, string>, id = 'app') =>
  `/authorize?${new URLSearchParams({ client_id: id, redirect_uri: redirectUri, response_type: 'code', state: 'xyz', ...parameters })}`

const makeApp = (app: FastifyInstance, more: Partial<Client> = {}) =>
  makeClient(app, {
    id: 'app',
    grants: ['authorization_code', 'refresh_token'],
    scopes: ['files:read', 'files:write'],
    redirectUris: [redirectUri],
    consent: 'implicit',
    ...more,
  })

overStores('a browser signs in, and the app gets tokens for the code', async (t, build) => {
  const { app } = await build()
  const client = await makeApp(app)
  await signUp(app, 'ada')
  const browser = openBrowser(app)
  const { verifier, asked } = newProof()
  const page = await browser.open(authorizeUrl({ scope: 'openid files:read unknown', ...asked }))
  t.equal(page.statusCode, 200)
  t.match(page.url, /^\/sign-in\?request=/, 'nobody is signed in')
  const answer = answerOf(await browser.signIn('ada', undefined, page))
  t.match(answer, { to: redirectUri, code: /^lkc_/, state: 'xyz', iss: issuer })
  const grant = {
    grant_type: 'authorization_code',
    code: answer['code'] as string,
    code_verifier: verifier,
    redirect_uri: redirectUri,
  }
  const tokens = json(await postForm(app, '/token', grant, basic(client)))
  t.match(tokens, { token_type: 'Bearer', refresh_token: /^lkr_/, scope: 'openid files:read', id_token: /^ey/ })
  t.equal((await withToken(app, tokens.access_token, { url: '/users/me' })).statusCode, 200)

  const next = json(
    await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token: tokens.refresh_token }, basic(client)),
  )
  t.match(next, { refresh_token: /^lkr_/, id_token: /^ey/ })

  const again = await postForm(app, '/token', grant, basic(client))
  t.match([again.statusCode, json(again).error], [400, 'invalid_grant'], 'a code is good once')
  const after = await postForm(
    app,
    '/token',
    { grant_type: 'refresh_token', refresh_token: next.refresh_token },
    basic(client),
  )
  t.equal(json(after).error, 'invalid_grant', 'and a second use ends what the first gave')
  t.equal((await withToken(app, tokens.access_token, { url: '/users/me' })).statusCode, 401)
})

overStores('whoever is signed in is sent back at once, and an app ends with the browser', async (t, build) => {
  const { app } = await build()
  const client = await makeApp(app)
  await signUp(app, 'ada')
  const browser = openBrowser(app)
  await browser.signIn('ada')
  const trade = async (scope: string) => {
    const { verifier, asked } = newProof()
    const answer = answerOf(await browser.request('GET', authorizeUrl({ scope, ...asked })))
    const form = {
      grant_type: 'authorization_code',
      code: answer['code'] as string,
      code_verifier: verifier,
      redirect_uri: redirectUri,
    }
    return json(await postForm(app, '/token', form, basic(client)))
  }
  const refresh = async (token: string) =>
    json(await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token: token }, basic(client)))
  const bound = await trade('openid')
  const offline = await trade('openid offline_access')
  const other = openBrowser(app)
  await other.signIn('ada')
  const { asked } = newProof()
  t.ok(answerOf(await other.request('GET', authorizeUrl(asked)))['code'], 'another browser')
  const [session] = await app.browserSessions.list((await app.store.findUserByName('ada'))?.id ?? '')
  t.ok(session)
  const first = await app.store.findSession(sidOf(bound.access_token))
  const parent = first?.parent as string
  const kept = await refresh(bound.refresh_token)
  t.ok(kept.refresh_token)
  t.ok(await app.browserSessions.endById({ log: app.log } as never, first?.userId as string, parent))
  t.equal((await refresh(kept.refresh_token)).error, 'invalid_grant')
  t.equal((await withToken(app, kept.access_token, { url: '/users/me' })).statusCode, 401)
  t.ok((await refresh(offline.refresh_token)).refresh_token, 'but not with offline_access')
  t.match(await browser.open(authorizeUrl(asked)), { url: /^\/sign-in/ })
  t.ok(answerOf(await other.request('GET', authorizeUrl(asked)))['code'], 'the other browser is signed in')
})

const sidOf = (token: string): string =>
  JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString()).sid

onOneStore('until client and redirect_uri are good nobody is sent anywhere', async (t, build) => {
  const { app } = await build()
  await makeApp(app)
  await makeApp(app, { id: 'phone', type: 'public', redirectUris: ['http://127.0.0.1/cb', 'com.example.app:/cb'] })
  const browser = openBrowser(app)
  const { asked } = newProof()
  const wrong: [string, string?][] = [
    ['https://app.example/callback/'],
    ['https://app.example/callback?x=1'],
    ['https://app.example/callback#x'],
    ['https://app.example:443/callback'],
    ['https://APP.example/callback'],
    ['https://app.example@evil.example/callback'],
    ['https://evil.example\\@app.example/callback'],
    ['https://app.example/callback/..;/x'],
    ['https://app.example/%63allback'],
    ['//app.example/callback'],
    ['javascript:alert(1)'],
    [''],
    ['https://app.example/callback\n'],
    ['http://localhost:80/cb', 'phone'],
    ['http://127.0.0.1:99999/cb', 'phone'],
    ['http://127.0.0.1@evil.example/cb', 'phone'],
    ['http://127.0.0.1:80.evil.example/cb', 'phone'],
    ['http://127.1/cb', 'phone'],
  ]
  for (const [uri, id = 'app'] of wrong) {
    const answer = await browser.request('GET', authorizeUrl({ ...asked, redirect_uri: uri, scope: 'openid' }, id))
    t.match([answer.statusCode, answer.headers.location, answer.headers['content-type']], [400, undefined, /html/], uri)
  }
  const { code_challenge } = asked
  const none = await browser.request(
    'GET',
    `/authorize?${new URLSearchParams({ client_id: 'app', response_type: 'code', code_challenge })}`,
  )
  t.match([none.statusCode, none.headers.location], [400, undefined], 'also where there is only one')
  const unknown = await browser.request('GET', authorizeUrl(asked, 'nobody'))
  t.match([unknown.statusCode, unknown.headers.location], [400, undefined])
  const twice = await browser.request('GET', `${authorizeUrl(asked)}&redirect_uri=${encodeURIComponent(redirectUri)}`)
  t.match([twice.statusCode, twice.headers.location], [400, undefined])
  const two = await browser.request('GET', `${authorizeUrl(asked)}&client_id=phone`)
  t.match([two.statusCode, two.headers.location], [400, undefined])
  const anyPort = await browser.request(
    'GET',
    authorizeUrl({ ...asked, redirect_uri: 'http://127.0.0.1:51004/cb', prompt: 'none' }, 'phone'),
  )
  t.match(answerOf(anyPort), { to: 'http://127.0.0.1:51004/cb', error: 'login_required' })
  await app.clients.disable(app, 'app')
  t.equal((await browser.request('GET', authorizeUrl(asked))).statusCode, 400, 'disabled')
})

onOneStore('what else is wrong goes to the app, with state and iss', async (t, build) => {
  const { app } = await build()
  await makeApp(app)
  await makeApp(app, { id: 'machine', grants: ['client_credentials'] })
  const browser = openBrowser(app)
  const { asked } = newProof()
  const wrong: [Record<string, string>, string, string?][] = [
    [{ response_type: '' }, 'invalid_request'],
    [{ response_type: 'token' }, 'unsupported_response_type'],
    [{ response_type: 'code id_token' }, 'unsupported_response_type'],
    [{ response_mode: 'fragment' }, 'invalid_request'],
    [{ request: 'e30.e30.' }, 'request_not_supported'],
    [{ request_uri: 'https://app.example/r' }, 'request_uri_not_supported'],
    [{ code_challenge: '' }, 'invalid_request'],
    [{ code_challenge: 'short' }, 'invalid_request'],
    [{ code_challenge_method: 'plain' }, 'invalid_request'],
    [{ code_challenge_method: '' }, 'invalid_request'],
    [{ scope: 'openid  "' }, 'invalid_scope'],
    [{ resource: 'https://other.example' }, 'invalid_target'],
    [{ prompt: 'none login' }, 'invalid_request'],
    [{ prompt: 'sometimes' }, 'invalid_request'],
    [{ max_age: '-1' }, 'invalid_request'],
    [{ claims: '{' }, 'invalid_request'],
    [{ claims: '[]' }, 'invalid_request'],
    [
      { claims: '{"id_token":{"acr":{"essential":true,"value":"urn:example:gold"}}}' },
      'unmet_authentication_requirements',
    ],
    [{ prompt: 'none' }, 'login_required'],
    [{ state: 'x'.repeat(7_000) }, 'invalid_request'],
    [{}, 'unauthorized_client', 'machine'],
  ]
  for (const [parameters, error, id] of wrong) {
    const answer = await browser.request('GET', authorizeUrl({ ...asked, ...parameters }, id))
    t.equal(answer.statusCode, 303)
    const told = answerOf(answer)
    t.match(
      told,
      { to: redirectUri, error, iss: issuer, error_description: /./ },
      JSON.stringify(parameters).slice(0, 80),
    )
    t.equal(told['state'], parameters['state'] ?? 'xyz')
    t.notOk(told['code'])
  }
  const twice = answerOf(await browser.request('GET', `${authorizeUrl(asked)}&nonce=a&nonce=b`))
  t.match(twice, { error: 'invalid_request', error_description: /nonce/ })
  const posted = answerOf(
    await browser.request('GET', `${authorizeUrl({ ...asked, prompt: 'none' })}&response_mode=query`),
  )
  t.equal(posted['error'], 'login_required')
})

overStores('a code is for its client, its redirect_uri and its verifier', async (t, build) => {
  const { app } = await build()
  const client = await makeApp(app, { redirectUris: [redirectUri, 'https://app.example/other'], pkce: 'optional' })
  const neighbour = await makeApp(app, { id: 'neighbour', pkce: 'optional' })
  await signUp(app, 'ada')
  const browser = openBrowser(app)
  await browser.signIn('ada')
  const { verifier, asked } = newProof()
  const codeFor = async (parameters: Record<string, string>) =>
    answerOf(await browser.request('GET', authorizeUrl(parameters)))['code'] as string
  const trade = async (form: Record<string, string>, of = client) =>
    json(await postForm(app, '/token', { grant_type: 'authorization_code', ...form }, basic(of)))

  const code = await codeFor(asked)
  const good = { code, code_verifier: verifier, redirect_uri: redirectUri }
  t.equal((await trade(good, neighbour)).error, 'invalid_grant', "another client's")
  t.equal((await trade({ ...good, redirect_uri: 'https://app.example/other' })).error, 'invalid_grant')
  t.equal((await trade({ code, code_verifier: verifier })).error, 'invalid_grant', 'no redirect_uri')
  t.equal((await trade({ ...good, code_verifier: newProof().verifier })).error, 'invalid_grant')
  t.equal((await trade({ code, redirect_uri: redirectUri })).error, 'invalid_grant', 'no verifier')
  t.ok((await trade(good)).access_token)

  const plain = await codeFor({})
  t.equal(
    (await trade({ code: plain, redirect_uri: redirectUri, code_verifier: verifier })).error,
    'invalid_grant',
    'downgrade',
  )
  t.ok((await trade({ code: plain, redirect_uri: redirectUri })).access_token)

  const many = await codeFor(asked)
  const all = await Promise.all(Array.from({ length: 20 }, () => trade({ ...good, code: many })))
  t.equal(all.filter((one) => one.access_token).length <= 1, true, 'one of all who come at once, at most')
})

onOneStore('prompt and max_age ask for a sign-in anew, and prompt=none for none', async (t, build) => {
  const { app, clock } = await build()
  await makeApp(app)
  await makeApp(app, { id: 'asking', consent: 'ask' })
  await signUp(app, 'ada')
  const browser = openBrowser(app)
  await browser.signIn('ada')
  const { asked } = newProof()
  const go = (parameters: Record<string, string>, id?: string) =>
    browser.open(authorizeUrl({ ...asked, ...parameters }, id))
  t.ok(answerOf(await go({ prompt: 'none' }))['code'])
  clock.now += 5_000
  t.ok(answerOf(await go({ max_age: '6' }))['code'])
  t.match(answerOf(await go({ max_age: '4', prompt: 'none' })), { error: 'login_required' })
  t.match(answerOf(await go({ prompt: 'none' }, 'asking')), { error: 'consent_required' })
  for (const parameters of [{ max_age: '4' }, { max_age: '0' }, { prompt: 'login' }] as Record<string, string>[]) {
    clock.now += 5_000
    const before = browser.jar.get('latchkey')
    const page = await go(parameters)
    t.match(page.url, /^\/sign-in/, JSON.stringify(parameters))
    clock.now += 1_000
    t.ok(answerOf(await browser.signIn('ada', undefined, page))['code'])
    t.not(browser.jar.get('latchkey'), before, 'another cookie at each sign-in')
  }
})

onOneStore('a hint names who is to sign in', async (t, build) => {
  const { app, clock } = await build()
  const client = await makeApp(app)
  await signUp(app, 'ada')
  await signUp(app, 'bob')
  const browser = openBrowser(app)
  await browser.signIn('ada')
  const { verifier, asked } = newProof()
  const go = (parameters: Record<string, string>) =>
    browser.open(authorizeUrl({ scope: 'openid', ...asked, ...parameters }))
  const form = { grant_type: 'authorization_code', code_verifier: verifier, redirect_uri: redirectUri }
  const code = answerOf(await go({}))['code'] as string
  const { id_token: hint } = json(await postForm(app, '/token', { ...form, code }, basic(client)))
  t.ok(answerOf(await go({ id_token_hint: hint, prompt: 'none' }))['code'])
  await browser.signIn('bob', undefined, await browser.open('/sign-in?as=another'))
  t.match(answerOf(await go({ id_token_hint: hint, prompt: 'none' })), { error: 'login_required' })
  clock.now += 1_000
  const page = await go({ id_token_hint: hint })
  t.match(page.url, /^\/sign-in/)
  clock.now += 1_000
  t.match(answerOf(await browser.signIn('bob', undefined, page)), { error: 'login_required' }, 'the other again')
  clock.now += 1_000
  t.ok(answerOf(await browser.signIn('ada', undefined, await go({ id_token_hint: hint })))['code'])
  t.ok(answerOf(await go({ id_token_hint: 'of a key that is gone' }))['code'], 'names nobody')
  t.match(answerOf(await go({ id_token_hint: 'x', prompt: 'none' })), { error: 'login_required' })
})

overStores('consent is asked for once, and again for more', async (t, build) => {
  const { app } = await build()
  await makeApp(app, { consent: 'ask', name: 'Files' })
  await signUp(app, 'ada')
  const browser = openBrowser(app)
  await browser.signIn('ada')
  const { asked } = newProof()
  const go = (parameters: Record<string, string>) => browser.open(authorizeUrl({ ...asked, ...parameters }))
  const page = await go({ scope: 'openid files:read' })
  t.match(page.url, /^\/consent\?request=/)
  t.match(page.body, /Files[\s\S]*app\.example/)
  t.match(answerOf(await browser.submit(page, { decision: 'deny' })), { error: 'access_denied', state: 'xyz' })
  t.match((await go({ scope: 'openid files:read' })).url, /^\/consent/, 'a no is not remembered')
  t.ok(answerOf(await browser.submit(await go({ scope: 'openid files:read' }), { decision: 'allow' }))['code'])
  t.ok(answerOf(await go({ scope: 'files:read' }))['code'], 'remembered')
  t.match((await go({ scope: 'openid files:read', prompt: 'consent' })).url, /^\/consent/)
  t.match((await go({ scope: 'files:write' })).url, /^\/consent/, 'more')
  const user = await app.store.findUserByName('ada')
  await app.consents.withdraw({ log: app.log } as never, user?.id as string, 'app')
  t.match((await go({ scope: 'files:read' })).url, /^\/consent/, 'withdrawn')
})

onOneStore('a second factor is asked for where the user has one, or the app wants one', async (t, build) => {
  const { app, clock } = await build()
  await makeApp(app)
  await signUp(app, 'ada')
  const browser = openBrowser(app)
  await browser.signIn('ada')
  const { asked } = newProof()
  const go = (parameters: Record<string, string>) => browser.open(authorizeUrl({ ...asked, ...parameters }))
  t.ok(answerOf(await go({ acr_values: 'urn:latchkey:acr:2' }))['code'], 'voluntary, and there is none')
  const totp = await giveTotp(app, 'ada')
  const page = await go({})
  t.match(page.url, /^\/sign-in/, 'a session from before the factor is not enough for an app')
  clock.now += 60_000
  const second = await browser.signIn('ada', undefined, page)
  t.match(second.body, /autocomplete="one-time-code"/)
  t.ok(answerOf(await browser.submit(second, { otp: codeOf(totp.secret, clock.now) }))['code'])
  clock.now += 16 * 60_000
  t.ok(answerOf(await go({}))['code'], 'the level has fallen back, and nobody asks for it')
  t.match((await go({ acr_values: 'urn:latchkey:acr:2' })).url, /^\/sign-in/)
})
