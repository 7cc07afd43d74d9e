import { createHash } from 'node:crypto'
import type { FastifyInstance, InjectOptions } from 'fastify'
import type { Client } from '../../domain/client.ts'
import { basic, isOAuthError, makeClient } from '../support/client-helper.ts'
import { challenge, codeOf as codeOfApp, giveTotp } from '../support/factors.ts'
import {
  type Build,
  challenges,
  challengeTo,
  claimsOf,
  giveRoles,
  isAccepted,
  json,
  onOneStore,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  type Tokens,
  withToken,
} from '../support/helper.ts'

/* Authorization codes of POST /challenge, traded at POST /token: RFC 6749 §4.1.3, RFC 7636; sections 11 and 12. */

const verifier = 'v-._~'.padEnd(43, 'v')
const code_challenge = createHash('sha256').update(verifier).digest('base64url')
/** A busy machine refuses no hash. */
const patient = { AUTH_HASH_MAX_WAIT: '1m', AUTH_THROTTLE: 'off' }

type Fields = Record<string, string>

/** Signs in with a password. */
const signIn = (app: FastifyInstance, fields: Fields = {}, options?: InjectOptions) =>
  postForm(app, '/challenge', { username: 'ada', password, ...fields }, options)

/** @returns a code for a user without a second factor */
async function codeOf(app: FastifyInstance, fields?: Fields, options?: InjectOptions): Promise<string> {
  const response = await signIn(app, fields, options)
  if (response.statusCode !== 200) throw new Error(`no code: ${response.body}`)
  return json(response).authorization_code
}

const trade = (app: FastifyInstance, code: string, fields: Fields = {}, options?: InjectOptions) =>
  postForm(app, '/token', { grant_type: 'authorization_code', code, ...fields }, options)

async function serve(build: Build) {
  const test = await build(patient)
  await signUp(test.app)
  return test
}

overStores('a code is traded once, of fifty at once, and who brings it again ends what it gave', async (t, build) => {
  const test = await serve(build)
  const { app } = test
  const { app: beside } = await test.beside()
  const code = await codeOf(app)
  t.match(code, /^lkc_[\w-]{43}$/)
  const first = await trade(beside, code)
  t.equal(first.statusCode, 200, 'at any replica')
  t.equal(first.headers['cache-control'], 'no-store')
  const tokens: Tokens = json(first)
  t.match(tokens, { access_token: String, token_type: 'Bearer', expires_in: 600, refresh_token: /^lkr_/ })
  t.match(json(await refresh(app, tokens.refresh_token)), { access_token: String }, 'which is a session as any')

  const second = await trade(app, code)
  isOAuthError(t, second, 400, 'invalid_grant', 'a second use')
  t.equal(await challengeTo(app, tokens.access_token), challenges.revoked, 'its access token is refused')
  isOAuthError(t, await refresh(app, tokens.refresh_token), 400, 'invalid_grant', 'and its session is gone')

  const another = await codeOf(app)
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => trade(i % 2 ? app : beside, another)))
  const given = answers.filter(({ statusCode }) => statusCode === 200)
  t.equal(given.length, 1, 'of fifty at once one gets tokens')
  const others = answers.filter(({ statusCode }) => statusCode !== 200).map((answer) => json(answer).error)
  // On a busy machine some wait for a connection in vain.
  t.same(
    [...new Set(others)].filter((error) => error !== 'temporarily_unavailable'),
    ['invalid_grant'],
  )
  const { refresh_token } = json(given[0] ?? first)
  isOAuthError(t, await refresh(app, refresh_token), 400, 'invalid_grant', 'and the others have ended its session')
  t.same((await storeOf(app).exportRows('sessions', { limit: 10 })).rows, [], 'nothing else was opened')
})

onOneStore('a code is good for a minute, for its own client, and is not spent by whoever fails', async (t, build) => {
  const { app, clock } = await serve(build)
  const grants = ['authorization_code', 'refresh_token']
  const [one, other] = [
    await makeClient(app, { id: 'one', grants, firstParty: true }),
    await makeClient(app, { id: 'other', grants, firstParty: true }),
  ]
  const code = await codeOf(app, {}, basic(one))
  isOAuthError(t, await trade(app, code, {}, basic(other)), 400, 'invalid_grant', "another client's")
  isOAuthError(t, await trade(app, code), 400, 'invalid_grant', "another client's, of nobody in particular")
  isOAuthError(t, await trade(app, code, { client_id: 'one' }), 401, 'invalid_client', 'without its secret')
  const uri = { redirect_uri: 'https://app.example/' }
  isOAuthError(t, await trade(app, code, uri, basic(one)), 400, 'invalid_grant', 'with a redirect_uri')
  for (const text of ['lkc_x', code.slice(0, -1), `${code} `, code.replace('lkc_', 'lka_'), code.toLowerCase()])
    isOAuthError(t, await trade(app, text, {}, basic(one)), 400, 'invalid_grant', 'another text')
  isOAuthError(t, await trade(app, '', {}, basic(one)), 400, 'invalid_request', 'none')
  const traded = await trade(app, code, {}, basic(one))
  t.equal(traded.statusCode, 200, 'and it is still good')
  isOAuthError(t, await trade(app, code, {}, basic(other)), 400, 'invalid_grant', "another client's, and spent")
  t.ok(await isAccepted(app, json(traded).access_token), 'which ends nothing')
  isOAuthError(t, await trade(app, await codeOf(app), {}, basic(other)), 400, 'invalid_grant', "first-party's")

  const [late, last] = [await codeOf(app), await codeOf(app)]
  clock.now += 59_999
  t.equal((await trade(app, last)).statusCode, 200, 'within the minute')
  clock.now += 1
  isOAuthError(t, await trade(app, late), 400, 'invalid_grant', 'after it')

  const former = await codeOf(app, {}, basic(one))
  await app.clients.remove(app, 'one')
  isOAuthError(t, await trade(app, former, {}, basic(one)), 401, 'invalid_client', 'its client is gone')
  clock.now += 1
  const again = await makeClient(app, { id: 'one', grants, firstParty: true })
  isOAuthError(t, await trade(app, former, {}, basic(again)), 400, 'invalid_grant', 'another of its name')
})

onOneStore('code_challenge: once sent the verifier is needed, and else there is none', async (t, build) => {
  const { app } = await serve(build)
  const withPkce = { code_challenge, code_challenge_method: 'S256' }
  const cases: [what: string, asked: Fields, shown: Fields, isGood: boolean][] = [
    ['the right verifier', withPkce, { code_verifier: verifier }, true],
    ['S256 is meant', { code_challenge }, { code_verifier: verifier }, true],
    ['neither', {}, {}, true],
    ['an empty challenge and verifier', { code_challenge: '' }, { code_verifier: '' }, true],
    ['another verifier', withPkce, { code_verifier: 'x'.repeat(43) }, false],
    ['no verifier', withPkce, {}, false],
    ['an empty verifier', withPkce, { code_verifier: '' }, false],
    ['the challenge for the verifier', withPkce, { code_verifier: code_challenge }, false],
    ['a verifier that nothing asked for (RFC 9700 §4.8.2)', {}, { code_verifier: verifier }, false],
    ['a method that comes with the verifier', {}, { code_verifier: verifier, code_challenge }, false],
  ]
  for (const [what, asked, shown, isGood] of cases) {
    const code = await codeOf(app, asked)
    const answer = await trade(app, code, shown)
    if (isGood) t.equal(answer.statusCode, 200, what)
    else isOAuthError(t, answer, 400, 'invalid_grant', what)
    if (!isGood && code_challenge === asked['code_challenge'])
      t.equal((await trade(app, code, { code_verifier: verifier })).statusCode, 200, `${what}: it is not spent`)
  }
  const short = createHash('sha256').update('short').digest('base64url')
  const ofShort = await trade(app, await codeOf(app, { code_challenge: short }), { code_verifier: 'short' })
  isOAuthError(t, ofShort, 400, 'invalid_grant', 'a verifier that is too short (RFC 7636 §4.1)')
  const wrong: Fields[] = [
    { code_challenge, code_challenge_method: 'plain' },
    { code_challenge, code_challenge_method: 's256' },
    { code_challenge: code_challenge.slice(1) },
    { code_challenge: `${code_challenge}=` },
    { code_challenge: verifier.padEnd(43, '~') },
  ]
  for (const fields of wrong) isOAuthError(t, await signIn(app, fields), 400, 'invalid_request', JSON.stringify(fields))
})

onOneStore('whoever may not have tokens any more gets none for a code', async (t, build) => {
  const { app } = await serve(build)
  const store = storeOf(app)
  const user = async (username: string) => {
    const { id } = json(await signUp(app, username))
    return { id, code: await codeOf(app, { username }) }
  }
  const refused = async (what: string, code: string) =>
    isOAuthError(t, await trade(app, code), 400, 'invalid_grant', what)

  const disabled = await user('bob')
  await app.userAdmin.disable(app, disabled.id)
  await refused('disabled', disabled.code)

  const changed = await user('cyd')
  const { access_token } = json(await trade(app, await codeOf(app, { username: 'cyd' })))
  const payload = { current_password: password, new_password: `${password} anew` }
  await withToken(app, access_token, { method: 'POST', url: '/users/me/password', payload })
  await refused('a password that was changed', changed.code)

  const gone = await user('dan')
  const mine: Tokens = json(await trade(app, await codeOf(app, { username: 'dan' })))
  await withToken(app, mine.access_token, { method: 'DELETE', url: '/users/me', payload: { password } })
  await refused('deleted', gone.code)

  const { id } = json(await signUp(app, 'eve'))
  await giveRoles(store, id, ['admin'])
  const asAdmin = { username: 'eve', scope: 'admin' }
  const kept = await codeOf(app, asAdmin)
  t.equal(json(await trade(app, kept)).scope, 'admin')
  const lost = await codeOf(app, asAdmin)
  await giveRoles(store, id, [])
  t.match(json(await trade(app, lost)).error, /^invalid_(grant|scope)$/, 'a role that was taken away')
  isOAuthError(t, await signIn(app, asAdmin), 400, 'invalid_scope', 'nor is there a code without the role')
})

onOneStore('a code gives what was asked for with its first step, and its client may have', async (t, build) => {
  const { app } = await serve(build)
  const audience = ['https://one.example', 'https://two.example']
  const may = { scopes: ['a', 'b'], audience, firstParty: true }
  const app1 = await makeClient(app, { id: 'app', grants: ['authorization_code', 'refresh_token'], ...may })
  const short = await makeClient(app, { id: 'short', grants: ['authorization_code'], ...may })

  const all = json(await trade(app, await codeOf(app, {}, basic(app1)), {}, basic(app1)))
  t.match(all, { scope: 'a b', refresh_token: String })
  t.match(claimsOf(all.access_token), { aud: audience, client_id: 'app', scope: 'a b', sid: String })
  const asked = { scope: 'b', resource: 'https://two.example' }
  const less = json(await trade(app, await codeOf(app, asked, basic(app1)), { scope: 'a b' }, basic(app1)))
  t.match(claimsOf(less.access_token), { aud: 'https://two.example', scope: 'b' }, 'no more at the exchange')
  isOAuthError(t, await signIn(app, { scope: 'c' }, basic(app1)), 400, 'invalid_scope')
  isOAuthError(t, await signIn(app, { resource: 'https://three.example' }, basic(app1)), 400, 'invalid_target')

  const once = json(await trade(app, await codeOf(app, {}, basic(short)), {}, basic(short)))
  t.notOk('refresh_token' in once, 'no refresh token for who may not refresh')
  const { acr, amr, auth_time } = claimsOf(once.access_token)
  t.same([acr, amr, auth_time], [undefined, undefined, undefined], 'and nothing of factors where there are none')
})

onOneStore('POST /challenge is for first-party clients with the grant authorization_code', async (t, build) => {
  const { app } = await serve(build)
  const both = await makeClient(app, { id: 'both', grants: ['authorization_code'], firstParty: true })
  const foreign = await makeClient(app, { id: 'foreign', grants: ['authorization_code', 'password'] })
  const without = await makeClient(app, { id: 'without', grants: ['password'], firstParty: true })
  t.equal((await signIn(app, {}, basic(both))).statusCode, 200)
  isOAuthError(t, await signIn(app, {}, basic(foreign)), 400, 'unauthorized_client', 'not first_party')
  isOAuthError(t, await signIn(app, {}, basic(without)), 400, 'unauthorized_client', 'without the grant')
  isOAuthError(t, await signIn(app, { client_id: 'nobody' }), 401, 'invalid_client')
  isOAuthError(t, await signIn(app, { client_id: 'both' }), 401, 'invalid_client', 'without its secret')
  isOAuthError(t, await trade(app, 'lkc_x', {}, basic(without)), 400, 'unauthorized_client', 'nor at /token')
  await app.clients.disable(app, 'both')
  isOAuthError(t, await signIn(app, {}, basic(both)), 401, 'invalid_client', 'disabled')
})

overStores(
  'a first-party that an earlier release has stored may use /challenge where it took passwords',
  async (t, build) => {
    const { app, clock } = await serve(build)
    const store = storeOf(app)
    /** As releases stored it that knew no first-party apps. */
    const put = async (grants: string[], more: Partial<Client> = {}) => {
      const before = await store.findClient('first-party')
      const { firstParty: _, ...older } = before ?? (await created(app))
      await store.replaceClient({ ...older, grants, ...more, generation: older.generation + 1 })
      // A client is known for a moment.
      clock.passedMs = (clock.passedMs ?? 0) + 1_000
    }
    await put(['password', 'refresh_token'])
    t.equal((await trade(app, await codeOf(app))).statusCode, 200)
    await signUp(app, 'bob')
    const { secret } = await giveTotp(app, 'bob')
    const needed = await postForm(app, '/token', { grant_type: 'password', username: 'bob', password })
    isOAuthError(t, needed, 403, 'insufficient_authorization')
    const { auth_session } = json(needed)
    const { authorization_code } = json(await challenge(app, { auth_session, otp: codeOfApp(secret, clock.now) }))
    t.equal((await trade(app, authorization_code)).statusCode, 200, 'and goes on there, where a factor is needed')
    await put(['refresh_token'])
    isOAuthError(t, await signIn(app), 400, 'unauthorized_client', 'not where it took none')
    await put(['password', 'refresh_token'], { firstParty: false })
    isOAuthError(t, await signIn(app), 400, 'unauthorized_client', 'nor where somebody says that it is none')
  },
)

const created = async (app: FastifyInstance): Promise<Client> => {
  const of = { id: 'first-party', type: 'public', introspect: 'none' } as const
  return (await app.clients.create(app, { ...of, grants: [], scopes: [], audience: [] })).client
}
