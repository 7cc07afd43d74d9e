import { generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { decodeProtectedHeader } from 'jose'
import type { SigningAlg } from '../../../domain/signing-key.ts'
import { StoreUnavailable } from '../../../stores/store.ts'
import { administered } from '../../support/admin.ts'
import { basic, callerFrom, makeClient } from '../../support/client-helper.ts'
import {
  type Build,
  isAccepted,
  json,
  newDir,
  onOneStore,
  overStores,
  password,
  postForm,
  signUp,
  storeOf,
  type TestApp,
} from '../../support/helper.ts'

/* The keys of ID tokens, which are those of access tokens where the algorithm is the same: docs/keys.md. */

const minute = 60_000
const day = 24 * 60 * minute
const algs = ['ES256', 'RS256', 'EdDSA'] as const
const kidOf = (token: string) => decodeProtectedHeader(token).kid as string
const jwksOf = async (app: FastifyInstance): Promise<{ kid: string; alg: string }[]> =>
  json(await app.inject('/.well-known/jwks.json')).keys
const kidsOf = async (app: FastifyInstance, of: SigningAlg) =>
  (await jwksOf(app)).filter(({ alg }) => alg === of).map(({ kid }) => kid)

/** Signs ada in. @returns the tokens of a client with ID tokens of an algorithm */
async function signInOf(test: TestApp) {
  await signUp(test.app)
  const clients = Object.fromEntries(
    await Promise.all(
      algs.map(async (idTokenAlg) => {
        const id = idTokenAlg.toLowerCase()
        return [idTokenAlg, await makeClient(test.app, { id, grants: ['password', 'refresh_token'], idTokenAlg })]
      }),
    ),
  )
  return async (app: FastifyInstance, alg: SigningAlg = 'RS256') => {
    const fields = { grant_type: 'password', username: 'ada', password, scope: 'openid' }
    const response = await postForm(app, '/token', fields, basic(clients[alg]))
    if (response.statusCode !== 200) throw new Error(response.body)
    return json(response) as { access_token: string; refresh_token: string; id_token: string }
  }
}

const keysMade = ({ logs }: TestApp) => logs.filter(({ event }) => event === 'key.rotated').length

overStores(
  'a start makes the key of access tokens; those beside it are made when one is needed, of processes at once by one',
  async (t, build) => {
    const test = await build()
    const others = [await test.beside(), await test.beside()]
    const apps = [test, ...others].map(({ app }) => app)
    const signIn = await signInOf(test)
    t.equal((await storeOf(test.app).exportRows('signingKeys', { limit: 10 })).rows.length, 1)
    const [tokens, ...sets] = await Promise.all([signIn(apps[1] as FastifyInstance), ...apps.map(jwksOf)])
    for (const keys of [...sets, ...(await Promise.all(apps.map(jwksOf)))]) {
      t.same(keys.map(({ alg }) => alg).sort(), ['ES256', 'EdDSA', 'RS256'])
      t.equal(keys[0]?.alg, 'ES256', 'that of access tokens first')
    }
    t.equal(new Set((await Promise.all(apps.map(jwksOf))).map((keys) => JSON.stringify(keys))).size, 1)
    t.equal(kidOf(tokens.id_token), (await kidsOf(test.app, 'RS256'))[0])
    t.equal(
      [test, ...others].reduce((sum, one) => sum + keysMade(one), 0),
      3,
      'one of each',
    )
    for (const app of apps)
      for (const alg of algs) t.equal(kidOf((await signIn(app, alg)).id_token), (await kidsOf(app, alg))[0], alg)
  },
)

overStores(
  'each algorithm has its own succession: a key is published a day before it signs, and goes a day after its last token',
  async (t, build) => {
    const test = await build()
    const { app, clock } = test
    const signIn = await signInOf(test)
    const pass = async (ms: number) => {
      clock.now += ms
      clock.passedMs = (clock.passedMs ?? 0) + ms
      await app.revocations.catchUp()
      await app.signingKeys.poll()
    }
    await pass(10 * day)
    const before = await signIn(app)
    const first = kidOf(before.id_token)
    await pass(79 * day)
    t.same([(await kidsOf(app, 'ES256')).length, (await kidsOf(app, 'RS256')).length], [2, 1], 'that one is older')
    await pass(10 * day)
    const [next, still] = await kidsOf(app, 'RS256')
    t.equal(still, first)
    t.equal(kidOf((await signIn(app)).id_token), first, 'not yet')
    await pass(day)
    t.equal(kidOf((await signIn(app)).id_token), next)
    t.ok(await app.idTokens.readHint(before.id_token), 'what the one before signed names its user')
    t.same(
      (await app.signingKeys.list()).filter(({ alg }) => alg === 'RS256').map(({ state }) => state),
      ['current', 'previous'],
    )
    await pass(12 * minute + day)
    await pass(1)
    t.same(await kidsOf(app, 'RS256'), [next])
    t.equal(await app.idTokens.readHint(before.id_token), undefined, 'until it is gone')
  },
)

onOneStore(
  'keys are rotated of each algorithm at a word, and after a leak nothing of any is good',
  async (t, build) => {
    const test = await administered(build, { AUTH_ACCESS_TTL: '1h' })
    const { app, call, clock } = test
    const signIn = await signInOf(test)
    const before = await signIn(app)
    const next = json(await call('POST', '/admin/keys/rotate'))
    t.match(next, { alg: 'ES256', state: 'next' })
    const states = async () =>
      json(await call('GET', '/admin/keys')).keys.map(({ alg, state }: Record<string, string>) => `${alg} ${state}`)
    t.same(await states(), [
      ...['ES256 next', 'ES256 current', 'RS256 next', 'RS256 current', 'EdDSA next', 'EdDSA current'],
    ])
    t.same(json(await call('POST', '/admin/keys/rotate')), next, 'asked for again, it is the same one')
    clock.now += 10 * minute
    const later = await signIn(app)
    for (const token of ['access_token', 'id_token'] as const) t.not(kidOf(later[token]), kidOf(before[token]))

    t.match(json(await call('POST', '/admin/keys/rotate', { leaked: true })), { alg: 'ES256', state: 'current' })
    t.equal((await jwksOf(app)).length, 3)
    for (const { access_token, id_token } of [before, later]) {
      t.notOk(await isAccepted(app, access_token))
      t.equal(await app.idTokens.readHint(id_token), undefined)
    }
    const after = await signIn(app)
    t.same(await kidsOf(app, 'RS256'), [kidOf(after.id_token)])
    t.ok(await isAccepted(app, after.access_token))
  },
)

overStores('the key of ID tokens alone is revoked: another signs, and access tokens stay good', async (t, build) => {
  const test = await administered(build)
  const { app, call, token } = test
  const { app: beside } = await test.beside()
  const signIn = await signInOf(test)
  const before = await signIn(app)
  await signIn(beside)
  const stolen = kidOf(before.id_token)
  const access = await kidsOf(app, 'ES256')
  t.equal((await call('DELETE', `/admin/keys/${stolen}`)).statusCode, 204)
  const [next, ...more] = await kidsOf(app, 'RS256')
  t.same([more.length, next === stolen], [0, false])
  t.same(await kidsOf(app, 'ES256'), access)
  await beside.revocations.poll()
  for (const on of [app, beside]) {
    t.equal(kidOf((await signIn(on)).id_token), next)
    t.equal(await on.idTokens.readHint(before.id_token), undefined)
    t.ok(await isAccepted(on, before.access_token))
    t.ok(await isAccepted(on, token))
  }
  t.equal((await call('DELETE', `/admin/keys/${stolen}`)).statusCode, 204, 'done already')
})

onOneStore("the operator's own key signs what is of its algorithm, and the others are made", async (t, build) => {
  const pair = {
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  }
  for (const alg of ['ES256', 'RS256'] as const) {
    const path = join(await newDir(t), 'key.pem')
    await writeFile(path, pair[alg].privateKey.export({ format: 'pem', type: 'pkcs8' }))
    const test = await build({ AUTH_SIGNING_ALG: alg, AUTH_SIGNING_KEY_FILE: path })
    const { app } = test
    const own = app.signingKeys.current().kid
    const signIn = await signInOf(test)
    for (const of of algs) {
      const { access_token, id_token } = await signIn(app, of)
      t.equal(kidOf(access_token), own)
      t.equal(decodeProtectedHeader(id_token).alg, of)
      t.equal(kidOf(id_token) === own, of === alg, `${of} where ${alg} is the operator's`)
    }
    t.same((await jwksOf(app)).map((key) => key.alg).sort(), ['ES256', 'EdDSA', 'RS256'])
    await t.rejects(app.signingKeys.rotateNow(app, { isLeaked: false }), { code: 'operators_key' })
    const other = alg === 'ES256' ? 'RS256' : 'ES256'
    const [stolen] = await kidsOf(app, other)
    await app.signingKeys.revoke(callerFrom('192.0.2.1', app.log), stolen as string)
    t.not((await kidsOf(app, other))[0], stolen)
    await t.rejects(app.signingKeys.revoke(app, own), { code: 'operators_key' })
  }
})

onOneStore('another AUTH_SIGNING_ALG: the keys stay, for ID tokens of both go on', async (t, build) => {
  const test = await build()
  const signIn = await signInOf(test)
  const before = await signIn(test.app, 'RS256')
  const { app } = await test.restart({ AUTH_SIGNING_ALG: 'RS256' })
  const after = await signIn(app, 'ES256')
  t.equal(kidOf(after.access_token), kidOf(before.id_token), 'the key that was there')
  t.equal(kidOf(after.id_token), kidOf(before.access_token))
  t.ok(await isAccepted(app, before.access_token))
  t.equal((await jwksOf(app))[0]?.alg, 'RS256')
})

/** A store that cannot write keys. */
function failingKeys(app: FastifyInstance) {
  const { addSigningKey } = storeOf(app)
  let calls = 0
  storeOf(app).addSigningKey = () => {
    calls += 1
    return Promise.reject(new StoreUnavailable(new Error('a test')))
  }
  return { calls: () => calls, mend: () => Object.assign(storeOf(app), { addSigningKey }) }
}

onOneStore('a store that cannot be written: the JWKS has what there is, and a sign-in is 503', async (t, build) => {
  const test = await build()
  const { app, clock } = test
  const signIn = await signInOf(test)
  const failing = failingKeys(app)
  for (let i = 0; i < 10; i++)
    t.same(
      (await jwksOf(app)).map(({ alg }) => alg),
      ['ES256'],
    )
  t.equal(failing.calls(), 1, 'tried once a minute, for who asks is a stranger')
  await t.rejects(signIn(app), /temporarily_unavailable/)
  t.equal(kidOf((await signIn(app, 'ES256')).id_token), app.signingKeys.current().kid, 'one that needs no other key')
  failing.mend()
  t.ok((await signIn(app)).id_token)
  clock.passedMs = 2 * minute
  t.equal((await jwksOf(app)).length, 3)
})

/** Starts with another secret, where the operator's own key signs access tokens. */
async function ownKey(t: Parameters<typeof newDir>[0], build: Build) {
  const path = join(await newDir(t), 'key.pem')
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await writeFile(path, privateKey.export({ format: 'pem', type: 'pkcs8' }))
  return build({ AUTH_SIGNING_KEY_FILE: path, AUTH_SECRET: 'a'.repeat(40) })
}

onOneStore('a key that no secret opens any more is followed by one that signs', async (t, build) => {
  const test = await ownKey(t, build)
  const signIn = await signInOf(test)
  const before = await signIn(test.app)
  const { app } = await test.restart({ AUTH_SECRET: 'b'.repeat(40) })
  const client = await makeClient(app, { id: 'new', grants: ['password'] })
  const fields = { grant_type: 'password', username: 'ada', password, scope: 'openid' }
  const { id_token } = json(await postForm(app, '/token', fields, basic(client)))
  t.not(kidOf(id_token), kidOf(before.id_token))
  t.same((await kidsOf(app, 'RS256')).toSorted(), [kidOf(id_token), kidOf(before.id_token)].toSorted())
  t.ok(await app.idTokens.readHint(before.id_token), 'which goes on to verify')
})
