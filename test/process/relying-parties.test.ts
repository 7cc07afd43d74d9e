import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import * as oauth from 'oauth4webapi'
import * as oidc from 'openid-client'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { deviceGrant } from '../../domain/grant.ts'
import { behind, type Opened, openBrowser } from '../support/browser.ts'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { makeClient } from '../support/client-helper.ts'
import { onOneApp, password, type Scope, signUp } from '../support/helper.ts'
import { readPage } from '../support/pages.ts'
import { root } from '../support/program.ts'
import { freePort, type StartProxy, startHaproxy, startNginx } from '../support/proxies.ts'
import { errorOf } from '../support/relying-party.ts'

/*
 * Certified libraries of JavaScript against a service that listens: what they refuse is wrong here. The page of
 * docs/integrating/openid-connect.md is run in Chromium as it stands there.
 */

const callback = 'http://localhost:8000/callback'
const home = 'http://localhost:8000/'
const grants = ['authorization_code', 'refresh_token', deviceGrant] as const
const scope = 'openid profile email notes:read'

const one = onOneApp(async (_t: Scope, build) => {
  const [port, pagePort] = [await freePort(), await freePort()]
  const origin = `http://localhost:${port}`
  const pageOrigin = `http://localhost:${pagePort}`
  const elsewhere = `http://127.0.0.1:${pagePort}`
  const { app } = await build({
    AUTH_ISSUER: origin,
    AUTH_CORS_ORIGINS: `${pageOrigin},${elsewhere}`,
    AUTH_THROTTLE: 'off',
  })
  await app.listen({ host: 'localhost', port })
  const is = { grants: [...grants], scopes: ['notes:read'], redirectUris: [callback], postLogoutRedirectUris: [home] }
  const { secret } = await makeClient(app, { id: 'shop', name: 'Shop', ...is, requirePar: true })
  const ofDesk = { ...is, redirectUris: ['http://127.0.0.1/callback'] }
  await makeClient(app, { id: 'desk', name: 'Desk', type: 'public', ...ofDesk })
  const pages = [`${pageOrigin}/`, `${elsewhere}/`]
  const ofPage = { grants: grants.slice(0, 2), redirectUris: pages, postLogoutRedirectUris: pages }
  await makeClient(app, { id: 'page', name: 'Page', type: 'public', ...ofPage })
  const { id: userId } = (await signUp(app)).json()
  const site = { ...behind(origin), config: { AUTH_ISSUER: origin } }
  return { origin, pageOrigin, elsewhere, pagePort, secret, userId, newBrowser: () => openBrowser(site) }
})

/** Does what the pages ask for. @returns where the browser is sent in the end */
async function finish(browser: ReturnType<typeof openBrowser>, page: Opened): Promise<URL> {
  if (page.statusCode === 303) return new URL(String(page.headers['location']))
  if (page.url.startsWith('/sign-in')) return finish(browser, await browser.signIn('ada', password, page))
  return finish(browser, await browser.submit(page, { decision: 'allow' }))
}

/** A user types the code of a device into the page that it names, and lets it sign in. */
async function allow(browser: ReturnType<typeof openBrowser>, url: string): Promise<string> {
  const page = await browser.open(url)
  const asked = page.url.startsWith('/sign-in') ? await browser.signIn('ada', password, page) : page
  return (await browser.submit(asked, { decision: 'allow' })).body
}

one('openid-client: a pushed request, PKCE, ID token, userinfo, refresh and logout', async (t, test) => {
  const { origin, secret, userId } = test
  const config = await oidc.discovery(new URL(origin), 'shop', secret, undefined, {
    execute: [oidc.allowInsecureRequests, oidc.enableNonRepudiationChecks],
  })
  const browser = test.newBrowser()

  async function ask() {
    const checks = {
      pkceCodeVerifier: oidc.randomPKCECodeVerifier(),
      expectedState: oidc.randomState(),
      expectedNonce: oidc.randomNonce(),
      idTokenExpected: true,
    }
    const url = await oidc.buildAuthorizationUrlWithPAR(config, {
      redirect_uri: callback,
      scope,
      state: checks.expectedState,
      nonce: checks.expectedNonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(checks.pkceCodeVerifier),
      code_challenge_method: 'S256',
    })
    return { checks, answer: await finish(browser, await browser.open(url.href)) }
  }

  const { checks, answer } = await ask()
  const tokens = await oidc.authorizationCodeGrant(config, answer, checks)
  t.match(tokens.claims(), { iss: origin, aud: 'shop', sub: userId, nonce: checks.expectedNonce })
  const user = await oidc.fetchUserInfo(config, tokens.access_token, userId)
  t.match(user, { sub: userId, name: 'ada', preferred_username: 'ada' })
  const next = await oidc.refreshTokenGrant(config, tokens.refresh_token as string)
  t.equal(next.claims()?.sub, userId)
  t.not(next.refresh_token, tokens.refresh_token)

  const second = await ask()
  t.equal(await errorOf(oidc.authorizationCodeGrant(config, answer, checks)), 'invalid_grant', 'a code twice')
  const of = (changed: object) => oidc.authorizationCodeGrant(config, second.answer, { ...second.checks, ...changed })
  await t.rejects(of({ expectedState: 'x' }), /invalid response/, 'another state')
  t.equal(await errorOf(of({ pkceCodeVerifier: oidc.randomPKCECodeVerifier() })), 'invalid_grant', 'another verifier')
  const third = await ask()
  await t.rejects(
    oidc.authorizationCodeGrant(config, third.answer, { ...third.checks, expectedNonce: 'x' }),
    /unexpected JWT claim value/,
    'another nonce',
  )
  const foreign = new URL(third.answer)
  foreign.searchParams.set('iss', 'https://evil.example')
  await t.rejects(oidc.authorizationCodeGrant(config, foreign, third.checks), /invalid response/, 'another issuer')

  const fourth = await ask()
  const last = await oidc.authorizationCodeGrant(config, fourth.answer, fourth.checks)
  const out = oidc.buildEndSessionUrl(config, {
    id_token_hint: last.id_token as string,
    post_logout_redirect_uri: home,
    state: 'bye',
  })
  t.equal((await finish(browser, await browser.open(out.href))).href, `${home}?state=bye`)
  t.equal(await errorOf(oidc.refreshTokenGrant(config, last.refresh_token as string)), 'invalid_grant', 'signed out')
})

one('openid-client: a device', async (t, test) => {
  const { origin, secret, userId } = test
  const config = await oidc.discovery(new URL(origin), 'shop', secret, oidc.ClientSecretBasic(secret), {
    execute: [oidc.allowInsecureRequests],
  })
  const codes = await oidc.initiateDeviceAuthorization(config, { scope })
  t.match(await allow(test.newBrowser(), codes.verification_uri_complete as string), /Go back to the device/)
  // The first question may come at once.
  const tokens = await oidc.pollDeviceAuthorizationGrant(config, { ...codes, interval: 0.01 })
  t.match(tokens.claims(), { aud: 'shop', sub: userId })
  t.equal((await oidc.refreshTokenGrant(config, tokens.refresh_token as string)).claims()?.sub, userId)
})

one('oauth4webapi: an app on somebody\u2019s machine, at a port of the moment, and as a device', async (t, test) => {
  const { origin, userId } = test
  const options = { [oauth.allowInsecureRequests]: true }
  const issuer = new URL(origin)
  const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, options))
  t.same(
    await oauth.processDiscoveryResponse(
      issuer,
      await oauth.discoveryRequest(issuer, { ...options, algorithm: 'oauth2' }),
    ),
    as,
    'one document by two names',
  )
  const client: oauth.Client = { client_id: 'desk' }
  const redirectUri = `http://127.0.0.1:${await freePort()}/callback`
  const verifier = oauth.generateRandomCodeVerifier()
  const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()]
  const url = `${as.authorization_endpoint}?${new URLSearchParams({
    ...{ client_id: 'desk', redirect_uri: redirectUri, response_type: 'code', scope, state, nonce },
    ...{ code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' },
  })}`
  const browser = test.newBrowser()
  const answer = await finish(browser, await browser.open(url))
  t.equal(answer.origin + answer.pathname, redirectUri)
  const parameters = oauth.validateAuthResponse(as, client, answer, state)
  const tokens = await oauth.processAuthorizationCodeResponse(
    as,
    client,
    await oauth.authorizationCodeGrantRequest(as, client, oauth.None(), parameters, redirectUri, verifier, options),
    { expectedNonce: nonce, requireIdToken: true },
  )
  t.equal(oauth.getValidatedIdTokenClaims(tokens)?.sub, userId)
  const userInfo = await oauth.userInfoRequest(as, client, tokens.access_token, options)
  t.match(await oauth.processUserInfoResponse(as, client, userId, userInfo), { name: 'ada' })
  const refresh = async () =>
    oauth.processRefreshTokenResponse(
      as,
      client,
      await oauth.refreshTokenGrantRequest(as, client, oauth.None(), tokens.refresh_token as string, options),
    )
  t.ok((await refresh()).id_token)
  await oauth.processRevocationResponse(
    await oauth.revocationRequest(as, client, oauth.None(), tokens.refresh_token as string, options),
  )
  t.equal(await errorOf(refresh()), 'invalid_grant', 'revoked')

  const asked = new URLSearchParams({ scope })
  const codes = await oauth.processDeviceAuthorizationResponse(
    as,
    client,
    await oauth.deviceAuthorizationRequest(as, client, oauth.None(), asked, options),
  )
  await allow(browser, codes.verification_uri_complete as string)
  const trade = async () =>
    oauth.processDeviceCodeResponse(
      as,
      client,
      await oauth.deviceCodeGrantRequest(as, client, oauth.None(), codes.device_code, options),
    )
  t.equal(oauth.getValidatedIdTokenClaims(await trade())?.sub, userId)
  t.equal(await errorOf(trade()), 'invalid_grant', 'a code twice')
})

const doc = readPage('docs/integrating/openid-connect.md')
const mainScript = /^```js\n\/\/ main\.js\n(.*?)^```$/ms.exec(doc)?.[1] ?? ''
const html = /^```html\n(.*?)^```$/ms.exec(doc)?.[1] ?? ''
const imports = {
  'oidc-client-ts': '/node_modules/oidc-client-ts/dist/esm/oidc-client-ts.js',
  'jwt-decode': '/node_modules/jwt-decode/build/esm/index.js',
}

/** Serves the page on `localhost` and 127.0.0.1, which are two sites. */
async function servePage(t: Test, port: number, auth: string): Promise<void> {
  const map = `<script type="importmap">${JSON.stringify({ imports })}</script><script type="module" src="main.js">`
  const server = createServer(async ({ url = '' }, response) => {
    const { pathname } = new URL(url, 'http://localhost')
    const js = { 'content-type': 'text/javascript' }
    if (pathname === '/main.js') response.writeHead(200, js).end(mainScript.replace('http://localhost:3000', auth))
    else if (Object.values(imports).includes(pathname))
      response.writeHead(200, js).end(await readFile(join(root, pathname)))
    else if (pathname === '/')
      response
        .writeHead(200, { 'content-type': 'text/html' })
        .end(html.replace('<script type="module" src="main.js">', map))
    else response.writeHead(404).end()
  })
  await once(server.listen(port, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
}

const title = 'oidc-client-ts in Chromium, by the page of the docs: sign-in, renewal, another tab, another site, logout'
if (withoutChromium) t.test(title, { skip: withoutChromium }, async () => {})
else one(title, useThePage)

async function useThePage(
  t: Test,
  {
    origin,
    pageOrigin,
    elsewhere,
    pagePort,
  }: { origin: string; pageOrigin: string; elsewhere: string; pagePort: number },
): Promise<void> {
  await servePage(t, pagePort, origin)
  const context = await (await startChromium(t)).newContext()
  const problems: string[] = []
  context.on('weberror', (error) => problems.push(String(error.error())))
  const open = async (url: string) => {
    const page = await context.newPage()
    page.setDefaultTimeout(30_000)
    await page.goto(url)
    return page
  }
  const says = (page: Page, text: string) => page.waitForSelector(`#who:text-is("${text}")`)
  /** Calls the page's manager of users. @returns what an expression makes of it, or the error that it is refused by */
  const ask = (page: Page, expression: string) =>
    page.evaluate(
      `import('/main.js').then(({ users }) => ${expression}).catch(({ error, message }) => error ?? message)`,
    )
  /** The whole window goes, and comes back. */
  const goAndAsk = (page: Page) =>
    page.evaluate(`void import('/main.js').then(({ users }) => users.signinRedirect({ prompt: 'none' }))`)
  const silent = 'users.signinSilent().then((user) => user.profile.name)'

  const page = await open(`${pageOrigin}/`)
  await says(page, 'Nobody is signed in')
  await page.click('#in')
  await page.fill('[name=username]', 'ada')
  await page.fill('[name=password]', password)
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()
  await page.click('button[value=allow]')
  await says(page, 'Signed in as ada')
  t.equal(page.url(), `${pageOrigin}/`, 'without the code')

  const kept = 'users.getUser().then((user) => user.refresh_token)'
  const before = await ask(page, kept)
  t.equal(await ask(page, silent), 'ada', 'by the refresh token')
  t.match(before, /^lkr_/)
  t.not(await ask(page, kept), before)
  const both = 'Promise.all([users.signinSilent(), users.signinSilent()]).then((all) => all.length)'
  t.equal(await ask(page, both), 2, 'two renewals at once')

  const tab = await open(`${pageOrigin}/`)
  await says(tab, 'Signed in as ada')
  const far = await open(`${elsewhere}/`)
  await says(far, 'Nobody is signed in')
  t.equal(await ask(far, silent), 'login_required', 'a frame of another site has no cookie')
  await goAndAsk(far)
  await says(far, 'Signed in as ada')

  await page.click('#out')
  await page.waitForURL(`${pageOrigin}/`)
  await says(page, 'Nobody is signed in')
  t.equal(await ask(tab, silent), 'invalid_grant', 'the session of the other tab has ended with it')
  await ask(tab, 'users.getUser().then((user) => users.events.load(Object.assign(user, { expires_in: 60 })))')
  await says(tab, 'Nobody is signed in')
  const answered = tab.waitForRequest(/[?&]error=login_required/)
  await goAndAsk(tab)
  await answered
  await says(tab, 'Nobody is signed in')
  t.same(problems, [])
}

const proxies: [string, StartProxy][] = [
  ['nginx', startNginx],
  ['HAProxy', startHaproxy],
]
for (const [name, startProxy] of proxies)
  one(`an app that sends a long state, behind ${name} as in deploy/`, async (t, { origin, elsewhere }) => {
    const port = Number(new URL(origin).port)
    const proxy = await startProxy(t, [port, port])
    if ('missing' in proxy) return void t.test('', { skip: proxy.missing }, () => {})
    const query = new URLSearchParams({
      ...{ client_id: 'page', response_type: 'code', redirect_uri: `${elsewhere}/`, scope: 'openid' },
      ...{ code_challenge: await oauth.calculatePKCECodeChallenge('v'.repeat(43)), code_challenge_method: 'S256' },
      state: 's'.repeat(5_000),
    })
    const asked = await fetch(`${proxy.origin}/authorize?${query}`, { redirect: 'manual' })
    t.equal(asked.status, 303)
    const cookie = asked.headers
      .getSetCookie()
      .map((text) => text.split(';', 1)[0])
      .join('; ')
    const page = await fetch(`${proxy.origin}${asked.headers.get('location')}`, { headers: { cookie } })
    t.match(await page.text(), /name="password"/)
  })
