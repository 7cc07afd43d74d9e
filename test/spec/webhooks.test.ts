import type { FastifyInstance } from 'fastify'
import { retriesMs } from '../../domain/webhook.ts'
import { failStore, until } from '../support/client-helper.ts'
import { json, logIn, onOneStore, overStores, signUp, storeOf, type TestApp, withToken } from '../support/helper.ts'
import { newWebhookSecret, type Receiver, startReceiver, webhookSettings } from '../support/receiver.ts'

/* Events that are told to others, contract section 13 and docs/webhooks.md. */

const endpointOf = ({ url, secret }: Receiver) => ({ url, secret })
const typesOf = ({ received }: Receiver) => received.map(({ type }) => type)
/** Looks at once for what there is to send; the job does so once a second. */
const look = (app: FastifyInstance) => Promise.all(app.webhooks.senders.map(({ round }) => round()))
const statusOf = async (app: FastifyInstance, i = 0) => (await app.webhooks.senders[i]?.look())?.position
/** Has the next try come, which follows after a pause. */
async function tryAgain({ app, clock }: TestApp, afterMs: number | undefined): Promise<void> {
  clock.now += afterMs ?? 0
  await look(app)
}

overStores('what happens is sent within a moment, signed, in order, with the audit row', async (t, build) => {
  const receiver = await startReceiver(t)
  const { app } = await build(await webhookSettings(t, [endpointOf(receiver)]))
  const { id } = json(await signUp(app))
  const { access_token: token } = await logIn(app)
  await withToken(app, token, { method: 'POST', url: '/logout' })
  await until(() => receiver.received.length >= 3)
  t.same(typesOf(receiver), ['user.created', 'login.succeeded', 'session.ended'])
  const [made, loggedIn] = receiver.received
  t.match(made?.data, { id: made?.id, event: 'user.created', outcome: 'success', user: id })
  t.match(loggedIn?.data, { user: id, session: /./, client: 'first-party', address: '127.0.0.1' })
  t.match(made?.headers, { 'content-type': 'application/json', 'user-agent': /^Latchkey\// })
  t.same(receiver.forged, [])
})

overStores('three replicas send each event once, in order', async (t, build) => {
  const receiver = await startReceiver(t)
  const first = await build(await webhookSettings(t, [endpointOf(receiver)]))
  const apps = [first.app, (await first.beside()).app, (await first.beside()).app]
  const { id: userId } = json(await signUp(first.app))
  const sub = { userId }
  const roles = Array.from({ length: 40 }, (_, i) => [`role-${i}`])
  let before: string[] = []
  for (const [i, next] of roles.entries()) {
    const app = apps[i % apps.length] as FastifyInstance
    await app.userAdmin.change({ ...app, log: app.log } as never, sub.userId, { roles: next })
    await Promise.all(apps.map(look))
    before = next
  }
  await until(() => receiver.received.length > roles.length)
  t.same(
    receiver.received.slice(1).map(({ data }) => data.detail.roles),
    roles,
  )
  t.same(before, ['role-39'])
})

onOneStore('an endpoint begins at now, wants what it names, and goes on where it was', async (t, build) => {
  const receiver = await startReceiver(t)
  const old = await build()
  await signUp(old.app, 'before')
  const settings = await webhookSettings(t, [{ ...endpointOf(receiver), events: ['user.*'] }])
  const test = await old.restart(settings)
  await signUp(test.app, 'ada')
  await logIn(test.app)
  await test.app.close()
  const meanwhile = await old.restart()
  await signUp(meanwhile.app, 'bob')
  const { app } = await old.restart(settings)
  await signUp(app, 'eve')
  await until(() => receiver.received.length >= 3)
  t.same(typesOf(receiver), ['user.created', 'user.created', 'user.created'], 'ada, bob and eve')
})

onOneStore(
  'what is not taken is sent again after the pauses of the contract, and nothing before it',
  async (t, build) => {
    const receiver = await startReceiver(t)
    const test = await build(await webhookSettings(t, [endpointOf(receiver)]))
    const { app, logs } = test
    receiver.answer = 500
    await signUp(app, 'ada')
    await signUp(app, 'bob')
    await look(app)
    for (const [i, pauseMs] of retriesMs.entries()) {
      t.match(await statusOf(app), { failures: i + 1, failing: { why: 'it answered 500' } })
      await tryAgain(test, pauseMs - 1)
      t.equal(receiver.received.length, i + 1, 'not sooner')
      await tryAgain(test, 1)
      t.equal(receiver.received.length, i + 2)
    }
    t.same(new Set(receiver.received.map(({ data }) => data.user)).size, 1, 'bob waits behind ada')
    t.equal(new Set(receiver.received.map(({ id }) => id)).size, 1, 'the same id with each try')
    t.ok(await statusOf(app).then((position) => position?.disabledAt))
    t.match(
      logs.filter(({ event }) => event === 'webhook.disabled'),
      [{ host: /^127/, reason: 'it answered 500' }],
    )

    await tryAgain(test, 100 * 86_400_000)
    t.equal(receiver.received.length, 7, 'disabled for good')
    receiver.answer = 204
    await app.webhooks.enable({ log: app.log } as never, app.webhooks.senders[0]?.endpoint.id as string)
    await look(app)
    t.same(typesOf(receiver).slice(7, 9), ['user.created', 'user.created'], 'and nothing was lost')
  },
)

onOneStore('410 disables at once; a redirect and a hanging answer are no answer', async (t, build) => {
  const receiver = await startReceiver(t)
  const { app } = await build(await webhookSettings(t, [endpointOf(receiver)]))
  receiver.answer = (_, response) => void response.writeHead(307, { location: receiver.url }).end()
  await signUp(app)
  await look(app)
  t.match(await statusOf(app), { failures: 1, failing: { why: 'it answered 307' } })
  receiver.answer = 410
  await app.webhooks.enable({ log: app.log } as never, app.webhooks.senders[0]?.endpoint.id as string)
  await look(app)
  t.match(await statusOf(app), { failures: 1, disabledAt: Number })
  t.equal(receiver.received.length, 2)
})

onOneStore('an endpoint that is dead, or never answers, delays no other and no request', async (t, build) => {
  const [good, silent] = [await startReceiver(t), await startReceiver(t)]
  silent.answer = () => {}
  const dead = { url: 'http://127.0.0.1:1/', secret: newWebhookSecret() }
  const { app } = await build(await webhookSettings(t, [dead, endpointOf(silent), endpointOf(good)]))
  await signUp(app)
  for (let i = 0; i < 5; i++) await logIn(app)
  const startedAt = performance.now()
  await until(() => good.received.length >= 6)
  t.ok(performance.now() - startedAt < 5_000)
  t.equal(silent.received.length, 1)
  const closingAt = performance.now()
  await app.close()
  t.ok(performance.now() - closingAt < 3_000, 'nor the end')
})

overStores('what a process did not finish, another goes on with', async (t, build) => {
  const receiver = await startReceiver(t)
  const { app, clock } = await build(await webhookSettings(t, [endpointOf(receiver)]))
  await signUp(app)
  const { id } = app.webhooks.senders[0]?.endpoint ?? { id: '' }
  const key = { kind: 'webhook', id: `webhook-${id}`, now: clock.now }
  // The first of two was sent when it was killed, and saved; the second perhaps sent.
  const record = await storeOf(app).findRecord(key)
  await storeOf(app).replaceRecord(
    key,
    record?.version ?? 0,
    JSON.stringify({ ...JSON.parse(record?.data ?? ''), holder: 'dead' }),
  )
  await look(app)
  const sent = receiver.received.length
  t.ok(sent <= 1, 'its own job may have been faster')
  await signUp(app, 'bob')
  await look(app)
  clock.passedMs = 31_000
  await until(() => receiver.received.length >= 2)
  t.same(typesOf(receiver), ['user.created', 'user.created'])
})

onOneStore(
  'while the store takes no writes nothing is sent, and what was sent just then is sent again',
  async (t, build) => {
    const receiver = await startReceiver(t)
    const { app, logs } = await build(await webhookSettings(t, [endpointOf(receiver)]))
    let heal = () => {}
    receiver.answer = (_, response) => {
      heal = failStore(app, /^replaceRecord$/)
      response.writeHead(204).end()
    }
    await signUp(app)
    await look(app)
    receiver.answer = 204
    t.equal(receiver.received.length, 1)
    await look(app)
    t.equal(receiver.received.length, 1, 'not again and again')
    t.ok(logs.some(({ msg }) => msg === 'a webhook waits for the store'))
    heal()
    await look(app)
    t.same(typesOf(receiver), ['user.created', 'user.created'])
    t.equal(new Set(receiver.received.map(({ id }) => id)).size, 1)
  },
)

onOneStore('resend sends what there was since a time again, with the ids that it had', async (t, build) => {
  const receiver = await startReceiver(t)
  const { app, clock } = await build(await webhookSettings(t, [endpointOf(receiver)]))
  await signUp(app, 'ada')
  await look(app)
  clock.now += 3_600_000
  await signUp(app, 'bob')
  await signUp(app, 'eve')
  await look(app)
  const created = () => receiver.received.filter(({ type }) => type === 'user.created').map(({ id }) => id)
  const had = created()
  t.equal(had.length, 3)
  const id = app.webhooks.senders[0]?.endpoint.id as string
  await app.webhooks.resend({ log: app.log } as never, id, '60s')
  await look(app)
  t.same(created().slice(3), had.slice(1))
  await app.webhooks.resend({ log: app.log } as never, id, '1970-01-01')
  await look(app)
  t.same(created().slice(5), had)
})

onOneStore('while a secret is changed, the receiver may know either', async (t, build) => {
  const [before, after] = [await startReceiver(t), await startReceiver(t)]
  const secrets = [after.secret, before.secret]
  const { app } = await build(
    await webhookSettings(t, [
      { url: before.url, secrets },
      { url: after.url, secrets },
    ]),
  )
  await signUp(app)
  await look(app)
  t.same([typesOf(before), typesOf(after)], [['user.created'], ['user.created']])
  t.same([before.forged, after.forged], [[], []])
})
