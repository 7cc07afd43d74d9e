import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { mailKinds, retriesMs } from '../../plugins/mail/outbox.ts'
import { leaseMs } from '../../plugins/records/due.ts'
import { failStore, until } from '../support/client-helper.ts'
import { onOneStore, overStores, type Scope, signUp, storeOf, type TestApp } from '../support/helper.ts'
import { fieldOf, type MailServer, partOf, startMailServer } from '../support/mail-server.ts'

/* When mails leave: after the answer, at least once, by one of all processes, tried again, contract section 10. */

const settingsFor = ({ port }: Pick<MailServer, 'port'>) => ({
  AUTH_MAIL_FROM: 'Example <accounts@example.com>',
  AUTH_SMTP_URL: `smtp://127.0.0.1:${port}`,
})
const to = 'ada@example.com'
const owner = '2d5c9f4e-0a53-4c8f-9d0e-2f8f1f4a6b11'
const issue = (app: FastifyInstance, who = owner) =>
  app.mail.issue('reset', { owner: who, source: '192.0.2.0/24', to, locale: 'en' })

async function buildWith(t: Scope, build: (settings: Record<string, string>) => Promise<TestApp>) {
  const server = await startMailServer(t)
  return { server, ...(await build(settingsFor(server))) }
}
/** Looks at once for what is due, and waits until it is sent or refused. */
async function look(app: FastifyInstance): Promise<void> {
  await app.outbox.look()
  await app.outbox.sent()
}
const recordOf = async ({ app, clock }: Pick<TestApp, 'app' | 'clock'>, id: string, kind = 'reset') =>
  storeOf(app).findRecord({ kind, id, now: clock.now })
const codeIn = ({ raw }: { raw: string }) => /^\d{8}(?=\r?$)/m.exec(partOf(raw, 'text/plain'))?.[0]

overStores('a mail leaves within a moment, and then its record has no link any more', async (t, build) => {
  const { server, ...test } = await buildWith(t, build)
  const { id, link, secret } = await issue(test.app)
  await until(() => server.taken.length > 0)
  await test.app.outbox.sent()
  const [mail = { raw: '', to: [] }] = server.taken
  t.same(mail.to, [to])
  t.ok(partOf(mail.raw, 'text/plain').includes(link))
  t.equal(fieldOf(mail.raw, 'Message-ID'), `<${id}@example.com>`)
  const record = await recordOf(test, id)
  t.equal(record?.dueAt, undefined)
  t.notOk(JSON.stringify(record).includes(secret))
  await look(test.app)
  t.equal(server.taken.length, 1, 'and not again')
  t.ok(await test.app.mail.present(['reset'], { id, code: codeIn(mail) as string }), 'its code is good still')
  t.ok(await test.app.mail.present(['reset'], { token: secret }), 'and its link')
  t.match(
    test.logs.filter(({ msg }) => msg === 'a mail was sent'),
    [{ mail: id, kind: 'reset' }],
  )
  t.notOk(JSON.stringify(test.logs).includes(secret))
})

onOneStore('a mail goes to the domain by which its address is compared, however it is written', async (t, build) => {
  const { server, app } = await buildWith(t, build)
  for (const domain of ['ｅxample.com', 'Bücher.example', 'STRAẞE.example'])
    await app.mail.issue('verify', { owner: domain, source: '192.0.2.0/24', to: `Ada@${domain}`, locale: 'en' })
  await until(() => server.taken.length === 3)
  // Of the envelope the server shows the domain in Unicode, in whatever form it came.
  t.same(server.taken.map(({ raw }) => fieldOf(raw, 'To')).sort(), [
    'Ada@example.com',
    'Ada@xn--bcher-kva.example',
    'Ada@xn--strae-oqa.example',
  ])
})

onOneStore('a notice in the place of a link leaves once, with neither link nor code', async (t, build) => {
  const { server, ...test } = await buildWith(t, build)
  const of = { owner, source: '192.0.2.0/24', to, locale: 'en' as const, says: 'address_taken' as const }
  const { id, secret, link } = await test.app.mail.issue('verify', of)
  await until(() => server.taken.length > 0)
  await look(test.app)
  t.equal(server.taken.length, 1)
  const [{ raw } = { raw: '' }] = server.taken
  t.match(fieldOf(raw, 'Subject'), 'you have an account already')
  for (const hidden of [secret, link, 'https://', 'code']) t.notOk(partOf(raw, 'text/plain').includes(hidden))
  const { dueAt } = (await recordOf(test, id, 'verify')) ?? { dueAt: 0 }
  t.equal(dueAt, undefined, 'and its record stays, as of any link')
})

overStores('three replicas send each mail once', async (t, build) => {
  const { server, app, beside } = await buildWith(t, build)
  const apps = [app, (await beside()).app, (await beside()).app]
  const ids = await Promise.all(
    Array.from({ length: 30 }, async (_, i) => {
      const { id } = await issue(apps[i % 3] as FastifyInstance, `user-${i}`)
      return id
    }),
  )
  await Promise.all(apps.map((one) => one.outbox.look()))
  await until(() => server.taken.length >= ids.length)
  for (const one of apps) await look(one)
  t.same(
    server.taken.map(({ raw }) => fieldOf(raw, 'Message-ID')).sort(),
    ids.map((id) => `<${id}@example.com>`).sort(),
  )
  t.equal(
    apps.reduce((sum, one) => sum + one.outbox.attempts.sent, 0),
    30,
  )
})

onOneStore('what is not taken is tried again after the pauses of the contract, then given up', async (t, build) => {
  const { server, ...test } = await buildWith(t, build)
  const { app, clock, logs } = test
  server.answer = { at: 'rcpt', with: '451 4.7.1 Greylisted' }
  await app.mail.tell('password_changed', { owner, to, locale: 'ko' })
  await look(app)
  for (const [i, pauseMs] of retriesMs.entries()) {
    t.equal(server.reached.rcpt, i + 1)
    clock.now += pauseMs - 1
    await look(app)
    t.equal(server.reached.rcpt, i + 1, 'not sooner')
    clock.now += 1
    await look(app)
  }
  t.equal(server.reached.rcpt, 7)
  t.match(
    logs.filter(({ event }) => event === 'mail.failed'),
    [{ kind: 'password_changed', tries: 7, sub: owner, reason: /451 4.7.1 Greylisted/ }],
  )
  t.notOk(JSON.stringify(logs).includes(to))
  clock.now += 12 * 3_600_000
  server.answer = undefined
  await look(app)
  t.same([server.reached.rcpt, server.taken.length], [7, 0], 'and not again')

  await app.mail.tell('password_changed', { owner, to, locale: 'ko' })
  server.answer = { at: 'data', with: '550 5.7.1 the relay is set wrongly' }
  await look(app)
  server.answer = undefined
  clock.now += retriesMs[0] as number
  await look(app)
  t.equal(server.taken.length, 1, 'a refusal for good is no end, either')
  t.same(await storeOf(app).dueRecords(mailKinds, Number.MAX_SAFE_INTEGER, 10), [], 'nothing is left of a notice')
})

onOneStore('nothing is sent for a link that has expired, was used, or has another in its place', async (t, build) => {
  const { server, ...test } = await buildWith(t, build)
  const { app, clock, logs } = test
  server.answer = { at: 'rcpt', with: '451 4.7.1 later' }
  const used = await issue(app, 'user-1')
  const replaced = await issue(app, 'user-2')
  await issue(app, 'user-3')
  await look(app)
  const taking = (await app.mail.present(['reset'], { token: used.secret }))?.taking
  if (!taking) throw new Error('not presented')
  await storeOf(app).takeRecord(taking)
  const next = await issue(app, 'user-2')
  server.answer = undefined
  clock.now += retriesMs[0] as number
  await look(app)
  const ids = server.taken.map(({ raw }) => fieldOf(raw, 'Message-ID')?.slice(1, 44))
  t.equal(ids.length, 2)
  t.ok(ids.includes(next.id))
  t.notOk(ids.includes(used.id) || ids.includes(replaced.id))

  server.answer = { at: 'rcpt', with: '451 4.7.1 later' }
  await issue(app, 'user-4')
  for (const pauseMs of [0, ...retriesMs]) {
    clock.now += pauseMs
    await look(app)
  }
  t.match(
    logs.filter(({ event }) => event === 'mail.failed'),
    [{ tries: 5, kind: 'reset' }],
    'it is told when the next try would come too late',
  )
})

onOneStore('guesses at the code do not have a mail that is being sent leave twice', async (t, build) => {
  const { server, ...test } = await buildWith(t, build)
  const { app } = test
  const { id } = await issue(app)
  server.answer = {
    at: 'data',
    with: async () => {
      for (let i = 0; i < 3; i++) await app.mail.present(['reset'], { id, code: '00000000' })
      return undefined
    },
  }
  await look(app)
  t.equal(server.taken.length, 1)
  t.match(await recordOf(test, id), { misses: 3, dueAt: undefined })
  await look(app)
  t.equal(server.taken.length, 1)
})

overStores('of a process that is gone another sends on, as soon as nobody has the mail', async (t, build) => {
  const { server, ...test } = await buildWith(t, build)
  const { app, clock } = test
  const { id } = await issue(app)
  const [record] = await storeOf(app).dueRecords(mailKinds, clock.now, 1)
  if (!record) throw new Error('not due')
  // As the process had it that was killed in the middle.
  await storeOf(app).replaceRecord({ ...record, now: clock.now }, record.version, record.data, clock.now + leaseMs)
  const { app: another } = await test.beside()
  await look(another)
  t.equal(server.taken.length, 0)
  clock.now += leaseMs
  await look(another)
  t.equal(fieldOf(server.taken[0]?.raw ?? '', 'Message-ID'), `<${id}@example.com>`)
})

onOneStore('a mail that is being sent at the end of the app is sent by the next', async (t, build) => {
  const { server, ...test } = await buildWith(t, build)
  server.answer = { at: 'rcpt', with: () => sleep(60_000, undefined, { ref: false }) }
  await issue(test.app)
  await test.app.outbox.look()
  await until(() => server.reached.rcpt === 1)
  const startedAt = performance.now()
  await test.app.close()
  t.ok(performance.now() - startedAt < 4_000)
  server.answer = undefined
  const { app } = await test.restart()
  await look(app)
  t.equal(server.taken.length, 1)
})

onOneStore('a mail server that is dead fails no request', async (t, build) => {
  const server = await startMailServer(t)
  const { app } = await build(settingsFor(server))
  await server.close()
  await issue(app)
  await look(app)
  t.equal((await signUp(app)).statusCode, 201)
  t.same(app.outbox.attempts, { sent: 0, failed: 1 })
})

onOneStore('while the store does not answer, mails wait for it', async (t, build) => {
  const { server, ...test } = await buildWith(t, build)
  const { app, clock } = test
  await issue(app)
  const heal = failStore(app, /replaceRecord/)
  await app.outbox.look().catch(() => {})
  heal()
  await look(app)
  t.equal(server.taken.length, 1)
  const again = await issue(app)
  server.answer = {
    at: 'data',
    with: () => {
      healLater = failStore(app, /replaceRecord/)
      return undefined
    },
  }
  let healLater = () => {}
  await look(app)
  healLater()
  server.answer = undefined
  clock.now += leaseMs
  await look(app)
  const sent = server.taken.filter(({ raw }) => raw.includes(again.id))
  t.equal(sent.length, 2, 'whether it was sent could not be written: once more, with the same id')
})

onOneStore('where mails are off nothing is sent, and nothing waits', async (t, build) => {
  const { app } = await build()
  await app.mail.tell('password_changed', { owner, to, locale: 'en' })
  await look(app)
  t.same(await storeOf(app).dueRecords(mailKinds, Number.MAX_SAFE_INTEGER, 10), [])
})
