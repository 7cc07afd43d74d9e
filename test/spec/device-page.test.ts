import type { FastifyInstance } from 'fastify'
import { openBrowser } from '../support/browser.ts'
import { callerFrom } from '../support/client-helper.ts'
import { type Codes, codesOf, makeDeviceClient, poll } from '../support/devices.ts'
import { codeOf, giveTotp } from '../support/factors.ts'
import { type Build, claimsOf, giveRoles, json, onOneApp, onOneStore, signUp, storeOf } from '../support/helper.ts'

/* The page on which a user lets a device sign in, RFC 8628 §3.3 and §5. */

const allowedTitle = 'Go back to the device'
const askTitle = 'Let this device sign in?'
const wrong = 'No device waits with this code'

async function serve(build: Build, settings: Record<string, string> = {}) {
  const test = await build({ AUTH_THROTTLE: 'off', ...settings })
  await makeDeviceClient(test.app, { name: 'Files', scopes: ['admin', 'files:read'] })
  return test
}

const idOf = async (app: FastifyInstance, username: string) =>
  (await storeOf(app).findUserByName(username))?.id as string

const one = onOneApp(async (_t, build) => serve(build))
let users = 0
/** A browser in which a new user is signed in. */
async function signedIn(app: FastifyInstance) {
  const username = `ada${++users}`
  await signUp(app, username)
  const browser = openBrowser(app)
  await browser.signIn(username)
  return { username, browser }
}

const pathOf = ({ verification_uri_complete: url }: Codes) => url.replace('http://localhost:3000', '')

one('whoever has the code types it, signs in, and is asked; the device then has a session', async (t, { app }) => {
  await signUp(app, 'ada')
  const codes = await codesOf(app, { scope: 'openid files:read' })
  const browser = openBrowser(app)
  const form = await browser.open('/device')
  t.match([form.statusCode, form.body], [200, /Sign in on a device/])
  const signIn = await browser.submit(form, { user_code: codes.user_code.toLowerCase() })
  t.match(signIn.url, /^\/sign-in\?request=/, 'nobody learns more before they are signed in')
  t.notOk(signIn.body.includes('Files'))
  const page = await browser.signIn('ada', undefined, signIn)
  t.match(page.url, '/device?user_code=')
  for (const shown of [
    askTitle,
    '>Files<',
    codes.user_code,
    '127.0.0.1',
    'less than a minute ago',
    'files:read',
    'ada',
  ])
    t.ok(page.body.includes(shown), shown)
  t.equal(json(await poll(app, codes)).error, 'authorization_pending', 'to look changes nothing')

  const done = await browser.submit(page, { decision: 'allow' })
  t.match([done.statusCode, done.body], [200, allowedTitle])
  const tokens = json(await poll(app, codes))
  const { sid, sub } = claimsOf(tokens.access_token) as { sid: string; sub: string }
  t.equal(sub, await idOf(app, 'ada'))
  t.match(tokens, { scope: 'openid files:read', id_token: String })
  const session = await storeOf(app).findSession(sid)
  t.match(session, { clientId: 'cli', parent: undefined, amr: ['pwd'] })
  t.match(await app.consents.of(sub), [{ clientId: 'cli', scope: ['openid', 'files:read'] }], 'and may be taken back')

  await app.browserSessions.endById(callerFrom('192.0.2.1', app.log), sub, (await browserOf(app, sub)).id)
  t.ok(await storeOf(app).findSession(sid), 'it does not end with the browser that it was let in from')
})

const browserOf = async (app: FastifyInstance, userId: string) => {
  const [session] = await app.browserSessions.list(userId)
  if (!session) throw new Error('nobody is signed in')
  return session
}

one('the link with the code in it leads whoever is signed in to the question', async (t, { app }) => {
  const { browser } = await signedIn(app)
  const codes = await codesOf(app)
  const page = await browser.open(`${pathOf(codes)}&ui_locales=ko`)
  t.match([page.statusCode, page.body], [200, /<html lang="ko">/])
  const done = await browser.submit(page, { decision: 'deny' })
  t.match([done.statusCode, done.body], [200, /<html lang="ko">.*허용하지 않았습니다/s])
  t.equal(json(await poll(app, codes)).error, 'access_denied')
  const later = await browser.open(pathOf(codes))
  t.match([later.statusCode, later.body], [400, wrong], 'that is final')
})

one('a form that is sent twice says the same; of another user the code is as good as unknown', async (t, { app }) => {
  const [{ browser }, { browser: other }] = [await signedIn(app), await signedIn(app)]
  const codes = await codesOf(app)
  const page = await browser.open(pathOf(codes))
  const ofOther = await other.open(pathOf(codes))
  t.match((await browser.submit(page, { decision: 'allow' })).body, allowedTitle)
  t.match((await browser.submit(page, { decision: 'allow' })).body, allowedTitle)
  t.match((await browser.open(pathOf(codes))).body, allowedTitle)
  for (const late of [await other.submit(ofOther, { decision: 'allow' }), await other.open(pathOf(codes))])
    t.match([late.statusCode, late.body], [400, wrong])
  t.match((await other.open('/device?user_code=BBBB-BBBB')).body, wrong)
  t.equal((await poll(app, codes)).statusCode, 200)
})

one('nobody decides for somebody else: the form is of this page, this browser and this user', async (t, { app }) => {
  const { browser } = await signedIn(app)
  const codes = await codesOf(app)
  const page = await browser.open(pathOf(codes))
  const csrf = /name="csrf" value="([^"]+)"/.exec(page.body)?.[1] ?? ''
  t.ok(csrf)
  const form = { user_code: codes.user_code, decision: 'allow' }
  const { browser: other } = await signedIn(app)
  const send = (headers: Record<string, string>, fields: Record<string, string>) =>
    app.inject({
      method: 'POST',
      url: '/device',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      payload: new URLSearchParams(fields).toString(),
    })
  const cookie = [...browser.jar].map(([name, value]) => `${name}=${value}`).join('; ')
  const ofOther = [...other.jar].map(([name, value]) => `${name}=${value}`).join('; ')
  const refused = {
    'no hidden value': await send({ cookie }, form),
    'another form': await send({ cookie }, { ...form, csrf: csrf.replace(/^./, (c) => (c === 'A' ? 'B' : 'A')) }),
    'another browser': await send({ cookie: ofOther }, { ...form, csrf }),
    'another site': await send({ cookie, 'sec-fetch-site': 'cross-site' }, { ...form, csrf }),
    'another origin': await send({ cookie, origin: 'https://evil.example' }, { ...form, csrf }),
    'no cookies': await send({}, { ...form, csrf }),
  }
  for (const [what, answer] of Object.entries(refused)) t.equal(answer.statusCode, 403, what)
  t.equal(json(await poll(app, codes)).error, 'authorization_pending')
  t.match((await send({ cookie }, { ...form, csrf, decision: 'x' })).body, askTitle, 'without a decision it asks again')
  t.equal((await send({ cookie }, { ...form, csrf })).statusCode, 200)
  t.equal(page.headers['content-security-policy']?.toString().includes("frame-ancestors 'none'"), true)
})

one('a device gets no more than the user has: admin, and a second factor', async (t, { app, clock }) => {
  const { username, browser } = await signedIn(app)
  const codes = await codesOf(app, { scope: 'admin' })
  const page = await browser.open(pathOf(codes))
  t.match(page.body, 'Administer this service')
  const refused = await browser.submit(page, { decision: 'allow' })
  t.match([refused.statusCode, refused.body], [403, /only administrators have/])
  t.equal(json(await poll(app, codes)).error, 'authorization_pending')
  await giveRoles(storeOf(app), await idOf(app, username), ['admin'])
  t.match((await browser.submit(await browser.open(pathOf(codes)), { decision: 'allow' })).body, allowedTitle)
  t.match(json(await poll(app, codes)), { scope: 'admin' })

  const { secret } = await giveTotp(app, username)
  const next = await codesOf(app)
  const signIn = await browser.open(pathOf(next))
  t.match(signIn.url, /^\/sign-in/, 'who has a factor has to have shown it')
  const step = await browser.signIn(username, undefined, signIn)
  const asked = await browser.submit(step, { otp: codeOf(secret, clock.now) })
  t.match(asked.body, askTitle)
  await browser.submit(asked, { decision: 'allow' })
  t.match(claimsOf(json(await poll(app, next)).access_token), { acr: 'urn:latchkey:acr:2', amr: ['pwd', 'otp', 'mfa'] })
})

onOneStore('wrong codes are counted: after ten the page says how long to wait', async (t, build) => {
  const { app } = await serve(build, { AUTH_THROTTLE: 'on' })
  const { browser } = await signedIn(app)
  const codes = await codesOf(app)
  const open = (code: string) => browser.open(`/device?user_code=${code}`)
  for (let n = 0; n < 10; n++) t.match(await open(n === 9 ? 'x'.repeat(5_000) : 'BCDF-GHJK'), { statusCode: 400 })
  const waits = await open(codes.user_code)
  t.match([waits.statusCode, waits.headers['retry-after'], waits.body], [429, '30', /Try again in a minute/])
  t.equal(json(await poll(app, codes)).error, 'authorization_pending')
})

onOneStore('an issuer with a path: the link is below it', async (t, build) => {
  const { app } = await serve(build, { AUTH_ISSUER: 'http://localhost:3000/auth' })
  const codes = await codesOf(app)
  t.equal(codes.verification_uri_complete, `http://localhost:3000/auth/device?user_code=${codes.user_code}`)
  const { browser } = await signedIn(app)
  const page = await browser.open(codes.verification_uri_complete)
  t.match((await browser.submit(page, { decision: 'allow' })).body, allowedTitle)
})
