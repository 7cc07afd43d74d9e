import type { FastifyInstance } from 'fastify'
import type { End } from '../../domain/lifetimes.ts'
import type { User } from '../../domain/user.ts'
import { type ChangeName, events } from '../../events.ts'
import { type Store, StoreUnavailable } from '../../stores/store.ts'
import { administered } from '../support/admin.ts'
import {
  claimsOf,
  giveRoles,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  postForm,
  signUp,
  storeOf,
  type Tokens,
  withToken,
} from '../support/helper.ts'

/**
 * What a developer might forget at a write does not compile. Never called: the compiler reads it, and fails where an
 * error is missing.
 */
export function forgotten({ store, changes, events }: FastifyInstance): void {
  // @ts-expect-error a write that somebody has to be told of is not for whoever has the store
  store.disableUser('id', { now: 0, expiresAt: 0 })
  const told = { sub: 'id' }
  // @ts-expect-error an End is made by the door alone, which has everyone catch up with what has ended
  changes.make(forgetful, 'user.disabled', told, (store) => store.disableUser('id', { now: 0, expiresAt: 0 }))
  // @ts-expect-error the event of a change comes with its write
  events.emit(forgetful, 'user.disabled', told)
  // @ts-expect-error its members are those of the table
  changes.make(forgetful, 'user.disabled', { client_id: 'id' }, (store, end) => store.disableUser('id', end()))
  // @ts-expect-error and so is its name
  changes.make(forgetful, 'user.banned', told, (store, end) => store.disableUser('id', end()))
}
declare const forgetful: FastifyInstance

onOneStore(
  'a change is told once it is written: to the log, to caches, and before the answer to who ends tokens',
  async (t, build) => {
    const { app, logs } = await build()
    const seen: string[] = []
    app.events.onAny((event) => seen.push(event))
    let caughtUp = 0
    app.revocations.follow(() => {
      caughtUp += 1
    })
    const made = (result: unknown, ends: boolean) =>
      app.changes.make(app, 'user.disabled', { sub: 'ada' }, async (store, end) => {
        t.equal(seen.length, 0, 'not before the write')
        if (ends) await store.revoke({ kind: 'jti', id: 'a token', revokedAt: end().now, expiresAt: end().expiresAt })
        return result
      })

    for (const nothing of [false, undefined]) t.equal(await made(nothing, false), nothing)
    t.same(seen, [], 'nothing was changed, and nothing is told')
    await t.rejects(
      app.changes.make(app, 'user.disabled', { sub: 'ada' }, () =>
        Promise.reject(new StoreUnavailable(new Error('down'))),
      ),
    )
    t.same(seen, [], 'nor where the write fails')

    t.equal(await made(true, true), true)
    t.same(seen, ['user.disabled'])
    t.equal(caughtUp, 1, 'this process refuses the tokens already')
    t.match(
      logs.filter(({ event }) => event === 'user.disabled'),
      [{ level: 30, sub: 'ada', msg: events['user.disabled'].words }],
    )
  },
)

onOneStore('a cache of users and one of clients forget with every change of what they keep', async (t, build) => {
  const { app } = await build()
  const { id } = json(await signUp(app)) as { id: string }
  await app.clients.create(app, {
    id: 'orders',
    type: 'confidential',
    grants: [],
    scopes: [],
    audience: [],
    introspect: 'none',
  })
  const store = storeOf(app)
  let reads = 0
  const counted = <Name extends 'findUser' | 'findClient'>(name: Name) => {
    const original = store[name] as (id: string) => Promise<unknown>
    Object.assign(store, {
      [name]: (id: string) => {
        reads += 1
        return original(id)
      },
    })
  }
  counted('findUser')
  counted('findClient')

  const caches: [subject: string, look: () => Promise<unknown>][] = [
    ['user', () => app.profiles.find(id)],
    ['client', () => app.clients.find('orders')],
  ]
  for (const [subject, look] of caches) {
    const names = Object.keys(events).filter((name) => name.startsWith(`${subject}.`)) as ChangeName[]
    t.ok(names.length >= 5)
    for (const name of names) {
      await look()
      reads = 0
      await look()
      t.equal(reads, 0, `${subject}: known`)
      app.events.publish(app, name, { sub: id, client_id: 'orders' } as never)
      await look()
      const changesNothing = name === ('client.refused' as string)
      t.equal(reads, changesNothing ? 0 : 1, `${name}: ${changesNothing ? 'still known' : 'read again'}`)
    }
  }
})

overStores('who asks for what has happened already is answered when its tokens are refused', async (t, build) => {
  const { app, call } = await administered(build)
  const store = storeOf(app)
  const end = { now: Date.now(), expiresAt: Date.now() + 60_000 } as End
  interface Account extends Tokens {
    id: string
    sid: string
    /** of another session */
    other: string
  }
  // As by another process, or by a request that was told 503: this process has not heard of it.
  const ended = ({ id, sid }: Account) => store.endSession(sid, end, id)
  const deleted = ({ id }: Account) => store.deleteUser(id, end)
  const demoted = async ({ id }: Account) => {
    const expected = (await store.findUser(id)) as User
    return store.changeUser({ userId: id, expected, next: { ...expected, roles: [] } }, end)
  }
  const removal = { method: 'DELETE', url: '/users/me', payload: { password } } as const
  type Case = [status: number, happened: typeof ended, asks: (account: Account) => Promise<{ statusCode: number }>]
  const cases: Case[] = [
    [200, ended, ({ refresh_token: token }) => postForm(app, '/revoke', { token })],
    [404, ended, ({ sid, other }) => withToken(app, other, { method: 'DELETE', url: `/users/me/sessions/${sid}` })],
    [404, ended, ({ sid }) => call('DELETE', `/admin/sessions/${sid}`)],
    [404, deleted, ({ id }) => call('DELETE', `/admin/users/${id}`)],
    [404, deleted, ({ id }) => call('DELETE', `/admin/users/${id}/sessions`)],
    [200, deleted, ({ id }) => call('POST', '/admin/users/end-sessions', { ids: [id] })],
    [401, deleted, ({ access_token }) => withToken(app, access_token, removal)],
    [204, demoted, ({ id }) => call('PUT', `/admin/users/${id}/roles`, { roles: [] })],
  ]
  for (const [i, [status, happened, asks]] of cases.entries()) {
    const name = `user-${i}`
    const { id } = json(await signUp(app, name)) as { id: string }
    await giveRoles(store, id, ['editor'])
    const [tokens, { access_token: other }] = [await logIn(app, name), await logIn(app, name)]
    const account = { ...tokens, id, sid: String(claimsOf(tokens.access_token)['sid']), other }
    t.equal(await happened(account), true)
    t.equal((await asks(account)).statusCode, status)
    const { statusCode } = await withToken(app, tokens.access_token, { url: '/verify' })
    t.equal(statusCode, 401, `${asks}`)
  }
})

onOneStore('a role that is set, and a user who is enabled, show with the next request', async (t, build) => {
  const { app } = await build()
  const { id } = json(await signUp(app)) as { id: string }
  const { access_token } = await logIn(app)
  const rolesShown = async (token: string) =>
    (json(await withToken(app, token, { url: '/users/me' })) as { roles?: string[] }).roles ?? []
  t.same(await rolesShown(access_token), [])
  await app.userAdmin.change(app, id, { roles: ['editor'] })
  t.same(await rolesShown(access_token), ['editor'])

  await app.userAdmin.disable(app, id)
  t.equal(await app.profiles.find(id), undefined)
  await app.userAdmin.enable(app, id)
  t.equal((await app.profiles.find(id))?.username, 'ada')
})

onOneStore(
  'a refresh whose write fails after its answer was made ready is 503, and nothing is left unhandled',
  async (t, build) => {
    const { app } = await build()
    await signUp(app)
    const { refresh_token } = await logIn(app)
    const unhandled: unknown[] = []
    const onUnhandled = (error: unknown) => unhandled.push(error)
    process.on('unhandledRejection', onUnhandled)
    t.teardown(() => process.off('unhandledRejection', onUnhandled))
    const { rotateSession } = storeOf(app)
    const failing: Store['rotateSession'] = async (presented, end, onDecided) => {
      const outcome = await rotateSession(presented, end)
      onDecided?.(outcome)
      throw new StoreUnavailable(new Error('the disk is full'))
    }
    Object.assign(app.store, { rotateSession: failing })
    app.accessTokens.issue = () => Promise.reject(new Error('cannot sign'))
    const response = await app.inject({ method: 'POST', url: '/refresh', payload: { refresh_token } })
    t.equal(response.statusCode, 503)
    await new Promise(setImmediate)
    t.same(unhandled, [])
  },
)
