import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { LightMyRequestResponse } from 'fastify'
import type { Browser, CDPSession, Frame, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { begin, challenge } from '../support/factors.ts'
import { type Build, claimsOf, json, logIn, onOneStore, signUp } from '../support/helper.ts'
import { askToAdd, beginByPasskey, hand, tokensOf } from '../support/passkeys.ts'

/* Passkeys as a real browser makes them, by its virtual authenticators (WebAuthn §11). */

/** Serves a page that may show others in frames. @returns its origin */
async function servePage(t: Test): Promise<string> {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>A page</title>')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return `http://localhost:${(server.address() as AddressInfo).port}`
}

/** A window with an authenticator. @param options beside those of one that verifies its user, and keeps credentials */
async function openWindow(browser: Browser, origin: string, options: object) {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(origin)
  const devtools = await context.newCDPSession(page)
  await devtools.send('WebAuthn.enable')
  const able = { protocol: 'ctap2', hasResidentKey: true, hasUserVerification: true, isUserVerified: true } as const
  const { authenticatorId } = await devtools.send('WebAuthn.addVirtualAuthenticator', {
    options: { ...able, transport: 'internal', automaticPresenceSimulation: true, ...options },
  })
  return { page, devtools, authenticatorId }
}

/** What a page does with options, as apps are told to do it. */
const ceremony = (page: Page | Frame, kind: 'Creation' | 'Request', options: object) =>
  page.evaluate(
    `(async (options) => {
      const publicKey = PublicKeyCredential.parse${kind}OptionsFromJSON(options)
      const credential = await navigator.credentials.${kind === 'Creation' ? 'create' : 'get'}({ publicKey })
      return credential.toJSON()
    })(${JSON.stringify(options)})`,
  ) as Promise<object>

const title = 'passkeys of Chromium'
if (withoutChromium) t.test(title, { skip: withoutChromium }, async () => {})
else onOneStore(title, useThem)

async function useThem(t: Test, build: Build): Promise<void> {
  const origin = await servePage(t)
  const elsewhere = await servePage(t)
  const { app, clock, logs } = await build({ AUTH_WEBAUTHN_ORIGINS: origin })
  await signUp(app)
  const browser = await startChromium(t)

  async function answer(page: Page | Frame, asked: LightMyRequestResponse, otherwise = {}) {
    const { auth_session, webauthn } = json(asked)
    const response = await ceremony(page, 'Request', { ...webauthn, ...otherwise })
    return challenge(app, { auth_session, webauthn: JSON.stringify(response) })
  }
  async function add(page: Page, change = (options: object) => options) {
    const { access_token } = await signIn()
    const options = json(await askToAdd(app, access_token))
    return hand(app, access_token, { response: await ceremony(page, 'Creation', change(options)) })
  }
  let signIn = () => logIn(app)

  const { page, devtools, authenticatorId } = await openWindow(browser, origin, { defaultBackupEligibility: true })
  await t.test('one that is synced is added, and signs in alone, behind a password and for a step-up', async (t) => {
    t.equal((await add(page)).statusCode, 201)
    signIn = async () => tokensOf(app, await answer(page, await beginByPasskey(app)))
    t.match(claimsOf((await signIn()).access_token), { amr: ['swk', 'user', 'mfa'], acr: 'urn:latchkey:acr:2' })
    const { access_token, refresh_token } = await tokensOf(app, await answer(page, await begin(app)))
    t.match(claimsOf(access_token), { amr: ['pwd', 'swk', 'user', 'mfa'] })

    clock.now += 5 * 60_000
    const asked = await challenge(app, { max_age: '60' }, { headers: { authorization: `Bearer ${access_token}` } })
    t.match(json(asked), { challenges: ['password', 'webauthn'] })
    const raised = await tokensOf(app, await answer(page, asked))
    const authTime = Math.floor(clock.now / 1000)
    t.match(claimsOf(raised.access_token), { sid: claimsOf(access_token).sid, auth_time: authTime })
    t.ok(refresh_token)
  })

  await t.test('a device that has one is not offered to make another', async (t) => {
    await t.rejects(add(page), /InvalidStateError|excluded|previously registered/i)
  })

  for (const alg of [-7, -8, -257]) {
    await t.test(`a security key is added and signs in, and counts [COSE ${alg}]`, async (t) => {
      const key = await openWindow(browser, origin, { transport: 'usb' })
      const pubKeyCredParams = [{ type: 'public-key', alg }]
      const added = await add(key.page, (options) => ({ ...options, pubKeyCredParams }))
      t.equal(added.statusCode, 201, added.body)
      const { access_token } = await tokensOf(app, await answer(key.page, await beginByPasskey(app)))
      t.match(claimsOf(access_token), { amr: ['hwk', 'user', 'mfa'] })

      const { credentials } = await key.devtools.send('WebAuthn.getCredentials', key)
      const [credential] = credentials
      if (!credential) throw new Error('it has none')
      await key.devtools.send('WebAuthn.removeCredential', { ...key, credentialId: credential.credentialId })
      await key.devtools.send('WebAuthn.addCredential', { ...key, credential: { ...credential, signCount: 0 } })
      t.equal((await answer(key.page, await beginByPasskey(app))).statusCode, 400, 'and its copy does not')
      t.equal(logs.filter(({ event }) => event === 'passkey.cloned').length, 1)
      logs.length = 0
      await key.page.close()
    })
  }

  await t.test('a user who was not verified is refused, though a page has asked for no more', async (t) => {
    await setVerified(devtools, authenticatorId, false)
    const answered = await answer(page, await beginByPasskey(app), { userVerification: 'discouraged' })
    t.match(json(answered), { error: 'insufficient_authorization' })
    await setVerified(devtools, authenticatorId, true)
  })

  await t.test('a page that is not ours gets a signature, and nothing for it', async (t) => {
    await page.goto(elsewhere)
    t.equal((await answer(page, await beginByPasskey(app))).statusCode, 400)
    await page.goto(origin)
    t.equal((await answer(page, await beginByPasskey(app))).statusCode, 200)
  })

  await t.test('nor does one that shows ours in a frame', async (t) => {
    await page.goto(elsewhere)
    await page.evaluate(
      `new Promise((done) => {
        const frame = document.createElement('iframe')
        Object.assign(frame, { src: '${origin}', allow: 'publickey-credentials-get *', onload: done })
        document.body.append(frame)
      })`,
    )
    const frame = page.frames().find((one) => one.url().startsWith(origin))
    if (!frame) throw new Error('there is no frame')
    t.equal((await answer(frame, await beginByPasskey(app))).statusCode, 400)
  })
}

const setVerified = (devtools: CDPSession, authenticatorId: string, isUserVerified: boolean) =>
  devtools.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified })
