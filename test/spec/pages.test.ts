import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import { ConfigError } from '../../config.ts'
import { callerFrom } from '../support/client-helper.ts'
import {
  type Build,
  giveEmail,
  isAccepted,
  json,
  logIn,
  onOneApp,
  onOneStore,
  password,
  postForm,
  type Scope,
  signUp,
  storeOf,
} from '../support/helper.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'

/* The pages as a browser without script has them; `test/process/pages.test.ts` looks at them in one. */

const next = 'seven grey herons on a quay'
const mostBytes = 30_000

async function start(t: Scope, build: Build, settings: Record<string, string> = {}) {
  const { app, clock, logs } = await build({ ...(await mailsInto(t)), ...settings })
  const outbox = outboxOf(app)
  let users = 0
  return {
    ...{ app, clock, logs, outbox },
    /** a user of a verified address, and links for them */
    async newUser() {
      const [name, to] = [`ada${++users}`, `ada${users}@example.com`]
      const { id: owner } = json(await signUp(app, name))
      await giveEmail(storeOf(app), owner, to)
      const link = async (kind: 'verify' | 'reset' | 'undo' | 'invitation') =>
        (await app.mail.issue(kind, { owner, source: 'test', to, locale: 'en' })).link.slice(
          'http://localhost:3000'.length,
        )
      return { name, to, owner, link }
    },
    get: (url: string, headers = {}) => app.inject({ url, headers }),
    post: (url: string, fields: Record<string, string>, headers = {}) => postForm(app, url, fields, { headers }),
  }
}

const caller = ({ log }: FastifyInstance) => callerFrom('192.0.2.1', log)
const titleOf = ({ body }: LightMyRequestResponse) => /<h1>(.*?)<\/h1>/.exec(body)?.[1]
/** What the form of a page sends along. */
const hiddenOf = ({ body }: LightMyRequestResponse) =>
  Object.fromEntries(
    [...body.matchAll(/type="hidden" name="(\w+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value]),
  )
const withoutIds = ({ body }: LightMyRequestResponse) => body.replace(/name="id" value="[^"]*"/, '')

const onPages = onOneApp((t, build) => start(t, build, { AUTH_THROTTLE: 'off' }))

onPages(
  'every page has the headers that keep its URL to itself, and weighs little, contract section 12',
  async (t, { get, newUser }) => {
    const { link } = await newUser()
    const urls = [
      '/forgot',
      '/reset?token=x',
      '/reset?token=%zz',
      '/undo-email',
      await link('reset'),
      await link('verify'),
      await link('invitation'),
    ]
    for (const url of urls.flatMap((url) => [url, `${url}${url.includes('?') ? '&' : '?'}ui_locales=ko`])) {
      const page = await get(url)
      t.match(page.headers, {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy':
          "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
        'referrer-policy': 'no-referrer',
        'cache-control': 'no-store',
        'cross-origin-opener-policy': 'same-origin',
        'x-content-type-options': 'nosniff',
      })
      t.notOk(page.headers['set-cookie'])
      t.notMatch(page.body, /<script|\son\w+=|\sstyle=|(src|href|action)="(https?:)?\/\//, url)
      const sheet = /rel="stylesheet" href="([^"]+)"/.exec(page.body)?.[1] as string
      const style = await get(sheet)
      t.match(style.headers, { 'content-type': 'text/css; charset=utf-8', 'cache-control': /immutable/ })
      t.ok(Buffer.byteLength(page.body) + style.rawPayload.length <= mostBytes)
    }
    t.match(
      (await get('/pages/of-another-release.css')).headers,
      { 'cache-control': 'no-store' },
      'while replicas are replaced',
    )
    t.equal((await get('/pages/x')).statusCode, 404)
  },
)

onPages('a scanner that follows a link by HEAD and GET spends nothing', async (t, { app, get, newUser }) => {
  const { link } = await newUser()
  for (const kind of ['verify', 'reset', 'undo', 'invitation'] as const) {
    const url = await link(kind)
    const pages = [await get(url)]
    for (let i = 0; i < 10; i++) t.equal((await app.inject({ method: 'HEAD', url })).statusCode, 200)
    pages.push(await get(url))
    t.same(
      pages.map(({ statusCode }) => statusCode),
      [200, 200],
      kind,
    )
    t.equal(pages[0]?.body, pages[1]?.body)
  }
})

onPages(
  'a password is replaced by the link, and everybody is signed out',
  async (t, { app, get, post, outbox, newUser }) => {
    const { name, to } = await newUser()
    const { access_token: old } = await logIn(app, name)
    const sent = await post('/forgot', { name, request: 'what-it-is-for' })
    t.equal(sent.statusCode, 200)
    t.match(hiddenOf(sent), { request: 'what-it-is-for' }, 'which goes along')
    const page = await get(`/reset?token=${outbox.last(to).token}`)
    t.ok(page.body.includes(`>${name}<`), 'it says whose')
    const hidden = hiddenOf(page)
    for (const [wrong, words] of [
      ['', 'This field is empty'],
      ['short', 'The password needs at least 15 characters'],
      ['password password', 'Attackers try this password, or its parts, first'],
      ['abcabcabcabcabcabc', 'The password must not be one piece over and over'],
      ['x'.repeat(257), 'The password may have at most 256 characters'],
    ] as const) {
      const again = await post('/reset', { ...hidden, new_password: wrong })
      t.equal(again.statusCode, 400)
      t.match(again.body, words)
      t.match(
        again.body,
        /<title>Error: .*role="alert".*href="#new_password".*aria-describedby="new_password-hint new_password-wrong" aria-invalid="true"/s,
      )
      t.notOk(again.body.includes(`value="${wrong}"`) && wrong !== '', 'a password does not come back')
      t.same(hiddenOf(again), hidden)
    }
    const done = await post('/reset', { ...hidden, new_password: next })
    t.same([done.statusCode, titleOf(done)], [200, 'Your password is changed'])
    t.match(done.body, 'href="/sign-in"')
    t.notOk(await isAccepted(app, old))
    await logIn(app, name, next)
    const dead = await post('/reset', { ...hidden, new_password: password })
    t.same([dead.statusCode, titleOf(dead)], [400, 'This link no longer works'])
  },
)

onPages(
  'the code of the mail does it too, in the page that says that it was sent',
  async (t, { app, post, outbox, newUser }) => {
    const { name, to } = await newUser()
    const hidden = hiddenOf(await post('/forgot', { name: to.toUpperCase() }))
    const code = outbox.last(to).code as string
    const wrong = await post('/reset', { ...hidden, code: '12', new_password: next })
    t.equal(wrong.statusCode, 400)
    t.match(wrong.body, 'The code is wrong, or no longer good')
    const weak = await post('/reset', { ...hidden, code, new_password: 'short' })
    t.ok(weak.body.includes(`value="${code}"`), 'a right code need not be typed again')
    t.equal(
      (await post('/reset', { ...hidden, code: `${code.slice(0, 4)} ${code.slice(4)}`, new_password: next }))
        .statusCode,
      200,
    )
    await logIn(app, name, next)
  },
)

onPages('/forgot answers the same for whoever asks after whomever', async (t, { post, outbox, newUser }) => {
  const { name, to } = await newUser()
  const before = outbox.mails.length
  const [good, ...others] = await Promise.all(
    [name, to, 'nobody', 'nobody@example.com', 'no name at all', '"><script>'].map((name) => post('/forgot', { name })),
  )
  for (const other of others) {
    t.equal(other.statusCode, 200)
    t.equal(withoutIds(other), withoutIds(good as LightMyRequestResponse))
  }
  t.equal(outbox.mails.length, before + 2)
})

onPages('addresses are verified, and brought back, by one click each', async (t, { app, get, post, newUser }) => {
  const { owner, to, link } = await newUser()
  await giveEmail(storeOf(app), owner, to, false)
  for (const [kind, path, done] of [
    ['verify', '/verify-email', 'Your address is confirmed'],
    ['undo', '/undo-email', 'Your old address is back'],
  ] as const) {
    const url = await link(kind)
    const page = await get(url)
    t.ok(page.body.replace('<wbr>', '').includes(`>${to}<`), 'it says which')
    const answer = await post(path, hiddenOf(page))
    t.same([answer.statusCode, titleOf(answer)], [200, done])
    t.match(await storeOf(app).findUser(owner), { emailKey: to })
    t.same(
      [await post(path, hiddenOf(page)), await get(url)].map(({ statusCode }) => statusCode),
      [400, 400],
    )
  }
})

onPages(
  'whoever is invited makes an account, with the name that the invitation says where it says one',
  async (t, { app, get, post }) => {
    const invite = async (of: object) => (await app.invitations.invite(caller(app), of, 'en')).token
    const page = await get(`/sign-up?invitation=${await invite({ email: 'grace@example.com' })}`)
    t.ok(page.body.replace('<wbr>', '').includes('>grace@example.com<'))
    t.match(page.body, /<input id="username"[^>]* value="grace@example.com"/, 'the address is proposed as the name')
    t.match(
      (await post('/sign-up', { ...hiddenOf(page), username: 'a b', password: next })).body,
      /A username has letters, digits/,
    )
    const done = await post('/sign-up', { ...hiddenOf(page), username: 'grace', password: next })
    t.same([done.statusCode, titleOf(done)], [200, 'Your account is ready'])
    const taken = await post('/sign-up', { invitation: await invite({}), username: 'Grace', password: next })
    t.same([taken.statusCode, taken.body.includes('This username is taken')], [409, true])
    const named = await get(`/sign-up?invitation=${await invite({ username: 'hopper' })}`)
    t.notMatch(named.body, /<input id="username"/)
    t.equal((await post('/sign-up', { ...hiddenOf(named), password: next })).statusCode, 200)
    await logIn(app, 'hopper', next)
    t.equal((await post('/sign-up', { invitation: '', password: 'x', username: 'y' })).statusCode, 400)
  },
)

onPages(
  'a dead link looks the same whatever it died of, and to whoever guesses',
  async (t, { clock, get, post, newUser }) => {
    const { link } = await newUser()
    for (const [kind, fields] of [
      ['reset', { new_password: next }],
      ['verify', {}],
      ['undo', {}],
      ['invitation', { username: 'newcomer', password: next }],
    ] as const) {
      const urls = { replaced: await link(kind), expired: await link(kind), forged: (await link(kind)).slice(0, -1) }
      const [path = '', parameter = ''] = urls.expired.split(/[?=]/)
      clock.now += 8 * 86_400_000
      const answers: LightMyRequestResponse[] = []
      for (const url of [
        ...Object.values(urls),
        `${path}?${parameter}=`,
        // Without an invitation, there is the page for whoever comes.
        ...(kind === 'invitation' ? [] : [path]),
        `${path}?${parameter}=a&${parameter}=b`,
      ])
        answers.push(await get(url))
      for (const url of Object.values(urls))
        answers.push(await post(path, { [parameter]: url.split('=')[1] as string, ...fields }))
      t.same([...new Set(answers.map(({ statusCode }) => statusCode))], [400])
      t.equal(new Set(answers.map(({ body }) => body)).size, 1, kind)
    }
  },
)

onPages('a form of another site is refused, and does nothing', async (t, { post, outbox, newUser }) => {
  const { name } = await newUser()
  const before = outbox.mails.length
  for (const headers of [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: 'https://evil.example' },
    { origin: 'http://localhost:3001' },
    { origin: 'http://localhost:3000', 'sec-fetch-site': 'cross-site' },
    { origin: 'null', 'sec-fetch-site': 'cross-site' },
  ]) {
    const answer = await post('/forgot', { name }, headers)
    t.same([answer.statusCode, titleOf(answer)], [403, 'This form could not be accepted'], JSON.stringify(headers))
  }
  t.equal(outbox.mails.length, before)
  for (const headers of [
    {},
    { origin: 'null', 'sec-fetch-site': 'same-origin' },
    { origin: 'http://localhost:3000', 'sec-fetch-site': 'same-origin' },
    { origin: 'null' },
  ])
    t.equal((await post('/forgot', { name }, headers)).statusCode, 200, JSON.stringify(headers))
  const other = await post('/forgot', { name }, { host: 'evil.example', 'x-forwarded-host': 'evil.example' })
  t.notMatch(other.body, /evil/)
  t.notMatch(JSON.stringify(outbox.mails), /evil/)
})

onPages('what cannot be read is a page, too, and what was typed is never markup', async (t, { app, get, post }) => {
  const markup = '"><script>alert(1)</script>'
  const back = await post('/sign-up', {
    invitation: (await app.invitations.invite(caller(app), {}, 'en')).token,
    username: markup,
    password: '',
  })
  t.notMatch(back.body, /<script/)
  t.match(back.body, 'value="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"')
  t.notMatch((await get(`/reset?token=${encodeURIComponent(markup)}`)).body, /<script/)
  for (const [payload, type, status] of [
    ['name=%zz', 'application/x-www-form-urlencoded', 400],
    ['name=a&name=b', 'application/x-www-form-urlencoded', 400],
    ['{}', 'application/json', 415],
    [`name=${'x'.repeat(20_000)}`, 'application/x-www-form-urlencoded', 413],
  ] as const) {
    const answer = await app.inject({ method: 'POST', url: '/forgot', payload, headers: { 'content-type': type } })
    t.same([answer.statusCode, answer.headers['content-type']], [status, 'text/html; charset=utf-8'])
    t.match(answer.headers['content-security-policy'], "default-src 'none'")
  }
})

onPages(
  'the language is that of ui_locales, which the links of the page keep, or else that of the browser',
  async (t, { get, post }) => {
    const langOf = (page: LightMyRequestResponse) => /<html lang="(\w+)"/.exec(page.body)?.[1]
    t.equal(langOf(await get('/forgot')), 'en')
    const korean = { 'accept-language': 'ko-KR,ko;q=0.9,en;q=0.8' }
    const page = await get('/forgot', korean)
    t.same([langOf(page), page.body.includes('ui_locales')], ['ko', false])
    const named = await get('/forgot?ui_locales=fr%20ko')
    t.match(named.body, 'action="/forgot?ui_locales=ko"')
    t.equal(langOf(await post('/forgot?ui_locales=ko', { name: 'ada' })), 'ko')
    t.equal(langOf(await get('/forgot?ui_locales=en', korean)), 'en')
  },
)

onOneStore('whoever asks too often is told when to come back, in the page', async (t, build) => {
  const { post } = await start(t, build)
  const answers = []
  for (let i = 0; i < 21; i++) answers.push(await post('/forgot', { name: `nobody${i}` }))
  const last = answers.at(-1) as LightMyRequestResponse
  t.equal(last.statusCode, 429)
  t.ok(Number(last.headers['retry-after']) > 0)
  t.match(last.body, /Too many attempts. Try again in \d+ minutes/)
  t.match(last.body, 'value="nobody20"', 'nothing has to be typed again')
})

onOneStore('without mails there is the page of invitations alone; AUTH_PAGES=off serves none', async (t, build) => {
  const statuses = async (settings: Record<string, string>) => {
    const { app } = await build(settings)
    const { token } = await app.invitations.invite(caller(app), {}, 'en')
    const urls = ['/forgot', '/reset', '/verify-email', '/undo-email', `/sign-up?invitation=${token}`]
    return Promise.all(urls.map(async (url) => (await app.inject({ url })).statusCode))
  }
  t.same(await statuses({}), [404, 404, 404, 404, 200])
  t.same(await statuses({ ...(await mailsInto(t)), AUTH_PAGES: 'off' }), [404, 404, 404, 404, 404])
})

onOneStore('with an issuer that has a path, all that a page links to is below it', async (t, build) => {
  const { get } = await start(t, build, { AUTH_ISSUER: 'https://example.com/auth' })
  const { body } = await get('/forgot')
  t.match(body, 'action="/auth/forgot"')
  t.match(body, 'href="/auth/pages/')
  t.match(body, '<span>Latchkey</span>', 'which is called what its mails call it')
  t.match((await get('/reset')).body, 'href="/auth/forgot"')
})

onOneStore(
  'AUTH_THEME_DIR gives the pages colours and a picture, under names that change with them',
  async (t, build) => {
    const dir = t.testdir({
      'theme.css': ':root { --accent: #7a1f5c }',
      'logo.svg': '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    })
    const { get } = await start(t, build, { AUTH_THEME_DIR: dir })
    const { body } = await get('/forgot')
    const [, theme = ''] = [...body.matchAll(/rel="stylesheet" href="([^"]+)"/g)].map(([, href]) => href as string)
    t.match((await get(theme)).body, '#7a1f5c', 'behind our own')
    const logo = await get(/<img src="([^"]+)" alt="">/.exec(body)?.[1] as string)
    t.match(logo.headers, {
      'content-type': 'image/svg+xml; charset=utf-8',
      'cache-control': /immutable/,
      'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    })
    for (const [what, files, words] of [
      ['neither', {}, /^AUTH_THEME_DIR: expected theme.css or logo.svg in /],
      ['a directory', { 'theme.css': {} }, /^AUTH_THEME_DIR: expected a theme.css that can be read, got EISDIR, in /],
      ['another picture', { 'logo.svg': 'GIF89a' }, /^AUTH_THEME_DIR: expected an SVG picture as logo.svg in /],
      [
        'too much',
        { 'theme.css': 'x'.repeat(100_001) },
        /^AUTH_THEME_DIR: expected a theme.css of at most 100000 bytes in /,
      ],
    ] as const)
      await t.test(what, async (t) => {
        await t.rejects(build({ AUTH_THEME_DIR: t.testdir(files) }), { constructor: ConfigError, message: words })
      })
  },
)
