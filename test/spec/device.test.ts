import type { FastifyInstance } from 'fastify'
import { deviceGrant } from '../../domain/grant.ts'
import { basic, callerFrom, isOAuthError, makeClient } from '../support/client-helper.ts'
import { askForCodes, codesOf, decide, letExpire, makeDeviceClient, poll } from '../support/devices.ts'
import {
  type Build,
  challenges,
  challengeTo,
  claimsOf,
  json,
  onOneApp,
  onOneStore,
  overStores,
  postForm,
  refresh,
  signUp,
  storeOf,
  type Tokens,
} from '../support/helper.ts'

/* The device authorization grant, RFC 8628: the codes, the decision of the user, the tokens. */

async function serve(build: Build, settings: Record<string, string> = {}) {
  const test = await build(settings)
  await signUp(test.app)
  await makeDeviceClient(test.app)
  return test
}

overStores('a device gets tokens once its user has let it, of fifty questions at once one', async (t, build) => {
  const { app, clock, beside: openBeside } = await serve(build)
  const { app: beside } = await openBeside()
  const codes = await codesOf(app, { scope: '' })
  const rows = JSON.stringify(await app.store.exportRows('records', { limit: 10 }))
  for (const secret of [codes.device_code.slice(4), codes.user_code, codes.user_code.replace('-', '')])
    t.notOk(rows.includes(secret), 'the store has nothing that can be used')
  isOAuthError(t, await poll(app, codes), 400, 'authorization_pending')
  t.ok(await decide(beside, codes, 'allow'), 'at any replica')
  t.notOk(await decide(app, codes, 'refuse'), 'once')

  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => poll(i % 2 ? app : beside, codes)))
  const given = answers.filter(({ statusCode }) => statusCode === 200)
  t.equal(given.length, 1, 'and at once: whoever may have them need not wait for the interval')
  t.equal(given[0]?.headers['cache-control'], 'no-store')
  clock.now += 1_000

  const again = await codesOf(app)
  await decide(app, again, 'allow')
  const tokens: Tokens = json(await poll(app, again))
  t.match(claimsOf(tokens.access_token), { client_id: 'cli', sid: String })
  t.equal((await refresh(app, tokens.refresh_token)).statusCode, 400, 'its refresh token is its own')
  const next = await postForm(app, '/token', {
    ...{ grant_type: 'refresh_token', client_id: 'cli', refresh_token: tokens.refresh_token },
  })
  t.equal(next.statusCode, 200, 'and good, for there is a session like any other')
  isOAuthError(t, await poll(app, again), 400, 'invalid_grant', 'whoever comes a second time gets nothing')
  t.equal(await challengeTo(app, tokens.access_token), challenges.revoked, 'and ends what the first got')
})

overStores('a device waits between its questions, and is told when it is too late', async (t, build) => {
  const { app, clock, beside: openBeside } = await serve(build)
  const { app: beside } = await openBeside()
  const codes = await codesOf(app)
  t.equal(codes.expires_in, 600)
  isOAuthError(t, await poll(app, codes), 400, 'authorization_pending')
  isOAuthError(t, await poll(beside, codes), 400, 'slow_down', 'whichever replica it asks')
  clock.now += 3_900
  isOAuthError(t, await poll(app, codes), 400, 'slow_down')
  clock.now += 1_100
  isOAuthError(t, await poll(app, codes), 400, 'authorization_pending', `after the ${codes.interval} seconds`)
  clock.now += 594_999
  isOAuthError(t, await poll(app, codes), 400, 'authorization_pending', 'ten minutes long')
  clock.now += 1
  isOAuthError(t, await poll(app, codes), 400, 'expired_token')
  t.notOk(await decide(app, codes, 'allow'), 'and its user is, too')
  clock.now += 600_000
  isOAuthError(t, await poll(app, codes), 400, 'invalid_grant', 'until nobody knows of it any more')
})

overStores('a device that was refused, or let and not there in time, gets nothing', async (t, build) => {
  const { app, logs } = await serve(build)
  const refused = await codesOf(app)
  t.ok(await decide(app, refused, 'refuse'))
  t.notOk(await decide(app, refused, 'allow'), 'that cannot be taken back')
  isOAuthError(t, await poll(app, refused), 400, 'access_denied')
  isOAuthError(t, await poll(app, refused), 400, 'access_denied', 'each time')
  const late = await codesOf(app)
  await decide(app, late, 'allow')
  await letExpire(app, late)
  isOAuthError(t, await poll(app, late), 400, 'expired_token')
  t.match(
    logs.filter(({ event }) => String(event).startsWith('device.')).map(({ event, client_id }) => [event, client_id]),
    [
      ['device.refused', 'cli'],
      ['device.allowed', 'cli'],
    ],
  )
})

overStores('of two users who decide at once one does, while the device asks', async (t, build) => {
  const { app } = await serve(build)
  await signUp(app, 'bob')
  for (let round = 0; round < 5; round++) {
    const codes = await codesOf(app)
    const [byAda, byBob, ...answers] = await Promise.all([
      decide(app, codes, 'allow'),
      decide(app, codes, 'refuse', 'bob'),
      ...Array.from({ length: 10 }, () => poll(app, codes)),
    ])
    const last = await poll(app, codes)
    const given = [...answers, last].filter(({ statusCode }) => statusCode === 200)
    t.same([byAda, byBob].filter(Boolean).length, 1)
    t.equal(given.length, byAda ? 1 : 0)
  }
})

const one = onOneApp(async (_t, build) => serve(build))

one('a code is given to whoever may use the grant, for what they may ask for', async (t, { app }) => {
  const codes = await codesOf(app)
  t.match(codes, {
    device_code: /^lkd_[\w-]{43}$/,
    user_code: /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/,
    verification_uri: 'http://localhost:3000/device',
    verification_uri_complete: `http://localhost:3000/device?user_code=${codes.user_code}`,
    expires_in: 600,
    interval: 5,
  })
  const refused = (fields: Record<string, string>, error: string, status = 400) =>
    askForCodes(app, fields).then((answer) => isOAuthError(t, answer, status, error, JSON.stringify(fields)))
  await refused({ client_id: 'nobody' }, 'invalid_client', 401)
  await refused({ client_id: '' }, 'unauthorized_client')
  await refused({ scope: 'orders:read' }, 'invalid_scope')
  await refused({ resource: 'https://x.example' }, 'invalid_target')
  const tv = await makeClient(app, { id: 'tv', grants: [deviceGrant], scopes: ['films'] })
  await refused({ client_id: 'tv' }, 'invalid_client', 401)
  const granted = await postForm(app, '/device_authorization', { scope: 'films' }, basic(tv))
  t.equal(granted.statusCode, 200, 'a confidential client shows who it is')
  await decide(app, json(granted), 'allow')
  const form = { grant_type: deviceGrant, device_code: json(granted).device_code }
  isOAuthError(t, await postForm(app, '/token', { ...form, client_id: 'tv' }), 401, 'invalid_client')
  const tokens = await postForm(app, '/token', form, basic(tv))
  t.match(json(tokens), { scope: 'films' })
  t.notOk('refresh_token' in json(tokens), 'which needs the grant refresh_token as well')
})

one('no other client gets what a device has been let, nor does its user code', async (t, { app }) => {
  await makeDeviceClient(app, { id: 'other' })
  const codes = await codesOf(app)
  await decide(app, codes, 'allow')
  isOAuthError(t, await poll(app, codes, { client_id: 'other' }), 400, 'invalid_grant')
  for (const device_code of [codes.user_code, 'x', `lkc_${codes.device_code.slice(4)}`, `${codes.device_code}x`])
    isOAuthError(t, await poll(app, { device_code }), 400, 'invalid_grant', device_code)
  isOAuthError(t, await poll(app, { device_code: '' }), 400, 'invalid_request')
  t.equal((await poll(app, codes)).statusCode, 200, 'its own is not used up by that')
})

one('the client is another by the time that the user decides', async (t, { app }) => {
  const codes = await codesOf(app)
  await app.clients.remove(app, 'cli')
  t.notOk(await decide(app, codes, 'allow'), 'it is gone')
  await makeDeviceClient(app)
  t.notOk(await decide(app, codes, 'allow'), 'another has its id')
  isOAuthError(t, await poll(app, codes), 400, 'invalid_grant')
  const next = await codesOf(app)
  await app.clients.disable(app, 'cli')
  t.notOk(await decide(app, next, 'allow'), 'it is disabled')
  await app.clients.enable(app, 'cli')
})

one('a user code is read as people write it', async (t, { app }) => {
  const { user_code } = await codesOf(app)
  const typed = [user_code, user_code.toLowerCase(), user_code.replace('-', ''), ` ${user_code.replace('-', ' – ')} `]
  for (const text of typed) t.match(await typedBy(app, text), { userCode: user_code }, text)
  for (const text of ['', '-', user_code.slice(1), `${user_code}B`, user_code.replace(/.$/, '\u0000')])
    t.equal(await typedBy(app, text), undefined, text)
})

async function typedBy(app: FastifyInstance, text: string, address = '192.0.2.1', username = 'ada') {
  const user = await storeOf(app).findUserByName(username)
  if (!user) throw new Error('no user')
  return app.deviceCodes.typedBy(callerFrom(address, app.log), user, text)
}

overStores('guesses at user codes are counted for who makes them, right ones reset nothing', async (t, build) => {
  const { app, clock, beside: openBeside } = await serve(build)
  const { app: beside } = await openBeside()
  await signUp(app, 'bob')
  const codes = await codesOf(app)
  for (let n = 0; n < 9; n++) t.equal(await typedBy(n % 2 ? app : beside, 'BBBB-BBBB'), undefined)
  t.ok(await typedBy(app, codes.user_code), 'a right one is one after nine')
  t.equal(await typedBy(app, 'BBBB-BBBC'), undefined, 'the tenth')
  const waits = { code: 'too_many_failures', headers: { 'retry-after': '30' } }
  await t.rejects(typedBy(app, 'BBBB-BBBD'), waits)
  await t.rejects(typedBy(beside, codes.user_code), waits, 'also with a right one')
  t.ok(await typedBy(app, codes.user_code, '192.0.2.1', 'bob'), 'others go on')
  t.ok(await typedBy(app, codes.user_code, '203.0.113.1'), 'and the user elsewhere')
  t.equal(
    (await postForm(app, '/token', { username: 'ada', password: 'x' })).statusCode,
    400,
    'a login is another thing',
  )
  clock.now += 30_000
  t.ok(await typedBy(app, codes.user_code))
  t.equal(await typedBy(app, 'BBBB-BBBF'), undefined)
  await t.rejects(typedBy(app, codes.user_code), { code: 'too_many_failures', headers: { 'retry-after': '60' } })
})

onOneStore('a network has a thousand devices that wait, and no more', async (t, build) => {
  const { app } = await serve(build)
  const client = await app.clients.get('cli')
  const issue = (address: string) =>
    app.deviceCodes.issue(callerFrom(address, app.log), client, { scope: [], aud: 'http://localhost:3000' })
  const issued = await Promise.all(Array.from({ length: 1_000 }, (_, n) => issue(`192.0.2.${n % 200}`)))
  t.equal(new Set(issued.map(({ userCode }) => userCode)).size, 1_000)
  const beyond = await askForCodes(app, {}, { remoteAddress: '192.0.2.250' })
  isOAuthError(t, beyond, 429, 'invalid_request')
  t.equal(beyond.headers['retry-after'], '600')
  t.equal((await askForCodes(app, {}, { remoteAddress: '198.51.100.1' })).statusCode, 200, 'others have their own')
})

onOneStore('AUTH_PAGES=off: there is no such grant', async (t, build) => {
  const { app } = await serve(build, { AUTH_PAGES: 'off' })
  t.equal((await askForCodes(app)).statusCode, 404)
  isOAuthError(t, await poll(app, { device_code: 'lkd_x' }), 400, 'unsupported_grant_type')
  const metadata = json(await app.inject('/.well-known/oauth-authorization-server'))
  t.notOk(metadata.grant_types_supported.includes(deviceGrant))
  t.notOk('device_authorization_endpoint' in metadata)
})
