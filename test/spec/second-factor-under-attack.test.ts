import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { User } from '../../domain/user.ts'
import { isOAuthError, makeClient } from '../support/client-helper.ts'
import {
  begin,
  challenge,
  codeOf,
  exchange,
  giveRecoveryCodes,
  giveTotp,
  signInWithCode,
  wrongCode,
} from '../support/factors.ts'
import {
  claimsOf,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  type Tokens,
  withToken,
} from '../support/helper.ts'
import { watchStore } from '../support/store-calls.ts'

/* What strangers, thieves of tokens, wrong clocks and a failing store get out of sign-ins with a second factor. */

const minute = 60_000
const stepUp = (app: FastifyInstance, token: string, fields: Record<string, string> = {}) =>
  challenge(app, fields, { headers: { authorization: `Bearer ${token}` } })

/** So many, some at once. */
async function times(count: number, ask: () => Promise<LightMyRequestResponse>): Promise<LightMyRequestResponse[]> {
  const answers: LightMyRequestResponse[] = []
  while (answers.length < count) answers.push(...(await Promise.all(Array.from({ length: 91 }, ask))))
  return answers
}

onOneStore('an access token alone gives an access token that is no more than it is', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const of = await makeClient(app, {
    ...{ id: 'own', type: 'public', firstParty: true, scopes: ['files:read', 'files:write'] },
    ...{
      grants: ['password', 'authorization_code', 'refresh_token'],
      audience: ['https://a.example', 'https://b.example'],
    },
  })
  const client_id = of.id
  const whole = json(await postForm(app, '/token', { username: 'ada', password, client_id }))
  const narrowing = { scope: 'files:read', resource: 'https://a.example' }
  const grant = { grant_type: 'refresh_token', refresh_token: whole.refresh_token, client_id }
  const narrow = json(await postForm(app, '/token', { ...grant, ...narrowing }))
  const { exp, sid } = claimsOf(narrow.access_token)

  clock.now += minute
  const { authorization_code: code } = json(await stepUp(app, narrow.access_token, { client_id, max_age: '300' }))
  const given = json(await exchange(app, code, { client_id }))
  t.notOk('refresh_token' in given, 'an API that got an access token keeps nothing that lasts')
  t.match(claimsOf(given.access_token), { scope: 'files:read', aud: 'https://a.example', exp, sid })
  t.equal(given.expires_in, 540)
  const resource = 'https://b.example'
  isOAuthError(t, await stepUp(app, narrow.access_token, { client_id, resource }), 400, 'invalid_target', 'another API')

  const lowering = json(await stepUp(app, narrow.access_token, { client_id, acr_values: 'urn:latchkey:acr:1' }))
  const { auth_session } = json(await stepUp(app, narrow.access_token, { client_id, max_age: '0' }))
  const raising = json(await challenge(app, { client_id, auth_session, password }))
  const raised = claimsOf(json(await exchange(app, raising.authorization_code, { client_id })).access_token)
  const low = claimsOf(json(await exchange(app, lowering.authorization_code, { client_id })).access_token)
  t.equal(low['auth_time'], raised['auth_time'], 'nor does it take back what the user has shown meanwhile')

  const spare = json(await stepUp(app, narrow.access_token, { client_id })).authorization_code
  clock.now += 9 * minute
  isOAuthError(t, await exchange(app, spare, { client_id }), 400, 'invalid_grant', 'the token has expired meanwhile')
  const next = { ...grant, refresh_token: narrow.refresh_token }
  t.equal((await postForm(app, '/token', next)).statusCode, 200, 'which ends nothing')
})

onOneStore('tokens that raise no session', async (t, build) => {
  const settings = { AUTH_REFRESH_MAX_TTL: '5m', AUTH_ACCESS_TTL: '10m' }
  const { app, clock } = await build(settings)
  const { id } = json(await signUp(app))
  const tokens = await logIn(app)
  const other = await makeClient(app, {
    ...{ id: 'other', type: 'public', firstParty: true, grants: ['password', 'authorization_code', 'refresh_token'] },
  })
  const service = await makeClient(app, { id: 'service', grants: ['client_credentials'] })
  const ofService = { grant_type: 'client_credentials', client_id: service.id, client_secret: service.secret }
  const none = async (token: string, what: string, fields = {}) =>
    isOAuthError(t, await stepUp(app, token, fields), 400, 'invalid_grant', what)
  await none(tokens.access_token, "another client's", { client_id: other.id })
  await none(json(await postForm(app, '/token', ofService)).access_token, "a client's own")
  const acting = { sid: claimsOf(tokens.access_token).sid as string, sub: id, client_id: 'first-party' }
  const [aud, actor] = ['http://localhost:3000', { sub: id, jti: claimsOf(tokens.access_token).jti as string }]
  const user = await storeOf(app).findUser(id)
  const generations = { user: user?.generation ?? 0, client: 0 }
  await none(await app.accessTokens.issue({ ...acting, aud, actor, generations }), "an administrator's, for the user")
  isOAuthError(t, await stepUp(app, tokens.refresh_token), 401, 'invalid_token', 'a refresh token')

  const ended = await logIn(app)
  const late = json(await stepUp(app, ended.access_token, { max_age: '0' })).auth_session
  await withToken(app, ended.access_token, { method: 'POST', url: '/logout' })
  isOAuthError(t, await stepUp(app, ended.access_token), 401, 'invalid_token', 'of a session that has ended')
  const { authorization_code } = json(await challenge(app, { auth_session: late, password }))
  isOAuthError(t, await exchange(app, authorization_code), 400, 'invalid_grant', 'that ended meanwhile')

  const open = json(await stepUp(app, tokens.access_token, { max_age: '0' })).auth_session
  clock.now += 6 * minute
  isOAuthError(t, await refresh(app, tokens.refresh_token), 400, 'invalid_grant', 'of a session that is over')
  await none(tokens.access_token, 'whose access token is still good')
  const last = json(await challenge(app, { auth_session: open, password })).authorization_code
  isOAuthError(t, await exchange(app, last), 400, 'invalid_grant', 'that was over meanwhile')
})

onOneStore('a code that comes again ends what it gave, however short access tokens live', async (t, build) => {
  const { app, clock } = await build({ AUTH_ACCESS_TTL: '5s' })
  await signUp(app)
  const { authorization_code: code } = json(await begin(app))
  const tokens = json(await exchange(app, code))
  clock.now += 59_000
  isOAuthError(t, await exchange(app, code), 400, 'invalid_grant', 'a second use')
  isOAuthError(t, await refresh(app, tokens.refresh_token), 400, 'invalid_grant', 'the session')
})

overStores('a clock that was wrong locks nobody out, and takes no code twice', async (t, build) => {
  const { app, clock } = await build({ AUTH_THROTTLE: 'off' })
  await signUp(app)
  const { secret } = await giveTotp(app)
  clock.now += 60 * minute
  await signInWithCode(app, codeOf(secret, clock.now))
  clock.now -= 60 * minute
  const otp = codeOf(secret, clock.now)
  t.match(await signInWithCode(app, otp), { access_token: String })
  await t.rejects(signInWithCode(app, otp), /was wrong/)
})

onOneStore('what is no answer of an authenticator is a wrong one', async (t, build) => {
  const { app, logs } = await build()
  await signUp(app)
  const handles: unknown[] = [
    { toString: 1 },
    { toString: 'x', valueOf: 1 },
    [[]],
    [null],
    5,
    true,
    '',
    'AAAA',
    '\0',
    'x'.repeat(9_000),
  ]
  const ofHandles = handles.map((userHandle) => JSON.stringify({ id: 'x', response: { userHandle } }))
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
  const deep = `{"id":"x","response":{"userHandle":${nested(2_000)}}}`
  const texts = ['null', '[]', '1', '"x"', '{', '{}', '{"id":1}', '{"id":"x","response":null}', nested(2_000), deep]
  const poison = ['{"__proto__":{"id":"x"}}', '{"id":"__proto__","response":{"userHandle":"constructor"}}']
  let { auth_session } = json(await challenge(app, { method: 'webauthn' }))
  for (const [n, webauthn] of [...ofHandles, ...texts, ...poison].entries()) {
    if (n % 4 === 0) ({ auth_session } = json(await challenge(app, { method: 'webauthn' })))
    const answer = await challenge(app, { auth_session, webauthn })
    isOAuthError(t, answer, 400, 'insufficient_authorization', webauthn.slice(0, 60))
    ;({ auth_session } = json(answer))
  }
  t.notOk(logs.some(({ level }) => (level as number) >= 50))
})

onOneStore('who begins a thousand sign-ins keeps nobody in the network from theirs', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const { secret } = await giveTotp(app)
  const { auth_session } = json(await begin(app))
  const flood = await times(1_001, () => challenge(app, { method: 'webauthn' }))
  t.ok(flood.every((answer) => json(answer).error === 'insufficient_authorization'))
  const { authorization_code } = json(await challenge(app, { auth_session, otp: codeOf(secret, clock.now) }))
  const { access_token } = json(await exchange(app, authorization_code))
  const codes = await times(101, () => stepUp(app, access_token))
  t.ok(
    codes.every(({ statusCode }) => statusCode === 200),
    'nor who has an access token, and asks for codes',
  )
})

onOneStore(
  'AUTH_MFA=required: a session gets no code that gives nothing, and an app that refreshes on and on',
  async (t, build) => {
    const first = await build()
    await signUp(first.app)
    const tokens = await logIn(first.app)
    const { app, clock } = await first.restart({ AUTH_MFA: 'required' })
    for (const fields of [{}, { acr_values: 'urn:latchkey:acr:1' }])
      t.same(json(await stepUp(app, tokens.access_token, fields)).challenges, ['enroll'])
    const answers = await times(1_001, () => refresh(app, tokens.refresh_token))
    t.ok(answers.every(({ statusCode }) => statusCode === 403))
    const { auth_session } = json(await begin(app))
    const [recovery_code = ''] = await giveRecoveryCodes(app)
    const around = await challenge(app, { auth_session, recovery_code })
    isOAuthError(t, around, 400, 'insufficient_authorization', 'a recovery code is no way around')
    const { totp, ...next } = json(await challenge(app, { auth_session: json(around).auth_session, enroll: 'totp' }))
    const otp = codeOf(totp.secret, clock.now)
    t.equal((await challenge(app, { auth_session: next.auth_session, otp })).statusCode, 200, 'its user signs in')
  },
)

overStores('who relies on a factor that is removed meanwhile changes none', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const [stolen, kept] = [await giveTotp(app), await giveTotp(app)]
  const thief = await signInWithCode(app, codeOf(stolen.secret, clock.now))
  const owner = await signInWithCode(app, codeOf(kept.secret, clock.now))
  const call = (tokens: Tokens, method: 'POST' | 'DELETE', path: string, payload?: object) =>
    withToken(app, tokens.access_token, { method, url: `/users/me/factors${path}`, ...(payload && { payload }) })
  const { id, secret } = json(await call(thief, 'POST', '/totp'))
  const attempts: Record<string, () => Promise<LightMyRequestResponse>> = {
    removes: () => call(thief, 'DELETE', `/${kept.id}`),
    'makes codes': () => call(thief, 'POST', '/recovery-codes'),
    adds: () => call(thief, 'POST', `/totp/${id}/confirm`, { code: codeOf(secret, clock.now) }),
  }
  const store = storeOf(app)
  const { findFactors } = store
  for (const [what, attempt] of Object.entries(attempts)) {
    let reads = 0
    // Between the look at the session and the change.
    store.findFactors = async (userId) => {
      reads += 1
      if (reads === 2) t.equal((await call(owner, 'DELETE', `/${stolen.id}`)).statusCode, 204)
      return findFactors.call(store, userId)
    }
    const answer = await attempt()
    store.findFactors = findFactors
    t.equal(answer.statusCode, 401, what)
    t.equal(json(answer).type, 'urn:latchkey:problem:insufficient_user_authentication', what)
    const { userId, factors, version } = await app.factors.of(claimsOf(owner.access_token).sub as string)
    t.same(
      factors.map(({ id }) => id),
      [kept.id],
      what,
    )
    // As it was, for the next attempt.
    const back = { ...(factors[0] as (typeof factors)[number]), id: stolen.id, name: 'stolen' }
    const raising = {
      sessionId: claimsOf(thief.access_token).sid as string,
      authAt: clock.now,
      amr: ['pwd' as const],
      factor: stolen.id,
    }
    await store.changeFactors({ userId, expectedVersion: version, next: [...factors, back], raising })
  }
})

overStores(
  'a store that fails at any step is 503: no code, no token, and nothing that is good twice',
  async (t, build) => {
    const { app, clock } = await build({ AUTH_MFA: 'optional' })
    await signUp(app)
    const before = await logIn(app)
    const { secret } = await giveTotp(app)
    const codes = await giveRecoveryCodes(app)
    const watched = watchStore(app)
    const next = () => {
      clock.now += 30_000
      return codeOf(secret, clock.now)
    }
    const session = async () => json(await begin(app)).auth_session
    const whole = async (answer: LightMyRequestResponse) => json(answer).authorization_code
    /** What each step needs, and the step: made anew for each failure. */
    const steps: Record<string, () => Promise<() => Promise<LightMyRequestResponse>>> = {
      'a password': async () => () => begin(app),
      'a passkey': async () => () => challenge(app, { method: 'webauthn' }),
      'a code': async () => {
        const [auth_session, otp] = [await session(), next()]
        return () => challenge(app, { auth_session, otp })
      },
      'a wrong code': async () => {
        next()
        const [auth_session, otp] = [await session(), wrongCode(secret, clock.now)]
        return () => challenge(app, { auth_session, otp })
      },
      'a recovery code': async () => {
        const [auth_session, recovery_code] = [await session(), codes.shift() as string]
        return () => challenge(app, { auth_session, recovery_code })
      },
      'an exchange': async () => {
        const code = await whole(await challenge(app, { auth_session: await session(), otp: next() }))
        return () => exchange(app, code)
      },
      'a step-up': async () => {
        const { access_token } = json(await refresh(app, before.refresh_token))
        return () => stepUp(app, access_token, { max_age: '0' })
      },
      'the exchange of a step-up': async () => {
        const { access_token } = json(await refresh(app, before.refresh_token))
        const { auth_session } = json(await stepUp(app, access_token, { max_age: '0' }))
        const half = json(await challenge(app, { auth_session, password })).auth_session
        const code = await whole(await challenge(app, { auth_session: half, otp: next() }))
        return () => exchange(app, code)
      },
    }
    for (const [what, prepare] of Object.entries(steps)) {
      for (let failsAt = 0; ; failsAt++) {
        const step = await prepare()
        const { names, result } = await watched.of(step, failsAt)
        if (names.length <= failsAt) {
          t.ok(failsAt > 0 && [200, 400].includes(result.statusCode), `${what}: ${names}`)
          break
        }
        isOAuthError(t, result, 503, 'temporarily_unavailable', `${what}: ${names[failsAt]}`)
        const again = await Promise.all([step(), step()])
        t.ok(again.filter(({ statusCode }) => statusCode === 200).length <= 1, `${what}, twice more`)
      }
    }
  },
)

/** What ends whatever a user has under way, by somebody who is not that. */
const ends: Record<string, (app: FastifyInstance, user: User, elsewhere: Tokens) => Promise<unknown>> = {
  'another password': (app, _, elsewhere) =>
    withToken(app, elsewhere.access_token, {
      ...{ method: 'POST', url: '/users/me/password' },
      payload: { current_password: password, new_password: 'another horse, another battery' },
    }),
  'the end of all sessions': (app, _, elsewhere) =>
    withToken(app, elsewhere.access_token, { method: 'DELETE', url: '/users/me/sessions' }),
  'a reset of the factors': (app, { id }) => app.userAdmin.resetFactors({ log: app.log }, id),
  'being disabled, and enabled again': async (app, { id }) => {
    await app.userAdmin.disable({ log: app.log }, id)
    await app.userAdmin.enable({ log: app.log }, id)
  },
  'being deleted, and another of the name': async (app, { id, username }) => {
    await app.userAdmin.delete({ log: app.log }, id)
    await signUp(app, username)
    await giveTotp(app, username)
  },
}

overStores('whatever a user has under way ends with what ends their sessions', async (t, build) => {
  const { app, clock } = await build()
  for (const [n, [what, end]] of Object.entries(ends).entries()) {
    const name = `ada${n}`
    await signUp(app, name)
    const { secret } = await giveTotp(app, name)
    const user = await storeOf(app).findUserByName(name)
    if (!user) throw new Error('there is none')
    const next = () => {
      clock.now += 30_000
      return codeOf(secret, clock.now)
    }
    const elsewhere = await signInWithCode(app, next(), name)
    const { access_token: token } = await signInWithCode(app, next(), name)
    const post = (url: string, payload: object) => withToken(app, token, { method: 'POST', url, payload })
    const answerTo = async (answer: Promise<LightMyRequestResponse>) => json(await answer)
    const whole = await answerTo(begin(app, name))
    const { authorization_code: code } = await answerTo(
      challenge(app, { auth_session: whole.auth_session, otp: next() }),
    )
    const { auth_session: flow } = await answerTo(begin(app, name))
    const { auth_session: raising } = await answerTo(stepUp(app, token, { max_age: '0' }))
    const { authorization_code: raised } = await answerTo(stepUp(app, token))
    const enrolling = await answerTo(post('/users/me/factors/totp', {}))

    await end(app, user, elsewhere)
    await app.revocations.pull()
    const otp = next()
    for (const fields of [{ otp }, { password }, { recovery_code: 'x' }, { enroll: 'totp' }])
      isOAuthError(t, await challenge(app, { auth_session: flow, ...fields }), 400, 'invalid_session', what)
    isOAuthError(t, await challenge(app, { auth_session: raising, password }), 400, 'invalid_session', what)
    for (const one of [code, raised]) isOAuthError(t, await exchange(app, one), 400, 'invalid_grant', what)
    const payload = { code: codeOf(enrolling.secret, clock.now) }
    t.equal((await post(`/users/me/factors/totp/${enrolling.id}/confirm`, payload)).statusCode, 401, what)
    t.equal((await stepUp(app, token)).statusCode, 401, what)
  }
})

overStores(
  'AUTH_MFA=required: of the owner and a thief of the password, one adds the first factor',
  async (t, build) => {
    const { app, clock, beside } = await build({ AUTH_MFA: 'required' })
    const both = [app, (await beside()).app] as const
    await signUp(app)
    const flows = await Promise.all(both.map((app) => begin(app)))
    const offers = await Promise.all(
      flows.map((flow, i) =>
        challenge(both[i] as FastifyInstance, { auth_session: json(flow).auth_session, enroll: 'totp' }),
      ),
    )
    // Each is sent twice, over both replicas: four that would be the first.
    const answers = await Promise.all(
      [...offers, ...offers].map((offer, i) => {
        const { auth_session, totp } = json(offer)
        return challenge(both[i % 2 === Math.floor(i / 2) ? 0 : 1], {
          auth_session,
          otp: codeOf(totp.secret, clock.now),
        })
      }),
    )
    t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 1)
    const user = await storeOf(app).findUserByName('ada')
    t.equal((await app.factors.of(user?.id ?? '')).factors.length, 1)
    const others = answers.filter(({ statusCode }) => statusCode !== 200).map((answer) => json(answer))
    for (const { error, totp, auth_session } of others) {
      t.notOk(totp, `${error}: there is nothing to add any more`)
      if (error === 'invalid_session') continue
      const again = await challenge(app, { auth_session, enroll: 'totp' })
      isOAuthError(t, again, 400, 'insufficient_authorization', 'who asks all the same')
      t.match(json(again), { challenges: ['totp'], totp: undefined }, 'is asked for what there is')
    }
  },
)
