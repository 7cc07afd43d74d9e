import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { TOTP } from 'otpauth'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { type Build, listen, newDir, onOneStore, password, signUp } from '../support/helper.ts'
import { readPage } from '../support/pages.ts'

/* The snippets of docs/integrating/apps.md for a web page, as they stand there, in a browser with an authenticator. */

const text = readPage('docs/integrating/apps.md')
const files = new Map(
  [...text.matchAll(/^```js\n\/\/ ([\w-]+\.js)\n(.*?)^```$/gms)].map(([, name, code]) => [name, code]),
)
const html = /^```html\n(.*?)^```$/ms.exec(text)?.[1] ?? ''

/** Serves the files of the page. @returns its origin */
async function serveFiles(t: Test, authOf: () => string): Promise<string> {
  const server = createServer(({ url = '' }, response) => {
    const code = files.get(url.slice(1))
    if (code !== undefined) {
      const body = code.replace('http://localhost:3000', authOf())
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(body)
    } else if (url === '/') response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html>${html}`)
    else response.writeHead(404).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return `http://localhost:${(server.address() as AddressInfo).port}`
}

/** A window of its own, with an authenticator that verifies its user when it is asked to. */
async function open(t: Test, origin: string) {
  const browser = await startChromium(t)
  const context = await browser.newContext()
  const page = await context.newPage()
  page.setDefaultTimeout(30_000)
  const problems: string[] = []
  page.on('pageerror', (error) => problems.push(String(error)))
  const devtools = await context.newCDPSession(page)
  await devtools.send('WebAuthn.enable')
  const { authenticatorId } = await devtools.send('WebAuthn.addVirtualAuthenticator', {
    options: {
      protocol: 'ctap2',
      transport: 'internal',
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  })
  /** While it does not, nothing is signed before somebody asks for it. */
  const offerPasskeys = (enabled: boolean) =>
    devtools.send('WebAuthn.setAutomaticPresenceSimulation', { authenticatorId, enabled })
  return { page, problems, offerPasskeys, load: () => page.goto(origin) }
}

const isSignedIn = (page: Page) => page.waitForFunction("document.querySelector('form').hidden")
/** Forgets the session, as `logOut` of another device would. */
const forget = (page: Page) => page.evaluate('localStorage.clear()')
/** Calls a function of `factors.js`. @returns the status and the body of the answer */
const factors = (page: Page, call: string) =>
  page.evaluate(
    `import('/factors.js').then((factors) => factors.${call}).then(async (answer) => ` +
      '({ status: answer.status, body: answer.status === 204 ? undefined : await answer.json() }))',
    // biome-ignore lint/suspicious/noExplicitAny: what it holds is the test's to say
  ) as Promise<{ status: number; body: any }>

async function typePassword(page: Page): Promise<void> {
  await page.fill('[name=username]', 'ada')
  await page.fill('[name=password]', password)
  await page.click('text=Go on')
}

const title = 'a page signs in by password, passkey, code and recovery code, steps up, and adds what is demanded'
if (withoutChromium) t.test(title, { skip: withoutChromium }, async () => {})
else onOneStore(title, useThePage)

async function useThePage(t: Test, build: Build): Promise<void> {
  t.same([...files.keys()], ['session.js', 'sign-in.js', 'page.js', 'factors.js'])
  let auth = ''
  const origin = await serveFiles(t, () => auth)
  const clients = join(await newDir(t), 'clients.json')
  const web = { client_id: 'web', first_party: true, grants: ['authorization_code', 'refresh_token'] }
  await writeFile(clients, JSON.stringify([web]))
  const origins = { AUTH_CORS_ORIGINS: origin, AUTH_WEBAUTHN_ORIGINS: origin }
  const started = await build({ AUTH_CLIENTS_FILE: clients, ...origins })
  const { app, clock } = started
  auth = await listen(app)
  await signUp(app)
  const { page, problems, offerPasskeys, load } = await open(t, origin)
  const codeOf = (secret: string) => new TOTP({ secret }).generate({ timestamp: clock.now })

  await offerPasskeys(false)
  await load()
  await typePassword(page)
  await isSignedIn(page)
  await offerPasskeys(true)
  t.match(await factors(page, "addPasskey('Laptop')"), { status: 201, body: { name: 'Laptop' } })

  await forget(page)
  await load()
  await isSignedIn(page)
  t.match(await factors(page, 'list()'), { body: { factors: [{ kind: 'webauthn', name: 'Laptop' }] } }, 'by its offer')

  await offerPasskeys(false)
  await forget(page)
  await load()
  await typePassword(page)
  await page.waitForSelector('[name=password]', { state: 'hidden' })
  await offerPasskeys(true)
  await page.click('text=Use a passkey')
  await isSignedIn(page)

  clock.now += 16 * 60_000
  const refused = await factors(page, "addApp('Phone')")
  t.equal(refused.status, 401, 'the sign-in is too old')
  await page.evaluate(
    `Promise.all(['/factors.js', '/sign-in.js', '/page.js'].map((file) => import(file))).then(
      async ([{ addApp }, { stepUp }, { show }]) => show(await stepUp(await addApp('Phone'))))`,
  )
  await page.fill('[name=password]', password)
  await page.click('text=Go on')
  await page.click('text=Use a passkey')
  await isSignedIn(page)
  const kept = () => page.evaluate("localStorage.getItem('refresh_token')")
  const before = await kept()
  const again = "([{ step }, { call }]) => step({ max_age: '300' }, call)"
  await page.evaluate(`Promise.all([import('/sign-in.js'), import('/session.js')]).then(${again})`)
  t.match(before, /^lkr_/)
  t.equal(await kept(), before, 'a step-up with nothing to show has no refresh token')
  const { status, body: phone } = await factors(page, "addApp('Phone')")
  t.equal(status, 201)
  t.equal((await factors(page, `confirmApp('${phone.id}', '${codeOf(phone.secret)}')`)).status, 204)
  const { codes } = (await factors(page, 'makeRecoveryCodes()')).body
  t.equal(codes.length, 10)

  await offerPasskeys(false)
  for (const [field, value] of [
    ['otp', () => codeOf(phone.secret)],
    ['recovery_code', () => codes[0]],
  ] as const) {
    clock.now += 30_000
    await forget(page)
    await load()
    await typePassword(page)
    await page.fill(`[name=${field}]`, '000000')
    await page.click('text=Go on')
    await page.waitForFunction(`document.querySelector('[name=${field}]').value === ''`)
    await page.fill(`[name=${field}]`, value())
    await page.click('text=Go on')
    await isSignedIn(page)
  }
  const known = (await factors(page, 'list()')).body.factors
  t.same(known.map(({ kind }: { kind: string }) => kind).sort(), ['recovery_code', 'totp', 'webauthn'])
  for (const { id } of known) t.equal((await factors(page, `remove('${id}')`)).status, 204)

  const { app: strict } = await started.restart({ AUTH_MFA: 'required' })
  auth = await listen(strict)
  for (const isPasskey of [false, true]) {
    await offerPasskeys(false)
    await forget(page)
    await load()
    page.once('dialog', (dialog) => (isPasskey ? dialog.accept() : dialog.dismiss()))
    await typePassword(page)
    if (isPasskey) {
      await page.waitForSelector('[name=otp]', { state: 'hidden' })
      await offerPasskeys(true)
      await page.click('text=Use a passkey')
      await isSignedIn(page)
    } else {
      const picture = await page.waitForSelector('img')
      t.match(decodeURIComponent((await picture.getAttribute('src')) as string), /^data:image\/svg\+xml,<svg/)
    }
  }
  t.match(await factors(page, 'list()'), { body: { factors: [{ kind: 'webauthn' }] } }, 'the one that was demanded')
  t.same(problems, [])
}
