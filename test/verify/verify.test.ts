import { spawn } from 'node:child_process'
import { createHmac, KeyObject, randomUUID, sign as signBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import { base64url, CompactSign, type CryptoKey, exportJWK, generateKeyPair, type JWK } from 'jose'
import t, { type Test } from 'tap'
import { createRevocationSet } from '../../domain/revocation.ts'
import { feedLimits } from '../../verify/feed.ts'
import latchkeyVerify, {
  type Claims,
  createVerifier,
  type LatchkeyVerifyOptions,
  type Requirements,
  type TokenGuard,
  TokenRefused,
  type Verifier,
  VerifierError,
  type VerifierEvent,
  type VerifierOptions,
  VerifierUnavailable,
} from '../../verify/index.ts'
import { keyLimits } from '../../verify/jwks.ts'
import { anyText } from '../support/any-text.ts'
import { ambiguities, makeClient, tokenOf } from '../support/client-helper.ts'
import { challenge, codeOf, exchange, giveTotp } from '../support/factors.ts'
import {
  type Build,
  challenges,
  claimsOf,
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
  withToken,
} from '../support/helper.ts'
import { moduleFile, root } from '../support/program.ts'

const issuer = 'https://auth.example.com'
const audience = 'https://api.example.com'
const clientId = 'files: service'
const clientSecret = 'p%t+ä ö:secret/='

type Json = Record<string, unknown>

/* An issuer of the test's own, which can stall, die and lie. */

interface SigningKey {
  kid: string
  alg: string
  privateKey: CryptoKey
  jwk: JWK
}

async function makeKey(alg = 'ES256', kid: string = randomUUID()): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, alg, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

const sign = ({ alg, kid, privateKey }: SigningKey, payload: unknown, header: Json = {}) =>
  new CompactSign(new TextEncoder().encode(typeof payload === 'string' ? payload : JSON.stringify(payload)))
    .setProtectedHeader({ alg, kid, typ: 'at+jwt', ...header })
    .sign(
      privateKey,
      header['crit'] ? { crit: Object.fromEntries((header['crit'] as string[]).map((name) => [name, false])) } : {},
    )

type Handler = (request: IncomingMessage, response: ServerResponse) => unknown

async function startIssuer(t: Test, first?: SigningKey) {
  const key = first ?? (await makeKey())
  const published = { keys: [key.jwk] as unknown[] }
  /** what the feed has, in order; a cursor is how much of it one has */
  const entries: Json[] = []
  const streams = new Set<ServerResponse>()
  const seen = { jwks: [] as IncomingMessage[], polls: [] as IncomingMessage[], streams: [] as IncomingMessage[] }
  const clock = { now: Date.now() }

  const since = ({ url = '' }: IncomingMessage) =>
    Number(new URL(url, issuer).searchParams.get('since')?.replace('c-', '') ?? 0)
  const event = (name: string, data: object) =>
    `event: ${name}\nid: c-${entries.length}\ndata: ${JSON.stringify(data)}\n\n`
  const handlers: Record<'jwks' | 'poll' | 'stream', Handler> = {
    jwks: (_request, response) =>
      response.writeHead(200, { 'cache-control': 'public, max-age=300' }).end(JSON.stringify(published)),
    poll: (request, response) =>
      response
        .writeHead(200)
        .end(JSON.stringify({ revocations: entries.slice(since(request)), cursor: `c-${entries.length}` })),
    stream(request, response) {
      response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
      response.write(`retry: 20\n${event('revocations', { revocations: entries.slice(since(request)) })}`)
      streams.add(response)
      response.on('close', () => streams.delete(response))
    },
  }
  const server = createServer((request, response) => {
    const isJwks = request.url?.startsWith('/.well-known/jwks.json')
    const what = isJwks ? 'jwks' : request.headers.accept === 'text/event-stream' ? 'stream' : 'poll'
    seen[what === 'jwks' ? 'jwks' : what === 'stream' ? 'streams' : 'polls'].push(request)
    handlers[what](request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = async () => {
    server.closeAllConnections()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
  }
  t.teardown(stop)

  return {
    url: `http://127.0.0.1:${port}`,
    key,
    published,
    entries,
    streams,
    seen,
    clock,
    /** what answers; put others in their place */
    handlers,
    stop,
    async restart() {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
    tell(name: string, data: object) {
      for (const stream of streams) stream.write(event(name, data))
    },
    /** Revokes, and tells the streams. */
    revoke(entry: Json): Json {
      const times = {
        revoked_at: new Date(clock.now).toISOString(),
        expires_at: new Date(clock.now + 660_000).toISOString(),
      }
      entries.push({ ...times, ...entry })
      this.tell('revocations', { revocations: [entries.at(-1)] })
      return entries.at(-1) as Json
    },
    /** A token as the server makes it, but for what is given; a claim that is undefined is left out. */
    token: (claims: Json = {}, header: Json = {}, by = key) =>
      sign(by, { ...usualClaims(clock.now), ...claims }, header),
  }
}
type Issuer = Awaited<ReturnType<typeof startIssuer>>

const usualClaims = (now: number) => {
  const iat = Math.floor(now / 1000)
  const subject = { sub: 'ada', client_id: 'first-party', sid: 'session' }
  return { iss: issuer, aud: audience, ...subject, iat, exp: iat + 600, jti: `5.3.${randomUUID()}` }
}

/** Quick enough for a test; what has lasted for long is said by the clock. */
const quick = {
  keys: {
    ...keyLimits,
    fetchMs: 300,
    cooldownMs: 200,
    backOffMs: [40, 80] as const,
    maxAgeMs: { least: 50, most: 3_600_000, usual: 300_000 },
  },
  feed: {
    ...feedLimits,
    ...{ tickMs: 20, firstEventMs: 150, silentMs: 400, requestMs: 300, streamAgainMs: 150, refusedAgainMs: 200 },
    ...{ backOffMs: [20, 40] as const, pollBackOffMs: [20, 40] as const },
  },
}

function verifierFor(
  t: Test,
  { url, clock }: Issuer,
  options: Partial<VerifierOptions> = {},
  timings: Partial<typeof quick> = {},
) {
  const events: VerifierEvent[] = []
  const now = () => clock.now
  const given = { issuer, audience, url, now, onEvent: (event: VerifierEvent) => events.push(event), ...options }
  const verifier = createVerifier(given, { ...quick, ...timings })
  t.teardown(() => verifier.close())
  return Object.assign(verifier, { events, types: () => events.map(({ type }) => type) })
}

const withFeed = { clientId, clientSecret }

/** @returns what the verifier throws; fails when it throws nothing */
async function refusal(
  verifier: Verifier,
  presented: string | undefined,
  requirements?: Requirements,
): Promise<VerifierError> {
  const claims = await verifier.verify(presented, requirements).catch((error: unknown) => error)
  if (claims instanceof VerifierError) return claims
  throw claims instanceof Error ? claims : new Error(`accepted: ${presented}`)
}

/** How a token is judged, in a word. */
const judged = (verifier: Verifier, token: string) =>
  verifier.verify(token).then(
    () => 'good',
    (error: unknown) => (error instanceof VerifierError ? error.failure : String(error)),
  )

/** Waits until something is so; what was expected is for the next assertion to say. */
async function becomes(what: () => unknown, ms = 5_000): Promise<void> {
  for (const until = performance.now() + ms; !(await what()) && performance.now() < until; ) await sleep(5)
}

/* Tokens. */

t.test('a good token is taken, bare or as the value of an Authorization header', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const token = await server.token({ scope: 'read write', roles: ['editor'], extra: { deep: [1] } })
  for (const presented of [token, `Bearer ${token}`, `bearer   ${token}`, `BEARER ${token}`, token]) {
    t.match(await verifier.verify(presented), {
      sub: 'ada',
      client_id: 'first-party',
      scope: 'read write',
      roles: ['editor'],
    })
  }
  t.equal(server.seen.jwks.length, 1)
  t.match(verifier.status, { keys: 1, feed: 'off', revocations: 0, cachedTokens: 1, feedHeardSecondsAgo: undefined })
  for (const aud of [[audience], ['https://other.example', audience]])
    t.ok(await verifier.verify(await server.token({ aud })))
  for (const typ of ['AT+JWT', 'application/at+jwt', 'Application/At+Jwt'])
    t.ok(await verifier.verify(await server.token({}, { typ })))
})

t.test('the claims cannot be changed for the next request with the same token', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const token = await server.token({ roles: ['reader'], aud: [audience], extra: { deep: [1] } })
  const claims = (await verifier.verify(token)) as unknown as {
    roles: string[]
    aud: string[]
    extra: { deep: number[] }
    sub: string
  }
  t.throws(() => claims.roles.push('admin'))
  t.throws(() => claims.aud.push('other'))
  t.throws(() => claims.extra.deep.push(2))
  t.throws(() => {
    claims.sub = 'eve'
  })
})

t.test('every algorithm is taken, and only with a key that is for it', async (t) => {
  const keys = { ES256: await makeKey('ES256'), RS256: await makeKey('RS256'), EdDSA: await makeKey('EdDSA') }
  for (const [alg, key] of Object.entries(keys)) {
    const server = await startIssuer(t, key)
    const verifier = verifierFor(t, server)
    t.ok(await verifier.verify(await server.token()), alg)
    const another = { ...keys[alg === 'ES256' ? 'RS256' : 'ES256'], kid: key.kid }
    t.equal(
      await judged(verifier, await server.token({}, {}, another)),
      'invalid',
      `the kid of ${alg} with another alg`,
    )
    delete (server.key.jwk as Partial<JWK>).alg
    t.ok(await verifierFor(t, server).verify(await server.token()), `${alg} when the key does not say so`)
  }
})

t.test('a token that nobody signed, or with a secret that everybody knows, is refused', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const { kid, jwk } = server.key
  const part = (value: unknown) => base64url.encode(JSON.stringify(value))
  const claims = part(usualClaims(server.clock.now))
  for (const alg of [
    'none',
    'None',
    'NONE',
    '',
    null,
    0,
    [],
    ['ES256'],
    undefined,
    'ES384',
    'PS256',
    'HS256',
    'ES256K',
    '__proto__',
  ]) {
    const data = `${part({ alg, typ: 'at+jwt', kid })}.${claims}`
    for (const token of [`${data}.`, data, `${data}.AAAA`]) t.equal(await judged(verifier, token), 'invalid', `${alg}`)
    for (const secret of [JSON.stringify(jwk), jwk.x as string, kid, '']) {
      const mac = createHmac('sha256', secret).update(data).digest('base64url')
      t.equal(await judged(verifier, `${data}.${mac}`), 'invalid', `${alg} with an HMAC`)
    }
  }
})

t.test(
  'a token of a stranger is refused, whatever its header says of the key, and nothing is fetched for it',
  async (t) => {
    const server = await startIssuer(t)
    const verifier = verifierFor(t, server)
    await verifier.ready()
    let asked = 0
    server.handlers.poll = (_request, response) => {
      asked += 1
      response.end(JSON.stringify({ keys: [stranger.jwk] }))
    }
    const stranger = await makeKey('ES256', server.key.kid)
    const place = `${server.url}/strangers-keys`
    for (const pointer of [
      {},
      { jwk: stranger.jwk },
      { jku: place },
      { x5u: place },
      { x5c: ['AAAA'] },
      { x5t: 'AAAA' },
    ]) {
      t.equal(
        await judged(verifier, await server.token({}, pointer, stranger)),
        'invalid',
        Object.keys(pointer)[0] ?? 'nothing',
      )
    }
    t.equal(asked, 0)
    t.equal(server.seen.jwks.length, 1)
  },
)

t.test('what is no access token of this issuer for this audience is refused', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const headers: Json[] = [
    ...['JWT', 'at+jwtx', 'application/jwt', '', 'application/application/at+jwt', null, 1].map((typ) => ({ typ })),
    ...['', 'unknown', 0, null, undefined, [server.key.kid], {}, '__proto__', 'constructor', '../../dev/null'].map(
      (kid) => ({ kid }),
    ),
    { crit: ['exp'], exp: 1 },
    { crit: ['b64'], b64: true },
    { crit: ['x'], x: 1 },
  ]
  for (const header of headers)
    t.equal(await judged(verifier, await server.token({}, header)), 'invalid', JSON.stringify(header))

  const wrong: Json[] = [
    ...[undefined, null, '', `${issuer}/`, issuer.toUpperCase(), [issuer], 'https://other.example'].map((iss) => ({
      iss,
    })),
    ...[undefined, null, '', issuer, `${audience}/`, [], [issuer], [[audience]], { 0: audience }, [audience, 1]].map(
      (aud) => ({ aud }),
    ),
    ...[undefined, null, '', 1, ['ada'], {}].flatMap((value) => [{ sub: value }, { client_id: value }, { jti: value }]),
    ...[undefined, null, '', '1', 1.5, -1, 1e18, [], true].flatMap((value) => [{ exp: value }, { iat: value }]),
    ...[null, '', '1', 1.5, -1].map((nbf) => ({ nbf })),
    ...[null, '', 1, []].map((sid) => ({ sid })),
    ...[null, 1, ['read']].map((scope) => ({ scope })),
    ...[null, 'admin', [1], { 0: 'admin' }, [['admin']]].map((roles) => ({ roles })),
    ...[null, '1', 1.5, -1, [1]].map((auth_time) => ({ auth_time })),
    ...[null, 'pwd', [1]].map((amr) => ({ amr })),
    ...[null, '', 2, ['urn:latchkey:acr:2']].map((acr) => ({ acr })),
  ]
  for (const claims of wrong)
    t.equal(await judged(verifier, await server.token(claims)), 'invalid', JSON.stringify(claims))
  const usual = JSON.stringify(usualClaims(server.clock.now))
  for (const payload of [
    '',
    '[]',
    'null',
    '"x"',
    '{',
    usual.replace(/"exp":\d+/, '"exp":1e999'),
    `${usual}x`,
    `\ufeff${usual}x`,
  ]) {
    t.equal(await judged(verifier, await sign(server.key, payload)), 'invalid', payload)
  }
  t.equal(verifier.status.cachedTokens, 0)
})

t.test(
  'a header or payload with two readings is refused, though its key signed it: no UTF-8, a byte ' +
    'order mark, a member twice',
  async (t) => {
    const server = await startIssuer(t)
    const verifier = verifierFor(t, server)
    const { kid, alg, privateKey } = server.key
    const usual = JSON.stringify(usualClaims(server.clock.now))
    const header = JSON.stringify({ typ: 'at+jwt', alg, kid })
    const signParts = (head: Buffer, payload: Buffer) => {
      const input = `${head.toString('base64url')}.${payload.toString('base64url')}`
      const signature = signBytes('sha256', Buffer.from(input), {
        key: KeyObject.from(privateKey as never),
        dsaEncoding: 'ieee-p1363',
      })
      return `${input}.${signature.toString('base64url')}`
    }
    t.equal(
      await judged(verifier, signParts(Buffer.from(header), Buffer.from(usual))),
      'good',
      'the usual one is taken',
    )
    for (const [what, spoil] of ambiguities) {
      const head = await judged(verifier, signParts(spoil(header), Buffer.from(usual)))
      t.equal(head, 'invalid', `${what} in the header`)
      t.equal(await judged(verifier, signParts(Buffer.from(header), spoil(usual))), 'invalid', `${what} in the payload`)
    }
  },
)

t.test('a token counts for its time, to the second, also when it is known already', async (t) => {
  const server = await startIssuer(t)
  const { clock } = server
  const verifier = verifierFor(t, server)
  const token = await server.token()
  const { exp } = claimsOf(token) as { exp: number }
  t.equal(await judged(verifier, token), 'good')
  clock.now = exp * 1000 - 1
  t.equal(await judged(verifier, token), 'good')
  clock.now = exp * 1000
  t.equal(await judged(verifier, token), 'expired')
  t.equal(await judged(verifierFor(t, server), token), 'expired', 'and when it is not known')

  const nowSeconds = Math.floor(clock.now / 1000)
  t.equal(
    await judged(verifier, await server.token({ iat: nowSeconds + 60, exp: nowSeconds + 90 })),
    'good',
    "the server's clock may be ahead",
  )
  t.equal(await judged(verifier, await server.token({ iat: nowSeconds + 61, exp: nowSeconds + 90 })), 'invalid')
  t.equal(await judged(verifier, await server.token({ nbf: nowSeconds + 60 })), 'good')
  t.equal(await judged(verifier, await server.token({ nbf: nowSeconds + 61 })), 'invalid')
  const strict = verifierFor(t, server, { clockSkewSeconds: 0 })
  t.equal(await judged(strict, await server.token({ iat: nowSeconds + 1 })), 'invalid', 'clockSkewSeconds')
  const young = verifierFor(t, server, { maxTokenAgeSeconds: 600 })
  const long = await server.token({ exp: nowSeconds + 86_400 })
  t.equal(await judged(young, long), 'good')
  clock.now += 600_000
  t.equal(await judged(young, long), 'expired', 'maxTokenAgeSeconds')
  t.equal(await judged(verifier, long), 'good')
})

t.test('no text that is not the token is taken for it', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const token = await server.token()
  await verifier.verify(token)
  const claims = JSON.stringify(claimsOf(token))
  const changed = fc
    .tuple(fc.nat(token.length - 1), fc.constantFrom(...'AZaz09-_.=+/ \n'))
    .map(([at, char]) => token.slice(0, at) + char + token.slice(at + 1))
  await fc.assert(
    fc.asyncProperty(fc.oneof(changed, anyText({ maxLength: 200 })), async (text) => {
      const answer = await verifier.verify(text).catch((error: unknown) => error)
      // The last character of the signature has bits that mean nothing.
      if (answer instanceof VerifierError) return ['invalid', 'missing'].includes(answer.failure)
      return JSON.stringify(answer) === claims && text.slice(0, -1) === token.slice(0, -1)
    }),
    { numRuns: 300 },
  )
  for (const text of [
    `${token}.`,
    `${token}.${token}`,
    `.${token}`,
    `${token}=`,
    `${token} x`,
    `${token}\0`,
    'a.b',
    'a.b.c.d.e',
    'Bearer',
    'Bearer ',
    'x'.repeat(1e6),
  ]) {
    const { failure } = await refusal(verifier, text)
    t.ok(['invalid', 'missing'].includes(failure), text.slice(-20))
  }
  const long = await server.token({ scope: 'x'.repeat(9_000) })
  t.equal(await judged(verifier, long), 'invalid', 'a token of 9 KB')
  t.equal(await judged(verifier, `Bearer ${long}`), 'invalid')
})

t.test('no token, or another scheme, is 401 without an error code', async (t) => {
  const verifier = verifierFor(t, await startIssuer(t))
  for (const presented of [
    undefined,
    '',
    'Basic YTpi',
    'Negotiate x y',
    null as unknown as string,
    1 as unknown as string,
  ]) {
    const error = await refusal(verifier, presented)
    t.match(error, { statusCode: 401, failure: 'missing', wwwAuthenticate: challenges.missing })
    t.type(error, TokenRefused)
  }
})

t.test('scope and role are demanded', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const token = await server.token({ scope: 'files:read files:write', roles: ['editor'] })
  for (const requirements of [
    {},
    { scope: '' },
    { scope: 'files:read' },
    { scope: ' files:write  files:read ' },
    { scope: ['files:write', 'files:read'], role: 'editor' },
  ]) {
    t.ok(await verifier.verify(token, requirements), JSON.stringify(requirements))
  }
  const lacking = await refusal(verifier, token, { scope: 'files:read files:delete' })
  t.match(lacking, {
    statusCode: 403,
    failure: 'scope',
    wwwAuthenticate: 'Bearer realm="latchkey", error="insufficient_scope", scope="files:read files:delete"',
    body: {
      type: 'urn:latchkey:problem:insufficient_scope',
      status: 403,
      detail: 'The access token lacks the scope that is needed',
    },
  })
  for (const scope of ['files', 'FILES:READ', 'files:read,files:write', 'read', '__proto__']) {
    t.equal((await refusal(verifier, token, { scope })).failure, 'scope', scope)
  }
  t.equal(
    (await refusal(verifier, token, { scope: 'a"\r\nx: y' })).wwwAuthenticate,
    'Bearer realm="latchkey", error="insufficient_scope"',
  )
  for (const role of ['admin', 'Editor', '', 'editor ', 'length']) {
    const error = await refusal(verifier, token, { role })
    t.match(
      error,
      { statusCode: 403, failure: 'role', wwwAuthenticate: 'Bearer realm="latchkey", error="insufficient_scope"' },
      role,
    )
  }
  t.equal(
    (await refusal(verifier, await server.token(), { scope: 'files:read' })).failure,
    'scope',
    'a token without scope',
  )
  t.equal((await refusal(verifier, await server.token(), { role: 'editor' })).failure, 'role', 'a token without roles')
})

t.test('a level and an age of the sign-in are demanded, RFC 9470', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const signedInAt = Math.floor(server.clock.now / 1000)
  const [acr1, acr2] = ['urn:latchkey:acr:1', 'urn:latchkey:acr:2'] as const
  const [oneFactor, twoFactors] = await Promise.all(
    [acr1, acr2].map((acr) => server.token({ acr, amr: ['pwd'], auth_time: signedInAt })),
  )
  for (const requirements of [{ acr: acr1 }, { maxAge: 0 }, { acr: acr1, maxAge: 60 }]) {
    server.clock.now = signedInAt * 1000
    t.ok(await verifier.verify(oneFactor, requirements), JSON.stringify(requirements))
    t.ok(await verifier.verify(twoFactors, requirements), `a higher level: ${JSON.stringify(requirements)}`)
  }
  t.match(await verifier.verify(twoFactors, { acr: acr2, maxAge: 60 }), { acr: acr2, auth_time: signedInAt })

  const problem = {
    type: 'urn:latchkey:problem:insufficient_user_authentication',
    title: 'A stronger or a more recent sign-in is needed',
    status: 401,
  }
  const challenge = (words: string) =>
    `Bearer realm="latchkey", error="insufficient_user_authentication", error_description="${words}"`
  const level = 'A different authentication level is required'
  t.match(await refusal(verifier, oneFactor, { acr: acr2 }), {
    statusCode: 401,
    failure: 'level',
    wwwAuthenticate: `${challenge(level)}, acr_values="urn:latchkey:acr:2"`,
    body: { ...problem, detail: level },
  })
  t.match(await refusal(verifier, oneFactor, { acr: acr2, maxAge: 60 }), {
    failure: 'level',
    wwwAuthenticate: `${challenge(level)}, acr_values="urn:latchkey:acr:2", max_age="60"`,
  })

  server.clock.now = (signedInAt + 60) * 1000
  t.ok(await verifier.verify(twoFactors, { maxAge: 60 }), 'to the millisecond')
  server.clock.now += 1
  const age = 'More recent authentication is required'
  t.match(await refusal(verifier, twoFactors, { acr: acr2, maxAge: 60 }), {
    statusCode: 401,
    failure: 'age',
    wwwAuthenticate: `${challenge(age)}, acr_values="urn:latchkey:acr:2", max_age="60"`,
    body: { ...problem, detail: age },
  })

  const without = await server.token()
  t.equal((await refusal(verifier, without, { acr: acr1 })).failure, 'level', 'a token that says nothing of it')
  t.equal((await refusal(verifier, without, { maxAge: 1_000_000 })).failure, 'age')
  const ahead = await server.token({ auth_time: signedInAt + 600 })
  t.equal((await refusal(verifier, ahead, { maxAge: 60 })).failure, 'age', 'a time in the future is no proof')
  for (const acr of ['2', 'urn:latchkey:acr:', 'URN:LATCHKEY:ACR:2', 'urn:latchkey:acr:1 urn:latchkey:acr:2'])
    t.equal((await refusal(verifier, await server.token({ acr }), { acr: acr1 })).failure, 'level', acr)
  t.equal((await refusal(verifier, oneFactor, { scope: 'x', acr: acr2 })).failure, 'scope', 'no sign-in would mend it')
})

t.test(
  'a requirement or option that is misspelt or undefined is an error, and guards nothing by mistake',
  async (t) => {
    const server = await startIssuer(t)
    const verifier = verifierFor(t, server)
    const token = await server.token()
    for (const requirements of [
      { scopes: 'x' },
      { scope: undefined },
      { role: undefined },
      { role: ['a'] },
      { scope: [undefined] },
      { scope: 1 },
      { acr: undefined },
      { acr: '' },
      { acr: '2' },
      { acr: ['urn:latchkey:acr:2'] },
      { maxAge: undefined },
      { maxAge: '60' },
      { maxAge: -1 },
      { maxAge: 1.5 },
      { maxAge: Number.NaN },
      { maxAge: Number.POSITIVE_INFINITY },
      { max_age: 60 },
      { __proto__: { maxAge: '60' } },
    ]) {
      await t.rejects(verifier.verify(token, requirements as never), TypeError, JSON.stringify(requirements))
    }
    const wrong: Json[] = [
      { issuer: undefined },
      { issuer: 'auth.example.com' },
      { issuer: 'ftp://auth.example.com' },
      { issuer: 'https://auth.example.com?x' },
      { url: 'http://name:word@127.0.0.1' },
      { audience: [] },
      { audience: '' },
      { audience: [undefined] },
      { clientId },
      { clientSecret },
      { clientId: '', clientSecret: '' },
      { clientID: clientId, clientSecret },
      { feedLost: 'ignore' },
      { feedLostAfterSeconds: 5 },
      { feedLostAfterSeconds: '60' },
      { clockSkewSeconds: 61 },
      { clockSkewSeconds: -1 },
      { cacheSize: 0 },
      { maxTokenAgeSeconds: Number.NaN },
    ]
    for (const options of wrong) {
      t.throws(() => createVerifier({ issuer, ...options } as never), TypeError, JSON.stringify(options))
    }
    t.throws(() => createVerifier({ issuer, clientId, clientSecret: 1 as never }), {
      message: /clientSecret has to be/,
    })
  },
)

t.test('an error is a whole answer, which a handler of node:http or Express sends in a line', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const handler = createServer(async (request, response) => {
    try {
      response.end((await verifier.verify(request.headers.authorization, { scope: 'read' })).sub)
    } catch (error) {
      if (!(error instanceof VerifierError)) throw error
      response.writeHead(error.statusCode, error.headers).end(JSON.stringify(error.body))
    }
  }).listen(0, '127.0.0.1')
  await once(handler, 'listening')
  t.teardown(() => handler.close())
  const call = async (authorization?: string) => {
    const headers = { connection: 'close', ...(authorization !== undefined && { authorization }) }
    const response = await fetch(`http://127.0.0.1:${(handler.address() as AddressInfo).port}`, { headers })
    return { status: response.status, headers: Object.fromEntries(response.headers), text: await response.text() }
  }
  t.match(await call(`Bearer ${await server.token({ scope: 'read' })}`), { status: 200, text: 'ada' })
  const { text, ...refused } = await call('Bearer x')
  t.match(refused, {
    status: 401,
    headers: {
      'content-type': 'application/problem+json; charset=utf-8',
      'cache-control': 'no-store',
      'www-authenticate': challenges.invalid,
    },
  })
  t.same(JSON.parse(text), {
    type: 'urn:latchkey:problem:invalid_token',
    title: 'The access token was refused',
    status: 401,
    detail: 'The access token is invalid',
  })
  t.match(await call(`Bearer ${await server.token()}`), { status: 403 })
})

t.test('no error holds the token', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const token = await server.token({}, {}, await makeKey('ES256', server.key.kid))
  const { message, body, headers, cause, stack } = await refusal(verifier, token)
  const [, payload = '', signature = ''] = token.split('.')
  const said = JSON.stringify({ message, body, headers, cause: String(cause), stack })
  t.notOk(said.includes(payload) || said.includes(signature))
  t.equal(cause, undefined)
})

t.test('so many verified tokens are remembered and no more', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server, { cacheSize: 3 })
  const tokens = await Promise.all(Array.from({ length: 6 }, () => server.token()))
  for (const token of tokens) await verifier.verify(token)
  t.equal(verifier.status.cachedTokens, 3)
  for (const token of tokens) t.ok(await verifier.verify(token))
})

/* Keys. */

t.test('for 100 tokens at once the keys are fetched once', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const tokens = await Promise.all(Array.from({ length: 100 }, () => server.token()))
  await Promise.all(tokens.map((token) => verifier.verify(token)))
  t.equal(server.seen.jwks.length, 1)
})

t.test(
  'for 100 unknown kids at once the keys are fetched once, and not again until the cooldown is over',
  async (t) => {
    const server = await startIssuer(t)
    const verifier = verifierFor(t, server, {}, { keys: { ...quick.keys, cooldownMs: 400 } })
    await verifier.verify(await server.token())
    const forged = await Promise.all(Array.from({ length: 100 }, (_, n) => server.token({}, { kid: `unknown-${n}` })))
    const all = async () => new Set(await Promise.all(forged.map((token) => judged(verifier, token))))
    t.same([...(await all())], ['invalid'])
    t.equal(server.seen.jwks.length, 1, 'none within the cooldown of the first fetch')
    await sleep(450)
    t.same([...(await all())], ['invalid'])
    t.same([...(await all())], ['invalid'])
    t.equal(server.seen.jwks.length, 2)
  },
)

t.test('a token of a new key is taken at once, and one of a key that was withdrawn no more', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server, {}, { keys: { ...quick.keys, cooldownMs: 0 } })
  const before = await server.token()
  t.equal(await judged(verifier, before), 'good')
  const next = await makeKey()
  server.published.keys.push(next.jwk)
  t.equal(await judged(verifier, await server.token({}, {}, next)), 'good')
  t.equal(await judged(verifier, before), 'good')
  t.same(verifier.status.keys, 2)

  const last = await makeKey()
  server.published.keys = [last.jwk]
  t.equal(await judged(verifier, await server.token({}, {}, last)), 'good')
  t.equal(await judged(verifier, before), 'invalid', 'although it was remembered')
  t.match(verifier.events.at(-1), { type: 'keys.changed', level: 'info' })

  server.published.keys = [last.jwk, server.key.jwk]
  await judged(verifier, await server.token({}, { kid: 'unknown' }))
  t.equal(await judged(verifier, before), 'good', 'until its key comes back')

  const impostor = await makeKey('ES256', last.kid)
  server.published.keys = [impostor.jwk, next.jwk]
  await judged(verifier, await server.token({}, { kid: 'unknown' }))
  t.equal(await judged(verifier, await server.token({}, {}, last)), 'invalid', 'a kid that has become another key')
})

t.test('while the server is away, the keys that are known stay, and of others nobody can tell', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server, {}, { keys: { ...quick.keys, cooldownMs: 0 } })
  const token = await server.token()
  await verifier.verify(token)
  await server.stop()
  const next = await makeKey()
  server.published.keys = [server.key.jwk, next.jwk]
  const ofNext = await server.token({}, {}, next)
  const error = await refusal(verifier, ofNext)
  t.type(error, VerifierUnavailable)
  t.match(error, {
    statusCode: 503,
    failure: 'unavailable',
    headers: { 'retry-after': /^\d+$/ },
    wwwAuthenticate: undefined,
  })
  t.equal(await judged(verifier, await server.token()), 'good', 'a token that is new, of a key that is known')
  t.equal(await judged(verifier, token), 'good')
  t.same(verifier.types().slice(-1), ['keys.unavailable'])
  await server.restart()
  await becomes(() => verifier.types().at(-1) === 'keys.available' || verifier.types().includes('keys.available'))
  t.equal(await judged(verifier, ofNext), 'good')
})

t.test(
  'a server that is away when the verifier starts is 503, found as soon as it is there, and not asked without pause',
  async (t) => {
    const server = await startIssuer(t)
    const token = await server.token()
    server.handlers.jwks = (_request, response) => response.writeHead(500).end()
    const verifier = verifierFor(t, server)
    await Promise.all(Array.from({ length: 200 }, async () => t.equal(await judged(verifier, token), 'unavailable')))
    t.equal(server.seen.jwks.length, 1, 'one request for all')
    const startedAt = performance.now()
    while (performance.now() - startedAt < 250) {
      t.equal(await judged(verifier, token), 'unavailable')
      await sleep(10)
    }
    const most = 2 + 250 / (quick.keys.backOffMs[1] / 2)
    t.ok(server.seen.jwks.length <= most, `${server.seen.jwks.length} requests in a quarter of a second`)
    await t.rejects(verifier.ready({ timeoutSeconds: 0.05 }), VerifierUnavailable)
    t.equal(verifier.events.filter(({ type }) => type === 'keys.unavailable').length, 1, 'told once')
    server.handlers.jwks = (_request, response) => response.end(JSON.stringify(server.published))
    await verifier.ready()
    t.equal(await judged(verifier, token), 'good')
  },
)

t.test('Retry-After of the server is kept', async (t) => {
  const server = await startIssuer(t)
  server.handlers.jwks = (_request, response) => response.writeHead(503, { 'retry-after': '2' }).end()
  const verifier = verifierFor(t, server)
  await judged(verifier, await server.token())
  await sleep(2 * quick.keys.backOffMs[1])
  t.equal(server.seen.jwks.length, 1)
})

t.test('the keys are kept fresh by the max-age and the ETag of the answer', async (t) => {
  const server = await startIssuer(t)
  let sent = 0
  server.handlers.jwks = (request, response) => {
    const headers = { etag: '"one"', 'cache-control': 'max-age=0' }
    if (request.headers['if-none-match'] === '"one"') return response.writeHead(304, headers).end()
    sent += 1
    return response.writeHead(200, headers).end(JSON.stringify(server.published))
  }
  const verifier = verifierFor(t, server)
  await becomes(() => server.seen.jwks.length >= 4)
  t.equal(sent, 1)
  t.equal(await judged(verifier, await server.token()), 'good')
  t.same(verifier.types(), ['feed.off', 'keys.changed'], 'and nothing is told of it')
})

t.test('an answer that is no JWK set leaves the keys as they were', async (t) => {
  const server = await startIssuer(t)
  const usual = server.handlers.jwks
  const keys = { ...quick.keys, cooldownMs: 0, fetchMs: 100 }
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const secret = await exportJWK(privateKey)
  const sets: Record<string, unknown> = {
    'no keys': { keys: [] },
    'no list': { keys: {} },
    'a null': null,
    'a private key': { keys: [{ ...secret, kid: 'a', alg: 'ES256' }] },
    'a symmetric key': { keys: [{ kty: 'oct', k: 'AAAA', kid: 'a', alg: 'HS256' }] },
    'a key for another use': { keys: [{ ...server.key.jwk, use: 'enc' }] },
    'a key without a kid': { keys: [{ ...server.key.jwk, kid: undefined }] },
    'a key of another curve': { keys: [{ ...server.key.jwk, crv: 'P-384' }] },
    'a key for another alg': { keys: [{ ...server.key.jwk, alg: 'RS256' }] },
    'an RSA key that costs too much': { keys: [{ kty: 'RSA', n: 'A'.repeat(5_000), e: 'AQAB', kid: 'a' }] },
    garbage: { keys: [null, 1, 'x', [], {}, { kty: {} }, { kty: 'EC', crv: 'P-256', x: 'A', y: 'A', kid: 'a' }] },
    'too many': { keys: Array.from({ length: 101 }, (_, n) => ({ ...server.key.jwk, kid: `${n}` })) },
    'too much': { keys: [server.key.jwk], more: 'x'.repeat(200_000) },
  }
  const handlers: Record<string, Handler> = Object.fromEntries(
    Object.entries(sets).map(([what, set]) => [what, (_request, response) => response.end(JSON.stringify(set))]),
  )
  handlers['HTML'] = (_request, response) => response.end('<!doctype html>')
  handlers['a body that does not end'] = (_request, response) => response.writeHead(200).write('{"keys":[')
  handlers['nothing'] = () => {}
  handlers['a connection that breaks'] = (request) => request.socket.destroy()
  handlers['a redirect'] = (_request, response) =>
    response.writeHead(302, { location: `${server.url}/.well-known/jwks.json?x` }).end()
  handlers['a 304 that nobody asked for'] = (_request, response) => response.writeHead(304).end()
  for (const [what, handler] of Object.entries(handlers)) {
    server.handlers.jwks = handler
    const verifier = verifierFor(t, server, {}, { keys })
    t.equal(await judged(verifier, await server.token()), 'unavailable', `${what}, at first`)
    await verifier.close()
  }

  server.handlers.jwks = usual
  const verifier = verifierFor(t, server, {}, { keys })
  await verifier.ready()
  for (const [what, handler] of Object.entries(handlers)) {
    server.handlers.jwks = handler
    t.equal(
      await judged(verifier, await server.token({}, { kid: 'unknown' })),
      'unavailable',
      `${what}, of an unknown key`,
    )
    t.equal(await judged(verifier, await server.token()), 'good', `${what}, of a known key`)
    server.handlers.jwks = usual
    await becomes(async () => (await judged(verifier, await server.token({}, { kid: 'unknown' }))) === 'invalid')
  }
})

/* The feed. */

const feedOf = async (
  t: Test,
  server: Issuer,
  options: Partial<VerifierOptions> = {},
  timings: Partial<typeof quick> = {},
) => {
  const verifier = verifierFor(t, server, { ...withFeed, ...options }, timings)
  await verifier.ready()
  return verifier
}

t.test('what is revoked is refused, by the rules of the server', async (t) => {
  const server = await startIssuer(t)
  const verifier = await feedOf(t, server)
  t.match(verifier.status, { feed: 'following', revocations: 0 })
  t.equal(verifier.events.find(({ type }) => type === 'feed.following')?.level, 'info')
  const rows: [entry: Json, refused: Json[], taken: Json[]][] = [
    [
      { kind: 'jti', id: '5.3.a' },
      [{ jti: '5.3.a' }, { jti: '5.3.a', sid: undefined }],
      [{ jti: '5.3.b' }, { sid: '5.3.a' }],
    ],
    [
      { kind: 'sid', id: 's1' },
      [{ sid: 's1' }],
      [{ sid: 's2' }, { sid: undefined }, { jti: 's1', sid: 's3' }, { sub: 's1' }],
    ],
    [
      { kind: 'user', id: 'bob', generation: 7 },
      [
        { jti: '6.0.a' },
        { jti: '0.9.a' },
        { jti: '6.a' },
        { jti: 'of-somebody-else' },
        { jti: '-9.0.a' },
        { jti: '9999999999999999.0.a' },
      ].map((claims) => ({ sub: 'bob', ...claims })),
      [
        { sub: 'bob', jti: '7.0.a' },
        { sub: 'bob', jti: '8.a' },
        { sub: 'bob', jti: '6.0.b', sid: undefined, client_id: 'bob' },
        { sub: 'bo', jti: '6.0.c' },
      ],
    ],
    [
      { kind: 'user', id: 'eve', generation: 7, except_sid: 'this' },
      [{ sub: 'eve', jti: '6.0.d', sid: 'that' }],
      [{ sub: 'eve', jti: '6.0.e', sid: 'this' }],
    ],
    [
      { kind: 'client', id: 'batch', generation: 4 },
      [{ jti: '9.3.a' }, { jti: '9.a' }, { jti: 'x' }, { jti: '0.3.b', sid: undefined, sub: 'batch' }].map(
        (claims) => ({
          client_id: 'batch',
          ...claims,
        }),
      ),
      [
        { client_id: 'batch', jti: '0.4.a' },
        { client_id: 'batches', jti: '0.3.c' },
        { sub: 'batch', jti: '9.9.d' },
      ],
    ],
    [{ kind: 'sid', id: '__proto__' }, [{ sid: '__proto__' }], [{ sid: 'constructor' }]],
  ]
  const tokens: [token: string, after: string][] = []
  for (const [, refused, taken] of rows) {
    for (const claims of refused) tokens.push([await server.token(claims), 'revoked'])
    for (const claims of taken) tokens.push([await server.token(claims), 'good'])
  }
  for (const [token] of tokens) t.equal(await judged(verifier, token), 'good', 'before')
  for (const [entry] of rows) server.revoke(entry)
  await becomes(() => verifier.status.revocations === rows.length)
  for (const [token, after] of tokens) t.equal(await judged(verifier, token), after, JSON.stringify(claimsOf(token)))
  const late = await feedOf(t, server)
  for (const [token, after] of tokens)
    t.equal(await judged(late, token), after, `by one that came later: ${JSON.stringify(claimsOf(token))}`)
  t.match(await refusal(late, tokens[0]?.[0]), { statusCode: 401, wwwAuthenticate: challenges.revoked })
})

t.test('a key that was withdrawn verifies nothing any more, at once, whatever the JWKS says', async (t) => {
  const server = await startIssuer(t)
  const verifier = await feedOf(t, server)
  const [known, unknown] = [await server.token(), await server.token()]
  t.equal(await judged(verifier, known), 'good')
  const next = await makeKey()
  server.published.keys = [next.jwk]
  server.revoke({ kind: 'key', id: server.key.kid })
  await becomes(async () => (await judged(verifier, known)) === 'invalid')
  t.equal(await judged(verifier, known), 'invalid')
  await becomes(() => verifier.status.keys === 1)
  t.equal(await judged(verifier, await server.token({}, {}, next)), 'good', 'the next key is fetched')
  server.published.keys = [next.jwk, server.key.jwk]
  await judged(await feedOf(t, server), unknown)
  for (const one of [verifier, await feedOf(t, server)]) {
    for (const token of [known, unknown])
      t.equal(await judged(one, token), 'invalid', 'although a replica that lags behind has it')
  }
})

t.test(
  'entries may come twice and out of order, and are forgotten when no token is left that they concern',
  async (t) => {
    const server = await startIssuer(t)
    const { clock } = server
    const verifier = await feedOf(t, server)
    const [old, current] = [await server.token({ jti: '5.0.a' }), await server.token({ jti: '6.0.a' })]
    const later = server.revoke({ kind: 'user', id: 'ada', generation: 6 })
    server.revoke({ kind: 'user', id: 'ada', generation: 5 })
    server.revoke({ kind: 'client', id: 'first-party', generation: 0 })
    server.tell('revocations', { revocations: [later, later] })
    server.revoke({ kind: 'sid', id: 'short', expires_at: new Date(clock.now + 1_000).toISOString() })
    await becomes(() => verifier.status.revocations === 3)
    t.equal(await judged(verifier, old), 'revoked')
    t.equal(await judged(verifier, current), 'good')
  },
)

t.test('a revocation is forgotten when its life is over, on a clock that nobody sets', async (t) => {
  const revocations = createRevocationSet()
  const kinds = [{ kind: 'sid' }, { kind: 'user', generation: 1 }, { kind: 'client', generation: 1 }] as const
  for (const until of [2_000, 1_000]) for (const entry of kinds) revocations.add({ ...entry, id: 'x' }, until)
  revocations.forgetExpired(1_999, Number.POSITIVE_INFINITY)
  t.equal(revocations.size, 3)
  revocations.forgetExpired(2_000, Number.POSITIVE_INFINITY)
  t.equal(revocations.size, 0)
})

t.test('news in pages move the cursor, and nothing is answered before the last of them', async (t) => {
  const server = await startIssuer(t)
  const token = await server.token()
  for (let n = 0; n < 3; n += 1) server.revoke({ kind: 'jti', id: `${n}` })
  const page = (n: number, more: boolean) => ({ revocations: [server.entries[n]], ...(more && { more }) })
  const write = (response: ServerResponse, n: number, more: boolean) =>
    response.write(`event: revocations\nid: c-${n + 1}\ndata: ${JSON.stringify(page(n, more))}\n\n`)
  let first: ServerResponse | undefined
  const { stream } = server.handlers
  server.handlers.stream = (request, response) => {
    if (first) {
      stream(request, response)
      return
    }
    first = response.writeHead(200, { 'content-type': 'text/event-stream' })
    first.write('retry: 20\n')
    for (const n of [0, 1]) write(response, n, true)
  }
  const verifier = verifierFor(t, server, withFeed)
  const judgement = judged(verifier, token)
  await becomes(() => verifier.status.revocations === 2)
  t.match(verifier.status, { feed: 'connecting', feedHeardSecondsAgo: undefined })
  first?.destroy()
  t.equal(await judgement, 'good', 'waited for')
  t.equal(server.seen.streams.at(-1)?.url, '/revocations?since=c-2', 'from the last page that came')
  t.match(verifier.status, { feed: 'following', revocations: 3 })
})

t.test('where it is polled, the next page is asked for at once', async (t) => {
  const server = await startIssuer(t)
  for (let n = 0; n < 5; n += 1) server.revoke({ kind: 'jti', id: `${n}` })
  server.handlers.stream = (_request, response) => response.writeHead(406).end()
  server.handlers.poll = ({ url = '' }, response) => {
    const at = Number(new URL(url, issuer).searchParams.get('since')?.replace('c-', '') ?? 0)
    const more = at + 1 < server.entries.length
    response
      .writeHead(200)
      .end(JSON.stringify({ revocations: [server.entries[at]], cursor: `c-${at + 1}`, ...(more && { more }) }))
  }
  const slow = { ...quick, feed: { ...quick.feed, tickMs: 60_000 } }
  const verifier = await feedOf(t, server, {}, slow)
  t.match(verifier.status, { feed: 'polling', revocations: 5 })
  t.same(
    server.seen.polls.map(({ url }) => url),
    ['', '?since=c-1', '?since=c-2', '?since=c-3', '?since=c-4'].map((query) => `/revocations${query}`),
  )
})

t.test('the credentials are sent form-encoded, by HTTP Basic', async (t) => {
  const server = await startIssuer(t)
  await feedOf(t, server)
  const [, encoded = ''] = server.seen.streams[0]?.headers.authorization?.split(' ') ?? []
  const [id = '', secret = ''] = Buffer.from(encoded, 'base64').toString().split(':')
  const decode = (text: string) => decodeURIComponent(text.replaceAll('+', ' '))
  t.same([decode(id), decode(secret)], [clientId, clientSecret])
  t.equal(server.seen.jwks[0]?.headers.authorization, undefined)
})

t.test('a token is not answered for before the first revocations are there', async (t) => {
  const server = await startIssuer(t)
  const { stream } = server.handlers
  server.entries.push({ kind: 'sid', id: 'session', expires_at: new Date(server.clock.now + 60_000).toISOString() })
  server.handlers.stream = (request, response) => setTimeout(() => stream(request, response), 80)
  const verifier = verifierFor(t, server, { ...withFeed, feedLost: 'accept' })
  t.equal(await judged(verifier, await server.token()), 'revoked')
})

t.test('a stream that breaks is taken up again where it was', async (t) => {
  const server = await startIssuer(t)
  const verifier = await feedOf(t, server)
  const token = await server.token()
  server.revoke({ kind: 'sid', id: 'another' })
  await becomes(() => verifier.status.revocations === 1)
  for (const stream of server.streams) {
    server.streams.delete(stream)
    stream.end()
  }
  server.revoke({ kind: 'sid', id: 'session' })
  await becomes(async () => (await judged(verifier, token)) === 'revoked')
  t.equal(await judged(verifier, token), 'revoked')
  t.equal(server.seen.streams.at(-1)?.url, '/revocations?since=c-1')
  t.match(verifier.status, { feed: 'following', revocations: 2 })
  t.same(
    verifier.types().filter((type) => type.startsWith('feed')),
    ['feed.following'],
    'and nothing is told of it',
  )
})

for (const feedLost of ['refuse', 'accept'] as const) {
  t.test(`when the feed is lost for too long, the answer is the one that was chosen [${feedLost}]`, async (t) => {
    const server = await startIssuer(t)
    const { clock } = server
    const verifier = await feedOf(t, server, { feedLost, feedLostAfterSeconds: 60 })
    const claims = { exp: Math.floor(clock.now / 1000) + 3_600 }
    const [good, revoked] = [await server.token(claims), await server.token({ ...claims, sid: 'gone' })]
    server.revoke({ kind: 'sid', id: 'gone' })
    await becomes(async () => (await judged(verifier, revoked)) === 'revoked')
    await server.stop()
    clock.now += 15_000
    await becomes(() => verifier.types().includes('feed.lost'))
    t.match(verifier.status, { feed: 'lost' })
    t.ok((verifier.status.feedHeardSecondsAgo ?? 0) >= 15)
    t.equal(await judged(verifier, good), 'good', 'not yet for too long')
    clock.now += 45_000
    t.equal(await judged(verifier, good), feedLost === 'refuse' ? 'unavailable' : 'good')
    t.equal(await judged(verifier, revoked), 'revoked', 'what is known to be revoked stays so')
    if (feedLost === 'refuse') {
      const error = await refusal(verifier, good)
      t.match(error, {
        statusCode: 503,
        headers: { 'retry-after': '5' },
        body: { type: 'urn:latchkey:problem:verifier_unavailable' },
      })
      t.type(error, VerifierUnavailable)
      t.equal((await refusal(verifier, good.slice(0, -9))).failure, 'invalid', 'and what is no token is none')
    }
    await server.restart()
    await becomes(async () => verifier.status.feed === 'following')
    t.equal(await judged(verifier, good), 'good')
    t.equal(verifier.events.filter(({ type }) => type === 'feed.lost').length, 1)
    t.equal(verifier.types().at(-1), 'feed.following')
  })

  t.test(`when the feed was never there, the answer is the one that was chosen, at once [${feedLost}]`, async (t) => {
    const server = await startIssuer(t)
    server.handlers.stream = server.handlers.poll = (_request, response) => response.writeHead(500).end()
    const verifier = verifierFor(t, server, { ...withFeed, feedLost })
    const startedAt = performance.now()
    t.equal(await judged(verifier, await server.token()), feedLost === 'refuse' ? 'unavailable' : 'good')
    t.ok(performance.now() - startedAt < 1_000)
    t.equal(verifier.status.feed, 'connecting')
    await t.rejects(verifier.ready({ timeoutSeconds: 0.1 }), VerifierUnavailable)
  })
}

t.test('the feed is lost after five minutes when nothing else is said', async (t) => {
  const server = await startIssuer(t)
  const verifier = await feedOf(t, server)
  const token = await server.token()
  await server.stop()
  server.clock.now += 299_000
  t.equal(await judged(verifier, token), 'good')
  server.clock.now += 1_000
  t.equal(await judged(verifier, token), 'unavailable')
})

t.test('a heartbeat is a sign of life, and moves the cursor', async (t) => {
  const server = await startIssuer(t)
  const verifier = await feedOf(t, server, { feedLostAfterSeconds: 15 })
  const token = await server.token()
  server.clock.now += 15_000
  t.equal(await judged(verifier, token), 'unavailable')
  server.entries.push({ kind: 'sid', id: 'x', expires_at: new Date().toISOString() })
  server.tell('heartbeat', {})
  await becomes(async () => (await judged(verifier, token)) === 'good')
  for (const stream of server.streams) stream.destroy()
  await becomes(() => server.seen.streams.length === 2)
  t.equal(server.seen.streams.at(-1)?.url, '/revocations?since=c-1')
})

const brokenStreams: Record<string, (server: Issuer) => Handler> = {
  'is held back as a whole': () => () => {},
  'is held back after its head': () => (_request, response) =>
    void response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders(),
  'comes as JSON': (server) => server.handlers.poll,
  'is not acceptable': () => (_request, response) => response.writeHead(406).end(),
  'is one too many': () => (_request, response) => response.writeHead(503, { 'retry-after': '0' }).end(),
  'says only what is no event': () => (_request, response) => {
    response
      .writeHead(200, { 'content-type': 'text/event-stream' })
      .write(': hello\n\nevent: news\ndata: {}\n\nevent: heartbeat\ndata: {}\n\n')
  },
}
for (const [how, broken] of Object.entries(brokenStreams)) {
  t.test(`where the stream ${how}, it is asked each second instead, until one gets through`, async (t) => {
    const server = await startIssuer(t)
    const { stream } = server.handlers
    server.handlers.stream = broken(server)
    const verifier = await feedOf(t, server)
    await becomes(() => verifier.status.feed === 'polling')
    t.equal(verifier.status.feed, 'polling')
    t.match(verifier.events.find(({ type }) => type === 'feed.polling')?.level, 'warn')
    const token = await server.token()
    t.equal(await judged(verifier, token), 'good')
    server.revoke({ kind: 'sid', id: 'another' })
    server.revoke({ kind: 'sid', id: 'session' })
    await becomes(async () => (await judged(verifier, token)) === 'revoked')
    t.equal(await judged(verifier, token), 'revoked')
    await becomes(() => server.seen.polls.at(-1)?.url === '/revocations?since=c-2')

    server.handlers.stream = stream
    await becomes(() => server.streams.size === 1)
    t.equal(verifier.status.feed, 'polling', 'that it begins does not show that it goes on')
    await becomes(() => {
      server.tell('heartbeat', {})
      return verifier.status.feed === 'following'
    })
    t.equal(verifier.status.feed, 'following')
    const polls = server.seen.polls.length
    await sleep(100)
    t.ok(server.seen.polls.length <= polls + 1, 'and is asked no more')
  })
}

t.test('a stream that goes silent is given up, and asked for meanwhile', async (t) => {
  const server = await startIssuer(t)
  const verifier = await feedOf(t, server, {}, { feed: { ...quick.feed, silentMs: 150 } })
  await becomes(() => verifier.status.feed === 'polling')
  t.equal(verifier.status.feed, 'polling')
  await becomes(() => server.seen.polls.length > 0)
  t.ok(server.seen.polls.length > 0)
})

const garbage: Record<string, string> = {
  'no JSON': 'event: revocations\nid: c-9\ndata: {"revocations":[\n\n',
  'no object': 'event: revocations\nid: c-9\ndata: null\n\n',
  'no list': 'event: revocations\nid: c-9\ndata: {"revocations":{}}\n\n',
  'an entry that is null': 'event: revocations\nid: c-9\ndata: {"revocations":[null]}\n\n',
  'an entry without an id':
    'event: revocations\nid: c-9\ndata: {"revocations":[{"kind":"sid","expires_at":"2100-01-01T00:00:00Z"}]}\n\n',
  'an entry without a time':
    'event: revocations\nid: c-9\ndata: {"revocations":[{"kind":"sid","id":"x","expires_at":"soon"}]}\n\n',
  'a user without a generation':
    'event: revocations\nid: c-9\ndata: ' +
    '{"revocations":[{"kind":"user","id":"x","expires_at":"2100-01-01T00:00:00Z"}]}\n\n',
  'bytes that are no text': '\x80\xff\0\0event: revocations\ndata: \xff\n\nevent: revocations\nid: c-9\ndata: \xff\n\n',
}
for (const [what, text] of Object.entries(garbage)) {
  t.test(`garbage in the stream is not taken for news, and what was meant is asked for again [${what}]`, async (t) => {
    const server = await startIssuer(t)
    const verifier = await feedOf(t, server)
    const token = await server.token()
    server.entries.push({ kind: 'sid', id: 'session', expires_at: new Date(server.clock.now + 60_000).toISOString() })
    for (const stream of server.streams) stream.write(text, 'latin1')
    await becomes(async () => (await judged(verifier, token)) === 'revoked')
    t.equal(await judged(verifier, token), 'revoked')
    t.equal(server.seen.streams.at(-1)?.url, '/revocations?since=c-0', 'from where it was understood last')
    t.match(verifier.events.find(({ type }) => type === 'feed.failed')?.message, /sent/)
  })
}

t.test('what a later server may send is no garbage', async (t) => {
  const server = await startIssuer(t)
  const verifier = await feedOf(t, server)
  const token = await server.token()
  server.tell('weather', { sunny: true })
  server.tell('revocations', { revocations: [], more: 1 })
  for (const id of ['a', 'b']) server.revoke({ kind: 'tenant', id, colour: 'blue' })
  server.revoke({ kind: 'sid', id: 'session', reason: 'logout' })
  await becomes(async () => (await judged(verifier, token)) === 'revoked')
  t.equal(await judged(verifier, token), 'revoked')
  t.equal(server.seen.streams.length, 1)
  const told = verifier.events.filter(({ type }) => type === 'feed.unknown_kind')
  t.match(told, [{ level: 'warn', message: /tenant/ }])
  t.equal(told.length, 1)
})

t.test(
  'an event in many pieces, of many bytes or with a cursor that is too long is read as it should be',
  async (t) => {
    const server = await startIssuer(t)
    const verifier = await feedOf(t, server)
    const expires_at = new Date(server.clock.now + 60_000).toISOString()
    const many = Array.from({ length: 5_000 }, (_, n) => ({ kind: 'sid', id: `sïd-${n}`, expires_at }))
    const [stream] = server.streams
    const text = Buffer.from(
      `id: ${'x'.repeat(300)}\r\nevent: revocations\r\ndata: ${JSON.stringify({ revocations: many })}\r\n\r\n`,
    )
    for (let at = 0; at < text.length; at += 10_007) stream?.write(text.subarray(at, at + 10_007))
    await becomes(() => verifier.status.revocations === 5_000)
    t.equal(await judged(verifier, await server.token({ sid: 'sïd-4999' })), 'revoked')
    stream?.destroy()
    await becomes(() => server.seen.streams.length === 2)
    t.equal(server.seen.streams.at(-1)?.url, '/revocations?since=c-0')
  },
)

t.test('an answer of the feed that is too large is not read to its end', async (t) => {
  const server = await startIssuer(t)
  const large = { ...quick, feed: { ...quick.feed, maxBytes: 100_000 } }
  const verifier = await feedOf(t, server, {}, large)
  const [stream] = server.streams
  for (let n = 0; n < 30; n++) stream?.write(n === 0 ? 'event: revocations\ndata: ' : 'x'.repeat(10_000))
  await becomes(() => stream?.destroyed)
  t.ok(stream?.destroyed)
  t.match(verifier.events.find(({ type }) => type === 'feed.failed')?.message, /too large/)

  server.handlers.stream = (_request, response) => response.writeHead(406).end()
  let sent = 0
  server.handlers.poll = (_request, response) => {
    response.writeHead(200)
    const timer = setInterval(() => {
      sent += 10_000
      response.write('x'.repeat(10_000))
    }, 1)
    response.on('close', () => clearInterval(timer))
  }
  const other = verifierFor(t, server, withFeed, large)
  await becomes(() => other.types().includes('feed.failed'))
  await other.close()
  t.match(other.events.find(({ type }) => type === 'feed.failed')?.message, /larger than 100000 bytes/)
  t.ok(sent < 1_000_000)
})

for (const [status, advice] of Object.entries({ 401: /clientId and clientSecret/, 403: /introspection right/ })) {
  t.test(
    `a client that may not follow is told what to change, once and without its secret, and comes ` +
      `again slowly [${status}]`,
    async (t) => {
      const server = await startIssuer(t)
      const usual = server.handlers.stream
      server.handlers.stream = (_request, response) => response.writeHead(Number(status)).end()
      const startedMs = performance.now()
      const verifier = verifierFor(t, server, withFeed)
      t.equal(await judged(verifier, await server.token()), 'unavailable', 'and not "revoked", nor "invalid"')
      await sleep(quick.feed.refusedAgainMs / 2)
      const most = Math.ceil((performance.now() - startedMs) / quick.feed.refusedAgainMs)
      t.ok(server.seen.streams.length <= most, 'once in each pause')
      t.equal(server.seen.polls.length, 0)
      t.match(
        verifier.events.filter(({ level }) => level === 'error'),
        [{ type: 'feed.refused', message: advice }],
      )
      t.notOk(JSON.stringify(verifier.events).includes('secret/'))
      server.handlers.stream = usual
      await verifier.ready()
      t.equal(await judged(verifier, await server.token()), 'good')
    },
  )
}

t.test('a redirect of the feed is not followed with the credentials', async (t) => {
  const server = await startIssuer(t)
  let asked = 0
  const other = createServer((_request, response) => {
    asked += 1
    response.end()
  }).listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => other.close())
  const location = `http://127.0.0.1:${(other.address() as AddressInfo).port}/`
  server.handlers.stream = server.handlers.poll = (_request, response) => response.writeHead(307, { location }).end()
  const verifier = verifierFor(t, server, withFeed)
  t.equal(await judged(verifier, await server.token()), 'unavailable')
  t.equal(asked, 0)
  t.match(verifier.events.find(({ type }) => type === 'feed.failed')?.message, /307, and redirects are not followed/)
})

t.test('what listens may throw, and the following goes on', async (t) => {
  const server = await startIssuer(t)
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  const onEvent = () => {
    throw new Error('of the listener')
  }
  const verifier = await feedOf(t, server, { onEvent })
  const token = await server.token()
  server.revoke({ kind: 'sid', id: 'session' })
  await becomes(async () => (await judged(verifier, token)) === 'revoked')
  t.equal(await judged(verifier, token), 'revoked')
  t.match(warnings, [{ message: 'of the listener' }])
})

t.test('a verifier that was closed asks for nothing more, and vouches for nothing', async (t) => {
  const server = await startIssuer(t)
  const verifier = await feedOf(t, server)
  const token = await server.token()
  t.equal(await judged(verifier, token), 'good')
  await verifier.close()
  await becomes(() => server.streams.size === 0)
  t.equal(server.streams.size, 0)
  t.equal(await judged(verifier, token), 'unavailable')
  const count = () => server.seen.jwks.length + server.seen.streams.length + server.seen.polls.length
  const before = count()
  await t.rejects(verifier.ready(), VerifierUnavailable)
  await sleep(150)
  t.equal(count(), before)
  await verifier.close()
})

t.test('a verifier keeps no process alive, but for the time that somebody waits', async (t) => {
  const server = await startIssuer(t)
  const { jwks } = server.handlers
  server.handlers.jwks = (request, response) => setTimeout(() => jwks(request, response), 100)
  const script = join(await newDir(t), 'script.mjs')
  const entry = pathToFileURL(moduleFile('verify/index')).href
  const options = { issuer, audience, url: server.url, ...withFeed }
  await writeFile(
    script,
    `import { createVerifier } from ${JSON.stringify(entry)}
     const verifier = createVerifier(${JSON.stringify(options)})
     const { sub } = await verifier.verify(${JSON.stringify(await server.token())})
     console.log(sub, verifier.status.feed)`,
  )
  const child = spawn(process.execPath, [...process.execArgv, script], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill())
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  const [code] = await once(child, 'close')
  t.equal(code, 0)
  t.equal(output.trim(), 'ada following')
})

t.test('it imports a few packages, and of the server nothing but domain/', async (t) => {
  const packages = new Set(['jose', 'toad-cache', 'eventsource-parser', 'fastify-plugin', 'node:http', 'node:https'])
  const own = (await readdir(join(root, 'verify'))).filter((name) => name.endsWith('.ts'))
  const files = new Set(own.map((name) => join('verify', name)))
  for (const file of files) {
    const source = await readFile(join(root, file), 'utf8')
    for (const [, isType, from = ''] of source.matchAll(/^(?:import|export) (type )?[^'"]*from '([^']+)'/gm)) {
      const imported = from.startsWith('.') ? join(dirname(file), from) : undefined
      if (imported?.startsWith('domain/')) files.add(imported)
      const isAllowed = imported ? files.has(imported) : packages.has(from) || (isType && from === 'fastify')
      t.ok(isAllowed, `${file} imports ${from}`)
    }
    t.notMatch(source, /\bimport\(|\brequire\(/, file)
  }
})

/* The Fastify plugin. */

/** The app as the plugin decorates it; the compiler sees the server's own decorations here. */
type Guarded = FastifyInstance & { requireToken(requirements?: Requirements): TokenGuard; verifier: Verifier }

async function guardedApp(t: Test, options: LatchkeyVerifyOptions, logs: Json[] = []): Promise<Guarded> {
  const app = Fastify({
    logger: { level: 'info', stream: { write: (line: string) => void logs.push(JSON.parse(line)) } },
  })
  app.setErrorHandler((error: VerifierError, _request, reply) => reply.code(418).send({ mine: error.failure }))
  t.teardown(() => app.close())
  await app.register(latchkeyVerify, options)
  const guarded = app as unknown as Guarded
  const subject = async (request: { token: unknown }) => request.token
  app.get('/any', { onRequest: guarded.requireToken() as never }, subject)
  app.get('/files', { onRequest: guarded.requireToken({ scope: 'files:read', role: 'editor' }) as never }, subject)
  app.get('/transfer', { onRequest: guarded.requireToken({ acr: 'urn:latchkey:acr:2', maxAge: 60 }) as never }, subject)
  app.get('/open', async (request) => ({ token: request.token }))
  return guarded
}

t.test('each refusal names the metadata of the service, where there is one (RFC 9728 §5.1)', async (t) => {
  const server = await startIssuer(t)
  const resourceMetadata = 'https://api.example.com/.well-known/oauth-protected-resource'
  const app = await guardedApp(t, { issuer, audience, url: server.url, resourceMetadata })
  const call = async (url: string, authorization?: string) =>
    (await app.inject({ url, ...(authorization !== undefined && { headers: { authorization } }) })).headers
  const named = (challenge: string) => `${challenge}, resource_metadata="${resourceMetadata}"`
  for (const none of [undefined, '', 'Basic YTpi'])
    t.equal((await call('/any', none))['www-authenticate'], named(challenges.missing))
  t.equal((await call('/any', 'Bearer a.b.c'))['www-authenticate'], named(challenges.invalid))
  const narrow = await call('/files', `Bearer ${await server.token()}`)
  t.match(narrow['www-authenticate'], /error="insufficient_scope", scope="files:read", resource_metadata="https:/)
  t.equal((await refusal(app.verifier, undefined)).wwwAuthenticate, named(challenges.missing))
  t.throws(() => createVerifier({ issuer, resourceMetadata: '/metadata' }), TypeError)
})

t.test('the plugin guards routes, by scope and role', async (t) => {
  const server = await startIssuer(t)
  const logs: Json[] = []
  const app = await guardedApp(t, { issuer, audience, url: server.url }, logs)
  const call = async (url: string, claims?: Json) =>
    app.inject({ url, ...(claims && { headers: { authorization: `Bearer ${await server.token(claims)}` } }) })
  t.match((await call('/any', {})).json(), { sub: 'ada' })
  t.equal((await call('/files', { scope: 'files:read', roles: ['editor'] })).statusCode, 200)
  t.same((await call('/open')).json(), { token: null })

  const missing = await call('/any')
  t.equal(missing.statusCode, 401)
  t.match(missing.headers, {
    'www-authenticate': challenges.missing,
    'content-type': 'application/problem+json; charset=utf-8',
    'cache-control': 'no-store',
  })
  t.match(missing.json(), { type: 'urn:latchkey:problem:missing_token', status: 401, request_id: /./ })
  const lacking = await call('/files', { scope: 'files:write', roles: ['editor'] })
  t.equal(lacking.statusCode, 403)
  t.equal(
    lacking.headers['www-authenticate'],
    'Bearer realm="latchkey", error="insufficient_scope", scope="files:read"',
  )
  t.equal(
    (await call('/files', { scope: 'files:read' })).headers['www-authenticate'],
    'Bearer realm="latchkey", error="insufficient_scope"',
  )
  const token = await server.token()
  for (const authorization of [token, `Basic ${token}`, '']) {
    const response = await app.inject({ url: '/any', headers: { authorization } })
    t.equal(response.headers['www-authenticate'], challenges.missing, 'without the scheme it is none')
  }
  t.notOk(JSON.stringify(logs).includes(token))
  t.equal((await app.inject({ url: `/any?access_token=${token}` })).statusCode, 401)
  t.throws(() => app.requireToken({ scopes: 'x' } as never), TypeError)
  t.throws(() => app.requireToken({ acr: '2' } as never), TypeError)
})

t.test(
  'the plugin answers 503 with Retry-After when nobody can tell, and closes its verifier with the app',
  async (t) => {
    const server = await startIssuer(t)
    const logs: Json[] = []
    const app = await guardedApp(
      t,
      { issuer, audience, url: server.url, ...withFeed, now: () => server.clock.now },
      logs,
    )
    await app.verifier.ready()
    const headers = { authorization: `Bearer ${await server.token()}` }
    t.equal((await app.inject({ url: '/any', headers })).statusCode, 200)
    server.clock.now += 301_000
    const response = await app.inject({ url: '/any', headers })
    t.equal(response.statusCode, 503)
    t.equal(response.headers['retry-after'], '5')
    t.equal(response.headers['www-authenticate'], undefined)
    t.match(response.json(), { type: 'urn:latchkey:problem:verifier_unavailable', request_id: /./ })
    t.ok(logs.some((line) => line['event'] === 'feed.following'))
    await app.close()
    await becomes(() => server.streams.size === 0)
    t.equal(server.streams.size, 0)
  },
)

t.test('the app may answer by itself, and a request that nobody answers does not pass', async (t) => {
  const server = await startIssuer(t)
  const verifier = verifierFor(t, server)
  const thrown = await guardedApp(t, {
    verifier,
    refuse: (error) => {
      throw error
    },
  })
  t.match(await thrown.inject('/any'), { statusCode: 418, body: '{"mine":"missing"}' })
  const sent = await guardedApp(t, { verifier, refuse: (_error, _request, reply) => reply.code(402).send('pay') })
  t.match(await sent.inject('/any'), { statusCode: 402, body: 'pay' })
  for (const refuse of [() => {}, async () => {}, () => true]) {
    const forgot = await guardedApp(t, { verifier, refuse })
    t.match(await forgot.inject('/any'), { statusCode: 418, body: '{"mine":"missing"}' })
  }
  await thrown.close()
  t.ok(await verifier.verify(await server.token()), 'and a verifier that was given is not closed')
})

/* The service itself. */

/** The service with a client that may follow, a user who has logged in, and a verifier that follows. */
async function underService(t: Test, build: Build, settings: Record<string, string> = {}) {
  const test = await build({ AUTH_AUDIENCE: audience, ...settings })
  const { app, clock, config } = test
  const { id, secret } = await makeClient(app, { id: 'files', introspect: 'audience', scopes: ['files:read'] })
  const url = await listen(app)
  await signUp(app)
  const options = { issuer: config.AUTH_ISSUER, audience, clientId: id, clientSecret: secret, now: () => clock.now }
  const verifierAt = async (at: string) => {
    const verifier = createVerifier({ ...options, url: at, onEvent: () => {} })
    t.teardown(() => verifier.close())
    await verifier.ready()
    return verifier
  }
  return { ...test, url, options, client: { id, secret }, verifier: await verifierAt(url), verifierAt }
}

/** How long after now a token comes to be judged so. */
async function judgedAfter(verifier: Verifier, token: string, as: string): Promise<number> {
  const startedAt = performance.now()
  await becomes(async () => (await judged(verifier, token)) === as)
  return (await judged(verifier, token)) === as ? performance.now() - startedAt : Number.POSITIVE_INFINITY
}

const soonMs = 1_000

overStores('what ends at the service ends at the verifier, well within a second', async (t, build) => {
  const { app, verifier, clock, client } = await underService(t, build)
  const first = await logIn(app)
  const claims = await verifier.verify(first.access_token)
  t.same(claims, claimsOf(first.access_token))

  t.equal((await withToken(app, first.access_token, { method: 'POST', url: '/logout' })).statusCode, 204)
  t.ok((await judgedAfter(verifier, first.access_token, 'revoked')) < soonMs, 'a logout')

  const [here, there] = [await logIn(app), await logIn(app)]
  const change = { current_password: password, new_password: `${password} anew` }
  const own = { method: 'POST', url: '/users/me/password', payload: change } as const
  t.equal((await withToken(app, here.access_token, own)).statusCode, 204)
  t.ok((await judgedAfter(verifier, there.access_token, 'revoked')) < soonMs, 'a changed password, elsewhere')
  t.equal(await judged(verifier, here.access_token), 'good', 'and not where it was changed')

  const third = await logIn(app, 'ada', `${password} anew`)
  t.equal(await judged(verifier, third.access_token), 'good', 'a token from after it')
  t.equal((await withToken(app, third.access_token, { method: 'DELETE', url: '/users/me/sessions' })).statusCode, 204)
  for (const { access_token } of [here, third])
    t.ok((await judgedAfter(verifier, access_token, 'revoked')) < soonMs, 'all sessions')

  const fourth = await logIn(app, 'ada', `${password} anew`)
  const next = json(await refresh(app, fourth.refresh_token))
  await refresh(app, next.refresh_token)
  clock.now += 31_000
  t.equal(await judged(verifier, next.access_token), 'good')
  t.equal((await refresh(app, fourth.refresh_token)).statusCode, 400)
  t.ok((await judgedAfter(verifier, next.access_token, 'revoked')) < soonMs, 'a refresh token that was stolen')

  const fifth = await logIn(app, 'ada', `${password} anew`)
  t.equal((await postForm(app, '/revoke', { token: fifth.access_token })).statusCode, 200)
  t.ok((await judgedAfter(verifier, fifth.access_token, 'revoked')) < soonMs, 'POST /revoke')

  const sixth = await logIn(app, 'ada', `${password} anew`)
  const payload = { password: `${password} anew` }
  t.equal((await withToken(app, sixth.access_token, { method: 'DELETE', url: '/users/me', payload })).statusCode, 204)
  t.ok((await judgedAfter(verifier, sixth.access_token, 'revoked')) < soonMs, 'a deleted account')

  const batch = await makeClient(app, { id: 'batch', scopes: ['files:read'] })
  const ofBatch = await tokenOf(app, batch)
  t.match(await verifier.verify(ofBatch, { scope: 'files:read' }), { sub: 'batch', client_id: 'batch' })
  await app.clients.disable(app, 'batch')
  t.ok((await judgedAfter(verifier, ofBatch, 'revoked')) < soonMs, 'a disabled client')
  t.equal(await judged(verifier, await tokenOf(app, client)), 'good')
})

overStores('the verifier refuses as the service does, in the same words', async (t, build) => {
  const { app, options, url, clock } = await underService(t, build)
  const guarded = await guardedApp(t, { ...options, url })
  await guarded.verifier.ready()
  const [good, revoked] = [await logIn(app), await logIn(app)]
  await withToken(app, revoked.access_token, { method: 'POST', url: '/logout' })
  const stranger = await sign(await makeKey(), claimsOf(good.access_token))
  const same = async (authorization: string | undefined, what: string, ours = '/any', theirs = '/verify') => {
    const headers = { ...(authorization !== undefined && { authorization }) }
    const [byService, byVerifier] = [
      await app.inject({ url: theirs, headers }),
      await guarded.inject({ url: ours, headers }),
    ]
    const shown = ({ statusCode, headers, payload }: typeof byService) => ({
      statusCode,
      ...Object.fromEntries(['www-authenticate', 'cache-control', 'content-type'].map((name) => [name, headers[name]])),
      body: { ...JSON.parse(payload), request_id: undefined },
    })
    t.same(shown(byVerifier), shown(byService), what)
    t.not(byVerifier.statusCode, 200, what)
  }
  await becomes(async () => (await judged(guarded.verifier, revoked.access_token)) === 'revoked')
  await same(undefined, 'no token')
  await same('Basic YTpi', 'another scheme')
  await same('Bearer', 'nothing after the scheme')
  await same('Bearer a b', 'two tokens')
  await same('Bearer x', 'no token at all')
  await same(`Bearer ${stranger}`, "a stranger's")
  await same(`Bearer ${revoked.access_token}`, 'a revoked one')
  const { iat, exp, jti, iss, ...subject } = claimsOf(good.access_token) as Claims
  for (const acr of ['urn:latchkey:acr:1', 'urn:latchkey:acr:2']) {
    const generations = { user: Number.MAX_SAFE_INTEGER, client: Number.MAX_SAFE_INTEGER }
    const signIn = { acr, auth_time: iat - 61 }
    const token = await app.accessTokens.issue({ ...subject, ...signIn, generations })
    await same(`Bearer ${token}`, acr, '/transfer', '/verify?acr=urn:latchkey:acr:2&max_age=60')
  }
  clock.now += 600_000
  await same(`Bearer ${good.access_token}`, 'an expired one')
})

onOneStore('what the verifier asks of a sign-in, a step-up by its challenge gives', async (t, build) => {
  const { app, options, url, clock } = await underService(t, build, { AUTH_STEP_UP_TTL: '2m' })
  const api = await guardedApp(t, { ...options, url })
  await api.verifier.ready()
  const ask = (token: string) => withToken(api, token, { url: '/transfer' })
  let tokens = await logIn(app)
  const { secret } = await giveTotp(app)

  /** As an app does it, which knows the password and the authenticator, and reads the challenge. */
  async function stepUp(refused: LightMyRequestResponse): Promise<string[]> {
    const wanted = /acr_values="(?<acr_values>[^"]+)", max_age="(?<max_age>\d+)"/.exec(
      refused.headers['www-authenticate'] as string,
    )?.groups as Record<string, string>
    const headers = { authorization: `Bearer ${tokens.access_token}` }
    let answer = json(await challenge(app, wanted, { headers }))
    const asked: string[] = []
    while (!answer.authorization_code && asked.length < 3) {
      asked.push(...answer.challenges)
      const shown = answer.challenges.includes('password') ? { password } : { otp: codeOf(secret, clock.now) }
      answer = json(await challenge(app, { auth_session: answer.auth_session, ...shown } as Record<string, string>))
    }
    tokens = json(await exchange(app, answer.authorization_code))
    return asked
  }

  // Tokens have whole seconds: this sign-in is 0.9 s older to the API than it is.
  clock.now = Math.ceil(clock.now / 1000) * 1000 + 900
  const before = await ask(tokens.access_token)
  t.match(before.headers['www-authenticate'], /different authentication level/, 'a sign-in from before the factor')
  t.same(await stepUp(before), ['totp'])
  const raised = await ask(tokens.access_token)
  t.match(json(raised), { acr: 'urn:latchkey:acr:2', amr: ['pwd', 'otp', 'mfa'] })

  clock.now += 59_500
  const stale = await ask(tokens.access_token)
  t.match(stale.headers['www-authenticate'], /More recent authentication/)
  tokens = json(await refresh(app, tokens.refresh_token))
  t.equal((await ask(tokens.access_token)).headers['www-authenticate'], stale.headers['www-authenticate'], 'refreshed')
  t.same(await stepUp(stale), ['password', 'totp'])
  t.equal((await ask(tokens.access_token)).statusCode, 200)

  clock.now += 121_000
  tokens = json(await refresh(app, tokens.refresh_token))
  const fallen = await ask(tokens.access_token)
  t.match(fallen.headers['www-authenticate'], /different authentication level/, 'after AUTH_STEP_UP_TTL')
  await stepUp(fallen)
  t.equal(json(await ask(tokens.access_token)).sid, json(raised).sid, 'in the same session all the while')
})

overStores('a verifier goes on over a restart of the service, and misses nothing', async (t, build) => {
  const { app, url, verifier, restart } = await underService(t, build)
  const [lasting, ended] = [await logIn(app), await logIn(app)]
  for (const { access_token } of [lasting, ended]) t.equal(await judged(verifier, access_token), 'good')
  const again = await restart()
  t.equal(await judged(verifier, lasting.access_token), 'good', 'while it is away')
  await withToken(again.app, ended.access_token, { method: 'POST', url: '/logout' })
  await again.app.listen({ host: '127.0.0.1', port: Number(new URL(url).port) })
  await becomes(async () => (await judged(verifier, ended.access_token)) === 'revoked', 10_000)
  t.equal(await judged(verifier, ended.access_token), 'revoked', 'what ended meanwhile')
  t.equal(await judged(verifier, lasting.access_token), 'good')
  t.equal(await judged(verifier, (await logIn(again.app)).access_token), 'good')
})

overStores('a verifier hears from one replica of what ended at another', async (t, build) => {
  const { app, beside, verifierAt } = await underService(t, build)
  const other = await beside()
  const verifier = await verifierAt(await listen(other.app))
  const { access_token } = await logIn(app)
  t.equal(await judged(verifier, access_token), 'good')
  await withToken(app, access_token, { method: 'POST', url: '/logout' })
  t.ok((await judgedAfter(verifier, access_token, 'revoked')) < 1_500)
})

overStores('a new signing key is known before it signs, and one that leaked is refused at once', async (t, build) => {
  const { app, verifier } = await underService(t, build)
  const { access_token } = await logIn(app)
  t.equal(await judged(verifier, access_token), 'good')
  await app.signingKeys.rotateNow(app, { isLeaked: true })
  t.ok((await judgedAfter(verifier, access_token, 'invalid')) < soonMs)
  t.equal(await judged(verifier, (await logIn(app)).access_token), 'good')
})

overStores('a client that loses its right hears nothing more, and the verifier says so', async (t, build) => {
  const { app, options, url, client } = await underService(t, build)
  const events: VerifierEvent[] = []
  const verifier = createVerifier({ ...options, url, onEvent: (event) => events.push(event) })
  t.teardown(() => verifier.close())
  await verifier.ready()
  await app.clients.disable(app, client.id)
  await becomes(() => events.some(({ type }) => type === 'feed.refused'))
  t.match(events.at(-1), { type: 'feed.refused', level: 'error', message: /clientId and clientSecret/ })
  t.notOk(JSON.stringify(events).includes(client.secret))
})
