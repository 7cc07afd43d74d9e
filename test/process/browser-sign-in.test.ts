import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Browser, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { Session } from '../../domain/session.ts'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { makeClient } from '../support/client-helper.ts'
import { type Build, giveRoles, onOneStore, password, signUp, storeOf } from '../support/helper.ts'
import { mailsInto } from '../support/mail.ts'
import { freePort } from '../support/proxies.ts'

/* What only a real browser tells of the pages: where their forms may lead under the policy, and passkeys, by script. */

const title = 'signing in and out in Chromium'
if (withoutChromium) t.test(title, { skip: withoutChromium }, async () => {})
else onOneStore(title, signInThere)

async function signInThere(t: Test, build: Build): Promise<void> {
  const port = await freePort()
  const origin = `http://localhost:${port}`
  const settings = { AUTH_ISSUER: origin, AUTH_THROTTLE: 'off', AUTH_MFA: 'admins' }
  const { app, clock } = await build({ ...(await mailsInto(t)), ...settings })
  await app.listen({ host: '127.0.0.1', port })
  const browser = await startChromium(t)
  const elsewhere = await serve(t, '127.0.0.1', (_request, response) => response.end('elsewhere'))
  const hop = await serve(t, '127.0.0.1', (_request, response) =>
    response.writeHead(302, { location: `${elsewhere}/` }).end(),
  )
  const there = await serve(t, '::1', (_request, response) => response.end('there'))
  const posted = await serve(t, '127.0.0.1', (request, response) => response.end(`posted by ${request.method}`))
  const targets = { hop: `${hop}/cb`, there: `${there}/cb`, posted: `${posted}/cb`, phone: 'com.example.app:/cb' }
  const bye = `${elsewhere}/bye`
  await makeClient(app, {
    ...{ id: 'wiki', type: 'public', consent: 'ask', grants: ['authorization_code'], scopes: ['articles:read'] },
    ...{ redirectUris: Object.values(targets), postLogoutRedirectUris: [bye] },
  })
  const ask = (to: string, more: Record<string, string> = {}) =>
    `${origin}/authorize?${new URLSearchParams({
      ...{ client_id: 'wiki', redirect_uri: to, response_type: 'code', scope: 'openid articles:read' },
      ...{ code_challenge: 'x'.repeat(43), code_challenge_method: 'S256', ...more },
    })}`

  await t.test('forms lead to the app, and on to wherever it leads', async (t) => {
    await signUp(app, 'grace')
    const [page, withoutScript] = [await windowOf(browser), await windowOf(browser, { javaScriptEnabled: false })]
    for (const [name, words] of [
      ['hop', 'elsewhere'],
      ['there', 'there'],
      ['posted', 'posted by GET'],
    ] as const) {
      await page.context().clearCookies()
      await page.goto(ask(targets[name]))
      await fillIn(page, 'grace')
      if (name === 'hop') await page.locator('[value=allow]').click()
      await page.waitForURL((url) => url.origin !== origin)
      t.equal(await page.textContent('body'), words, name)
    }
    await page.context().clearCookies()
    for (const window of [page, withoutScript]) {
      await window.goto(ask(targets.posted, { response_mode: 'form_post' }))
      await fillIn(window, 'grace')
      if (window === withoutScript) await window.locator('button').click()
      await window.waitForURL(targets.posted)
      t.equal(await window.textContent('body'), 'posted by POST')
    }
    await page.context().clearCookies()
    const toPhone = page.waitForEvent('requestfailed', (request) => request.url().startsWith('com.example.app:'))
    await page.goto(ask(targets.phone))
    await fillIn(page, 'grace')
    t.match((await toPhone).url(), /^com\.example\.app:\/cb\?code=lkc_/, 'which the browser has handed to the app')
    await page.context().close()
  })

  await t.test('it goes on to the app behind the question whether to sign out', async (t) => {
    const user = await storeOf(app).findUser((await signUp(app, 'hedy')).json().id)
    const client = await app.clients.find('wiki')
    if (!user || !client) throw new Error('gone')
    const page = await windowOf(browser, { javaScriptEnabled: false })
    await page.goto(`${origin}/account`)
    await fillIn(page, 'hedy')
    const session: Session = {
      ...{ id: crypto.randomUUID(), userId: user.id, clientId: 'wiki', scope: ['openid'], generation: 0, counter: 0 },
      ...{ createdAt: clock.now, refreshedAt: clock.now, address: '', userAgent: '' },
      parent: crypto.randomUUID(),
    }
    await storeOf(app).importRows('sessions', [session])
    const id_token_hint = await app.idTokens.issue({ client, user, session })
    const asked = { id_token_hint, post_logout_redirect_uri: bye, state: '1' }
    await page.goto(`${origin}/sign-out?${new URLSearchParams(asked)}`)
    await page.locator('form[action^="/sign-out"] button').click()
    await page.waitForURL(`${bye}?state=1`)
    t.same(await app.browserSessions.list(user.id), [])
  })

  await t.test('another site gets nothing done, nothing put into a page runs, nothing is left to see', async (t) => {
    await signUp(app, 'victim')
    const page = await windowOf(browser)
    const enter = async () => {
      await page.goto(`${origin}/sign-in`)
      await fillIn(page, 'victim')
      await page.waitForURL(`${origin}/account`)
    }
    await enter()
    const rows = async () => (await storeOf(app).listAudit({}, { limit: 100 })).rows.length
    const before = await rows()
    // Another port of localhost is the same site, and gets the cookies; 127.0.0.1 is another site.
    for (const host of ['localhost', '127.0.0.1']) {
      const frame = `<iframe src="${origin}/account/deletion"></iframe>`
      const evil = (
        await serve(t, '127.0.0.1', (_, response) => response.setHeader('content-type', 'text/html').end(frame))
      ).replace('127.0.0.1', host)
      await page.goto(evil)
      t.equal(await page.frames()[1]?.locator('form').count(), 0, `no page is in a frame of ${host}`)
      for (const [path, fields] of Object.entries({
        '/account/deletion': { password },
        '/account/sessions': { all: 'yes' },
        '/sign-in': { username: 'victim', password },
        '/sign-up': { username: 'mallory', password },
        '/forgot': { name: 'victim' },
        '/sign-out': { csrf: 'x' },
      })) {
        await page.goto(evil)
        await page.evaluate(sendForm(origin + path, fields))
        await page.waitForURL(origin + path)
        t.equal(await page.locator('h1').textContent(), 'This form could not be accepted', `${path} from ${host}`)
      }
    }
    t.equal(await rows(), before, 'nothing has happened')

    const injected =
      '<script>document.title = "run"</script><img src="x" onerror="document.title = \'run\'"><style>h1 { display: none }</style><a href="javascript:document.title=\'run\'">link</a>'
    await page.route('**/account', async (route) => {
      const answer = await route.fetch()
      await route.fulfill({ response: answer, body: (await answer.text()).replace('<main>', `<main>${injected}`) })
    })
    await page.goto(`${origin}/account`)
    await page.getByText('link', { exact: true }).click()
    t.equal(await page.title(), 'Your account – Latchkey', 'no script of theirs')
    t.ok(await page.locator('h1').isVisible(), 'no style of theirs')
    await page.unroute('**/account')

    await page.goto(`${origin}/account`)
    await page.goto(`${origin}/sign-out`)
    await page.locator('form button').click()
    await page.locator('h1').waitFor()
    for (let back = 0; back < 2; back++) {
      await page.goBack()
      t.notMatch(await page.content(), '>victim<', 'the way back shows nothing')
    }
    await page.context().close()
  })

  await t.test('a passkey is made where one is demanded, signs in, and is added to an account', async (t) => {
    const { id } = (await signUp(app, 'passkey-admin')).json()
    await giveRoles(storeOf(app), id, ['admin'])
    const page = await windowOf(browser)
    const devtools = await page.context().newCDPSession(page)
    await devtools.send('WebAuthn.enable')
    const able = { protocol: 'ctap2', hasResidentKey: true, hasUserVerification: true, isUserVerified: true } as const
    const { authenticatorId } = await devtools.send('WebAuthn.addVirtualAuthenticator', {
      options: { ...able, transport: 'internal', automaticPresenceSimulation: true },
    })
    await page.goto(`${origin}/sign-in`)
    await fillIn(page, 'passkey-admin')
    await page.locator('[value=webauthn]').click()
    await page.locator('[data-passkey=create] button').click()
    await page.waitForURL(`${origin}/account`)
    t.pass('made, and signed in')
    const signInAgain = async (start: () => Promise<unknown>) => {
      await page.context().clearCookies()
      await page.goto(`${origin}/sign-in`, { waitUntil: 'commit' })
      await start()
      await page.waitForURL(`${origin}/account`)
    }
    await signInAgain(async () => {})
    t.pass('in the field of the name')
    await page.addInitScript('PublicKeyCredential.isConditionalMediationAvailable = async () => false')
    await signInAgain(() => page.locator('[data-passkey=get] button').click())
    t.pass('by the button')

    await page.goto(`${origin}/sign-in?as=another`)
    await fillIn(page, 'grace')
    await page.goto(`${origin}/account/factors/passkey`)
    await page.fill('[name=name]', 'This device')
    await page.locator('form:has([name=name]) button').click()
    await page.locator('[data-passkey=create] button').click()
    await page.waitForURL('**/account/factors?done=passkey')
    t.match(await page.textContent('main'), 'This device')

    await devtools.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: false })
    await page.context().clearCookies()
    await page.goto(`${origin}/sign-in`)
    await page.locator('[data-passkey=get] button').click()
    await page.locator('[data-failed]').waitFor()
    t.pass('where the device does not know its user, the page says so')
  })
}

/** A server that apps have. @returns its origin */
async function serve(t: Test, host: string, answer: RequestListener): Promise<string> {
  const server = createServer(answer)
  await new Promise<void>((listening) => server.listen(0, host, listening))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** What a page of somebody else does by itself, as its script. */
const sendForm = (action: string, fields: Record<string, string>) => `
  const form = Object.assign(document.createElement('form'), { method: 'post', action: ${JSON.stringify(action)} })
  for (const [name, value] of Object.entries(${JSON.stringify(fields)}))
    form.append(Object.assign(document.createElement('input'), { type: 'hidden', name, value }))
  document.body.append(form)
  form.submit()
`

async function windowOf(browser: Browser, options: { javaScriptEnabled?: boolean } = {}): Promise<Page> {
  const page = await (await browser.newContext({ locale: 'en', ...options })).newPage()
  page.setDefaultTimeout(5_000)
  return page
}

async function fillIn(page: Page, username: string): Promise<void> {
  await page.fill('[name=username]', username)
  await page.fill('[name=password]', password)
  await page.locator('form:has([name=password]) button').click()
}
