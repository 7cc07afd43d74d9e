import { request as httpRequest, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { mock } from 'node:test'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { AccessTokenClaims } from '../../domain/access-token.ts'
import { createRevocationSet } from '../../domain/revocation.ts'
import { basic, type Credentials, failStore, makeClient, tokenOf, until } from '../support/client-helper.ts'
import {
  type Build,
  challenges,
  challengeTo,
  cheapHashing,
  claimsOf,
  isAccepted,
  json,
  listen,
  logIn,
  newDir,
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
import { isLong } from '../support/processes.ts'

/* `GET /revocations`: the list, and the stream of server-sent events (WHATWG HTML §9.2). */

interface Entry {
  kind: string
  id: string
  generation?: number
  except_sid?: string
  revoked_at: string
  expires_at: string
}
interface Event {
  event: string
  id?: string
  data: { revocations?: Entry[]; more?: boolean }
}

/** The service with a user and a client that may follow. */
async function serve(build: Build, settings: Record<string, string> = {}) {
  const test = await build(settings)
  await signUp(test.app)
  return { ...test, follower: await makeClient(test.app, { id: 'follower', introspect: 'audience' }) }
}

const poll = (app: FastifyInstance, follower: Credentials, since?: string) =>
  app.inject({
    url: `/revocations${since === undefined ? '' : `?${new URLSearchParams({ since })}`}`,
    ...basic(follower),
  })

/**
 * Asks over a socket of its own, which is gone with the request. `fetch` would keep some, and closing the app would
 * wait for them.
 */
function get(
  t: Test,
  url: string,
  client: Credentials,
  headers: Record<string, string> = {},
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, {
      agent: false,
      headers: { accept: 'text/event-stream', ...basic(client).headers, ...headers },
    })
    t.teardown(() => request.destroy())
    request.on('response', resolve).on('error', reject).end()
  })
}

const originOf = async (app: FastifyInstance) =>
  app.server.listening ? `http://127.0.0.1:${(app.server.address() as AddressInfo).port}` : listen(app)

/** Follows the stream, as EventSource does. */
async function follow(
  t: Test,
  app: FastifyInstance,
  follower: Credentials,
  headers: Record<string, string> = {},
  query = '',
) {
  const response = await get(t, `${await originOf(app)}/revocations${query}`, follower, headers)
  const events: Event[] = []
  const stream = {
    ...{
      status: response.statusCode,
      headers: response.headers,
      events,
      retry: undefined as number | undefined,
      isEnded: false,
    },
    leave: () => void response.destroy(),
    entries: () => events.flatMap(({ data }) => data.revocations ?? []),
    last: () => events.findLast(({ id }) => id !== undefined)?.id as string,
  }
  response.on('close', () => {
    stream.isEnded = true
  })
  response.on('error', () => {})
  if (!stream.headers['content-type']?.startsWith('text/event-stream')) {
    response.resume()
    return stream
  }
  const parts: string[] = []
  response.setEncoding('utf8').on('data', (chunk: string) => {
    parts.push(chunk)
    if (!chunk.endsWith('\n')) return
    const blocks = parts.splice(0).join('').split('\n\n')
    parts.push(blocks.pop() as string)
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block.split('\n').map((line) => /^([a-z]+): (.*)$/.exec(line)?.slice(1) as [string, string]),
      )
      if ('retry' in fields) stream.retry = Number(fields['retry'])
      const { event = '', id, data = '{}' } = fields
      events.push({ event, ...(id !== undefined && { id }), data: JSON.parse(data) })
    }
  })
  return stream
}

const keysOf = (entries: Entry[]) => entries.map(({ kind, id }) => `${kind}:${id}`)
const has = (stream: { entries(): Entry[] }, kind: string, id: unknown) =>
  keysOf(stream.entries()).includes(`${kind}:${id}`)

overStores('the list tells what is revoked since a cursor: everything in force without one', async (t, build) => {
  const { app, clock, follower } = await serve(build)
  const empty = await poll(app, follower)
  t.equal(empty.statusCode, 200)
  t.match(empty.headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store' })
  t.same(json(empty).revocations, [])

  const { access_token, refresh_token } = await logIn(app)
  const { sub, sid, jti } = claimsOf(access_token)
  await postForm(app, '/revoke', { token: access_token })
  const first = json(await poll(app, follower, json(empty).cursor))
  const times = {
    revoked_at: new Date(clock.now).toISOString(),
    expires_at: new Date(clock.now + 960_000).toISOString(),
  }
  t.same(first.revocations, [{ kind: 'jti', id: jti, ...times }])
  clock.now += 1
  await postForm(app, '/revoke', { token: refresh_token })
  const second = json(await poll(app, follower, first.cursor))
  t.ok(keysOf(second.revocations).includes(`sid:${sid}`))
  await withToken(app, (await logIn(app)).access_token, { method: 'DELETE', url: '/users/me/sessions' })
  const third = json(await poll(app, follower, second.cursor))
  t.match(third.revocations.at(-1), { kind: 'user', id: sub, generation: 1 })
  t.notOk('except_sid' in third.revocations.at(-1))

  t.same(json(await poll(app, follower, third.cursor)).revocations, [], 'and nothing twice without need')
  for (const cursor of [undefined, json(empty).cursor]) {
    t.same(
      new Set(keysOf(json(await poll(app, follower, cursor)).revocations)),
      new Set([`jti:${jti}`, `sid:${sid}`, `user:${sub}`]),
    )
  }
})

overStores(
  'an entry tells all that a service needs to refuse a token: what a password change keeps',
  async (t, build) => {
    const { app, follower } = await serve(build)
    const [other, kept] = [await logIn(app), await logIn(app)]
    const payload = { current_password: password, new_password: `${password}!` }
    t.equal(
      (await withToken(app, kept.access_token, { method: 'POST', url: '/users/me/password', payload })).statusCode,
      204,
    )
    const [entry] = json(await poll(app, follower)).revocations as Entry[]
    const { sub, sid, jti } = claimsOf(kept.access_token)
    t.match(entry, { kind: 'user', id: sub, generation: 1, except_sid: sid })
    const generation = Number(String(claimsOf(other.access_token)['jti']).split('.')[0])
    t.ok(generation < (entry?.generation ?? 0), 'tokens of before are of an earlier generation, by their jti')
    t.equal(Number(String(jti).split('.')[0]), generation, 'and so is the one that is kept')
  },
)

t.test('of two entries for one user the later generation and the later end are kept, in either order', async (t) => {
  const ofUser = (generation: number) => ({ kind: 'user', id: 'ada', generation }) as const
  const token = (generation: number) => ({
    ...{ iss: '', aud: '', sub: 'ada', client_id: 'web', sid: 's' },
    iat: 0,
    exp: 0,
    jti: `${generation}.0.x`,
  })
  for (const order of [
    [ofUser(5), ofUser(4)],
    [ofUser(4), ofUser(5)],
  ]) {
    const revoked = createRevocationSet()
    // The earlier one was made while tokens lived longer.
    for (const entry of order) revoked.add(entry, entry.generation === 4 ? 2_000 : 1_000)
    t.ok(revoked.isRevoked(token(4)))
    t.notOk(revoked.isRevoked(token(5)))
    revoked.forgetExpired(1_999, 10)
    t.ok(revoked.isRevoked(token(3)), 'a token of the longer life may be alive')
    revoked.forgetExpired(2_000, 10)
    t.equal(revoked.size, 0)
  }
})

t.test('expired entries are forgotten a few at a time, going on where the last call was', async (t) => {
  const revoked = createRevocationSet()
  for (let n = 0; n < 10; n++) revoked.add({ kind: 'jti', id: `${n}` }, n < 8 ? 1 : 3)
  revoked.add({ kind: 'client', id: 'web', generation: 2 }, 1)
  const forgotten: string[] = []
  for (let call = 0; call < 3; call++) revoked.forgetExpired(2, 4, (kind, id) => forgotten.push(`${kind} ${id}`))
  t.same(forgotten, [...[0, 1, 2, 3, 4, 5, 6, 7].map((n) => `jti ${n}`), 'client web'])
  t.equal(revoked.size, 2)
})

overStores('a cursor that is none of ours gives everything in force: nothing is missed', async (t, build) => {
  const { app, follower } = await serve(build)
  const { access_token } = await logIn(app)
  await withToken(app, access_token, { method: 'POST', url: '/logout' })
  const expected = [`sid:${claimsOf(access_token)['sid']}`]
  const cursors = [
    '-1',
    '0',
    '1e3',
    'NaN',
    'x',
    '99999999999999999',
    '../..',
    "' OR 1=1 --",
    'é',
    '.',
    '0.0.0',
    'null',
    '__proto__',
  ]
  for (const cursor of [...cursors, 'x'.repeat(256)]) {
    const response = await poll(app, follower, cursor)
    t.equal(response.statusCode, 200, encodeURIComponent(cursor.slice(0, 20)))
    t.same(keysOf(json(response).revocations), expected)
  }
  t.equal((await poll(app, follower, 'x'.repeat(257))).statusCode, 400)
  t.equal((await app.inject({ url: '/revocations?since=1&since=2', ...basic(follower) })).statusCode, 400)
})

onOneStore('only a confidential client with the introspection right is told', async (t, build) => {
  const { app, follower } = await serve(build)
  const none = await makeClient(app, { id: 'none' })
  const { access_token } = await logIn(app)
  for (const headers of [{}, { accept: 'text/event-stream' }] as Record<string, string>[]) {
    const get = (authorization?: string) =>
      app.inject({ url: '/revocations', headers: { ...headers, ...(authorization && { authorization }) } })
    for (const [what, response] of Object.entries({
      'no credentials': await get(),
      'a bearer token': await get(`Bearer ${access_token}`),
      'a wrong secret': await get(basic({ ...follower, secret: 'wrong' }).headers.authorization),
      'a public client': await get(basic({ id: 'first-party', secret: '' }).headers.authorization),
      'an unknown client': await get(basic({ id: 'nobody', secret: 'x' }).headers.authorization),
    })) {
      t.equal(response.statusCode, 401, what)
      t.match(response.headers['www-authenticate'], /^Basic realm="latchkey"/)
      t.match(response.headers['content-type'], /problem\+json/)
    }
    t.equal((await get(basic(none).headers.authorization)).statusCode, 403, 'without the right')
  }
  t.equal((await poll(app, follower)).statusCode, 200)
})

onOneStore('the stream begins at once with everything in force', async (t, build) => {
  const { app, follower } = await serve(build)
  const { access_token } = await logIn(app)
  await withToken(app, access_token, { method: 'POST', url: '/logout' })
  const stream = await follow(t, app, follower)
  t.equal(stream.status, 200)
  t.equal(stream.headers['content-type'], 'text/event-stream; charset=utf-8')
  t.match(stream.headers, { 'cache-control': 'no-store', 'x-accel-buffering': 'no', 'x-request-id': String })
  await until(() => stream.events.length > 0)
  t.equal(stream.retry, 1000)
  t.match(stream.events[0], { event: 'revocations', id: String })
  t.same(keysOf(stream.entries()), [`sid:${claimsOf(access_token)['sid']}`])
  const nothing = await follow(t, app, follower, { 'last-event-id': stream.last() })
  await until(() => nothing.events.length > 0)
  t.same(
    nothing.events[0],
    { event: 'revocations', id: stream.last(), data: { revocations: [] } },
    'also when there is nothing new',
  )
})

/** Everything that ends access tokens, and the entry that tells of it. */
async function endEverything(app: FastifyInstance): Promise<string[]> {
  const told: string[] = []
  const bearer = (token: string, method: 'POST' | 'DELETE', url: string, payload?: object) =>
    withToken(app, token, { method, url, ...(payload && { payload }) })
  const login = async () => {
    const tokens = await logIn(app)
    return { ...tokens, ...(claimsOf(tokens.access_token) as { sub: string; sid: string; jti: string }) }
  }
  const out = await login()
  await bearer(out.access_token, 'POST', '/logout')
  const revoked = await login()
  await postForm(app, '/revoke', { token: revoked.access_token })
  await postForm(app, '/revoke', { token: revoked.refresh_token })
  const stolen = await login()
  await refresh(app, json(await refresh(app, stolen.refresh_token)).refresh_token)
  await refresh(app, stolen.refresh_token)
  told.push(`sid:${out.sid}`, `jti:${revoked.jti}`, `sid:${revoked.sid}`, `sid:${stolen.sid}`)

  const { access_token, sub } = await login()
  await bearer(access_token, 'POST', '/users/me/password', { current_password: password, new_password: `${password}!` })
  await bearer(access_token, 'DELETE', '/users/me/sessions')
  const again = await logIn(app, 'ada', `${password}!`)
  await bearer(again.access_token, 'DELETE', '/users/me', { password: `${password}!` })
  told.push(`user:${sub} 1`, `user:${sub} 2`, `user:${sub} ${Number.MAX_SAFE_INTEGER}`)

  const client = await makeClient(app, { id: 'orders' })
  const { generation = 0 } = (await app.clients.find(client.id)) ?? {}
  await app.clients.disable(app, 'orders')
  await app.clients.remove(app, 'orders')
  told.push(`client:orders ${generation + 1}`, `client:orders ${generation + 2}`)
  return told
}
const toldOf = (entries: Entry[]) =>
  entries.map(({ kind, id, generation }) => `${kind}:${id}${generation === undefined ? '' : ` ${generation}`}`)

overStores(
  'whatever ends access tokens is told, here and by a process beside it, and a follower that comes ' +
    'again misses nothing',
  async (t, build) => {
    const test = await serve(build)
    const { app, follower } = test
    const beside = await test.beside()
    const here = await follow(t, app, follower)
    const there = await follow(t, beside.app, follower)
    /** Leaves after each event, and comes again to either process with what it heard last. */
    const heard: Entry[] = []
    let isDone = false
    const restless = (async () => {
      let lastEventId = ''
      for (let turn = 0; !isDone || turn % 2 === 1; turn += 1) {
        const stream = await follow(
          t,
          turn % 2 ? app : beside.app,
          follower,
          lastEventId ? { 'last-event-id': lastEventId } : {},
        )
        await until(() => stream.events.length > 0)
        heard.push(...stream.entries())
        lastEventId = stream.last()
        stream.leave()
      }
    })()
    const expected = await endEverything(app)
    const isTold = (entries: Entry[]) => expected.every((entry) => toldOf(entries).includes(entry))
    await until(() => isTold(here.entries()) && isTold(there.entries()))
    isDone = true
    await restless
    t.ok(isTold(heard), 'across all connections')
    t.same(new Set(toldOf(here.entries())), new Set(expected), 'and nothing else')
    t.same(new Set(toldOf(there.entries())), new Set(expected))
    t.notOk(here.isEnded || there.isEnded)
  },
)

overStores('a logout reaches the followers of another process within a second', async (t, build) => {
  const test = await serve(build)
  const beside = await test.beside()
  const stream = await follow(t, beside.app, test.follower)
  await until(() => stream.events.length > 0)
  const times: number[] = []
  for (let count = 0; count < 5; count += 1) {
    const { access_token } = await logIn(test.app)
    await withToken(test.app, access_token, { method: 'POST', url: '/logout' })
    const at = performance.now()
    await until(() => has(stream, 'sid', claimsOf(access_token)['sid']), 5)
    times.push(performance.now() - at)
  }
  t.comment(`told after ${times.map((ms) => ms.toFixed()).join(', ')} ms`)
  t.ok(Math.min(...times) < 1000, 'the best of five: the machine may be busy, and not all the time')
})

overStores('a stream goes on from Last-Event-ID or from since, and the former counts', async (t, build) => {
  const { app, follower } = await serve(build)
  const sids: unknown[] = []
  const cursors = [json(await poll(app, follower)).cursor]
  for (let count = 0; count < 3; count += 1) {
    const { access_token } = await logIn(app)
    await withToken(app, access_token, { method: 'POST', url: '/logout' })
    sids.push(claimsOf(access_token)['sid'])
    cursors.push(json(await poll(app, follower)).cursor)
  }
  const told = async (headers: Record<string, string>, query = '') => {
    const stream = await follow(t, app, follower, headers, query)
    await until(() => stream.events.length > 0)
    stream.leave()
    return stream.entries().map(({ id }) => id)
  }
  const rest = (from: number) => new Set(sids.slice(from))
  t.same(new Set(await told({})), rest(0))
  for (const [i, cursor] of cursors.entries()) {
    t.same(new Set(await told({ 'last-event-id': cursor })), rest(i))
    t.same(new Set(await told({}, `?since=${cursor}`)), rest(i))
  }
  t.same(new Set(await told({ 'last-event-id': cursors[2] }, `?since=${cursors[0]}`)), rest(2))
  for (const garbage of ['x', '-1', '99999999999999999', 'x'.repeat(5000)])
    t.same(new Set(await told({ 'last-event-id': garbage })), rest(0))
})

onOneStore('text/event-stream is asked for by Accept, and HEAD begins no stream', async (t, build) => {
  const { app, follower } = await serve(build)
  for (const accept of [
    'application/json',
    '*/*',
    'text/*',
    'text/event-streams',
    'application/json, x/text/event-stream',
    '',
  ]) {
    const { headers, leave } = await follow(t, app, follower, { accept })
    t.match(headers['content-type'], /^application\/json/, accept)
    leave()
  }
  for (const accept of ['text/event-stream;q=0.9, */*;q=0.1', 'application/json, text/event-stream']) {
    const { headers, leave } = await follow(t, app, follower, { accept })
    t.match(headers['content-type'], /^text\/event-stream/, accept)
    leave()
  }
  const headers = { accept: 'text/event-stream', ...basic(follower).headers }
  t.equal((await app.inject({ method: 'HEAD', url: '/revocations', headers })).statusCode, 200)
})

/** An app whose idea of how long it has not heard of the store can be changed. */
async function buildSkipping(t: Test) {
  const skipped = { ms: 0 }
  const settings = {
    ...cheapHashing,
    AUTH_ISSUER: 'http://localhost:3000',
    AUTH_DATA_DIR: await newDir(t),
    LOG_LEVEL: 'silent',
  }
  const app = await buildApp(readConfig(settings), { uptimeMs: () => performance.now() + skipped.ms })
  t.teardown(() => app.close())
  await signUp(app)
  return { app, skipped, follower: await makeClient(app, { id: 'follower', introspect: 'audience' }) }
}

onOneStore(
  'a heartbeat comes while the process is up to date, and none while it is cut off from the store',
  async (t) => {
    const [good, cutOff] = [await buildSkipping(t), await buildSkipping(t)]
    mock.timers.enable({ apis: ['setInterval'] })
    t.teardown(() => mock.timers.reset())
    const alive = await follow(t, good.app, good.follower)
    const silent = await follow(t, cutOff.app, cutOff.follower)
    await until(() => alive.events.length > 0 && silent.events.length > 0)
    const heal = failStore(cutOff.app, /revocationsSince/)
    cutOff.skipped.ms = 10_000
    mock.timers.tick(5_000)
    await until(() => alive.events.some(({ event }) => event === 'heartbeat'))
    t.same(alive.events.at(-1), { event: 'heartbeat', id: good.app.revocations.cursor, data: {} }, 'with the cursor')
    // That of the other was due in the same moment: nothing but silence tells its follower.
    await new Promise((resolve) => setTimeout(resolve, 200))
    t.same(
      silent.events.map(({ event }) => event),
      ['revocations'],
    )
    t.notOk(silent.isEnded, 'but it stays')
    heal()
  },
)

onOneStore(
  'a client that loses its right is cut off: when it is disabled, deleted or gets a new secret at once',
  async (t, build) => {
    const test = await serve(build)
    const { app, clock } = test
    const beside = await test.beside()
    const losses: Record<string, (id: string) => Promise<unknown>> = {
      disabled: (id) => app.clients.disable(app, id),
      deleted: (id) => app.clients.remove(app, id),
      'its secret has leaked': (id) => app.clients.rotateSecret(app, id, 0),
    }
    const other = await follow(t, app, test.follower)
    for (const [i, [what, lose]] of Object.entries(losses).entries()) {
      const client = await makeClient(app, { id: `client-${i}`, introspect: 'all' })
      const streams = [await follow(t, app, client), await follow(t, beside.app, client)]
      await until(() => streams.every(({ events }) => events.length > 0))
      await lose(client.id)
      await until(() => streams.every(({ isEnded }) => isEnded))
      t.pass(what)
      clock.now += 1
      const { access_token } = await logIn(app)
      await withToken(app, access_token, { method: 'POST', url: '/logout' })
      await until(() => has(other, 'sid', claimsOf(access_token)['sid']))
      t.notOk(
        streams.some((stream) => has(stream, 'sid', claimsOf(access_token)['sid'])),
        'it is told nothing more',
      )
    }
  },
)

onOneStore('a client that lost its right and has it again can follow from the beginning', async (t, build) => {
  const { app, follower } = await serve(build)
  await app.clients.disable(app, follower.id)
  await app.clients.enable(app, follower.id)
  const stream = await follow(t, app, follower)
  await until(() => has(stream, 'client', follower.id))
  const { access_token } = await logIn(app)
  await withToken(app, access_token, { method: 'POST', url: '/logout' })
  await until(() => has(stream, 'sid', claimsOf(access_token)['sid']) || stream.isEnded)
  t.notOk(stream.isEnded, 'what was before it came does not cut it off')
})

/** Lets the store tell once of so many revocations that no buffer of a socket holds the events. */
async function flood(app: FastifyInstance): Promise<void> {
  const revocations = Array.from({ length: 40_000 }, (_, i) => ({
    ...{ kind: 'sid', id: `${i}`.padStart(400, 'x'), revokedAt: app.now(), expiresAt: app.now() + 1000 },
  })) as never[]
  const { store } = app
  const { revocationsSince } = store
  store.revocationsSince = async (cursor) => ({ ...(await revocationsSince(cursor)), revocations })
  await app.revocations.pull()
  store.revocationsSince = revocationsSince
}

onOneStore(
  'what is new is not kept for a follower that does not read: it is told when it reads, and dropped when it does not',
  async (t, build) => {
    const { app, follower } = await serve(build)
    const url = `${await originOf(app)}/revocations`
    const [late, stuck] = [await get(t, url, follower), await get(t, url, follower)]
    let isCut = false
    for (const stream of [late, stuck]) stream.on('error', () => {})
    late.on('close', () => {
      isCut = true
    })
    await flood(app)
    // Only now: this process would have to read while it writes, and may be too slow itself.
    const reading = await follow(t, app, follower)
    const { access_token } = await logIn(app)
    const sid = claimsOf(access_token)['sid']
    // The first that comes when too much is unsent already.
    await withToken(app, access_token, { method: 'POST', url: '/logout' })
    await until(() => has(reading, 'sid', sid))
    t.notOk(reading.isEnded)
    const text: Buffer[] = []
    late.on('data', (chunk) => text.push(chunk))
    await until(() => Buffer.concat(text.slice(-2)).includes(String(sid)))
    t.notOk(isCut, 'it was read from the store for the one that came late')
    await until(async () => (await connections(app)) === 2)
  },
)

onOneStore('closing the app ends the streams at once, read or not, and is not held up by them', async (t, build) => {
  const { app, follower } = await serve(build)
  const streams = [await follow(t, app, follower), await follow(t, app, follower)]
  await until(() => streams.every(({ events }) => events.length > 0))
  const stuck = await get(t, `${await originOf(app)}/revocations`, follower)
  stuck.on('error', () => {})
  await flood(app)
  const at = performance.now()
  await app.close()
  const ms = performance.now() - at
  t.ok(ms < 5_000, `closed after ${ms.toFixed()} ms`)
  await until(() => streams.every(({ isEnded }) => isEnded))
})

onOneStore('a stream that is asked for while the app closes does not hold it up', async (t, build) => {
  const { app, follower } = await serve(build)
  const { revocationsSince } = app.store
  let answer = () => {}
  const answered = new Promise<void>((resolve) => {
    answer = resolve
  })
  let asked = () => {}
  const isAsked = new Promise<void>((resolve) => {
    asked = resolve
  })
  const url = `${await originOf(app)}/revocations`
  app.store.revocationsSince = async (cursor) => {
    asked()
    await answered
    return revocationsSince(cursor)
  }
  const outcome = get(t, url, follower).then(
    ({ statusCode }) => statusCode,
    () => 'cut off',
  )
  await isAsked
  const closed = app.close()
  await until(() => !app.server.listening)
  const at = performance.now()
  answer()
  await closed
  t.ok(performance.now() - at < 5_000)
  t.equal(await outcome, 'cut off', 'and the follower is not left waiting')
})

onOneStore(
  'a follower that goes before its stream has begun takes no place; 200 of one client and 1000 in all are the most',
  async (t, build) => {
    const { app, follower } = await serve(build)
    const origin = await listen(app)
    const streamOf = (client: Credentials) =>
      app.inject({ url: '/revocations', headers: { accept: 'text/event-stream', ...basic(client).headers } })
    const { revocationsSince } = app.store
    let waiting = 0
    let answer = () => {}
    const answered = new Promise<void>((resolve) => {
      answer = resolve
    })
    app.store.revocationsSince = async (cursor) => {
      waiting += 1
      await answered
      return revocationsSince(cursor)
    }
    const headers = { accept: 'text/event-stream', ...basic(follower).headers }
    const gone = Array.from({ length: 20 }, () =>
      httpRequest(`${origin}/revocations`, { agent: false, headers }).on('error', () => {}),
    )
    for (const request of gone) request.end()
    await until(async () => waiting >= 1 && (await connections(app)) === 20)
    for (const request of gone) request.destroy()
    await until(async () => (await connections(app)) === 0)
    answer()
    app.store.revocationsSince = revocationsSince

    const open: ReturnType<typeof streamOf>[] = []
    for (const id of ['follower', 'second', 'third', 'fourth', 'fifth']) {
      const client = id === follower.id ? follower : await makeClient(app, { id, introspect: 'audience' })
      open.push(...Array.from({ length: 200 }, () => streamOf(client)))
      let more = await follow(t, app, client)
      while (more.status === 200) {
        more.leave()
        more = await follow(t, app, client)
      }
      t.equal(more.status, 503, `the 201st of ${id}`)
      t.match(more.headers, { 'retry-after': '5', 'content-type': /problem\+json/ })
    }
    const sixth = await makeClient(app, { id: 'sixth', introspect: 'audience' })
    t.equal((await follow(t, app, sixth)).status, 503, 'the 1001st, of a client that has none')
    t.equal((await poll(app, sixth)).statusCode, 200, 'the list is still there for everyone')
    await app.close()
    const statuses = (await Promise.all(open)).map(({ statusCode }) => statusCode)
    t.equal(
      statuses.filter((status) => status === 200).length,
      1000,
      'all thousand were streams: those that went take no place',
    )
  },
)

/** Records very many revocations. @returns their ids */
async function fill({ app, config }: TestApp, rows: number): Promise<Set<string>> {
  const ids = Array.from({ length: rows }, (_, i) => `0.${app.now()}.${String(i).padStart(36, '0')}`)
  const times = { revokedAt: app.now(), expiresAt: app.now() + 660_000 }
  if (config.DATABASE_URL === undefined) {
    await Promise.all(ids.map((id) => storeOf(app).revoke({ kind: 'jti', id, ...times })))
    return new Set(ids)
  }
  const client = new pg.Client(config.DATABASE_URL)
  await client.connect()
  await client.query(
    `INSERT INTO latchkey_revocations (line, number, kind, id, revoked_at, expires_at)
    SELECT n % 8, n, 'jti', id, $2, $3 FROM unnest($1::text[]) WITH ORDINALITY AS t (id, n)`,
    [[...ids], times.revokedAt, times.expiresAt],
  )
  await client.end()
  return new Set(ids)
}

overStores(
  'a long list comes in pages, by both ways of reading, and no turn of the event loop is long for it',
  async (t, build) => {
    const test = await serve(build)
    const ids = await fill(test, isLong ? 30_000 : 9_000)
    const app = (await test.beside()).app
    t.equal(app.revocations.size, ids.size, 'a process that starts knows all of it')
    // One that follows while it is read.
    const delay = monitorEventLoopDelay({ resolution: 1 })
    const stream = await follow(t, app, test.follower)
    delay.enable()
    const polled: string[] = []
    let cursor: string | undefined
    for (let more = true, pages = 1; more; pages += 1) {
      const response = await poll(app, test.follower, cursor)
      const page = json(response)
      t.ok(response.body.length < 1_000_000 && page.revocations.length <= 2_000 && pages < 40)
      t.match(response.headers['content-type'], /^application\/json/)
      polled.push(...keysOf(page.revocations))
      cursor = page.cursor
      more = page.more === true
      t.equal('more' in page, more, 'said only where there is more')
    }
    await until(() => stream.events.some(({ data }) => !data.more))
    delay.disable()
    t.comment(`the longest turn took ${(delay.max / 1e6).toFixed()} ms, this process reading too`)
    for (const [how, keys] of Object.entries({ polled, streamed: keysOf(stream.entries()) })) {
      t.same(new Set(keys), new Set([...ids].map((id) => `jti:${id}`)), how)
    }
    t.ok(stream.events.slice(0, -1).every(({ data, id }) => data.more === true && id !== undefined))
    const { access_token } = await logIn(app)
    await withToken(app, access_token, { method: 'POST', url: '/logout' })
    await until(() => has(stream, 'sid', claimsOf(access_token)['sid']))
  },
)

overStores(
  'a token that is revoked already is not recorded again, whoever asks and however often, RFC 7009 §2.2',
  async (t, build) => {
    const test = await serve(build)
    const beside = await test.beside()
    const { app } = test
    const rows = async () => json(await poll(app, test.follower)).revocations.length
    const { access_token } = await logIn(app)
    const revoke = (of: FastifyInstance, token: string) => postForm(of, '/revoke', { token })
    const answers = await Promise.all(Array.from({ length: 64 }, () => revoke(app, access_token)))
    t.same(new Set(answers.map(({ statusCode }) => statusCode)), new Set([200]))
    t.equal(await challengeTo(app, access_token), challenges.revoked)
    t.equal(await rows(), 1)
    for (const of of [app, beside.app]) t.equal((await revoke(of, access_token)).statusCode, 200)
    t.equal(await rows(), 1)
    t.equal(test.logs.filter(({ event }) => event === 'token.revoked').length, 1, 'nor told again')

    const ended = await logIn(app)
    await withToken(app, ended.access_token, { method: 'POST', url: '/logout' })
    const after = await rows()
    for (let n = 0; n < 3; n += 1) await revoke(app, ended.access_token)
    await withToken(app, (await logIn(app)).access_token, { method: 'DELETE', url: '/users/me/sessions' })
    await revoke(app, ended.access_token)
    t.equal(await rows(), after + 1, 'whatever has revoked it')

    const raced = await logIn(app)
    const before = await rows()
    await Promise.all(Array.from({ length: 40 }, (_, i) => revoke(i % 2 ? app : beside.app, raced.access_token)))
    t.ok((await rows()) - before <= 2, 'and by two processes at once, at most once by each')
  },
)

onOneStore(
  'many tokens of one session that are revoked one by one end the session: one entry for all, RFC 7009 §2.1',
  async (t, build) => {
    const { app, follower, logs } = await serve(build)
    let tokens = await logIn(app)
    const { sid } = claimsOf(tokens.access_token)
    const accessTokens = [tokens.access_token]
    for (let n = 1; n < 30; n += 1) {
      tokens = json(await refresh(app, tokens.refresh_token))
      accessTokens.push(tokens.access_token)
    }
    const few = accessTokens.splice(0, 10)
    for (const token of few) await postForm(app, '/revoke', { token })
    t.equal(await isAccepted(app, accessTokens[0] as string), true, 'ten are revoked, and the session goes on')
    const answers = await Promise.all(accessTokens.slice(0, 15).map((token) => postForm(app, '/revoke', { token })))
    t.same(new Set(answers.map(({ statusCode }) => statusCode)), new Set([200]))
    t.same(keysOf(json(await poll(app, follower)).revocations).sort(), [
      ...few.map((token) => `jti:${claimsOf(token)['jti']}`).sort(),
      `sid:${sid}`,
    ])
    for (const token of accessTokens) t.equal(await challengeTo(app, token), challenges.revoked)
    t.equal((await refresh(app, tokens.refresh_token)).statusCode, 400)
    t.match(
      logs.filter(({ event }) => event === 'session.ended'),
      [{ sid }],
    )
  },
)

onOneStore(
  "a client's own tokens are revoked one by one up to a bound, and 503 beyond it, RFC 7009 §2.2.1",
  async (t, build) => {
    const { app } = await serve(build)
    const [client, other] = [await makeClient(app, { id: 'many' }), await makeClient(app, { id: 'few' })]
    const store = storeOf(app)
    const { revoke, revocationsSince } = store
    // What a revocation writes and reads is for other tests.
    store.revoke = async () => true
    store.revocationsSince = async (cursor = '') => ({ revocations: [], cursor, more: false })
    const token = await tokenOf(app, client)
    const one = claimsOf(token) as AccessTokenClaims
    for (let n = 0; n < 10_000; n += 1)
      await app.revocations.revokeToken(store, { ...one, jti: `${one.jti}-${n}` }).catch(() => {})
    Object.assign(store, { revoke, revocationsSince })
    const response = await postForm(app, '/revoke', { token }, basic(client))
    t.equal(response.statusCode, 503)
    t.match(response.headers, { 'retry-after': String })
    t.equal(
      (await withToken(app, token, { url: '/verify' })).statusCode,
      204,
      'the client has to assume that it is good, and it is',
    )
    const unlike = await tokenOf(app, other)
    t.equal((await postForm(app, '/revoke', { token: unlike }, basic(other))).statusCode, 200, 'another client may')
    t.equal((await logIn(app)).access_token.length > 0, true)
  },
)

const connections = (app: FastifyInstance) =>
  new Promise<number>((resolve) => app.server.getConnections((_error, count) => resolve(count)))

onOneStore('a store that does not answer is 503 before the stream begins', async (t, build) => {
  const { app, follower } = await serve(build)
  t.equal((await poll(app, follower)).statusCode, 200)
  const heal = failStore(app, /revocationsSince/)
  const { status, headers } = await follow(t, app, follower)
  t.equal(status, 503)
  t.match(headers['content-type'], /problem\+json/)
  t.equal((await poll(app, follower)).statusCode, 503)
  heal()
  const stream = await follow(t, app, follower)
  await until(() => stream.events.length > 0)
})
