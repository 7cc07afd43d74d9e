import { createHash, createHmac, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { calculateJwkThumbprint, createLocalJWKSet, decodeProtectedHeader, type JWK, jwtVerify } from 'jose'
import type { SigningAlg } from '../../../domain/signing-key.ts'
import { createVerifier } from '../../../verify/index.ts'
import { basic, callerFrom, makeClient, tokenOf } from '../../support/client-helper.ts'
import { codeOf as codeOfApp, giveTotp } from '../../support/factors.ts'
import {
  type Build,
  challenges,
  challengeTo,
  claimsOf,
  giveEmail,
  json,
  listen,
  onOneApp,
  onOneStore,
  password,
  postForm,
  signUp,
  storeOf,
  type TestApp,
  withToken,
} from '../../support/helper.ts'

/* ID tokens and logout tokens: OpenID Connect Core §2 and §12.2, Back-Channel Logout 1.0 §2.4; contract, section 12. */

const algs = ['RS256', 'ES256', 'EdDSA'] as const
const jwksOf = async (app: FastifyInstance) => createLocalJWKSet(json(await app.inject('/.well-known/jwks.json')))
const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** The service, ada, and a client for each algorithm and one that has not chosen. */
async function serve(build: Build, settings: Record<string, string> = {}) {
  const test = await build(settings)
  const { app } = test
  const user: string = json(await signUp(app)).id
  const grants = ['password', 'refresh_token', 'authorization_code', 'client_credentials']
  const make = (id: string, idTokenAlg?: SigningAlg) =>
    makeClient(app, { id, grants, scopes: ['files'], ...(idTokenAlg && { idTokenAlg }) })
  const any = await make('any')
  const byAlg = {
    RS256: await make('rsa', 'RS256'),
    ES256: await make('ec', 'ES256'),
    EdDSA: await make('ed', 'EdDSA'),
  }

  const grant = async (fields: Record<string, string>, client = any) =>
    json(await postForm(app, '/token', fields, basic(client)))
  return {
    ...{ ...test, user, any, byAlg, grant },
    logIn: (scope: string, client = any) => grant({ grant_type: 'password', username: 'ada', password, scope }, client),
    refresh: (refresh_token: string, fields = {}) => grant({ grant_type: 'refresh_token', refresh_token, ...fields }),
    /** as one that `/authorize` gives */
    async code(more: { nonce?: string; idTokenClaims?: string[] }) {
      const client = await app.clients.get('any')
      const granted = { scope: ['openid'], aud: 'https://api.example' }
      const { generation } = (await storeOf(app).findUser(user)) as { generation: number }
      const code = await app.codes.issue(callerFrom('192.0.2.1', app.log), client, {
        userId: user,
        generation,
        granted,
        ...more,
      })
      return grant({ grant_type: 'authorization_code', code })
    },
  }
}

/** What an app does with one, OpenID Connect Core §3.1.3.7. */
const verifyIdToken = async ({ app, config, clock }: TestApp, token: string, audience: string) =>
  jwtVerify(token, await jwksOf(app), {
    ...{ issuer: config.AUTH_ISSUER, audience, typ: 'JWT', currentDate: new Date(clock.now) },
    requiredClaims: ['sub', 'iat', 'exp', 'auth_time', 'sid'],
  })

const underOneService = onOneApp((_t, build) => serve(build))

underOneService('it says who has signed in, when and how, and is checked by the JWKS alone', async (t, served) => {
  const { user, clock, config, any, byAlg, logIn } = served
  for (const [alg, client] of [...Object.entries(byAlg), ['RS256', any] as const]) {
    const tokens = await logIn('openid files', client)
    const { payload, protectedHeader } = await verifyIdToken(served, tokens.id_token, client.id)
    t.same(Object.keys(protectedHeader).sort(), ['alg', 'kid', 'typ'])
    t.equal(protectedHeader.alg, alg, `${client.id}: as it has chosen, and RS256 where it has not`)
    const iat = Math.floor(clock.now / 1000)
    const hash = createHash(alg === 'EdDSA' ? 'sha512' : 'sha256')
      .update(tokens.access_token)
      .digest()
    t.same(payload, {
      iss: config.AUTH_ISSUER,
      aud: client.id,
      sub: user,
      iat,
      exp: iat + config.AUTH_ACCESS_TTL.seconds,
      auth_time: iat,
      acr: 'urn:latchkey:acr:1',
      amr: ['pwd'],
      sid: claimsOf(tokens.access_token)['sid'],
      at_hash: hash.subarray(0, hash.length / 2).toString('base64url'),
    })
    t.equal(decodeProtectedHeader(tokens.access_token).alg, 'ES256', 'the access token stays as it is')
  }
})

underOneService('it has the nonce of the request, and of the user what was asked for', async (t, { code }) => {
  t.notMatch(claimsOf((await code({})).id_token), { nonce: String })
  const asked = {
    nonce: 'n-0S6_WzA2Mj',
    idTokenClaims: ['preferred_username', 'email', 'sub', '__proto__', 'toString'],
  }
  const claims = claimsOf((await code(asked)).id_token)
  t.match(claims, { nonce: 'n-0S6_WzA2Mj', preferred_username: 'ada' })
  t.notOk('name' in claims || 'email' in claims, 'nothing that was not asked for, or is not known')
})

underOneService('it comes with the scope openid, to users alone', async (t, { logIn, grant, refresh }) => {
  for (const scope of ['files', 'profile email', ''])
    t.notOk('id_token' in (await logIn(scope)), `with the scope ${JSON.stringify(scope)}`)
  t.equal((await grant({ grant_type: 'client_credentials', scope: 'openid' })).error, 'invalid_scope')
  const login = await logIn('openid files')
  t.notOk('id_token' in (await refresh(login.refresh_token, { scope: 'files' })), 'a refresh that asks for less')
})

underOneService(
  'a refresh gives another of the same sign-in: iss, sub, aud, sid and auth_time stay, and there is no nonce',
  async (t, { code, refresh, clock }) => {
    const login = await code({ nonce: 'n', idTokenClaims: ['name'] })
    const before = claimsOf(login.id_token)
    clock.now += 60_000
    const after = claimsOf((await refresh(login.refresh_token)).id_token)
    for (const name of ['iss', 'sub', 'aud', 'sid', 'auth_time', 'amr']) t.same(after[name], before[name], name)
    t.equal(after['iat'], (before['iat'] as number) + 60)
    t.notOk('nonce' in after || 'name' in after)
    t.not(after['at_hash'], before['at_hash'])
  },
)

onOneStore('a second factor shows in it, for as long as it counts', async (t, build) => {
  const { app, logIn, refresh, clock } = await serve(build)
  const own = await logIn('openid')
  const { secret } = await giveTotp(app)
  t.equal((await logIn('openid')).error, 'insufficient_authorization')
  const more = await postForm(app, '/challenge', { username: 'ada', password, scope: 'openid' })
  const shown = await postForm(app, '/challenge', {
    auth_session: json(more).auth_session,
    otp: codeOfApp(secret, clock.now),
  })
  const code = json(shown).authorization_code
  const tokens = json(await postForm(app, '/token', { grant_type: 'authorization_code', code }))
  const claims = claimsOf(tokens.id_token)
  t.match(claims, { aud: 'first-party', acr: 'urn:latchkey:acr:2', auth_time: Math.floor(clock.now / 1000) })
  t.same((claims['amr'] as string[]).toSorted(), ['mfa', 'otp', 'pwd'])
  clock.now += 16 * 60_000
  const later = json(
    await postForm(app, '/token', { grant_type: 'refresh_token', refresh_token: tokens.refresh_token }),
  )
  t.match(claimsOf(later.id_token), { acr: 'urn:latchkey:acr:1', amr: claims['amr'], auth_time: claims['auth_time'] })
  t.match(claimsOf((await refresh(own.refresh_token)).id_token), { acr: 'urn:latchkey:acr:1', amr: ['pwd'] })
})

underOneService('a logout token says which session has ended', async (t, served) => {
  const { app, user, byAlg, clock, config, logIn } = served
  const sid = claimsOf((await logIn('openid')).access_token)['sid'] as string
  for (const [alg, { id }] of Object.entries(byAlg)) {
    const client = await app.clients.get(id)
    const issue = () => app.idTokens.logoutToken({ client, sub: user, sid })
    const options = { issuer: config.AUTH_ISSUER, audience: id, typ: 'logout+jwt', currentDate: new Date(clock.now) }
    const { payload, protectedHeader } = await jwtVerify(await issue(), await jwksOf(app), options)
    t.equal(protectedHeader.alg, alg)
    const iat = Math.floor(clock.now / 1000)
    const events = { 'http://schemas.openid.net/event/backchannel-logout': {} }
    const { jti, ...claims } = payload
    t.same(claims, { iss: config.AUTH_ISSUER, aud: id, sub: user, sid, iat, exp: iat + 120, events })
    t.not(jti, claimsOf(await issue())['jti'])
  }
})

underOneService('no ID token and no logout token is taken for an access token', async (t, served) => {
  const { app, any, byAlg, user, config, clock, logIn } = served
  const asks = await makeClient(app, { id: 'asks', introspect: 'all' })
  const verifier = createVerifier({ issuer: config.AUTH_ISSUER, url: await listen(app), now: () => clock.now })
  t.teardown(() => verifier.close())
  const { access_token: good } = await logIn('openid')
  await verifier.verify(good)
  for (const client of [any, ...Object.values(byAlg)]) {
    const { id_token, access_token } = await logIn('openid', client)
    const sid = claimsOf(access_token)['sid'] as string
    const logout = await app.idTokens.logoutToken({ client: await app.clients.get(client.id), sub: user, sid })
    for (const [what, token] of Object.entries({ id_token, logout })) {
      t.equal(await challengeTo(app, token), challenges.invalid, `${what} of ${client.id} at /protected`)
      t.equal((await withToken(app, token, { url: '/userinfo' })).statusCode, 401, 'at /userinfo')
      t.equal((await withToken(app, token, { url: '/verify' })).statusCode, 401, 'at /verify')
      t.same(json(await postForm(app, '/introspect', { token }, basic(asks))), { active: false }, 'at /introspect')
      await t.rejects(verifier.verify(token), { message: 'typ is not at+jwt' }, 'by latchkey-verify')
    }
  }
})

/** Signs what it is given. */
function forge(header: object, claims: object, key: KeyObject | string, alg: string): string {
  const input = `${base64url(header)}.${base64url(claims)}`
  if (typeof key === 'string') return `${input}.${createHmac('sha256', key).update(input).digest('base64url')}`
  const hash = alg === 'EdDSA' ? null : 'sha256'
  return `${input}.${sign(hash, Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

underOneService('a hint names a user where a key of ours has signed it, however old it is', async (t, served) => {
  const { app, user, any, byAlg, clock, logIn } = served
  const { readHint } = app.idTokens
  const strangers = {
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    EdDSA: generateKeyPairSync('ed25519'),
  }
  for (const client of [any, ...Object.values(byAlg)]) {
    const { id_token: token } = await logIn('openid', client)
    const named = { sub: user, aud: client.id, sid: claimsOf(token)['sid'] }
    t.same(await readHint(token), named, client.id)
    clock.now += 86_400_000
    t.same(await readHint(token), named, 'a day later')

    const { alg, kid } = decodeProtectedHeader(token) as { alg: SigningAlg; kid: string }
    const key = await app.signingKeys.currentOf(alg)
    const [header, claims] = [{ alg, typ: 'JWT', kid }, claimsOf(token)]
    t.same(await readHint(forge(header, claims, key.privateKey, alg)), named, 'as this test signs')
    const stranger = strangers[alg]
    const jwk = stranger.publicKey.export({ format: 'jwk' })
    const pem = createPublicKey(key.publicPem).export({ format: 'pem', type: 'spki' }) as string
    const other = await app.signingKeys.currentOf(algs[(algs.indexOf(alg) + 1) % 3] as SigningAlg)
    const [head, body, signature] = token.split('.') as [string, string, string]
    const bad: Record<string, string> = {
      nothing: '',
      'no JWT': 'x',
      'two parts': `${head}.${body}`,
      'no signature': `${head}.${body}.`,
      'the first character of the signature changed': `${head}.${body}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`,
      'another user': `${head}.${base64url({ ...claims, sub: 'x' })}.${signature}`,
      'alg none': `${base64url({ ...header, alg: 'none' })}.${body}.`,
      'alg none with a signature': `${base64url({ ...header, alg: 'none' })}.${body}.${signature}`,
      'HS256 by our public key': forge({ ...header, alg: 'HS256' }, claims, pem, ''),
      "a stranger's key under our kid": forge(header, claims, stranger.privateKey, alg),
      "a stranger's key, which it brings": forge({ ...header, jwk }, claims, stranger.privateKey, alg),
      "a stranger's key and kid": forge(
        { ...header, kid: await calculateJwkThumbprint(jwk as JWK) },
        claims,
        stranger.privateKey,
        alg,
      ),
      'without a kid': forge({ alg, typ: 'JWT' }, claims, key.privateKey, alg),
      'the kid of another key of ours': forge({ ...header, kid: other.kid }, claims, key.privateKey, alg),
      'another alg under our kid': forge({ ...header, alg: other.alg }, claims, other.privateKey, other.alg),
      'an access token': (await logIn('openid', client)).access_token,
      'typ at+jwt': forge({ ...header, typ: 'at+jwt' }, claims, key.privateKey, alg),
      'typ logout+jwt': forge({ ...header, typ: 'logout+jwt' }, claims, key.privateKey, alg),
      'no typ': forge({ alg, kid }, claims, key.privateKey, alg),
      'critical members': forge({ ...header, crit: ['exp'] }, claims, key.privateKey, alg),
      'another issuer': forge(header, { ...claims, iss: 'https://evil.example' }, key.privateKey, alg),
      'no issuer': forge(header, { ...claims, iss: undefined }, key.privateKey, alg),
      'no sub': forge(header, { ...claims, sub: '' }, key.privateKey, alg),
      'several audiences': forge(header, { ...claims, aud: [client.id, 'x'] }, key.privateKey, alg),
      'no object': forge(header, [], key.privateKey, alg),
    }
    for (const [what, hint] of Object.entries(bad)) t.equal(await readHint(hint), undefined, `${client.id}: ${what}`)
  }
})

underOneService('/userinfo says what the scope gives, and takes a token for any audience', async (t, served) => {
  const { app, user, logIn, grant } = served
  await giveEmail(storeOf(app), user, 'Ada@example.com', false)
  await app.profiles.find(user)
  const ask = async (token: string, method: 'GET' | 'POST' = 'GET') =>
    json(await withToken(app, token, { method, url: '/userinfo' }))
  const tokenFor = async (scope: string) => (await logIn(scope)).access_token
  const expected: Record<string, object> = {
    openid: {},
    'openid files': {},
    'openid profile': { name: 'ada', preferred_username: 'ada' },
    'openid email': { email: 'Ada@example.com', email_verified: false },
  }
  for (const [scope, claims] of Object.entries(expected)) {
    const token = await tokenFor(scope)
    for (const method of ['GET', 'POST'] as const) t.same(await ask(token, method), { sub: user, ...claims }, scope)
  }
  const elsewhere = await makeClient(app, { id: 'far', grants: ['password'], audience: ['https://api.example'] })
  const asked = { grant_type: 'password', username: 'ada', password, scope: 'openid profile' }
  const far = await grant(asked, elsewhere)
  t.equal(claimsOf(far.access_token)['aud'], 'https://api.example')
  t.match(await ask(far.access_token), { sub: user, name: 'ada' })
})

underOneService('/userinfo refuses by RFC 6750, and reads a token from its header alone', async (t, served) => {
  const { app, any, logIn } = served
  const url = '/userinfo'
  const { access_token: good } = await logIn('openid profile')
  for (const method of ['GET', 'POST'] as const) {
    const none = await app.inject({ method, url })
    t.same([none.statusCode, none.headers['www-authenticate']], [401, challenges.missing])
    t.equal((await app.inject({ method, url: `${url}?access_token=${good}` })).statusCode, 401, 'in the query')
    const bad = await withToken(app, 'x.y.z', { method, url })
    t.same([bad.statusCode, bad.headers['www-authenticate']], [401, challenges.invalid])
    const narrow = await withToken(app, (await logIn('files')).access_token, { method, url })
    t.equal(narrow.statusCode, 403)
    t.match(narrow.headers['www-authenticate'], /error="insufficient_scope", scope="openid"/)
    const ofClient = await withToken(app, await tokenOf(app, any), { method, url })
    t.equal(ofClient.statusCode, 403, 'the token of a client')
  }
  t.equal((await postForm(app, url, { access_token: good })).statusCode, 401, 'in the body')
  for (const [type, payload] of [
    ['application/x-www-form-urlencoded', 'a=b&a=c'],
    ['application/json', '{'],
    ['text/plain', 'x'],
  ] as const) {
    const options = { method: 'POST', url, headers: { 'content-type': type }, payload } as const
    t.equal((await withToken(app, good, options)).statusCode, 200, `a body of ${type} is not read`)
  }
  t.equal((await withToken(app, good, { url })).headers['cache-control'], 'no-store')
  t.equal((await withToken(app, good, { method: 'DELETE', url })).statusCode, 405)
})

onOneStore(
  'a user who is gone or disabled has no /userinfo, and a page of AUTH_CORS_ORIGINS may read it',
  async (t, build) => {
    const origin = 'https://app.example'
    const { app, user, logIn } = await serve(build, { AUTH_CORS_ORIGINS: origin })
    const { access_token: token } = await logIn('openid')
    const ask = () => withToken(app, token, { url: '/userinfo', headers: { origin } })
    t.match(await ask(), { statusCode: 200, headers: { 'access-control-allow-origin': origin } })
    await app.userAdmin.disable(callerFrom('192.0.2.1', app.log), user)
    t.equal((await ask()).statusCode, 401)
  },
)

onOneStore(
  'AUTH_PAGES=off: no ID token, no /userinfo, no second key, also for sessions of before',
  async (t, build) => {
    const first = await serve(build)
    const login = await first.logIn('openid files')
    t.ok(login.id_token)
    const { app } = await first.restart({ AUTH_PAGES: 'off' })
    const fields = { grant_type: 'refresh_token', refresh_token: login.refresh_token }
    const next = json(await postForm(app, '/token', fields, basic(first.any)))
    t.ok(next.access_token)
    t.notOk('id_token' in next)
    t.equal((await withToken(app, next.access_token, { url: '/userinfo' })).statusCode, 404)
    const fresh = await build({ AUTH_PAGES: 'off' })
    t.equal(json(await fresh.app.inject('/.well-known/jwks.json')).keys.length, 1)
  },
)
