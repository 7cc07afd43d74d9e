import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { createAuthenticator } from '../support/authenticator.ts'
import { answerOf, formsOf, type Opened, openBrowser } from '../support/browser.ts'
import { callerFrom, makeClient } from '../support/client-helper.ts'
import { codeOf, giveRecoveryCodes, giveTotp, wrongCode } from '../support/factors.ts'
import { onOneApp, onOneStore, password, signUp } from '../support/helper.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'
import { givePasskey } from '../support/passkeys.ts'

/* Signing in and signing up on the pages, and what an app may have, as a browser without script has them. */

const mostBytes = 30_000
const redirectUri = 'https://app.example/callback'
const titleOf = ({ body }: { body: string }) => /<h1>(.*?)<\/h1>/.exec(body)?.[1]
const policyOf = ({ headers }: Opened) => String(headers['content-security-policy'])

/** What an app has a browser ask for; the client takes requests without PKCE, for the sake of the tests. */
const authorizeUrl = (parameters: Record<string, string> = {}) =>
  `/authorize?${new URLSearchParams({ client_id: 'app', redirect_uri: redirectUri, response_type: 'code', scope: 'openid', ...parameters })}`

const makeApp = (app: FastifyInstance, more: object = {}) =>
  makeClient(app, {
    id: 'app',
    name: 'Reading & <Writing>',
    grants: ['authorization_code', 'refresh_token'],
    scopes: ['files:read'],
    redirectUris: [redirectUri],
    consent: 'implicit',
    pkce: 'optional',
    ...more,
  })

const onPages = onOneApp(async (t, build) => {
  const { app, clock } = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off' })
  await makeApp(app)
  await makeApp(app, { id: 'asking', consent: 'ask' })
  let users = 0
  return {
    ...{ app, clock, outbox: outboxOf(app) },
    async newUser() {
      const name = `ada${++users}`
      await signUp(app, name)
      return name
    },
  }
})

onPages(
  'every page says what is left to do, keeps itself to itself, and weighs little',
  async (t, { app, newUser }) => {
    const name = await newUser()
    const browser = openBrowser(app)
    const pages = [
      await browser.open('/sign-in'),
      await browser.open(authorizeUrl()),
      await browser.open('/sign-up'),
      await browser.open('/sign-in?request=x'),
      await browser.open('/consent'),
      await browser.open(authorizeUrl({ client_id: 'nobody' })),
    ]
    await giveTotp(app, name)
    pages.push(await browser.signIn(name))
    for (const page of pages) {
      t.match(page.headers, {
        'content-type': 'text/html; charset=utf-8',
        'referrer-policy': 'no-referrer',
        'cache-control': 'no-store',
      })
      t.match(
        policyOf(page),
        /^default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; .*frame-ancestors 'none'; form-action 'self'/,
      )
      t.notMatch(
        page.body,
        /<script(?! src="\/pages\/[\w-]+\.js" defer><\/script>)|\son\w+=|\sstyle=|(src|href|action)="(https?:)?\/\//,
      )
      const sheet = /rel="stylesheet" href="([^"]+)"/.exec(page.body)?.[1] as string
      t.ok(Buffer.byteLength(page.body) + (await browser.request('GET', sheet)).rawPayload.length <= mostBytes)
    }
    t.same(
      pages.map(({ statusCode }) => statusCode),
      [200, 200, 200, 400, 400, 400, 200],
    )
    t.match(
      policyOf(pages[1] as Opened),
      "form-action 'self' https://app.example https:",
      'where the app is, and may lead',
    )
    t.match(policyOf(pages[0] as Opened), /form-action 'self'$/)
  },
)

onPages('a page costs less than 5 ms of CPU', async (t, { app }) => {
  const urls = ['/sign-in', '/sign-up', (await openBrowser(app).open(authorizeUrl())).url]
  const rounds = 50
  for (const url of urls) await app.inject({ url })
  const before = process.cpuUsage()
  for (let round = 0; round < rounds; round++) for (const url of urls) await app.inject({ url })
  const { user, system } = process.cpuUsage(before)
  const ms = (user + system) / 1000 / rounds / urls.length
  t.ok(ms < 5, `${ms.toFixed(2)} ms each`)
})

onPages('a form leads to the account, or to what it was for', async (t, { app, newUser }) => {
  const name = await newUser()
  t.match((await openBrowser(app).request('GET', '/')).headers, { location: '/account' })
  const browser = openBrowser(app)
  const page = await browser.request('GET', '/sign-in')
  t.match(page.body, /autocomplete="username webauthn"[\s\S]*autocomplete="current-password"/)
  const [form] = formsOf(page)
  const signedIn = await browser.request('POST', '/sign-in', { ...form?.fields, username: name, password })
  t.match([signedIn.statusCode, signedIn.headers.location], [303, '/account'])
  const choice = await browser.open('/sign-in')
  t.match(choice, { body: new RegExp(`>${name}<`) }, 'whoever is signed in goes on')
  t.match(await browser.submit(choice, { continue: '1' }), { url: '/account' })
  const other = openBrowser(app)
  const asked = await other.open(authorizeUrl({ login_hint: '"><script>', state: 'a b' }))
  t.match(asked.body, 'Reading &amp; &lt;Writing&gt;', 'it says for which app')
  t.match(asked.body, 'value="&quot;&gt;&lt;script&gt;"')
  t.match(answerOf(await other.signIn(name, undefined, asked)), { to: redirectUri, state: 'a b', code: /./ })
})

onPages('what is wrong is said in the form, the same for whoever there is and is not', async (t, { app, newUser }) => {
  const name = await newUser()
  const browser = openBrowser(app)
  const [wrong, unknown] = [await browser.signIn(name, 'wrong'), await browser.signIn('nobody', 'wrong')]
  for (const answer of [wrong, unknown]) {
    t.equal(answer.statusCode, 400)
    t.match(answer.body, /<title>Error: [\s\S]*role="alert"[\s\S]*The username or the password is wrong/)
    t.notMatch(answer.body, 'value="wrong"')
  }
  t.match(wrong.body, `value="${name}"`)
  t.equal(wrong.body.replaceAll(name, 'nobody'), unknown.body)
  t.match(await browser.signIn('', ''), { statusCode: 400, body: /This field is empty[\s\S]*This field is empty/ })
  await app.userAdmin.disable(app, (await app.store.findUserByName(name))?.id as string)
  t.match(await browser.signIn(name), { statusCode: 400, body: /The username or the password is wrong/ })
})

onPages(
  'the second factor comes behind the password: a code, a recovery code, a passkey',
  async (t, { app, clock, newUser }) => {
    const name = await newUser()
    const { device } = await givePasskey(app, name)
    const { secret } = await giveTotp(app, name)
    const [recovery = ''] = await giveRecoveryCodes(app, name)
    const begin = async () => {
      const browser = openBrowser(app)
      return { browser, page: await browser.signIn(name, undefined, await browser.open(authorizeUrl())) }
    }
    const { browser, page } = await begin()
    t.match([page.statusCode, titleOf(page)], [200, 'One more step'])
    t.match(page.body, /name="otp"[^>]*autocomplete="one-time-code"/)
    t.notOk(browser.jar.get('latchkey'), 'nobody is signed in before')
    const again = await browser.submit(page, { otp: wrongCode(secret, clock.now) })
    t.match([again.statusCode, titleOf(again)], [400, 'One more step'])
    t.match(again.body, /href="#otp"[\s\S]*aria-invalid="true"/)
    t.match(
      await browser.submit(page, { otp: codeOf(secret, clock.now) }),
      { statusCode: 400, body: /Begin again/ },
      'each step is good once',
    )
    t.ok(answerOf(await browser.submit(again, { otp: codeOf(secret, clock.now) }))['code'])

    const second = await begin()
    t.match(await second.browser.submit(second.page, { recovery_code: 'none' }), {
      statusCode: 400,
      body: /<details open>/,
    })
    const third = await begin()
    t.ok(answerOf(await third.browser.submit(third.page, { recovery_code: recovery }))['code'])

    const fourth = await begin()
    const options = JSON.parse(
      (/data-passkey="get" data-options="([^"]*)"/.exec(fourth.page.body)?.[1] ?? '').replaceAll('&quot;', '"'),
    )
    const webauthn = JSON.stringify(device.get(options))
    t.ok(answerOf(await fourth.browser.submit(fourth.page, { webauthn }))['code'])
  },
)

onPages('a passkey signs in by itself; a page that nobody uses has asked for none', async (t, { app, newUser }) => {
  const name = await newUser()
  const { device } = await givePasskey(app, name)
  const browser = openBrowser(app)
  const page = await browser.open(authorizeUrl())
  t.match(policyOf(page), /connect-src 'self'/)
  const form = formsOf(page).find(({ names }) => names.includes('webauthn'))
  const asked = await browser.request('POST', '/sign-in/passkey', form?.fields)
  const { auth_session, webauthn } = asked.json()
  const answer = await browser.submit(page, { auth_session, webauthn: JSON.stringify(device.get(webauthn)) })
  t.ok(answerOf(answer)['code'])
  const forged = await browser.request('POST', '/sign-in/passkey', { ...form?.fields, csrf: 'x' })
  t.equal(forged.statusCode, 403)
})

onPages('an account is made, and its user signed in', async (t, { app, outbox, newUser }) => {
  const browser = openBrowser(app)
  const page = await browser.open('/sign-in')
  const [, link = ''] = /href="(\/sign-up[^"]*)"/.exec((await browser.open(authorizeUrl())).body) ?? []
  t.match(page.body, 'href="/sign-up"')
  const signUpPage = await browser.open(link)
  const wrong = await browser.submit(signUpPage, { username: 'a b', password, email: 'x' })
  t.match([wrong.statusCode, /value="x"/.test(wrong.body)], [400, true])
  const taken = await browser.submit(signUpPage, { username: await newUser(), password, email: '' })
  t.match([taken.statusCode, taken.body], [409, /This username is taken/])
  const done = await browser.submit(signUpPage, { username: 'grace', password, email: 'grace@example.com' })
  t.ok(answerOf(done)['code'], 'back to the app')
  t.equal(outbox.last('grace@example.com').kind, 'verify')
  const [made] = await Promise.all([app.store.findUserByName('grace')])
  t.match(made, { email: 'grace@example.com', emailKey: undefined })
})

onPages('the code of a mail confirms the address', async (t, { app, outbox, newUser }) => {
  const user = await app.store.findUserByName(await newUser())
  const email = 'by-code@example.com'
  const answer = await app.inject({ method: 'POST', url: '/signup', payload: { username: 'by-code', password, email } })
  const browser = openBrowser(app)
  const page = await browser.open(`/verify-email?id=${answer.json().email_verification_id}`)
  t.match(await browser.submit(page, { code: '12345678' }), { statusCode: 400, body: /The code is wrong/ })
  t.match(await browser.submit(page, { code: outbox.last(email).code as string }), {
    statusCode: 200,
    body: /Your address is confirmed/,
  })
  t.match(await app.store.findUserByName('by-code'), { emailKey: email })
  t.ok(user)
})

onPages('a form is good in the browser alone that got it, and says why it is not', async (t, { app, newUser }) => {
  const name = await newUser()
  const [ours, theirs] = [openBrowser(app), openBrowser(app)]
  const page = await theirs.open(authorizeUrl())
  const [form] = formsOf(page)
  const fields = { ...form?.fields, username: name, password }
  await ours.open('/sign-in')
  for (const [who, sent] of [
    ['of an attacker, in the browser of a victim: login CSRF', await ours.request('POST', '/sign-in', fields)],
    ['without cookies', await openBrowser(app).request('POST', '/sign-in', fields)],
    ['without the hidden value', await theirs.request('POST', '/sign-in', { username: name, password })],
    ['with that of another form', await theirs.request('POST', '/sign-up', fields)],
    [
      'from another site',
      await openBrowser(app, { origin: 'https://evil.example' }).request('POST', '/sign-in', fields),
    ],
  ] as const) {
    t.match(
      [sent.statusCode, titleOf(sent), sent.headers['set-cookie']],
      [403, 'This form could not be accepted', undefined],
      who,
    )
    t.match(sent.body, 'cookies')
  }
  const request = form?.fields['request'] as string
  t.match(
    await ours.open(`/sign-in?request=${request}`),
    { statusCode: 400, body: /This sign-in is over/ },
    'nor the request',
  )
  t.ok(answerOf(await theirs.request('POST', '/sign-in', fields))['code'])
})

onPages('two tabs, two clicks and the way back lead on', async (t, { app, newUser }) => {
  const name = await newUser()
  const browser = openBrowser(app)
  const [one, two] = [
    await browser.open(authorizeUrl({ state: '1' })),
    await browser.open(authorizeUrl({ state: '2' })),
  ]
  const [form] = formsOf(one)
  const clicks = await Promise.all(
    [1, 2].map(() => browser.request('POST', '/sign-in', { ...form?.fields, username: name, password })),
  )
  for (const click of clicks) t.match(answerOf(click), { state: '1', code: /./ })
  t.match(answerOf(await browser.signIn(name, undefined, two)), { state: '2', code: /./ }, 'the other tab was older')
  const back = await browser.open(one.url)
  t.equal(titleOf(back), 'You are signed in')
  t.match(answerOf(await browser.submit(back, { continue: '1' })), { state: '1', code: /./ })
})

onPages('whoever is signed in may choose to be somebody else', async (t, { app, clock, newUser }) => {
  const [name, other] = [await newUser(), await newUser()]
  const browser = openBrowser(app)
  await browser.signIn(name)
  clock.now += 1_000
  const page = await browser.open(authorizeUrl({ prompt: 'select_account' }))
  t.match([titleOf(page), page.body], ['You are signed in', new RegExp(`>${name}<`)])
  t.ok(answerOf(await browser.submit(page, { continue: '1' }))['code'])
  const [, another = ''] = /href="([^"]*as=another[^"]*)"/.exec(page.body) ?? []
  const form = await browser.open(another.replaceAll('&amp;', '&'))
  t.equal(titleOf(form), 'Sign in')
  t.ok(answerOf(await browser.signIn(other, undefined, form))['code'])
  t.match(await browser.open('/sign-in'), { body: new RegExp(`>${other}<`) })
  clock.now += 1_000
  const anew = await browser.open(authorizeUrl({ prompt: 'login' }))
  t.match([titleOf(anew), anew.body], ['Sign in', new RegExp(`value="${other}"`)], 'there is nothing to go on with')
})

onPages('an app gets what its user allows, which is said in words', async (t, { app, newUser }) => {
  const [name, other] = [await newUser(), await newUser()]
  const browser = openBrowser(app)
  await browser.signIn(name)
  const url = authorizeUrl({ client_id: 'asking', scope: 'openid email offline_access files:read' })
  const page = await browser.open(url)
  t.match(page.url, /^\/consent/)
  for (const words of [
    'Reading &amp; &lt;Writing&gt;',
    'app.example',
    'See your e-mail address',
    'Stay signed in',
    'files:read',
    name,
  ])
    t.match(page.body, words)
  const [form] = formsOf(page)
  t.same(
    form?.buttons.map(({ value }) => value),
    ['deny', 'allow'],
  )
  const classes = [...page.body.matchAll(/<button type="submit" class="(\w+)"/g)].map(([, kind]) => kind)
  t.same(classes, ['plain', 'plain'], 'neither has more weight')
  t.match(await browser.submit(page, { decision: 'perhaps' }), { statusCode: 200, url: '/consent' })
  const forOther = openBrowser(app)
  await forOther.signIn(other)
  t.equal((await forOther.request('POST', '/consent', { ...form?.fields, decision: 'allow' })).statusCode, 403)
  await browser.signIn(other, undefined, await browser.open('/sign-in?as=another'))
  const late = await browser.request('POST', '/consent', { ...form?.fields, decision: 'allow' })
  t.equal(late.statusCode, 403, 'what one user was asked, another has not answered')
  t.match(answerOf(await browser.submit(await browser.open(url), { decision: 'allow' })), { code: /./ })
})

onPages('the language of the app stays with the pages', async (t, { app, newUser }) => {
  const name = await newUser()
  const browser = openBrowser(app)
  const page = await browser.open(authorizeUrl({ ui_locales: 'ko-KR en', client_id: 'asking' }))
  t.match([titleOf(page), page.body], ['로그인', '<html lang="ko">'])
  t.equal(titleOf(await browser.signIn(name, undefined, page)), '이 앱을 허용할까요?')
})

onOneStore(
  'waits are told with their time, and where signup is closed nobody can make an account',
  async (t, build) => {
    const { app } = await build({ AUTH_SIGNUP: 'closed', AUTH_HASH_CONCURRENCY: '1', AUTH_HASH_MAX_WAIT: '1s' })
    await signInTooOften(t, app)
    await signInWhileBusy(t, app)
    const browser = openBrowser(app)
    t.notMatch((await browser.open('/sign-in')).body, '/sign-up')
    const page = await browser.open('/sign-up')
    t.match([page.statusCode, titleOf(page)], [403, 'No new accounts here'])
    const [form] = formsOf(await browser.open('/sign-in'))
    const forged = await browser.request('POST', '/sign-up', { ...form?.fields, username: 'eve', password })
    t.equal(forged.statusCode, 403)
    t.notOk(await app.store.findUserByName('eve'))
  },
)

async function signInTooOften(t: Test, app: FastifyInstance): Promise<void> {
  const browser = openBrowser(app)
  let answer = await browser.signIn('ada', 'wrong')
  for (let tries = 0; tries < 12; tries++) answer = await browser.signIn('ada', 'wrong')
  t.equal(answer.statusCode, 429)
  t.match(answer.headers['retry-after'], /^\d+$/)
  t.match(answer.body, /<form[\s\S]*name="password"/, 'the form is there to try again')
  t.match(answer.body, 'Too many attempts. Try again in a minute.')
}

async function signInWhileBusy(t: Test, app: FastifyInstance): Promise<void> {
  let release = (_: never) => {}
  const held = new Promise<never>((done) => (release = done))
  const holding = app.hashing.verify(callerFrom('198.51.100.9', app.log), undefined, password, () => held)
  const answer = await openBrowser(app).signIn('grace')
  release(false as never)
  await holding
  t.match([answer.statusCode, answer.headers['retry-after']], [503, /^\d+$/])
  t.match(answer.body, /The service is busy[\s\S]*value="grace"/)
}

onOneStore('whoever has to have a second factor gets one on the way', async (t, build) => {
  const { app, clock } = await build({ AUTH_MFA: 'required' })
  await makeApp(app)
  const browser = openBrowser(app)
  const asked = await browser.open(authorizeUrl({ prompt: 'create' }))
  t.match(asked.url, /^\/sign-up/)
  const choice = await browser.submit(asked, { username: 'ada', password })
  t.equal(titleOf(choice), 'Add a second step')
  const shown = await browser.submit(choice, { enroll: 'totp' })
  t.match(shown.body, /<img class="qr" alt="[^"]+" src="data:image\/svg\+xml;base64,/)
  const secret = (/<code>([A-Z2-7 ]+)<\/code>/.exec(shown.body)?.[1] ?? '').replaceAll(' ', '')
  t.match(shown.body, `secret=${secret}`)
  const again = await browser.submit(shown, { otp: wrongCode(secret, clock.now) })
  t.match([again.statusCode, again.body], [400, new RegExp(secret)], 'the same key')
  t.ok(answerOf(await browser.submit(again, { otp: codeOf(secret, clock.now) }))['code'])

  await signUp(app, 'grace')
  const device = createAuthenticator()
  const other = openBrowser(app)
  const offered = await other.submit(await other.signIn('grace', undefined, await other.open(authorizeUrl())), {
    enroll: 'webauthn',
  })
  const options = JSON.parse(
    (/data-passkey="create" data-options="([^"]*)"/.exec(offered.body)?.[1] ?? '').replaceAll('&quot;', '"'),
  )
  t.ok(answerOf(await other.submit(offered, { webauthn: JSON.stringify(device.create(options)) }))['code'])
})
