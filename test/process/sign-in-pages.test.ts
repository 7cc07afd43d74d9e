import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Browser, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { makeClient } from '../support/client-helper.ts'
import { codesOf, makeDeviceClient } from '../support/devices.ts'
import { giveRecoveryCodes, giveTotp, wrongCode } from '../support/factors.ts'
import { type Build, giveRoles, onOneStore, password, signUp, storeOf } from '../support/helper.ts'
import { inBothLanguages } from '../support/looking.ts'
import { mailsInto } from '../support/mail.ts'
import { freePort } from '../support/proxies.ts'

/* Signing in in a browser: each page in every state, as `looking.ts` says, where its forms lead, and passkeys. */

const title = 'signing in in Chromium'
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
  const leadingOn = (_request: IncomingMessage, response: ServerResponse) =>
    response.writeHead(302, { location: `${elsewhere}/` }).end()
  const hop = await serve(t, '127.0.0.1', leadingOn)
  const there = await serve(t, '::1', (_request, response) => response.end('there'))
  const posted = await serve(t, '127.0.0.1', (request, response) => response.end(`posted by ${request.method}`))
  const targets = { hop: `${hop}/cb`, there: `${there}/cb`, posted: `${posted}/cb`, phone: 'com.example.app:/cb' }
  const client = { id: 'wiki', name: 'Encyclopaedia of everything', type: 'public', consent: 'ask' } as const
  const grants = ['authorization_code' as const]
  const scopes = ['articles:read', 'articles:write']
  await makeClient(app, { ...client, grants, scopes, redirectUris: Object.values(targets) })
  await makeDeviceClient(app, { name: 'Files on the command line', scopes: ['files:read'] })
  const ask = (to: string, more: Record<string, string> = {}) =>
    `${origin}/authorize?${new URLSearchParams({
      ...{
        client_id: 'wiki',
        redirect_uri: to,
        response_type: 'code',
        scope: 'openid profile email offline_access articles:read',
      },
      ...{ code_challenge: 'x'.repeat(43), code_challenge_method: 'S256', ...more },
    })}`

  await t.test('every page passes axe-core and fits a narrow screen, without script', async (t) => {
    await inBothLanguages(t, browser, `${origin}/sign-in`, async ({ page, locale, texts, look }) => {
      const [name, admin] = [`ada.lovelace-${locale}`, `root-${locale}`]
      await signUp(app, name)
      const { id: adminId } = (await signUp(app, admin)).json()
      const press = (label: string) => page.getByRole('button', { name: label, exact: true }).click()
      const says = async (title: string) => t.equal(await page.locator('h1').textContent(), title)
      async function signIn(as: string, secret = password): Promise<void> {
        await page.fill('[name=username]', as)
        await page.fill('[name=password]', secret)
        await press(texts.signIn.button)
      }

      await page.goto(ask(targets.hop))
      await says(texts.signIn.title)
      await signIn(name, 'wrong')
      await look('sign-in-wrong', texts.signIn.title)
      await signIn(name)
      await look('consent', texts.consent.title)
      await page.goto(`${origin}/sign-in`)
      await look('sign-in-choice', texts.signIn.signedIn)
      await page.goto(`${origin}/device`)
      await look('device', texts.device.title)
      await page.fill('[name=user_code]', 'bcdf ghjk')
      await press(texts.device.button)
      await look('device-wrong', texts.device.title)
      for (const decision of ['deny', 'allow'] as const) {
        const { user_code, verification_uri_complete } = await codesOf(app, { scope: 'openid files:read' })
        await page.fill('[name=user_code]', user_code)
        if (decision === 'deny') await press(texts.device.button)
        else await page.goto(verification_uri_complete)
        await look('device-ask', texts.device.askTitle)
        await press(texts.consent[decision])
        await look(`device-${decision}`, texts.device[decision === 'allow' ? 'allowedTitle' : 'refusedTitle'])
        await page.goto(`${origin}/device`)
      }
      await page.goto(`${origin}/consent`)
      await says(texts.noConsent.title)
      await page.goto(`${origin}/sign-in?request=x`)
      await says(texts.stale.title)
      await page.goto(ask('https://evil.example/'))
      await look('app-failed', texts.appFailed.title)

      const { secret } = await giveTotp(app, name)
      await giveRecoveryCodes(app, name)
      await page.goto(`${origin}/sign-in?as=another`)
      await signIn(name)
      await look('factor', texts.factor.title)
      await page.fill('[name=otp]', wrongCode(secret, clock.now))
      await page.locator('button').first().click()
      await page.locator('summary').click()
      await page.fill('[name=recovery_code]', 'none')
      await page.locator('details button').click()
      await look('factor-recovery-wrong', texts.factor.title)

      await giveRoles(storeOf(app), adminId, ['admin'])
      await page.goto(`${origin}/sign-in?as=another`)
      await signIn(admin)
      await look('enrol', texts.enrol.title)
      await press(texts.enrol.totp)
      await look('enrol-totp', texts.enrol.totpTitle)
      await page.goto(`${origin}/sign-in?as=another`)
      await signIn(admin)
      await press(texts.enrol.webauthn)
      await says(texts.enrol.webauthn)

      await page.context().clearCookies()
      await page.goto(ask(targets.hop, { prompt: 'create' }))
      await look('sign-up-open', texts.signUp.title)
      await page.fill('[name=username]', name)
      await page.fill('[name=password]', password)
      await press(texts.signUp.button)
      await page.context().clearCookies()
      await page.fill('[name=password]', password)
      await press(texts.signUp.button)
      await says(texts.foreign.title)
    })
  })

  await t.test('forms lead to the app, and on to wherever it leads', async (t) => {
    await signUp(app, 'grace')
    for (const [name, words] of [
      ['hop', 'elsewhere'],
      ['there', 'there'],
      ['posted', 'posted by GET'],
    ] as const) {
      const page = await windowOf(browser)
      await page.goto(ask(targets[name]))
      await fillIn(page, 'grace')
      if (name === 'hop') await page.locator('[value=allow]').click()
      await page.waitForURL((url) => url.origin !== origin)
      t.equal(await page.textContent('body'), words, name)
      await page.context().close()
    }
    for (const javaScriptEnabled of [true, false]) {
      const page = await windowOf(browser, { javaScriptEnabled })
      await page.goto(ask(targets.posted, { response_mode: 'form_post' }))
      await fillIn(page, 'grace')
      if (!javaScriptEnabled) await page.locator('button').click()
      await page.waitForURL(targets.posted)
      t.equal(await page.textContent('body'), 'posted by POST')
      await page.context().close()
    }
    const page = await windowOf(browser)
    const toPhone = page.waitForEvent('requestfailed', (request) => request.url().startsWith('com.example.app:'))
    await page.goto(ask(targets.phone))
    await fillIn(page, 'grace')
    t.match((await toPhone).url(), /^com\.example\.app:\/cb\?code=lkc_/, 'which the browser has handed to the app')
    await page.context().close()
  })

  await t.test(
    'a passkey is made where one is demanded, and signs in: by its button, and where a name is typed',
    async (t) => {
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
      await devtools.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: false })
      await page.context().clearCookies()
      await page.goto(`${origin}/sign-in`)
      await page.locator('[data-passkey=get] button').click()
      await page.locator('[data-failed]').waitFor()
      t.pass('where the device does not know its user, the page says so')
    },
  )
}

/** A server that apps have. @returns its origin */
async function serve(
  t: Test,
  host: string,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(answer)
  await new Promise<void>((listening) => server.listen(0, host, listening))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

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
