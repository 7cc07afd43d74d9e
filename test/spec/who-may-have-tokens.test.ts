import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import { deviceGrant, type GrantType, grantTypes } from '../../domain/grant.ts'
import { callerFrom } from '../support/client-helper.ts'
import { codesOf, decide, makeDeviceClient, poll } from '../support/devices.ts'
import { begin, codeOf, exchange, giveTotp, signInWithCode } from '../support/factors.ts'
import {
  json,
  logIn,
  overStores,
  password,
  postForm,
  refresh,
  signUp,
  storeOf,
  type TestApp,
} from '../support/helper.ts'

/*
 * One rule for every grant: whoever may not have tokens gets none, whatever was given out before (Keycloak
 * CVE-2026-9798, -16103, -88770: the same hole, grant by grant). A grant that is new does not compile until it is here.
 */

/** What a user has in hand, and how that is traded for tokens. */
type Grant = (app: FastifyInstance, name: string) => Promise<(app: FastifyInstance) => Promise<LightMyRequestResponse>>

const ofUsers: Record<Exclude<GrantType, 'client_credentials'>, Grant> = {
  password: async () => async (app) => postForm(app, '/token', { grant_type: 'password', username: 'ada', password }),
  refresh_token: async (app) => {
    const { refresh_token } = await logIn(app)
    return (now) => refresh(now, refresh_token)
  },
  authorization_code: async (app) => {
    const { authorization_code: code } = json(await begin(app))
    return (now) => exchange(now, code)
  },
  [deviceGrant]: async (app) => {
    await makeDeviceClient(app)
    const codes = await codesOf(app)
    await decide(app, codes, 'allow')
    return (now) => poll(now, codes)
  },
}

/** What becomes of the user meanwhile, and whether each grant is refused then. */
const meanwhile: Record<string, (test: TestApp, userId: string) => Promise<TestApp>> = {
  disabled: async (test, id) => {
    await test.app.userAdmin.disable({ log: test.app.log }, id)
    return test
  },
  'disabled and enabled again': async (test, id) => {
    await test.app.userAdmin.disable({ log: test.app.log }, id)
    await test.app.userAdmin.enable({ log: test.app.log }, id)
    return test
  },
  deleted: async (test, id) => {
    await test.app.userAdmin.delete({ log: test.app.log }, id)
    return test
  },
  'all sessions ended': async (test, id) => {
    await test.app.sessions.endAll(callerFrom('192.0.2.1', test.app.log), id)
    return test
  },
  'AUTH_MFA=required, and no factor': (test) => test.restart({ AUTH_MFA: 'required' }),
  'a factor was added': async (test) => {
    await giveTotp(test.app)
    return test
  },
}
/** These are no reason against a new sign-in, or against a session from before the factor. */
const goesOn: [state: string, grant: keyof typeof ofUsers][] = [
  ['disabled and enabled again', 'password'],
  ['all sessions ended', 'password'],
  ['a factor was added', 'refresh_token'],
]

for (const [state, change] of Object.entries(meanwhile)) {
  overStores(`${state}: no grant gives a token`, async (t, build) => {
    t.same(Object.keys(ofUsers).sort(), grantTypes.filter((type) => type !== 'client_credentials').sort())
    let test = await build()
    const { id } = json(await signUp(test.app))
    const trades = await Promise.all(
      Object.entries(ofUsers).map(async ([type, prepare]) => ({ type, trade: await prepare(test.app, 'ada') })),
    )
    test = await change(test, id)
    for (const { type, trade } of trades) {
      const answer = await trade(test.app)
      const isTaken = goesOn.some(([of, grant]) => of === state && grant === type)
      t.equal(answer.statusCode === 200, isTaken, `${type}: ${answer.statusCode} ${answer.body.slice(0, 80)}`)
      t.equal('access_token' in json(answer), isTaken, type)
    }
  })
}

overStores('no session is opened by one factor for whoever has two, whoever calls', async (t, build) => {
  const { app, clock } = await build()
  await signUp(app)
  const { secret } = await giveTotp(app)
  const user = await storeOf(app).findUserByName('ada')
  const client = await app.clients.find('first-party')
  if (!user || !client) throw new Error('not made')
  const granted = { scope: [], aud: 'http://localhost:3000' }
  const caller = callerFrom('192.0.2.1', app.log)
  await t.rejects(app.sessions.open(caller, { user }, client, granted), { code: 'invalid_grant' })
  t.match(await signInWithCode(app, codeOf(secret, clock.now)), { access_token: String })
})
