import { generateKeyPair, SignJWT } from 'jose'
import type { Test } from 'tap'
import { formsOf } from '../../support/browser.ts'
import { makeClient, until } from '../../support/client-helper.ts'
import { json, onOneApp, signUp } from '../../support/helper.ts'
import { startLogoutReceiver } from '../../support/logout-receiver.ts'
import { callback, errorOf, openRelyingParty } from '../../support/relying-party.ts'

/*
 * What the OpenID Foundation's plans "RP-Initiated OP" and "Back-Channel OP" test
 * (oidcc-rp-initiated-logout-certification-test-plan, and oidcc-backchannel-rp-initiated-logout-certification-test-plan):
 * a test for each of their modules, by its name.
 */

const issuer = 'https://auth.example.com'
const bye = 'https://app.example/bye'
const state = 'a1"#(*-@^~=>\'%&+ '.repeat(8)

const run = onOneApp(async (t, build) => {
  const receiver = await startLogoutReceiver(t)
  const test = await build({ AUTH_ISSUER: issuer, AUTH_FETCH_ALLOW: '127.0.0.1' })
  const one = await makeClient(test.app, {
    id: 'one',
    grants: ['authorization_code', 'refresh_token'],
    redirectUris: [callback],
    postLogoutRedirectUris: [bye],
    backchannelLogoutUri: `${receiver.origin}/logout`,
    pkce: 'optional',
  })
  await signUp(test.app)
  return { ...test, receiver, open: () => openRelyingParty(test.app, one) }
})
type Made = Parameters<Parameters<typeof run>[1]>[1]

/** A test of a module. */
const module = (name: string, what: string, body: (t: Test, made: Made) => Promise<unknown>) =>
  run(`${name}: ${what}`, body)

/** A user who is signed in to the app. */
async function signedIn({ open }: Made) {
  const app = await open()
  const { idToken, claims } = await app.signIn()
  return {
    app,
    idToken,
    claims,
    /** Sends the browser to sign out. */
    leave: (parameters: Record<string, string>) =>
      app.browser.open(`${app.as.end_session_endpoint}?${new URLSearchParams(parameters)}`),
    isIn: async () => (await errorOf(app.authorizeSilently({ prompt: 'none' }))) !== 'login_required',
  }
}

for (const plan of ['oidcc-rp-initiated-logout', 'oidcc-backchannel-logout'])
  module(`${plan}-discovery-endpoint-verification`, 'clients are told', async (t, { open }) => {
    const { as } = await open()
    t.equal(as.end_session_endpoint, `${issuer}/sign-out`)
    t.same([as['backchannel_logout_supported'], as['backchannel_logout_session_supported']], [true, true])
  })

for (const [name, sent] of [
  ['oidcc-rp-initiated-logout', { state }],
  ['oidcc-rp-initiated-logout-no-state', {}],
] as [string, Record<string, string>][])
  module(name, 'the user is signed out, and is back in the app', async (t, made) => {
    const { idToken, leave, isIn } = await signedIn(made)
    t.ok(await isIn())
    const answer = await leave({ id_token_hint: idToken, post_logout_redirect_uri: bye, ...sent })
    const to = new URL(String(answer.headers.location))
    t.same([answer.statusCode, to.origin + to.pathname], [303, bye])
    t.same(Object.fromEntries(to.searchParams), sent, 'with the state as it was, and nothing else')
    t.notOk(await isIn())
  })

/** With another signature than ours: none at all, or that of somebody else. */
const unsigned = (idToken: string) => `${Buffer.from('{"alg":"none"}').toString('base64url')}.${idToken.split('.')[1]}.`

async function forged(claims: object): Promise<string> {
  const { privateKey } = await generateKeyPair('RS256')
  return new SignJWT({ ...claims }).setProtectedHeader({ alg: 'RS256' }).sign(privateKey)
}

type Sent = (idToken: string, claims: object) => Promise<Record<string, string>>
const staying: [name: string, problem: string | undefined, sent: Sent][] = [
  [
    'bad-post-logout-redirect-uri',
    'The post_logout_redirect_uri is none',
    async (id_token_hint) => ({ id_token_hint, post_logout_redirect_uri: 'https://app.example/other', state }),
  ],
  [
    'query-added-to-post-logout-redirect-uri',
    'The post_logout_redirect_uri is none',
    async (id_token_hint) => ({ id_token_hint, post_logout_redirect_uri: `${bye}?extra=1`, state }),
  ],
  [
    'modified-id-token-hint',
    'The id_token_hint is none',
    async (idToken) => ({ id_token_hint: unsigned(idToken), post_logout_redirect_uri: bye, state }),
  ],
  [
    'bad-id-token-hint',
    'The id_token_hint is none',
    async (_, claims) => ({ id_token_hint: await forged(claims), post_logout_redirect_uri: bye, state }),
  ],
  ['no-id-token-hint', 'The id_token_hint is missing', async () => ({ post_logout_redirect_uri: bye, state })],
  ['no-params', undefined, async () => ({})],
  ['no-post-logout-redirect-uri', undefined, async (id_token_hint) => ({ id_token_hint, state })],
  ['only-state', undefined, async () => ({ state })],
]
for (const [name, problem, sent] of staying)
  module(`oidcc-rp-initiated-logout-${name}`, 'leads nowhere else', async (t, made) => {
    const { app, idToken, claims, leave, isIn } = await signedIn(made)
    const explains = ({ body }: { body: string }) =>
      t.equal(/The \w+ is (none|missing)/.exec(body)?.[0], problem, 'the page says what is wrong with the request')
    let page = await leave(await sent(idToken, claims))
    const isAsked = formsOf(page).some(({ action }) => action === '/sign-out')
    t.equal(isAsked, name !== 'no-post-logout-redirect-uri', 'the user is asked, unless it is their app that says so')
    explains(page)
    t.equal(await isIn(), isAsked)
    if (isAsked) page = await app.browser.submit(page, {}, '/sign-out')
    t.match([page.statusCode, page.headers.location], [200, undefined])
    t.match(page.body, /You are signed out/)
    explains(page)
    t.notOk(await isIn())
  })

module('oidcc-backchannel-rp-initiated-logout', 'the app is told by a logout token', async (t, made) => {
  const { app, clock, receiver } = made
  const { idToken, claims, leave, isIn } = await signedIn(made)
  const answer = await leave({ id_token_hint: idToken, post_logout_redirect_uri: bye, state })
  t.equal(answer.statusCode, 303)
  const told = () => receiver.told.find(({ claims: { sid } }) => sid === claims['sid'])
  await until(() => told() !== undefined)
  const { token } = told() as { token: string }
  const [header, body] = token.split('.').map((part) => Buffer.from(part, 'base64url').toString())
  t.match(JSON.parse(String(header)), { typ: 'logout+jwt', alg: 'RS256', kid: /./ })
  const said = JSON.parse(String(body))
  const names = ['aud', 'events', 'exp', 'iat', 'iss', 'jti', 'sid', 'sub']
  t.same(Object.keys(said).sort(), names, 'no nonce, or it could be taken for an ID token')
  t.match(said, { iss: issuer, aud: 'one', sub: claims.sub, sid: claims['sid'] })
  t.same(said.events, { 'http://schemas.openid.net/event/backchannel-logout': {} })
  t.ok(Math.abs(said.iat - clock.now / 1000) <= 10 && said.exp > said.iat)
  const { keys } = json(await app.inject('/.well-known/jwks.json'))
  t.ok(keys.some(({ kid }: { kid: string }) => kid === JSON.parse(String(header)).kid))
  t.notOk(await isIn())
})
