import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { createAuthenticator, type Lies, makeKey } from '../support/authenticator.ts'
import { callerFrom } from '../support/client-helper.ts'
import { begin, challenge } from '../support/factors.ts'
import { claimsOf, json, logIn, onOneApp, onOneStore, overStores, signUp, storeOf } from '../support/helper.ts'
import {
  addPasskey,
  answerWith,
  askToAdd,
  beginByPasskey,
  type Device,
  givePasskey,
  hand,
  signInByPasskey,
  signInWithPasskey,
} from '../support/passkeys.ts'

/* Passkeys over HTTP, contract section 11, and what an attacker makes of each message. */

const twoFactors = 'urn:latchkey:acr:2'
const minute = 60_000

/** Whether a response was refused as one that nobody has asked for. */
function isRefused(t: Test, answer: LightMyRequestResponse, what: string): void {
  t.equal(answer.statusCode, 400, what)
  t.match(json(answer), { type: /invalid_request$/, errors: [{ pointer: /^\/response/ }] }, what)
}

overStores('a passkey is added by whoever has just signed in, and signs them in from then on', async (t, build) => {
  const { app, clock, logs } = await build()
  const { id: sub } = json(await signUp(app))
  const { access_token, refresh_token } = await logIn(app)
  const asked = await askToAdd(app, access_token)
  t.equal(asked.statusCode, 200)
  t.equal(asked.headers['cache-control'], 'no-store')
  t.match(json(asked), { rp: { id: 'localhost' }, user: { name: 'ada' }, attestation: 'none', excludeCredentials: [] })

  const device = createAuthenticator({ aaguid: 'ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4' })
  const added = await hand(app, access_token, { response: device.create(json(asked)) })
  t.equal(added.statusCode, 201)
  const { id, ...shown } = json(added)
  t.same(shown, { name: 'Google Password Manager', created_at: new Date(clock.now).toISOString() })
  t.match(
    logs.filter(({ event }) => event === 'factor.added'),
    [{ sub, factor: id, kind: 'webauthn' }],
  )
  t.match(
    claimsOf((await renewed(app, refresh_token)).access_token),
    {
      acr: twoFactors,
      amr: ['pwd', 'hwk', 'user', 'mfa'],
    },
    'the session has shown it by that',
  )

  clock.now += minute
  const byPasskey = await signInByPasskey(app, device)
  const authTime = Math.floor(clock.now / 1000)
  t.match(claimsOf(byPasskey.access_token), { sub, acr: twoFactors, amr: ['hwk', 'user', 'mfa'], auth_time: authTime })
  const withBoth = await signInWithPasskey(app, device)
  t.match(claimsOf(withBoth.access_token), { sub, acr: twoFactors, amr: ['pwd', 'hwk', 'user', 'mfa'] })
  t.match(await app.factors.of(sub), { factors: [{ id, counter: 3, usedAt: clock.now }] })

  const authorization = `Bearer ${withBoth.access_token}`
  const raising = json(await challenge(app, { max_age: '0' }, { headers: { authorization } }))
  t.match(raising, { challenges: ['password', 'webauthn'] })
  t.same(raising.webauthn.allowCredentials, [], 'an access token is not told which passkeys there are')
})

async function renewed(app: FastifyInstance, refreshToken: string) {
  return json(await app.inject({ method: 'POST', url: '/refresh', payload: { refresh_token: refreshToken } }))
}

overStores('of twenty who hand in one response at once, one adds a passkey', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { access_token } = await logIn(app)
  const response = createAuthenticator().create(json(await askToAdd(app, access_token)))
  const answers = await Promise.all(Array.from({ length: 20 }, () => hand(app, access_token, { response })))
  t.same(answers.map(({ statusCode }) => statusCode).sort(), [201, ...Array(19).fill(400)])
})

overStores('of twenty who sign in with one signature at once, one is in', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { device } = await givePasskey(app)
  const asked = await beginByPasskey(app)
  // A device that answers several questions at once counts each.
  const { auth_session, webauthn } = json(asked)
  const response = JSON.stringify(device.get(webauthn))
  const send = () =>
    app.inject({
      method: 'POST',
      url: '/challenge',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      payload: new URLSearchParams({ auth_session, webauthn: response }).toString(),
    })
  const answers = await Promise.all(Array.from({ length: 20 }, send))
  t.same(answers.map(({ statusCode }) => statusCode).sort(), [200, ...Array(19).fill(400)])
})

onOneStore('a passkey is not added', async (t, build) => {
  const { app, clock } = await build({ AUTH_ACCESS_TTL: '1h' })
  const { id } = json(await signUp(app))
  await signUp(app, 'bob')
  const device = createAuthenticator()
  const first = await logIn(app)
  const ask = async (accessToken = first.access_token) => json(await askToAdd(app, accessToken))

  const lies: [what: string, lies: Lies][] = [
    ['from another site', { origin: 'https://evil.example' }],
    ['for another rpId', { rpId: 'evil.example' }],
    ['without user verification', { isVerified: false }],
    ['without a user', { isPresent: false }],
    ['by the message of a sign-in', { type: 'webauthn.get' }],
    ['with an algorithm that was not asked for', { publicKey: new Map(makeKey('ES256').publicKey).set(3, -36) }],
    ['in a frame', { crossOrigin: true }],
  ]
  for (const [what, lie] of lies) {
    const options = await ask()
    isRefused(t, await hand(app, first.access_token, { response: device.create(options, lie) }), what)
    const response = device.create(options)
    isRefused(t, await hand(app, first.access_token, { response }), `${what}: the challenge is spent by that`)
  }
  clock.now += 11 * minute
  t.equal((await askToAdd(app, first.access_token)).statusCode, 401, 'five minutes after the sign-in')

  const mine = await logIn(app)
  const bobs = await logIn(app, 'bob')
  const options = await ask(mine.access_token)
  const response = device.create(options)
  isRefused(t, await hand(app, bobs.access_token, { response }), 'by a neighbour, to a challenge of another')
  const another = await logIn(app)
  isRefused(t, await hand(app, another.access_token, { response }), 'by another session of the user')
  t.equal((await hand(app, mine.access_token, { response })).statusCode, 201, 'while it is still good for its own')
  isRefused(t, await hand(app, mine.access_token, { response }), 'by the same response again')
  const anew = createAuthenticator().create(options)
  isRefused(t, await hand(app, mine.access_token, { response: anew }), 'to a challenge that was used')

  const excluding = await ask(mine.access_token)
  t.match(excluding.excludeCredentials, [{ id: response.id }])
  t.throws(() => device.create(excluding), /InvalidState/, 'twice by one device, which knows')
  const again = createAuthenticator()
  const forged = createAuthenticator().create(excluding, { credentialId: Buffer.from(response.id, 'base64url') })
  isRefused(t, await hand(app, mine.access_token, { response: forged }), 'in the place of one that is there')
  const late = await ask(mine.access_token)
  clock.now += 10 * minute
  isRefused(t, await hand(app, mine.access_token, { response: again.create(late) }), 'ten minutes later')

  const signIn = json(await begin(app))
  const swapped = again.create({ ...late, challenge: signIn.webauthn.challenge })
  isRefused(t, await hand(app, mine.access_token, { response: swapped }), 'to the challenge of a sign-in')
  t.equal((await hand(app, '', { response })).statusCode, 401, 'by nobody')
  t.equal((await app.factors.of(id)).factors.length, 1)
})

onOneStore('a passkey is not added by a sign-in whose own factor goes meanwhile', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const { tokens } = await givePasskey(app)
  const by = callerFrom('192.0.2.1', app.log)
  const user = (await storeOf(app).findUserByName('ada')) as User
  const session = (await storeOf(app).findSession(claimsOf(tokens.access_token).sid as string)) as Session
  const fresh = { user, session, factors: await app.factors.of(user.id) }
  let asked = 0
  const prove = async () => {
    asked += 1
    if (asked === 3) await app.factors.change(by, user, () => ({ next: [] }))
    if (asked > 3) throw new Error('not fresh')
    return fresh
  }
  const response = createAuthenticator().create(await app.ownPasskeys.begin(by, prove))
  await t.rejects(app.ownPasskeys.add(by, prove, response), /not fresh/)
  t.same((await app.factors.of(user.id)).factors, [])
})

onOneStore('a passkey does not sign in', async (t, build) => {
  const { app, clock, logs } = await build()
  const { id: ada } = json(await signUp(app))
  const { id: bob } = json(await signUp(app, 'bob'))
  const { device, id } = await givePasskey(app)
  const { device: bobs } = await givePasskey(app, 'bob')
  const handleOf = (sub: string) => Buffer.from(sub).toString('base64url')
  const foreign = bobs.credentials[0]

  const lies: [what: string, of: Device, lies: Lies][] = [
    ['from another site', device, { origin: 'https://evil.example' }],
    ['from another port', device, { origin: 'http://localhost:5173' }],
    ['for another rpId', device, { rpId: 'evil.example' }],
    ['without user verification', device, { isVerified: false }],
    ['without a user', device, { isPresent: false }],
    ['by the message of a registration', device, { type: 'webauthn.create' }],
    ['with a key of one’s own', device, { key: makeKey('ES256').key }],
    ['with a key of another kind', device, { key: makeKey('RS256').key }],
    ['with bob’s credential under ada’s handle', bobs, { userHandle: handleOf(ada) }],
    ['with ada’s credential under bob’s handle', device, { userHandle: handleOf(bob) }],
    [
      'with ada’s credential id by bob’s key',
      bobs,
      { id: device.credentials[0]?.id as string, userHandle: handleOf(ada) },
    ],
    ['with bob’s credential id by ada’s key', device, { id: foreign?.id as string, userHandle: handleOf(bob) }],
    ['under a handle of nobody', device, { userHandle: handleOf('0d5cd5b1-6e7d-4c06-9d9a-b9a6b5b0a0a1') }],
    ['under a handle that is no id', device, { userHandle: handleOf('ada\0') }],
    ['under no handle, where nobody is named', device, { userHandle: null }],
  ]
  for (const [what, of, lie] of lies) {
    const refused = await answerWith(app, of, await beginByPasskey(app), lie)
    t.match(json(refused), { error: 'insufficient_authorization', challenges: ['webauthn'] }, what)
    t.equal(refused.statusCode, 400, what)
  }
  t.equal(logs.filter(({ event }) => event === 'login.failed').length, lies.length)
  t.match(JSON.stringify(logs), 'evil.example', 'the log says why, and with it latchkey explain')
  t.match(await signInByPasskey(app, device), { access_token: String }, 'and its owner is not kept out by any of it')

  const one = json(await beginByPasskey(app))
  const two = json(await beginByPasskey(app))
  const crossed = { ...one, auth_session: two.auth_session }
  t.equal((await answerWith(app, device, asAnswer(crossed))).statusCode, 400, 'to the challenge of another sign-in')
  const ofBob = await begin(app, 'bob')
  const options = json(ofBob).webauthn
  t.notOk(JSON.stringify(options).includes(device.credentials[0]?.id as string))
  const allowed = { ...json(ofBob), webauthn: { ...options, allowCredentials: [] } }
  t.equal((await answerWith(app, device, asAnswer(allowed))).statusCode, 400, 'behind the password of another')

  const { access_token } = await signInByPasskey(app, device)
  const registering = json(await askToAdd(app, access_token))
  const swapped = { ...json(await beginByPasskey(app)) }
  swapped.webauthn = { ...swapped.webauthn, challenge: registering.challenge }
  t.equal((await answerWith(app, device, asAnswer(swapped))).statusCode, 400, 'to the challenge of a registration')

  const before = (await app.factors.of(ada)).factors[0]
  const cloned = await answerWith(app, device, await beginByPasskey(app), { counter: 2 })
  t.equal(cloned.statusCode, 400, 'with a count that was there before')
  t.match(
    logs.filter(({ event }) => event === 'passkey.cloned'),
    [{ sub: ada, factor: id }],
  )
  t.same((await app.factors.of(ada)).factors[0], before, 'and nothing is kept of it')
  clock.now += 10 * minute
  t.ok(await signInByPasskey(app, device))
})

/** As if the service had answered so. */
const asAnswer = (body: object) => ({ json: () => body }) as LightMyRequestResponse

const onItsApp = onOneApp(async (_, build) => (await build()).app)

onItsApp('what is no message of a passkey is 400, and what is too long 413', async (t, app) => {
  await signUp(app)
  const { access_token } = await logIn(app)
  const device = createAuthenticator()
  const options = json(await askToAdd(app, access_token))
  const good = device.create(options)
  const member = (name: string, value: unknown) => ({ ...good, response: { ...good.response, [name]: value } })
  const responses = [undefined, null, 7, 'x', [], {}, { ...good, id: 7 }, { ...good, type: 'password' }]
  responses.push({ ...good, rawId: '!' }, member('clientDataJSON', {}), member('clientDataJSON', ''))
  responses.push(member('attestationObject', null), member('attestationObject', 'AAAA'))
  responses.push(member('clientDataJSON', 'AAAA'), member('attestationObject', 'gYGB'.repeat(2_000)))
  for (const response of responses)
    t.equal((await hand(app, access_token, { response })).statusCode, 400, JSON.stringify(response)?.slice(0, 99))
  const long = member('attestationObject', 'A'.repeat(17_000))
  t.equal((await hand(app, access_token, { response: long })).statusCode, 413)
  for (const name of ['', 'x'.repeat(101), 'a\nb', 7])
    t.equal((await hand(app, access_token, { response: good, name })).statusCode, 400, JSON.stringify(name))
  t.equal((await hand(app, access_token, { response: good, id: 'mine' })).statusCode, 400, 'a member that is not known')
})

onItsApp('a passkey has the name that its user gives it; there are twenty factors at most', async (t, app) => {
  const { id } = json(await signUp(app, 'bob'))
  let { access_token, refresh_token } = await logIn(app, 'bob')
  const name = 'Schlüssel 🔑 — 열쇠'
  t.match(json(await addPasskey(app, access_token, createAuthenticator(), { name })), { name })
  ;({ access_token, refresh_token } = await renewed(app, refresh_token))
  for (let added = 1; added < 20; added++) {
    const answer = await addPasskey(app, access_token, createAuthenticator())
    t.match(json(answer), { name: 'Passkey' })
  }
  t.equal((await askToAdd(app, access_token)).statusCode, 409, 'and no more')
  t.equal((await app.factors.of(id)).factors.length, 20)
})

onItsApp('ten registrations may be under way', async (t, app) => {
  await signUp(app, 'eve')
  const { access_token } = await logIn(app, 'eve')
  for (let asked = 0; asked < 10; asked++) t.equal((await askToAdd(app, access_token)).statusCode, 200)
  const refused = await askToAdd(app, access_token)
  t.equal(refused.statusCode, 429)
  t.equal(refused.headers['retry-after'], '600')
})

onOneStore('where the host of the issuer is an address there are no passkeys', async (t, build) => {
  const { app } = await build({ AUTH_ISSUER: 'http://127.0.0.1:3000' })
  await signUp(app)
  const { access_token } = await logIn(app)
  t.equal((await askToAdd(app, access_token)).statusCode, 404)
  t.equal((await hand(app, access_token, {})).statusCode, 404)
  t.equal((await beginByPasskey(app)).statusCode, 400)
})
