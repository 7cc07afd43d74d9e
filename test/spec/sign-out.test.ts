import type { FastifyInstance } from 'fastify'
import { generateKeyPair, SignJWT } from 'jose'
import { formsOf, type Opened, openBrowser } from '../support/browser.ts'
import { type Build, isAccepted, onOneApp, onOneStore, overStores, postForm, signUp } from '../support/helper.ts'
import { startLogoutReceiver } from '../support/logout-receiver.ts'
import { addApp, said, signInTo } from '../support/sign-outs.ts'

/* Signing out, on one's own and by an app: OpenID Connect RP-Initiated Logout 1.0, contract section 12. */

const bye = 'https://shop.example.com/bye'
const shop = { postLogoutRedirectUris: [bye, 'https://shop.example.com/bye?lang=en', 'com.example.shop:/bye'] }

const urlOf = (asked: Record<string, string>) => `/sign-out?${new URLSearchParams(asked)}`

async function buildWith(build: Build) {
  const test = await build()
  await signUp(test.app)
  await signUp(test.app, 'bob')
  await addApp(test.app, 'shop', shop)
  await addApp(test.app, 'wiki')
  return test
}

const isRefreshed = async (app: FastifyInstance, token: string, client_id: string) =>
  (await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token: token, client_id })).statusCode === 200

const asks = (page: Opened) =>
  page.statusCode === 200 && formsOf(page).some(({ action }) => action.startsWith('/sign-out'))
const isSignedIn = async (browser: ReturnType<typeof openBrowser>) => asks(await browser.request('GET', '/sign-out'))
const confirm = (browser: ReturnType<typeof openBrowser>, page: Opened) => browser.submit(page, {}, '/sign-out')

const onOne = onOneApp((_, build) => buildWith(build))

onOne('an app whose user is signed in here signs them out, and gets them back', async (t, { app, clock }) => {
  const browser = openBrowser(app)
  const tokens = await signInTo(app, browser, 'shop')
  const others = await signInTo(app, browser, 'wiki', { scope: 'openid offline_access' })
  t.ok(await isSignedIn(browser))
  // The hint may be old.
  clock.now += 20 * 60_000
  const { access_token: later } = (
    await postForm(app, '/token', {
      ...{ grant_type: 'refresh_token', refresh_token: tokens.refresh_token, client_id: 'shop' },
    })
  ).json()
  const asked = { id_token_hint: tokens.id_token, post_logout_redirect_uri: bye, state: 'a b&c=+' }
  const answer = await browser.request('GET', urlOf(asked))
  t.equal(answer.statusCode, 303)
  const to = new URL(answer.headers.location as string)
  t.equal(`${to.origin}${to.pathname}`, bye)
  t.same([...to.searchParams], [['state', 'a b&c=+']])
  t.equal(browser.jar.has('latchkey'), false)
  t.notOk(await isSignedIn(browser))
  t.notOk(await isAccepted(app, later), 'its access token is refused at once')
  t.notOk(await isRefreshed(app, tokens.refresh_token, 'shop'))
  t.ok(await isRefreshed(app, others.refresh_token, 'wiki'), 'offline_access goes on')
})

onOne('a hint alone is enough to sign out, and the page stays here', async (t, { app }) => {
  const browser = openBrowser(app)
  const { id_token } = await signInTo(app, browser, 'shop')
  const page = await browser.request('GET', urlOf({ id_token_hint: id_token, client_id: 'shop' }))
  t.match(page, { statusCode: 200, body: /You are signed out/ })
  t.notOk(await isSignedIn(browser))
})

onOne("the parameters may come by POST, of the app's own page too", async (t, { app }) => {
  const browser = openBrowser(app)
  const { id_token } = await signInTo(app, browser, 'shop')
  const asked = { id_token_hint: id_token, post_logout_redirect_uri: bye, state: '1', ui_locales: 'ko' }
  const foreign = { 'sec-fetch-site': 'cross-site', origin: 'https://shop.example.com' }
  // SameSite=Lax keeps the cookie back.
  const bounced = await postForm(app, '/sign-out', asked, { headers: foreign })
  t.equal(bounced.statusCode, 303)
  const location = bounced.headers.location as string
  t.same(Object.fromEntries(new URL(location, 'http://localhost:3000').searchParams), asked)
  t.equal((await browser.request('GET', location)).headers.location, `${bye}?state=1`)
  t.notOk(await isSignedIn(browser))

  const { id_token: next } = await signInTo(app, browser, 'shop')
  const answer = await browser.request('POST', '/sign-out', { ...asked, id_token_hint: next })
  t.equal(answer.headers.location, `${bye}?state=1`, 'with the cookie at once')
})

onOne('addresses with a query, and of apps, are sent back to as they were registered', async (t, { app }) => {
  for (const [uri, to] of [
    ['https://shop.example.com/bye?lang=en', 'https://shop.example.com/bye?lang=en&state=1'],
    ['com.example.shop:/bye', 'com.example.shop:/bye?state=1'],
  ] as const) {
    const browser = openBrowser(app)
    const { id_token } = await signInTo(app, browser, 'shop')
    const asked = { id_token_hint: id_token, post_logout_redirect_uri: uri, state: '1' }
    t.equal((await browser.request('GET', urlOf(asked))).headers.location, to)
  }
})

/** Requests by which nobody is signed out without being asked, and where they lead once they have said yes. */
async function doubtful(app: FastifyInstance) {
  const browser = openBrowser(app)
  const tokens = await signInTo(app, browser, 'shop')
  const { id_token: hint } = tokens
  const [head = '', body = '', signature = ''] = hint.split('.')
  const altered = [head, Buffer.from(JSON.stringify({ ...said(hint), aud: 'wiki' })).toString('base64url'), signature]
  const unsigned = [Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url'), body, '']
  const { privateKey } = await generateKeyPair('ES256')
  const { kid } = JSON.parse(Buffer.from(head, 'base64url').toString())
  const foreign = await new SignJWT(said(hint)).setProtectedHeader({ alg: 'ES256', kid, typ: 'JWT' }).sign(privateKey)
  const ofBob = await signInTo(app, openBrowser(app), 'shop', { username: 'bob' })
  const ofAnother = await signInTo(app, openBrowser(app), 'shop')
  const to = { post_logout_redirect_uri: bye }
  const stays: Record<string, string> = {
    'nothing at all': urlOf({}),
    'only a state': urlOf({ state: '1' }),
    'an address without a hint': urlOf(to),
    'an address and another client than the hint names': urlOf({ id_token_hint: hint, client_id: 'wiki', ...to }),
    'an altered hint': urlOf({ id_token_hint: altered.join('.'), ...to }),
    'a hint without a signature': urlOf({ id_token_hint: unsigned.join('.'), ...to }),
    'a hint by another key': urlOf({ id_token_hint: foreign, ...to }),
    'an access token in the place of the hint': urlOf({ id_token_hint: tokens.access_token, ...to }),
    'no token': urlOf({ id_token_hint: 'x', ...to }),
    'a repeated hint': `${urlOf({ id_token_hint: hint, ...to })}&id_token_hint=${hint}`,
    'an address that the client of the hint has not registered': urlOf({
      id_token_hint: (await signInTo(app, browser, 'wiki')).id_token,
      ...to,
    }),
  }
  for (const uri of [
    ...[
      `${bye}?a=b`,
      `${bye}/`,
      `${bye}#x`,
      `${bye}%20`,
      `${bye}/../x`,
      'https://SHOP.example.com/bye',
      ' '.concat(bye),
    ],
    ...['http://shop.example.com/bye', 'https://shop.example.com:443/bye', 'https://shop.example.com@evil.example/bye'],
    ...['https://evil.example/bye', '//evil.example', '/\\evil.example', 'https:evil.example', 'javascript:alert(1)'],
    ...['https://shop.example.com\\@evil.example/bye', 'https://shop.example.com.evil.example/bye', '/account'],
    ...['https://shop.example.com/cb', `${bye}\n`, `${bye}\tx`, 'data:text/html,x', `${bye};x`],
  ])
    stays[`a good hint and ${JSON.stringify(uri)}`] = urlOf({ id_token_hint: hint, post_logout_redirect_uri: uri })
  const leaves: Record<string, string> = {
    'a hint of another user': urlOf({ id_token_hint: ofBob.id_token, ...to }),
    'a hint of another browser': urlOf({ id_token_hint: ofAnother.id_token, ...to }),
  }
  return { browser, stays, leaves }
}

onOne('whoever is signed in is asked before anything else signs them out', async (t, { app }) => {
  const { browser, stays, leaves } = await doubtful(app)
  for (const [what, url] of Object.entries({ ...stays, ...leaves })) {
    const page = await browser.request('GET', url)
    t.ok(asks(page), what)
    t.match(page.body, /ada/, 'and told who they are')
    t.ok(await isSignedIn(browser), what)
  }
  for (const [what, url] of Object.entries(stays).slice(0, 12)) {
    const own = openBrowser(app)
    await signInTo(app, own, 'shop')
    const done = await confirm(own, await own.request('GET', url))
    t.match(done, { statusCode: 200, body: /You are signed out/ }, what)
    t.notOk(await isSignedIn(own), what)
  }
  for (const [what, url] of Object.entries(leaves)) {
    const own = openBrowser(app)
    await signInTo(app, own, 'shop')
    const page = await own.request('GET', url)
    const policy = String(page.headers['content-security-policy'])
    t.match(policy, /form-action 'self' https:\/\/shop\.example\.com /, 'Chromium holds redirects to it')
    t.equal((await confirm(own, page)).headers.location, bye, what)
    t.notOk(await isSignedIn(own), what)
  }
})

onOne('where nobody is signed in, only a good hint leads away', async (t, { app }) => {
  const { stays, leaves } = await doubtful(app)
  for (const [what, url] of Object.entries(stays))
    t.match(await openBrowser(app).open(url), { statusCode: 200, body: /You are signed out/ }, what)
  for (const [what, url] of Object.entries(leaves))
    t.match(await openBrowser(app).request('GET', url), { statusCode: 303, headers: { location: bye } }, what)
})

onOne('a client that has no hint gets a link, not a redirect', async (t, { app }) => {
  const browser = openBrowser(app)
  await signInTo(app, browser, 'shop')
  const url = urlOf({ client_id: 'shop', post_logout_redirect_uri: bye, state: '"><script>' })
  const page = await browser.request('GET', url)
  t.ok(asks(page))
  const done = await confirm(browser, page)
  t.equal(done.statusCode, 200)
  t.match(done.body, `href="${bye}?state=%22%3E%3Cscript%3E"`)
  t.notMatch((await browser.open(urlOf({ client_id: 'wiki', post_logout_redirect_uri: bye }))).body, bye)
})

onOne('nobody else can answer the question', async (t, { app }) => {
  const browser = openBrowser(app)
  await signInTo(app, browser, 'shop')
  const page = await browser.request('GET', '/sign-out')
  const { csrf = '' } = formsOf(page).find(({ action }) => action.startsWith('/sign-out'))?.fields ?? {}
  t.ok(csrf)
  const another = openBrowser(app)
  await signInTo(app, another, 'shop', { username: 'bob' })
  const foreign = formsOf(await another.request('GET', '/sign-out'))[0]?.fields['csrf'] ?? ''
  for (const [what, sent] of Object.entries({ 'of another browser': foreign, 'made up': 'x', empty: '' }))
    t.equal((await browser.request('POST', '/sign-out', { csrf: sent })).statusCode, 403, what)
  t.ok(asks(await browser.request('POST', '/sign-out', {})), 'a form of another site is asked about')
  t.equal((await app.inject({ method: 'HEAD', url: '/sign-out' })).statusCode, 405)
  t.ok(await isSignedIn(browser))
  t.match(page.headers, {
    'content-security-policy': /frame-ancestors 'none'/,
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
  })
  t.equal((await browser.request('POST', '/sign-out', { csrf })).statusCode, 200)
  t.notOk(await isSignedIn(browser))
  t.equal((await browser.request('POST', '/sign-out', { csrf })).statusCode, 403, 'nor twice')
})

onOne('the page speaks the language that the app asks for, or the browser', async (t, { app }) => {
  const browser = openBrowser(app)
  await signInTo(app, browser, 'shop')
  const page = await browser.request('GET', '/sign-out?ui_locales=ko-KR%20en')
  t.match(page.body, /<html lang="ko">.*로그아웃할까요/s)
  t.match((await confirm(browser, page)).body, /로그아웃했습니다/)
  t.match((await openBrowser(app, { 'accept-language': 'ko' }).open('/sign-out')).body, /로그아웃했습니다/)
})

overStores('the apps of a browser are told that it was signed out, each of its own session', async (t, build) => {
  const receiver = await startLogoutReceiver(t)
  const { app } = await build({ AUTH_FETCH_ALLOW: '127.0.0.1' })
  await signUp(app)
  for (const id of ['shop', 'wiki', 'mail', 'other'])
    await addApp(app, id, id === 'other' ? {} : { backchannelLogoutUri: `${receiver.origin}/${id}` })
  const browser = openBrowser(app)
  const [first, second, third] = [
    await signInTo(app, browser, 'shop'),
    await signInTo(app, browser, 'wiki', { scope: 'openid offline_access' }),
    await signInTo(app, browser, 'mail'),
  ]
  await signInTo(app, browser, 'other')
  const elsewhere = await signInTo(app, openBrowser(app), 'shop')

  const headers = { authorization: `Bearer ${third.access_token}` }
  const url = `/users/me/sessions/${said(third.id_token).sid}`
  t.equal((await app.inject({ method: 'DELETE', url, headers })).statusCode, 204)
  await told(app)
  t.same(receiver.sidsTold(), [said(third.id_token).sid], 'a session that is ended by itself is told of')

  await browser.request('GET', urlOf({ id_token_hint: first.id_token }))
  await told(app)
  const sids = [first, second, third].map(({ id_token }) => said(id_token).sid)
  t.same(receiver.sidsTold(), sids.sort(), 'with offline_access too, but none twice')
  for (const { path, claims } of receiver.told) t.match(claims, { aud: path.slice(1), sub: said(first.id_token).sub })
  t.ok(await isRefreshed(app, elsewhere.refresh_token, 'shop'), 'what another browser has opened stays')
})
const told = async (app: FastifyInstance) => {
  await app.logouts.look()
  await app.logouts.sent()
}

onOneStore('with AUTH_PAGES=off nobody is signed out by a browser', async (t, build) => {
  const { app } = await build({ AUTH_PAGES: 'off' })
  for (const method of ['GET', 'POST'] as const)
    t.equal((await app.inject({ method, url: '/sign-out' })).statusCode, 404)
})
