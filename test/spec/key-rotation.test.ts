import type { FastifyInstance } from 'fastify'
import { createLocalJWKSet, createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose'
import t from 'tap'
import type { SigningKey } from '../../plugins/keys/key-ring.ts'
import { retirementOf, successorSignsFrom } from '../../plugins/keys/key-schedule.ts'
import { createVerifier } from '../../verify/index.ts'
import { keyLimits } from '../../verify/jwks.ts'
import { claimsOf, json, listen, logIn, onOneStore, overStores, refresh, signUp, withToken } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'

/* Signing keys that change by age, and those who check tokens meanwhile. */

const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour
const kidOf = (token: string) => decodeProtectedHeader(token).kid as string
const jwksOf = async (app: FastifyInstance) => app.inject({ url: '/.well-known/jwks.json' })

/** A service that keeps the JWKS for its max-age and, unlike most, never asks again for a kid that it does not know. */
function strictVerifier(ask: () => FastifyInstance, now: () => number, issuer: string) {
  let cached: { keys: ReturnType<typeof createLocalJWKSet>; until: number } | undefined
  return async (token: string) => {
    if (!cached || now() >= cached.until) {
      const answer = await jwksOf(ask())
      const maxAge = /max-age=(\d+)/.exec(String(answer.headers['cache-control']))?.[1]
      cached = { keys: createLocalJWKSet(json(answer)), until: now() + Number(maxAge) * second }
    }
    await jwtVerify(token, cached.keys, { issuer, audience: issuer, currentDate: new Date(now()) })
  }
}

overStores('keys change under traffic, and nobody who checks tokens refuses one', async (t, build) => {
  const test = await build({ AUTH_KEY_ROTATION: '1h', AUTH_PAGES: 'off' })
  const { app, clock, config } = test
  const { app: beside } = await test.beside()
  const issuer = config.AUTH_ISSUER
  const now = () => clock.now
  const jwks = createRemoteJWKSet(new URL(`${await listen(app)}/.well-known/jwks.json`), { cooldownDuration: 0 })
  const verifier = createVerifier(
    { issuer, url: await listen(beside), now, onEvent: () => {} },
    { keys: { ...keyLimits, cooldownMs: 0 } },
  )
  t.teardown(() => verifier.close())
  let asked = 0
  const eitherApp = () => (asked++ % 2 === 0 ? app : beside)
  const checks: ((token: string) => Promise<unknown>)[] = [
    strictVerifier(eitherApp, now, issuer),
    (token) => jwtVerify(token, jwks, { issuer, audience: issuer, currentDate: new Date(now()) }),
    (token) => verifier.verify(token),
    ...[app, beside].map((on) => async (token: string) => {
      const { statusCode, body } = await withToken(on, token, { url: '/protected' })
      if (statusCode !== 200) throw new Error(body)
    }),
  ]

  await signUp(app)
  let { access_token, refresh_token } = await logIn(app)
  let alive = [access_token]
  let checked = 0
  const kids = new Set<string>()
  const most = { keys: 0 }
  const rotations = isLong ? 100 : config.DATABASE_URL ? 12 : 28
  const round = isLong ? 20 : 10
  for (let turn = 0; kids.size <= rotations; turn++) {
    if (turn > rotations * 40) throw new Error(`only ${kids.size} keys have signed`)
    // Some quiet time in one step, each time another, so that caches are of any age; then by one minute, or two.
    const ms = (turn % round === 0 ? 38 + ((turn / round) % 7) : 20 / round) * minute
    clock.now += ms
    clock.passedMs = (clock.passedMs ?? 0) + ms
    await Promise.all([app, beside].map((on) => on.revocations.catchUp()))
    // One of the two looks a minute later than the other, and at times both at once.
    const looking = turn % 3 === 0 ? [app, beside] : [turn % 3 === 1 ? app : beside]
    const answers = await Promise.all([
      refresh(eitherApp(), refresh_token),
      ...looking.map((on) => on.signingKeys.poll()),
    ])
    ;({ access_token, refresh_token } = json(answers[0]))
    kids.add(kidOf(access_token))
    alive = [...alive, access_token].filter((token) => (claimsOf(token)['exp'] as number) * second > clock.now)
    for (const token of new Set([alive[0] as string, access_token])) {
      await Promise.all(checks.map((check) => check(token)))
      checked += checks.length
    }
    most.keys = Math.max(most.keys, json(await jwksOf(app)).keys.length)
  }
  t.ok(most.keys <= 28, `published at once: ${most.keys}, a day's keys and no more`)
  t.equal(kids.size, rotations + 1)
  const { rows } = await app.store.exportRows('signingKeys', { limit: 1000 })
  t.same(new Set(rows.map(({ createdAt }) => createdAt)).size, rows.length)
  t.comment(`${rotations} rotations, ${checked} checks, none failed`)
})

overStores('of replicas that find a rotation due at once, one makes the key', async (t, build) => {
  const test = await build()
  const others = await Promise.all([test.beside(), test.beside(), test.beside()])
  const apps = [test, ...others].map(({ app }) => app)
  for (let round = 1; round <= 5; round++) {
    test.clock.now += 89 * day + minute
    test.clock.passedMs = (test.clock.passedMs ?? 0) + 89 * day + minute
    await Promise.all(apps.map((app) => app.revocations.catchUp()))
    const rotated = () => [test, ...others].flatMap(({ logs }) => logs.filter(({ event }) => event === 'key.rotated'))
    const before = rotated().length
    await Promise.all([...apps, ...apps].map((app) => app.signingKeys.poll()))
    t.equal(rotated().length, before + 1)
    test.clock.now += day
    const kids = await Promise.all(apps.map(async (app) => (await app.signingKeys.list())[0]?.kid))
    t.equal(new Set(kids).size, 1)
    const signing = apps.map((app) => app.signingKeys.current().kid)
    t.same(new Set(signing), new Set(kids), 'and all sign with it')
  }
})

onOneStore('a rotation that is cut off is made by the next look, whichever write was lost', async (t, build) => {
  const test = await build()
  const { clock, logs } = test
  let { app } = test
  for (const written of [false, true]) {
    clock.now += 90 * day
    const { addSigningKey } = app.store as never as { addSigningKey: (...of: unknown[]) => Promise<boolean> }
    Object.assign(app.store, {
      addSigningKey: async (...of: unknown[]) => {
        if (written) await addSigningKey(...of)
        throw new Error('killed')
      },
    })
    await t.rejects(app.signingKeys.poll(), { message: 'killed' })
    ;({ app } = await test.restart())
    await app.signingKeys.poll()
    const keys = await app.signingKeys.list()
    t.match(keys[0], { state: 'next' })
    t.equal(keys.filter(({ state }) => state === 'next').length, 1, `${written ? 'after' : 'before'} the write`)
    clock.now += 11 * minute
    await signUp(app, `ada${written}`)
    t.equal(kidOf((await logIn(app, `ada${written}`)).access_token), keys[0]?.kid)
  }
  t.ok(logs.length > 0)
})

t.test('a key is published as long before it signs as its age allows: a day, and ten minutes at least', (t) => {
  for (const [rotation, early] of [
    [hour, 10 * minute],
    [4 * hour, 10 * minute],
    [day, hour],
    [30 * day, day],
    [3650 * day, day],
  ] as const) {
    const newest = { signsFrom: 0, sealedBy: 'current' as const }
    t.equal(successorSignsFrom(newest, rotation - early - 1, rotation), undefined, `${rotation / hour} h`)
    t.equal(successorSignsFrom(newest, rotation - early, rotation), rotation, 'it signs when it is due')
    t.equal(successorSignsFrom(newest, rotation + day, rotation), rotation + day + 10 * minute, 'later, if made later')
  }
  t.end()
})

t.test('a key goes a day after the last token of it, counted from the one that took over from it', (t) => {
  const key = (at: number, over: Partial<SigningKey> = {}): SigningKey =>
    ({ kid: `${at}`, alg: 'ES256', sealedBy: 'current', createdAt: at, signsFrom: at, ...over }) as SigningKey
  const ttl = 10 * minute
  const [a, b, c] = [key(0), key(hour), key(2 * hour)] as [SigningKey, SigningKey, SigningKey]
  t.equal(retirementOf(a, [c, b, a], c, ttl), hour + ttl + day, 'not from the one that signs now')
  t.equal(retirementOf(b, [c, b, a], c, ttl), 2 * hour + ttl + day)
  t.equal(retirementOf(c, [c, b, a], c, ttl), undefined)
  t.equal(retirementOf(c, [c, b, a], b, ttl), undefined, 'the next one')
  const rsa = key(3 * hour, { alg: 'RS256' })
  t.equal(retirementOf(c, [rsa, c], rsa, ttl), 3 * hour + ttl + day, 'another algorithm took over')
  const es = key(9 * hour)
  t.equal(retirementOf(c, [es, rsa, c], es, ttl), 9 * hour + ttl + day, 'it came back meanwhile, for all we know')
  const own = key(4 * hour, { sealedBy: undefined })
  t.equal(retirementOf(c, [own, c], own, ttl), 4 * hour + ttl + day)
  t.equal(retirementOf(own, [es, own, c], es, ttl), 9 * hour + ttl + day)
  t.end()
})
