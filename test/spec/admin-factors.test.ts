import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { readAdministrators } from '../../cli/doctor/administrators.ts'
import type { Factor } from '../../domain/factor.ts'
import { administered, isProblem, logInAs } from '../support/admin.ts'
import { begin, challenge, codeOf, exchange, giveTotp } from '../support/factors.ts'
import { giveRoles, isAccepted, json, logIn, overStores, refresh, signUp, storeOf } from '../support/helper.ts'

/* Second factors, as administrators look after them: docs/administration.md#second-factors. */

const at = Date.UTC(2026, 10, 26)
const app = (of: Partial<Factor> = {}) =>
  ({ kind: 'totp', id: randomUUID(), name: 'Phone', createdAt: at, secret: 'sealed', step: 1, ...of }) as Factor
const passkey: Factor = {
  ...{ kind: 'webauthn', id: 'a-passkey', name: 'YubiKey 5', createdAt: at, usedAt: at + 1000 },
  ...{ credentialId: 'its-credential', publicKey: 'its-public-key', counter: 3, transports: ['usb'] },
  ...{ aaguid: 'its-model', isBackupEligible: false, isBackedUp: false },
}
const codes: Factor = { kind: 'recovery_code', id: 'codes', name: 'Recovery codes', createdAt: at, hashes: ['a', 'b'] }

/** Gives a user other factors, as if they had added them. */
async function give({ store }: FastifyInstance, userId: string, next: Factor[]): Promise<void> {
  const { version = 0 } = (await store.findFactors(userId)) ?? {}
  if (!(await storeOf({ store } as FastifyInstance).changeFactors({ userId, expectedVersion: version, next })))
    throw new Error('another was first')
}

overStores('administrators see which second factors a user has, and nothing to sign in with', async (t, build) => {
  const { app: service, call, adminId } = await administered(build)
  const { id } = json(await signUp(service))
  t.same(json(await call('GET', `/admin/users/${id}/factors`)), { factors: [] })
  t.notOk('second_factor' in json(await call('GET', `/admin/users/${id}`)))

  const phone = app({ id: 'an-app' })
  await give(service, id, [phone, passkey, codes])
  const listed = await call('GET', `/admin/users/${id}/factors`)
  const [created_at, used_at] = [new Date(at).toISOString(), new Date(at + 1000).toISOString()]
  t.strictSame(json(listed), {
    factors: [
      { id: 'an-app', kind: 'totp', name: 'Phone', created_at },
      { id: 'a-passkey', kind: 'webauthn', name: 'YubiKey 5', created_at, used_at },
      { id: 'codes', kind: 'recovery_code', name: 'Recovery codes', created_at, left: 2 },
    ],
  })
  t.equal(json(await call('GET', `/admin/users/${id}`)).second_factor, true)
  const { users } = json(await call('GET', '/admin/users'))
  t.same(
    users.map(({ second_factor }: { second_factor?: true }) => second_factor),
    [true, undefined],
    'ada, and root',
  )
  await give(service, id, [codes])
  t.notOk('second_factor' in json(await call('GET', `/admin/users/${id}`)), 'recovery codes alone are none')

  for (const unknown of [randomUUID(), 'x'])
    for (const method of ['GET', 'DELETE'] as const)
      await isProblem(t, await call(method, `/admin/users/${unknown}/factors`), 404, 'not_found', unknown)
  await isProblem(t, await call('DELETE', `/admin/users/${adminId}/factors`), 409, 'own_account', 'their own')
  t.same(await readAdministrators(service.store), { found: 1, lacking: ['root'], isAll: true }, 'what doctor sees')
})

overStores('a reset takes all of them, recovery codes too, and ends sessions and tokens', async (t, build) => {
  const { app: service, call, adminId, beside, logs } = await administered(build)
  const { id } = json(await signUp(service))
  const { access_token, refresh_token } = await logIn(service)
  await give(service, id, [app(), passkey, codes])
  const { app: other } = await beside()
  const path = `/admin/users/${id}/factors`
  t.equal((await call('DELETE', path)).statusCode, 204)
  t.same(json(await call('GET', path)), { factors: [] })
  t.notOk(await isAccepted(service, access_token))
  t.equal((await refresh(other, refresh_token)).json().error, 'invalid_grant')
  const resets = () => logs.filter(({ event }) => event === 'factors.reset')
  t.match(resets(), [{ sub: id, by: adminId }])

  const since = await logIn(service)
  t.equal((await call('DELETE', path)).statusCode, 204, 'again')
  t.equal(resets().length, 1, 'nothing was done')
  t.ok(await isAccepted(service, since.access_token), 'and nothing ended')

  await give(service, id, [app()])
  await call('POST', `/admin/users/${id}/disable`)
  t.equal((await call('DELETE', path)).statusCode, 204, 'of a disabled user, whose account is put right first')
  t.equal((await logInAs(service, 'ada')).statusCode, 400, 'who stays disabled')
  await call('POST', `/admin/users/${id}/enable`)
  t.equal((await logInAs(service, 'ada')).statusCode, 200, 'by the password alone')
  t.match(json(await call('GET', `/admin/audit?event=factors.reset`)).events, [{ user: id, by: adminId }, {}])
})

overStores(
  'a reset ends the sign-ins that are under way, and the codes that nobody has traded in',
  async (t, build) => {
    const { app: service, call, clock } = await administered(build)
    const { id } = json(await signUp(service))
    const { secret } = await giveTotp(service)
    const open = json(await begin(service)).auth_session
    const other = json(await begin(service)).auth_session
    const otp = codeOf(secret, clock.now)
    const { authorization_code } = json(await challenge(service, { auth_session: other, otp }))
    t.equal((await call('DELETE', `/admin/users/${id}/factors`)).statusCode, 204)
    const next = { auth_session: open, otp: codeOf(secret, clock.now, 1) }
    t.equal(json(await challenge(service, next)).error, 'invalid_session')
    t.equal(json(await exchange(service, authorization_code)).error, 'invalid_grant')
  },
)

overStores('resets at two replicas, and additions meanwhile: each change is told once', async (t, build) => {
  const test = await administered(build)
  const { app: service, call } = test
  const { id } = json(await signUp(service))
  const { app: other } = await test.beside()
  await giveRoles(storeOf(service), id, ['editor'])
  await give(service, id, [app()])
  const told: string[] = []
  for (const { events } of [service, other]) events.onAny((event) => void told.push(event))
  const by = { log: service.log }
  const add = (on: FastifyInstance) =>
    give(on, id, [app()]).then(
      () => 1,
      () => 0,
    )
  const outcomes = await Promise.all(
    Array.from({ length: 12 }, async (_, i) => {
      const on = i % 2 ? service : other
      if (i % 3) return add(on)
      await on.userAdmin.resetFactors(by, id)
      return 0
    }),
  )
  const added = outcomes.reduce((sum, one) => sum + one, 0)
  const resets = told.filter((event) => event === 'factors.reset').length
  t.equal((await service.store.findFactors(id))?.version, 1 + added + resets, 'none of them was lost')
  t.ok(resets >= 1)
  t.equal((await call('DELETE', `/admin/users/${id}/factors`)).statusCode, 204)
  t.same((await service.store.findFactors(id))?.factors, [], 'and the last word is that of the last reset')
})
