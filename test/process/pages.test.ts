import t from 'tap'
import { startChromium, withoutChromium } from '../support/chromium.ts'
import { callerFrom, makeClient } from '../support/client-helper.ts'
import { codesOf, makeDeviceClient } from '../support/devices.ts'
import { codeOf, giveRecoveryCodes, giveTotp, wrongCode } from '../support/factors.ts'
import { giveEmail, giveRoles, listen, onOneApp, password, signUp, storeOf } from '../support/helper.ts'
import { inBothLanguages, type Looking } from '../support/looking.ts'
import { mailsInto } from '../support/mail.ts'

/* Every page, in each of its states, as `looking.ts` says. What Chromium does with them: `browser-sign-in.test.ts`. */

const newPassword = 'seven grey herons on a quay'
const redirectUri = 'https://wiki.example.com/'
const bye = 'https://wiki.example.com/bye'

const look = onOneApp(async (t, build) => {
  const test = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off', AUTH_MFA: 'admins' })
  const { app } = test
  await makeClient(app, {
    ...{ id: 'wiki', name: 'Encyclopaedia of everything', type: 'public', consent: 'ask' },
    ...{ grants: ['authorization_code'], scopes: ['articles:read', 'articles:write'] },
    ...{ redirectUris: [redirectUri], postLogoutRedirectUris: [bye] },
  })
  await makeDeviceClient(app, { name: 'Files on the command line', scopes: ['files:read'] })
  return { ...test, start: `${await listen(app)}/forgot`, chromium: await startChromium(t) }
})
type Site = Parameters<Parameters<typeof look>[1]>[1]

const walks = {
  'pages that need no sign-in': lookAtPages,
  'pages of a sign-in': lookAtSignIn,
  'pages of an account': lookAtAccount,
}
for (const [which, walk] of Object.entries(walks)) {
  const title = `${which} pass axe-core and fit a narrow screen, in both languages, light and dark, without script`
  if (withoutChromium) t.test(title, { skip: withoutChromium }, async () => {})
  else look(title, async (t, site) => inBothLanguages(t, site, (looking) => walk(site, looking)))
}

async function lookAtPages({ app }: Site, { browser, locale, texts, look }: Looking): Promise<void> {
  const { id: owner } = (await signUp(app, `ada-${locale}`)).json()
  const to = `ada.lovelace@${locale}.example.com`
  await giveEmail(storeOf(app), owner, to)
  const link = async (kind: 'verify' | 'reset' | 'undo') =>
    (await app.mail.issue(kind, { owner, source: 'test', to, locale })).link

  const forgot = await look('forgot', browser.open('/forgot'), texts.forgot.title)
  await look('forgot-wrong', browser.submit(forgot, { name: ' ' }), texts.forgot.title)
  const sent = await look('sent', browser.submit(forgot, { name: 'ada' }), texts.forgot.sentTitle)
  const guess = { code: '00000000', new_password: newPassword }
  await look('code-wrong', browser.submit(sent, guess), texts.reset.title)

  const href = await link('reset')
  const reset = await look('reset', browser.open(href), texts.reset.title)
  await look('reset-wrong', browser.submit(reset, { new_password: 'password password' }), texts.reset.title)
  await look('reset-done', browser.submit(reset, { new_password: newPassword }), texts.reset.doneTitle)
  await look('reset-dead', browser.open(href), texts.dead.title)
  for (const name of ['verify', 'undo'] as const) {
    const href = await link(name)
    const page = await look(name, browser.open(href), texts[name].title)
    await look(
      `${name}-done`,
      browser.submit(page, {}, `/${name === 'verify' ? 'verify-email' : 'undo-email'}`),
      texts[name].doneTitle,
    )
    await look(`${name}-dead`, browser.open(href), texts.dead.title)
  }
  const guest = await app.invitations.invite(callerFrom('192.0.2.1', app.log), { email: `guest-${to}` }, locale)
  const invited = await look('sign-up', browser.open(guest.link), texts.signUp.title)
  const taken = { username: `ada-${locale}`, password }
  await look('sign-up-wrong', browser.submit(invited, taken), texts.signUp.title)
  const free = { username: `bob-${locale}`, password }
  await look('sign-up-done', browser.submit(invited, free), texts.signUp.doneTitle)
  await look('sign-up-dead', browser.open('/sign-up?invitation=x'), texts.dead.title)
  await look('failed', browser.open('/reset?token=%zz'), texts.failed.title)
}

async function lookAtSignIn({ app, clock }: Site, { browser, locale, texts, look }: Looking): Promise<void> {
  const [name, admin] = [`grace.hopper-${locale}`, `root-${locale}`]
  await signUp(app, name)
  const { id: adminId } = (await signUp(app, admin)).json()
  const ask = (more: Record<string, string> = {}) =>
    browser.open(
      `/authorize?${new URLSearchParams({
        ...{ client_id: 'wiki', redirect_uri: redirectUri, response_type: 'code' },
        ...{ scope: 'openid profile email offline_access articles:read' },
        ...{ code_challenge: 'x'.repeat(43), code_challenge_method: 'S256', ...more },
      })}`,
    )
  const signInAnew = async (as: string) => browser.signIn(as, password, await browser.open('/sign-in?as=another'))

  const signIn = await look('sign-in', ask(), texts.signIn.title)
  await look('sign-in-wrong', browser.signIn(name, 'wrong', signIn), texts.signIn.title)
  await look('consent', browser.signIn(name, password, signIn), texts.consent.title)
  await look('sign-in-choice', browser.open('/sign-in'), texts.signIn.signedIn)
  const device = await look('device', browser.open('/device'), texts.device.title)
  await look('device-wrong', browser.submit(device, { user_code: 'bcdf ghjk' }), texts.device.title)
  for (const [decision, title] of [
    ['deny', texts.device.refusedTitle],
    ['allow', texts.device.allowedTitle],
  ] as const) {
    const { user_code } = await codesOf(app, { scope: 'openid files:read' })
    const asked = await look('device-ask', browser.submit(device, { user_code }), texts.device.askTitle)
    await look(`device-${decision}`, browser.submit(asked, { decision }), title)
  }
  await look('no-consent', browser.open('/consent'), texts.noConsent.title)
  await look('stale', browser.open('/sign-in?request=x'), texts.stale.title)
  await look('app-failed', ask({ redirect_uri: 'https://evil.example/' }), texts.appFailed.title)

  const { secret } = await giveTotp(app, name)
  await giveRecoveryCodes(app, name)
  const factor = await look('factor', signInAnew(name), texts.factor.title)
  const again = await browser.submit(factor, { otp: wrongCode(secret, clock.now) })
  const wrong = browser.submit(again, { recovery_code: 'none' })
  await look('factor-recovery-wrong', wrong, texts.factor.title)

  await giveRoles(storeOf(app), adminId, ['admin'])
  const enrol = await look('enrol', signInAnew(admin), texts.enrol.title)
  await look('enrol-totp', browser.submit(enrol, { enroll: 'totp' }), texts.enrol.totpTitle)
  const passkey = browser.submit(await signInAnew(admin), { enroll: 'webauthn' })
  await look('enrol-passkey', passkey, texts.enrol.webauthn)

  browser.jar.clear()
  const signUpPage = await look('sign-up-open', ask({ prompt: 'create' }), texts.signUp.title)
  browser.jar.clear()
  await look('foreign', browser.submit(signUpPage, { username: name, password }), texts.foreign.title)
}

async function lookAtAccount({ app, clock }: Site, { browser, locale, texts, look }: Looking): Promise<void> {
  const { account } = texts
  const name = `ada.lovelace-${locale}`
  const { id } = (await signUp(app, name)).json()
  const store = storeOf(app)
  await giveEmail(store, id, `${name}@mail.example.com`, locale === 'en')
  const open = (path: string) => browser.open(`/account${path}`)
  await look('account', browser.signIn(name), account.title)

  const wrong = { current_password: 'wrong', new_password: newPassword }
  await look('account-password-wrong', browser.submit(await open('/password'), wrong), account.password.title)
  const email = await look('account-email', open('/email'), account.email.title)
  const another = { email: `${name}@${locale}.example.com`, password }
  await look('account-email-sent', browser.submit(email, another), account.email.title)

  await look('account-factors-none', open('/factors'), account.factors.title)
  const passkey = browser.submit(await open('/factors/passkey'), { name: '' })
  await look('account-passkey-without', passkey, account.passkey.title)
  const begin = await look('account-app', open('/factors/app'), account.app.title)
  const scan = await look('account-app-scan', browser.submit(begin, { name: 'Pixel 9' }), account.app.title)
  const secret = (/<code>([A-Z2-7 ]+)<\/code>/.exec(scan.body)?.[1] ?? '').replaceAll(' ', '')
  const missed = browser.submit(scan, { code: wrongCode(secret, clock.now) })
  await browser.submit(await look('account-app-wrong', missed, account.app.title), { code: codeOf(secret, clock.now) })
  const codes = browser.submit(await open('/factors/codes'), {}, '/factors/codes')
  await look('account-codes-made', codes, account.codes.title)
  const factors = await look('account-factors', open('/factors?done=app'), account.factors.title)
  const [, removal = ''] = /href="([^"]*remove[^"]*)"/.exec(factors.body) ?? []
  await look('account-factors-remove', browser.open(removal), account.removal.title)

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
  await look('account-apps', open('/apps'), account.apps.title)
  await look('account-sessions', open('/sessions?done=ended'), account.sessions.title)
  await look('account-activity', open('/activity'), account.activity.title)
  await look('account-export', open('/export'), account.export.title)
  const unsure = browser.submit(await open('/deletion'), { password: 'wrong' })
  await look('account-deletion-wrong', unsure, account.deletion.title)

  const elsewhere = { ...session, id: crypto.randomUUID(), scope: ['openid'], parent: crypto.randomUUID() }
  await store.importRows('sessions', [elsewhere])
  const id_token_hint = await app.idTokens.issue({ client: wiki, user, session: elsewhere })
  const signOut = browser.open(`/sign-out?${new URLSearchParams({ id_token_hint })}`)
  await look('sign-out', signOut, texts.signOut.title)
  const ended = browser.submit(await open('/sessions'), { all: 'yes' })
  await look('account-signed-out', ended, account.sessions.endedTitle)
  const back = new URLSearchParams({ client_id: 'wiki', post_logout_redirect_uri: bye })
  await look('sign-out-done', browser.open(`/sign-out?${back}`), texts.signOut.doneTitle)
}
