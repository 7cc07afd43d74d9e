import { administered, isProblem, logInAs } from '../support/admin.ts'
import {
  challenges,
  challengeTo,
  isAccepted,
  json,
  logIn,
  onOneStore,
  overStores,
  password,
  refresh,
  storeOf,
  withToken,
} from '../support/helper.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'

/* PATCH /admin/users/:id: docs/administration.md. */

const verified = (email: string) => ({ email, email_verified: true })

overStores('an administrator changes name, address and roles in one step', async (t, build) => {
  const { app, call, adminId } = await administered(build)
  const { id } = json(await call('POST', '/admin/users', { username: 'ada', password, roles: ['editor'] }))
  const tokens = await logIn(app, 'ada')
  const edit = (body: object) => call('PATCH', `/admin/users/${id}`, body)

  const all = await edit({ username: 'Lovelace', ...verified('Ada@Example.com'), roles: ['editor', 'author'] })
  t.equal(all.statusCode, 200, all.body)
  const shown = {
    id,
    username: 'Lovelace',
    email: 'Ada@Example.com',
    email_verified: true,
    roles: ['editor', 'author'],
  }
  t.match(json(all), shown)
  t.match(json(await call('GET', `/admin/users/${id}`)), shown)
  t.match(json(await withToken(app, tokens.access_token, { url: '/users/me' })), { username: 'Lovelace' }, 'at once')
  await app.audit.written()
  const { events } = json(await call('GET', `/admin/audit?user=${id}`))
  t.same(
    events.slice(0, 3).map(({ event, by, detail }: Record<string, unknown>) => [event, by, detail]),
    [
      ['email.set', adminId, { verified: true }],
      ['user.renamed', adminId, undefined],
      ['user.roles_set', adminId, { roles: ['editor', 'author'] }],
    ],
  )

  const same: [object, object][] = [
    [{}, shown],
    [{ username: 'Lovelace', roles: ['editor', 'author'] }, shown],
    [{ email: 'ada@example.COM' }, { ...shown, email: 'ada@example.COM' }],
    [{ username: 'LOVELACE' }, { username: 'LOVELACE', email_verified: true }],
  ]
  for (const [body, as] of same)
    t.match(json(await edit(body)), as, `${JSON.stringify(body)}: another spelling is the same`)
  t.match(json(await edit({ email: 'other@example.com' })), { email: 'other@example.com', email_verified: false })
  t.match(json(await edit({ email_verified: true })), { email: 'other@example.com', email_verified: true })
  t.match(json(await edit({ email_verified: false })), { email_verified: false })
  t.equal(json(await edit({ email: null })).email, undefined)
  t.equal((await storeOf(app).findUser(id))?.emailKey, undefined)
  t.ok(await isAccepted(app, tokens.access_token), 'none of it ends a session')
  await edit({ roles: ['author'] })
  t.equal(await challengeTo(app, tokens.access_token), challenges.revoked, 'but a role that is taken away')
  t.equal((await refresh(app, tokens.refresh_token)).statusCode, 400)
  await logIn(app, 'lovelace')
  t.equal((await logInAs(app, 'ada')).statusCode, 400, 'by the old name')
})

overStores('a name and a verified address have one user, also when many are changed at once', async (t, build) => {
  const { app, call, beside } = await administered(build)
  const { app: other } = await beside()
  const ids: string[] = []
  for (let i = 0; i < 8; i++) ids.push(json(await call('POST', '/admin/users', { username: `user-${i}`, password })).id)
  for (const [edit, code] of [
    [{ username: 'Ada' }, 'username_taken'],
    [verified('ada@example.com'), 'email_taken'],
  ] as const) {
    const by = { log: app.log }
    const { email_verified: emailVerified, ...rest } = { email_verified: undefined, ...edit }
    const asked = { ...rest, ...(emailVerified && { emailVerified }) }
    const ends = await Promise.allSettled(
      ids.map((id, i) => (i % 2 ? app : other).userAdmin.change(by, id, asked as object)),
    )
    const refused = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason.code] : []))
    t.same(refused, Array(7).fill(code))
  }
  const [first = ''] = ids
  const edits = Array.from({ length: 12 }, (_, i) => call('PATCH', `/admin/users/${first}`, { roles: [`role-${i}`] }))
  const named = call('PATCH', `/admin/users/${first}`, { username: 'grace' })
  for (const answer of await Promise.all([...edits, named])) t.equal(answer.statusCode, 200, answer.body)
  t.match(
    json(await call('GET', `/admin/users/${first}`)),
    { username: 'grace', roles: [/^role-\d+$/] },
    'no change is lost',
  )
})

overStores('another address ends the links that were sent, and the old one is told', async (t, build) => {
  const { app, call } = await administered(build, await mailsInto(t))
  const { id } = json(await call('POST', '/admin/users', { username: 'ada', password }))
  const edit = (body: object) => call('PATCH', `/admin/users/${id}`, body)
  const { mails } = outboxOf(app)
  const kinds = ['verify', 'change', 'reset', 'undo'] as const
  const of = { owner: id, source: 'x', locale: 'en', to: 'x@example.com' } as const
  const send = () => Promise.all(kinds.map((kind) => app.mail.issue(kind, of)))
  const good = async (sent: Awaited<ReturnType<typeof send>>) =>
    (await Promise.all(sent.map(({ secret }) => app.mail.present([...kinds], { token: secret })))).flatMap(
      (link) => link?.kind ?? [],
    )
  const notices = () => mails.filter(({ kind }) => kind === 'email_changed').map(({ to }) => to)

  await edit({ email: 'first@example.com' })
  const sent = await send()
  await edit({ email_verified: true, username: 'lovelace' })
  t.same(await good(sent), kinds, 'not by a name, nor by what was verified')
  await edit({ email: 'second@example.com' })
  t.same(await good(sent), [], 'whoever has the old mailbox has no way back')
  t.same(notices(), ['first@example.com'])
  await edit({ email: 'third@example.com' })
  t.same(notices(), ['first@example.com'], 'nobody has shown that the second one is theirs')
  await edit({ email_verified: true })
  const later = await send()
  await edit({ email: null })
  t.same(await good(later), [])
  t.same(notices(), ['first@example.com', 'third@example.com'])
  t.match(mails.at(-1), { locale: 'en', about: { username: 'lovelace', how: 'set' } })

  const last = await send()
  await call('PUT', `/admin/users/${id}/password`, { password: `${password}, another` })
  t.same(await good(last), ['undo'], 'a password ends all but the way back')
  await call('DELETE', `/admin/users/${id}`)
  t.same(await good(last), [])
})

onOneStore('what is no name, no address or no change is refused, and nothing of it is done', async (t, build) => {
  const { app, call, adminId } = await administered(build)
  const { id } = json(await call('POST', '/admin/users', { username: 'ada', password }))
  for (const [body, pointer] of [
    [{ username: 'a b' }, '/username'],
    [{ username: null }, '/username'],
    [{ email: 'ada' }, '/email'],
    [{ email: '"a b"@example.com' }, '/email'],
    [{ email: 'ada@example.com\n' }, '/email'],
    [{ email: 'a@example.com,b@example.com' }, '/email'],
    [{ email_verified: true }, '/email_verified'],
    [{ ...verified('x@example.com'), email: null }, '/email_verified'],
    [{ email_verified: 'yes' }, '/email_verified'],
    [{ roles: ['a b'] }, '/roles/0'],
    [{ roles: null }, '/roles'],
    [{ password: 'x' }, '/password'],
  ] as [object, string][]) {
    const what = JSON.stringify(body)
    const answer = await call('PATCH', `/admin/users/${id}`, {
      ...body,
      ...(pointer !== '/username' && { username: 'eve' }),
    })
    await isProblem(t, answer, 400, 'invalid_request', what)
    t.equal(json(answer).errors[0].pointer, pointer, what)
  }
  t.match(json(await call('GET', `/admin/users/${id}`)), { username: 'ada', roles: [] })
  await isProblem(
    t,
    await call('PATCH', `/admin/users/${adminId}`, { roles: [] }),
    409,
    'own_account',
    'their own access',
  )
  t.equal(
    (await call('PATCH', `/admin/users/${adminId}`, { username: 'boss', roles: ['admin', 'editor'] })).statusCode,
    200,
  )
  for (const none of ['0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b', 'x'])
    await isProblem(t, await call('PATCH', `/admin/users/${none}`, {}), 404, 'not_found', none)
  t.equal((await app.inject({ method: 'PATCH', url: `/admin/users/${id}` })).statusCode, 401)
})
