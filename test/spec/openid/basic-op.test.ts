import * as oauth from 'oauth4webapi'
import type { Test } from 'tap'
import { makeClient } from '../../support/client-helper.ts'
import { giveEmail, json, onOneApp, postForm, signUp, storeOf } from '../../support/helper.ts'
import { callback, errorOf, newProof, openRelyingParty } from '../../support/relying-party.ts'

/*
 * What the OpenID Foundation's plans "Basic OP" and "Config OP" test (oidcc-basic-certification-test-plan, and
 * oidcc-config-certification-test-plan): a test for each of their modules, by its name.
 */

const issuer = 'https://auth.example.com'

const run = onOneApp(async (_t, build) => {
  const test = await build({ AUTH_ISSUER: issuer })
  const { app } = test
  const make = (id: string) =>
    makeClient(app, {
      id,
      grants: ['authorization_code', 'refresh_token'],
      redirectUris: [callback],
      pkce: 'optional',
    })
  const one = await make('one')
  const two = await make('two')
  const { id } = json(await signUp(app))
  await giveEmail(storeOf(app), id, 'ada@example.com')
  return { ...test, one, two, userId: id as string, open: () => openRelyingParty(app, one) }
})
type Made = Parameters<Parameters<typeof run>[1]>[1]

/** A test of a module. */
const module = (name: string, what: string, body: (t: Test, made: Made) => Promise<unknown>) =>
  run(`${name}: ${what}`, body)

/** How long nobody can guess it, if each character is one of 64. */
const bitsOf = (text: string) => text.replace(/^lk._/, '').length * 6

module('oidcc-server', 'a user signs in, and the app gets an ID token that holds', async (t, { open, userId }) => {
  const app = await open()
  const returned = await app.authorize()
  t.ok(bitsOf(returned.parameters.get('code') ?? '') >= 128, 'nobody guesses the code')
  const { answer, claims, idToken } = await app.trade(returned)
  t.match(answer, { token_type: 'bearer', expires_in: Number, scope: 'openid', refresh_token: /^lkr_/ })
  t.match(claims, { iss: issuer, aud: 'one', sub: userId, auth_time: Number, nonce: returned.asked['nonce'] })
  t.equal(JSON.parse(Buffer.from(idToken.split('.')[0] as string, 'base64url').toString()).typ, 'JWT')
  t.match(claims, { at_hash: /./, acr: 'urn:latchkey:acr:1', amr: ['pwd'], sid: /./ })
  for (const name of ['name', 'preferred_username', 'email']) t.notOk(name in claims, `${name} was not asked for`)
})

module('oidcc-response-type-missing', 'is told to the app', async (t, { open }) => {
  const app = await open()
  t.equal(await errorOf(app.authorize({ response_type: '' })), 'invalid_request')
})

module('oidcc-idtoken-signature', 'is RS256 unless the app wants another, with a kid', async (t, { app, open }) => {
  const { idToken } = await (await open()).signIn()
  const header = JSON.parse(Buffer.from(idToken.split('.')[0] as string, 'base64url').toString())
  t.equal(header.alg, 'RS256')
  const { keys } = json(await app.inject('/.well-known/jwks.json'))
  t.match(
    keys.find(({ kid }: { kid: string }) => kid === header.kid),
    { kty: 'RSA', alg: 'RS256', use: 'sig' },
  )
})

module('oidcc-idtoken-unsigned', 'there is none', async (t, { open }) => {
  const { as } = await open()
  t.same(as.id_token_signing_alg_values_supported, ['RS256', 'ES256', 'EdDSA'])
})

module('oidcc-userinfo-get', 'who the user is', async (t, { open, userId }) => {
  const app = await open()
  t.same(await app.userInfo(await app.signIn()), { sub: userId })
})

module('oidcc-userinfo-post-header', 'by POST too', async (t, { open, userId }) => {
  const app = await open()
  const { accessToken } = await app.signIn()
  const answer = await app.askUserInfo({ method: 'POST', headers: { authorization: `Bearer ${accessToken}` } })
  t.match(answer.headers['content-type'], /^application\/json/)
  t.same([answer.statusCode, json(answer)], [200, { sub: userId }])
})

module('oidcc-userinfo-post-body', 'but a token in the body is none', async (t, { open }) => {
  const app = await open()
  const { accessToken } = await app.signIn()
  const answer = await app.askUserInfo({
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payload: `access_token=${accessToken}`,
  })
  t.equal(answer.statusCode, 401)
})

module('oidcc-ensure-request-without-nonce-succeeds-for-code-flow', 'as it says', async (t, { open }) => {
  t.notOk('nonce' in (await (await open()).signIn({ nonce: '' })).claims)
})

module('oidcc-scope-profile', 'gives name and preferred_username, at /userinfo', async (t, { open, userId }) => {
  const app = await open()
  const tokens = await app.signIn({ scope: 'openid profile' })
  t.match(await app.userInfo(tokens), { sub: userId, name: 'ada', preferred_username: 'ada' })
  t.notOk('name' in tokens.claims)
})

module(
  'oidcc-scope-email',
  'gives the address, and whether it is verified, at /userinfo',
  async (t, { open, userId }) => {
    const app = await open()
    const tokens = await app.signIn({ scope: 'openid email' })
    t.same(await app.userInfo(tokens), { sub: userId, email: 'ada@example.com', email_verified: true })
    t.notOk('email' in tokens.claims)
  },
)

for (const name of ['address', 'phone', 'all'])
  module(`oidcc-scope-${name}`, 'what there is of it is given, and said', async (t, { open }) => {
    const app = await open()
    const asked = name === 'all' ? 'address email phone profile' : name
    const { answer } = await app.signIn({ scope: `openid ${asked}` })
    t.equal(answer.scope, name === 'all' ? 'openid email profile' : 'openid')
    t.same(
      app.as.scopes_supported?.filter((scope) => asked.split(' ').includes(scope)),
      name === 'all' ? ['profile', 'email'] : [],
    )
  })

module('oidcc-alternate-happy-flow', 'the order of parameters and scopes is all one', async (t, { open }) => {
  const app = await open()
  const { url, asked } = app.urlFor({ scope: 'email openid' })
  const reordered = new URLSearchParams([...new URL(url).searchParams].reverse())
  const page = await app.browser.open(`${app.as.authorization_endpoint}?${reordered}`)
  const tokens = await app.trade(app.read(await app.finish(page), asked))
  t.match(await app.userInfo(tokens), { email: 'ada@example.com' })
})

const accepted: [name: string, parameters: Record<string, string>][] = [
  ['oidcc-display-page', { display: 'page' }],
  ['oidcc-display-popup', { display: 'popup' }],
  ['oidcc-ensure-request-with-unknown-parameter-succeeds', { extra: 'foobar' }],
  ['oidcc-claims-locales', { claims_locales: 'se' }],
  ['oidcc-ensure-request-with-acr-values-succeeds', { acr_values: 'urn:example:silver urn:latchkey:acr:1' }],
]
for (const [name, parameters] of accepted)
  module(name, 'as it says', async (t, { open }) => {
    t.match((await (await open()).signIn(parameters)).claims, { acr: 'urn:latchkey:acr:1' })
  })

module('oidcc-ui-locales', 'is the language of the pages', async (t, { open }) => {
  const app = await open()
  t.match((await app.pageFor({ ui_locales: 'se ko en' })).body, /<html lang="ko"/)
  t.ok((await app.signIn({ ui_locales: 'se' })).claims)
})

module('oidcc-login-hint', 'stands in the field', async (t, { open }) => {
  const app = await open()
  t.match((await app.pageFor({ login_hint: 'ada@example.com' })).body, /name="username"[^>]* value="ada@example.com"/)
  t.ok((await app.signIn({ login_hint: 'ada' })).claims)
})

module('oidcc-prompt-login', 'has whoever is signed in sign in again', async (t, { open, clock }) => {
  const app = await open()
  const first = await app.signIn()
  clock.now += 1_000
  const { url, asked } = app.urlFor({ prompt: 'login' })
  const page = await app.browser.open(url)
  t.match(page.url, /^\/sign-in/)
  const second = await app.trade(app.read(await app.finish(page), asked))
  t.ok(Number(second.claims.auth_time) > Number(first.claims.auth_time), 'auth_time is later')
  t.equal(second.claims.sub, first.claims.sub)
})

module('oidcc-prompt-none-not-logged-in', 'is an error, and the state comes back whole', async (t, { open }) => {
  const state = `${'0123456789"#(*-@^~=>'.repeat(7)}`.slice(0, 128)
  t.equal(await errorOf((await open()).authorizeSilently({ prompt: 'none', state })), 'login_required')
})

module('oidcc-prompt-none-logged-in', 'needs no page, and it is the same sign-in', async (t, { open, clock }) => {
  const app = await open()
  const first = await app.signIn()
  clock.now += 2_000
  const second = await app.trade(await app.authorizeSilently({ prompt: 'none' }))
  t.same([second.claims.sub, second.claims.auth_time], [first.claims.sub, first.claims.auth_time])
})

module('oidcc-max-age-1', 'has whoever signed in longer ago sign in again', async (t, { open, clock }) => {
  const app = await open()
  const first = await app.signIn()
  clock.now += 2_000
  const { url, asked } = app.urlFor({ max_age: '1' })
  const page = await app.browser.open(url)
  t.match(page.url, /^\/sign-in/)
  const second = await app.trade(app.read(await app.finish(page), asked))
  t.ok(Number(second.claims.auth_time) >= Number(first.claims.auth_time) + 2)
})

module('oidcc-max-age-10000', 'and nobody who did not', async (t, { open, clock }) => {
  const app = await open()
  const first = await app.signIn({ max_age: '15000' })
  clock.now += 2_000
  const second = await app.trade(await app.authorizeSilently({ max_age: '10000' }))
  t.same([second.claims.sub, second.claims.auth_time], [first.claims.sub, first.claims.auth_time])
})

module('oidcc-id-token-hint', 'of the user who is signed in goes with prompt=none', async (t, { app, one, open }) => {
  const asks = await open()
  const { idToken, claims } = await asks.signIn()
  const silently = { prompt: 'none', id_token_hint: idToken }
  t.equal((await asks.trade(await asks.authorizeSilently(silently))).claims.sub, claims.sub)
  await signUp(app, 'grace')
  const other = await openRelyingParty(app, one, undefined, { username: 'grace' })
  await other.signIn()
  t.equal(await errorOf(other.authorizeSilently(silently)), 'login_required', 'and of nobody else')
})

module('oidcc-codereuse', 'a code is good once', async (t, { open }) => {
  const app = await open()
  const returned = await app.authorize()
  t.ok((await app.trade(returned)).idToken)
  t.equal(await errorOf(app.trade(returned)), 'invalid_grant')
})

module('oidcc-codereuse-30seconds', 'later too; what it gave ends', async (t, { open, clock }) => {
  const app = await open()
  const returned = await app.authorize()
  const tokens = await app.trade(returned)
  clock.now += 30_000
  t.ok(await app.userInfo(tokens))
  t.equal(await errorOf(app.trade(returned)), 'invalid_grant')
  const answer = await app.askUserInfo({ headers: { authorization: `Bearer ${tokens.accessToken}` } })
  t.equal(answer.statusCode, 401)
  t.equal(await errorOf(app.refresh(tokens.refreshToken)), 'invalid_grant')
})

module('oidcc-ensure-registered-redirect-uri', 'is a page, and leads nowhere', async (t, { open }) => {
  const page = await (await open()).pageFor({ redirect_uri: `${callback}/x` })
  t.match([page.statusCode, page.headers.location, page.url], [400, undefined, /^\/authorize/])
  t.match(page.body, /This app cannot sign you in/)
})

module('oidcc-ensure-post-request-succeeds', 'from the site of the app', async (t, { app, open }) => {
  const asks = await open()
  const { url, asked } = asks.urlFor()
  const headers = { origin: 'https://app.example', 'sec-fetch-site': 'cross-site' }
  const answer = await postForm(app, '/authorize', Object.fromEntries(new URL(url).searchParams), { headers })
  const page = await asks.browser.follow(Object.assign(answer, { url: '/authorize' }))
  t.ok((await asks.trade(asks.read(await asks.finish(page), asked))).idToken)
})

module('oidcc-server-client-secret-post', 'the client says who it is in the form', async (t, { app, one }) => {
  const asks = await openRelyingParty(app, one, undefined, { auth: oauth.ClientSecretPost(one.secret) })
  t.ok((await asks.signIn()).idToken)
})

/** The parameters of a request as an unsigned request object (OpenID Connect Core §6.1). */
const unsigned = (asked: Record<string, string>) =>
  [{ alg: 'none' }, asked]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
    .concat('.')

module(
  'oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported',
  'request objects are not supported, and nothing is done as if they were not there',
  async (t, { open }) => {
    const app = await open()
    t.equal(app.as['request_parameter_supported'], false)
    const { asked } = app.urlFor()
    t.equal(await errorOf(app.authorize({ ...asked, request: unsigned(asked) })), 'request_not_supported')
  },
)

module(
  'oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported',
  'neither are those that would have to be fetched',
  async (t, { open }) => {
    const app = await open()
    t.equal(app.as['request_uri_parameter_supported'], false)
    const elsewhere = 'https://app.example/request.jwt'
    t.equal(await errorOf(app.authorize({ request_uri: elsewhere })), 'request_uri_not_supported')
  },
)

module(
  'oidcc-ensure-request-object-with-redirect-uri',
  'a redirect_uri in a request object does not make up for a wrong one beside it',
  async (t, { open }) => {
    const app = await open()
    const { asked } = app.urlFor()
    const page = await app.pageFor({ ...asked, redirect_uri: `${callback}_invalid`, request: unsigned(asked) })
    t.match([page.statusCode, page.headers.location], [400, undefined])
  },
)

module('oidcc-claims-essential', 'a claim of its own, at /userinfo alone', async (t, { open }) => {
  const app = await open()
  const tokens = await app.signIn({ claims: JSON.stringify({ userinfo: { name: { essential: true } } }) })
  t.match(await app.userInfo(tokens), { name: 'ada' })
  t.notOk('name' in tokens.claims)
})

module(
  'oidcc-refresh-token',
  'gives an ID token of the same sign-in, to its client alone',
  async (t, { app, one, two }) => {
    const first = await openRelyingParty(app, one)
    const second = await openRelyingParty(app, two)
    const asked = { scope: 'openid offline_access', prompt: 'consent' }
    const before = await first.signIn(asked)
    const after = await first.refresh(before.refreshToken)
    const same = ({ iss, sub, aud, auth_time }: oauth.IDToken) => [iss, sub, aud, auth_time]
    t.same(same(after.claims), same(before.claims))
    t.not(after.accessToken, before.accessToken)
    t.ok(bitsOf(after.refreshToken) >= 128)
    t.ok(await first.userInfo(after))
    const foreign = await second.signIn(asked)
    t.equal(await errorOf(first.refresh(foreign.refreshToken)), 'invalid_grant')
    t.ok((await second.refresh(foreign.refreshToken)).idToken, 'which was not spent')
  },
)

module('oidcc-ensure-request-with-valid-pkce-succeeds', 'S256', async (t, { open }) => {
  const app = await open()
  const { verifier, asked } = newProof()
  t.ok((await app.trade(await app.authorize(asked), verifier)).idToken)
  t.equal(await errorOf(app.trade(await app.authorize(asked))), 'invalid_grant', 'and the verifier has to come')
})

module('oidcc-discovery-endpoint-verification', 'what a client has to know', async (t, { app, open }) => {
  const { as } = await open()
  t.match(as, {
    issuer,
    response_types_supported: ['code'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['RS256', 'ES256', 'EdDSA'],
    claims_parameter_supported: true,
    ui_locales_supported: ['en', 'ko'],
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
  })
  for (const grant of ['authorization_code', 'refresh_token']) t.ok(as.grant_types_supported?.includes(grant), grant)
  for (const scope of ['openid', 'profile', 'email', 'offline_access'])
    t.ok(as.scopes_supported?.includes(scope), scope)
  for (const claim of ['sub', 'auth_time', 'acr', 'name', 'email']) t.ok(as.claims_supported?.includes(claim), claim)
  for (const [name, value] of Object.entries(as))
    if (/_endpoint$|_uri$/.test(name)) t.match(value, /^https:\/\/auth\.example\.com\//, name)
  for (const key of json(await app.inject(new URL(as.jwks_uri as string).pathname)).keys)
    t.match(key, { kid: /./, use: 'sig', kty: /^(RSA|EC|OKP)$/ })
  t.same(json(await app.inject('/.well-known/oauth-authorization-server')), as, 'RFC 8414: the same truth')
})
