import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import type { Session } from '../../domain/session.ts'
import { textsOf } from '../../pages/texts/index.ts'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { callerFrom, makeClient } from '../support/client-helper.ts'
import { codeOf, wrongCode } from '../support/factors.ts'
import { type Build, giveEmail, onOneStore, password, signUp, storeOf } from '../support/helper.ts'
import { inBothLanguages } from '../support/looking.ts'
import { mailsInto } from '../support/mail.ts'

/* The pages of an account in a browser, each in the states that differ, as `looking.ts` says; and passkeys, by script. */

const title = 'every page of an account passes axe-core and fits a narrow screen, and a passkey is added by script'
if (withoutChromium) t.test(title, { skip: withoutChromium }, async () => {})
else onOneStore(title, lookAtAccount)

/** A port that is free now: the issuer has to say it. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const { port } = server.address() as AddressInfo
  await new Promise((closed) => server.close(closed))
  return port
}

async function lookAtAccount(t: Test, build: Build): Promise<void> {
  const port = await freePort()
  const origin = `http://localhost:${port}`
  const { app, clock } = await build({ ...(await mailsInto(t)), AUTH_ISSUER: origin, AUTH_THROTTLE: 'off' })
  await app.listen({ host: '127.0.0.1', port })
  const wikiPort = await freePort()
  const wikiServer = createServer((_, response) => response.end('bye')).listen(wikiPort, '127.0.0.1')
  t.teardown(() => {
    wikiServer.closeAllConnections()
    wikiServer.close()
  })
  const bye = `http://127.0.0.1:${wikiPort}/bye`
  await makeClient(app, {
    id: 'wiki',
    name: 'Encyclopaedia of everything',
    redirectUris: ['https://wiki.example.com/'],
    postLogoutRedirectUris: [bye],
  })
  const browser = await startChromium(t)

  await inBothLanguages(t, browser, `${origin}/sign-in`, async ({ page, locale, texts, look }) => {
    const { account } = texts
    const name = `ada.lovelace-${locale}`
    const { id } = (await signUp(app, name)).json()
    const store = storeOf(app)
    await giveEmail(store, id, `${name}@mail.example.com`, locale === 'en')
    const open = (path: string) => page.goto(`${origin}/account${path}`)
    const press = (label: string) => page.getByRole('button', { name: label, exact: true }).click()

    await open('')
    await page.fill('[name=username]', name)
    await page.fill('[name=password]', password)
    await page.locator('form:has([name=password]) button').click()
    await look('account', account.title)

    await open('/password')
    await page.fill('[name=current_password]', 'wrong')
    await page.fill('[name=new_password]', 'seven grey herons on a quay')
    await press(account.password.button)
    await look('account-password-wrong', account.password.title)

    await open('/email')
    await look('account-email', account.email.title)
    await page.fill('[name=email]', `ada@${locale}.example.com`)
    await page.fill('[name=password]', password)
    await press(account.email.button)
    await look('account-email-sent', account.email.title)

    await open('/factors')
    await look('account-factors-none', account.factors.title)
    await page.getByRole('link', { name: account.factors.addPasskey }).click()
    await press(account.passkey.begin)
    await look('account-passkey-without', account.passkey.title)
    await open('/factors/app')
    await look('account-app', account.app.title)
    await page.fill('[name=name]', 'Pixel 9')
    await press(account.app.begin)
    await look('account-app-scan', account.app.title)
    const secret = ((await page.locator('code').textContent()) ?? '').replaceAll(' ', '')
    await page.fill('[name=code]', wrongCode(secret, clock.now))
    await press(account.app.button)
    await look('account-app-wrong', account.app.title)
    await page.fill('[name=code]', codeOf(secret, clock.now))
    await press(account.app.button)
    await page.waitForURL('**/account/factors?done=app')
    await open('/factors/codes')
    await press(account.codes.button)
    await look('account-codes-made', account.codes.title)
    await open('/factors?done=app')
    await look('account-factors', account.factors.title)
    await page.locator('.list a').first().click()
    await look('account-factors-remove', account.removal.title)

    const user = await store.findUser(id)
    const wiki = await app.clients.find('wiki')
    const [here] = await app.browserSessions.list(id)
    if (!user || !wiki || !here) throw new Error('gone')
    await app.consents.give(callerFrom('192.0.2.1', app.log), user, wiki, ['openid', 'email', 'files:read'])
    const session = {
      ...{ userId: id, clientId: 'wiki', clientCreatedAt: wiki.createdAt, generation: 0, counter: 0 },
      ...{ createdAt: clock.now, refreshedAt: clock.now, address: '2001:db8:85a3:1234:5678:8a2e:370:7334' },
      userAgent: 'Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0',
    }
    await store.createSession({ ...session, id: crypto.randomUUID(), scope: [], parent: here.id })
    await store.createSession({ ...session, id: crypto.randomUUID(), scope: ['offline_access'], parent: here.id })
    await store.createSession({ ...session, id: crypto.randomUUID(), scope: [] })
    await open('/apps')
    await look('account-apps', account.apps.title)
    await open('/sessions?done=ended')
    await look('account-sessions', account.sessions.title)
    await open('/activity')
    await look('account-activity', account.activity.title)
    await open('/export')
    await look('account-export', account.export.title)
    await open('/deletion')
    await page.fill('[name=password]', 'wrong')
    await press(account.deletion.button)
    await look('account-deletion-wrong', account.deletion.title)
    const elsewhere = { ...session, id: crypto.randomUUID(), scope: ['openid'], parent: crypto.randomUUID() }
    await store.importRows('sessions', [elsewhere])
    const id_token_hint = await app.idTokens.issue({ client: wiki, user, session: elsewhere })
    await page.goto(`${origin}/sign-out?${new URLSearchParams({ id_token_hint })}`)
    await look('sign-out', texts.signOut.title)
    await open('/sessions')
    await press(account.sessions.all)
    await look('account-signed-out', account.sessions.endedTitle)
    const back = { client_id: 'wiki', post_logout_redirect_uri: bye }
    await page.goto(`${origin}/sign-out?${new URLSearchParams(back)}`)
    await look('sign-out-done', texts.signOut.doneTitle)
  })

  await t.test('Chromium goes on to the app behind the question whether to sign out', async (t) => {
    const user = await storeOf(app).findUser((await signUp(app, 'hedy')).json().id)
    const client = await app.clients.find('wiki')
    if (!user || !client) throw new Error('gone')
    const page = await (await browser.newContext({ locale: 'en', javaScriptEnabled: false })).newPage()
    page.setDefaultTimeout(5_000)
    await page.goto(`${origin}/account`)
    await page.fill('[name=username]', 'hedy')
    await page.fill('[name=password]', password)
    await page.locator('form:has([name=password]) button').click()
    const session: Session = {
      ...{ id: crypto.randomUUID(), userId: user.id, clientId: 'wiki', scope: ['openid'], generation: 0, counter: 0 },
      ...{ createdAt: clock.now, refreshedAt: clock.now, address: '', userAgent: '' },
      parent: crypto.randomUUID(),
    }
    await storeOf(app).importRows('sessions', [session])
    const id_token_hint = await app.idTokens.issue({ client, user, session })
    const asked = { id_token_hint, post_logout_redirect_uri: bye, state: '1' }
    await page.goto(`${origin}/sign-out?${new URLSearchParams(asked)}`)
    await page.getByRole('button', { name: textsOf('en').signOut.button }).click()
    await page.waitForURL(`${bye}?state=1`)
    t.same(await app.browserSessions.list(user.id), [])
  })

  await t.test('a passkey', async (t) => {
    const { account } = textsOf('en')
    await signUp(app, 'grace')
    const page = await (await browser.newContext({ locale: 'en' })).newPage()
    page.setDefaultTimeout(5_000)
    const devtools = await page.context().newCDPSession(page)
    await devtools.send('WebAuthn.enable')
    const able = { protocol: 'ctap2', hasResidentKey: true, hasUserVerification: true, isUserVerified: true } as const
    await devtools.send('WebAuthn.addVirtualAuthenticator', {
      options: { ...able, transport: 'internal', automaticPresenceSimulation: true },
    })
    const signIn = async () => {
      await page.goto(`${origin}/account/factors/passkey`)
      await page.fill('[name=username]', 'grace')
      await page.fill('[name=password]', password)
      await page.locator('form:has([name=password]) button').click()
    }
    await signIn()
    await page.fill('[name=name]', 'This device')
    await page.getByRole('button', { name: account.passkey.begin }).click()
    await page.getByRole('button', { name: account.passkey.button }).click()
    await page.waitForURL('**/account/factors?done=passkey')
    t.match(await page.textContent('main'), 'This device')
  })
}
