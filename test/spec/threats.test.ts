import { generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto'
import { createSecrets } from '../../plugins/keys/secrets.ts'
import { clientCredentials, makeClient } from '../support/client-helper.ts'
import { begin, challenge, giveRecoveryCodes, giveTotp } from '../support/factors.ts'
import {
  claimsOf,
  giveRoles,
  isAccepted,
  json,
  logIn,
  onOneStore,
  overStores,
  postForm,
  refresh,
  signUp,
  storeOf,
  withToken,
} from '../support/helper.ts'

/*
 * What docs/security.md says that an attacker gets, and does not get, by what they have. What lies about at all is in
 * test/process/secrets.test.ts.
 */

const newPassword = 'another horse, another battery'
const authSecret = 'the secret of this test, which is long enough'

onOneStore('what the store has of a secret cannot be presented in its place', async (t, build) => {
  const { app } = await build()
  const { id } = json(await signUp(app))
  const { access_token } = await logIn(app)
  await makeClient(app, { id: 'reports' })
  const user = await storeOf(app).findUser(id)
  const stored = await storeOf(app).findClient('reports')
  const asPassword = await postForm(app, '/token', { username: 'ada', password: user?.passwordHash as string })
  t.equal(asPassword.statusCode, 400)
  const asSecret = await clientCredentials(app, { id: 'reports', secret: stored?.secrets[0]?.hash as string })
  t.equal(asSecret.statusCode, 401)
  t.equal((await refresh(app, claimsOf(access_token)['sid'] as string)).statusCode, 400)

  await giveTotp(app)
  const [recoveryCode] = await giveRecoveryCodes(app)
  for (const factor of (await app.factors.of(id)).factors) {
    const kept = factor.kind === 'recovery_code' ? factor.hashes[0] : factor.kind === 'totp' ? factor.secret : ''
    const { auth_session } = json(await begin(app))
    const wrong = await challenge(app, { auth_session, [factor.kind === 'totp' ? 'otp' : 'recovery_code']: kept ?? '' })
    t.equal(json(wrong).error, 'insufficient_authorization', factor.kind)
  }
  const { auth_session } = json(await begin(app))
  const right = await challenge(app, { auth_session, recovery_code: recoveryCode as string })
  t.equal(right.statusCode, 200, 'where the code itself is good')
})

/** A refresh token, made by who knows the secret and the id of a session. */
function forgeRefreshToken(secret: string, sessionId: string, counter: number): string {
  const body = Buffer.alloc(22)
  body.write(sessionId.replaceAll('-', ''), 'hex')
  body.writeUIntBE(counter, 16, 6)
  const mac = createSecrets([secret]).mac('refresh token').sign(body)
  return `lkr_${Buffer.concat([body, mac]).toString('base64url')}`
}

overStores(
  'who has AUTH_SECRET and a log takes sessions over, until their owner comes or it is changed',
  async (t, build) => {
    const test = await build({ AUTH_SECRET: authSecret })
    const { app, logs } = test
    await signUp(app)
    const owner = await logIn(app)
    const other = await logIn(app)
    const { sid } = logs.find(({ event }) => event === 'login.succeeded') as { sid: string }
    const stolen = await refresh(app, forgeRefreshToken(authSecret, sid, 1_000))
    t.equal(stolen.statusCode, 200, 'the id of a session is in the log')
    t.equal((await refresh(app, owner.refresh_token)).statusCode, 400)
    t.notOk(await isAccepted(app, json(stolen).access_token), 'the owner comes: the session ends')
    t.ok(logs.some(({ event }) => event === 'refresh.reused'))

    const changed = await test.restart({ AUTH_SECRET: `${authSecret} after`, AUTH_SECRET_PREVIOUS: authSecret })
    const sidOfOther = claimsOf(other.access_token)['sid'] as string
    const kept = json(await refresh(changed.app, other.refresh_token))
    await changed.app.signingKeys.rotateNow(changed.app, { isLeaked: true })
    const gone = await changed.restart({ AUTH_SECRET_PREVIOUS: '' })
    t.equal((await refresh(gone.app, forgeRefreshToken(authSecret, sidOfOther, 2_000))).statusCode, 400)
    t.equal((await refresh(gone.app, kept.refresh_token)).statusCode, 200)
  },
)

onOneStore('who has a phone reads, logs out and goes on, and takes nothing over', async (t, build) => {
  const { app } = await build()
  await signUp(app)
  const phone = await logIn(app)
  const laptop = await logIn(app)
  const call = (url: string, method: 'POST' | 'DELETE', payload: object) =>
    withToken(app, phone.access_token, { method, url, payload })
  const change = { current_password: newPassword, new_password: `${newPassword}!` }
  t.equal((await call('/users/me/password', 'POST', change)).statusCode, 403, 'the password stays')
  t.equal((await call('/users/me', 'DELETE', { password: newPassword })).statusCode, 403, 'and the account')
  const id = claimsOf(phone.access_token)['sid']
  const ended = await withToken(app, laptop.access_token, { method: 'DELETE', url: `/users/me/sessions/${id}` })
  t.equal(ended.statusCode, 204)
  t.notOk(await isAccepted(app, phone.access_token), 'ended from elsewhere, at once')
  t.equal((await refresh(app, phone.refresh_token)).statusCode, 400)
  t.ok(await isAccepted(app, laptop.access_token))
})

/** An access token, made by who has a signing key. */
function forgeAccessToken({ key, kid }: { key: KeyObject; kid: string }, claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part({ alg: 'ES256', typ: 'at+jwt', kid })}.${part(claims)}`
  return `${signed}.${sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

overStores(
  'who has a signing key is whoever they like, an administrator too, until it is revoked',
  async (t, build) => {
    const { app } = await build()
    const { id } = json(await signUp(app, 'root'))
    await giveRoles(storeOf(app), id, ['admin'])
    const { access_token, refresh_token } = await logIn(app, 'root')
    const { privateKey, kid } = app.signingKeys.current()
    const stolen = { key: privateKey as KeyObject, kid }
    const forged = forgeAccessToken(stolen, { ...claimsOf(access_token), scope: 'admin', sid: randomUUID() })
    t.equal((await withToken(app, forged, { url: '/admin/users' })).statusCode, 200)

    await app.signingKeys.revoke(app, kid)
    t.equal((await withToken(app, forged, { url: '/admin/users' })).statusCode, 401)
    const goesOn = await refresh(app, refresh_token)
    t.ok(await isAccepted(app, json(goesOn).access_token), 'sessions go on')
  },
)

onOneStore('who can write to the store needs no secret: a key of their own is believed', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app, 'root')
  const { access_token } = await logIn(app, 'root')
  const { privateKey: key, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const kid = 'of an attacker'
  const publicJwk = JSON.stringify({ ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' })
  const times = { createdAt: Date.now() + 1, signsFrom: Date.now() + 1 }
  await storeOf(app).addSigningKey({ kid, alg: 'ES256', publicJwk, ...times }, app.signingKeys.current().kid)
  // An unknown kid is looked for once a second.
  clock.passedMs = 2_000
  t.ok(await isAccepted(app, forgeAccessToken({ key, kid }, claimsOf(access_token))))
})
