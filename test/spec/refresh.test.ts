import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import {
  challenges,
  challengeTo,
  claimsOf,
  isAccepted,
  json,
  logIn,
  onOneStore,
  overStores,
  postForm,
  refresh,
  signUp,
  storeOf,
  type Tokens,
  withToken,
} from '../support/helper.ts'

const second = 1000
const day = 24 * 3600 * second

async function rotate(app: FastifyInstance, refreshToken: string): Promise<Tokens> {
  const response = await refresh(app, refreshToken)
  if (response.statusCode !== 200) throw new Error(`refresh failed: ${response.body}`)
  return json(response)
}

async function refuses(t: Test, app: FastifyInstance, refreshToken: string, message: string): Promise<void> {
  const response = await refresh(app, refreshToken)
  t.equal(response.statusCode, 400, message)
  t.same(json(response), { error: 'invalid_grant', error_description: 'The refresh token is not valid' })
}

/** The session of a refresh token, and how far its counter is. */
function partsOf(app: FastifyInstance, refreshToken: string): { sessionId: string; counter: number } {
  const parts = app.refreshTokens.decode(refreshToken)
  if (!parts) throw new Error('no refresh token of this app')
  return parts
}

overStores('c = C rotates: C+1, a new pair, the same session', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const first = await logIn(app)
  const response = await refresh(app, first.refresh_token)
  t.equal(response.statusCode, 200)
  const next = json(response)
  t.match(next, { token_type: 'Bearer', expires_in: 600 })
  const { sessionId, counter } = partsOf(app, first.refresh_token)
  t.same(partsOf(app, next.refresh_token), { sessionId, counter: counter + 1 })
  t.not(claimsOf(next.access_token)['jti'], claimsOf(first.access_token)['jti'])
  t.equal(claimsOf(next.access_token)['sid'], sessionId)
  t.ok(await isAccepted(app, next.access_token))
  t.ok(await isAccepted(app, first.access_token), 'the access token before lives out its life')
})

overStores(
  'c = C-1 within the grace gives the same successor again, with a fresh access token; nothing advances',
  async (t, build) => {
    const { app, clock } = await build()
    await signUp(app)
    const first = await logIn(app)
    const next = await rotate(app, first.refresh_token)
    for (const wait of [0, 10, 20]) {
      clock.now += wait * second
      const again = await rotate(app, first.refresh_token)
      t.equal(again.refresh_token, next.refresh_token)
      t.not(again.access_token, next.access_token)
      t.ok(await isAccepted(app, again.access_token))
    }
    t.equal(
      partsOf(app, (await rotate(app, next.refresh_token)).refresh_token).counter,
      2,
      'the session goes on from there',
    )
  },
)

overStores('the grace is counted from the rotation, not from the last retry', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const first = await logIn(app)
  await rotate(app, first.refresh_token)
  clock.now += 20 * second
  await rotate(app, first.refresh_token)
  clock.now += 11 * second
  await refuses(t, app, first.refresh_token, '31 s after the rotation')
})

onOneStore('AUTH_REFRESH_GRACE sets the grace', async (t, build) => {
  for (const [setting, seconds] of [
    ['5s', 5],
    ['2m', 120],
  ] as const) {
    const { app, clock } = await build({ AUTH_REFRESH_GRACE: setting })
    await signUp(app)
    const first = await logIn(app)
    const next = await rotate(app, first.refresh_token)
    clock.now += seconds * second
    t.equal((await rotate(app, first.refresh_token)).refresh_token, next.refresh_token)
    clock.now += 1
    await refuses(t, app, first.refresh_token, `after ${setting}`)
  }
})

overStores(
  'c = C-1 beyond the grace is theft: the session and its access tokens are revoked, and an event is logged',
  async (t, build) => {
    const { app, clock, logs } = await build()
    await signUp(app)
    const other = await logIn(app)
    const first = await logIn(app)
    const next = await rotate(app, first.refresh_token)
    clock.now += 31 * second
    await refuses(t, app, first.refresh_token, 'the spent token')
    await refuses(t, app, next.refresh_token, 'the one that was good')
    t.equal(await challengeTo(app, first.access_token), challenges.revoked)
    t.equal(await challengeTo(app, next.access_token), challenges.revoked)
    const events = logs.filter(({ event }) => event === 'refresh.reused')
    t.match(events, [
      { sid: partsOf(app, first.refresh_token).sessionId, sub: String, client_id: 'first-party', address: '127.0.0.1' },
    ])
    t.equal(events.length, 1)

    t.ok(await isAccepted(app, other.access_token), 'another session of the user is untouched')
    t.ok(await rotate(app, other.refresh_token))
  },
)

overStores('any older counter is theft, within the grace too', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const first = await logIn(app)
  const next = await rotate(app, first.refresh_token)
  const last = await rotate(app, next.refresh_token)
  await refuses(t, app, first.refresh_token, 'two rotations ago')
  await refuses(t, app, last.refresh_token, 'the session is gone')
  for (const { access_token } of [first, next, last]) t.equal(await challengeTo(app, access_token), challenges.revoked)
})

overStores('a spent token that comes fifty times at once ends its session once', async (t, build) => {
  const { app, logs } = await build()
  await signUp(app)
  const first = await logIn(app)
  const last = await rotate(app, (await rotate(app, first.refresh_token)).refresh_token)
  const answers = await Promise.all(Array.from({ length: 50 }, () => refresh(app, first.refresh_token)))
  t.ok(answers.every(({ statusCode }) => statusCode === 400))
  t.equal(logs.filter(({ event }) => event === 'refresh.reused').length, 1)
  await refuses(t, app, last.refresh_token, 'the session is gone')
})

overStores(
  'c > C with a good MAC is a store that lost its tail: it is accepted and goes on from c',
  async (t, build) => {
    const { app, clock } = await build()
    await signUp(app)
    const first = await logIn(app)
    const { sessionId } = partsOf(app, first.refresh_token)
    const lost = app.refreshTokens.encode(sessionId, 7)
    const next = await rotate(app, lost)
    t.same(partsOf(app, next.refresh_token), { sessionId, counter: 8 })
    t.equal((await rotate(app, lost)).refresh_token, next.refresh_token, 'a retry of it is as benign as any')
    clock.now += 31 * second
    await refuses(t, app, app.refreshTokens.encode(sessionId, 6), 'what came before it is spent')
    await refuses(t, app, next.refresh_token, 'and its return ends the session')
  },
)

overStores('fifty refreshes at once with one token yield one lineage', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { refresh_token } = await logIn(app)
  const answers = await Promise.all(Array.from({ length: 50 }, () => refresh(app, refresh_token)))
  t.ok(
    answers.every(({ statusCode }) => statusCode === 200),
    'all are answered',
  )
  const tokens: Tokens[] = answers.map(json)
  const successors = new Set(tokens.map((token) => token.refresh_token))
  t.equal(successors.size, 1, 'with the same successor')
  t.equal(new Set(tokens.map((token) => claimsOf(token.access_token)['jti'])).size, 50)
  const [successor] = successors
  t.equal(partsOf(app, successor as string).counter, 1)
  t.equal(partsOf(app, (await rotate(app, successor as string)).refresh_token).counter, 2, 'which goes on')
})

overStores('refreshes that race with a logout leave nothing alive', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const first = await logIn(app)
  const race = Array.from({ length: 20 }, () => refresh(app, first.refresh_token))
  await Promise.any(race)
  const logout = withToken(app, first.access_token, { method: 'POST', url: '/logout' })
  race.push(...Array.from({ length: 20 }, () => refresh(app, first.refresh_token)))
  t.equal((await logout).statusCode, 204)
  const won: Tokens[] = (await Promise.all(race)).filter(({ statusCode }) => statusCode === 200).map(json)
  t.ok(won.length > 0)
  for (const tokens of [first, ...won]) {
    t.equal(await challengeTo(app, tokens.access_token), challenges.revoked)
    await refuses(t, app, tokens.refresh_token, 'the session has ended')
  }
})

overStores('two hundred refreshes leave one session and nothing else', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  let tokens = await logIn(app)
  for (let count = 0; count < 200; count += 1) tokens = await rotate(app, tokens.refresh_token)
  t.equal(partsOf(app, tokens.refresh_token).counter, 200)
  const { sub } = claimsOf(tokens.access_token) as { sub: string }
  const { sessions } = await app.store.listSessions(sub, app.sessions.limits(), { limit: 1000 })
  t.equal(sessions.length, 1)
  t.same((await app.store.revocationsSince()).revocations, [])
})

onOneStore('a text that this server did not make is refused before the store is read', async (t, build) => {
  const { app } = await build()
  const foreign = await build()
  await signUp(app)
  const { access_token, refresh_token } = await logIn(app)
  const { sessionId, counter } = partsOf(app, refresh_token)
  let reads = 0
  const store = storeOf(app)
  for (const name of ['rotateSession', 'findSession', 'findUser'] as const) {
    const original = store[name] as (...args: unknown[]) => unknown
    const counted = (...args: unknown[]) => {
      reads += 1
      return original(...args)
    }
    Object.assign(store, { [name]: counted })
  }

  const flipped = [...refresh_token].map(
    (character, at) => refresh_token.slice(0, at) + (character === 'A' ? 'B' : 'A') + refresh_token.slice(at + 1),
  )
  const garbage = [
    'lkr_',
    'x',
    access_token,
    refresh_token.slice(4),
    `${refresh_token}A`,
    `${refresh_token}=`,
    ` ${refresh_token}`,
  ]
  for (const text of [...flipped, ...garbage, foreign.app.refreshTokens.encode(sessionId, counter)]) {
    const response = await refresh(app, text)
    if (response.statusCode !== 400 || json(response).error !== 'invalid_grant')
      t.fail(`taken or badly refused: ${response.body}`)
  }
  t.equal(reads, 0)
  t.ok(await rotate(app, refresh_token), 'and the session is untouched')
  t.equal(reads, 1)
})

overStores('a session that is not refreshed for AUTH_REFRESH_IDLE_TTL ends', async (t, build) => {
  for (const [settings, idle] of [
    [{}, 30 * day],
    [{ AUTH_REFRESH_IDLE_TTL: '1h' }, 3600 * second],
  ] as const) {
    const { app, clock } = await build(settings)
    await signUp(app)
    let { refresh_token } = await logIn(app)
    for (let count = 0; count < 2; count += 1) {
      clock.now += idle - 1
      ;({ refresh_token } = await rotate(app, refresh_token))
    }
    clock.now += idle
    await refuses(t, app, refresh_token, 'idle for too long')
  }
})

overStores('a session ends at AUTH_REFRESH_MAX_TTL, however much it is used', async (t, build) => {
  for (const [settings, most] of [
    [{}, 90 * day],
    [{ AUTH_REFRESH_MAX_TTL: '2d' }, 2 * day],
  ] as const) {
    const { app, clock } = await build(settings)
    await signUp(app)
    let { refresh_token } = await logIn(app)
    const openedAt = clock.now
    for (let count = 1; count <= 5; count += 1) {
      clock.now = openedAt + Math.min((most / 5) * count, most - 1)
      ;({ refresh_token } = await rotate(app, refresh_token))
    }
    clock.now = openedAt + most
    await refuses(t, app, refresh_token, 'at its age')
    t.same((await app.store.revocationsSince()).revocations, [], 'which is no theft')
  }
})

overStores('sessions outlive a restart, and so does the memory of what is spent', async (t, build) => {
  const first = await build()
  await signUp(first.app)
  const login = await logIn(first.app)
  const next = await rotate(first.app, login.refresh_token)
  const retried = await first.restart()
  t.equal(
    (await rotate(retried.app, login.refresh_token)).refresh_token,
    next.refresh_token,
    'a lost response can be asked for again',
  )
  const last = await rotate(retried.app, next.refresh_token)
  const again = await retried.restart()
  await refuses(t, again.app, login.refresh_token, 'the spent token')
  const after = await again.restart()
  await refuses(t, after.app, last.refresh_token, 'the session stays ended')
  t.equal(await challengeTo(after.app, last.access_token), challenges.revoked, 'and its access tokens stay revoked')
})

onOneStore('AUTH_SECRET_PREVIOUS: what the secret before made is still good', async (t, build) => {
  const [a, b] = ['a'.repeat(32), 'b'.repeat(32)] as const
  const old = await build({ AUTH_SECRET: a })
  await signUp(old.app)
  const login = await logIn(old.app)
  const spare = await logIn(old.app)

  const changed = await old.restart({ AUTH_SECRET: b, AUTH_SECRET_PREVIOUS: a })
  t.ok(await isAccepted(changed.app, login.access_token))
  const next = await rotate(changed.app, login.refresh_token)
  t.equal(
    (await rotate(changed.app, login.refresh_token)).refresh_token,
    next.refresh_token,
    'a retry across the change is benign',
  )

  // The new secret seals a new signing key as soon as that is published for long enough.
  changed.clock.now += 11 * 60 * second
  await changed.app.signingKeys.poll()
  changed.clock.now += 11 * 60 * second
  const { app } = await changed.restart({ AUTH_SECRET: b, AUTH_SECRET_PREVIOUS: '' })
  await refuses(t, app, spare.refresh_token, 'without it, the tokens of the old secret are gone')
  const last = await rotate(app, next.refresh_token)
  t.ok(await isAccepted(app, last.access_token))
})

onOneStore(
  'another client that presents a refresh token gets an error, and the session is untouched',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const login = await logIn(app)
    const next = await rotate(app, login.refresh_token)
    const foreign = await postForm(app, '/token', {
      grant_type: 'refresh_token',
      refresh_token: login.refresh_token,
      client_id: 'another',
    })
    t.equal(foreign.statusCode, 401, 'a client that does not exist')

    const definition = { id: 'another', type: 'public', scopes: [], audience: [], introspect: 'none' } as const
    await app.clients.create(app, { ...definition, grants: ['refresh_token'], scopes: [], audience: [] })
    for (const token of [
      login.refresh_token,
      next.refresh_token,
      app.refreshTokens.encode(partsOf(app, login.refresh_token).sessionId, 9),
    ]) {
      const response = await postForm(app, '/token', {
        grant_type: 'refresh_token',
        refresh_token: token,
        client_id: 'another',
      })
      t.equal(json(response).error, 'invalid_grant', response.body)
    }
    t.equal((await rotate(app, login.refresh_token)).refresh_token, next.refresh_token)
    t.ok(await isAccepted(app, next.access_token))
  },
)

onOneStore('a scope wider than that of the session is invalid_scope, and nothing advances', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { refresh_token } = await logIn(app)
  for (const scope of ['admin', 'a  b', 'a"b', ' ']) {
    const response = await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token, scope })
    t.equal(response.statusCode, 400, scope)
    t.equal(json(response).error, 'invalid_scope')
  }
  t.equal(partsOf(app, (await rotate(app, refresh_token)).refresh_token).counter, 1)
})

onOneStore('POST /refresh gives the same answers as POST /token, to JSON and to a form', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const viaToken = (token: string) => postForm(app, '/token', { grant_type: 'refresh_token', refresh_token: token })
  const viaForm = (token: string) => postForm(app, '/refresh', { refresh_token: token })
  const viaJson = (token: string) => app.inject({ method: 'POST', url: '/refresh', payload: { refresh_token: token } })

  const seen = []
  for (const send of [viaToken, viaForm, viaJson]) {
    const first = await logIn(app)
    const good = await send(first.refresh_token)
    const repeated = await send(first.refresh_token)
    t.equal(json(repeated).refresh_token, json(good).refresh_token)
    clock.now += 31 * second
    const answers = [good, repeated, await send(first.refresh_token), await send('garbage'), await send('')]
    t.equal(await challengeTo(app, json(good).access_token), challenges.revoked)
    seen.push(
      answers.map(({ statusCode, headers, body }) => [
        statusCode,
        headers['content-type'],
        headers['cache-control'],
        headers['pragma'],
        statusCode === 200 ? Object.keys(JSON.parse(body)) : body,
      ]),
    )
  }
  t.same(seen[1], seen[0])
  t.same(seen[2], seen[0])
})
