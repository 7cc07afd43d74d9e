import { randomUUID } from 'node:crypto'
import type { User } from '../../domain/user.ts'
import { administered, isProblem } from '../support/admin.ts'
import { isAccepted, json, logIn, onOneStore, overStores, signUp, storeOf } from '../support/helper.ts'

/* Administration that scales: lists by prefix and by creation, and the same act on many. */

const start = Date.parse('2026-11-21T09:00:00.000Z')
const userNamed = (username: string, createdAt: number): User => ({
  ...{ id: randomUUID(), username, nameKey: username, passwordHash: '$argon2id$hash', roles: [] },
  ...{ createdAt, generation: 0 },
})

overStores('users are searched by the beginning of their names, in any spelling, page by page', async (t, build) => {
  const { app, call } = await administered(build)
  const names = ['ann', 'anna', 'annb', 'ann@example.com', 'an', 'ao', 'étienne', 'étoile', '𠀀one', '𠀀two']
  await app.store.importRows(
    'users',
    names.map((name) => userNamed(name, start)),
  )
  const search = async (prefix: string, query = '') => {
    const answer = await call('GET', `/admin/users?prefix=${encodeURIComponent(prefix)}${query}`)
    t.equal(answer.statusCode, 200, prefix)
    return json(answer)
  }
  const namesOf = ({ users }: { users: { username: string }[] }) => users.map(({ username }) => username)
  t.same(namesOf(await search('ann')), ['ann', 'ann@example.com', 'anna', 'annb'])
  t.same(namesOf(await search('ANN')), ['ann', 'ann@example.com', 'anna', 'annb'])
  t.same(namesOf(await search('E\u0301T')), ['étienne', 'étoile'])
  t.same(namesOf(await search('𠀀')), ['𠀀one', '𠀀two'])
  for (const nobody of ['zzz', 'ann ', 'a*', 'an%', 'x'.repeat(255), '\u200b', 'ann\u0000b'.replace('\0', '!')])
    t.same(await search(nobody), { users: [] }, JSON.stringify(nobody.slice(0, 20)))

  const seen: string[] = []
  for (let query = '&limit=1'; ; ) {
    const page = await search('ann', query)
    seen.push(...namesOf(page))
    t.equal(page.next, page.next_cursor, 'both names mean the same')
    if (page.next === undefined) break
    query = `&limit=1&${seen.length % 2 === 0 ? 'after' : 'cursor'}=${page.next}`
  }
  t.same(seen, ['ann', 'ann@example.com', 'anna', 'annb'])
  await isProblem(t, await call('GET', '/admin/users?after=YQ&cursor=YQ'), 400, 'invalid_request', 'not by both names')
  await isProblem(t, await call('GET', '/admin/users?username=a&prefix=a'), 400, 'invalid_request', 'one or the other')
})

overStores('users are searched by when they were made, the oldest first', async (t, build) => {
  const { app, call, clock } = await administered(build)
  const rows = Array.from({ length: 25 }, (_, i) => userNamed(`u${i}`, start + i * 1000))
  await app.store.importRows('users', rows.toReversed())
  const upTo = (at: number) => new Date(at).toISOString()
  const search = async (query: Record<string, string>) =>
    json(await call('GET', `/admin/users?${new URLSearchParams(query)}`))
  const namesOf = ({ users }: { users: { username: string }[] }) =>
    users.map(({ username }) => username).filter((name) => name !== 'root')

  t.same(
    namesOf(await search({ created_after: upTo(start + 20_000) })),
    ['u21', 'u22', 'u23', 'u24'],
    'later than the time, and not at it',
  )
  t.same(namesOf(await search({ created_after: '2026-11-21T18:00:20.000+09:00' })), ['u21', 'u22', 'u23', 'u24'])
  t.same(namesOf(await search({ created_after: '2026-11-21t09:00:23z' })), ['u24'])
  t.equal(namesOf(await search({ created_after: '2026-11-21' })).length, 25, 'a date in UTC')
  t.same(namesOf(await search({ created_after: '2026-11-22' })), [])
  t.same(namesOf(await search({ created_after: upTo(start + 20_000), prefix: 'U2' })), ['u21', 'u22', 'u23', 'u24'])
  t.same(namesOf(await search({ created_after: upTo(start + 5_000), prefix: 'u1' })).length, 10)
  const seen: string[] = []
  let after: string | undefined
  do {
    const page = await search({ created_after: upTo(start), limit: '7', ...(after !== undefined && { after }) })
    seen.push(...namesOf(page))
    after = page.next
  } while (after !== undefined)
  t.same(
    seen,
    rows.slice(1).map(({ username }) => username),
  )

  const minutesAgo = (minutes: number) => userNamed(`minutes-${minutes}`, clock.now - minutes * 60_000)
  await app.store.importRows('users', [minutesAgo(30), minutesAgo(90)])
  t.same(namesOf(await search({ created_after: '1h' })), ['minutes-30'], 'how long ago')

  for (const time of ['yesterday', '2026-02-30', '2026-13-01', '2026-11-21T25:00:00Z', '2026-11-21T09:00', '-1d', '0'])
    await isProblem(
      t,
      await call('GET', `/admin/users?created_after=${encodeURIComponent(time)}`),
      400,
      'invalid_request',
      time,
    )
  const byName = json(await call('GET', '/admin/users?limit=1')).next
  const wrong = await call('GET', `/admin/users?created_after=2026-11-21&after=${byName}`)
  await isProblem(t, wrong, 400, 'invalid_request', 'the place in another order')
})

overStores('many users are disabled, and logged out, at once, and each has its own result', async (t, build) => {
  const { app, call, adminId, token, logs } = await administered(build)
  const [{ id: ada }, { id: bob }] = [json(await signUp(app, 'ada')), json(await signUp(app, 'bob'))]
  const tokens = [await logIn(app, 'ada'), await logIn(app, 'bob')]
  const nobody = randomUUID()
  const ended = await call('POST', '/admin/users/end-sessions', { ids: [ada, nobody, 'no-id', bob] })
  t.equal(ended.statusCode, 200)
  t.same(json(ended), {
    results: [
      { id: ada, ok: true },
      { id: nobody, ok: false, error: 'not_found' },
      { id: 'no-id', ok: false, error: 'not_found' },
      { id: bob, ok: true },
    ],
  })
  for (const { access_token } of tokens) t.notOk(await isAccepted(app, access_token))

  const again = await logIn(app, 'bob')
  const disabled = json(await call('POST', '/admin/users/disable', { ids: [adminId, bob, nobody] }))
  t.same(disabled.results, [
    { id: adminId, ok: false, error: 'own_account' },
    { id: bob, ok: true },
    { id: nobody, ok: false, error: 'not_found' },
  ])
  t.notOk(await isAccepted(app, again.access_token))
  t.ok(await isAccepted(app, token))
  t.match(json(await call('GET', `/admin/users/${bob}`)), { disabled_at: String })
  t.match(
    logs.filter(({ event }) => event === 'user.disabled'),
    [{ sub: bob, by: adminId }],
    'and each is an event of its own',
  )

  const many = Array.from({ length: 100 }, (_, i) => userNamed(`m${i}`, start))
  await app.store.importRows('users', many)
  const all = json(await call('POST', '/admin/users/disable', { ids: many.map(({ id }) => id) }))
  t.same(
    all.results,
    many.map(({ id }) => ({ id, ok: true })),
    'in their order',
  )
  const rows = await app.store.findRows(
    'users',
    many.map(({ id }) => id),
  )
  t.ok(rows.every((user) => user?.disabledAt !== undefined && user.generation === 1))
})

onOneStore('a batch is 1 to 100 ids, none twice, and nothing else', async (t, build) => {
  const { app, call } = await administered(build)
  const { id } = json(await signUp(app, 'ada'))
  for (const body of [
    {},
    { ids: [] },
    { ids: id },
    { ids: [1] },
    { ids: [id, id] },
    { ids: Array.from({ length: 101 }, () => randomUUID()) },
    { ids: [id], reason: 'x' },
    { users: [id] },
  ]) {
    for (const verb of ['disable', 'end-sessions']) {
      const answer = await call('POST', `/admin/users/${verb}`, body)
      await isProblem(t, answer, 400, 'invalid_request', `${verb} ${JSON.stringify(body).slice(0, 60)}`)
    }
  }
  t.equal((await storeOf(app).findUser(id))?.disabledAt, undefined)
  t.equal((await call('GET', '/admin/users/disable')).statusCode, 404)
})
