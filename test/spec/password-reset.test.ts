import { challenges, challengeTo, json, logIn, onOneStore, overStores, password, refresh } from '../support/helper.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'
import { forgot, newPassword, reset, shapeOf, signedIn, signUpWith } from '../support/mail-flows.ts'
import { isLong } from '../support/processes.ts'
import { watchStore } from '../support/store-calls.ts'

/* Forgotten passwords: section 10 of the contract. */

const minute = 60_000
/** A busy machine refuses no hash. */
const patient = { AUTH_HASH_MAX_WAIT: '1m' }
const wrongCode = (code = '') => (code === '00000000' ? '00000001' : '00000000')

overStores('a forgotten password is replaced by the link or by the code of a mail, once', async (t, build) => {
  const { app, clock } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  const userId = await signUpWith(app, 'ada', 'Ada@example.com')
  const { access_token, refresh_token } = await logIn(app)
  const asked = await forgot(app, { username: 'ADA' })
  t.same([asked.statusCode, Object.keys(json(asked))], [202, ['id']])
  const { token = '', code = '' } = outbox.last('Ada@example.com')
  t.equal((await reset(app, { token })).statusCode, 204)
  t.equal(await challengeTo(app, access_token), challenges.revoked, 'all sessions end')
  t.equal((await refresh(app, refresh_token)).statusCode, 400)
  t.match(json(await reset(app, { token })), { type: 'urn:latchkey:problem:invalid_code', status: 400 })
  t.equal((await reset(app, { id: json(asked).id, code })).statusCode, 400, 'its code is dead too')
  t.ok(await logIn(app, 'ada', newPassword))
  const { rows } = await app.store.listAudit({ user: userId, event: 'password.reset' }, { limit: 9 })
  t.equal(rows.length, 1)

  clock.now += minute
  const { id } = json(await forgot(app, { email: 'ADA@EXAMPLE.COM' }))
  const mail = outbox.last('Ada@example.com')
  t.equal(
    (await reset(app, { id, code: ` ${mail.code?.slice(0, 4)}-${mail.code?.slice(4)}` }, password)).statusCode,
    204,
  )
  t.equal((await reset(app, { token: mail.token ?? '' })).statusCode, 400, 'its link is dead too')
  t.ok(await logIn(app))
})

overStores('nobody learns whether there is an account: answers, steps and what follows are alike', async (t, build) => {
  const { app, clock } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  for (const name of ['known', 'limited', 'disabled']) await signUpWith(app, name, `${name}@example.com`)
  await signUpWith(app, 'unverified', 'unverified@example.com', false)
  await app.userAdmin.disable({ log: app.log }, (await app.userAdmin.get({ username: 'disabled' })).id)
  await forgot(app, { email: 'limited@example.com' }, '198.51.100.1')
  await forgot(app, { email: 'nobody-limited@example.com' }, '198.51.100.1')
  outbox.mails.length = 0

  const watched = watchStore(app)
  const names = ['known', 'limited', 'disabled', 'unverified', 'nobody', 'nobody-limited']
  let network = 0
  const results: Record<string, { ask: unknown; guess: unknown }[]> = {}
  for (const name of names) {
    for (const by of [{ email: `${name}@example.com` }, { username: name }]) {
      const from = `203.0.${++network}.1`
      const asked = await watched.of(() => forgot(app, by, from))
      const { id } = json(asked.result)
      const guess = await watched.of(() => reset(app, { id, code: wrongCode(outbox.mails[0]?.code) }))
      t.match(shapeOf(guess.result), { statusCode: 400 })
      const isAgain = name === 'limited' || ('email' in by ? name === 'nobody-limited' : name === 'known')
      const kind = `${Object.keys(by)} ${isAgain ? 'again' : 'first'}`
      results[kind] ??= []
      results[kind].push({
        ask: { names: asked.names, ...shapeOf(asked.result) },
        guess: { names: guess.names, ...shapeOf(guess.result) },
      })
    }
    if (name === 'known') t.match(outbox.mails.splice(0), [{ kind: 'reset', to: 'known@example.com' }], 'and one mail')
    else t.same(outbox.mails, [], name)
  }
  for (const [kind, [first, ...others]] of Object.entries(results))
    for (const other of others) t.same(other, first, kind)
  clock.now += minute
  t.equal((await forgot(app, { email: 'limited@example.com' })).statusCode, 202)
  t.match(outbox.mails, [{ to: 'limited@example.com' }])
})

overStores('200 uses of one link at once, at two replicas: one wins', async (t, build) => {
  const test = await build({ ...(await mailsInto(t)), ...patient })
  const beside = await test.beside()
  const outbox = outboxOf(test.app)
  await signUpWith(test.app, 'ada', 'ada@example.com')
  await forgot(test.app, { username: 'ada' })
  const { token = '' } = outbox.last('ada@example.com')
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) => reset(i % 2 ? test.app : beside.app, { token }, `${newPassword} ${i}`)),
  )
  const winners = answers.flatMap(({ statusCode }, i) => (statusCode === 204 ? [i] : []))
  t.equal(winners.length, 1)
  // On a busy machine PostgreSQL may be too late for one of those who wait for the row.
  for (const { statusCode } of answers) t.ok([204, 400, 503].includes(statusCode))
  t.ok(await logIn(beside.app, 'ada', `${newPassword} ${winners[0]}`))
})

overStores('200 guesses at a code at once, at two replicas, are five guesses', async (t, build) => {
  const test = await build({ ...(await mailsInto(t)), ...patient })
  const beside = await test.beside()
  const outbox = outboxOf(test.app)
  await signUpWith(test.app, 'ada', 'ada@example.com')
  const { id } = json(await forgot(test.app, { username: 'ada' }))
  const { token = '', code = '' } = outbox.last('ada@example.com')
  let compared = 0
  for (const { app } of [test, beside]) {
    const { missRecord } = app.store
    app.store.missRecord = async (...args) => {
      const misses = await missRecord.apply(app.store, args)
      if (misses !== undefined && misses <= 5) compared += 1
      return misses
    }
  }
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) => reset(i % 2 ? test.app : beside.app, { id, code: wrongCode(code) })),
  )
  t.ok(answers.every(({ statusCode }) => statusCode === 400))
  t.equal(compared, 5)
  t.equal((await reset(test.app, { id, code })).statusCode, 400, 'the right one comes too late')
  t.equal((await reset(test.app, { token })).statusCode, 400, 'and the link is dead')

  test.clock.now += minute
  const again = json(await forgot(test.app, { username: 'ada' }))
  const mail = outbox.last('ada@example.com')
  for (let i = 0; i < 4; i++) await reset(beside.app, { id: again.id, code: wrongCode(mail.code) })
  t.equal((await reset(test.app, { id: again.id, code: mail.code ?? '' })).statusCode, 204, 'four wrong ones are not')
})

onOneStore('a password that is not acceptable, or is not hashed, uses up neither link nor code', async (t, build) => {
  const { app } = await build({ ...(await mailsInto(t)), AUTH_HASH_CONCURRENCY: '1', AUTH_HASH_MAX_WAIT: '1s' })
  const outbox = outboxOf(app)
  await signUpWith(app, 'ada-lovelace-of-london', 'ada@example.com')
  const { id } = json(await forgot(app, { username: 'ada-lovelace-of-london' }))
  const { token = '', code = '' } = outbox.last('ada@example.com')
  for (let i = 0; i < 6; i++) {
    for (const by of [{ token }, { id, code }, { id, code: wrongCode(code) }]) {
      const refused = await reset(app, by, 'short')
      t.match(json(refused), { status: 400, errors: [{ pointer: '/new_password' }] })
    }
  }
  const named = 'Ada-Lovelace-of-London'
  const guess = await reset(app, { id, code: wrongCode(code) }, named)
  t.match(json(guess), { type: /invalid_code$/ }, 'a wrong code does not tell whose account it is')
  const refused = await reset(app, { token }, named)
  t.match(json(refused), { status: 400, errors: [{ pointer: '/new_password', detail: /username/ }] })

  let release = (_: boolean) => {}
  const { hashing, log } = app
  const caller = {
    log,
    address: '198.51.100.9',
    userAgent: '',
    requestId: '',
    by: undefined,
    gone: new AbortController().signal,
  }
  const holding = hashing.verify(caller, undefined, 'x', () => new Promise<boolean>((done) => (release = done)))
  const busy = await Promise.all([reset(app, { token }), reset(app, { id, code })])
  t.same(
    busy.map(({ statusCode }) => statusCode),
    [503, 503],
  )
  release(false)
  await holding
  t.match(await app.store.findRecord({ kind: 'reset', id, now: app.now() }), { misses: 1 }, 'the one guess')
  t.equal((await reset(app, { id, code })).statusCode, 204)
})

onOneStore('nothing is hashed for a link or an id that nobody was given', async (t, build) => {
  const { app } = await build(await mailsInto(t))
  let hashes = 0
  const hash = app.hashing.hash.bind(app.hashing)
  app.hashing.hash = (...args) => {
    hashes += 1
    return hash(...args)
  }
  const { id } = json(await forgot(app, { username: 'nobody' }))
  for (const by of [{ token: `lkp_${'x'.repeat(43)}` }, { id: 'x'.repeat(43), code: '12345678' }, { id: '', code: '' }])
    t.equal((await reset(app, by)).statusCode, 400)
  t.equal(hashes, 0)
  for (let i = 0; i < 20; i++) t.equal((await reset(app, { id, code: '12345678' })).statusCode, 400)
  t.equal(hashes, 6, 'and for an id until it is dead')
})

overStores('what happens to the account meanwhile ends link and code, without a word of why', async (t, build) => {
  const { app } = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off' })
  const outbox = outboxOf(app)
  const by = { log: app.log }
  const meanwhile: Record<string, (id: string, name: string) => Promise<unknown>> = {
    disabled: (id) => app.userAdmin.disable(by, id),
    deleted: (id) => app.userAdmin.delete(by, id),
    'another password': async (_, name) =>
      (await signedIn(app, name)).call('POST', '/users/me/password', {
        ...{ current_password: password, new_password: newPassword },
      }),
    'another mail': (_, name) => forgot(app, { username: name }),
    'another address': async (id) => {
      const user = await app.userAdmin.get({ id })
      const next = { ...user, email: 'other@example.com', emailKey: 'other@example.com' }
      await app.changes.make(by, 'email.changed', { sub: id }, (store) =>
        store.changeUser({ userId: id, expected: user, next }),
      )
    },
  }
  const shapes = [
    shapeOf(await reset(app, { token: 'lkp_x' })),
    shapeOf(await reset(app, { id: 'x', code: '12345678' })),
  ]
  for (const [i, [what, happens]] of Object.entries(meanwhile).entries()) {
    const name = `user${i}`
    const userId = await signUpWith(app, name, `${name}@example.com`)
    const { id } = json(await forgot(app, { email: `${name}@example.com` }))
    const { token = '', code = '' } = outbox.last(`${name}@example.com`)
    await happens(userId, name)
    for (const shown of [{ token }, { id, code }]) {
      const answer = await reset(app, shown)
      t.equal(answer.statusCode, 400, what)
      shapes.push(shapeOf(answer))
    }
  }
  for (const shape of shapes) t.same(shape, shapes[0])
})

overStores('a login that rehashes meanwhile loses no reset', async (t, build) => {
  const { app } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  const userId = await signUpWith(app, 'ada', 'ada@example.com')
  await forgot(app, { username: 'ada' })
  const { token = '' } = outbox.last('ada@example.com')
  const { changePassword } = app.store as never as { changePassword(...args: unknown[]): Promise<boolean> }
  let isFirst = true
  Object.assign(app.store, {
    async changePassword(...args: unknown[]) {
      if (isFirst) {
        isFirst = false
        const { passwordHash } = await app.userAdmin.get({ id: userId })
        await app.store.replacePasswordHash(userId, passwordHash, passwordHash.replace(/.$/, 'A'))
      }
      return changePassword.apply(app.store, args)
    },
  })
  t.equal((await reset(app, { token })).statusCode, 204)
  t.ok(await logIn(app, 'ada', newPassword))
})

overStores('what fails for want of the store is 503, and asked again it is done', async (t, build) => {
  const { app, clock } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  await signUpWith(app, 'ada', 'ada@example.com')
  const watched = watchStore(app)
  for (const name of ['ada', 'nobody']) {
    for (let failsAt = 0; ; failsAt++) {
      clock.now += 3_600_000
      outbox.mails.length = 0
      const { names, result } = await watched.of(() => forgot(app, { username: name }), failsAt)
      if (result.statusCode === 202) {
        t.equal(failsAt, names.length, `${name}: after each call of ${names}`)
        break
      }
      t.equal(result.statusCode, 503)
      t.equal((await forgot(app, { username: name })).statusCode, 202)
      t.equal(outbox.mails.length, name === 'ada' ? 1 : 0, `${name}: ${names.at(-1)} failed`)
    }
  }
  for (let failsAt = 0; ; failsAt++) {
    clock.now += 3_600_000
    await forgot(app, { username: 'ada' })
    const { token = '' } = outbox.last('ada@example.com')
    const secret = `${newPassword} ${failsAt}`
    const { names, result } = await watched.of(() => reset(app, { token }, secret), failsAt)
    if (result.statusCode === 204) {
      t.equal(failsAt, names.length)
      break
    }
    t.equal(result.statusCode, 503, `${names.at(-1)} failed`)
    const again = await reset(app, { token }, secret)
    if (again.statusCode !== 204) t.ok(await logIn(app, 'ada', secret), 'a 503 says that it may have happened')
  }
})

onOneStore('POST /password/forgot is limited for each network, and takes one of the two', async (t, build) => {
  const { app, clock } = await build(await mailsInto(t))
  for (const body of [
    {},
    { email: 'ada@example.com', username: 'ada' },
    { email: '"ada"@example.com' },
    { email: 'ada' },
    { x: 1 },
  ])
    t.equal((await forgot(app, body)).statusCode, 400)
  for (let i = 0; i < 20; i++) t.equal((await forgot(app, { username: `user${i}` }, `192.0.2.${i}`)).statusCode, 202)
  const refused = await forgot(app, { username: 'one too many' })
  t.match([refused.statusCode, refused.headers['retry-after']], [429, '3600'])
  t.match(json(refused), { type: /too_many_requests$/ })
  t.equal((await forgot(app, { username: 'ada' }, '192.0.3.1')).statusCode, 202)
  clock.now += 3_600_000
  t.equal((await forgot(app, { username: 'ada' })).statusCode, 202)
})

onOneStore('without a transport none of it is there', async (t, build) => {
  const { app } = await build()
  for (const url of ['/password/forgot', '/password/reset', '/email/verify', '/email/undo', '/users/me/email'])
    t.equal((await app.inject({ method: 'POST', url, payload: {} })).statusCode, 404, url)
  const { paths } = json(await app.inject({ url: '/openapi.json' }))
  t.notOk('/password/forgot' in paths)
})

/** Needs a quiet machine: `LATCHKEY_LONG=1`. The short form is that both ask the same of the store. */
if (isLong)
  overStores('a mail to somebody takes as long to ask for as one to nobody, within a tenth', async (t, build) => {
    const { app } = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off' })
    await signUpWith(app, 'ada', 'ada@example.com')
    const times: Record<string, number[]> = { ada: [], bob: [] }
    for (let i = 0; i < 400; i++) {
      for (const name of Math.random() < 0.5 ? ['ada', 'bob'] : ['bob', 'ada']) {
        const begin = performance.now()
        await forgot(app, { email: `${name}@example.com` })
        times[name]?.push(performance.now() - begin)
      }
    }
    const [ada = 0, bob = 0] = Object.values(times).map((all) => all.sort((a, b) => a - b)[all.length / 2])
    t.ok(Math.max(ada, bob) / Math.min(ada, bob) < 1.1, `${ada.toFixed(2)} and ${bob.toFixed(2)} ms`)
  })
