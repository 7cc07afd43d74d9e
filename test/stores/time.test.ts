import { decodeProtectedHeader } from 'jose'
import { clockSkewMs } from '../../domain/time.ts'
import {
  clientCredentials,
  failStore,
  makeClient,
  tokenOf,
  until,
  watchStore,
  writeClients,
} from '../support/client-helper.ts'
import {
  challenges,
  challengeTo,
  claimsOf,
  isAccepted,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  type TestApp,
  withToken,
} from '../support/helper.ts'

/* Times that lie in the future (a clock that was wrong) count as now: contract, section 2. */

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour
const year = 365 * day
const kidOf = (token: string) => decodeProtectedHeader(token).kid as string
const kidsOf = async ({ app }: TestApp): Promise<string[]> =>
  json(await app.inject({ url: '/.well-known/jwks.json' })).keys.map(({ kid }: { kid: string }) => kid)

overStores('a rotation that lies in the future grants no grace: the spent token ends the session', async (t, build) => {
  const { app, clock } = await build({ AUTH_REFRESH_GRACE: '1s' })
  await signUp(app)
  for (const aheadMs of [clockSkewMs + 1000, 2 * day, year]) {
    clock.now += aheadMs
    const login = await logIn(app)
    const next = json(await refresh(app, login.refresh_token))
    clock.now -= aheadMs
    const again = await refresh(app, login.refresh_token)
    t.same([again.statusCode, json(again).error], [400, 'invalid_grant'], `${aheadMs} ms ahead`)
    t.equal((await refresh(app, next.refresh_token)).statusCode, 400)
  }
})

overStores(
  'a session that was opened by a clock a year ahead goes on, and lives no longer than from when that was put right',
  async (t, build) => {
    const test = await build({ AUTH_REFRESH_IDLE_TTL: '10d', AUTH_REFRESH_MAX_TTL: '12d' })
    const { app, clock } = test
    await signUp(app)
    clock.now += year
    const [used, unused] = [await logIn(app), await logIn(app)]
    clock.now -= year
    const next = json(await refresh(app, used.refresh_token))
    t.equal(typeof next.refresh_token, 'string', 'a session that is alive can be refreshed')
    const { app: later } = await test.restart()
    await later.sweeper.round()
    const sessions = json(
      await withToken(later, (await logIn(later)).access_token, { url: '/users/me/sessions' }),
    ).sessions
    t.ok(sessions.every(({ created_at }: { created_at: string }) => Date.parse(created_at) <= clock.now))
    clock.now += 9 * day
    const last = json(await refresh(later, next.refresh_token)).refresh_token
    t.equal(typeof last, 'string')
    clock.now += 3 * day + clockSkewMs
    t.equal((await refresh(later, last)).statusCode, 400, 'its absolute life is over')
    t.equal(
      (await refresh(later, unused.refresh_token)).statusCode,
      400,
      'and the idle life of the one that nobody used',
    )
  },
)

overStores(
  'what was revoked stays so while a clock leaps ahead and back, and over restarts meanwhile',
  async (t, build) => {
    const test = await build()
    const { clock } = test
    await signUp(test.app)
    const [revoked, ended] = [await logIn(test.app), await logIn(test.app)]
    await postForm(test.app, '/revoke', { token: revoked.access_token })
    await withToken(test.app, ended.access_token, { method: 'POST', url: '/logout' })
    const live = await logIn(test.app)
    let now = test
    for (const leapMs of [12 * minute, day, year]) {
      clock.now += leapMs
      await now.app.sweeper.round()
      now = await now.restart()
      await now.app.sweeper.round()
      clock.now -= leapMs
      for (const { access_token } of [revoked, ended])
        t.equal(await challengeTo(now.app, access_token), challenges.revoked)
      t.ok(await isAccepted(now.app, live.access_token), 'and what was not is good')
    }
    now = await now.restart()
    for (const { access_token } of [revoked, ended])
      t.equal(await challengeTo(now.app, access_token), challenges.revoked)
    t.ok(await isAccepted(now.app, live.access_token))
  },
)

/** Time passes, by the clock and by itself, and what runs now and then has run. */
async function pass({ app, clock }: TestApp, ms: number): Promise<void> {
  clock.now += ms
  clock.passedMs = (clock.passedMs ?? 0) + ms
  await app.revocations.poll()
  await app.sweeper.round()
}

overStores('a clock that is set back makes good no token that was revoked and forgotten', async (t, build) => {
  const test = await build()
  const { app, clock } = test
  await signUp(app)
  for (const backMs of [15 * minute, hour, day]) {
    const revoked = await logIn(app)
    await postForm(app, '/revoke', { token: revoked.access_token })
    const ended = await logIn(app)
    await withToken(app, ended.access_token, { method: 'POST', url: '/logout' })
    await pass(test, backMs + 3 * minute)
    t.equal(app.revocations.size, 0, 'they are forgotten')
    t.same((await app.store.revocationsSince()).revocations, [])

    // By this clock the tokens are three minutes old.
    clock.now -= backMs
    for (const { access_token } of [revoked, ended])
      t.equal(await challengeTo(app, access_token), challenges.revoked, `${backMs / minute} minutes back`)
    const live = await logIn(app)
    t.ok(await isAccepted(app, live.access_token), 'a token of since then is good')
    t.equal((await refresh(app, live.refresh_token)).statusCode, 200)
    await pass(test, 9 * minute)
    t.ok(await isAccepted(app, live.access_token), 'for its whole life')
    clock.now += backMs
    t.ok(await isAccepted(app, (await logIn(app)).access_token), 'and so is one of the clock that is put right')
    await pass(test, 17 * minute)
  }
})

overStores('a clock that is set back does not begin the grace of a rotation again', async (t, build) => {
  const test = await build()
  const { app, clock } = test
  await signUp(app)
  for (const backMs of [hour, day]) {
    const login = await logIn(app)
    t.equal((await refresh(app, login.refresh_token)).statusCode, 200)
    await pass(test, backMs + 3 * minute)
    clock.now -= backMs + 3 * minute - 10_000
    const again = await refresh(app, login.refresh_token)
    t.same([again.statusCode, json(again).error], [400, 'invalid_grant'], 'spent stays spent')
    clock.now += backMs + 3 * minute - 10_000
    await pass(test, 12 * minute)
  }
})

overStores(
  'a token that was revoked by a clock that was ahead stays so when the time that it says has come',
  async (t, build) => {
    const test = await build()
    const { app, clock } = test
    await signUp(app)
    for (const aheadMs of [hour, day]) {
      clock.now += aheadMs
      const { access_token } = await logIn(app)
      await postForm(app, '/revoke', { token: access_token })
      t.equal(await challengeTo(app, access_token), challenges.revoked)
      await pass(test, 2 * minute)
      clock.now -= aheadMs
      t.not(await challengeTo(app, access_token), undefined, 'it is of the future')
      for (let passed = 0; passed < aheadMs; passed += aheadMs / 4) await pass(test, aheadMs / 4)
      t.equal(await challengeTo(app, access_token), challenges.revoked)
      await pass(test, 30 * minute)
    }
    t.equal(app.revocations.size, 0, 'in the end it is forgotten')
  },
)

overStores('what a replica revokes whose clock is behind is kept for as long as any other', async (t, build) => {
  const right = await build()
  await signUp(right.app)
  await pass(right, 20 * minute)
  for (const behindMs of [hour, day]) {
    const { access_token, refresh_token } = await logIn(right.app)
    const behind = await right.beside({ now: right.clock.now - behindMs })
    t.equal((await postForm(behind.app, '/revoke', { token: refresh_token })).statusCode, 200)
    await pass(right, minute)
    await pass(right, minute)
    const { app } = await right.beside()
    t.equal(await challengeTo(app, access_token), challenges.revoked, 'a replica that starts now knows it too')
    await app.close()
    await behind.app.close()
  }
})

overStores('two replicas whose clocks are a minute apart are one service', async (t, build) => {
  const early = await build()
  const late = await early.beside({ now: early.clock.now + minute })
  await signUp(early.app)
  const replicas = [early.app, late.app] as const
  for (const [here, there] of [replicas, replicas.toReversed()] as [typeof early.app, typeof early.app][]) {
    let login = await logIn(here)
    for (const next of [there, here, there, here]) {
      for (const app of replicas) t.ok(await isAccepted(app, login.access_token))
      const spent = login.refresh_token
      login = json(await refresh(next, spent))
      t.equal(typeof login.refresh_token, 'string', 'it goes on at either')
      t.equal((await refresh(next, spent)).statusCode, 200, 'and so does a second tab')
    }
    await withToken(here, login.access_token, { method: 'POST', url: '/logout' })
    await there.revocations.catchUp()
    for (const app of replicas) {
      t.equal(await challengeTo(app, login.access_token), challenges.revoked)
      t.equal((await refresh(app, login.refresh_token)).statusCode, 400)
      await app.sweeper.round()
    }
    for (const app of replicas) t.equal(await challengeTo(app, login.access_token), challenges.revoked)
  }
})

overStores('a leap ahead deletes no session while the process goes on', async (t, build) => {
  const test = await build()
  const { app, clock } = test
  await signUp(app)
  const { refresh_token } = await logIn(app)
  clock.now += year
  await app.sweeper.round()
  clock.now -= year
  t.equal((await refresh(app, refresh_token)).statusCode, 200)
})

overStores('of a leap ahead only so much is believed as has lasted', async (t, build) => {
  const test = await build()
  const { app, clock } = test
  await signUp(app)
  const { refresh_token } = await logIn(app)
  // Put right by ten minutes, and wrong by a year for a moment when that has lasted for an hour.
  clock.now += 10 * minute
  await pass(test, minute)
  await pass(test, hour - 2 * minute)
  clock.now += year
  await pass(test, 2 * minute)
  clock.now -= year
  t.equal((await refresh(app, refresh_token)).statusCode, 200)
})

overStores('what has expired is swept once time has passed, whatever the clock was set to', async (t, build) => {
  const test = await build()
  const { app, clock } = test
  await signUp(app)
  const { access_token } = await logIn(app)
  await withToken(app, access_token, { method: 'POST', url: '/logout' })
  clock.now += hour
  clock.passedMs = hour
  await app.sweeper.round()
  t.same((await app.store.revocationsSince()).revocations, [])
  await until(() => app.revocations.size === 0)
  t.notOk(await isAccepted(app, access_token), 'by its age')
})

overStores(
  'signing keys: a clock that was a year ahead neither stops their rotation nor has one made at each look',
  async (t, build) => {
    const test = await build({ AUTH_PAGES: 'off' })
    const { app, clock } = test
    const poll = async () => {
      await app.signingKeys.poll()
      return kidsOf(test)
    }
    await signUp(app)
    const { access_token } = await logIn(app)
    const first = kidOf(access_token)
    clock.now += year
    t.equal((await poll()).length, 2)
    clock.now += 30 * day
    t.ok((await poll()).includes(first), 'that of before is not retired: its tokens live, by the time that has passed')
    clock.now -= year + 30 * day
    t.ok(await isAccepted(app, access_token))
    const kids = await poll()
    t.equal(kids.length, 3, 'the one of the future does not count: the next is made')
    t.same(await poll(), kids)
    clock.now += 11 * minute
    t.same(await poll(), kids)
    const next = kidOf((await logIn(app)).access_token)
    t.ok(kids.includes(next) && next !== first, 'and signs when it has been published for long enough')
    clock.now += 90 * day
    t.equal((await poll()).length, 4, 'and is rotated in its turn')
  },
)

overStores('signing keys: a first start by a clock that is ahead signs at once and later', async (t, build) => {
  const test = await build()
  const { clock } = test
  clock.now += year
  await test.restart()
  clock.now -= year
  const { app } = await test.restart()
  await signUp(app)
  t.ok(await isAccepted(app, (await logIn(app)).access_token))
})

overStores(
  'keys are withdrawn in one step: a store that fails leaves nothing half, and asked again it is done',
  async (t, build) => {
    const { app, clock } = await build()
    await signUp(app)
    await app.signingKeys.rotateNow(app, { isLeaked: false })
    clock.now += 9 * minute
    const { access_token } = await logIn(app)
    const first = kidOf(access_token)
    clock.now += 2 * minute
    const { revoke, removeSigningKey } = storeOf(app)
    const heal = failStore(app, /^(revoke|removeSigningKey|withdrawSigningKeys)$/)
    await t.rejects(app.signingKeys.revoke(app, first))
    t.ok(await isAccepted(app, access_token), 'nothing has happened')
    heal()
    // Whatever two writes there were, each of them fails in its turn.
    for (const second of [{ revoke }, { removeSigningKey }]) {
      Object.assign(
        app.store,
        Object.fromEntries(Object.keys(second).map((name) => [name, () => Promise.reject(new Error('half'))])),
      )
      await app.signingKeys.revoke(app, first).catch(() => {})
      Object.assign(app.store, second)
    }
    t.equal(await challengeTo(app, access_token), challenges.invalid)
    t.match((await app.store.revocationsSince()).revocations, [{ kind: 'key', id: first }])
  },
)

overStores(
  'a client that comes later under the id of one that is gone gets none of its sessions or tokens, by any clock',
  async (t, build) => {
    const { app, clock } = await build()
    // It would put right what lies in the future, in the midst of a comparison.
    app.jobs.stopAll()
    const asks = await makeClient(app, { id: 'asks', introspect: 'all' })
    for (const [i, [what, stepMs]] of (
      [
        ['a clock that stands still', 0],
        ['a clock that is set back', -day],
        ['a clock that goes on', 1],
      ] as const
    ).entries()) {
      const [id, username] = [`app-${i}`, `ada-${i}`]
      await signUp(app, username)
      const grants = ['password', 'refresh_token', 'client_credentials']
      const logInBy = async (client: { id: string; secret: string }) =>
        json(
          await postForm(app, '/token', {
            username,
            password,
            client_id: client.id,
            client_secret: client.secret,
          }),
        )
      const before = await makeClient(app, { id, grants })
      const [login, own] = [await logInBy(before), await tokenOf(app, before)]
      const { sid } = claimsOf(login.access_token)
      await app.clients.remove(app, id)
      clock.now += stepMs
      const after = await makeClient(app, { id, grants })
      const row = await app.store.findSession(String(sid))
      const writes = watchStore(app, /^(endSession|revoke)$/)
      const { statusCode, body } = await postForm(app, '/token', {
        ...{ grant_type: 'refresh_token', refresh_token: login.refresh_token },
        ...{ client_id: after.id, client_secret: after.secret },
      })
      t.same([statusCode, JSON.parse(body).error], [400, 'invalid_grant'], what)
      t.strictSame(await app.store.findSession(String(sid)), row, 'judged before anything is written')
      t.same(writes, [])
      for (const token of [login.access_token, own]) t.not(await challengeTo(app, token), undefined)
      const [good, another] = [await logInBy(after), await tokenOf(app, after)]
      t.ok(await isAccepted(app, good.access_token), 'the new one has its own')
      t.equal((await withToken(app, another, { url: '/verify' })).statusCode, 204)
      for (const [token, active] of [
        [login.refresh_token, false],
        [good.refresh_token, true],
      ] as const) {
        const answer = await postForm(app, '/introspect', { token, client_id: asks.id, client_secret: asks.secret })
        t.equal(json(answer).active, active, 'and is told apart when asked about')
      }
      const { sessions } = json(await withToken(app, good.access_token, { url: '/users/me/sessions' }))
      t.same(
        sessions.map(({ id }: { id: string }) => id),
        [claimsOf(good.access_token)['sid']],
        'and in the list',
      )
    }
  },
)

overStores('a client that is declared anew is another than the one of before', async (t, build) => {
  const secret = 'x'.repeat(40)
  const declaration = { client_id: 'app', client_secret: secret, grants: ['password', 'refresh_token'] }
  const first = await build({ AUTH_CLIENTS_FILE: await writeClients(t, [declaration]) })
  await signUp(first.app)
  const client = { client_id: 'app', client_secret: secret }
  const login = json(await postForm(first.app, '/token', { username: 'ada', password, ...client }))
  const gone = await first.restart({ AUTH_CLIENTS_FILE: await writeClients(t, []) })
  const { app } = await gone.restart({ AUTH_CLIENTS_FILE: await writeClients(t, [declaration]) })
  t.equal(await challengeTo(app, login.access_token), challenges.revoked)
  const again = await postForm(app, '/token', {
    grant_type: 'refresh_token',
    refresh_token: login.refresh_token,
    ...client,
  })
  t.equal(again.statusCode, 400)
  t.ok(
    await isAccepted(app, json(await postForm(app, '/token', { username: 'ada', password, ...client })).access_token),
  )
})

onOneStore(
  'the secret before, which a clock a year ahead gave a day more, has a day from when that was put right',
  async (t, build) => {
    const { app, clock } = await build()
    const old = await makeClient(app, { id: 'svc' })
    clock.now += year
    const secret = await app.clients.rotateSecret(app, 'svc', 86_400)
    clock.now -= year
    const status = async (of: string) => (await clientCredentials(app, { id: 'svc', secret: of })).statusCode
    t.same([await status(old.secret), await status(secret)], [200, 200])
    clock.now += day
    clock.passedMs = day
    t.same([await status(old.secret), await status(secret)], [401, 200])
  },
)
