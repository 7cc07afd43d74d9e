import { randomUUID } from 'node:crypto'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { User } from '../../domain/user.ts'
import { pagesOf } from '../../stores/moving/copy.ts'
import { type TableName, tableNames } from '../../stores/rows.ts'
import { formsOf, type Opened, openBrowser } from '../support/browser.ts'
import { callerFrom, makeClient } from '../support/client-helper.ts'
import { codesOf, makeDeviceClient } from '../support/devices.ts'
import { codeOf, giveTotp } from '../support/factors.ts'
import { json, logIn, onOneApp, onOneStore, password, postForm, signUp, storeOf, withToken } from '../support/helper.ts'
import { mailsInto } from '../support/mail.ts'

/* Pages and forms in the hands of somebody who means harm: what another site, another browser or another user can do. */

type Browser = ReturnType<typeof openBrowser>
type Fields = Record<string, string>

const redirectUri = 'https://app.example/callback'
const authorizeUrl = (parameters: Fields = {}) =>
  `/authorize?${new URLSearchParams({ client_id: 'app', redirect_uri: redirectUri, response_type: 'code', scope: 'openid', ...parameters })}`

const makeApp = (app: FastifyInstance, id: string, more: object = {}) =>
  makeClient(app, {
    ...{ id, grants: ['authorization_code', 'refresh_token'], redirectUris: [redirectUri] },
    ...{ consent: 'implicit', pkce: 'optional', ...more },
  })

const onPages = onOneApp(async (t, build) => {
  const test = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off' })
  const { app } = test
  const { secret: appSecret } = await makeApp(app, 'app')
  await makeApp(app, 'asking', { consent: 'ask' })
  await makeDeviceClient(app)
  let users = 0
  return {
    ...test,
    appSecret,
    async newUser() {
      const name = `ada${++users}`
      await signUp(app, name)
      return name
    },
  }
})

/** All that is kept of people and for them. */
async function kept(app: FastifyInstance): Promise<Set<string>> {
  const rows = new Set<string>()
  for (const table of tableNames as TableName[])
    for await (const page of pagesOf(storeOf(app), table))
      for (const row of page) if (!isOfTheHouse(row)) rows.add(JSON.stringify({ table, ...row }))
  return rows
}

/** Why requests were refused, whose turn it is to sweep, and how far notices have come. */
const isOfTheHouse = (row: object) =>
  'kind' in row && 'id' in row && (['refusal', 'lease'].includes(String(row.kind)) || row.id === 'mail-notices')

/** What has changed since. */
async function changesSince(before: Set<string>, app: FastifyInstance): Promise<string[]> {
  const after = await kept(app)
  return [...before].filter((row) => !after.has(row)).concat([...after].filter((row) => !before.has(row)))
}

const send = ({ jar }: Browser, app: FastifyInstance, url: string, fields: Fields, headers: Fields = {}) =>
  app.inject({
    method: 'POST',
    url,
    headers: {
      cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; '),
      'content-type': 'application/x-www-form-urlencoded',
      'sec-fetch-site': 'same-origin',
      ...headers,
    },
    payload: new URLSearchParams(fields).toString(),
  })

interface FormOf {
  /** what it is sent with when it acts */
  fields: Fields
  /** where the form is found, where that is not where it is sent to */
  page?: string
  /** the address in its MAC, where that is not where it is sent to */
  action?: string
  /** `anybody`: the same whoever is signed in; `link`: whoever has what stands in it may act, from our pages */
  isFor: 'whoever is signed in' | 'anybody' | 'link' | 'any site'
}

/** Every form that there is. One that is missing here fails the test: say how it is protected. */
async function formsThatAre(app: FastifyInstance, factor: string): Promise<Record<string, FormOf>> {
  const isFor = 'whoever is signed in'
  const { user_code } = await codesOf(app)
  const next = 'seven grey herons on a quay'
  const another = '/sign-in?as=another'
  return {
    '/sign-in': { fields: { username: 'eve', password }, page: another, isFor: 'anybody' },
    '/sign-in/passkey': { fields: {}, page: another, action: '/sign-in', isFor: 'anybody' },
    '/sign-up': { fields: { username: 'mallory', password, email: '' }, isFor: 'anybody' },
    '/authorize': { fields: { client_id: 'app', redirect_uri: redirectUri, response_type: 'code' }, isFor: 'any site' },
    '/consent': {
      ...{ fields: { decision: 'allow' }, page: authorizeUrl({ client_id: 'asking', prompt: 'consent' }), isFor },
    },
    '/device': { fields: { user_code, decision: 'allow' }, page: `/device?user_code=${user_code}`, isFor },
    '/forgot': { fields: { name: 'eve' }, isFor: 'link' },
    '/reset': { fields: { token: 'lkr_x', new_password: next }, isFor: 'link' },
    '/verify-email': { fields: { token: 'lkv_x' }, isFor: 'link' },
    '/undo-email': { fields: { token: 'lku_x' }, isFor: 'link' },
    '/account/email': { fields: { email: 'new@example.com', password }, isFor },
    '/account/factors/app': { fields: { name: 'app' }, isFor },
    '/account/factors/passkey': { fields: { name: 'key' }, isFor },
    '/account/factors/codes': { fields: {}, isFor },
    '/account/sessions': { fields: { session: randomUUID() }, isFor },
    '/account/apps': { fields: { client: 'asking' }, isFor },
    '/account/export': { fields: {}, isFor },
    '/account/factors/remove': { fields: { id: factor }, page: `/account/factors/remove?id=${factor}`, isFor },
    '/account/password': { fields: { current_password: password, new_password: next }, isFor },
    '/account/deletion': { fields: { password: next }, isFor },
    '/sign-out': { fields: {}, isFor },
  }
}

/** The hidden fields of each form, as a browser finds them. */
async function hiddenIn(browser: Browser, forms: Record<string, FormOf>): Promise<Record<string, Fields>> {
  const found: Record<string, Fields> = {}
  for (const [path, { page = path, action = path, isFor }] of Object.entries(forms)) {
    if (isFor !== 'anybody' && isFor !== 'whoever is signed in') continue
    const opened = await browser.open(page)
    found[path] = formsOf(opened).find((form) => form.action.split('?')[0] === action)?.fields ?? {}
  }
  return found
}

/** Routes that the description of the API leaves out and that take a form. */
async function undocumentedForms(app: FastifyInstance): Promise<string[]> {
  const { paths } = json(await app.inject({ url: '/openapi.json' })) as { paths: Record<string, { post?: unknown }> }
  return [...app.knownPaths.values()]
    .filter(({ pattern, methods }) => methods.has('POST') && !paths[pattern.replace(/:(\w+)/g, '{$1}')]?.post)
    .map(({ pattern }) => pattern)
}

onPages('no form does anything for another site, another browser or another user', async (t, of) => {
  const { app, clock, newUser } = of
  const [name, eve] = [await newUser(), await newUser()]
  const { secret, id } = await giveTotp(app, name)
  const signIn = async (browser: Browser) => {
    clock.now += 30_000
    const step = await browser.signIn(name, undefined, await browser.open('/sign-in?as=another'))
    await browser.submit(step, { otp: codeOf(secret, clock.now) })
  }
  for (const who of [name, eve]) {
    const user = await storeOf(app).findUserByName(who)
    await app.consents.give(callerFrom('192.0.2.1', app.log), user as User, await app.clients.get('asking'), ['openid'])
  }
  const forms = await formsThatAre(app, id)
  t.same(Object.keys(forms).sort(), (await undocumentedForms(app)).sort(), 'every form is in the table')

  const browser = openBrowser(app)
  const elsewhere = openBrowser(app)
  await signIn(elsewhere)
  const ofElsewhere = await hiddenIn(elsewhere, forms)
  await browser.signIn(eve)
  const ofEve = await hiddenIn(browser, forms)
  await signIn(browser)
  const own = await hiddenIn(browser, forms)
  for (const [path, { csrf }] of Object.entries(own)) t.match(csrf, /^[\w-]{43}$/, `${path} has a hidden value`)

  const before = await kept(app)
  for (const [path, { fields, isFor }] of Object.entries(forms)) {
    if (isFor === 'any site') continue
    const { csrf = '', ...hidden } = own[path] ?? {}
    const unsigned = { ...hidden, ...fields }
    const good = { ...unsigned, ...(isFor !== 'link' && { csrf }) }
    const refused: [string, LightMyRequestResponse][] = []
    for (const headers of [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'none' },
      { origin: 'https://evil.example' },
      { origin: 'http://localhost:3001' },
      { 'sec-fetch-site': 'cross-site', origin: 'null' },
    ])
      if (path !== '/sign-out') refused.push([JSON.stringify(headers), await send(browser, app, path, good, headers)])
    if (isFor !== 'link') {
      const other = own[path === '/account/apps' ? '/account/export' : '/account/apps']?.['csrf'] as string
      const values: Record<string, string | undefined> = {
        'an empty value': '',
        'that of another form': other,
        'that of another browser': ofElsewhere[path]?.['csrf'],
        'one with a bit turned': csrf.replace(/^./, (first) => (first === 'A' ? 'B' : 'A')),
        'one cut short': csrf.slice(0, -1),
        ...(path !== '/sign-out' && { 'no value': undefined }),
        ...(isFor === 'whoever is signed in' && { 'that of who was signed in before': ofEve[path]?.['csrf'] }),
      }
      for (const [what, value] of Object.entries(values))
        refused.push([
          what,
          await send(browser, app, path, { ...unsigned, ...(value !== undefined && { csrf: value }) }),
        ])
      const withoutVisit = openBrowser(app)
      withoutVisit.jar.set('latchkey', browser.jar.get('latchkey') as string)
      refused.push(['no cookie of the visit', await send(withoutVisit, app, path, good)])
    }
    for (const [what, { statusCode, body, cookies }] of refused)
      t.match(
        [statusCode, /<h1>(.*?)</.exec(body)?.[1], cookies],
        [403, 'This form could not be accepted', []],
        `${path}: ${what}`,
      )
    // By another method, with all that the form has.
    const query = new URLSearchParams(good)
    for (const method of ['GET', 'HEAD'] as const)
      if (path !== '/sign-in/passkey')
        await app.inject({ method, url: `${path}?${query}`, headers: { cookie: cookieOf(browser) } })
  }
  t.same(await changesSince(before, app), [])

  for (const [path, form] of Object.entries(forms).filter(
    ([path, { isFor }]) => isFor === 'whoever is signed in' && path !== '/sign-out',
  )) {
    const before = await kept(app)
    const { [path]: hidden } = await hiddenIn(browser, { [path]: form })
    const { statusCode } = await browser.request('POST', path, { ...hidden, ...form.fields })
    t.ok(statusCode < 400, `${path} is taken with its value: ${statusCode}`)
    const isRead = path === '/account/export' || path === '/account/sessions'
    if (!isRead) t.not((await changesSince(before, app)).length, 0, `${path} does something`)
  }
})

const cookieOf = ({ jar }: Browser) => [...jar].map(([name, value]) => `${name}=${value}`).join('; ')

onPages('a page and HEAD of it change nothing, and a request for authorization has no HEAD', async (t, of) => {
  const { app, newUser } = of
  const browser = openBrowser(app)
  await browser.signIn(await newUser())
  const before = await kept(app)
  const paths = [...app.knownPaths.values()].filter(({ pattern }) =>
    /^\/(account|sign-|consent|device$|forgot|reset|verify-|undo-)/.test(pattern),
  )
  t.ok(paths.length > 20)
  for (const { pattern, methods } of paths)
    for (const method of ['GET', 'HEAD'] as const)
      if (methods.has(method) && pattern !== '/sign-out')
        await app.inject({ method, url: `${pattern}?token=x&id=x`, headers: { cookie: cookieOf(browser) } })
  t.same(await changesSince(before, app), [])
  const head = await app.inject({ method: 'HEAD', url: authorizeUrl(), headers: { cookie: cookieOf(browser) } })
  t.match([head.statusCode, head.headers.allow, head.headers.location], [405, 'GET, POST', undefined])
})

onPages('who goes on is who was asked: somebody else who has signed in meanwhile is asked anew', async (t, of) => {
  const { app, clock, newUser } = of
  const [name, eve] = [await newUser(), await newUser()]
  const browser = openBrowser(app)
  await browser.signIn(name)
  clock.now += 1_000
  const asked = await browser.open(authorizeUrl({ prompt: 'select_account' }))
  t.match(asked.body, `>${name}<`)
  await browser.signIn(eve, undefined, await browser.open('/sign-in?as=another'))
  const late = await browser.submit(asked, { continue: '1' })
  t.match([late.statusCode, late.url], [200, /^\/sign-in\?request=/])
  t.match(late.body, `>${eve}<`)
  t.notMatch(late.body, `>${name}<`)
  const done = await browser.submit(late, { continue: '1' })
  t.equal(done.headers.location?.toString().split('?')[0], redirectUri)
  const out = openBrowser(app)
  await out.open('/sign-in')
  const [csrf] = formsOf(await out.open('/sign-in'))
  const forged = await out.submit(
    { ...late, url: late.url },
    { continue: '1', csrf: csrf?.fields['csrf'] ?? '', request: '' },
  )
  t.match(forged.body, 'name="password"', 'and who is not signed in signs in')
})

onPages(
  'a second click, or the way back, leads on for who is signed in by the first',
  async (t, { app, clock, newUser }) => {
    const name = await newUser()
    const { secret } = await giveTotp(app, name)
    const browser = openBrowser(app)
    const step = await browser.signIn(name, undefined, await browser.open(authorizeUrl()))
    const otp = codeOf(secret, clock.now)
    t.match(String((await browser.submit(step, { otp })).headers.location), /code=/)
    t.match(await browser.submit(step, { otp }), { statusCode: 200, body: /You are signed in/ })
  },
)

onPages('what a sign-in is for opens in its browser, whole, for an hour, and leads nowhere else', async (t, of) => {
  const { app, clock } = of
  const browser = openBrowser(app)
  const { url } = await browser.open(authorizeUrl())
  const sealed = new URL(url, 'http://x').searchParams.get('request') as string
  const bytes = Buffer.from(sealed, 'base64url')
  const turned = [0, 1, 5, 20, bytes.length >> 1, bytes.length - 17, bytes.length - 1].map((at) => {
    const copy = Buffer.from(bytes)
    copy[at] = (copy[at] as number) ^ 1
    return copy.toString('base64url')
  })
  const page = JSON.stringify({ kind: 'page', to: '//evil.example', askedAt: clock.now })
  const forged = [
    ...turned,
    bytes.subarray(0, -1).toString('base64url'),
    Buffer.concat([bytes, Buffer.alloc(1)]).toString('base64url'),
    Buffer.from(page).toString('base64url'),
    app.secrets.seal(Buffer.from(page), 'pending of ').toString('base64url'),
    'https://evil.example',
    'x'.repeat(8_000),
  ]
  const refused = { statusCode: 400, headers: { location: undefined }, body: /This sign-in is over/ }
  const open = (of: Browser, text: string) => of.request('GET', `/sign-in?request=${encodeURIComponent(text)}`)
  for (const text of forged) t.match(await open(browser, text), refused, text.slice(0, 40))
  const two = await browser.request('GET', `/sign-in?request=${sealed}&request=${sealed}`)
  t.match([two.statusCode, two.headers.location], [200, undefined], 'of two there is none')
  const another = openBrowser(app)
  await another.open('/sign-in')
  t.match(await open(another, sealed), refused)
  t.equal((await open(browser, sealed)).statusCode, 200)
  clock.now += 3_600_000
  t.match(await open(browser, sealed), refused)
})

onPages('a cookie that was there before a sign-in is worth nothing after it', async (t, { app, newUser }) => {
  const [name, eve] = [await newUser(), await newUser()]
  const attacker = openBrowser(app)
  await attacker.signIn(eve)
  const planted = attacker.jar.get('latchkey') as string
  const victim = openBrowser(app)
  victim.jar.set('latchkey', planted)
  victim.jar.set('latchkey-form', attacker.jar.get('latchkey-form') as string)
  await victim.signIn(name, undefined, await victim.open('/sign-in?as=another'))
  t.not(victim.jar.get('latchkey'), planted)
  t.match((await victim.open('/account')).body, `>${name}<`)
  t.match((await attacker.open('/account')).url, /^\/sign-in/, 'what was planted has ended')

  const before = victim.jar.get('latchkey') as string
  await victim.signIn(name, undefined, await victim.open('/sign-in?as=another'))
  const stolen = openBrowser(app)
  stolen.jar.set('latchkey', before)
  t.match((await stolen.open('/account')).url, /^\/sign-in/, 'nor is one of before a sign-in anew')
  const [id] = [Buffer.from(victim.jar.get('latchkey') as string, 'base64url').subarray(0, 16)]
  for (const value of [
    Buffer.concat([id, Buffer.alloc(32)]).toString('base64url'),
    id.toString('base64url'),
    `${victim.jar.get('latchkey')}AA`,
    '',
    'x',
    '%00',
  ]) {
    stolen.jar.set('latchkey', value)
    t.match((await stolen.open('/account')).url, /^\/sign-in/, 'the id alone opens nothing')
  }
})

onPages('a browser is out with its user: after a new password, disabled, deleted, or all ended', async (t, of) => {
  const { app, newUser } = of
  const idOf = async (name: string) => (await storeOf(app).findUserByName(name))?.id as string
  const byToken = async (name: string, options: { method: 'POST' | 'DELETE'; url: string; payload?: object }) =>
    withToken(app, (await logIn(app, name)).access_token, options)
  const next = 'seven grey herons on a quay'
  const payload = { current_password: password, new_password: next }
  const caller = callerFrom('192.0.2.1', app.log)
  for (const [what, end] of Object.entries({
    'a new password': (name: string) => byToken(name, { method: 'POST', url: '/users/me/password', payload }),
    'all ended': (name: string) => byToken(name, { method: 'DELETE', url: '/users/me/sessions' }),
    disabled: async (name: string) => app.userAdmin.disable(caller, await idOf(name)),
    deleted: async (name: string) => app.userAdmin.delete(caller, await idOf(name)),
  })) {
    const name = await newUser()
    const browser = openBrowser(app)
    await browser.signIn(name)
    const consent = await browser.open(authorizeUrl({ client_id: 'asking' }))
    const codes = await browser.open('/account/factors/codes')
    const deletion = await browser.open('/account/deletion')
    await end(name)
    const before = await kept(app)
    for (const [path, page, values] of [
      ['/consent', consent, { decision: 'allow' }],
      ['/account/factors/codes', codes, {}],
      ['/account/deletion', deletion, { password }],
    ] as const)
      t.match((await browser.submit(page, values, path)).url, /^\/sign-in/, `${what}: ${path}`)
    t.match((await browser.open('/account')).url, /^\/sign-in/, what)
    t.match((await browser.open(authorizeUrl())).url, /^\/sign-in/, what)
    // Audit rows of who is deleted lose name and address, behind the answer.
    const changes = await changesSince(before, app)
    t.same(
      changes.filter((row) => what !== 'deleted' || !row.startsWith('{"table":"audit"')),
      [],
      what,
    )
  }
})

onPages(
  'a sign-out and an answer to an app at once leave no session behind',
  async (t, { app, appSecret, newUser }) => {
    const name = await newUser()
    for (let round = 0; round < 5; round++) {
      const browser = openBrowser(app)
      await browser.signIn(name)
      const question = await browser.open('/sign-out')
      const both = [browser.request('GET', authorizeUrl()), browser.submit(question, {}, '/sign-out')] as const
      const [answer] = await Promise.all(round % 2 === 0 ? both : ([...both].reverse() as unknown as typeof both))
      const code = new URL(String(answer.headers.location), 'http://x').searchParams.get('code')
      if (code === null) continue
      const of = { client_id: 'app', client_secret: appSecret, redirect_uri: redirectUri, code }
      t.match(json(await postForm(app, '/token', { grant_type: 'authorization_code', ...of })), {
        error: 'invalid_grant',
      })
    }
    const user = (await storeOf(app).findUserByName(name)) as User
    t.same((await app.sessions.list(user.id, { limit: 10 })).sessions, [])
    t.same(await app.browserSessions.list(user.id), [])
  },
)

onPages(
  'apps that are allowed at once are all remembered; of two new passwords one is',
  async (t, { app, newUser }) => {
    const name = await newUser()
    const browser = openBrowser(app)
    await browser.signIn(name)
    const ids = Array.from({ length: 10 }, (_, at) => `asking-${at}`)
    for (const id of ids) await makeApp(app, id, { consent: 'ask' })
    const pages = await Promise.all(ids.map((id) => browser.open(authorizeUrl({ client_id: id }))))
    const answers = await Promise.all(pages.map((page) => browser.submit(page, { decision: 'allow' })))
    for (const { headers } of answers) t.match(String(headers.location), /code=lkc_/)
    const { id } = (await storeOf(app).findUserByName(name)) as User
    t.same((await app.consents.of(id)).map(({ clientId }) => clientId).sort(), ids)

    const form = await browser.open('/account/password')
    const changes = await Promise.all(
      ['seven grey herons on a quay', 'eight grey herons on a quay'].map((next) =>
        browser.submit(form, { current_password: password, new_password: next }),
      ),
    )
    t.same(changes.map(({ url }) => url).sort(), ['/account/password', '/account?done=password'])
    t.equal((await browser.open('/account')).url, '/account')
    t.equal((await app.browserSessions.list(id)).length, 1)
  },
)

onPages('texts of strangers are texts on every page', async (t, { app, newUser }) => {
  const evil = `"><img src=x onerror=alert(1)>'</script>`
  const browser = openBrowser(app, { 'user-agent': evil, 'accept-language': evil, 'x-forwarded-for': evil })
  await makeApp(app, 'evil', { name: evil, consent: 'ask' })
  const seen: Opened[] = []
  const names = 'request ui_locales id token user_code invitation done as after from state client_id'.split(' ')
  const openAll = async (paths: string[]) => {
    for (const path of paths)
      for (const at of names) seen.push(await browser.open(`${path}?${new URLSearchParams({ [at]: evil })}`))
  }
  for (const wrong of ['client_id', 'redirect_uri', 'response_type', 'response_mode', 'prompt', 'scope'])
    seen.push(await browser.open(authorizeUrl({ client_id: 'evil', state: evil, login_hint: evil, [wrong]: evil })))
  await openAll([
    '/sign-in',
    '/sign-up',
    '/forgot',
    '/reset',
    '/verify-email',
    '/undo-email',
    '/consent',
    '/device',
    '/sign-out',
  ])
  seen.push(await browser.signIn(evil, evil))
  seen.push(await browser.submit(await browser.open('/sign-up'), { username: evil, password: evil, email: evil }))
  await browser.signIn(await newUser())
  const consent = await browser.open(authorizeUrl({ client_id: 'evil', state: evil, response_mode: 'form_post' }))
  seen.push(consent, await browser.submit(consent, { decision: 'allow' }))
  seen.push(await browser.submit(await browser.open('/account/factors/app'), { name: evil }))
  seen.push(await browser.submit(await browser.open('/account/email'), { email: evil, password }))
  await openAll(['', '/apps', '/sessions', '/activity', '/factors', '/factors/remove'].map((path) => `/account${path}`))
  t.ok(seen.filter(({ body }) => body.includes('&lt;img src=x')).length > 10, 'they do stand there')
  for (const { url, body, headers } of seen)
    if (/<img src=x|onerror=alert\(1\)>/.test(body + JSON.stringify(headers['content-security-policy'] ?? '')))
      t.fail(`${url} has markup of a stranger`)
})

onOneStore('guesses at a password on the pages of an account are counted, and told as a page', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const browser = openBrowser(app)
  await browser.signIn('ada')
  const form = await browser.open('/account/password')
  const guess = () => browser.submit(form, { current_password: 'wrong', new_password: 'seven grey herons on a quay' })
  for (let tries = 0; tries < 10; tries++) t.equal((await guess()).statusCode, 403)
  const answer = await guess()
  t.match([answer.statusCode, answer.headers['retry-after']], [429, /^\d+$/])
  t.match(answer.body, /<form[\s\S]*Too many attempts|Too many attempts[\s\S]*<form/)
  const deletion = await browser.submit(await browser.open('/account/deletion'), { password }, '/account/deletion')
  t.equal(deletion.statusCode, 429, 'nor by another form')
  t.ok(await storeOf(app).findUserByName('ada'))
})

onOneStore(
  'a browser that was signed in before AUTH_MFA demanded a factor gets to nothing without one',
  async (t, build) => {
    const before = await build({ AUTH_THROTTLE: 'off' })
    await signUp(before.app)
    const old = openBrowser(before.app)
    await old.signIn('ada')
    t.equal((await old.open('/account')).url, '/account')
    const { app, clock } = await before.restart({ AUTH_MFA: 'required' })
    const browser = openBrowser(app)
    for (const [name, value] of old.jar) browser.jar.set(name, value)
    for (const path of ['', '/password', '/sessions', '/deletion', '/factors/app'])
      t.match((await browser.open(`/account${path}`)).url, /^\/sign-in/, path)
    const choice = await browser.signIn('ada', undefined, await browser.open('/account/sessions'))
    const shown = await browser.submit(choice, { enroll: 'totp' })
    const secret = (/<code>([A-Z2-7 ]+)<\/code>/.exec(shown.body)?.[1] ?? '').replaceAll(' ', '')
    t.equal((await browser.submit(shown, { otp: codeOf(secret, clock.now) })).url, '/account/sessions')
  },
)
