import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
  sign as signBytes,
} from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import { calculateJwkThumbprint, createLocalJWKSet, decodeProtectedHeader, type JWK, jwtVerify } from 'jose'
import type { Test } from 'tap'
import { ConfigError } from '../../config.ts'
import { readKeyFile } from '../../plugins/keys/key-material.ts'
import { ambiguities } from '../support/client-helper.ts'
import {
  type Build,
  challenges,
  challengeTo,
  claimsOf,
  isAccepted,
  json,
  logIn,
  newDir,
  onOneApp,
  onOneStore,
  overStores,
  postForm,
  refresh,
  type Scope,
  signUp,
  type TestApp,
  withToken,
} from '../support/helper.ts'
import { isLong } from '../support/processes.ts'

const minutes = 60_000
const hours = 60 * minutes
const days = 24 * hours

type Json = Record<string, unknown>
type Signer = (data: string) => Buffer

const base64url = (value: unknown) =>
  Buffer.from(typeof value === 'string' ? value : Buffer.isBuffer(value) ? value : JSON.stringify(value)).toString(
    'base64url',
  )

/** A JWS in compact form: parts that are objects become JSON, texts and bytes stay as they are. */
function jws(header: unknown, payload: unknown, sign: Signer): string {
  const data = `${base64url(header)}.${base64url(payload)}`
  return `${data}.${sign(data).toString('base64url')}`
}

const es256 =
  (key: KeyObject): Signer =>
  (data) =>
    signBytes('sha256', Buffer.from(data), { key, dsaEncoding: 'ieee-p1363' })
const hmac =
  (secret: string | Buffer, hash = 'sha256'): Signer =>
  (data) =>
    createHmac(hash, createSecretKey(Buffer.from(secret)))
      .update(data)
      .digest()
const unsigned: Signer = () => Buffer.alloc(0)

async function keyFile(t: Scope, text: string | object): Promise<string> {
  const path = join(await newDir(t), 'key')
  await writeFile(path, typeof text === 'string' ? text : JSON.stringify(text))
  return path
}

const pemOf = (key: KeyObject, type: 'pkcs8' | 'sec1' | 'pkcs1' = 'pkcs8') =>
  key.export({ format: 'pem', type } as { format: 'pem'; type: 'pkcs8' })

/** The service under an operator's key that the test holds too, with a user who has logged in. */
async function underOperatorKey(t: Scope, build: Build) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const test = await build({ AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(privateKey)) })
  const { app, clock } = test
  await signUp(app)
  const tokens = await logIn(app)
  const header: Json = decodeProtectedHeader(tokens.access_token) as Json
  const claims: Json = claimsOf(tokens.access_token)
  return {
    ...test,
    clock,
    tokens,
    header,
    claims,
    privateKey,
    publicKey,
    sign: es256(privateKey),
    /** A token as the service would make it, but for what is given. */
    forge: (changedHeader: Json = {}, changedClaims: Json = {}, sign: Signer = es256(privateKey)) =>
      jws({ ...header, ...changedHeader }, { ...claims, jti: `0.${randomUUID()}`, ...changedClaims }, sign),
  }
}

const underOneKey = onOneApp(underOperatorKey)

async function isRefused(
  t: Test,
  app: FastifyInstance,
  token: string,
  what: string,
  challenge: string = challenges.invalid,
): Promise<void> {
  const response = await withToken(app, token, { url: '/protected' })
  t.equal(response.statusCode, 401, what)
  t.equal(response.headers['www-authenticate'], challenge, what)
  const revoked = await postForm(app, '/revoke', { token })
  if (revoked.statusCode >= 500) t.fail(`${what} at /revoke is ${revoked.statusCode}`)
}

async function isAlive(t: Test, app: FastifyInstance): Promise<void> {
  t.equal((await app.inject({ url: '/livez' })).statusCode, 200, 'and the service lives')
}

underOneKey('what the tests below forge is taken when nothing is wrong with it', async (t, { app, forge, claims }) => {
  t.ok(await isAccepted(app, forge()))
  t.ok(await isAccepted(app, forge({}, { aud: [claims['aud'], 'https://other.example'] })), 'aud may be a list')
  t.ok(await isAccepted(app, forge({}, { scope: 'read', roles: ['x'], extra: { any: 'thing' } })))
})

onOneStore('what the service signs passes the check of @fastify/jwt as it is registered', async (t, build) => {
  for (const AUTH_SIGNING_ALG of ['ES256', 'RS256', 'EdDSA']) {
    const { app } = await build({ AUTH_SIGNING_ALG })
    await signUp(app)
    const { access_token } = await logIn(app)
    const [jwk] = json(await app.inject({ url: '/.well-known/jwks.json' })).keys
    const key = createPublicKey({ key: jwk, format: 'jwk' }).export({ format: 'pem', type: 'spki' }) as string
    t.same(app.jwt.verify(access_token, { key }), claimsOf(access_token), AUTH_SIGNING_ALG)
  }
})

onOneStore('a route that reads the claims without a guard fails', async (t, build) => {
  const { app, logs } = await build()
  // Before the guard has set them.
  app.accessTokens.verify = async (request) => request.token
  t.equal((await withToken(app, 'x', { url: '/protected' })).statusCode, 500)
  t.match(JSON.stringify(logs.at(-1)), /request.token was read on a route without a guard/)
})

underOneKey('alg none is refused', async (t, { app, forge, sign, header, claims }) => {
  for (const alg of ['none', 'None', 'NONE', 'nOnE', '', null, undefined, 0, [], ['ES256'], { toString: 'ES256' }]) {
    await isRefused(t, app, forge({ alg }, {}, unsigned), `alg ${JSON.stringify(alg)} without a signature`)
    await isRefused(t, app, forge({ alg }, {}, sign), `alg ${JSON.stringify(alg)} with one`)
  }
  await isRefused(t, app, `${base64url({ ...header, alg: 'none' })}.${base64url(claims)}`, 'and with two parts')
  await isAlive(t, app)
})

underOneKey('HS256 with the public key as its secret is refused', async (t, { app, forge, publicKey, header }) => {
  const jwk = publicKey.export({ format: 'jwk' })
  const pem = publicKey.export({ format: 'pem', type: 'spki' }) as string
  const [published] = json(await app.inject({ url: '/.well-known/jwks.json' })).keys
  const secrets = {
    PEM: pem,
    'PEM without its last line end': pem.trimEnd(),
    DER: publicKey.export({ format: 'der', type: 'spki' }),
    'the JWK': JSON.stringify(jwk),
    'the published JWK': JSON.stringify(published),
    x: Buffer.from(jwk.x as string, 'base64url'),
    'x as text': jwk.x as string,
    kid: header['kid'] as string,
    nothing: '',
  }
  for (const [what, secret] of Object.entries(secrets)) {
    for (const [alg, hash] of [
      ['HS256', 'sha256'],
      ['HS384', 'sha384'],
      ['HS512', 'sha512'],
      ['ES256', 'sha256'],
    ] as const) {
      await isRefused(t, app, forge({ alg }, {}, hmac(secret, hash)), `${alg} by ${what}`)
    }
  }
  await isAlive(t, app)
})

onOneStore('a token of a stranger is refused, whatever its header says of the key', async (t, build) => {
  const { app, forge, header } = await underOperatorKey(t, build)
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const sign = es256(stranger.privateKey)
  const jwk = stranger.publicKey.export({ format: 'jwk' }) as JWK
  const kid = await calculateJwkThumbprint(jwk)
  const { access_token: ofAnother } = await (async () => {
    const other = await build()
    await signUp(other.app)
    return logIn(other.app)
  })()
  await isRefused(t, app, ofAnother, 'a token of another Latchkey')

  const der = stranger.publicKey.export({ format: 'der', type: 'spki' }).toString('base64')
  const pointers: Json[] = [
    {},
    { jwk },
    { jwk: { ...jwk, kid: header['kid'] } },
    { jku: 'http://127.0.0.1:9/jwks.json' },
    { x5u: 'http://127.0.0.1:9/cert.pem' },
    { x5c: [der] },
    { x5t: 'AAAA', 'x5t#S256': 'AAAA' },
  ]
  for (const pointer of pointers) {
    const what = Object.keys(pointer).join(', ') || 'nothing'
    await isRefused(t, app, forge(pointer, {}, sign), `our kid and ${what}`)
    await isRefused(t, app, forge({ ...pointer, kid }, {}, sign), `their kid and ${what}`)
    await isRefused(t, app, forge({ ...pointer, kid: undefined }, {}, sign), `no kid and ${what}`)
  }
  await isAlive(t, app)
})

onOneStore('a kid that is another key of ours, unknown, missing or no text is refused', async (t, build) => {
  const before = await build()
  const generated = json(await before.app.inject({ url: '/.well-known/jwks.json' })).keys[0].kid
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  before.clock.now += 1
  const { app } = await before.restart({ AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(privateKey)) })
  await signUp(app)
  const { access_token } = await logIn(app)
  const [header, claims] = [decodeProtectedHeader(access_token) as Json, claimsOf(access_token)]
  t.not(header['kid'], generated)
  const { keys } = json(await app.inject({ url: '/.well-known/jwks.json' }))
  t.equal(keys.filter(({ alg }: JWK) => alg === 'ES256').length, 2)
  const withKid = (kid: unknown) => jws({ ...header, kid }, claims, es256(privateKey))
  t.ok(await isAccepted(app, withKid(header['kid'])))
  const kids = [
    generated,
    'unknown',
    '',
    ' ',
    '../../../../dev/null',
    "' OR 1=1 --",
    '__proto__',
    'constructor',
    0,
    1,
    null,
    undefined,
    [],
    {},
    true,
  ]
  for (const kid of [...kids, [header['kid']], 'x'.repeat(10_000), '\0', '\ud800'])
    await isRefused(t, app, withKid(kid), `kid ${JSON.stringify(kid)}`)
  await isAlive(t, app)
})

onOneStore('unknown kids have the store read once in a while, not each time', async (t, build) => {
  const { app, forge, clock } = await underOperatorKey(t, build)
  let reads = 0
  const { listSigningKeys } = app.store
  app.store.listSigningKeys = () => {
    reads += 1
    return listSigningKeys()
  }
  clock.now += 5000
  const startedAt = performance.now()
  for (let count = 0; count < 100; count += 1) await isRefused(t, app, forge({ kid: `unknown ${count}` }), 'unknown')
  const seconds = Math.floor((performance.now() - startedAt) / 1000)
  t.ok(reads <= 1 + seconds, `${reads} reads in ${seconds} s`)
})

underOneKey(
  'a critical header that nobody here understands is refused (RFC 7515 §4.1.11)',
  async (t, { app, forge }) => {
    for (const header of [
      { crit: ['exp'], exp: 1 },
      { crit: ['b64'], b64: true },
      { crit: ['b64'], b64: false },
      { crit: ['http://example.com/UNDEFINED'], 'http://example.com/UNDEFINED': true },
      { crit: [] },
      { crit: ['alg'] },
      { crit: 'exp' },
      { crit: ['missing'] },
    ]) {
      await isRefused(t, app, forge(header), JSON.stringify(header))
    }
    await isAlive(t, app)
  },
)

underOneKey('a typ that is no access token is refused (RFC 9068 §4)', async (t, { app, forge }) => {
  for (const typ of [
    'JWT',
    'jwt',
    'id+jwt',
    'at+jwtx',
    'xat+jwt',
    'application/jwt',
    'logout+jwt',
    'dpop+jwt',
    '',
    null,
    undefined,
    1,
    ['at+jwt'],
    {},
  ]) {
    await isRefused(t, app, forge({ typ }), `typ ${JSON.stringify(typ)}`)
  }
  await isAlive(t, app)
})

onOneStore('a token without a usable end is refused, though the key is right', async (t, build) => {
  const { app, forge, header, claims, sign, clock } = await underOperatorKey(t, build)
  const exp = claims['exp'] as number
  for (const odd of [
    undefined,
    null,
    '',
    String(exp),
    `${exp}`,
    [exp],
    { valueOf: exp },
    true,
    exp + 0.5,
    -1,
    -exp,
    2 ** 53,
    1e300,
  ]) {
    await isRefused(t, app, forge({}, { exp: odd }), `exp ${JSON.stringify(odd)}`)
  }
  for (const raw of ['1e400', '-1e400', '1e999999999']) {
    const text = JSON.stringify({ ...claims, exp: 0 }).replace('"exp":0', `"exp":${raw}`)
    await isRefused(t, app, jws(header, text, sign), `exp ${raw}`)
  }
  for (const past of [0, 1, exp - 601])
    await isRefused(t, app, forge({}, { exp: past }), `exp ${past}`, challenges.expired)

  const long = forge({}, { exp: exp + 365 * 86_400 })
  t.ok(await isAccepted(app, long))
  clock.now += 10 * minutes
  await isRefused(t, app, long, 'a life longer than AUTH_ACCESS_TTL ends with that', challenges.expired)
  await isAlive(t, app)
})

onOneStore('a token from the future, or from no time, is refused', async (t, build) => {
  const { app, forge, header, claims, sign, clock } = await underOperatorKey(t, build)
  const iat = claims['iat'] as number
  for (const odd of [undefined, null, String(iat), [iat], iat + 0.5, -1, iat + 3600, 2 ** 53]) {
    await isRefused(t, app, forge({}, { iat: odd, exp: iat + 7200 }), `iat ${JSON.stringify(odd)}`)
  }
  await isRefused(
    t,
    app,
    jws(header, JSON.stringify({ ...claims, iat: 0 }).replace('"iat":0', '"iat":1e400'), sign),
    'iat 1e400',
  )
  await isRefused(t, app, forge({}, { iat: 0, exp: iat + 3600 }), 'iat 0', challenges.expired)
  t.ok(await isAccepted(app, forge({}, { iat: iat + 30, exp: iat + 630 })), 'clocks may differ a little')
  const early = forge({}, { iat: iat + 300, exp: iat + 900 })
  await isRefused(t, app, early, 'too early')
  clock.now += 5 * minutes
  t.ok(await isAccepted(app, early), 'it is judged anew each time')
  for (const nbf of [4_102_444_800, String(iat), 'x'])
    await isRefused(t, app, forge({}, { iat: iat + 300, exp: iat + 900, nbf }), `nbf ${nbf}`)
  await isAlive(t, app)
})

underOneKey('a wrong issuer or audience is refused', async (t, { app, forge, claims }) => {
  const iss = claims['iss'] as string
  for (const odd of [
    'https://evil.example',
    '',
    `${iss}/`,
    iss.toUpperCase(),
    `${iss}.evil.example`,
    [iss],
    null,
    undefined,
    1,
    {},
  ]) {
    await isRefused(t, app, forge({}, { iss: odd }), `iss ${JSON.stringify(odd)}`)
  }
  for (const odd of [
    'https://evil.example',
    '',
    `${iss}/`,
    [],
    ['https://evil.example'],
    [[iss]],
    { 0: iss },
    null,
    undefined,
    1,
    [1, iss],
  ]) {
    await isRefused(t, app, forge({}, { aud: odd }), `aud ${JSON.stringify(odd)}`)
  }
  await isAlive(t, app)
})

underOneKey('a missing or wrong-typed claim is refused', async (t, { app, forge, header, sign, claims }) => {
  for (const name of ['sub', 'jti', 'client_id']) {
    for (const odd of [undefined, null, '', 1, true, [], ['x'], {}]) {
      await isRefused(t, app, forge({}, { [name]: odd }), `${name} ${JSON.stringify(odd)}`)
    }
  }
  for (const [name, values] of Object.entries({
    sid: [1, null, ['x'], {}],
    scope: [1, null, ['read'], {}],
    roles: ['admin', 1, null, {}, [1], [['x']]],
  })) {
    for (const odd of values) await isRefused(t, app, forge({}, { [name]: odd }), `${name} ${JSON.stringify(odd)}`)
  }
  await isRefused(t, app, forge({}, { sub: randomUUID() }), 'a user who never was')
  for (const payload of [
    '',
    'null',
    '[]',
    '"x"',
    '1',
    'true',
    '{',
    '\0',
    '\xff\xfe',
    `[${JSON.stringify(claims)}]`,
    '['.repeat(10_000),
  ]) {
    await isRefused(t, app, jws(header, payload, sign), `payload ${JSON.stringify(payload.slice(0, 12))}`)
  }
  for (const odd of ['', 'null', '[]', '"x"', '{', '\0', '['.repeat(10_000)]) {
    await isRefused(t, app, jws(odd, claims, sign), `header ${JSON.stringify(odd.slice(0, 12))}`)
  }
  await isAlive(t, app)
})

underOneKey(
  'a signature in another writing is the same token: revoked in one, revoked in all',
  async (t, { app, forge }) => {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    /** The low bits of the last character are of no byte. */
    const writingsOf = (token: string) => {
      const last = alphabet.indexOf(token.at(-1) as string)
      return Array.from({ length: 16 }, (_, low) => token.slice(0, -1) + alphabet[(last & 0x30) | low])
    }
    const [one, two] = [forge(), forge()]
    for (const writing of [...writingsOf(one), one]) await withToken(app, writing, { url: '/protected' })
    await postForm(app, '/revoke', { token: one })
    for (const writing of writingsOf(one)) t.notOk(await isAccepted(app, writing), 'after the text itself was revoked')

    t.ok(await isAccepted(app, two))
    const other = writingsOf(two).find((writing) => writing !== two) as string
    const wasTaken = await isAccepted(app, other)
    await postForm(app, '/revoke', { token: other })
    if (wasTaken) t.notOk(await isAccepted(app, two), 'after another writing of it was revoked')

    // ECDSA: n - s is as good as s.
    const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
    const three = forge()
    const [head, body, signature] = three.split('.') as [string, string, string]
    const bytes = Buffer.from(signature, 'base64url')
    const s = BigInt(`0x${bytes.toString('hex', 32)}`)
    const mirrored = Buffer.concat([
      bytes.subarray(0, 32),
      Buffer.from((order - s).toString(16).padStart(64, '0'), 'hex'),
    ])
    const mirror = `${head}.${body}.${mirrored.toString('base64url')}`
    t.ok(await isAccepted(app, three))
    await withToken(app, mirror, { url: '/protected' })
    await postForm(app, '/revoke', { token: three })
    t.notOk(await isAccepted(app, mirror), 'nor by its mirror')
    t.notOk(await isAccepted(app, three))
  },
)

underOneKey(
  'a signature that is DER, zero, cut, doubled or of another token is refused',
  async (t, { app, forge, privateKey, header, claims }) => {
    const good = forge()
    const [head, body, signature] = good.split('.') as [string, string, string]
    const bytes = Buffer.from(signature, 'base64url')
    const der: Signer = (data) => signBytes('sha256', Buffer.from(data), { key: privateKey, dsaEncoding: 'der' })
    const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')
    const zero = Buffer.alloc(32)
    const one = Buffer.concat([Buffer.alloc(31), Buffer.from([1])])
    const fixed = (signature: Buffer) => forge({}, {}, () => signature)
    for (const [what, token] of Object.entries({
      DER: forge({}, {}, der),
      'all zero': fixed(Buffer.alloc(64)),
      'all ones': fixed(Buffer.alloc(64, 0xff)),
      'r = n, s = n': fixed(Buffer.concat([order, order])),
      'r = 0, s = 1': fixed(Buffer.concat([zero, one])),
      'r = 1, s = 0': fixed(Buffer.concat([one, zero])),
      nothing: fixed(Buffer.alloc(0)),
      'one byte': fixed(Buffer.alloc(1)),
      'too short': `${head}.${body}.${bytes.subarray(0, 63).toString('base64url')}`,
      'too long': `${head}.${body}.${Buffer.concat([bytes, zero]).toString('base64url')}`,
      doubled: `${head}.${body}.${Buffer.concat([bytes, bytes]).toString('base64url')}`,
      'r and s swapped': `${head}.${body}.${Buffer.concat([bytes.subarray(32), bytes.subarray(0, 32)]).toString('base64url')}`,
      'of another token': `${head}.${body}.${forge().split('.')[2]}`,
      'SHA-384': forge({}, {}, (data) =>
        signBytes('sha384', Buffer.from(data), { key: privateKey, dsaEncoding: 'ieee-p1363' }),
      ),
    })) {
      await isRefused(t, app, token, what)
    }
    for (const namedCurve of ['P-384', 'P-521']) {
      const other = generateKeyPairSync('ec', { namedCurve })
      await isRefused(t, app, jws(header, claims, es256(other.privateKey)), namedCurve)
    }
    await isAlive(t, app)
  },
)

underOneKey('a text that is no compact JWS is refused', async (t, { app, forge }) => {
  const good = forge()
  const [head, body, signature] = good.split('.') as [string, string, string]
  for (const text of [
    `${good}=`,
    `${good}==`,
    `${head}=.${body}.${signature}`,
    `${head}.${body}=.${signature}`,
    `${head} .${body}.${signature}`,
    `${head}.${body}\t.${signature}`,
    `${head}\u200b.${body}.${signature}`,
    `${head}．${body}．${signature}`,
    `${good}\u00e9`,
    `${good}.`,
    `.${good}`,
    `${good}.${signature}`,
    `${head}.${body}`,
    head,
    '..',
    '...',
    `${head}..${signature}`,
    `.${body}.${signature}`,
    `${good},${good}`,
    `${head}.${body}.${signature}`.toUpperCase(),
    `${base64url(good)}`,
    JSON.stringify({ payload: body, protected: head, signature }),
    `${head}.${body}.${signature}.AAAA.AAAA`,
    'A'.repeat(20_000),
    `${'A'.repeat(1_000_000)}.${body}.${signature}`,
    `${head}.${'A'.repeat(1_000_000)}.${signature}`,
    `${head}.${body}.${'A'.repeat(1_000_000)}`,
    '.'.repeat(100_000),
  ]) {
    t.equal(
      (await withToken(app, text, { url: '/protected' })).statusCode,
      401,
      `${text.length}: ${JSON.stringify(text.slice(-12))}`,
    )
  }
  t.ok(await isAccepted(app, good))
  await isAlive(t, app)
})

underOneKey('three thousand random mutations are refused', async (t, { app, forge }) => {
  const good = forge()
  const [head, body, signature] = good.split('.') as [string, string, string]
  const at = fc.nat(good.length - 1)
  const character = fc.constantFrom(...'ABCXYZabcxyz0189-_.+/=~')
  const mutate: fc.Arbitrary<(text: string) => string> = fc.oneof(
    fc.tuple(at, character).map(
      ([i, c]) =>
        (text: string) =>
          text.slice(0, i) + c + text.slice(i + 1),
    ),
    fc.tuple(at, character).map(
      ([i, c]) =>
        (text: string) =>
          text.slice(0, i) + c + text.slice(i),
    ),
    fc.tuple(at, fc.nat(8)).map(
      ([i, n]) =>
        (text: string) =>
          text.slice(0, i) + text.slice(i + n),
    ),
    fc.tuple(at, at).map(
      ([i, j]) =>
        (text: string) =>
          text.slice(0, i) + text.slice(j),
    ),
    fc.tuple(fc.nat(2), fc.nat(200), fc.integer({ min: 1, max: 255 })).map(([part, i, mask]) => (text: string) => {
      const parts = text.split('.')
      const bytes = Buffer.from(parts[part] ?? '', 'base64url')
      if (bytes.length > 0) bytes[i % bytes.length] = (bytes[i % bytes.length] as number) ^ mask
      parts[part] = bytes.toString('base64url')
      return parts.join('.')
    }),
  )
  const mutations = fc.array(mutate, { minLength: 1, maxLength: 3 })
  const isSame = (text: string) => {
    const parts = text.split('.')
    const sameBytes = Buffer.from(parts[2] ?? '', 'base64url').equals(Buffer.from(signature, 'base64url'))
    return parts.length === 3 && parts[0] === head && parts[1] === body && sameBytes
  }
  const property = fc.asyncProperty(mutations, async (steps) => {
    const text = steps.reduce((token, step) => step(token), good)
    if (isSame(text)) return
    const { statusCode } = await withToken(app, text, { url: '/protected' })
    if (statusCode !== 401) throw new Error(`${text} is answered ${statusCode}`)
  })
  await t.resolves(fc.assert(property, { numRuns: isLong ? 10_000 : 1_000, interruptAfterTimeLimit: 30_000 }))
  t.ok(await isAccepted(app, good))
  await isAlive(t, app)
})

/** One for all, for finding primes takes long. */
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey

const generate: Record<'ES256' | 'RS256' | 'EdDSA', () => KeyObject> = {
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
  RS256: () => rsa,
  EdDSA: () => generateKeyPairSync('ed25519').privateKey,
}

/** What a service that checks tokens by the JWKS does (RFC 9068 §4). */
async function verifyByJwks({ app, config, clock }: TestApp, token: string) {
  const jwks = createLocalJWKSet(json(await app.inject({ url: '/.well-known/jwks.json' })))
  return jwtVerify(token, jwks, {
    issuer: config.AUTH_ISSUER,
    audience: config.AUTH_AUDIENCE,
    typ: 'at+jwt',
    requiredClaims: ['iss', 'aud', 'sub', 'client_id', 'iat', 'exp', 'jti', 'sid'],
    currentDate: new Date(clock.now),
  })
}

const publicMembers: Record<string, string[]> = {
  ES256: ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'],
  RS256: ['alg', 'e', 'kid', 'kty', 'n', 'use'],
  EdDSA: ['alg', 'crv', 'kid', 'kty', 'use', 'x'],
}

onOneStore(
  'a token is checked by the JWKS alone, which holds public members only (ES256, RS256, EdDSA)',
  async (t, build) => {
    for (const [alg, makeKey] of Object.entries(generate)) {
      const generated = await build({
        AUTH_SIGNING_ALG: alg,
        AUTH_ISSUER: 'https://auth.example',
        AUTH_AUDIENCE: 'https://api.example',
      })
      const key = makeKey()
      const asPem = await build({ AUTH_SIGNING_ALG: alg, AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(key)) })
      const asJwk = await build({
        AUTH_SIGNING_ALG: alg,
        AUTH_SIGNING_KEY_FILE: await keyFile(t, key.export({ format: 'jwk' })),
      })
      for (const test of [generated, asPem, asJwk]) {
        const { app } = test
        const { id } = json(await signUp(app))
        const tokens = await logIn(app)
        const { payload, protectedHeader } = await verifyByJwks(test, tokens.access_token)
        t.equal(protectedHeader.alg, alg)
        t.match(payload, { sub: id, client_id: 'first-party', sid: String, jti: String })
        t.equal((payload.exp as number) - (payload.iat as number), 600)
        t.notMatch(JSON.stringify(payload), /\bada\b/, 'and it holds no name')
        t.ok(await isAccepted(app, tokens.access_token))
        const { keys } = json(await app.inject({ url: '/.well-known/jwks.json' }))
        t.match(keys[0], { kid: protectedHeader.kid, alg }, 'the first, for some take that')
        t.same(keys.map((key: JWK) => key.alg).sort(), Object.keys(publicMembers).sort(), 'and those of ID tokens')
        for (const key of keys) {
          t.same(Object.keys(key).sort(), publicMembers[key.alg])
          t.equal(key.kid, await calculateJwkThumbprint(key))
          t.equal(key.use, 'sig')
        }
        t.equal(await challengeTo(app, `${tokens.access_token.slice(0, -20)}${'A'.repeat(20)}`), challenges.invalid)
      }
      const [pem, jwk] = [asPem, asJwk].map(({ app }) => app.signingKeys.current().kid)
      t.equal(pem, jwk, 'the same key in both writings')
    }
  },
)

onOneStore('a key in SEC 1 or PKCS #1 is taken too', async (t, build) => {
  const ec = await build({ AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(generate.ES256(), 'sec1')) })
  const pkcs1 = await build({
    AUTH_SIGNING_ALG: 'RS256',
    AUTH_SIGNING_KEY_FILE: await keyFile(t, `\n${pemOf(generate.RS256(), 'pkcs1')}`),
  })
  for (const test of [ec, pkcs1]) {
    await signUp(test.app)
    await verifyByJwks(test, (await logIn(test.app)).access_token)
  }
})

onOneStore('a key file that cannot be used stops the start and names AUTH_SIGNING_KEY_FILE', async (t, build) => {
  const keys = { ES256: generate.ES256(), RS256: generate.RS256(), EdDSA: generate.EdDSA() }
  const dir = await newDir(t)
  const errorOf = (work: () => unknown) =>
    Promise.resolve()
      .then(work)
      .then(
        () => undefined,
        (error: unknown) => error,
      )
  type Settings = { AUTH_SIGNING_ALG?: keyof typeof keys; AUTH_SIGNING_KEY_FILE: string }
  const refused = async ({ AUTH_SIGNING_ALG = 'ES256', AUTH_SIGNING_KEY_FILE }: Settings, what: string) =>
    says(await errorOf(() => readKeyFile(AUTH_SIGNING_KEY_FILE, AUTH_SIGNING_ALG)), what)
  const says = (error: unknown, what: string) => {
    t.ok(error instanceof ConfigError, what)
    const { message } = error as Error
    t.match(message, /^AUTH_SIGNING_KEY_FILE: expected /, what)
    t.notMatch(message, /\n/, 'in one line')
    t.notMatch(message, /PRIVATE|MII|"d"/, 'and the key is not shown')
  }
  for (const [alg, key] of Object.entries(keys) as [keyof typeof keys, KeyObject][]) {
    for (const [other, text] of Object.entries(keys)) {
      if (alg === other) continue
      await refused(
        { AUTH_SIGNING_ALG: alg, AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(text)) },
        `a PEM of ${other} for ${alg}`,
      )
      await refused(
        { AUTH_SIGNING_ALG: alg, AUTH_SIGNING_KEY_FILE: await keyFile(t, text.export({ format: 'jwk' })) },
        `a JWK of ${other} for ${alg}`,
      )
    }
    const publicKey = createPublicKey(key)
    const settings = { AUTH_SIGNING_ALG: alg }
    const pem = publicKey.export({ format: 'pem', type: 'spki' }) as string
    await refused({ ...settings, AUTH_SIGNING_KEY_FILE: await keyFile(t, pem) }, `a public PEM of ${alg}`)
    await refused(
      { ...settings, AUTH_SIGNING_KEY_FILE: await keyFile(t, publicKey.export({ format: 'jwk' })) },
      `a public JWK of ${alg}`,
    )
    const locked = key.export({ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'x' }) as string
    await refused({ ...settings, AUTH_SIGNING_KEY_FILE: await keyFile(t, locked) }, `a locked PEM of ${alg}`)
  }
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey
  await refused(
    { AUTH_SIGNING_ALG: 'RS256', AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(small)) },
    'RSA of 1024 bits',
  )
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
  await refused({ AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(p384)) }, 'P-384')
  const secret = { kty: 'oct', k: 'AAAA' }
  for (const text of ['', ' ', 'x', '{', '{}', '[]', 'null', secret, { keys: [] }, pemOf(keys.ES256).slice(0, 60)]) {
    await refused({ AUTH_SIGNING_KEY_FILE: await keyFile(t, text) }, JSON.stringify(text))
  }
  await refused({ AUTH_SIGNING_KEY_FILE: join(dir, 'none') }, 'no file')
  await refused({ AUTH_SIGNING_KEY_FILE: dir }, 'a directory')
  const ofAnother = { AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(keys.EdDSA)) }
  for (const settings of [ofAnother, { AUTH_SIGNING_KEY_FILE: dir }])
    says(await errorOf(() => build(settings)), 'at start')
})

const kidOf = (token: string) => decodeProtectedHeader(token).kid as string

overStores(
  'a new key is published before it signs, the old one for as long as its tokens are good, and then it goes',
  async (t, build) => {
    const test = await build({ AUTH_PAGES: 'off' })
    const { app, clock } = test
    const published = async () =>
      json(await app.inject({ url: '/.well-known/jwks.json' })).keys.map(({ kid }: JWK) => kid)
    const poll = () => app.signingKeys.poll()
    const token = async () => {
      const { access_token } = await logIn(app)
      return access_token
    }
    await signUp(app)
    const firstKid = kidOf(await token())
    const { headers } = await app.inject({ url: '/.well-known/jwks.json' })

    clock.now += 89 * days - 1
    await poll()
    t.same(await published(), [firstKid], 'not sooner than a day before AUTH_KEY_ROTATION')
    clock.now += 1
    await poll()
    await poll()
    const both = await published()
    t.equal(both.length, 2, 'then there is one new key')
    t.not((await app.inject({ url: '/.well-known/jwks.json' })).headers['etag'], headers['etag'])
    const secondKid = both.find((kid: string) => kid !== firstKid)

    clock.now += 1 * days - 1
    const last = await token()
    t.equal(kidOf(last), firstKid, 'which does not sign while a verifier may lack it')
    clock.now += 1
    const next = await token()
    t.equal(kidOf(next), secondKid, 'and signs at the age of AUTH_KEY_ROTATION')
    for (const good of [last, next]) {
      t.ok(await isAccepted(app, good), 'tokens of both are good')
      await verifyByJwks(test, good)
    }
    clock.now += 9 * minutes
    await poll()
    t.ok((await published()).includes(firstKid), 'the old key stays while a token of it is good')
    t.ok(await isAccepted(app, last))
    clock.now += 3 * days
    clock.passedMs = 3 * days
    await poll()
    await poll()
    t.same(await published(), [secondKid], 'and goes when none can be')
    t.equal(await challengeTo(app, last), challenges.expired)
  },
)

overStores(
  'a key that was rotated is rotated again, and one that was restored from the store is the same',
  async (t, build) => {
    const first = await build({ AUTH_KEY_ROTATION: '30d' })
    await signUp(first.app)
    const kids = new Set<string>()
    for (let round = 0; round < 4; round += 1) {
      kids.add(kidOf((await logIn(first.app)).access_token))
      first.clock.now += 30 * days
      await first.app.signingKeys.poll()
      first.clock.now += 10 * minutes
    }
    t.equal(kids.size, 4)
    const { access_token, refresh_token } = await logIn(first.app)
    const { app } = await first.restart()
    t.ok(await isAccepted(app, access_token))
    t.equal(kidOf(json(await refresh(app, refresh_token)).access_token), kidOf(access_token))
  },
)

onOneStore('another AUTH_SIGNING_ALG: tokens of before stay good', async (t, build) => {
  const first = await build()
  await signUp(first.app)
  const before = await logIn(first.app)
  const second = await first.restart({ AUTH_SIGNING_ALG: 'EdDSA' })
  t.ok(await isAccepted(second.app, before.access_token))
  const after = await logIn(second.app)
  t.equal(decodeProtectedHeader(after.access_token).alg, 'EdDSA')
  await verifyByJwks(second, before.access_token)
  await verifyByJwks(second, after.access_token)

  const [, body] = after.access_token.split('.')
  const crossed = `${base64url({ ...decodeProtectedHeader(after.access_token), kid: kidOf(before.access_token) })}.${body}.`
  await isRefused(t, second.app, crossed + after.access_token.split('.')[2], 'EdDSA under the kid of the ES256 key')
})

overStores(
  "an operator's key takes over from a generated one, and gives way to the next, while tokens of before stay good",
  async (t, build) => {
    const first = await build()
    await signUp(first.app)
    const tokens = [(await logIn(first.app)).access_token]
    let test = first
    for (const key of [generate.ES256(), generate.ES256()]) {
      test.clock.now += 1 * minutes
      test = await test.restart({ AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(key)) })
      const { access_token } = await logIn(test.app)
      t.equal(
        kidOf(access_token),
        await calculateJwkThumbprint(createPublicKey(createPrivateKey(pemOf(key))).export({ format: 'jwk' }) as JWK),
      )
      tokens.push(access_token)
    }
    for (const token of tokens) {
      t.ok(await isAccepted(test.app, token))
      await verifyByJwks(test, token)
    }
  },
)

overStores('a wrong AUTH_SECRET on data of before stops the start; AUTH_SECRET_PREVIOUS opens it', async (t, build) => {
  const [a, b, c] = ['a', 'b', 'c'].map((letter) => letter.repeat(40)) as [string, string, string]
  const first = await build({ AUTH_SECRET: a })
  await signUp(first.app)
  const { access_token } = await logIn(first.app)
  for (const wrong of [{ AUTH_SECRET: b }, { AUTH_SECRET: b, AUTH_SECRET_PREVIOUS: c }]) {
    await t.rejects(first.restart(wrong), { message: /^AUTH_SECRET: expected [^\n]*$/ })
  }
  const { app } = await first.restart({ AUTH_SECRET: b, AUTH_SECRET_PREVIOUS: a })
  t.ok(await isAccepted(app, access_token))
  t.equal(kidOf((await logIn(app)).access_token), kidOf(access_token))
})

onOneStore('a clock that steps back after the first start does not stop the service', async (t, build) => {
  const { app, clock } = await build()
  clock.now -= 30_000
  await signUp(app)
  const { access_token } = await logIn(app)
  t.ok(await isAccepted(app, access_token))
})

onOneStore(
  "an operator's key signs from the first moment, though the clock is behind that of the key before",
  async (t, build) => {
    const first = await build()
    await signUp(first.app)
    const key = generate.ES256()
    first.clock.now -= 1000
    const { app } = await first.restart({ AUTH_SIGNING_KEY_FILE: await keyFile(t, pemOf(key)) })
    const { access_token } = await logIn(app)
    t.equal(kidOf(access_token), await calculateJwkThumbprint(createPublicKey(key).export({ format: 'jwk' }) as JWK))
    t.ok(await isAccepted(app, access_token))
  },
)

underOneKey(
  "a header or payload with two readings is refused, though the operator's own key signed it, RFC " +
    '7519 §4 and RFC 7515 §4',
  async (t, { app, header, claims, sign }) => {
    const [head, payload] = [JSON.stringify(header), JSON.stringify({ ...claims, jti: '0.0.x' })]
    t.ok(await isAccepted(app, jws(head, payload, sign)), 'the usual one is taken')
    for (const [what, spoil] of ambiguities) {
      await isRefused(t, app, jws(spoil(head), payload, sign), `${what} in the header`)
      await isRefused(t, app, jws(head, spoil(payload), sign), `${what} in the payload`)
    }
    const harmless = ` {"a":[{"b":1},{"b":1}],"c":"\\"b\\":1,{","d":{"a":{"a":{}}},"e":"\\\\",${payload.slice(1)}`
    t.ok(
      await isAccepted(app, jws(head, harmless, sign)),
      'the same name in another object, or in a text, is no repetition',
    )
  },
)
