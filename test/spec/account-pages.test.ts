import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { newAuditId } from '../../domain/audit.ts'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { Session } from '../../domain/session.ts'
import { noPassword } from '../../domain/user.ts'
import { events } from '../../events.ts'
import { textsOf } from '../../pages/texts/index.ts'
import { createAuthenticator } from '../support/authenticator.ts'
import { formsOf, type Opened, openBrowser } from '../support/browser.ts'
import { makeClient } from '../support/client-helper.ts'
import { codeOf, giveRecoveryCodes, giveTotp, wrongCode } from '../support/factors.ts'
import {
  type Build,
  giveEmail,
  isAccepted,
  json,
  logIn,
  onOneApp,
  onOneStore,
  overStores,
  password,
  type Scope,
  signUp,
  storeOf,
} from '../support/helper.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'

/* The pages of an account as a browser without script has them, contract section 12. */

const { account, consent } = textsOf('en')
const next = 'seven grey herons on a quay'
const minute = 60_000
const mostBytes = 30_000
const firefox = { 'user-agent': 'Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0' }

const pages = [
  '/account',
  '/account/password',
  '/account/email',
  '/account/factors',
  '/account/factors/app',
  '/account/factors/passkey',
  '/account/factors/codes',
  '/account/factors/remove',
  '/account/sessions',
  '/account/apps',
  '/account/activity',
  '/account/export',
  '/account/deletion',
]
/** What each form does when it is good. */
const acts: Record<string, Record<string, string>> = {
  '/account/password': { current_password: password, new_password: next },
  '/account/email': { email: 'new@example.com', password },
  '/account/factors/app': { name: 'app' },
  '/account/factors/passkey': { name: 'key' },
  '/account/factors/codes': {},
  '/account/factors/remove': { id: randomUUID() },
  '/account/sessions': { all: 'yes' },
  '/account/apps': { client: 'app' },
  '/account/export': {},
  '/account/deletion': { password },
}

async function start(t: Scope, build: Build, settings: Record<string, string> = {}) {
  const built = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off', ...settings })
  const { app } = built
  const store = storeOf(app)
  let users = 0
  const idOf = async (name: string) => (await store.findUserByName(name))?.id as string

  return {
    ...built,
    store,
    outbox: outboxOf(app),
    idOf,
    /** somebody who is signed in in a browser */
    async newUser(headers: Record<string, string> = {}) {
      const name = `ada${++users}`
      await signUp(app, name)
      const browser = openBrowser(app, headers)
      await browser.signIn(name)
      return { name, id: await idOf(name), browser }
    },
    /** An app that a user is signed in to. @param parent the browser session that it was opened from */
    async openApp(userId: string, clientId: string, parent?: string, scope: string[] = []): Promise<Session> {
      const birth = (await app.clients.find(clientId))?.createdAt
      const session: Session = {
        ...{ id: randomUUID(), userId, clientId, scope, generation: (await store.findUser(userId))?.generation ?? 0 },
        ...(clientId !== 'first-party' && birth !== undefined && { clientCreatedAt: birth }),
        ...{ counter: 0, createdAt: app.now(), refreshedAt: app.now(), address: '192.0.2.7', userAgent: 'node' },
        ...(parent !== undefined && { parent }),
      }
      if (!(await store.createSession(session))) throw new Error('not opened')
      return session
    },
  }
}

const titleOf = ({ body }: Opened) => /<h1>(.*?)<\/h1>/.exec(body)?.[1]
const weightOf = async (app: FastifyInstance, page: Opened) => {
  const sheet = /rel="stylesheet" href="([^"]+)"/.exec(page.body)?.[1] as string
  return Buffer.byteLength(page.body) + (await app.inject({ url: sheet })).rawPayload.length
}

const onPages = onOneApp((t, build) => start(t, build))

onPages('whoever is not signed in signs in first, and comes back to the page', async (t, { app }) => {
  await signUp(app, 'eve')
  for (const url of pages) {
    const browser = openBrowser(app)
    const asked = await browser.open(`${url}?ui_locales=en`)
    t.match(asked.url, /^\/sign-in\?request=/, url)
    if (url === '/account/factors/codes')
      t.equal((await browser.signIn('eve', undefined, asked)).url.split('?')[0], url, url)
  }
  const nobody = openBrowser(app)
  for (const [url, fields] of Object.entries(acts))
    t.match((await nobody.follow(await nobody.request('POST', url, fields))).url, /^\/sign-in\?request=/, url)
})

onPages('every page keeps what it shows to itself, in both languages', async (t, { app, newUser }) => {
  const { browser } = await newUser()
  for (const url of pages.flatMap((url) => [url, `${url}?ui_locales=ko`])) {
    const page = await browser.request('GET', url)
    t.equal(page.statusCode, url.includes('remove') ? 404 : 200, url)
    t.match(page.headers, {
      'content-security-policy': /default-src 'none';.*frame-ancestors 'none'; form-action 'self'$/,
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
    })
    t.notMatch(page.body, /undefined|\[object|<script(?! src)|\son\w+=|\sstyle=/, url)
    t.ok((await weightOf(app, page)) <= mostBytes, url)
    if (url.endsWith('ko')) t.notMatch(page.body, /href="\/account(?!.*ui_locales=ko)[^"]*"/, 'links keep the language')
  }
})

overStores('a changed password ends every sign-in but that of its browser', async (t, build) => {
  const { app, newUser, openApp } = await start(t, build)
  const { name, id, browser } = await newUser()
  const elsewhere = openBrowser(app)
  await elsewhere.signIn(name)
  const [here] = await app.browserSessions.list(id)
  await openApp(id, 'first-party', here?.id)
  const { access_token } = await logIn(app, name)
  const before = browser.jar.get('latchkey')

  const page = await browser.open('/account/password')
  const wrong = await browser.submit(page, { current_password: 'wrong', new_password: next })
  t.match([wrong.statusCode, titleOf(wrong)], [403, account.password.title])
  t.match(wrong.body, account.wrongPassword)
  const weak = await browser.submit(page, { current_password: password, new_password: 'password password' })
  t.equal(weak.statusCode, 400)
  t.notMatch(weak.body, password, 'no password comes back')
  const empty = await browser.submit(page, { current_password: password, new_password: '' })
  t.match(empty.body, textsOf('en').missing)

  const done = await browser.submit(page, { current_password: password, new_password: next })
  t.match([done.url, done.statusCode], ['/account?done=password', 200])
  t.match(done.body, account.done.password)
  t.not(browser.jar.get('latchkey'), before, 'by another cookie')
  t.match((await elsewhere.open('/account')).url, /^\/sign-in/)
  t.notOk(await isAccepted(app, access_token))
  t.equal((await app.browserSessions.list(id)).length, 1)
  t.equal((await app.sessions.list(id, { limit: 10 })).sessions.length, 0)

  const stolen = openBrowser(app)
  stolen.jar.set('latchkey', before as string)
  t.match((await stolen.open('/account')).url, /^\/sign-in/, 'the cookie of before is worth nothing')
  t.equal((await stolen.signIn(name, next)).url, '/account')
})

onPages('another address is mailed to, and confirmed by the code', async (t, { store, newUser, outbox }) => {
  const { id, name, browser } = await newUser()
  const to = `${name}@example.com`
  const page = await browser.open('/account/email')
  t.match(page.body, account.email.none)
  t.match((await browser.submit(page, { email: 'none', password })).body, account.email.wrong)
  t.match((await browser.submit(page, { email: to, password: 'wrong' })).body, account.wrongPassword)
  const sent = await browser.submit(page, { email: to, password })
  t.match(sent.body, account.email.sent)
  const { code } = outbox.last(to)
  t.ok(code)
  t.equal((await browser.submit(sent, { code: code as string })).statusCode, 200)
  t.equal((await store.findUser(id))?.emailKey, to)
  t.match((await browser.open('/account')).body, `${account.yes}`)
})

onPages(
  'an address that another has is mailed to as any other, and is not told',
  async (t, { store, newUser, idOf }) => {
    const { browser, name } = await newUser()
    const { browser: other } = await newUser()
    await giveEmail(store, await idOf(name), 'taken@example.com')
    const ask = async (email: string) =>
      (await other.submit(await other.open('/account/email'), { email, password })).body
        .replaceAll(email, 'ADDRESS')
        .replace(/name="id" value="[^"]*"/, '')
    const [free, taken] = [await ask('free@example.com'), await ask('taken@example.com')]
    t.equal(free.replace(/free@<wbr>example.com/, ''), taken.replace(/taken@<wbr>example.com/, ''))
    t.ok(browser)
  },
)

overStores(
  'an authenticator app is added by its picture and a code, and the browser has shown it',
  async (t, build) => {
    const { app, clock, newUser } = await start(t, build)
    const { name, id, browser } = await newUser()
    const before = browser.jar.get('latchkey')
    const shown = await browser.submit(await browser.open('/account/factors/app'), { name: 'My <phone>' })
    const secret = (/<code>([A-Z2-7 ]+)<\/code>/.exec(shown.body)?.[1] ?? '').replaceAll(' ', '')
    t.equal(secret.length, 32)
    t.match(shown.body, 'src="data:image/svg+xml;base64,')
    const missed = await browser.submit(shown, { code: wrongCode(secret, clock.now) })
    t.equal(missed.statusCode, 400)
    t.match(missed.body, account.app.wrong)
    t.match(missed.body, secret.slice(0, 4), 'the picture and the key come again')
    t.equal((await app.factors.of(id)).factors.length, 0)

    const done = await browser.submit(missed, { code: codeOf(secret, clock.now) })
    t.equal(done.url, '/account/factors?done=app')
    t.match(done.body, 'My &lt;phone&gt;')
    const cookie = browser.jar.get('latchkey')
    t.not(cookie, before)
    const [session] = await app.browserSessions.list(id)
    t.match(session, { factor: /./, amr: ['pwd', 'otp', 'mfa'] })
    const made = await browser.submit(await browser.open('/account/factors/codes'), {}, '/account/factors/codes')
    t.equal(titleOf(made), account.codes.title, 'and needs no other sign-in for the next change')
    const codes = [...made.body.matchAll(/<li>([A-Z0-9-]{19})<\/li>/g)].map(([, code]) => code)
    t.equal(new Set(codes).size, 10)

    const late = await browser.submit(missed, { code: codeOf(secret, clock.now, 1) })
    t.match([late.statusCode, late.body], [404, account.app.late], 'what was confirmed is confirmed once')
    const elsewhere = openBrowser(app)
    t.match((await elsewhere.signIn(name)).body, 'one-time-code', 'the next sign-in asks for it')
  },
)

onPages('an authenticator app takes five wrong codes at most', async (t, { app, clock, newUser }) => {
  const { id, browser } = await newUser()
  let page = await browser.submit(await browser.open('/account/factors/app'), { name: '' })
  const secret = (/<code>([A-Z2-7 ]+)<\/code>/.exec(page.body)?.[1] ?? '').replaceAll(' ', '')
  const right = page
  for (let i = 0; i < 5; i++) page = await browser.submit(right, { code: wrongCode(secret, clock.now) })
  t.match(page.body, account.app.late)
  t.match((await browser.submit(right, { code: codeOf(secret, clock.now) })).body, account.app.late)
  t.equal((await app.factors.of(id)).factors.length, 0)
})

onPages('a passkey is added by what the script sends, once, in the browser that it was asked for in', async (t, of) => {
  const { app, newUser } = of
  const { id, browser } = await newUser()
  const { browser: other } = await newUser()
  const begun = await browser.submit(await browser.open('/account/factors/passkey'), { name: 'Key' })
  const optionsOf = ({ body }: Opened) =>
    JSON.parse((/data-options="([^"]*)"/.exec(body)?.[1] ?? '').replaceAll('&quot;', '"'))
  t.match(begun.body, /<script src="[^"]*\.js" defer>/)
  const webauthn = JSON.stringify(createAuthenticator().create(optionsOf(begun)))

  const theirs = await other.submit(await other.open('/account/factors/passkey'), { name: 'Theirs' })
  t.equal((await other.submit(theirs, { webauthn })).statusCode, 400, 'in no other')
  for (const text of ['', '{', '{}', 'null', '[]'])
    t.match((await browser.submit(begun, { webauthn: text })).body, account.passkey.failed, text)
  const done = await browser.submit(begun, { webauthn })
  t.equal(done.url, '/account/factors?done=passkey')
  t.match((await app.factors.of(id)).factors, [{ kind: 'webauthn', name: 'Key' }])
  t.match((await app.browserSessions.list(id))[0]?.amr, ['pwd', 'hwk', 'user', 'mfa'])
  t.equal((await browser.submit(begun, { webauthn })).statusCode, 400, 'no second time')
})

onPages('factors are for a sign-in of a moment ago, with all that the account has', async (t, of) => {
  const { app, clock, newUser } = of
  const { id, name, browser } = await newUser()
  const { secret } = await giveTotp(app, name)
  await giveRecoveryCodes(app, name)
  const list = await browser.open('/account/factors')
  t.equal(list.url, '/account/factors', 'they are shown')
  const remove = [...list.body.matchAll(/href="([^"]*remove[^"]*)"/g)].map(([, url]) => url as string)
  t.equal(remove.length, 2)
  const asked = await browser.open(remove[0] as string)
  t.match(asked.url, /^\/sign-in/, 'the password alone is not all')

  const strong = openBrowser(app)
  const step = await strong.signIn(name)
  await strong.submit(step, { otp: codeOf(secret, clock.now) })
  const question = await strong.open(remove[0] as string)
  t.equal(titleOf(question), account.removal.title)
  clock.now += 6 * minute
  t.match((await strong.submit(question, {}, '/account/factors/remove')).url, /^\/sign-in/, 'nor is an old one')
  for (const url of ['/account/factors/app', '/account/factors/passkey', '/account/factors/codes', '/account/export'])
    t.match((await strong.open(url)).url, /^\/sign-in/, url)
  t.equal((await app.factors.of(id)).factors.length, 2)
})

onPages(
  'a factor is removed after a question, and the page says so twice as well',
  async (t, { app, clock, newUser }) => {
    const { id, name, browser } = await newUser()
    const { secret } = await giveTotp(app, name)
    await browser.submit(await browser.signIn(name), { otp: codeOf(secret, clock.now) })
    const [factor] = (await app.factors.of(id)).factors
    const question = await browser.open(`/account/factors/remove?id=${factor?.id}`)
    for (const _ of [1, 2]) {
      const done = await browser.submit(question, {}, '/account/factors/remove')
      t.equal(done.url, '/account/factors?done=removed')
    }
    t.equal((await app.factors.of(id)).factors.length, 0)
    t.equal((await browser.open(`/account/factors/remove?id=${factor?.id}`)).statusCode, 404)
  },
)

onOneStore('the last factor stays where one is demanded', async (t, build) => {
  const { app, clock } = await start(t, build, { AUTH_MFA: 'required' })
  await signUp(app, 'ada')
  const { id, secret } = await giveTotp(app, 'ada')
  const browser = openBrowser(app)
  await browser.submit(await browser.signIn('ada'), { otp: codeOf(secret, clock.now) })
  const question = await browser.open(`/account/factors/remove?id=${id}`)
  const kept = await browser.submit(question, {}, '/account/factors/remove')
  t.match([kept.statusCode, kept.body], [409, account.removal.last])
})

overStores('sessions are shown by browser and app, and ended one by one or all at once', async (t, build) => {
  const { app, newUser, openApp } = await start(t, build)
  await makeClient(app, { id: 'wiki', name: 'The <Wiki>', redirectUris: ['https://wiki.example.com/cb'] })
  const { id, name, browser } = await newUser(firefox)
  const [here] = (await app.browserSessions.list(id)) as [BrowserSession]
  const other = openBrowser(app, firefox)
  await other.signIn(name)
  const there = (await app.browserSessions.list(id)).find((one) => one.id !== here.id) as BrowserSession
  const child = await openApp(id, 'wiki', here.id)
  const alone = await openApp(id, 'first-party')

  const page = await browser.open('/account/sessions')
  t.match(page.body, 'Firefox, Windows')
  t.match(page.body, 'The &lt;Wiki&gt;')
  t.notMatch(page.body, 'The <Wiki>')
  t.equal(page.body.split(account.sessions.here).length, 2, 'this browser is named once')
  const buttons = formsOf(page).flatMap((form) => form.buttons)
  t.equal(buttons.length, 5)

  const { browser: thief, id: another } = await newUser()
  const theirs = await thief.open('/account/sessions')
  const csrf = formsOf(theirs)[0]?.fields['csrf'] as string
  for (const fields of [{ session: alone.id }, { browser: here.id }, { session: 'x'.repeat(4_000) }, { browser: '/' }])
    t.equal((await thief.request('POST', '/account/sessions', { ...fields, csrf })).statusCode, 303)
  t.equal((await app.browserSessions.list(id)).length, 2, "another's are left")
  t.equal((await app.sessions.list(id, { limit: 10 })).sessions.length, 2)
  t.equal((await app.browserSessions.list(another)).length, 1)

  const ended = await browser.submit(page, { session: alone.id })
  t.equal(ended.url, '/account/sessions?done=ended')
  t.match(ended.body, account.done.ended)
  t.same(
    (await app.sessions.list(id, { limit: 10 })).sessions.map((one) => one.id),
    [child.id],
  )
  await browser.submit(await browser.open('/account/sessions'), { browser: there.id })
  t.match((await other.open('/account')).url, /^\/sign-in/)
  t.match((await browser.submit(await browser.open('/account/sessions'), { browser: here.id })).url, '/sign-in')
  t.notOk(browser.jar.has('latchkey'))
  t.equal((await app.sessions.list(id, { limit: 10 })).sessions.length, 0, 'the app has ended with its browser')

  await browser.signIn(name)
  await other.signIn(name)
  const { access_token } = await logIn(app, name)
  const all = await browser.submit(await browser.open('/account/sessions'), { all: 'yes' })
  t.match([titleOf(all), browser.jar.has('latchkey')], [account.sessions.endedTitle, false])
  t.match((await other.open('/account')).url, /^\/sign-in/)
  t.notOk(await isAccepted(app, access_token))
})

onPages('many sessions and apps are shown page by page, none of which is heavy', async (t, of) => {
  const { app, newUser, openApp } = of
  const { id, name, browser } = await newUser()
  for (let i = 0; i < 20; i++) await openBrowser(app, firefox).signIn(name)
  const [here] = await app.browserSessions.list(id)
  for (let i = 0; i < 60; i++) await openApp(id, 'first-party', i % 2 ? here?.id : undefined)
  let page = await browser.open('/account/sessions')
  t.match(page.body, account.sessions.others(6))
  const seen = new Set<string>()
  for (let pages = 1; ; pages++) {
    t.ok((await weightOf(app, page)) <= mostBytes)
    for (const { name, value } of formsOf(page).flatMap((form) => form.buttons)) if (name === 'session') seen.add(value)
    const older = /href="([^"]*after=[^"]*)"/.exec(page.body)?.[1]
    if (older === undefined) {
      t.equal(pages, 3)
      break
    }
    page = await browser.open(older)
  }
  t.equal(seen.size, 60)
})

overStores('an app that was allowed is shown, and loses its access', async (t, build) => {
  const { app, store, newUser, openApp } = await start(t, build)
  const wiki = await makeClient(app, { id: 'wiki', name: 'Wiki', redirectUris: ['https://wiki.example.com/cb'] })
  const { id, browser } = await newUser()
  t.match((await browser.open('/account/apps')).body, account.apps.none)
  const user = await store.findUser(id)
  if (!user) throw new Error('gone')
  const client = await app.clients.find(wiki.id)
  if (!client) throw new Error('gone')
  await app.consents.give({ log: app.log } as never, user, client, ['openid', 'email'])
  const kept = await openApp(id, 'first-party')
  await openApp(id, 'wiki')
  const page = await browser.open('/account/apps')
  t.match(page.body, 'Wiki')
  t.match(page.body, consent.scopes.email)
  const done = await browser.submit(page, { client: 'wiki' })
  t.equal(done.url, '/account/apps?done=withdrawn')
  t.same(await app.consents.of(id), [])
  t.same(
    (await app.sessions.list(id, { limit: 10 })).sessions.map((one) => one.id),
    [kept.id],
  )
})

onPages('what happened is told in words, of administrators no more than that it was one', async (t, of) => {
  const { app, newUser, store } = of
  const { id, browser } = await newUser(firefox)
  const { browser: other } = await newUser(firefox)
  const row = { at: app.now(), outcome: 'success', user: id } as const
  const byAnother = { by: 'root', address: '198.51.100.99', userAgent: 'curl/8' }
  await store.addAudit([
    ...Array.from({ length: 30 }, () => ({ ...row, id: newAuditId(app.now()), event: 'password.forgotten' })),
    { ...row, ...byAnother, id: newAuditId(app.now()), event: 'password.set' },
    { ...row, id: newAuditId(app.now()), event: 'of.another.release' },
  ])
  const page = await browser.open('/account/activity')
  for (const words of [account.activity.events['password.set'], account.activity.administrator, 'of.another.release'])
    t.match(page.body, words)
  t.notMatch(page.body, /198\.51\.100\.99|curl|root/)
  t.ok((await weightOf(app, page)) <= mostBytes)
  const older = await browser.open(/href="([^"]*after=[^"]*)"/.exec(page.body)?.[1] as string)
  t.match(older.body, account.activity.events['browser.signed_in'])
  t.match(older.body, 'Firefox, Windows')
  t.notMatch((await other.open('/account/activity')).body, account.activity.events['password.set'])
  for (const after of ['x', 'x'.repeat(2_000), randomUUID()])
    t.equal((await browser.open(`/account/activity?after=${after}`)).statusCode, 200)
})

t.test('every event about a user has its words', async (t) => {
  const ofUsers = Object.keys(account.activity.events)
  const others = /^(client|key|webhook|worker|store|log|invitation|secret|mail|users)\./
  t.same(
    Object.keys(events).filter((name) => !others.test(name) && !ofUsers.includes(name)),
    ['user.deleted', 'code.reused'],
    'and none what nobody is left to read, or is about an app alone',
  )
})

onPages('all that is kept of a user is a file of theirs', async (t, { app, newUser, openApp }) => {
  const { id, name, browser } = await newUser(firefox)
  await openApp(id, 'first-party')
  await giveRecoveryCodes(app, name)
  const page = await browser.open('/account/export')
  const file = await browser.submit(page, {}, '/account/export')
  t.match(file.headers, {
    'content-type': 'application/json; charset=utf-8',
    'content-disposition': 'attachment; filename="account.json"',
    'cache-control': 'no-store',
  })
  const data = json(file)
  t.match(data, {
    profile: { id, username: name },
    factors: [{ kind: 'recovery_code', left: 10 }],
    browsers: [{ user_agent: firefox['user-agent'] }],
    apps: [],
    sessions: [{ client_id: 'first-party' }],
  })
  t.ok(data.activity.some(({ event }: { event: string }) => event === 'user.created'))
  t.notMatch(file.body, /argon2|hashes|secret/, 'and nothing that opens anything')
})

onPages('an account is deleted by its password alone, and the browser is signed out', async (t, { store, newUser }) => {
  const { id, browser } = await newUser()
  const page = await browser.open('/account/deletion')
  t.equal((await browser.submit(page, { password: 'wrong' })).statusCode, 403)
  t.ok(await store.findUser(id))
  const done = await browser.submit(page, { password })
  t.equal(titleOf(done), account.deletion.doneTitle)
  t.notOk(await store.findUser(id))
  t.notOk(browser.jar.get('latchkey'))
  t.match((await browser.open('/account')).url, /^\/sign-in/)
})

onPages(
  'who has no password is asked for a sign-in of a moment ago in its place',
  async (t, { clock, store, newUser }) => {
    const { id, browser } = await newUser()
    const user = await store.findUser(id)
    await store.replacePasswordHash(id, user?.passwordHash ?? '', noPassword)
    for (const url of ['/account/password', '/account/email']) {
      const page = await browser.open(url)
      t.match(page.body, account.noPassword)
      t.same(formsOf(page), [])
    }
    const page = await browser.open('/account/deletion')
    clock.now += 6 * minute
    t.match((await browser.submit(page, {}, '/account/deletion')).url, /^\/sign-in/)
    t.ok(await store.findUser(id))
    clock.now -= 6 * minute
    t.equal(titleOf(await browser.submit(page, {}, '/account/deletion')), account.deletion.doneTitle)
    t.notOk(await store.findUser(id))
  },
)

onPages('a form of one user does nothing for another who signs in in the same browser', async (t, of) => {
  const { app, store, newUser } = of
  const { id, name } = await newUser()
  const { id: before, browser } = await newUser()
  const page = await browser.open('/account/sessions')
  await browser.signIn(name, password, await browser.open('/sign-in?as=another'))
  t.match((await browser.open('/account')).body, name)
  t.equal((await browser.submit(page, { all: 'yes' })).statusCode, 403)
  t.equal((await app.browserSessions.list(id)).length, 2)
  t.equal((await app.browserSessions.list(before)).length, 0, 'and the one before is signed out')
  await store.disableUser(id, { now: app.now(), expiresAt: app.now() + minute } as End)
  t.match((await browser.open('/account')).url, /^\/sign-in/, 'nor is there anything for who is disabled')
})

onOneStore(
  'pages are left out that the service has nothing for, and all are below the path of the issuer',
  async (t, build) => {
    const { app } = await build({ AUTH_ISSUER: 'http://127.0.0.1:3000/auth' })
    await signUp(app, 'ada')
    const browser = openBrowser(app)
    t.equal(
      (await browser.signIn('ada', undefined, await browser.open('/account/factors'))).url,
      '/auth/account/factors',
    )
    t.equal((await browser.request('GET', '/account/factors/passkey')).statusCode, 404, 'the issuer is an address')
    t.notMatch((await browser.open('/account/factors')).body, 'passkey"')
    t.equal((await browser.request('GET', '/account/email')).statusCode, 404, 'there is no mail')
    const page = await browser.open('/account')
    t.notMatch(page.body, '/account/email')
    t.notMatch(page.body, /(href|action)="\/(?!auth\/)/)
    const changed = await browser.submit(await browser.open('/account/password'), {
      ...{ current_password: password, new_password: next },
    })
    t.equal(changed.url, '/auth/account?done=password')
  },
)
