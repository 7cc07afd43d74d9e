import type { FastifyInstance } from 'fastify'
import { administered, isProblem, logInAs } from '../support/admin.ts'
import { json, logIn, onOneStore, overStores, password, storeOf, withToken } from '../support/helper.ts'
import { mailsInto, outboxOf } from '../support/mail.ts'

/* Accounts that somebody is invited to: docs/administration.md. */

const days = 86_400_000
const accept = (app: FastifyInstance, invitation: string, payload: object = {}) =>
  app.inject({ method: 'POST', url: '/signup', payload: { invitation, password, ...payload } })

overStores('an invitation makes the account that it says, also while signup is closed', async (t, build) => {
  const { token: admin, restart } = await administered(build)
  const { app, clock, logs } = await restart({ AUTH_SIGNUP: 'closed' })
  const call = (method: 'GET' | 'POST', url: string, payload = {}) => withToken(app, admin, { method, url, payload })
  const whom = { email: 'Ada@Example.com', username: 'Ada', roles: ['editor'] }
  const answer = await call('POST', '/admin/invitations', whom)
  t.equal(answer.statusCode, 201)
  const { id, token, link, expires_at, mailed } = json(answer)
  t.equal(link, `http://localhost:3000/sign-up?invitation=${token}`)
  t.match(token, /^lki_[\w-]{43}$/)
  t.same([Date.parse(expires_at), mailed], [clock.now + 7 * days, false])
  t.equal(answer.headers['cache-control'], 'no-store')

  const made = await accept(app, token)
  t.equal(made.statusCode, 201, made.body)
  t.match(json(made), { username: 'Ada', id: String })
  const user = json(await call('GET', `/admin/users/${json(made).id}`))
  t.match(user, { username: 'Ada', roles: ['editor'], email: whom.email, email_verified: true, locale: 'en' })
  await logIn(app, 'ada')
  await isProblem(t, await accept(app, token, { username: 'eve' }), 400, 'invalid_code', 'a second time')
  await isProblem(
    t,
    await app.inject({ method: 'POST', url: '/signup', payload: { username: 'eve', password } }),
    403,
    'signup_closed',
    'without',
  )

  await app.audit.written()
  const { events } = json(await call('GET', '/admin/audit'))
  t.match(
    events.find(({ event }: { event: string }) => event === 'invitation.made'),
    {
      by: String,
      detail: { invitation: id, roles: ['editor'], mailed: false },
    },
  )
  t.match(
    events.find(({ event }: { event: string }) => event === 'user.created'),
    { detail: { invitation: id } },
  )
  t.notOk(JSON.stringify([events, logs]).includes(token), 'the trail and the log know who invited, and no secret')
})

overStores('two hundred sign-ups by one invitation at once make one account', async (t, build) => {
  const { app, call, beside } = await administered(build, { AUTH_HASH_MAX_WAIT: '60s' })
  const { app: other } = await beside()
  const { token } = json(await call('POST', '/admin/invitations'))
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) => accept(i % 2 ? other : app, token, { username: `user-${i}` })),
  )
  const made = answers.filter(({ statusCode }) => statusCode === 201)
  t.equal(made.length, 1)
  const others = answers.filter((answer) => answer !== made[0])
  const told = new Set(others.map(({ statusCode }) => statusCode))
  // On a busy machine PostgreSQL may be too slow for some.
  told.delete(503)
  t.same([...told], [400])
  const { users } = json(await call('GET', '/admin/users?prefix=user-'))
  t.equal(users.length, 1)
})

overStores('what is refused does not take the invitation', async (t, build) => {
  const { app, call } = await administered(build)
  const { token } = json(await call('POST', '/admin/invitations', { email: 'ada@example.com', roles: ['editor'] }))
  const refused: [string, object, number, string][] = [
    ['a name that is none', { username: 'a b' }, 400, 'invalid_request'],
    ['a name that is taken', { username: 'ROOT' }, 409, 'username_taken'],
    ['a weak password', { username: 'ada', password: 'password' }, 400, 'invalid_request'],
    ['an unknown member', { username: 'ada', roles: ['admin'] }, 400, 'invalid_request'],
  ]
  for (const [what, body, status, code] of refused)
    await isProblem(t, await accept(app, token, body), status, code, what)
  t.equal((await accept(app, token, { username: 'ada' })).statusCode, 201)

  const unnamed = json(await call('POST', '/admin/invitations')).token
  const nameless = await accept(app, unnamed)
  await isProblem(t, nameless, 400, 'invalid_request', 'no name')
  t.match(json(nameless).errors, [{ pointer: '/username', detail: 'is required' }])
  const { token: addressed } = json(await call('POST', '/admin/invitations', { email: 'Eve+x@example.com' }))
  t.equal(json(await accept(app, addressed)).username, 'Eve+x@example.com', 'but the address may be one')

  const named = json(await call('POST', '/admin/invitations', { username: 'Bob' })).token
  const other = await accept(app, named, { username: 'eve' })
  await isProblem(t, other, 400, 'invalid_request', 'another name than that of the invitation')
  t.match(json(other).errors, [{ pointer: '/username' }])
  t.equal(json(await accept(app, named, { username: 'bOB' })).username, 'Bob', 'in any spelling')
})

overStores('an invitation ends when it is withdrawn, replaced or old', async (t, build) => {
  const { app, call, clock, token: admin } = await administered(build)
  const invite = async (body = {}) => json(await call('POST', '/admin/invitations', body))
  const isGone = async (token: string, what: string) =>
    isProblem(t, await accept(app, token, { username: 'ada' }), 400, 'invalid_code', what)

  const withdrawn = await invite()
  t.equal((await call('DELETE', `/admin/invitations/${withdrawn.id}`)).statusCode, 204)
  await isGone(withdrawn.token, 'withdrawn')
  for (const id of [withdrawn.id, 'x', '%00', 'A'.repeat(43)])
    await isProblem(t, await call('DELETE', `/admin/invitations/${id}`), 404, 'not_found', id)

  for (const whom of [{ email: 'eve@example.com' }, { username: 'eve' }]) {
    const first = await invite(whom)
    const second = await invite(whom)
    await isGone(first.token, 'replaced')
    t.equal((await call('DELETE', `/admin/invitations/${second.id}`)).statusCode, 204)
  }
  const [one, other] = [await invite(), await invite()]
  t.equal((await accept(app, one.token, { username: 'first' })).statusCode, 201)
  const reset = await app.mail.issue('reset', { owner: 'x', source: 'x', locale: 'en' })
  for (const token of [reset.secret, other.id, '', 'lki_']) await isGone(token, `the text ${token.slice(0, 4)}`)
  clock.now += 7 * days
  await isGone(other.token, 'seven days later')
  t.equal((await withToken(app, admin, { url: '/users/me' })).statusCode, 401, 'which ended everything else, too')
})

overStores('an invited address counts as verified where nobody has it by then', async (t, build) => {
  const { app, call, clock } = await administered(build, await mailsInto(t))
  const email = 'ada@example.com'
  const { token } = json(await call('POST', '/admin/invitations', { email }))
  const { id } = json(await call('POST', '/admin/users', { username: 'bob', password }))
  await call('PATCH', `/admin/users/${id}`, { email, email_verified: true })
  await isProblem(t, await call('POST', '/admin/invitations', { email: 'ADA@example.com' }), 409, 'email_taken', 'now')
  await isProblem(t, await call('POST', '/admin/invitations', { username: 'Bob' }), 409, 'username_taken', 'a name')
  const made = json(await accept(app, token, { username: 'ada' }))
  t.match(json(await call('GET', `/admin/users/${made.id}`)), { email, email_verified: false })
  t.equal((await storeOf(app).findUserByEmail(email))?.id, id)

  clock.now += 60_000
  const shared = 'shared@example.com'
  const tokens: string[] = []
  for (let i = 0; i < 4; i++) {
    const invited = json(await call('POST', '/admin/invitations', { email: shared }))
    tokens.push(invited.token)
  }
  const answers = await Promise.all(tokens.map((token, i) => accept(app, token, { username: `shared-${i}` })))
  const ids = answers.filter(({ statusCode }) => statusCode === 201).map((answer) => json(answer).id)
  const users = await Promise.all(ids.map(async (id) => json(await call('GET', `/admin/users/${id}`))))
  t.equal(users.filter(({ email_verified }) => email_verified).length, 1, `of ${users.length} at once one has it`)
  t.ok(users.length > 1)
})

onOneStore('an invitation is mailed within the limits, and handed over beyond', async (t, build) => {
  const { app, call, clock } = await administered(build, await mailsInto(t))
  const { mails } = outboxOf(app)
  const invite = async (body: object) => json(await call('POST', '/admin/invitations', body))
  const email = 'Ada@example.com'
  const first = await invite({ email })
  t.equal(first.mailed, true)
  t.match(mails, [{ kind: 'invitation', to: email, locale: 'en', token: first.token }])
  const second = await invite({ email: 'ada@example.com', roles: ['editor'] })
  t.equal(second.mailed, false, 'a second one within the minute')
  clock.now += 60_000
  t.equal((await invite({ username: 'bob' })).mailed, false, 'to whom?')
  t.ok(await app.mail.present(['invitation'], { token: first.token }), 'which is not ended by it')
  t.equal((await invite({ email })).mailed, true)
  t.equal(await app.mail.present(['invitation'], { token: first.token }), undefined, 'but by the one that is mailed')
  for (let i = 0; i < 30; i++) t.equal((await invite({})).mailed, false)
  t.equal(mails.length, 2)
})

onOneStore('who may invite, and with what', async (t, build) => {
  const { app, call } = await administered(build)
  for (const body of [
    { email: 'ada' },
    { email: 'a@b@c' },
    { email: '"a b"@example.com' },
    { email: 'ada@example.com\r\nbcc: eve@example.com' },
    { email: null },
    { username: '' },
    { username: 'a b' },
    { roles: 'admin' },
    { roles: ['a,b'] },
    { name: 'ada' },
  ])
    await isProblem(t, await call('POST', '/admin/invitations', body), 400, 'invalid_request', JSON.stringify(body))
  await app.inject({ method: 'POST', url: '/signup', payload: { username: 'ada', password } })
  const { access_token } = json(await logInAs(app, 'ada'))
  const asAda = await withToken(app, access_token, { method: 'POST', url: '/admin/invitations', payload: {} })
  await isProblem(t, asAda, 403, 'insufficient_scope', 'no administrator')
})
