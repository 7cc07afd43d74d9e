import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import t from 'tap'
import { deviceOf, placeOf } from '../../domain/places.ts'
import type { User } from '../../domain/user.ts'
import type { EventName } from '../../events.ts'
import type { MailKind } from '../../plugins/mail/kinds.ts'
import { factsOf } from '../../plugins/mail/mail.ts'
import { mailKinds } from '../../plugins/mail/outbox.ts'
import { auditRowOf } from '../../plugins/run/audit-rows.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { administered } from '../support/admin.ts'
import { until } from '../support/basics.ts'
import {
  type Build,
  json,
  logIn,
  newDir,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  withToken,
} from '../support/helper.ts'
import { partOf, startMailServer } from '../support/mail-server.ts'

/* What users are told by mail without having asked for it: contract section 10. */

interface Told {
  kind: MailKind
  to: string
  locale: string
  about: Record<string, string>
}

const mailTo = async (t: Test) => ({ AUTH_MAIL_FROM: 'Example <no-reply@example.com>', AUTH_MAIL_DIR: await newDir(t) })

/** Has an app note what it tells whom. */
function noteIn(told: Told[], app: FastifyInstance): FastifyInstance {
  const { tell } = app.mail
  app.mail.tell = async (kind, of) => {
    await tell(kind, of)
    told.push({ kind, to: of.to, locale: of.locale, about: of.about ?? {} })
  }
  return app
}

/** Gives a user an address, as if it had been verified. */
async function giveAddress(app: FastifyInstance, userId: string, profile: Partial<User> = {}): Promise<void> {
  const expected = (await app.store.findUser(userId)) as User
  const address = { email: 'Ada@Example.com', emailKey: 'ada@example.com' }
  await storeOf(app).changeUser({ userId, expected, next: { ...expected, ...address, ...profile } })
}

/** Lets all calls of the store fail but the next few. @returns what ends it */
function failAfter(app: FastifyInstance, good: number): () => void {
  const methods = Object.entries(app.store).filter(([name, method]) => typeof method === 'function' && name !== 'close')
  let left = good
  for (const [name, method] of methods) {
    const failing = (...args: unknown[]) =>
      left-- > 0
        ? (method as (...args: unknown[]) => unknown)(...args)
        : Promise.reject(new StoreUnavailable(new Error('down')))
    Object.assign(app.store, { [name]: failing })
  }
  return () => void Object.assign(app.store, Object.fromEntries(methods))
}

/** The service, with mail, and a user who has an address, but for what a profile says. */
async function withUser(t: Test, build: Build, profile?: Partial<User>, settings?: Record<string, string>) {
  const test = await build(settings ?? (await mailTo(t)))
  const told: Told[] = []
  noteIn(told, test.app)
  const { id } = json(await signUp(test.app))
  await giveAddress(test.app, id, profile)
  return { ...test, told, id: id as string }
}

const firefox = 'Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0'
const newerFirefox = firefox.replaceAll('131.0', '140.2')
const phone =
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1'

async function logInFrom(app: FastifyInstance, remoteAddress: string, userAgent = firefox, secret = password) {
  const fields = { grant_type: 'password', username: 'ada', password: secret }
  const answer = await postForm(app, '/token', fields, { remoteAddress, headers: { 'user-agent': userAgent } })
  if (answer.statusCode !== 200) throw new Error(answer.body)
  return json(answer)
}

overStores('a sign-in from a new place is told, and none from the first or a known one', async (t, build) => {
  const { app, told, clock, id } = await withUser(t, build, { locale: 'ko' })
  const placesTold = async (...of: [address: string, agent?: string][]) => {
    told.length = 0
    for (const [address, agent] of of) await logInFrom(app, address, agent)
    await app.mailNotices.look()
    return told.map(({ about }) => about['address'])
  }
  t.same(await placesTold(['203.0.113.7']), [], 'the first')
  t.same(await placesTold(['203.0.113.7'], ['203.0.99.1', newerFirefox]), [], 'the same net and program')
  t.same(await placesTold(['198.51.100.1']), ['198.51.100.1'])
  t.match(told[0], { kind: 'sign_in', to: 'Ada@Example.com', locale: 'ko' })
  t.same(told[0]?.about, {
    ...{ username: 'ada', at: new Date(clock.now).toISOString() },
    ...{ device: 'Firefox, Linux', address: '198.51.100.1' },
  })
  t.same(await placesTold(['198.51.100.1'], ['203.0.113.200']), [], 'known by now')
  t.same(await placesTold(['203.0.113.7', phone], ['203.0.113.7', phone]), ['203.0.113.7'], 'another program, once')
  t.same(await placesTold(['2001:db8::1'], ['2001:db8:9::1'], ['2001:db9::1']), ['2001:db8::1', '2001:db9::1'])
  await postForm(app, '/token', { grant_type: 'password', username: 'ada', password: 'wrong' })
  t.same(await placesTold(), [], 'none of a failure')

  const often = Array.from({ length: 60 }, (): [string] => ['192.0.2.1'])
  t.same(
    await placesTold(...often, ['203.0.113.7', phone]),
    ['192.0.2.1'],
    'a place that was seen long before is known',
  )
  t.equal((await app.store.listAudit({ user: id }, { limit: 100 })).rows.length > 70, true)
})

overStores('a change of the password is told, whoever makes it, and a theft', async (t, build) => {
  const test = await administered(build, await mailTo(t))
  const { app, call } = test
  const told: Told[] = []
  noteIn(told, app)
  const { id } = json(await signUp(app))
  await giveAddress(app, id)
  const { access_token: token, refresh_token: first } = await logInFrom(app, '203.0.113.7')
  const payload = { current_password: password, new_password: 'another correct horse battery' }
  const from = { remoteAddress: '203.0.113.8', headers: { 'user-agent': phone } }
  const changed = await withToken(app, token, { method: 'POST', url: '/users/me/password', payload, ...from })
  t.equal(changed.statusCode, 204)
  t.equal((await call('PUT', `/admin/users/${id}/password`, { password: 'a third battery staple' })).statusCode, 204)
  await app.mailNotices.look()
  t.match(told, [
    { kind: 'password_changed', to: 'Ada@Example.com', about: { how: 'changed', address: '203.0.113.8' } },
    { kind: 'password_changed', to: 'Ada@Example.com', about: { username: 'ada', how: 'set' } },
  ])
  t.same(Object.keys(told[1]?.about ?? {}), ['username', 'at', 'how'], 'nothing of where an administrator is')
  t.notOk((await refresh(app, first)).json().access_token)

  told.length = 0
  const link = { owner: id, source: '203.0.113.0/24', to: 'ada@example.com', locale: 'en' as const }
  const { secret } = await app.mail.issue('reset', link)
  const reset = { token: secret, new_password: 'a fourth battery staple' }
  const answer = await app.inject({ method: 'POST', url: '/password/reset', payload: reset, ...from })
  t.equal(answer.statusCode, 204)
  await app.mailNotices.look()
  t.match(told, [
    { kind: 'password_changed', about: { how: 'reset', device: 'Safari, iPhone', address: '203.0.113.8' } },
  ])

  told.length = 0
  const { refresh_token: stolen } = await logInFrom(app, '203.0.113.7', firefox, 'a fourth battery staple')
  const { refresh_token: second } = json(await refresh(app, stolen))
  await refresh(app, second)
  test.clock.now += 60_000
  t.equal((await refresh(app, stolen)).json().error, 'invalid_grant')
  await app.mailNotices.look()
  t.match(told, [{ kind: 'refresh_reused', to: 'Ada@Example.com', about: { username: 'ada', address: '127.0.0.1' } }])
})

onOneStore('what has become of the second factors is told, each in its words', async (t, build) => {
  const { app, told, id, clock } = await withUser(t, build)
  const [sub, factor] = [id, 'a factor']
  const happened: [event: EventName, members: object, about: Record<string, string>][] = [
    ['factor.added', { kind: 'totp', factor }, { what: 'totp_added' }],
    ['factor.added', { kind: 'webauthn', factor }, { what: 'webauthn_added' }],
    ['recovery_codes.made', {}, { what: 'codes_made' }],
    ['recovery_code.used', { left: 9 }, { what: 'code_used', left: '9' }],
    ['factor.removed', { kind: 'totp', factor }, { what: 'totp_removed' }],
    ['factors.reset', {}, { what: 'reset' }],
  ]
  const caller = { log: app.log, address: '203.0.113.7', userAgent: phone }
  for (const [event, members] of happened)
    await storeOf(app).addAudit([auditRowOf(caller, event, { sub, ...members }, clock.now)])
  await app.mailNotices.look()
  const place = { username: 'ada', at: new Date(clock.now).toISOString(), device: 'Safari, iPhone' }
  t.same(
    told.map(({ kind, about }) => [kind, about]),
    happened.map(([, , about]) => ['factor_changed', { ...place, address: '203.0.113.7', ...about }]),
  )
})

overStores('each is told once, although three replicas look', async (t, build) => {
  const { app, told, beside } = await withUser(t, build)
  const apps = [app, noteIn(told, (await beside()).app), noteIn(told, (await beside()).app)]
  const addresses = Array.from({ length: 30 }, (_, i) => `203.${i}.113.7`)
  for (const [i, address] of addresses.entries()) {
    await logInFrom(apps[i % 3] as FastifyInstance, address)
    if (i % 4 === 0) await Promise.all(apps.map(({ mailNotices }) => mailNotices.look()))
  }
  await Promise.all(apps.map(({ mailNotices }) => mailNotices.look()))
  await app.mailNotices.look()
  t.same(
    told.map(({ about }) => about['address']),
    addresses.slice(1),
  )
})

onOneStore('what a process was at when it was killed, another goes on with', async (t, build) => {
  const { app, told, clock } = await withUser(t, build)
  await logInFrom(app, '203.0.113.7')
  await app.mailNotices.look()
  const key = { kind: 'mail', id: 'mail-notices', now: clock.now }
  const record = await storeOf(app).findRecord(key)
  const data = JSON.stringify({ ...JSON.parse(record?.data ?? ''), holder: 'killed' })
  await storeOf(app).replaceRecord(key, record?.version ?? 0, data)
  await logInFrom(app, '198.51.100.1')
  await app.mailNotices.look()
  t.same(told, [], 'it may be at it yet')
  clock.passedMs = 30_000
  await app.mailNotices.look()
  t.match(told, [{ kind: 'sign_in' }])
})

onOneStore('the store fails in the middle: nothing is left out, and nothing told twice', async (t, build) => {
  const { app, told } = await withUser(t, build)
  for (const address of ['203.0.113.7', '198.51.100.1', '192.0.2.1', '100.64.0.1']) await logInFrom(app, address)
  let isDone = false
  for (let good = 0; !isDone && good < 100; good++) {
    const restore = failAfter(app, good)
    isDone = await app.mailNotices.look().then(
      () => told.length > 0,
      () => false,
    )
    restore()
  }
  t.ok(isDone)
  t.same(
    told.map(({ about }) => about['address']),
    ['198.51.100.1', '192.0.2.1', '100.64.0.1'],
  )
})

onOneStore('one that cannot be told keeps back none that follow', async (t, build) => {
  const { app, told, logs } = await withUser(t, build)
  const { tell } = app.mail
  app.mail.tell = () => {
    app.mail.tell = tell
    return Promise.reject(new Error('a bug'))
  }
  for (const address of ['203.0.113.7', '198.51.100.1', '192.0.2.1']) await logInFrom(app, address)
  await app.mailNotices.look()
  t.match(told, [{ about: { address: '192.0.2.1' } }])
  t.match(
    logs.filter(({ level }) => level === 50),
    [{ err: { message: 'a bug' }, of: 'login.succeeded' }],
  )
})

onOneStore('who has no verified address is told nothing, and nobody without a transport', async (t, build) => {
  const unverified = await withUser(t, build, { emailKey: undefined as never })
  const none = await withUser(t, build, { email: undefined as never, emailKey: undefined as never })
  const off = await withUser(t, build, {}, {})
  for (const { app, told } of [unverified, none, off]) {
    await logInFrom(app, '203.0.113.7')
    await logInFrom(app, '198.51.100.1')
    if (app !== off.app) await app.mailNotices.look()
    t.same(told, [])
    t.same(await app.store.dueRecords(mailKinds, Date.now() + 86_400_000, 10), [])
  }
  t.equal(await storeOf(off.app).findRecord({ kind: 'mail', id: 'mail-notices', now: Date.now() }), undefined)
})

onOneStore('what happened while mail was off, or more than a day ago, is no news', async (t, build) => {
  const off = await withUser(t, build, {}, {})
  await logInFrom(off.app, '203.0.113.7')
  await logInFrom(off.app, '198.51.100.1')
  const { app, clock, restart } = await off.restart(await mailTo(t))
  const told: Told[] = []
  noteIn(told, app)
  await app.mailNotices.look()
  t.same(told, [])
  await logInFrom(app, '192.0.2.1')
  clock.now += 86_400_001
  await app.mailNotices.look()
  t.same(told, [])
  const again = await restart()
  noteIn(told, again.app)
  await logIn(again.app)
  await again.app.mailNotices.look()
  t.match(told, [{ kind: 'sign_in', about: { address: '127.0.0.1' } }])
})

onOneStore('a notice leaves by itself, in the language of the user', async (t, build) => {
  const server = await startMailServer(t)
  const mail = { AUTH_MAIL_FROM: 'Example <no-reply@example.com>', AUTH_SMTP_URL: `smtp://127.0.0.1:${server.port}` }
  const { app } = await withUser(t, build, { locale: 'ko' }, mail)
  await logInFrom(app, '203.0.113.7')
  await logInFrom(app, '198.51.100.1')
  await until(async () => server.taken.length > 0)
  t.match(server.taken, [{ to: [/^Ada@example.com$/i], from: 'no-reply@example.com' }])
  const [{ raw } = { raw: '' }] = server.taken
  for (const line of ['Example 계정에', '계정: ada', 'IP 주소: 198.51.100.1', '비밀번호를 바꿔 주세요'])
    t.match(partOf(raw, 'text/plain'), line)
  t.match(partOf(raw, 'text/html'), '<html lang="ko-KR">')
})

t.test('a place is a program of any version in a part of the net', async (t) => {
  const from = (address: string, userAgent: string) => placeOf({ address, userAgent })
  t.equal(from('203.0.113.7', firefox), from('203.0.4.4', newerFirefox))
  t.equal(from('2001:db8:1::1', phone), from('2001:db8:2::2', phone.replace('18_1', '18_2_1').replace('18.1', '18.2')))
  t.not(from('203.0.113.7', firefox), from('203.1.113.7', firefox))
  t.not(from('203.0.113.7', firefox), from('203.0.113.7', phone))
  t.not(from('2001:db8::1', phone), from('2001:db9::1', phone))
  t.equal(placeOf({}), placeOf({ address: '', userAgent: '' }))
})

t.test('a device is named out of a list, and never in words of whoever sends them', async (t) => {
  const name = (userAgent: string) => deviceOf({ userAgent })
  t.equal(name(firefox), 'Firefox, Linux')
  t.equal(name(phone), 'Safari, iPhone')
  const windows =
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36'
  t.equal(name(windows), 'Chrome, Windows')
  t.equal(name(`${windows} Edg/131.0.0.0`), 'Edge, Windows')
  t.equal(name(`${windows} Whale/4.28.266.14`), 'Whale, Windows')
  t.equal(name('curl/8.9.1'), 'curl')
  t.equal(name('okhttp/4.12.0'), 'okhttp')
  t.equal(name('MyApp'), 'MyApp')
  for (const odd of ['', 'Mozilla/5.0', 'evil.example.com/1', 'Your account is locked', '<script>/1', 'a'.repeat(256)])
    t.equal(name(odd), undefined)
  t.equal(deviceOf({}), undefined)
  const words = { address: '203.0.113.7', userAgent: 'Your account is locked. Call 555' }
  t.strictSame(factsOf(words, 'ada', 0), { username: 'ada', at: '1970-01-01T00:00:00.000Z', address: '203.0.113.7' })
})
