import type { FastifyInstance } from 'fastify'
import { linkKinds } from '../../plugins/mail/kinds.ts'
import {
  challenges,
  challengeTo,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  refresh,
  signUp,
} from '../support/helper.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'
import { newPassword, shapeOf, signedIn, signUpWith, undo, verify } from '../support/mail-flows.ts'
import { watchStore } from '../support/store-calls.ts'

/* The addresses of users: section 10 of the contract. */

const minute = 60_000
const day = 86_400_000

const signUpBy = (app: FastifyInstance, username: string, email: string, headers: Record<string, string> = {}) =>
  app.inject({ method: 'POST', url: '/signup', payload: { username, password, email }, headers })

overStores(
  'an address of a sign-up is verified by link or code, and is good for signing in from then on',
  async (t, build) => {
    const { app } = await build(await mailsInto(t))
    const outbox = outboxOf(app)
    for (const [name, way] of [
      ['ada', 'link'],
      ['bob', 'code'],
    ] as const) {
      const made = await signUpBy(app, name, `${name}@Example.com`, { 'accept-language': 'ko' })
      t.equal(made.statusCode, 201)
      const { email_verification_id: id, ...rest } = json(made)
      t.same(Object.keys(rest), ['id', 'username', 'created_at'])
      const user = await signedIn(app, name)
      t.match(await user.profile(), { email: `${name}@Example.com`, email_verified: false })
      await t.rejects(logIn(app, `${name}@example.com`), 'it is good for nothing before')
      const { kind, locale, token = '', code = '' } = outbox.last(`${name}@Example.com`)
      t.same([kind, locale], ['verify', 'ko'])
      t.equal((await verify(app, way === 'link' ? { token } : { id, code })).statusCode, 204)
      t.match(await user.profile(), { email: `${name}@Example.com`, email_verified: true })
      t.ok(await logIn(app, `${name.toUpperCase()}@example.com`))
      for (const by of [{ token }, { id, code }]) t.equal((await verify(app, by)).statusCode, 400, 'once')
      t.equal((await app.userAdmin.get({ username: name })).locale, 'ko', 'for notices')
    }
  },
)

overStores('a sign-up with the address of another is answered as any, and its owner is told', async (t, build) => {
  const { app } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  await signUpWith(app, 'owner', 'taken@example.com')
  // The first of a network makes its count.
  await signUpBy(app, 'first', 'first@example.com')
  outbox.mails.length = 0
  const watched = watchStore(app)
  const [free, taken] = [
    await watched.of(() => signUpBy(app, 'mallory1', 'free@example.com')),
    await watched.of(() => signUpBy(app, 'mallory2', 'TAKEN@example.com')),
  ]
  t.same(taken.names, free.names, 'the same steps')
  const anonymous = (body: string) => body.replace(/[\w-]{36,43}|mallory\d|\d{4}-\d\d-\d\dT[^"]*/g, '…')
  for (const { result } of [free, taken]) t.equal(result.statusCode, 201)
  t.equal(anonymous(taken.result.body), anonymous(free.result.body))
  t.match(outbox.mails, [
    { kind: 'verify', to: 'free@example.com' },
    {
      ...{ kind: 'address_taken', to: 'taken@example.com', token: undefined, code: undefined },
      about: { username: 'owner' },
    },
  ])
  const profiles = await Promise.all(
    ['mallory1', 'mallory2'].map(async (name) => (await signedIn(app, name)).profile()),
  )
  t.match(profiles, [
    { email: 'free@example.com', email_verified: false },
    { email: 'TAKEN@example.com', email_verified: false },
  ])
  const guesses = []
  for (const { result } of [free, taken]) {
    const id = json(result).email_verification_id
    const guess = await watched.of(() => verify(app, { id, code: 'wrong' }))
    guesses.push({ names: guess.names, ...shapeOf(guess.result) })
  }
  t.same(guesses[1], guesses[0], 'and what follows is alike')
  t.match(await (await signedIn(app, 'owner')).profile(), { email: 'taken@example.com', email_verified: true })

  await signUpBy(app, 'bob', 'bob@example.com')
  await verify(app, { token: outbox.last('bob@example.com').token ?? '' })
  await signUpBy(app, 'mallory3', 'bob@example.com')
  t.equal(outbox.last('bob@example.com').kind, 'address_taken', 'whatever mails he has just asked for himself')
  const mails = outbox.mails.length
  await signUpBy(app, 'mallory4', 'bob@example.com')
  t.equal(outbox.mails.length, mails, 'but once a minute')
})

overStores('an unverified address is replaced at once, and the mail to it is good no more', async (t, build) => {
  const { app, clock } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  await signUpBy(app, 'ada', 'first@example.com')
  const first = outbox.last('first@example.com')
  const user = await signedIn(app)
  const wrong = await user.askFor('second@example.com', 'wrong horse battery staple')
  t.match([wrong.statusCode, json(wrong)], [403, { errors: [{ pointer: '/password' }] }])
  const asked = await user.askFor('second@example.com')
  t.same([asked.statusCode, Object.keys(json(asked))], [202, ['id']])
  t.match(await user.profile(), { email: 'second@example.com', email_verified: false })
  t.equal((await verify(app, { token: first.token ?? '' })).statusCode, 400)
  t.notOk(
    outbox.mails.some(({ kind }) => kind === 'undo'),
    'what was never verified is told nothing',
  )
  const second = outbox.last('second@example.com')
  t.equal((await verify(app, { id: json(asked).id, code: second.code ?? '' })).statusCode, 204)
  t.match(await user.profile(), { email: 'second@example.com', email_verified: true })
  clock.now += minute
  await user.askFor('Second@example.com')
  const again = outbox.last('Second@example.com')
  t.equal(again.kind, 'verify', 'the same in another spelling is not another')
  t.equal((await verify(app, { token: again.token ?? '' })).statusCode, 204)
  t.match(await user.profile(), { email: 'Second@example.com', email_verified: true })
})

overStores(
  'a verified address stays until the next one is, and can be brought back for seven days',
  async (t, build) => {
    const { app, clock } = await build(await mailsInto(t))
    const outbox = outboxOf(app)
    await signUpWith(app, 'ada', 'old@example.com')
    const user = await signedIn(app)
    await user.askFor('new@example.com')
    t.match(await user.profile(), { email: 'old@example.com', email_verified: true })
    t.ok(await logIn(app, 'old@example.com'))
    t.match(outbox.mails, [
      { kind: 'undo', to: 'old@example.com' },
      { kind: 'change', to: 'new@example.com' },
    ])
    const [back, change] = outbox.mails.splice(0)
    t.equal((await verify(app, { token: back?.token ?? '' })).statusCode, 400, 'each link is for one thing')
    t.equal((await undo(app, change?.token ?? '')).statusCode, 400)
    t.equal((await verify(app, { token: change?.token ?? '' })).statusCode, 204)
    t.match(await user.profile(), { email: 'new@example.com', email_verified: true })
    t.match(outbox.mails, [{ kind: 'email_changed', to: 'old@example.com' }])
    await t.rejects(logIn(app, 'old@example.com'))
    t.ok(await logIn(app, 'new@example.com'))

    // A thief would take the way back away: by another change, by another password, by a reset.
    clock.now += 5 * minute
    await user.askFor('newer@example.com')
    await verify(app, { token: outbox.last('newer@example.com').token ?? '' })
    const later = outbox.mails.find(({ kind, to }) => kind === 'undo' && to === 'new@example.com')
    const changed = { current_password: password, new_password: newPassword }
    t.equal((await user.call('POST', '/users/me/password', changed)).statusCode, 204)
    clock.now += 7 * day - 6 * minute
    const { access_token, refresh_token } = await logIn(app, 'newer@example.com', newPassword)
    t.equal((await undo(app, back?.token ?? '')).statusCode, 204)
    t.equal(await challengeTo(app, access_token), challenges.revoked, 'all sessions end')
    t.equal((await refresh(app, refresh_token)).statusCode, 400)
    const { email, emailKey } = await app.userAdmin.get({ username: 'ada' })
    t.same([email, emailKey], ['old@example.com', 'old@example.com'])
    t.equal((await undo(app, later?.token ?? '')).statusCode, 400, 'a later way back ends with it')
    t.equal((await undo(app, back?.token ?? '')).statusCode, 400)
  },
)

overStores('a way back that is used before the change is verified stops the change', async (t, build) => {
  const { app, clock } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  const userId = await signUpWith(app, 'ada', 'old@example.com')
  await (await signedIn(app)).askFor('new@example.com')
  const [back, change] = outbox.mails
  clock.now += minute
  await (await signedIn(app)).askFor('third@example.com')
  const later = outbox.mails[2]
  t.equal((await undo(app, later?.token ?? '')).statusCode, 204, 'of two ways back the later one')
  for (const { token = '' } of [change, outbox.mails[3]].filter((mail) => mail !== undefined))
    t.equal((await verify(app, { token })).statusCode, 400)
  t.equal((await undo(app, back?.token ?? '')).statusCode, 204, 'leaves the earlier one')
  t.match(await app.userAdmin.get({ id: userId }), { email: 'old@example.com', emailKey: 'old@example.com' })
})

overStores('a way back to an address that is another user’s by now takes it from nobody', async (t, build) => {
  const { app } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  const userId = await signUpWith(app, 'ada', 'old@example.com')
  await (await signedIn(app)).askFor('new@example.com')
  const [back, change] = outbox.mails
  await verify(app, { token: change?.token ?? '' })
  await signUpWith(app, 'bob', 'old@example.com')
  const session = await logIn(app)
  t.equal((await undo(app, back?.token ?? '')).statusCode, 204)
  const { email, emailKey } = await app.userAdmin.get({ id: userId })
  t.same([email, emailKey], ['old@example.com', undefined], 'the other one goes, this one is not verified')
  t.equal(await challengeTo(app, session.access_token), challenges.revoked)
  t.match(await app.store.findUserByEmail('old@example.com'), { username: 'bob' })
})

overStores(
  'two who verify one address at once: one has it, and the other is told no more than that the code is bad',
  async (t, build) => {
    const test = await build(await mailsInto(t))
    const beside = await test.beside()
    const outbox = outboxOf(test.app)
    for (const name of ['ada', 'bob']) {
      await signUpBy(test.app, name, 'one@example.com')
      test.clock.now += minute
    }
    const tokens = outbox.mails.map(({ token = '' }) => token)
    t.equal(tokens.length, 2)
    const answers = await Promise.all(
      tokens.flatMap((token) => Array.from({ length: 20 }, (_, i) => verify(i % 2 ? test.app : beside.app, { token }))),
    )
    t.equal(answers.filter(({ statusCode }) => statusCode === 204).length, 1)
    t.ok(answers.every(({ statusCode }) => [204, 400].includes(statusCode)))
    const keys = await Promise.all(
      ['ada', 'bob'].map(async (username) => (await test.app.userAdmin.get({ username })).emailKey),
    )
    t.same(keys.filter(Boolean), ['one@example.com'])
  },
)

overStores('verifying, changing and deleting at once end in one of their orders', async (t, build) => {
  const { app } = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off' })
  const outbox = outboxOf(app)
  for (let i = 0; i < 6; i++) {
    const name = `user${i}`
    const { id } = json(await signUpBy(app, name, `${name}@example.com`))
    const { token = '' } = outbox.last(`${name}@example.com`)
    const user = await signedIn(app, name)
    const isDeleted = i % 2 === 0
    const [verified, other] = await Promise.all([
      verify(app, { token }),
      isDeleted ? user.call('DELETE', '/users/me', { password }) : user.askFor(`other${i}@example.com`),
    ])
    t.equal(other.statusCode, isDeleted ? 204 : 202)
    t.ok([204, 400].includes(verified.statusCode))
    if (isDeleted) {
      t.equal(await app.store.findUserByEmail(`${name}@example.com`), undefined)
      t.equal(await app.mail.end(id, linkKinds), 0, 'nothing is mailed to who is gone')
    } else {
      const { email, emailKey } = await app.userAdmin.get({ username: name })
      const isVerified = verified.statusCode === 204
      t.same(
        [email, emailKey],
        isVerified ? [`${name}@example.com`, `${name}@example.com`] : [`other${i}@example.com`, undefined],
      )
    }
  }
})

onOneStore('an address at sign-up has to be one, and to be where the settings ask for it', async (t, build) => {
  const { app, restart } = await build()
  const refused = await signUpBy(app, 'ada', 'ada@example.com')
  t.match([refused.statusCode, json(refused)], [400, { errors: [{ pointer: '/email' }] }], 'without a transport')
  const required = await restart({ ...(await mailsInto(t)), AUTH_EMAIL: 'required' })
  const without = await signUp(required.app)
  t.match([without.statusCode, json(without)], [400, { errors: [{ pointer: '/email' }] }])
  for (const email of [
    '',
    'ada',
    '"ada"@example.com',
    'ada@example.com, bob@example.com',
    'ada@example.com\nBcc: x@example.com',
  ])
    t.match(json(await signUpBy(required.app, 'ada', email)), { status: 400, errors: [{ pointer: '/email' }] }, email)
  t.equal((await signUpBy(required.app, 'ada', 'ada@example.com')).statusCode, 201)
  for (let i = 0; i < 19; i++)
    t.equal((await signUpBy(required.app, `user${i}`, `user${i}@example.com`)).statusCode, 201)
  t.equal((await signUpBy(required.app, 'one-too-many', 'x@example.com')).statusCode, 429)
  await t.rejects(required.app.userAdmin.get({ username: 'one-too-many' }), 'and nothing is made')
})

overStores('one mail a minute goes to an address, and what is not mailed ends nothing', async (t, build) => {
  const { app, clock } = await build(await mailsInto(t))
  const outbox = outboxOf(app)
  await signUpBy(app, 'ada', 'ada@example.com')
  const { token = '' } = outbox.last('ada@example.com')
  const user = await signedIn(app)
  t.equal((await user.askFor('ada@example.com')).statusCode, 202)
  t.equal(outbox.mails.length, 1)
  t.equal((await verify(app, { token })).statusCode, 204)
  clock.now += minute
  const before = outbox.mails.length
  await user.askFor('ada@example.com')
  t.equal(outbox.mails.length, before + 1)

  await signUpBy(app, 'bob', 'bob@example.com')
  const left = outbox.last('bob@example.com').token ?? ''
  await signUpBy(app, 'carol', 'carol@example.com')
  await (await signedIn(app, 'bob')).askFor('carol@example.com')
  t.equal((await verify(app, { token: left })).statusCode, 400, 'nor does it leave a link to another address good')
})

overStores('whatever fails for want of the store is 503, and asked again it is done', async (t, build) => {
  const { app } = await build({ ...(await mailsInto(t)), AUTH_THROTTLE: 'off' })
  const outbox = outboxOf(app)
  await signUpWith(app, 'ada', 'old@example.com')
  const watched = watchStore(app)
  const addressOf = async () => (await app.userAdmin.get({ username: 'ada' })).emailKey

  /** Fails one call after another, until there is none left. */
  async function failing(what: string, prepare: (i: number) => Promise<{ act: Act; isDone: () => unknown }>) {
    for (let i = 0; ; i++) {
      const { act, isDone } = await prepare(i)
      const { names, result } = await watched.of(act, i)
      if (i === names.length) return t.ok(i > 2, `${what}: ${names}`)
      const said = `${what}: ${names.at(-1)} failed`
      // A notice that could not be written makes nothing undone.
      if (result.statusCode < 400) t.equal(names.at(-1), 'issueRecord', said)
      else {
        t.equal(result.statusCode, 503, said)
        await act()
      }
      t.ok(await isDone(), `${said}, and the second time it is done`)
    }
  }
  await failing('asking', async (i) => {
    const user = await signedIn(app)
    outbox.mails.length = 0
    return {
      act: () => user.askFor(`a${i}@example.com`),
      isDone: () => outbox.mails.some(({ kind, to }) => kind === 'change' && to === `a${i}@example.com`),
    }
  })
  await failing('verifying', async (i) => {
    await (await signedIn(app)).askFor(`b${i}@example.com`)
    const { token = '' } = outbox.last(`b${i}@example.com`)
    return { act: () => verify(app, { token }), isDone: async () => (await addressOf()) === `b${i}@example.com` }
  })
  await failing('undoing', async (i) => {
    const old = await addressOf()
    await (await signedIn(app)).askFor(`c${i}@example.com`)
    const { token = '' } = outbox.mails.findLast(({ kind }) => kind === 'undo') ?? {}
    await verify(app, { token: outbox.last(`c${i}@example.com`).token ?? '' })
    return { act: () => undo(app, token), isDone: async () => (await addressOf()) === old }
  })
})

type Act = () => Promise<{ statusCode: number }>
