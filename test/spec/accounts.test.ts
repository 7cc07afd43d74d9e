import { connect, type Socket } from 'node:net'
import type { FastifyInstance, InjectOptions } from 'fastify'
import type { Test } from 'tap'
import { until } from '../support/client-helper.ts'
import {
  challenges,
  challengeTo,
  isAccepted,
  json,
  listen,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  type Tokens,
  withToken,
} from '../support/helper.ts'

const seconds = 1000
const otherPassword = 'another horse, another battery'

/** A login that says nothing of how it ended. */
const tryLogIn = (app: FastifyInstance, username: string, secret: string, options: InjectOptions = {}) =>
  postForm(app, '/token', { grant_type: 'password', username, password: secret }, options)

const changePassword = (app: FastifyInstance, accessToken: string, current: string, next: string) =>
  withToken(app, accessToken, {
    method: 'POST',
    url: '/users/me/password',
    payload: { current_password: current, new_password: next },
  })

async function hasEnded(t: Test, app: FastifyInstance, tokens: Tokens, what: string): Promise<void> {
  t.equal(await challengeTo(app, tokens.access_token), challenges.revoked, `${what}: the access token`)
  t.equal((await refresh(app, tokens.refresh_token)).statusCode, 400, `${what}: the refresh token`)
}

overStores('fifty signups of one name at once give one 201 and forty-nine 409', async (t, build) => {
  const { app } = await build()
  const spellings = ['grace', 'Grace', 'GRACE', 'ｇrace']
  const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => signUp(app, spellings[index % 4])))
  const codes = answers.map(({ statusCode }) => statusCode).sort()
  t.same(codes, [201, ...Array(49).fill(409)])
  const [created] = answers.filter(({ statusCode }) => statusCode === 201).map(json)
  const { access_token } = await logIn(app, 'grace')
  t.match(json(await withToken(app, access_token, { url: '/users/me' })), {
    id: created.id,
    username: created.username,
  })
})

onOneStore('AUTH_SIGNUP=closed: signup is 403, and those who have an account log in', async (t, build) => {
  const open = await build()
  await signUp(open.app)
  const { app } = await open.restart({ AUTH_SIGNUP: 'closed' })
  const response = await signUp(app, 'bob')
  t.equal(response.statusCode, 403)
  t.match(response.headers['content-type'], 'application/problem+json')
  t.ok(await logIn(app))
})

onOneStore('AUTH_PASSWORD_GRANT=off: nobody logs in by password, and sessions go on', async (t, build) => {
  const on = await build()
  await signUp(on.app)
  const { refresh_token } = await logIn(on.app)
  const { app } = await on.restart({ AUTH_PASSWORD_GRANT: 'off' })
  for (const form of [{ grant_type: 'password' }, {}]) {
    const response = await postForm(app, '/token', { ...form, username: 'ada', password })
    t.equal(response.statusCode, 400)
    t.match(json(response).error, /^(unsupported_grant_type|unauthorized_client)$/)
  }
  t.equal((await refresh(app, refresh_token)).statusCode, 200)
  const metadata = json(await app.inject({ url: '/.well-known/oauth-authorization-server' }))
  t.notOk(metadata.grant_types_supported.includes('password'), 'and the metadata does not offer it')
})

onOneStore(
  'wrong password, unknown and deleted user: one byte-identical invalid_grant, at one hash each',
  async (t, build) => {
    const { app } = await build({ AUTH_THROTTLE: 'off' })
    await signUp(app, 'ada')
    await signUp(app, 'gone')
    const { access_token } = await logIn(app, 'gone')
    const removed = await withToken(app, access_token, { method: 'DELETE', url: '/users/me', payload: { password } })
    t.equal(removed.statusCode, 204)

    let hashes = 0
    const { verify } = app.hashing
    app.hashing.verify = (...args) => {
      hashes += 1
      return verify(...args)
    }
    const answers = []
    for (const [username, secret] of [
      ['ada', 'wrong horse battery staple'],
      ['ada', 'x'],
      ['nobody', password],
      ['gone', password],
      ['no name at all!', password],
      ['x'.repeat(300), password],
      ['ada', 'x'.repeat(1000)],
    ] as const) {
      const { statusCode, headers, rawPayload } = await tryLogIn(app, username, secret)
      const { 'x-request-id': _id, date: _date, ...rest } = headers
      answers.push({ statusCode, rest, body: rawPayload.toString('hex') })
    }
    t.equal(answers[0]?.statusCode, 400)
    for (const answer of answers) t.same(answer, answers[0])
    t.equal(hashes, answers.length)
  },
)

overStores('a login rehashes what is below the settings of today, and nothing else', async (t, build) => {
  const hashOf = async (app: FastifyInstance) => (await app.store.findUserByName('ada'))?.passwordHash ?? ''
  const first = await build()
  await signUp(first.app)
  const made = await hashOf(first.app)
  t.match(made, /^\$argon2id\$v=19\$m=8,t=1,p=1\$/)
  await logIn(first.app)
  t.equal(await hashOf(first.app), made, 'a hash of today stays')

  const raised = await first.restart({ AUTH_ARGON2_TIME: '2', AUTH_ARGON2_MEMORY: '16' })
  await tryLogIn(raised.app, 'ada', 'wrong horse battery staple')
  t.equal(await hashOf(raised.app), made, 'a failed login changes nothing')
  await Promise.all([logIn(raised.app), logIn(raised.app), logIn(raised.app)])
  const rehashed = await hashOf(raised.app)
  t.match(rehashed, /^\$argon2id\$v=19\$m=16,t=2,p=1\$/)
  t.ok(await logIn(raised.app), 'the password is the same')
  t.equal(await hashOf(raised.app), rehashed)

  const lowered = await raised.restart({ AUTH_ARGON2_TIME: '1', AUTH_ARGON2_MEMORY: '8' })
  await logIn(lowered.app)
  t.equal(await hashOf(lowered.app), rehashed, 'a stronger hash is never weakened')
})

overStores(
  'a changed password ends every other session at once, and keeps the one that changed it',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const kept = await logIn(app)
    const others = [await logIn(app), await logIn(app)] as const
    const retried = json(await refresh(app, others[1].refresh_token))
    t.equal((await changePassword(app, kept.access_token, password, otherPassword)).statusCode, 204)

    for (const tokens of [...others, retried]) await hasEnded(t, app, tokens, 'another session')
    t.ok(await isAccepted(app, kept.access_token), 'the access token of this one is good')
    const next: Tokens = json(await refresh(app, kept.refresh_token))
    t.ok(await isAccepted(app, next.access_token), 'and so is its refresh token')
    const { sessions } = json(await withToken(app, next.access_token, { url: '/users/me/sessions' }))
    t.match(sessions, [{ current: true }])
    t.equal(sessions.length, 1)

    t.equal((await tryLogIn(app, 'ada', password)).statusCode, 400, 'the old password is gone')
    t.equal((await tryLogIn(app, 'ada', otherPassword)).statusCode, 200, 'the new one is good')
  },
)

overStores(
  'each change of a password keeps only the session of that change, also after a restart',
  async (t, build) => {
    const first = await build()
    const { app } = first
    await signUp(app)
    const a = await logIn(app)
    await changePassword(app, a.access_token, password, 'second password of ada')
    const between = await logIn(app, 'ada', 'second password of ada')
    await changePassword(app, a.access_token, 'second password of ada', 'third password of ada')
    t.ok(await isAccepted(app, a.access_token), 'the session that changed it twice goes on')
    await hasEnded(t, app, between, 'a session from in between')

    const b = await logIn(app, 'ada', 'third password of ada')
    const a2: Tokens = json(await refresh(app, a.refresh_token))
    await changePassword(app, b.access_token, 'third password of ada', 'fourth password of ada')
    for (const tokens of [a, a2]) await hasEnded(t, app, tokens, 'the session that was kept before')
    t.ok(await isAccepted(app, b.access_token))

    const again = await first.restart()
    for (const { access_token } of [a, a2, between])
      t.equal(await challengeTo(again.app, access_token), challenges.revoked)
    t.ok(await isAccepted(again.app, b.access_token))
    t.equal((await refresh(again.app, b.refresh_token)).statusCode, 200)
  },
)

onOneStore('a password is not changed without the current one, nor to one that is not acceptable', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const [one, two] = [await logIn(app), await logIn(app)]
  const wrong = await changePassword(app, one.access_token, 'wrong horse battery staple', otherPassword)
  t.equal(wrong.statusCode, 403)
  t.match(json(wrong).errors, [{ pointer: '/current_password' }])
  t.notOk(wrong.headers['www-authenticate'], 'which is no failure of the token')
  for (const next of ['', 'short', 'x'.repeat(257)]) {
    const response = await changePassword(app, one.access_token, password, next)
    t.equal(response.statusCode, 400)
    t.match(json(response).errors, [{ pointer: '/new_password' }])
  }
  t.equal((await changePassword(app, 'x', password, otherPassword)).statusCode, 401)
  for (const { access_token } of [one, two]) t.ok(await isAccepted(app, access_token), 'no session ended')
  t.ok(await logIn(app))
})

overStores(
  'logins and refreshes that race with a change of the password leave nothing of before alive',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const kept = await logIn(app)
    const other = await logIn(app)
    const race = [
      ...Array.from({ length: 10 }, () => tryLogIn(app, 'ada', password)),
      changePassword(app, kept.access_token, password, otherPassword),
      ...Array.from({ length: 10 }, () => refresh(app, other.refresh_token)),
      ...Array.from({ length: 10 }, () => tryLogIn(app, 'ada', password)),
    ]
    const answers = await Promise.all(race)
    t.equal(answers[10]?.statusCode, 204)
    const won: Tokens[] = answers.filter(({ statusCode }) => statusCode === 200).map(json)
    for (const tokens of [other, ...won]) await hasEnded(t, app, tokens, 'of before')
    t.ok(await isAccepted(app, kept.access_token))
  },
)

overStores('a deleted account is gone with its sessions and tokens, and its name is free', async (t, build) => {
  const { app } = await build()
  const before = json(await signUp(app))
  const [one, two] = [await logIn(app), await logIn(app)]
  const remove = (secret: string) =>
    withToken(app, one.access_token, { method: 'DELETE', url: '/users/me', payload: { password: secret } })
  const wrong = await remove('wrong horse battery staple')
  t.equal(wrong.statusCode, 403)
  t.match(json(wrong).errors, [{ pointer: '/password' }])
  t.ok(await isAccepted(app, one.access_token), 'not with a wrong password')

  t.equal((await remove(password)).statusCode, 204)
  for (const tokens of [one, two]) await hasEnded(t, app, tokens, 'after the account')
  t.equal((await tryLogIn(app, 'ada', password)).statusCode, 400)
  const after = await signUp(app)
  t.equal(after.statusCode, 201)
  t.not(json(after).id, before.id, 'whoever takes the name is someone else')
  for (const tokens of [one, two]) await hasEnded(t, app, tokens, 'under the next of the name')
})

overStores('the list of sessions says when, by what and from where, newest first', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  await signUp(app, 'bob')
  await logIn(app, 'bob')
  const phone = json(
    await tryLogIn(app, 'ada', password, {
      remoteAddress: '192.0.2.7',
      headers: { 'user-agent': `phone ${'x'.repeat(1000)}` },
    }),
  )
  const openedAt = clock.now
  clock.now += 60 * seconds
  const laptop = json(
    await tryLogIn(app, 'ada', password, { remoteAddress: '2001:db8::1', headers: { 'user-agent': 'laptop' } }),
  )
  clock.now += 60 * seconds
  await refresh(app, phone.refresh_token)

  const { sessions, ...rest } = json(await withToken(app, laptop.access_token, { url: '/users/me/sessions' }))
  t.same(rest, {})
  const at = (ms: number) => new Date(openedAt + ms).toISOString()
  t.match(sessions, [
    {
      created_at: at(60_000),
      last_used_at: at(60_000),
      client_id: 'first-party',
      address: '2001:db8::1',
      user_agent: 'laptop',
      current: true,
    },
    { created_at: at(0), last_used_at: at(120_000), client_id: 'first-party', current: false },
  ])
  t.equal(sessions.length, 2, 'those of no one else')
  t.ok(sessions[1].user_agent.length <= 1000, 'a user agent is cut')
})

overStores('the list of sessions comes in pages', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  let tokens = await logIn(app)
  for (let count = 1; count < 7; count += 1) {
    clock.now += count % 2 ? 1 : 0
    tokens = await logIn(app)
  }
  const page = async (query: string) =>
    json(await withToken(app, tokens.access_token, { url: `/users/me/sessions${query}` }))
  const all = (await page('')).sessions.map(({ id }: { id: string }) => id)
  t.equal(all.length, 7)
  const seen: string[] = []
  for (let cursor = ''; ; ) {
    const { sessions, next_cursor } = await page(`?limit=3${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)
    seen.push(...sessions.map(({ id }: { id: string }) => id))
    if (next_cursor === undefined) break
    t.match(next_cursor, /^[\w-]+$/, 'the cursor is opaque, and needs no encoding')
    cursor = next_cursor
  }
  t.same(seen, all)
  for (const query of ['?limit=0', '?limit=x', '?limit=101', '?limit=-1', '?cursor=x', '?limit=1&limit=2']) {
    t.equal((await withToken(app, tokens.access_token, { url: `/users/me/sessions${query}` })).statusCode, 400, query)
  }
})

overStores('one session is ended by its id, at once, and no other', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const [here, there, elsewhere] = [await logIn(app), await logIn(app), await logIn(app)]
  const { sessions } = json(await withToken(app, there.access_token, { url: '/users/me/sessions' }))
  const { id } = sessions.find(({ current }: { current: boolean }) => current)
  const end = (sessionId: string) =>
    withToken(app, here.access_token, { method: 'DELETE', url: `/users/me/sessions/${sessionId}` })
  t.equal((await end(id)).statusCode, 204)
  await hasEnded(t, app, there, 'the ended one')
  for (const { access_token } of [here, elsewhere]) t.ok(await isAccepted(app, access_token))
  t.equal((await end(id)).statusCode, 404, 'it is gone')
  for (const none of ['x', '__proto__', '%00', '0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b', encodeURIComponent('../me')]) {
    t.equal((await end(none)).statusCode, 404, none)
  }
})

onOneStore("someone else's session is 404, and untouched", async (t, build) => {
  const { app } = await build()
  for (const username of ['ada', 'eve']) await signUp(app, username)
  const [ada, eve] = [await logIn(app, 'ada'), await logIn(app, 'eve')]
  const { sessions } = json(await withToken(app, ada.access_token, { url: '/users/me/sessions' }))
  const theirs = await withToken(app, eve.access_token, {
    method: 'DELETE',
    url: `/users/me/sessions/${sessions[0].id}`,
  })
  const none = await withToken(app, eve.access_token, {
    method: 'DELETE',
    url: '/users/me/sessions/0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b',
  })
  t.equal(theirs.statusCode, 404)
  t.equal(theirs.body, none.body, 'told from none by nothing')
  t.ok(await isAccepted(app, ada.access_token))
  t.equal((await refresh(app, ada.refresh_token)).statusCode, 200)
})

overStores('all sessions are ended at once, this one too, and a later login is not affected', async (t, build) => {
  const { app } = await build()
  for (const username of ['ada', 'bob']) await signUp(app, username)
  const mine = [await logIn(app), await logIn(app), await logIn(app)] as const
  const theirs = await logIn(app, 'bob')
  t.equal((await withToken(app, mine[0].access_token, { method: 'DELETE', url: '/users/me/sessions' })).statusCode, 204)
  for (const tokens of mine) await hasEnded(t, app, tokens, 'one of them')
  t.ok(await isAccepted(app, theirs.access_token))
  const later = await logIn(app)
  t.ok(await isAccepted(app, later.access_token), 'in the same second')
  t.equal((await refresh(app, later.refresh_token)).statusCode, 200)
  const { sessions } = json(await withToken(app, later.access_token, { url: '/users/me/sessions' }))
  t.equal(sessions.length, 1)
})

onOneStore('POST /logout ends this session at once, and no other', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const [here, there] = [await logIn(app), await logIn(app)]
  const next: Tokens = json(await refresh(app, here.refresh_token))
  const logout = { method: 'POST', url: '/logout' } as const
  t.equal((await withToken(app, here.access_token, logout)).statusCode, 204)
  for (const tokens of [here, next]) await hasEnded(t, app, tokens, 'logged out')
  t.equal((await withToken(app, here.access_token, logout)).statusCode, 401, 'once is enough')
  t.ok(await isAccepted(app, there.access_token))
  t.equal(
    (await withToken(app, there.access_token, { ...logout, payload: {} })).statusCode,
    204,
    "a client library's empty body is no hindrance",
  )
})

onOneStore(
  'POST /revoke ends the session of a refresh token, and one access token by itself; anything else is 200 too',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const [one, two] = [await logIn(app), await logIn(app)]
    const spent = one.refresh_token
    const next: Tokens = json(await refresh(app, spent))
    const revoke = (token: string, hint?: string) =>
      postForm(app, '/revoke', { token, ...(hint !== undefined && { token_type_hint: hint }) })

    t.equal((await revoke(one.access_token, 'refresh_token')).statusCode, 200, 'a wrong hint is no hindrance')
    t.equal(await challengeTo(app, one.access_token), challenges.revoked)
    t.ok(await isAccepted(app, next.access_token), 'the session goes on')
    t.equal((await revoke(next.refresh_token, 'nonsense')).statusCode, 200)
    await hasEnded(t, app, next, 'revoked')

    for (const unknown of [next.refresh_token, next.access_token, 'garbage', 'lkr_garbage', 'a.b.c']) {
      t.equal((await revoke(unknown)).statusCode, 200, unknown.slice(0, 12))
    }
    t.ok(await isAccepted(app, two.access_token), 'another session is untouched')
    t.equal((await refresh(app, two.refresh_token)).statusCode, 200)
  },
)

/** Failed logins of one account from one address. */
async function failTimes(
  t: Test,
  app: FastifyInstance,
  times: number,
  username: string,
  remoteAddress: string,
): Promise<void> {
  for (let count = 0; count < times; count += 1) {
    const response = await tryLogIn(app, username, 'wrong horse battery staple', { remoteAddress })
    if (response.statusCode !== 400)
      return void t.fail(`failure ${count + 1} from ${remoteAddress} is ${response.statusCode}`)
  }
}

async function waitsFor(
  t: Test,
  app: FastifyInstance,
  wait: number,
  username: string,
  remoteAddress: string,
  secret = password,
): Promise<void> {
  const response = await tryLogIn(app, username, secret, { remoteAddress })
  t.equal(response.statusCode, 429, `${username} from ${remoteAddress}`)
  t.equal(response.headers['retry-after'], String(wait))
  t.match(response.headers['content-type'], 'application/json')
}

onOneStore(
  'after 10 failures in a row from one prefix there are waits, from 30 s doubling up to 1 h',
  async (t, build) => {
    const { app, clock } = await build()
    await signUp(app)
    const stranger = '198.51.100.7'
    await failTimes(t, app, 10, 'ada', stranger)
    for (const wait of [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]) {
      await waitsFor(t, app, wait, 'ada', stranger)
      clock.now += (wait - 1) * seconds
      await waitsFor(t, app, 1, 'ada', stranger)
      clock.now += 1 * seconds
      await failTimes(t, app, 1, 'ada', stranger)
    }
  },
)

onOneStore(
  'waits hold for the whole prefix (/24, /64), for an account of any spelling, and nowhere else',
  async (t, build) => {
    const { app } = await build()
    for (const username of ['ada', 'bob', 'eve']) await signUp(app, username)
    const owner = '203.0.113.5'
    // An account each: the networks of one share 64 slots, and one that waits keeps its own.
    for (const [account, stranger, neighbours, others] of [
      ['bob', '198.51.100.7', ['198.51.100.200', '::ffff:198.51.100.9'], ['198.51.101.7', '2001:db8::1']],
      ['eve', '2001:db8:0:1::1', ['2001:db8:0:1:ffff::2'], ['2001:db8:0:2::1']],
    ] as const) {
      await failTimes(t, app, 10, account, stranger)
      for (const address of [stranger, ...neighbours]) await waitsFor(t, app, 30, account, address)
      await waitsFor(t, app, 30, account.toUpperCase(), stranger)
      for (const address of [...others, owner])
        t.equal((await tryLogIn(app, account, password, { remoteAddress: address })).statusCode, 200, address)
      t.equal(
        (await tryLogIn(app, 'ada', password, { remoteAddress: stranger })).statusCode,
        200,
        'another account from there',
      )
    }
  },
)

onOneStore('an unknown name waits like a known one', async (t, build) => {
  const { app, clock } = await build()
  await failTimes(t, app, 10, 'nobody', '198.51.100.7')
  for (const wait of [30, 60]) {
    await waitsFor(t, app, wait, 'nobody', '198.51.100.7')
    clock.now += wait * seconds
    await failTimes(t, app, 1, 'nobody', '198.51.100.7')
  }
})

onOneStore('a success resets the count', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  for (let round = 0; round < 3; round += 1) {
    await failTimes(t, app, 9, 'ada', '198.51.100.7')
    t.equal((await tryLogIn(app, 'ada', password, { remoteAddress: '198.51.100.8' })).statusCode, 200)
  }
  await failTimes(t, app, 10, 'ada', '198.51.100.7')
  await waitsFor(t, app, 30, 'ada', '198.51.100.7')
})

onOneStore('after 100 failures on an account from anywhere there are waits everywhere', async (t, build) => {
  const { app, clock } = await build()
  for (const username of ['ada', 'bob']) await signUp(app, username)
  for (let prefix = 0; prefix < 10; prefix += 1) await failTimes(t, app, 10, 'ada', `198.51.${prefix}.1`)
  await waitsFor(t, app, 30, 'ada', '203.0.113.5')
  t.equal(
    (await tryLogIn(app, 'bob', password, { remoteAddress: '203.0.113.5' })).statusCode,
    200,
    'on this account only',
  )
  clock.now += 30 * seconds
  t.equal((await tryLogIn(app, 'ada', password, { remoteAddress: '203.0.113.5' })).statusCode, 200)
  t.equal(
    (await tryLogIn(app, 'ada', password, { remoteAddress: '203.0.113.6' })).statusCode,
    200,
    'and a success resets it',
  )
})

onOneStore(
  'a wait outlives a restart, costs no hash, and holds for the password of a signed-in account too',
  async (t, build) => {
    const first = await build()
    await signUp(first.app)
    const { access_token } = await logIn(first.app)
    for (let count = 0; count < 10; count += 1) {
      t.equal(
        (await changePassword(first.app, access_token, 'wrong horse battery staple', otherPassword)).statusCode,
        403,
      )
    }
    const refused = await changePassword(first.app, access_token, password, otherPassword)
    t.equal(refused.statusCode, 429)
    t.equal(refused.headers['retry-after'], '30')
    t.match(refused.headers['content-type'], 'application/problem+json')
    const removal = await withToken(first.app, access_token, {
      method: 'DELETE',
      url: '/users/me',
      payload: { password },
    })
    t.equal(removal.statusCode, 429)

    const { app } = await first.restart()
    let hashes = 0
    const { verify } = app.hashing
    app.hashing.verify = (...args) => {
      hashes += 1
      return verify(...args)
    }
    await waitsFor(t, app, 30, 'ada', '127.0.0.1')
    t.equal(hashes, 0)
  },
)

onOneStore('guesses that come all at once do not slip past the count', async (t, build) => {
  const { app } = await build({ AUTH_HASH_CONCURRENCY: '2' })
  await signUp(app)
  const guesses = Array.from({ length: 100 }, (_, index) =>
    tryLogIn(app, 'ada', `guess ${index}`, { remoteAddress: '198.51.100.7' }),
  )
  const codes = (await Promise.all(guesses)).map(({ statusCode }) => statusCode)
  const judged = codes.filter((code) => code === 400).length
  t.equal(codes.filter((code) => code === 429).length, 100 - judged)
  t.ok(judged >= 10 && judged <= 12, `10, and those that were being hashed just then: ${judged}`)
})

overStores('failures are counted over all processes, and a success at one resets them for all', async (t, build) => {
  const one = await build()
  const two = await one.beside()
  await signUp(one.app)
  const stranger = '198.51.100.7'
  for (let count = 0; count < 5; count += 1)
    for (const { app } of [one, two]) await failTimes(t, app, 1, 'ada', stranger)
  for (const { app } of [one, two]) await waitsFor(t, app, 30, 'ada', stranger)
  one.clock.now += 30 * seconds
  t.equal((await tryLogIn(two.app, 'ada', password, { remoteAddress: stranger })).statusCode, 200)
  await failTimes(t, one.app, 9, 'ada', stranger)
  t.equal(
    (await tryLogIn(one.app, 'ada', password, { remoteAddress: stranger })).statusCode,
    200,
    'the count began anew',
  )
})

onOneStore('AUTH_THROTTLE=off: no waits', async (t, build) => {
  const { app } = await build({ AUTH_THROTTLE: 'off' })
  await signUp(app)
  await failTimes(t, app, 30, 'ada', '198.51.100.7')
  t.equal((await tryLogIn(app, 'ada', password, { remoteAddress: '198.51.100.7' })).statusCode, 200)
})

onOneStore(
  'addresses come from X-Forwarded-For only when the peer is in AUTH_TRUSTED_PROXIES, rightmost untrusted',
  async (t, build) => {
    const { app } = await build({ AUTH_TRUSTED_PROXIES: '10.0.0.0/8, fd00::/8' })
    await signUp(app)
    const addressOf = async (remoteAddress: string, forwarded?: string) => {
      const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded }
      const { access_token } = json(await tryLogIn(app, 'ada', password, { remoteAddress, headers }))
      const { sessions } = json(await withToken(app, access_token, { url: '/users/me/sessions' }))
      return sessions.find(({ current }: { current: boolean }) => current).address
    }
    t.equal(await addressOf('10.1.2.3', '203.0.113.5'), '203.0.113.5')
    t.equal(
      await addressOf('10.1.2.3', '192.0.2.66, 203.0.113.5, 10.9.9.9'),
      '203.0.113.5',
      'what a client claims is left of it',
    )
    t.equal(await addressOf('fd00::1', '2001:db8::5'), '2001:db8::5')
    t.equal(await addressOf('10.1.2.3'), '10.1.2.3', 'without the header')
    t.equal(await addressOf('203.0.113.9', '192.0.2.66'), '203.0.113.9', 'a stranger is not believed')
    const { app: alone } = await build()
    await signUp(alone)
    const { access_token } = json(
      await tryLogIn(alone, 'ada', password, { headers: { 'x-forwarded-for': '192.0.2.66' } }),
    )
    t.equal(
      json(await withToken(alone, access_token, { url: '/users/me/sessions' })).sessions[0].address,
      '127.0.0.1',
      'without the setting',
    )

    const through = (client: string) => ({ remoteAddress: '10.1.2.3', headers: { 'x-forwarded-for': client } })
    for (let count = 0; count < 10; count += 1) {
      t.equal((await tryLogIn(app, 'ada', 'wrong', through(`192.0.2.${count}, 198.51.100.7`))).statusCode, 400)
    }
    t.equal(
      (await tryLogIn(app, 'ada', password, through('192.0.2.99, 198.51.100.7'))).statusCode,
      429,
      'a made-up address is no way round',
    )
    t.equal(
      (await tryLogIn(app, 'ada', password, through('203.0.113.5'))).statusCode,
      200,
      'the owner behind the same proxy is not stopped',
    )
  },
)

/** Hashing that takes some tenths of a second. */
const slowHashing = { AUTH_ARGON2_MEMORY: '65536', AUTH_ARGON2_TIME: '6', AUTH_HASH_CONCURRENCY: '1' }

onOneStore(
  'hashing is admitted: what finds no turn within AUTH_HASH_MAX_WAIT is 503 with Retry-After',
  async (t, build) => {
    const { app } = await build({ ...slowHashing, AUTH_HASH_MAX_WAIT: '1s' })
    const logins = Array.from({ length: 20 }, (_, index) => tryLogIn(app, `user${index}`, password))
    t.ok(await soon(() => app.hashing.load.waiting > 10))
    // More than find a turn: under overload it is the last come who do.
    const signups = Array.from({ length: 50 }, (_, index) => signUp(app, `new${index}`))
    const askedAt = performance.now()
    t.equal((await app.inject({ url: '/livez' })).statusCode, 200)
    t.ok(performance.now() - askedAt < 500, 'other routes stay fast meanwhile')
    t.ok(app.hashing.load.running <= 1, 'one at a time')

    const answers = await Promise.all([...logins, ...signups])
    const busy = answers.filter(({ statusCode }) => statusCode === 503)
    t.ok(busy.length > 10, `${busy.length} found no turn`)
    t.ok(busy.length < answers.length, 'the others did')
    for (const { headers } of busy) t.match(headers['retry-after'], /^[1-9][0-9]*$/)
    t.ok(
      busy.some((response) => json(response).error === 'temporarily_unavailable'),
      'in the shape of RFC 6749',
    )
    t.ok(
      busy.some((response) => json(response).status === 503),
      'and of RFC 9457',
    )
    t.same(app.hashing.load, { running: 0, waiting: 0 })
  },
)

onOneStore('waiting for a hash is fair between addresses', async (t, build) => {
  const { app } = await build({ ...slowHashing, AUTH_ARGON2_TIME: '1', AUTH_HASH_MAX_WAIT: '1m' })
  const order: string[] = []
  const logInFrom = async (remoteAddress: string) => {
    await tryLogIn(app, 'nobody', password, { remoteAddress })
    order.push(remoteAddress)
  }
  const crowd = Array.from({ length: 8 }, () => logInFrom('198.51.100.7'))
  t.ok(await soon(() => app.hashing.load.waiting === 7))
  await Promise.all([...crowd, logInFrom('203.0.113.5')])
  const turn = order.indexOf('203.0.113.5')
  t.ok(turn <= 3, `a lone address has turn ${turn + 1} behind a crowd of 8`)
})

onOneStore('while others wait for a hash, those who had theirs go on together', async (t, build) => {
  const { app } = await build({ AUTH_HASH_CONCURRENCY: '1', AUTH_HASH_MAX_WAIT: '1m' })
  const { verify } = app.hashing
  const waitingWhenDone: number[] = []
  app.hashing.verify = async (...args) => {
    const isRight = await verify(...args)
    waitingWhenDone.push(app.hashing.load.waiting)
    return isRight
  }
  // The first tells how long a hash takes; on a busy machine too long for batches, until others have told, too.
  await tryLogIn(app, 'nobody', password)
  await until(async () => {
    waitingWhenDone.length = 0
    const startedAt = performance.now()
    await Promise.all(Array.from({ length: 6 }, (_, index) => tryLogIn(app, `user${index}`, password)))
    t.equal(waitingWhenDone.length, 6)
    const batches = new Set(waitingWhenDone).size
    return batches <= 2 + Math.floor((performance.now() - startedAt) / 25)
  })
})

/** A login over a socket that its client may close. */
function logInBySocket(origin: string): Promise<Socket> {
  const { hostname, port } = new URL(origin)
  const body = `username=nobody&password=${'x'.repeat(20)}`
  const head =
    `POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n` +
    `Content-Length: ${body.length}\r\n\r\n`
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => socket.write(head + body, () => resolve(socket)))
  })
}

onOneStore('a client that waits for its turn is answered', async (t, build) => {
  const { app } = await build({ ...slowHashing, AUTH_ARGON2_TIME: '1', AUTH_HASH_MAX_WAIT: '1m' })
  const origin = await listen(app)
  const answers = await Promise.all(
    Array.from({ length: 3 }, () =>
      fetch(`${origin}/token`, {
        method: 'POST',
        body: new URLSearchParams({ username: 'nobody', password, grant_type: 'password' }),
      }),
    ),
  )
  t.same(
    answers.map(({ status }) => status),
    Array(3).fill(400),
  )
  for (const answer of answers) t.match(await answer.json(), { error: 'invalid_grant' })
})

onOneStore('a client that goes away leaves the queue, and is not hashed for', async (t, build) => {
  const { app } = await build({ ...slowHashing, AUTH_ARGON2_TIME: '12', AUTH_HASH_MAX_WAIT: '1m' })
  const origin = await listen(app)
  const patient = tryLogIn(app, 'nobody', password)
  t.ok(await soon(() => app.hashing.load.running === 1))
  const sockets = await Promise.all(Array.from({ length: 5 }, () => logInBySocket(origin)))
  t.ok(await soon(() => app.hashing.load.waiting === 5), 'five wait')
  for (const socket of sockets) socket.destroy()
  t.ok(await soon(() => app.hashing.load.waiting === 0), 'and leave')
  t.equal(app.hashing.load.running, 1, 'while the first is still being hashed')
  t.equal((await patient).statusCode, 400, 'which is answered')
  t.same(app.hashing.load, { running: 0, waiting: 0 }, 'and nobody else was hashed for')
})

/** Waits for something that needs no time to pass, only its turn. */
async function soon(isSo: () => boolean): Promise<boolean> {
  for (const giveUpAt = performance.now() + 5000; performance.now() < giveUpAt; ) {
    if (isSo()) return true
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  return false
}
