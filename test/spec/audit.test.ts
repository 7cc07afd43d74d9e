import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { type AuditRow, erasingEvent } from '../../domain/audit.ts'
import type { User } from '../../domain/user.ts'
import { type EventName, events } from '../../events.ts'
import { retriesMs } from '../../plugins/logout/logouts.ts'
import { createFailureBudget } from '../../plugins/run/failure-budget.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { basic, callerFrom, makeClient, tokenOf, until } from '../support/client-helper.ts'
import { codesOf, decide, makeDeviceClient } from '../support/devices.ts'
import { challenge, codeOf, exchange, giveTotp, signInWithCode } from '../support/factors.ts'
import {
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
import { startLogoutReceiver } from '../support/logout-receiver.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'
import { callback, errorOf, openRelyingParty } from '../support/relying-party.ts'

/* What happened, as rows in the store: docs/audit.md. */

const wrong = 'wrong horse battery staple'
const tryLogIn = (app: FastifyInstance, username: string, secret = wrong) =>
  postForm(app, '/token', { username, password: secret })

/** An administrator's token. */
async function adminOf({ app }: TestApp): Promise<string> {
  await app.users.signUp(callerFrom('198.51.100.1', app.log), { username: 'root', password, roles: ['admin'] })
  return json(await postForm(app, '/token', { username: 'root', password, scope: 'admin' })).access_token
}

interface Event {
  id: string
  event: EventName
  [member: string]: unknown
}
async function listed(app: FastifyInstance, token: string, path: string): Promise<{ events: Event[]; next?: string }> {
  await app.audit.written()
  const answer = await withToken(app, token, { url: path })
  if (answer.statusCode !== 200) throw new Error(answer.body)
  return json(answer)
}

/** What is told of where there is no app, of a process, or by a command. */
const notOfTheApp = [
  'users.imported',
  'secret.rotated',
  'key.lost',
  'worker.started',
  'worker.ended',
  'log.dropped',
] as const
const ofTheDisk = ['store.damaged', 'store.broken'] as const
/** Told by tests of their own, for they need a setting. Mails leave by a clock of their own, and may fail at any time. */
const ofSettings = [
  ...['key.added', 'client.changed', 'webhook.disabled', 'webhook.enabled', 'webhook.resent'],
  'mail.failed',
] as const
/** Told by a test of its own, for it needs an authenticator. */
const ofPasskeys = ['passkey.cloned'] as const

/** Does what is told of second factors. @returns the id of the user */
async function useFactors({ app, clock }: TestApp): Promise<string> {
  const { id } = json(await signUp(app, 'grace'))
  const { secret } = await giveTotp(app, 'grace')
  const tokens = await signInWithCode(app, codeOf(secret, clock.now), 'grace')
  const ask = (method: 'POST' | 'DELETE', url: string) =>
    withToken(app, tokens.access_token, { method, url: `/users/me/factors${url}` })
  const { codes } = json(await ask('POST', '/recovery-codes'))
  const stepUp = { acr_values: 'urn:latchkey:acr:2', max_age: '0' }
  const raising = await challenge(app, stepUp, { headers: { authorization: `Bearer ${tokens.access_token}` } })
  const withPassword = await challenge(app, { auth_session: json(raising).auth_session, password })
  const { auth_session } = json(withPassword)
  const { authorization_code } = json(await challenge(app, { auth_session, recovery_code: codes[0] }))
  t.equal((await exchange(app, authorization_code)).statusCode, 200)
  const other = await giveTotp(app, 'grace')
  t.equal((await ask('DELETE', `/${other.id}`)).statusCode, 204)
  await app.userAdmin.resetFactors(callerFrom('198.51.100.7', app.log), id)
  return id
}

/**
 * Does what is told of sign-in in a browser, of apps and of devices.
 *
 * @param logoutUri where nobody takes what the app is told
 * @returns the id of the user, and the session that the app was not told the end of
 */
async function useBrowser({ app, clock }: TestApp, logoutUri: string): Promise<{ id: string; sid: unknown }> {
  const { id } = json(await signUp(app, 'bob'))
  const shop = await makeClient(app, {
    ...{ id: 'shop', grants: ['authorization_code', 'refresh_token'], redirectUris: [callback] },
    ...{ backchannelLogoutUri: logoutUri, pkce: 'optional', idTokenAlg: 'ES256' },
  })
  const relyingParty = await openRelyingParty(app, shop, undefined, { username: 'bob' })
  const { browser } = relyingParty
  const returned = await relyingParty.authorize()
  await relyingParty.trade(returned)
  t.equal(await errorOf(relyingParty.trade(returned)), 'invalid_grant', 'a code is good once')
  const { claims } = await relyingParty.signIn()
  await makeDeviceClient(app)
  for (const decision of ['allow', 'refuse'] as const) t.ok(await decide(app, await codesOf(app), decision, 'bob'))
  const withdrawn = await browser.submit(await browser.open('/account/apps'), { client: 'shop' })
  t.equal(withdrawn.url, '/account/apps?done=withdrawn')
  await browser.submit(await browser.open('/sign-out'), {}, '/sign-out')
  for (const pauseMs of [0, ...retriesMs]) {
    clock.now += pauseMs
    await app.logouts.look()
    await app.logouts.sent()
  }
  return { id, sid: claims['sid'] }
}

overStores('every event that the app tells is a row in the store, with what the log says of it', async (t, build) => {
  const receiver = await startLogoutReceiver(t)
  receiver.answer = 503
  const settings = { AUTH_ISSUER: 'https://auth.example', AUTH_FETCH_ALLOW: '127.0.0.1' }
  const test = await build({ ...(await mailsInto(t)), ...settings })
  const { app, clock } = test
  const outbox = outboxOf(app)
  const told: { event: string; members: Record<string, unknown> }[] = []
  app.events.onAny((event, members) => {
    if (event !== 'mail.failed') told.push({ event, members: { ...members } })
  })
  const begin = await app.store.auditEnd()
  const by = callerFrom('198.51.100.7', app.log)

  const token = await adminOf(test)
  const { id } = json(await signUp(app))
  const graceId = await useFactors(test)
  const { id: bobId, sid } = await useBrowser(test, receiver.origin)
  await tryLogIn(app, 'ada')
  for (let i = 0; i < 11; i++) await tryLogIn(app, `nobody`)
  const first = await logIn(app)
  const next = json(await refresh(app, first.refresh_token))
  clock.now += 60_000
  await refresh(app, json(await refresh(app, next.refresh_token)).refresh_token)
  await refresh(app, first.refresh_token)
  await withToken(app, (await logIn(app)).access_token, { method: 'POST', url: '/logout' })
  const change = { current_password: password, new_password: `${password} anew` }
  const { access_token } = await logIn(app)
  await withToken(app, access_token, { method: 'POST', url: '/users/me/password', payload: change })
  const [email, another, current] = ['ada@example.com', 'another@example.com', `${password} anew`]
  // A notice may come in between.
  const tokenTo = (to: string) => ({
    token: outbox.mails.findLast((mail) => mail.to === to && mail.token !== undefined)?.token as string,
  })
  for (const address of [email, another]) {
    const user = (await app.users.find(id)) as User
    await app.emails.ask(by, user, { email: address, password: current, locale: 'en' })
    const undo = address === another && tokenTo(email)
    await app.emails.verify(by, tokenTo(address))
    if (undo) await app.emails.undo(by, undo.token)
  }
  await app.passwordReset.ask(by, { email }, 'en')
  await app.passwordReset.reset(by, tokenTo(email), `${password} reset`)
  await app.userAdmin.setPassword(by, id, `${password} set`)
  await app.userAdmin.change(by, id, { roles: ['editor'], username: 'lovelace', email: 'x@example.com' })
  await app.userAdmin.change(by, id, { email: null })
  await app.invitations.withdraw(by, (await app.invitations.invite(by, {}, 'en')).id)
  await app.userAdmin.disable(by, id)
  await app.userAdmin.enable(by, id)
  await app.sessions.endAll(by, id)
  const acting = { method: 'POST', url: `/admin/users/${id}/token`, payload: {} } as const
  t.equal((await withToken(app, token, acting)).statusCode, 200)

  const client = await makeClient(app, { id: 'orders' })
  await postForm(app, '/token', { grant_type: 'client_credentials' }, basic({ ...client, secret: 'wrong' }))
  const ofClient = await tokenOf(app, client)
  await postForm(app, '/revoke', { token: ofClient }, basic(client))
  await app.clients.rotateSecret(by, 'orders', 60)
  await app.clients.disable(by, 'orders')
  await app.clients.enable(by, 'orders')
  await app.clients.remove(by, 'orders')
  await app.signingKeys.rotateNow(by, { isLeaked: true })
  await app.signingKeys.rotateNow(by, { isLeaked: false })
  for (let day = 0; day < 3; day++) {
    clock.now += 86_400_000
    clock.passedMs = (clock.passedMs ?? 0) + 86_400_000
    await app.signingKeys.poll()
  }
  await app.userAdmin.delete(by, id)
  await app.audit.written()

  const rows: AuditRow[] = []
  for (let cursor = begin; ; ) {
    const page = await app.store.auditSince(cursor, 100)
    rows.push(...page.rows.filter(({ event }) => event !== 'mail.failed'))
    cursor = page.cursor
    if (!page.more) break
  }
  const names = (of: { event: string }[]) => of.map(({ event }) => event).sort()
  t.same(names(rows), names(told), 'one row for each')
  const untold = [...notOfTheApp, ...ofTheDisk, ...ofSettings, ...ofPasskeys] as string[]
  t.same(
    Object.keys(events).filter((event) => !told.some((one) => one.event === event) && !untold.includes(event)),
    [],
    'and each event of the table was told',
  )
  for (const row of rows) t.equal(row.outcome, events[row.event as EventName].level === 'info' ? 'success' : 'failure')

  const rowOf = (event: EventName) => rows.find((row) => row.event === event)
  t.match(rowOf('user.roles_set'), { user: id, detail: { roles: ['editor'] } })
  // Of each algorithm, in any order.
  const rotated = rows.find(({ event, detail }) => event === 'key.rotated' && detail?.['alg'] === 'ES256')
  t.match(rotated, { detail: { kid: String, signs_from: String } })
  t.match(rowOf('refresh.reused'), { user: id, session: String, client: 'first-party' })
  t.match(rowOf('factor.added'), { user: graceId, detail: { kind: 'totp', factor: String } })
  t.match(rowOf('recovery_code.used'), { user: graceId, detail: { left: 9 } })
  t.match(rowOf('session.raised'), { user: graceId, session: String, detail: { acr: 'urn:latchkey:acr:2' } })
  const ofGrace = rows.filter(({ event, user }) => event === 'login.succeeded' && user === graceId)
  t.match(
    ofGrace,
    [{ detail: { amr: ['pwd', 'otp', 'mfa'] } }],
    'how somebody has signed in, where it was not a password',
  )
  t.match(rowOf('browser.signed_in'), { user: bobId, detail: { browser: String, amr: ['pwd'] } })
  t.match(rowOf('consent.given'), { user: bobId, client: 'shop', detail: { scope: 'openid' } })
  t.match(rowOf('code.reused'), { session: String, client: 'shop' })
  t.match(rowOf('device.allowed'), { user: bobId, client: 'cli', detail: { device_address: String } })
  const untoldApps = rows.filter(({ event, session }) => event === 'logout.failed' && session === sid)
  t.match(untoldApps, [{ user: bobId, client: 'shop', detail: { reason: 'it answered 503', tries: 4 } }])
  const revoked = rowOf('token.revoked')
  t.match(revoked, { client: 'orders', detail: { jti: String } })
  t.equal(revoked?.user, undefined, 'a client is no user')
  const ofNobody = rows.filter(({ event, user }) => event === 'login.failed' && !user)
  t.equal(new Set(ofNobody.map(({ detail }) => detail?.['account'])).size, 1, 'a MAC of the name')
  t.notMatch(JSON.stringify(rows), /nobody|"ada"|horse/)
  t.equal((await withToken(app, token, { url: '/admin/audit' })).statusCode, 401, 'a day is over')
})

overStores('administrators read what happened, by user, client, session, event and time', async (t, build) => {
  const test = await build()
  const { app, clock } = test
  const token = await adminOf(test)
  const { id } = json(await signUp(app))
  const agent = { headers: { 'user-agent': 'a browser' }, remoteAddress: '192.0.2.7' }
  const failed = await postForm(app, '/token', { username: 'ada', password: wrong }, agent)
  clock.now += 3_600_000
  const fresh = json(await postForm(app, '/token', { username: 'root', password, scope: 'admin' })).access_token
  await logIn(app)
  const get = (query: string) => listed(app, fresh, `/admin/audit${query}`)

  const ofAda = (await get('?user=ADA')).events
  t.same(
    ofAda.map(({ event }) => event),
    ['login.succeeded', 'login.failed', 'user.created'],
  )
  t.strictSame(ofAda[1], {
    ...{ id: ofAda[1]?.id, at: new Date(clock.now - 3_600_000).toISOString(), event: 'login.failed' },
    ...{ outcome: 'failure', user: id, address: '192.0.2.7', user_agent: 'a browser' },
    ...{ request_id: failed.headers['x-request-id'], detail: { reason: 'wrong password' } },
  })
  t.same((await get(`?user=${id}`)).events, ofAda, 'by id')
  t.same((await get(`?user=ada&event=login.failed`)).events, [ofAda[1]])
  t.same((await get(`?session=${ofAda[0]?.['session']}`)).events, [ofAda[0]])
  t.equal((await get('?client=first-party')).events.length, 3)
  t.same((await get('?user=ada&since=30m')).events, [ofAda[0]])
  t.same((await get(`?user=ada&since=${new Date(clock.now).toISOString()}`)).events, [ofAda[0]])
  t.same((await get('?user=nobody')).events, [])
  t.same((await get(`?user=${randomUUID()}`)).events, [])

  const all: Event[] = []
  let after: string | undefined
  do {
    const page = await get(`?limit=2${after === undefined ? '' : `&after=${after}`}`)
    t.ok(page.events.length <= 2)
    all.push(...page.events)
    after = page.next
  } while (after !== undefined)
  t.same(all, (await get('')).events)
  t.equal(all.length, 7)

  for (const query of [
    'since=yesterday',
    'since=-1',
    'event=no.such',
    'after=1',
    'limit=0',
    'limit=101',
    'name=x',
    'user=',
  ])
    t.equal((await withToken(app, fresh, { url: `/admin/audit?${query}` })).statusCode, 400, query)
  const ofUser = await logIn(app)
  t.equal((await withToken(app, ofUser.access_token, { url: '/admin/audit' })).statusCode, 403)
  t.ok(token)
})

onOneStore('a user reads of their own account, and not which administrator acted', async (t, build) => {
  const test = await build()
  const { app } = test
  const token = await adminOf(test)
  const { id } = json(await signUp(app))
  await signUp(app, 'bob')
  const payload = { roles: ['editor'] }
  await withToken(app, token, { method: 'PUT', url: `/admin/users/${id}/roles`, payload, remoteAddress: '203.0.113.9' })
  const { access_token } = await logIn(app)
  const { events: own } = await listed(app, access_token, '/users/me/audit')
  t.same(
    own.map(({ event }) => event),
    ['login.succeeded', 'user.roles_set', 'user.created'],
  )
  t.match(own[1], { by: 'administrator', detail: { roles: ['editor'] } })
  t.notMatch(JSON.stringify(own[1]), '203.0.113.9')
  const { events: seen } = await listed(app, token, `/admin/audit?user=ada&event=user.roles_set`)
  const { sub } = JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString())
  t.match(seen, [{ by: sub, address: '203.0.113.9' }])
  t.same((await listed(app, access_token, '/users/me/audit?limit=1&event=user.created')).events, [own[2]])
})

overStores(
  'the rows of a deleted user lose address and agent, at once, and late ones with the job',
  async (t, build) => {
    const test = await build()
    const { app } = test
    const token = await adminOf(test)
    const { id } = json(await signUp(app))
    const { access_token } = await logIn(app)
    await tryLogIn(app, 'ada')
    await withToken(app, access_token, { method: 'DELETE', url: '/users/me', payload: { password } })
    const { events: left } = await listed(app, token, `/admin/audit?user=${id}`)
    t.same(left.map(({ event }) => event).sort(), ['login.failed', 'login.succeeded', 'user.created', erasingEvent])
    for (const row of left) {
      t.equal(row['user'], id)
      t.notOk('address' in row || 'user_agent' in row, row.event)
    }
  },
)

onOneStore(
  'failed logins are 1,000 rows a minute at most, of all processes together, and one that counts',
  async (t, build) => {
    const { app, clock } = await build()
    const store = storeOf(app)
    const now = () => clock.now
    const budgets = Array.from({ length: 4 }, () => createFailureBudget(store, now))
    const storm = async (rows: number) => {
      let kept = 0
      for (const budget of budgets) {
        const batch = Array.from({ length: rows / 4 }, () => ({ event: 'login.failed' }) as never)
        kept += (await budget.keepOf(batch)).length
      }
      return kept
    }
    t.equal(await storm(4_000), 1_000)
    t.equal(await storm(400), 0)
    const counted = () => budgets.map((budget) => budget.takeUncounted(false).get('login.failed') ?? 0)
    t.same(counted(), [0, 0, 0, 0], 'not before the minute is over')
    clock.now += 60_000
    t.equal(
      counted().reduce((sum, count) => sum + count, 0),
      3_400,
    )
    t.equal(await storm(400), 400, 'the next minute has rows of its own')
    const [one] = budgets as [(typeof budgets)[0]]
    t.equal((await one.keepOf([{ event: 'user.created' } as never])).length, 1, 'others are not bounded')
  },
)

onOneStore('a storm of guesses over HTTP ends as one row that counts', async (t, build) => {
  const { app, clock } = await build()
  const store = storeOf(app)
  // What other processes have taken of this minute: all but ten rows.
  const grants = { key: 'audit', tag: String(Math.floor(clock.now / 60_000)), count: 99, lastAt: clock.now }
  await store.importRows('failures', [grants])
  for (let i = 0; i < 14; i++) await tryLogIn(app, `nobody-${i}`)
  await app.audit.written()
  const rows = async () => (await store.listAudit({ event: 'login.failed' }, { limit: 20 })).rows
  t.equal((await rows()).length, 10)
  await app.audit.close()
  const [counted, ...others] = await rows()
  t.equal(others.length, 10)
  t.match(counted, { outcome: 'failure', detail: { count: 4 } })
  t.equal(counted?.address, undefined)
})

onOneStore(
  'rows of what changed nothing wait for a store that is away, and no login waits for them',
  async (t, build) => {
    const { app, logs } = await build()
    const store = storeOf(app)
    const { addAudit } = store
    store.addAudit = () => Promise.reject(new StoreUnavailable(new Error('down')))
    t.equal((await tryLogIn(app, 'nobody')).statusCode, 400)
    await until(() => logs.some(({ msg }) => String(msg).startsWith('what happened could not be written')))
    for (let i = 0; i < 1_100; i++) app.events.emit(app, 'client.refused', { reason: 'x', address: '192.0.2.1' })
    t.equal(app.audit.dropped, 100, 'no more than 1,000 wait')
    store.addAudit = addAudit
    await until(async () => (await store.listAudit({ event: 'login.failed' }, { limit: 2 })).rows.length === 1)
  },
)

onOneStore('nor is one lost where the store fails when it is asked whether there is room', async (t, build) => {
  const { app, logs } = await build()
  const store = storeOf(app)
  const { recordFailure } = store
  store.recordFailure = () => Promise.reject(new StoreUnavailable(new Error('down')))
  app.events.emit(app, 'client.refused', { reason: 'x', address: '192.0.2.1' })
  await until(() => logs.some(({ msg }) => String(msg).startsWith('what happened could not be written')))
  store.recordFailure = recordFailure
  await until(async () => (await store.listAudit({ event: 'client.refused' }, { limit: 2 })).rows.length === 1)
  t.pass('it is written in the end')
})

t.test('a failure beyond the bound is counted once, also where the store fails in the middle of a batch', async (t) => {
  let [asked, minute] = [0, 1]
  const store = {
    async recordFailure() {
      asked += 1
      if (asked === 2) throw new StoreUnavailable(new Error('down'))
      minute += 1
      return [{ count: 1_000, lastAt: 0 }]
    },
  }
  const budget = createFailureBudget(store, () => minute * 60_000)
  const row = { id: '', at: 0, event: 'login.failed', outcome: 'failure' } as const
  await t.rejects(budget.keepOf([row, row]))
  t.same(await budget.keepOf([row, row]), [])
  t.same([...budget.takeUncounted(true)], [['login.failed', 2]])
})
