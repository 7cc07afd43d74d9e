import { randomBytes } from 'node:crypto'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { callerFrom, failStore, from, isOAuthError, makeClient } from '../support/client-helper.ts'
import {
  begin,
  challenge,
  challengeOfVerifier,
  codeOf,
  exchange,
  giveRecoveryCodes,
  giveTotp,
  signInWithCode,
  wrongCode,
} from '../support/factors.ts'
import {
  claimsOf,
  giveRoles,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  withToken,
} from '../support/helper.ts'

/* Sign-in step by step, contract section 11, by draft-ietf-oauth-first-party-apps. */

const minute = 60_000
const [oneFactor, twoFactors] = ['urn:latchkey:acr:1', 'urn:latchkey:acr:2']
const logInByPassword = (app: FastifyInstance, fields = {}) =>
  postForm(app, '/token', { grant_type: 'password', username: 'ada', password, ...fields })

/** Whether more is needed, and what. @returns the next `auth_session` */
function isMore(t: Test, answer: LightMyRequestResponse, challenges: string[], what: string, status = 400): string {
  isOAuthError(t, answer, status, 'insufficient_authorization', what)
  const { auth_session: authSession, challenges: named } = json(answer)
  t.same(named, challenges, `${what}: ${challenges}`)
  t.match(authSession, /^lka_[A-Za-z0-9_-]{43}$/, what)
  t.equal(answer.headers['cache-control'], 'no-store', what)
  return authSession
}

overStores('without a factor, a password is all: a code, and tokens for it, once', async (t, build) => {
  const { app } = await build()
  const { id } = json(await signUp(app))
  const answer = await begin(app)
  t.equal(answer.statusCode, 200)
  const { authorization_code: code } = json(answer)
  t.match(code, /^lkc_/)
  const tokens = json(await exchange(app, code))
  t.match(tokens, { token_type: 'Bearer', access_token: String, refresh_token: /^lkr_/ })
  const claims = claimsOf(tokens.access_token)
  t.match(claims, { sub: id, client_id: 'first-party' })
  t.notOk('acr' in claims || 'amr' in claims || 'auth_time' in claims, 'no word of a second factor')
  t.equal((await refresh(app, tokens.refresh_token)).statusCode, 200)

  isOAuthError(t, await exchange(app, code), 400, 'invalid_grant', 'a second use')
  isOAuthError(t, await refresh(app, tokens.refresh_token), 400, 'invalid_grant', 'ends what the first gave')
  isOAuthError(t, await exchange(app, 'lkc_nothing'), 400, 'invalid_grant', 'an unknown code')
  isOAuthError(t, await exchange(app, ''), 400, 'invalid_request', 'no code')
})

overStores('no token before the factor: at /token, at /challenge, by any grant', async (t, build) => {
  const { app, clock } = await build()
  const { id } = json(await signUp(app))
  const before = await logIn(app)
  const { secret, id: factor } = await giveTotp(app)
  const refused = await logInByPassword(app)
  const fromToken = isMore(t, refused, ['totp'], 'the password grant', 403)
  const first = isMore(t, await begin(app), ['totp'], 'the first step')
  t.not(first, fromToken)

  const otp = codeOf(secret, clock.now)
  const done = await challenge(app, { auth_session: fromToken, otp })
  t.equal(done.statusCode, 200, 'it goes on where /token began')
  const tokens = json(await exchange(app, json(done).authorization_code))
  t.match(claimsOf(tokens.access_token), {
    sub: id,
    acr: twoFactors,
    amr: ['pwd', 'otp', 'mfa'],
    auth_time: Math.floor(clock.now / 1000),
  })
  const session = await storeOf(app).findSession(claimsOf(tokens.access_token).sid as string)
  t.match(session, { amr: ['pwd', 'otp', 'mfa'], factor })

  const second = isMore(t, await challenge(app, { auth_session: first, otp }), ['totp'], 'the same code again')
  clock.now += 30_000
  const old = codeOf(secret, clock.now, -1)
  const third = isMore(t, await challenge(app, { auth_session: second, otp: old }), ['totp'], 'that of its step')
  const next = codeOf(secret, clock.now)
  t.equal((await challenge(app, { auth_session: third, otp: next })).statusCode, 200, 'the next one is good')

  const { access_token } = json(await refresh(app, before.refresh_token))
  t.match(claimsOf(access_token), { acr: oneFactor, amr: ['pwd'] }, 'a session from before stays, at level 1')
})

overStores('what the password says of itself is as without a factor', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  await giveTotp(app)
  const wrong = 'wrong wrong wrong wrong'
  const answers = await Promise.all([
    challenge(app, { username: 'ada', password: wrong }),
    challenge(app, { username: 'nobody', password: wrong }),
    postForm(app, '/token', { grant_type: 'password', username: 'ada', password: wrong }),
  ])
  for (const answer of answers) {
    isOAuthError(t, answer, 400, 'invalid_grant', 'a wrong password')
    t.equal(answer.body, answers[0].body, 'the same, byte by byte')
  }
})

overStores('an auth_session is good for one step, of one client, for ten minutes and five misses', async (t, build) => {
  const { app, clock } = await build({ AUTH_THROTTLE: 'off' })
  await signUp(app)
  const { secret } = await giveTotp(app)
  const another = await makeClient(app, {
    id: 'another',
    type: 'public',
    firstParty: true,
    grants: ['authorization_code'],
  })
  const next = async (auth_session: string, fields = {}) =>
    challenge(app, { auth_session, otp: codeOf(secret, clock.now), ...fields })
  const gone = (answer: LightMyRequestResponse, what: string) => isOAuthError(t, answer, 400, 'invalid_session', what)

  let value = json(await begin(app)).auth_session
  gone(await next(value, { client_id: another.id }), "another client's")
  t.equal((await next(value)).statusCode, 200, 'which has not used it up')
  gone(await next(value), 'spent')
  gone(await next('lka_nothing'), 'unknown')

  clock.now += minute
  value = json(await begin(app)).auth_session
  const wrong = wrongCode(secret, clock.now)
  const guesses = await Promise.all(
    Array.from({ length: 200 }, () => challenge(app, { auth_session: value, otp: wrong })),
  )
  const counted = guesses.filter((answer) => json(answer).error === 'insufficient_authorization')
  t.equal(counted.length, 1, 'of 200 guesses at once, one')
  value = json(counted[0] as LightMyRequestResponse).auth_session
  for (let misses = 2; misses <= 5; misses++)
    value = isMore(t, await challenge(app, { auth_session: value, otp: wrong }), ['totp'], `${misses} misses`)
  gone(await next(value), 'dead, even for the right code')

  value = json(await begin(app)).auth_session
  clock.now += 5 * minute
  value = json(await challenge(app, { auth_session: value, otp: wrongCode(secret, clock.now) })).auth_session
  clock.now += 5 * minute
  gone(await next(value), 'ten minutes from the first step')

  value = json(await begin(app)).auth_session
  const user = await storeOf(app).findUserByName('ada')
  await app.sessions.endAll({ log: app.log, address: '192.0.2.1', userAgent: '' } as never, user?.id ?? '')
  gone(await next(value), 'all sessions of the user were ended meanwhile')

  value = json(await begin(app)).auth_session
  isOAuthError(t, await challenge(app, { auth_session: value }), 400, 'invalid_request', 'nothing is shown')
  isOAuthError(t, await next(value, { recovery_code: 'x' }), 400, 'invalid_request', 'two things are shown')
  t.equal((await next(value)).statusCode, 200, 'a request that cannot be read uses nothing up')
})

overStores('a recovery code is good once, and tells by mail and audit', async (t, build) => {
  const { app } = await build()
  const { id } = json(await signUp(app))
  await giveTotp(app)
  const codes = await giveRecoveryCodes(app)
  const [one = '', other = ''] = codes
  const sessions = await Promise.all([begin(app), begin(app)])
  const [first, second] = sessions.map((answer) => isMore(t, answer, ['totp', 'recovery_code'], 'either'))
  const both = await Promise.all(
    [first, second].map((auth_session = '') => challenge(app, { auth_session, recovery_code: one })),
  )
  t.same(both.map(({ statusCode }) => statusCode).sort(), [200, 400], 'of two at once, one')
  const won = both.find(({ statusCode }) => statusCode === 200) as LightMyRequestResponse
  const lost = both.find(({ statusCode }) => statusCode === 400) as LightMyRequestResponse
  const tokens = json(await exchange(app, json(won).authorization_code))
  t.match(claimsOf(tokens.access_token), { acr: twoFactors, amr: ['pwd', 'mfa'] })
  const typed = other.toUpperCase().replaceAll('-', ' ')
  t.equal((await challenge(app, { auth_session: json(lost).auth_session, recovery_code: typed })).statusCode, 200)
  const { rows } = await app.store.listAudit({ user: id, event: 'recovery_code.used' }, { limit: 9 })
  t.same(
    rows.map(({ detail }) => detail?.['left']),
    [8, 9],
  )
})

overStores('PKCE: a challenge with any step, and then its verifier', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const verifier = randomBytes(32).toString('base64url')
  const code_challenge = challengeOfVerifier(verifier)
  const codeWith = async (fields = {}) => json(await begin(app, 'ada', fields)).authorization_code
  const code = await codeWith({ code_challenge, code_challenge_method: 'S256' })
  isOAuthError(t, await exchange(app, code), 400, 'invalid_grant', 'no verifier')
  isOAuthError(t, await exchange(app, code, { code_verifier: 'a'.repeat(43) }), 400, 'invalid_grant', 'another')
  t.equal((await exchange(app, code, { code_verifier: verifier })).statusCode, 200)
  isOAuthError(
    t,
    await exchange(app, await codeWith(), { code_verifier: verifier }),
    400,
    'invalid_grant',
    'a verifier that nothing asked for (RFC 9700 §4.8.2)',
  )
  for (const wrong of [{ code_challenge, code_challenge_method: 'plain' }, { code_challenge: 'short' }])
    isOAuthError(t, await begin(app, 'ada', wrong), 400, 'invalid_request', JSON.stringify(wrong))

  const { secret } = await giveTotp(app)
  const { auth_session } = json(await begin(app))
  const done = json(await challenge(app, { auth_session, otp: codeOf(secret, clock.now), code_challenge }))
  isOAuthError(t, await exchange(app, done.authorization_code), 400, 'invalid_grant', 'sent with the last step')
  t.equal((await exchange(app, done.authorization_code, { code_verifier: verifier })).statusCode, 200)
})

overStores('a code is good for a minute, and for its client', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const codes = await Promise.all([1, 2, 3].map(async () => json(await begin(app)).authorization_code))
  const another = await makeClient(app, {
    id: 'another',
    type: 'public',
    firstParty: true,
    grants: ['authorization_code'],
  })
  isOAuthError(t, await exchange(app, codes[0], { client_id: another.id }), 400, 'invalid_grant', "another client's")
  isOAuthError(t, await exchange(app, codes[0], { redirect_uri: 'https://x' }), 400, 'invalid_grant', 'a redirect_uri')
  t.equal((await exchange(app, codes[0])).statusCode, 200)
  const at = await Promise.all(Array.from({ length: 20 }, () => exchange(app, codes[1])))
  t.ok(at.filter(({ statusCode }) => statusCode === 200).length <= 1, 'of twenty at once, one at most')
  clock.now += 60_000
  isOAuthError(t, await exchange(app, codes[2]), 400, 'invalid_grant', 'expired')
})

onOneStore('who may use it: first-party clients with the grant', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  await giveTotp(app)
  const grants = ['password', 'authorization_code']
  const third = await makeClient(app, { id: 'third', type: 'public', grants })
  const lacking = await makeClient(app, { id: 'lacking', type: 'public', firstParty: true, grants: ['password'] })
  for (const { id: client_id } of [third, lacking]) {
    isOAuthError(t, await begin(app, 'ada', { client_id }), 400, 'unauthorized_client', client_id)
    const answer = await logInByPassword(app, { client_id })
    isOAuthError(t, answer, 403, 'insufficient_authorization', client_id)
    t.notOk('auth_session' in json(answer), 'nothing that it could use')
  }
  const own = await makeClient(app, { id: 'own', firstParty: true, grants, scopes: ['files:read'] })
  const ofOwn = { client_id: own.id, client_secret: own.secret }
  isOAuthError(t, await begin(app, 'ada', { client_id: own.id }), 401, 'invalid_client', 'without its secret')
  isOAuthError(t, await begin(app, 'ada', { ...ofOwn, scope: 'x' }), 400, 'invalid_scope', 'a scope that it has not')
  isMore(t, await begin(app, 'ada', { ...ofOwn, scope: 'files:read' }), ['totp'], 'own')
})

overStores('step-up: the same session is raised, and falls back (RFC 9470)', async (t, build) => {
  const { app, clock, logs } = await build()
  await signUp(app)
  const before = await logIn(app)
  const { secret } = await giveTotp(app)
  const old = json(await refresh(app, before.refresh_token))
  t.match(claimsOf(old.access_token), { acr: oneFactor })
  const stepUp = (token: string, fields = {}) =>
    challenge(app, fields, { headers: { authorization: `Bearer ${token}` } })

  const value = isMore(t, await stepUp(old.access_token, { acr_values: twoFactors }), ['totp'], 'the factor alone')
  const done = await challenge(app, { auth_session: value, otp: codeOf(secret, clock.now) })
  const raised = json(await exchange(app, json(done).authorization_code))
  const claims = claimsOf(raised.access_token)
  t.match(claims, { sid: claimsOf(old.access_token).sid, acr: twoFactors, amr: ['pwd', 'otp', 'mfa'] })
  t.equal((await withToken(app, raised.access_token, { url: '/users/me/sessions' })).json().sessions.length, 1)
  const refreshed = json(await refresh(app, old.refresh_token))
  t.match(claimsOf(refreshed.access_token), { acr: twoFactors, auth_time: claims['auth_time'] }, 'refreshes carry it')
  const enough = await stepUp(refreshed.access_token, { acr_values: twoFactors, max_age: '300' })
  t.equal(enough.statusCode, 200, 'good enough: a code at once')
  const same = json(await exchange(app, json(enough).authorization_code))
  t.match(claimsOf(same.access_token), { sid: claims['sid'], acr: twoFactors, auth_time: claims['auth_time'] })
  t.same(app.challenges.counts, { begun: 1, finished: 1 }, 'of several steps there was one')
  t.equal(logs.filter(({ event }) => event === 'session.raised').length, 1, 'and nothing is told that has not happened')

  clock.now += 16 * minute
  const fallen = json(await refresh(app, refreshed.refresh_token))
  t.match(claimsOf(fallen.access_token), { acr: oneFactor, auth_time: claims['auth_time'] }, 'after AUTH_STEP_UP_TTL')
  const stale = await stepUp(fallen.access_token, { acr_values: twoFactors, max_age: '300' })
  const asked = isMore(t, stale, ['password'], 'too old: the password, too')
  const wrong = await challenge(app, { auth_session: asked, password: 'wrong wrong wrong wrong' })
  const again = isMore(t, wrong, ['password'], 'a wrong one')
  const half = isMore(t, await challenge(app, { auth_session: again, password }), ['totp'], 'and then the factor')
  const whole = await challenge(app, { auth_session: half, otp: codeOf(secret, clock.now) })
  const fresh = json(await exchange(app, json(whole).authorization_code))
  t.match(claimsOf(fresh.access_token), {
    acr: twoFactors,
    auth_time: Math.floor(clock.now / 1000),
    sid: claims['sid'],
  })

  isOAuthError(
    t,
    await stepUp(fresh.access_token, { acr_values: 'urn:example:gold' }),
    400,
    'unmet_authentication_requirements',
    'a level that nobody knows',
  )
  isOAuthError(t, await stepUp(fresh.access_token, { max_age: 'x' }), 400, 'invalid_request', 'max_age')
  isOAuthError(t, await stepUp(`${fresh.access_token}x`), 401, 'invalid_token', 'a token that is none')
  isMore(t, await stepUp(fresh.access_token, { max_age: '0' }), ['password'], 'max_age=0 is now')
})

overStores(
  'AUTH_MFA=required: who has no factor enrolls one on the way in, and no session goes on without',
  async (t, build) => {
    const first = await build()
    await signUp(first.app)
    const before = await logIn(first.app)
    const { app, clock } = await first.restart({ AUTH_MFA: 'required' })
    const refused = await refresh(app, before.refresh_token)
    const ofSession = isMore(t, refused, ['password'], 'a refresh', 403)
    isMore(t, await logInByPassword(app), ['enroll'], 'the password grant', 403)
    const value = isMore(t, await begin(app), ['enroll'], 'the first step')
    const wayward = await challenge(app, { auth_session: value, otp: '123456' })
    const again = isMore(t, wayward, ['enroll'], 'a code of nothing')
    const offer = await challenge(app, { auth_session: again, enroll: 'totp' })
    const next = isMore(t, offer, ['totp'], 'enroll=totp')
    const { totp } = json(offer)
    t.match(totp, { secret: /^[A-Z2-7]{32}$/, uri: /^otpauth:\/\/totp\//, qr: /^<svg.*<\/svg>$/ })
    const miss = await challenge(app, { auth_session: next, otp: wrongCode(totp.secret, clock.now) })
    const last = isMore(t, miss, ['totp'], 'a wrong code enrolls nothing')
    t.equal(json(miss).totp.secret, totp.secret, 'and the secret stays the same')
    const done = await challenge(app, { auth_session: last, otp: codeOf(totp.secret, clock.now) })
    t.equal(done.statusCode, 200)
    const tokens = json(await exchange(app, json(done).authorization_code))
    t.match(claimsOf(tokens.access_token), { acr: twoFactors, amr: ['pwd', 'otp', 'mfa'] })
    const replay = await challenge(app, {
      auth_session: json(await begin(app)).auth_session,
      otp: codeOf(totp.secret, clock.now),
    })
    isMore(t, replay, ['totp'], 'the code that enrolled it is spent')

    t.equal((await refresh(app, before.refresh_token)).statusCode, 200, 'nothing was rotated meanwhile')
    isMore(
      t,
      await challenge(app, { auth_session: ofSession, password }),
      ['totp'],
      'its step-up asks for what there is',
    )
  },
)

onOneStore('AUTH_MFA=admins is for administrators alone', async (t, build) => {
  const { app } = await build({ AUTH_MFA: 'admins' })
  await signUp(app)
  const { id } = json(await signUp(app, 'root'))
  await giveRoles(storeOf(app), id, ['admin'])
  t.equal((await begin(app)).statusCode, 200)
  isMore(t, await begin(app, 'root'), ['enroll'], 'root')
})

overStores('one throttle across password and factors: a right password resets nothing', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const { secret } = await giveTotp(app)
  let wrong = 0
  while (wrong < 10) {
    let { auth_session } = json(await begin(app))
    for (let i = 0; i < 4 && wrong < 10; i++, wrong++) {
      const answer = await challenge(app, { auth_session, otp: wrongCode(secret, clock.now) })
      auth_session = json(answer).auth_session
    }
  }
  t.equal((await begin(app)).statusCode, 429, 'ten wrong codes, with right passwords between them')
  const elsewhere = await challenge(app, { username: 'ada', password }, from('198.51.100.7'))
  const { auth_session } = json(elsewhere)
  t.equal(
    (await challenge(app, { auth_session, otp: codeOf(secret, clock.now) }, from('198.51.100.7'))).statusCode,
    200,
    'the owner comes in from elsewhere',
  )
  clock.now += 31_000
  await signInWithCode(app, codeOf(secret, clock.now))
  t.match(json(await begin(app)), { error: 'insufficient_authorization' }, 'a whole sign-in resets the count')
})

overStores('one code twice at once, over two replicas: one sign-in', async (t, build) => {
  const first = await build()
  const { app, clock } = first
  const second = await first.beside()
  await signUp(app)
  const { secret } = await giveTotp(app)
  const apps = [app, second.app]
  for (let round = 0; round < 5; round++) {
    const flows = await Promise.all(Array.from({ length: 8 }, (_, i) => begin(apps[i % 2] as FastifyInstance)))
    const otp = codeOf(secret, clock.now)
    const answers = await Promise.all(
      flows.map((flow, i) => challenge(apps[i % 2] as FastifyInstance, { auth_session: json(flow).auth_session, otp })),
    )
    t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 1, `round ${round}`)
    clock.now += 30_000
  }
})

overStores('step-up without a factor: the password, and tokens then say when', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const { access_token, refresh_token } = await logIn(app)
  const stepUp = (fields: Record<string, string>) =>
    challenge(app, fields, { headers: { authorization: `Bearer ${access_token}` } })
  t.equal((await stepUp({ max_age: '300' })).statusCode, 200, 'fresh enough')
  clock.now += 6 * minute
  const value = isMore(t, await stepUp({ max_age: '300' }), ['password'], 'not any more')
  const done = await challenge(app, { auth_session: value, password })
  const raised = claimsOf(json(await exchange(app, json(done).authorization_code)).access_token)
  t.match(raised, { acr: oneFactor, amr: ['pwd'], auth_time: Math.floor(clock.now / 1000) })
  t.match(claimsOf(json(await refresh(app, refresh_token)).access_token), { auth_time: raised['auth_time'] })
  const toTwo = await stepUp({ acr_values: `${twoFactors} ${oneFactor}` })
  const enrolling = isMore(t, toTwo, ['enroll'], 'a level that needs a factor')
  t.equal((await challenge(app, { auth_session: enrolling, enroll: 'totp' })).statusCode, 400)

  await giveTotp(app)
  const low = json(await exchange(app, json(await stepUp({ acr_values: oneFactor })).authorization_code))
  t.match(claimsOf(low.access_token), { acr: oneFactor, auth_time: raised['auth_time'] }, 'the lower level, as it is')
})

overStores('factors that come and go while a sign-in is under way', async (t, build) => {
  const { app, clock } = await build()
  const { id } = json(await signUp(app))
  const { secret, id: factor } = await giveTotp(app)
  const flow = json(await begin(app)).auth_session
  const wanting = json(await begin(app, 'ada', { acr_values: twoFactors })).auth_session
  const user = { id }
  const caller = callerFrom('192.0.2.1', app.log)
  const remove = () =>
    app.factors.change(caller, user, (factors) => ({ next: factors.filter((one) => one.id !== factor) }))
  t.equal(await remove(), true)
  const otp = codeOf(secret, clock.now)
  isOAuthError(t, await challenge(app, { auth_session: flow, otp }), 400, 'invalid_session', 'the factor is gone')
  const enroll = isMore(t, await challenge(app, { auth_session: wanting, otp }), ['enroll'], 'another is to be had')
  const offer = await challenge(app, { auth_session: enroll, enroll: 'totp' })
  const next = isMore(t, offer, ['totp'], 'it is offered')
  const other = await giveTotp(app)
  const ofOffer = codeOf(json(offer).totp.secret, clock.now)
  const refused = await challenge(app, { auth_session: next, otp: ofOffer })
  const last = isMore(t, refused, ['totp'], 'one came first: who has a password alone adds no other')
  t.notOk('totp' in json(refused), 'nothing is offered any more')
  t.equal((await challenge(app, { auth_session: last, otp: codeOf(other.secret, clock.now) })).statusCode, 200)
})

overStores('a store that fails in the last step has spent nothing', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const { secret } = await giveTotp(app)
  const [recovery_code = ''] = await giveRecoveryCodes(app)
  for (const shown of [{ otp: codeOf(secret, clock.now) }, { recovery_code }] as Record<string, string>[]) {
    const failing = json(await begin(app)).auth_session
    const mend = failStore(app, /^issueRecord$/)
    const failed = await challenge(app, { auth_session: failing, ...shown })
    mend()
    isOAuthError(t, failed, 503, 'temporarily_unavailable', Object.keys(shown).join())
    const { auth_session } = json(await begin(app))
    t.equal((await challenge(app, { auth_session, ...shown })).statusCode, 200, 'and it is good when asked again')
  }
})
