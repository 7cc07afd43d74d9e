import { createRecords, type RecordKind } from '../../plugins/records/records.ts'
import { type Build, overStores } from '../support/helper.ts'

const kinds = {
  code: { prefix: 'lkc_', ttlSeconds: 60, bounds: { perOwner: 3, perSource: 100 } },
  challenge: {
    prefix: 'lka_',
    ttlSeconds: 600,
    bounds: { perOwner: 100, perSource: 100 },
    mostMisses: 5,
    isSealed: true,
  },
} satisfies Record<string, RecordKind>
const asked = { owner: 'ada', source: '192.0.2.0/24', data: { nonce: 'n-0S6_WzA2Mj' } }

async function start(build: Build) {
  const { app, clock } = await build()
  const records = createRecords(app, kinds)
  const issue = async (kind: keyof typeof kinds) => {
    const issued = await records.issue(kind, asked)
    if (!issued) throw new Error('there was room')
    return issued
  }
  return { app, clock, records, issue }
}

overStores('a record is taken by its secret, once, of two hundred at once, contract §9', async (t, build) => {
  const { records, issue } = await start(build)
  const { secret, id } = await issue('code')
  t.match(secret, /^lkc_[\w-]{43}$/, '256 bits behind what says its kind')
  for (const text of ['', id, secret.slice(0, -1), secret.replace('lkc_', ''), secret.replace('lkc_', 'lka_')])
    t.equal(await records.take('code', text), undefined, 'no other text, and not its id')
  t.equal(await records.take('challenge', secret), undefined, 'nor as another kind')
  t.same((await records.find('code', secret))?.data, asked.data)
  const taken = await Promise.all(Array.from({ length: 200 }, () => records.take('code', secret)))
  t.same(
    taken.filter((one) => one !== undefined).map(({ data }) => data),
    [asked.data],
  )
})

overStores('the store has no secret of a record, and no sealed data', async (t, build) => {
  const { app, records, issue } = await start(build)
  const secrets = [(await issue('code')).secret, (await issue('challenge')).secret]
  const rows = JSON.stringify(await app.store.exportRows('records', { limit: 10 }))
  for (const secret of secrets) t.notOk(rows.includes(secret.slice(4)))
  t.equal(rows.split(asked.data.nonce).length, 2, 'that of the code, which is no secret')
  t.same((await records.take('challenge', secrets[1] ?? ''))?.data, asked.data)
})

overStores('a record lives for as long as its kind', async (t, build) => {
  const { clock, records, issue } = await start(build)
  const code = await issue('code')
  clock.now += 59_999
  t.ok(await records.find('code', code.secret))
  clock.now += 1
  t.equal(await records.take('code', code.secret), undefined)
})

overStores('an owner has as many as the bound of the kind, and all of them end together', async (t, build) => {
  const { records, issue } = await start(build)
  const codes = [await issue('code'), await issue('code'), await issue('code')]
  t.equal(await records.issue('code', asked), undefined)
  t.ok(await records.issue('code', { ...asked, owner: 'bob' }))
  t.equal(await records.end('ada', ['code']), 3)
  for (const { secret } of codes) t.equal(await records.take('code', secret), undefined)
})

overStores('a second use is seen, and says what the first gave', async (t, build) => {
  const { clock, records, issue } = await start(build)
  for (const kind of ['code', 'challenge'] as const) {
    const { secret } = await issue(kind)
    t.ok(await records.take(kind, secret, { gave: 'a session', until: clock.now + 600_000 }))
    t.equal(await records.take(kind, secret), undefined)
    t.match(await records.find(kind, secret), { record: { gave: 'a session' }, data: undefined })
  }
})

overStores('what belongs to a record is guessed five times, and then its secret is dead too', async (t, build) => {
  const { records, issue } = await start(build)
  const [guessed, other] = [await issue('challenge'), await issue('challenge')]
  for (let i = 0; i < 4; i++) t.equal(await records.guess('challenge', guessed.id, () => false), undefined)
  t.ok(await records.present('challenge', guessed.secret))
  const right = await records.guess(
    'challenge',
    guessed.id,
    (data) => (data as typeof asked.data).nonce === asked.data.nonce,
  )
  t.same(right?.data, asked.data, 'the fifth may be right')

  let compared = 0
  const guesses = await Promise.all(
    Array.from({ length: 200 }, () =>
      records.guess('challenge', other.id, () => {
        compared += 1
        return false
      }),
    ),
  )
  t.same([compared, guesses.filter(Boolean).length], [5, 0], 'many at once are no more')
  t.equal(await records.guess('challenge', other.id, () => true), undefined)
  t.equal(await records.present('challenge', other.secret), undefined)
  t.equal(await records.take('challenge', other.secret), undefined)
  t.equal(await records.guess('challenge', 'no id', () => true), undefined)
})
