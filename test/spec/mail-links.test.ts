import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Refusal } from '../../errors.ts'
import { type Message, mailRecords } from '../../plugins/mail/mail.ts'
import { mailKinds } from '../../plugins/mail/outbox.ts'
import { overStores } from '../support/helper.ts'

const asked = () => ({ owner: randomUUID(), source: '192.0.2.0/24', to: 'ada@example.com', locale: 'en' as const })

overStores('a link and the code of its mail are good once, for whichever comes first', async (t, build) => {
  const { app } = await build()
  const of = asked()
  const { id, secret, link } = await app.mail.issue('reset', of)
  t.equal(link, `http://localhost:3000/reset?token=${secret}`)
  const mail = (await mailRecords(app).present('reset', secret))?.data as Message
  t.match(mail, { kind: 'reset', to: of.to, token: secret, code: /^\d{8}$/ })
  const code = mail.code as string
  const byLink = await app.mail.present(['reset'], { token: secret })
  t.match(byLink, { kind: 'reset', owner: of.owner, to: of.to, taking: { id } })
  const typed = ` ${code.slice(0, 4)} ${code.slice(4)}`
  t.strictSame((await app.mail.present(['verify', 'reset'], { id, code: typed }))?.taking.id, id)
  t.equal(await app.mail.present(['verify'], { token: secret }), undefined, 'of its kind only')
  t.ok(await app.store.takeRecord(byLink?.taking as never))
  for (const by of [{ token: secret }, { id, code }]) t.equal(await app.mail.present(['reset'], by), undefined)
})

overStores('a new link ends the one before, a way back ends none', async (t, build) => {
  const { app } = await build()
  const of = asked()
  const present = (kind: 'verify' | 'undo', token: string) => app.mail.present([kind], { token })
  const [first, second] = [await app.mail.issue('verify', of), await app.mail.issue('verify', of)]
  t.equal(await present('verify', first.secret), undefined)
  t.ok(await present('verify', second.secret))
  const [back, later] = [await app.mail.issue('undo', of), await app.mail.issue('undo', of)]
  for (const { secret } of [back, later]) t.ok(await present('undo', secret))
  t.same(await app.store.dueRecords(mailKinds, app.now(), 10), [], 'and without a transport nothing is to be sent')
  const many = await Promise.all(Array.from({ length: 20 }, () => app.mail.issue('verify', of).catch(() => undefined)))
  const good = await Promise.all(many.map((one) => one && present('verify', one.secret)))
  t.equal(good.filter(Boolean).length, 1, 'of many at once one is left')
})

overStores('five wrong codes kill the link too, and what is nobody’s has no right code', async (t, build) => {
  const { app } = await build()
  const { id, secret } = await app.mail.issue('verify', asked())
  for (let i = 0; i < 5; i++) {
    t.ok(await app.mail.present(['verify'], { token: secret }))
    t.equal(await app.mail.present(['change', 'verify'], { id, code: 'wrong' }), undefined)
  }
  t.equal(await app.mail.present(['verify'], { token: secret }), undefined)
  const { to: _, ...nobodys } = asked()
  const decoy = await app.mail.issue('reset', nobodys)
  const records = mailRecords(app)
  const { code } = ((await records.present('reset', decoy.secret)) as { data: Message }).data
  t.equal(await app.mail.present(['reset'], { id: decoy.id, code: code as string }), undefined)
  t.match(await app.store.findRecord({ kind: 'reset', id: decoy.id, now: app.now() }), { misses: 1 }, 'and is counted')
})

overStores('one mail a minute, five an hour and twenty a day go to an address, of each kind', async (t, build) => {
  const { app, clock } = await build()
  const ask = () => app.mailLimits.ofAddress('reset', 'ada@example.com')
  const sent: number[] = []
  const begin = clock.now
  for (; clock.now < begin + 3 * 86_400_000; clock.now += 30_000)
    if ((clock.now - begin) % 600_000 < 120_000 && (await ask())) sent.push(clock.now)
  for (const at of sent) {
    const within = (ms: number) => sent.filter((time) => time >= at && time < at + ms).length
    t.ok(within(60_000) <= 1 && within(3_600_000) <= 5 && within(86_400_000) <= 20)
  }
  t.ok(sent.length > 50, `${sent.length} in three days`)
  t.ok(await app.mailLimits.ofAddress('verify', 'ada@example.com'))
  t.ok(await app.mailLimits.ofAddress('reset', 'bob@example.com'))
})

overStores(
  'of many who ask for a mail to an address at once, one gets it, also a day after the last',
  async (t, build) => {
    const one = await build()
    const two = await one.beside()
    for (const hours of [0, 25, 25]) {
      one.clock.now += hours * 3_600_000
      const asked = Array.from({ length: 100 }, (_, i) =>
        (i % 2 ? one : two).app.mailLimits.ofAddress('reset', 'ada@example.com'),
      )
      t.equal((await Promise.all(asked)).filter(Boolean).length, 1, `${hours} h later`)
    }
  },
)

overStores('a network asks twenty times an hour, however many at once, by all replicas', async (t, build) => {
  const test = await build()
  const beside = await test.beside()
  const ask = (app: FastifyInstance, address: string, by?: string) =>
    app.mailLimits.ofSource({ address, by }).catch((refusal: Refusal) => refusal)
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, i) => ask(i % 2 ? test.app : beside.app, `192.0.2.${i}`)),
  )
  const refused = answers.filter((answer) => answer !== undefined)
  t.equal(refused.length, 40)
  for (const { code, headers } of refused) t.same([code, headers], ['too_many_requests', { 'retry-after': '3600' }])
  t.notOk(await ask(test.app, '192.0.3.1'), 'each network for itself')
  t.notOk(await ask(test.app, '192.0.2.1', 'an administrator'))
  test.clock.now += 3_600_000
  t.notOk(await ask(test.app, '192.0.2.1'))
  const off = await build({ AUTH_THROTTLE: 'off' })
  for (let i = 0; i < 30; i++) t.notOk(await ask(off.app, '192.0.2.1'))
})
