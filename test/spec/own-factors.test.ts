import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { User } from '../../domain/user.ts'
import { callerFrom } from '../support/client-helper.ts'
import { codeOf, giveTotp, leavePasskeyAlone, signInWithCode, wrongCode } from '../support/factors.ts'
import {
  type Build,
  type Clock,
  claimsOf,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  signUp,
  storeOf,
  type Tokens,
  withToken,
} from '../support/helper.ts'

/* What users do about their own second factors, contract section 11. */

const [second, minute] = [1000, 60_000]
type Method = 'GET' | 'POST' | 'DELETE'

/** Calls `/users/me/factors…`. */
const call = (app: FastifyInstance, { access_token }: Tokens, method: Method, path = '', payload?: object) =>
  withToken(app, access_token, { method, url: `/users/me/factors${path}`, ...(payload && { payload }) })

const list = async (app: FastifyInstance, tokens: Tokens) => json(await call(app, tokens, 'GET')).factors

const beginTotp = async (app: FastifyInstance, tokens: Tokens, payload?: object) => {
  const answer = await call(app, tokens, 'POST', '/totp', payload)
  if (answer.statusCode !== 201) throw new Error(answer.body)
  return json(answer) as { id: string; secret: string; uri: string; qr: string }
}
const confirm = (app: FastifyInstance, tokens: Tokens, id: string, code: string) =>
  call(app, tokens, 'POST', `/totp/${id}/confirm`, { code })

/** Adds an authenticator app as its user does. */
async function addTotp(app: FastifyInstance, clock: Clock, tokens: Tokens) {
  const begun = await beginTotp(app, tokens)
  const code = codeOf(begun.secret, clock.now)
  const answer = await call(app, tokens, 'POST', `/${begun.id}/confirm`, { code })
  if (answer.statusCode !== 204) throw new Error(answer.body)
  return begun
}

const sessionOf = async (app: FastifyInstance, { access_token }: Tokens) => {
  const session = await storeOf(app).findSession(claimsOf(access_token).sid as string)
  if (!session) throw new Error('there is no session')
  return session
}

/** Ada, who has signed in. */
async function start(build: Build, settings?: Record<string, string>) {
  const test = await build(settings)
  await signUp(test.app)
  return { ...test, ada: await logIn(test.app) }
}

/** A change that is refused for the sign-in of who asks, RFC 9470 §3. */
function isNotFresh(t: Test, answer: Awaited<ReturnType<typeof call>>, acr: '1' | '2', what: string) {
  t.equal(answer.statusCode, 401, what)
  t.match(json(answer), { type: 'urn:latchkey:problem:insufficient_user_authentication' }, what)
  const challenge = String(answer.headers['www-authenticate'])
  t.match(challenge, 'error="insufficient_user_authentication"', what)
  t.match(challenge, `acr_values="urn:latchkey:acr:${acr}"`, what)
  t.match(challenge, /max_age="?300/, what)
}

overStores('an authenticator app is added by one of its codes, which is spent by that', async (t, build) => {
  const { app, clock, logs, ada } = await start(build)
  const other = await logIn(app)
  t.same(await list(app, ada), [])
  const { id, secret, uri, qr } = await beginTotp(app, ada, { name: 'Pixel 9' })
  t.match(secret, /^[A-Z2-7]{32}$/)
  t.equal(new URL(uri).searchParams.get('secret'), secret)
  t.match(decodeURIComponent(uri), 'otpauth://totp/localhost 3000:ada?')
  t.match(qr, /^<svg .*<\/svg>$/s)
  t.same(await list(app, ada), [], 'it is none before it is confirmed')
  t.notOk((await storeOf(app).findUserByName('ada'))?.hasFactors)

  const code = codeOf(secret, clock.now)
  const confirmed = await confirm(app, ada, id, code)
  t.equal(confirmed.statusCode, 204)
  t.equal(confirmed.body, '')
  t.same(await list(app, ada), [{ id, kind: 'totp', name: 'Pixel 9', created_at: new Date(clock.now).toISOString() }])
  t.equal((await confirm(app, ada, id, code)).statusCode, 404, 'once')
  await t.rejects(signInWithCode(app, code), /wrong/, 'the code is spent')
  clock.now += 30_000
  const { access_token } = await signInWithCode(app, codeOf(secret, clock.now))
  t.match((await list(app, { access_token } as Tokens))[0], { used_at: new Date(clock.now).toISOString() })

  const raised = await sessionOf(app, ada)
  t.match(raised, { factor: id, amr: ['pwd', 'otp', 'mfa'], authAt: raised.createdAt }, 'the session is raised by it')
  t.equal((await sessionOf(app, other)).factor, undefined, 'and no other')
  t.match(
    logs.find(({ event }) => event === 'factor.added'),
    { factor: id, kind: 'totp', level: 30 },
  )
  const stored = JSON.stringify(await storeOf(app).exportRows('factors', { limit: 10 }))
  t.notOk(stored.includes(secret), 'the store has no secret in the clear')
})

overStores('of all who confirm at once, one does; of two first factors at once, one is', async (t, build) => {
  const { app, clock, ada, beside } = await start(build)
  const { app: replica } = await beside()
  const both = [app, replica]
  const { id, secret } = await beginTotp(app, ada)
  const code = codeOf(secret, clock.now)
  const race = await Promise.all(
    Array.from({ length: 20 }, (_, i) => confirm(both[i % 2] as FastifyInstance, ada, id, code)),
  )
  t.same(
    race.map(({ statusCode }) => statusCode).filter((status) => status === 204),
    [204],
  )
  t.equal((await list(app, ada)).length, 1)

  await signUp(app, 'bob')
  const sessions = [await logIn(app, 'bob'), await logIn(app, 'bob')] as const
  const begun = await Promise.all(sessions.map((tokens) => beginTotp(app, tokens)))
  const answers = await Promise.all(
    begun.map((one, i) =>
      confirm(both[i] as FastifyInstance, sessions[i] as Tokens, one.id, codeOf(one.secret, clock.now)),
    ),
  )
  t.same(answers.map(({ statusCode }) => statusCode).sort(), [204, 401], 'the other one has shown a password only')
  t.equal((await list(app, sessions[0])).length, 1)
})

overStores('sets of recovery codes, and removals, at once: the last set is good, and one removes', async (t, build) => {
  const { app, clock, ada } = await start(build)
  const { id } = await addTotp(app, clock, ada)
  const sets = await Promise.all(Array.from({ length: 4 }, () => call(app, ada, 'POST', '/recovery-codes')))
  t.same(
    sets.map(({ statusCode }) => statusCode),
    [201, 201, 201, 201],
  )
  const codes = (await list(app, ada)).filter(({ kind }: { kind: string }) => kind === 'recovery_code')
  t.match(codes, [{ left: 10 }])
  t.equal(codes.length, 1)
  const removals = await Promise.all(Array.from({ length: 4 }, () => call(app, ada, 'DELETE', `/${id}`)))
  // One that looks at its session once that has been lowered, and at its user before, is to sign in anew.
  t.match(removals.map(({ statusCode }) => statusCode).sort(), [204, /40[14]/, /40[14]/, /40[14]/])
})

overStores('removing a factor lowers the sessions that relied on it, and no other', async (t, build) => {
  const { app, clock, logs, ada } = await start(build)
  const { id, secret } = await addTotp(app, clock, ada)
  const second = await addTotp(app, clock, ada)
  clock.now += 30_000
  const byFirst = await signInWithCode(app, codeOf(secret, clock.now))
  const bySecond = await signInWithCode(app, codeOf(second.secret, clock.now))
  t.equal((await call(app, bySecond, 'DELETE', `/${id}`)).statusCode, 204)
  t.match(
    logs.find(({ event }) => event === 'factor.removed'),
    { factor: id, kind: 'totp' },
  )
  t.equal((await sessionOf(app, byFirst)).factor, undefined)
  t.equal((await sessionOf(app, bySecond)).factor, second.id)
  isNotFresh(t, await call(app, byFirst, 'POST', '/recovery-codes'), '2', 'a session that relied on it')
  t.equal((await call(app, bySecond, 'DELETE', `/${second.id}`)).statusCode, 204, 'a password is left to sign in with')
  t.same(await list(app, ada), [])
  t.ok(await logIn(app), 'by the password alone again')
})

onOneStore('a change of factors needs a sign-in of the last five minutes, at the highest level', async (t, build) => {
  const { app, clock, ada } = await start(build, { AUTH_ACCESS_TTL: '1h' })
  const changes: [what: string, Method, path: string, payload?: object][] = [
    ['to add', 'POST', '/totp'],
    ['recovery codes', 'POST', '/recovery-codes'],
    ['to remove', 'DELETE', `/${randomUUID()}`],
  ]
  clock.now += 5 * minute - second
  const begun = await beginTotp(app, ada)
  const slow = await beginTotp(app, ada)
  clock.now += 2 * second
  for (const change of changes) isNotFresh(t, await call(app, ada, ...args(change)), '1', change[0])
  t.equal((await list(app, ada)).length, 0, 'to look at them does not')
  clock.now += 5 * minute
  t.equal((await confirm(app, ada, begun.id, codeOf(begun.secret, clock.now))).statusCode, 204, 'it began in time')
  clock.now += 5 * minute
  t.equal((await confirm(app, ada, slow.id, codeOf(slow.secret, clock.now))).statusCode, 404, 'too late')

  const byPassword = await logInBeside(app)
  for (const change of changes)
    isNotFresh(t, await call(app, byPassword, ...args(change)), '2', `${change[0]}, level 1`)

  /** A session that has shown a password, of a user who has got a second factor since. */
  async function logInBeside(app: FastifyInstance) {
    await signUp(app, 'bob')
    const tokens = await logIn(app, 'bob')
    await giveTotp(app, 'bob')
    return tokens
  }
  function args([, ...rest]: (typeof changes)[number]) {
    return rest
  }
})

onOneStore('an enrolment: ten minutes, five guesses, of its user only, ten at once', async (t, build) => {
  const { app, clock, ada } = await start(build)
  await signUp(app, 'bob')
  const bob = await logIn(app, 'bob')
  const { id, secret } = await beginTotp(app, ada)
  const code = () => codeOf(secret, clock.now)
  t.equal((await confirm(app, bob, id, code())).statusCode, 404, "another user's")
  for (const other of ['x'.repeat(43), randomUUID(), '%00', 'é'.repeat(43)])
    t.equal((await confirm(app, ada, other, code())).statusCode, 404, `no id: ${other}`)
  for (const wrong of [{}, { code: 123456 }, { code: code(), name: 'x' }, { code: '1'.repeat(33) }])
    t.equal((await call(app, ada, 'POST', `/totp/${id}/confirm`, wrong)).statusCode, 400, JSON.stringify(wrong))
  for (let guesses = 1; guesses <= 4; guesses++) {
    const answer = await confirm(app, ada, id, wrongCode(secret, clock.now))
    t.equal(answer.statusCode, 400)
    t.match(json(answer), { type: 'urn:latchkey:problem:invalid_code', errors: [{ pointer: '/code' }] })
  }
  t.equal(
    (await confirm(app, ada, id, ` ${code().slice(0, 3)} ${code().slice(3)}`)).statusCode,
    204,
    'the fifth is right',
  )

  const dead = await beginTotp(app, ada)
  const guesses = await Promise.all(
    Array.from({ length: 50 }, () => confirm(app, ada, dead.id, wrongCode(dead.secret, clock.now))),
  )
  t.ok(guesses.every(({ statusCode }) => statusCode === 400 || statusCode === 404))
  t.equal((await confirm(app, ada, dead.id, codeOf(dead.secret, clock.now))).statusCode, 404, 'dead after five')

  const late = await beginTotp(app, ada)
  for (let n = 2; n <= 10; n++) await beginTotp(app, ada)
  const eleventh = await call(app, ada, 'POST', '/totp')
  t.equal(eleventh.statusCode, 429)
  t.equal(eleventh.headers['retry-after'], '600')
  clock.now += 10 * minute
  const again = await signInWithCode(app, code())
  t.equal((await confirm(app, again, late.id, codeOf(late.secret, clock.now))).statusCode, 404, 'too late')
})

onOneStore('names of factors, what there may be of them, and what an unknown one is', async (t, build) => {
  const { app, clock, ada } = await start(build)
  for (const name of ['', 'x'.repeat(101), 'a\nb', '\u001b[31m', 7])
    t.equal((await call(app, ada, 'POST', '/totp', { name })).statusCode, 400, JSON.stringify(name))
  t.equal((await call(app, ada, 'POST', '/totp', { title: 'x' })).statusCode, 400)
  t.equal((await call(app, ada, 'POST', '/recovery-codes', { count: 3 })).statusCode, 400)
  for (const id of [randomUUID(), 'x', '%00', encodeURIComponent('ë')])
    t.equal((await call(app, ada, 'DELETE', `/${id}`)).statusCode, 404, id)
  const named = await beginTotp(app, ada, { name: '내 전화 📱' })
  t.equal((await confirm(app, ada, named.id, codeOf(named.secret, clock.now))).statusCode, 204)
  t.match(await list(app, ada), [{ name: '내 전화 📱' }])

  for (let n = 2; n < 20; n++) await giveTotp(app)
  const last = await beginTotp(app, ada)
  await giveTotp(app)
  const tooMany = await confirm(app, ada, last.id, codeOf(last.secret, clock.now))
  t.equal(tooMany.statusCode, 409)
  t.match(json(tooMany), { type: 'urn:latchkey:problem:too_many_factors' })
  t.equal((await call(app, ada, 'POST', '/totp')).statusCode, 409)
})

onOneStore('recovery codes are shown once, and a new set is in the place of the old', async (t, build) => {
  const { app, clock, logs, ada } = await start(build)
  const { secret } = await addTotp(app, clock, ada)
  const answer = await call(app, ada, 'POST', '/recovery-codes', {})
  t.equal(answer.statusCode, 201)
  t.equal(answer.headers['cache-control'], 'no-store')
  const { codes } = json(answer)
  t.equal(codes.length, 10)
  const [, set] = await list(app, ada)
  t.match(set, { kind: 'recovery_code', left: 10 })
  const rows = JSON.stringify(await storeOf(app).exportRows('factors', { limit: 10 }))
  for (const code of [...codes, secret]) t.notOk(rows.includes(code), 'in the store there is a hash of it')

  const { codes: next } = json(await call(app, ada, 'POST', '/recovery-codes'))
  t.notOk(next.some((code: string) => codes.includes(code)))
  t.same(
    (await list(app, ada)).map(({ kind, left }: { kind: string; left?: number }) => [kind, left]),
    [
      ['totp', undefined],
      ['recovery_code', 10],
    ],
  )
  t.equal(logs.filter(({ event }) => event === 'recovery_codes.made').length, 2)
  t.equal((await call(app, ada, 'DELETE', `/${set.id}`)).statusCode, 204, 'they can be removed, and the id has stayed')
})

overStores(
  'whoever has signed in fills neither the audit trail nor a mailbox: 30 changes an hour',
  async (t, build) => {
    const { app, clock, ada, beside } = await start(build)
    const { app: other } = await beside()
    const make = (i: number) => call(i % 2 ? app : other, ada, 'POST', '/recovery-codes')
    const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => make(i)))
    let refused = await make(0)
    for (let i = 0; refused.statusCode === 201 && i < 40; i++) {
      answers.push(refused)
      refused = await make(i)
    }
    const made = answers.filter(({ statusCode }) => statusCode === 201).length
    t.ok(made > 10 && made <= 30, `${made} over two replicas, 40 of them at once`)
    t.equal(refused.statusCode, 429)
    t.match(json(refused), { type: 'urn:latchkey:problem:too_many_requests' })
    const seconds = Number(refused.headers['retry-after'])
    t.ok(seconds > 0 && seconds <= 3_600)
    const codes = await list(app, ada)
    t.same(codes.length, 1, 'those that were made last are good')
    t.equal((await call(app, ada, 'DELETE', `/${codes[0].id}`)).statusCode, 204, 'what is there can be removed')
    clock.now += seconds * second
    clock.passedMs = seconds * second
    await app.revocations.poll()
    const again = await logIn(app)
    t.equal((await call(app, again, 'POST', '/recovery-codes')).statusCode, 201, 'the next hour')
  },
)

onOneStore('the last way in cannot be removed', async (t, build) => {
  const { app, clock, ada } = await start(build, { AUTH_MFA: 'admins' })
  const user = await storeOf(app).findUserByName('ada')
  if (!user) throw new Error('there is no ada')
  const { id } = await addTotp(app, clock, ada)
  const refuses = async (factor: string, what: string) => {
    const answer = await call(app, ada, 'DELETE', `/${factor}`)
    t.equal(answer.statusCode, 409, what)
    t.match(json(answer), { type: 'urn:latchkey:problem:last_factor' }, what)
  }
  const profile = { ...user, roles: ['admin'] }
  await storeOf(app).changeUser({ userId: user.id, expected: user, next: profile })
  await refuses(id, 'where AUTH_MFA demands one of the user')
  const codes = json(await call(app, ada, 'POST', '/recovery-codes')).codes
  t.equal(codes.length, 10)
  await refuses(id, 'recovery codes are none')
  await storeOf(app).changeUser({ userId: user.id, expected: profile, next: { ...profile, roles: [] } })

  const passkey = await leavePasskeyAlone(app, ada.access_token)
  await refuses(passkey, 'where there is no password')
  t.equal((await call(app, ada, 'DELETE', `/${id}`)).statusCode, 204, 'the app was no way in by itself')
})

onOneStore('who had shown enough when a change began, and does not when it is made, is refused', async (t, build) => {
  const { app, clock, ada } = await start(build)
  const by = callerFrom('192.0.2.1', app.log)
  await call(app, ada, 'POST', '/recovery-codes')
  const [set] = await list(app, ada)
  const { id, secret } = await beginTotp(app, ada)
  const user = (await storeOf(app).findUserByName('ada')) as User
  const fresh = { user, session: await sessionOf(app, ada), factors: await app.factors.of(user.id) }
  /** What is asked anew where another change has come first: here each time an authenticator app. */
  const proving = () => {
    let asked = 0
    return async () => {
      if (asked++ > 0) throw new Error('not fresh')
      await giveTotp(app)
      return fresh
    }
  }
  for (const change of [
    () => app.ownFactors.makeRecoveryCodes(by, proving()),
    () => app.ownFactors.remove(by, proving(), set.id),
    () => app.ownFactors.confirmTotp(by, proving(), id, codeOf(secret, clock.now)),
  ])
    await t.rejects(change(), /not fresh/)
  t.match(await list(app, ada), [{ id: set.id, left: 10 }, { kind: 'totp' }, { kind: 'totp' }, { kind: 'totp' }])
})

onOneStore(
  'without a token, with that of an administrator for the user, and of a user who is gone',
  async (t, build) => {
    const { app, ada } = await start(build)
    t.equal((await app.inject({ url: '/users/me/factors' })).statusCode, 401)
    t.equal((await app.inject({ method: 'POST', url: '/users/me/factors/totp' })).statusCode, 401)
    const removed = await withToken(app, ada.access_token, {
      method: 'DELETE',
      url: '/users/me',
      payload: { password },
    })
    t.equal(removed.statusCode, 204)
    t.equal((await call(app, ada, 'POST', '/totp')).statusCode, 401)
  },
)
