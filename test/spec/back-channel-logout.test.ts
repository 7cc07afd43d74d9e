import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { createLocalJWKSet, jwtVerify } from 'jose'
import type { Client } from '../../domain/client.ts'
import { retriesMs } from '../../plugins/logout/logouts.ts'
import { leaseMs } from '../../plugins/records/due.ts'
import { logoutRecord } from '../../stores/tables/browser-sessions.ts'
import { failStore, until } from '../support/client-helper.ts'
import { type Build, type Clock, onOneApp, onOneStore, overStores, type Scope, storeOf } from '../support/helper.ts'
import { startLogoutReceiver } from '../support/logout-receiver.ts'

/* How apps are told that a session of theirs has ended: OpenID Connect Back-Channel Logout 1.0, contract section 12. */

const sub = '2d5c9f4e-0a53-4c8f-9d0e-2f8f1f4a6b11'
const createdAt = 1_700_000_000_000

const clientOf = (id: string, backchannelLogoutUri: string | undefined, more: Partial<Client> = {}): Client => ({
  ...{ id, type: 'public', grants: ['authorization_code'], scopes: [], audience: [], introspect: 'none' },
  ...{ isDeclared: false, secrets: [], generation: 0, createdAt, redirectUris: ['https://app.example.com/cb'] },
  idTokenAlg: 'ES256',
  ...(backchannelLogoutUri !== undefined && { backchannelLogoutUri }),
  ...more,
})

/** As the store leaves it in the step that ends a session. @returns the `sid` */
async function endSession(app: FastifyInstance, clock: Clock, clientId: string, birth = createdAt): Promise<string> {
  const sid = randomUUID()
  const session = {
    ...{ id: sid, userId: sub, clientId, clientCreatedAt: birth, scope: [], generation: 1, counter: 0 },
  }
  const times = { createdAt: clock.now, refreshedAt: clock.now, address: '192.0.2.1', userAgent: '' }
  const bounds = { perOwner: 10_000, perSource: 10_000 }
  await storeOf(app).issueRecord(logoutRecord({ ...session, ...times }, clock.now), bounds)
  return sid
}

/** Looks at once for what is due, and waits until all of it is told, or was not taken. */
async function look(app: FastifyInstance): Promise<void> {
  await app.logouts.look()
  await app.logouts.sent()
}

/** Time that passes, by the clock and by what nobody sets. */
function pass(clock: Clock, ms: number): void {
  clock.now += ms
  clock.passedMs = (clock.passedMs ?? 0) + ms
}

async function buildWith(t: Scope, build: Build) {
  const receiver = await startLogoutReceiver(t)
  const test = await build({ AUTH_FETCH_ALLOW: '127.0.0.1' })
  for (const client of [clientOf('shop', `${receiver.origin}/shop`), clientOf('wiki', `${receiver.origin}/wiki`)])
    await storeOf(test.app).createClient(client)
  return { receiver, ...test }
}

/** What is left to be told, in the next minutes too. */
const due = (app: FastifyInstance, { now }: Clock) => storeOf(app).dueRecords(['logout'], now + 10 * 60_000, 100)

overStores('a logout token says which session of which user has ended, to its client alone', async (t, build) => {
  const { receiver, app, clock } = await buildWith(t, build)
  await storeOf(app).createClient(clientOf('rsa', `${receiver.origin}/rsa?keep=1`, { idTokenAlg: 'RS256' }))
  const ends = [await endSession(app, clock, 'shop'), await endSession(app, clock, 'rsa')]
  await look(app)
  t.same(receiver.sidsTold(), [...ends].sort())
  t.same(await due(app, clock), [], 'and not again')
  const { keys } = (await app.inject('/.well-known/jwks.json')).json()
  for (const [i, [aud, alg]] of [['shop', 'ES256'] as const, ['rsa', 'RS256'] as const].entries()) {
    const told = receiver.told.find(({ claims }) => claims.sid === ends[i])
    t.equal(told?.path, i === 0 ? '/shop' : '/rsa?keep=1')
    const { payload, protectedHeader } = await jwtVerify(told?.token ?? '', createLocalJWKSet({ keys }), {
      ...{ issuer: 'http://localhost:3000', audience: aud, typ: 'logout+jwt', currentDate: new Date(clock.now) },
      requiredClaims: ['iat', 'exp', 'jti', 'sub', 'sid', 'events'],
    })
    t.equal(protectedHeader.alg, alg)
    t.match(payload, {
      sub,
      sid: ends[i],
      aud,
      events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
    })
    t.notOk('nonce' in payload, 'or it could be taken for an ID token (§2.4)')
    t.ok(Number(payload.exp) - Number(payload.iat) <= 120)
  }
})

const onOne = onOneApp(buildWith)
type Built = Awaited<ReturnType<typeof buildWith>>
/** The one app, as if nothing had happened yet. */
function anew({ receiver, logs, clock, ...test }: Built): Built {
  receiver.answer = 200
  receiver.told.length = 0
  logs.length = 0
  // What was not taken is not tried any more.
  pass(clock, 3_600_000)
  return { receiver, logs, clock, ...test }
}

onOne('a client that does not take it is told three times more, then an event says so', async (t, test) => {
  const { receiver, app, clock, logs } = anew(test)
  const { told, failed } = { ...app.logouts.attempts }
  receiver.answer = 503
  const sid = await endSession(app, clock, 'shop')
  await look(app)
  for (const [i, pauseMs] of retriesMs.entries()) {
    pass(clock, pauseMs - 1)
    await look(app)
    t.equal(receiver.told.length, i + 1, 'not before its pause')
    pass(clock, 1)
    await look(app)
    t.equal(receiver.told.length, i + 2)
  }
  t.equal(new Set(receiver.told.map(({ claims }) => claims.jti)).size, 4, 'each try with a token of its own')
  t.same(await due(app, clock), [])
  pass(clock, 10 * 60_000)
  await look(app)
  t.equal(receiver.told.length, 4)
  t.match(
    logs.filter(({ event }) => event === 'logout.failed'),
    [{ client_id: 'shop', sid, sub, tries: 4, reason: 'it answered 503' }],
  )
  t.same(app.logouts.attempts, { told, failed: failed + 4 })
})

onOne('a client that hangs keeps no other waiting, and is asked once in a while', async (t, test) => {
  const { receiver, app, clock } = anew(test)
  const hanging: (() => void)[] = []
  let isDead = false
  receiver.answer = ({ path }, response) => {
    if (path !== '/shop') response.writeHead(204).end()
    else if (isDead) response.destroy()
    else hanging.push(() => response.destroy())
  }
  await endSession(app, clock, 'shop')
  const sid = await endSession(app, clock, 'wiki')
  await app.logouts.look()
  await until(() => hanging.length === 1 && receiver.told.length === 2)
  t.match(receiver.told.find(({ path }) => path === '/wiki')?.claims, { sid }, '204 is as good as 200 (§2.8)')
  isDead = true
  hanging[0]?.()
  await app.logouts.sent()
  const before = receiver.told.length
  const others = await Promise.all(Array.from({ length: 20 }, () => endSession(app, clock, 'shop')))
  await look(app)
  t.equal(receiver.told.length, before, 'what else there is for it counts as tried')
  receiver.answer = 200
  pass(clock, retriesMs[0] as number)
  await look(app)
  t.equal(receiver.told.length, before + 1 + others.length)
})

onOne('nobody else is told: not a client that has the id of one that is gone, nor who never asked', async (t, test) => {
  const { receiver, app, clock } = anew(test)
  await storeOf(app).createClient(clientOf('silent', undefined))
  await endSession(app, clock, 'silent')
  await endSession(app, clock, 'gone')
  await endSession(app, clock, 'shop', createdAt - 1)
  await look(app)
  t.same(receiver.told, [])
  t.same(await due(app, clock), [])
})

onOneStore('what an app has registered does not make the service ask what only it can reach', async (t, build) => {
  const receiver = await startLogoutReceiver(t)
  const { app, clock, logs } = await build()
  const { port } = new URL(receiver.origin)
  // As if the names had been public when they were registered.
  const uris = [
    receiver.origin,
    `https://127.0.0.1:${port}/`,
    `https://localhost:${port}/`,
    `https://[::ffff:127.0.0.1]:${port}/`,
    'https://169.254.169.254/latest/meta-data/',
    `https://2130706433:${port}/`,
  ]
  for (const [i, uri] of uris.entries()) {
    await storeOf(app).createClient(clientOf(`c${i}`, uri))
    await endSession(app, clock, `c${i}`)
  }
  await look(app)
  const refused = logs.filter(({ msg }) => msg === 'a client was not told that a session has ended')
  t.equal(refused.length, uris.length)
  for (const { reason } of refused) t.match(reason, /AUTH_FETCH_ALLOW/)
  t.same([receiver.told, receiver.others], [[], []], 'nothing was sent')
})

onOne('an answer leads nowhere else, and is not read to its end', async (t, test) => {
  const { receiver, app, clock, logs } = anew(test)
  receiver.answer = (_, response) => response.writeHead(307, { location: `${receiver.origin}/elsewhere` }).end()
  await endSession(app, clock, 'shop')
  await look(app)
  t.same(
    receiver.told.map(({ path }) => path),
    ['/shop'],
  )
  t.match(
    logs.filter(({ reason }) => reason !== undefined),
    [{ reason: 'it answered 307' }],
  )
  let sent = 0
  receiver.answer = (_, response) => {
    const flood = Buffer.alloc(1 << 16)
    const pour = () => {
      while (response.write(flood)) sent += flood.length
    }
    response.on('drain', pour).on('error', () => {})
    pour()
  }
  await endSession(app, clock, 'wiki')
  await look(app)
  t.ok(sent < 1 << 24)
})

onOne('of a process that is gone another tells on, and a store that is away loses nothing', async (t, test) => {
  const { receiver, app, clock } = anew(test)
  const sid = await endSession(app, clock, 'shop')
  const heal = failStore(app, /removeRecord/)
  await look(app)
  heal()
  t.equal(receiver.told.length, 1, 'told, and nobody could write that it was')
  await look(app)
  t.equal(receiver.told.length, 1, 'the record is had by the process that told')
  pass(clock, leaseMs)
  await look(app)
  t.same(receiver.sidsTold(), [sid, sid], 'told once more rather than never')
  t.same(await due(app, clock), [])
})
