import { randomBytes, randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { RecordBounds, ShortRecord } from '../../domain/record.ts'
import type { Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { checkStore } from '../../stores/moving/check.ts'
import { copyStore } from '../../stores/moving/copy.ts'
import type { Finding } from '../../stores/moving/moving.ts'
import type { Store } from '../../stores/store.ts'
import type { SweepStep } from '../../stores/sweeping.ts'
import { isLong } from '../support/processes.ts'

const now = 1_800_000_000_000
const day = 86_400_000
const wide: RecordBounds = { perOwner: 1000, perSource: 1000 }

/** With characters that mean something to a database, to JSON or to a key. */
export function makeRecord(over: Partial<ShortRecord> = {}): ShortRecord {
  return {
    id: randomBytes(32).toString('base64url'),
    kind: 'code',
    owner: `a "user" {\\d} ${randomUUID()}`,
    source: `192.0.2.0/24 ${randomUUID()}`,
    data: '{"redirect_uri":"https://app.example/ä?x={1,\\"2\\"}"}',
    createdAt: now,
    expiresAt: now + 60_000,
    misses: 0,
    version: 1,
    ...over,
  }
}

/**
 * The part of the store's contract that is about short-lived records.
 *
 * @param open as given to `storeContract`
 */
export async function recordContract(t: Test, name: string, open: () => Promise<Store> | Store): Promise<void> {
  const store = await open()
  const other = await open()
  t.teardown(() => Promise.all([store.close(), other.close()]))

  /** Calls in turn from two processes, all under way before one is answered. */
  const race = <T>(n: number, call: (from: Store, i: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: n }, (_, i) => call(i % 2 === 0 ? store : other, i)))
  const at = ({ kind, id }: ShortRecord, time = now + 1) => ({ kind, id, now: time })

  async function issue(over?: Partial<ShortRecord>, bounds = wide): Promise<ShortRecord> {
    const record = makeRecord(over)
    if (!(await store.issueRecord(record, bounds))) throw new Error('there was room')
    return record
  }
  async function addUser(): Promise<User> {
    const id = randomUUID()
    const user = { id, username: id, nameKey: id, passwordHash: 'hash', roles: [], createdAt: now, generation: 1 }
    await store.createUser(user)
    return user
  }
  const makeSession = ({ id: userId, generation }: User): Session => ({
    id: randomUUID(),
    userId,
    clientId: 'app',
    scope: [],
    generation,
    counter: 1,
    createdAt: now,
    refreshedAt: now,
    address: '',
    userAgent: '',
  })
  async function sweepRound(over: Partial<SweepStep>): Promise<number> {
    let removed = 0
    let cursor: string | undefined
    do {
      const lives = { idleTtlMs: 1000 * day, maxTtlMs: 1000 * day }
      const step = { now, ...lives, browser: lives, failuresBefore: 0, revocationsBefore: 0, limit: 3, ...over }
      const swept = await store.sweep({ ...step, ...(cursor !== undefined && { cursor }) })
      removed += swept.removed
      cursor = swept.cursor
    } while (cursor !== undefined)
    return removed
  }
  async function errors(): Promise<Finding[]> {
    const found: Finding[] = []
    for await (const finding of checkStore(store)) if (finding.level === 'error') found.push(finding)
    return found
  }

  t.test(`[${name}] a record is found and taken just as it was issued, and an id is taken once`, async (t) => {
    const record = await issue()
    t.equal(await other.issueRecord({ ...record, data: 'another' }, wide), false)
    t.strictSame(await other.findRecord(at(record)), record)
    t.strictSame(await other.takeRecord(at(record)), record)
    t.equal(await store.takeRecord(at(record)), undefined)
    t.equal(await store.findRecord(at(record)), undefined)
  })

  t.test(`[${name}] of two hundred that take a record at once, one has it`, async (t) => {
    const record = await issue()
    const taken = await race(200, (from) => from.takeRecord(at(record)))
    t.strictSame(
      taken.filter((one) => one !== undefined),
      [record],
    )
  })

  t.test(`[${name}] what is expired, of another kind or of any other id is unknown to every method`, async (t) => {
    const record = await issue()
    const unknown = ['', 'x', 'ä"', 'x'.repeat(10_000)].map((id) => ({ ...at(record), id }))
    for (const key of [at(record, record.expiresAt), { ...at(record), kind: 'link' }, ...unknown]) {
      t.equal(await store.takeRecord(key), undefined)
      t.equal(await store.takeRecord({ ...key, keep: { gave: 'x', until: now + day } }), undefined)
      t.equal(await store.findRecord(key), undefined)
      t.equal(await store.missRecord(key, 5), undefined)
      t.equal(await store.replaceRecord(key, 1, 'x'), false)
    }
    t.strictSame(await store.takeRecord(at(record, record.expiresAt - 1)), record, 'and none of them touched it')
  })

  t.test(`[${name}] an owner, and a source, has no more live records of a kind than its bound, raced`, async (t) => {
    for (const [holder, bounds] of [
      ['owner', { perOwner: 5, perSource: 1000 }],
      ['source', { perOwner: 1000, perSource: 5 }],
    ] as const) {
      const same = { [holder]: `one ${holder} ${randomUUID()}` }
      const records = Array.from({ length: 20 }, () => makeRecord(same))
      const issued = await race(20, (from, i) => from.issueRecord(records[i] as ShortRecord, bounds))
      t.equal(issued.filter(Boolean).length, 5, holder)
      const found = await Promise.all(records.map((record) => store.findRecord(at(record))))
      t.same(
        found.map((record) => record !== undefined),
        issued,
      )

      t.equal(await store.issueRecord(makeRecord({ ...same, kind: 'link' }), bounds), true, 'another kind has its own')
      t.equal(await store.issueRecord(makeRecord(), bounds), true, 'and so have others')
      const longer = { [holder]: `${same[holder]} and more` }
      t.equal(await store.issueRecord(makeRecord(longer), bounds), true, 'with a name that begins alike, too')
      await store.takeRecord(at(found.find((record) => record !== undefined) as ShortRecord))
      t.equal(await store.issueRecord(makeRecord(same), bounds), true, 'what was taken makes room')
      t.equal(await store.issueRecord(makeRecord(same), bounds), false)
      const later = { createdAt: now + 60_000, expiresAt: now + 120_000 }
      t.equal(await store.issueRecord(makeRecord({ ...same, ...later }), bounds), true, 'and so does what expired')
    }
  })

  t.test(`[${name}] misses are counted, many at once as many, and end the record at the limit`, async (t) => {
    const record = await issue()
    const counts = (await race(7, (from) => from.missRecord(at(record), 5))).sort()
    t.same(counts, [1, 2, 3, 4, 5, undefined, undefined])
    t.equal(await store.takeRecord(at(record)), undefined)
    t.equal(await store.findRecord(at(record)), undefined)

    const guessed = await issue()
    await store.missRecord(at(guessed), 5)
    t.match(await store.takeRecord(at(guessed)), { id: guessed.id, misses: 1, data: guessed.data })
  })

  t.test(`[${name}] of many that replace the data of one version, one does`, async (t) => {
    const record = await issue()
    const replaced = await race(20, (from, i) => from.replaceRecord(at(record), record.version, `by ${i}`))
    t.equal(replaced.filter(Boolean).length, 1)
    const data = `by ${replaced.indexOf(true)}`
    t.strictSame(await store.findRecord(at(record)), { ...record, data, version: 2 })
  })

  t.test(`[${name}] what is to be sent for a record is found when it is due, and claimed by one`, async (t) => {
    // Beside records of other tests, none of which is due.
    const due = (at: number) => store.dueRecords(['code'], at, 100)
    const [second, first] = [await issue({ dueAt: now + 2 }), await issue({ dueAt: now + 1 })]
    await issue({ dueAt: now + 100 })
    const gone = await issue({ dueAt: now + 1, expiresAt: now + 2 })
    t.same(await due(now), [])
    t.strictSame(await due(now + 2), [first, second], 'the one that waits longest first, and none that has expired')
    t.strictSame(await store.dueRecords(['code'], now + 2, 1), [first])
    const claimed = await race(20, (from) => from.replaceRecord(at(first), 1, first.data, now + 50))
    t.equal(claimed.filter(Boolean).length, 1)
    t.strictSame(await due(now + 2), [second])
    t.strictSame((await due(now + 50)).at(-1), { ...first, dueAt: now + 50, version: 2 })
    t.equal(await store.replaceRecord(at(first), 2, 'sent'), true, 'and once it is sent, never again')
    const { dueAt: _, ...sent } = { ...first, data: 'sent', version: 3 }
    t.strictSame(await store.findRecord(at(first)), sent)

    await store.takeRecord({ ...at(second), keep: { gave: 'x', until: now + day } })
    t.same(await due(now + 50), [], 'nothing is sent for what was taken')
    const dead = await issue({ dueAt: now + 1 })
    await store.missRecord(at(dead), 1)
    t.same(await due(now + 50), [], 'nor for what is dead')
    await store.removeRecord(gone.id)
    const ahead = await issue({ createdAt: now + day, expiresAt: now + 2 * day, dueAt: now + day })
    await sweepRound({ now: now + 10 })
    t.match(await due(now + 50), [{ id: ahead.id, dueAt: now + 10 }], 'a clock that was ahead delays nothing')
    await store.endRecords(ahead.owner, [ahead.kind])
    t.same(await due(now + 50), [], 'and what was ended is not sent')
    t.same(await errors(), [])
  })

  t.test(`[${name}] a second use is seen by what the first one gave, until that expires`, async (t) => {
    const record = await issue()
    const keep = { gave: 'a session', until: now + day }
    const taken = await race(20, (from) => from.takeRecord({ ...at(record), keep }))
    t.equal(taken.filter((one) => one !== undefined).length, 1)
    t.strictSame(await store.findRecord(at(record, now + day - 1)), {
      ...record,
      data: '',
      version: 2,
      spentAt: now + 1,
      gave: 'a session',
      expiresAt: now + day,
    })
    t.equal(await store.findRecord(at(record, now + day)), undefined)
    t.equal(await store.missRecord(at(record), 5), undefined)
    t.equal(await store.replaceRecord(at(record), 2, 'x'), false)
    t.equal(
      await store.issueRecord(makeRecord({ owner: record.owner, source: record.source }), {
        perOwner: 1,
        perSource: 1,
      }),
      true,
      'what is spent makes room',
    )
  })

  t.test(`[${name}] what is taken of a clock that was ahead is kept as long as any, whoever sweeps`, async (t) => {
    const ahead = await issue({ createdAt: now + day, expiresAt: now + day + 60_000 })
    const keep = { gave: 'a session', until: now + 60_000 }
    await store.takeRecord({ ...at(ahead), keep })
    await sweepRound({ now: now + 2 })
    t.match(await store.findRecord(at(ahead, now + 59_999)), { gave: 'a session', createdAt: now + 1 })
  })

  t.test(`[${name}] a record is taken and a session opened in one step, or neither`, async (t) => {
    const user = await addUser()
    const record = await issue()
    const keep = { gave: 'the session', until: now + day }
    const gone = { ...(await addUser()), generation: 2 }
    t.equal(await store.createSession(makeSession(gone), { ...at(record), keep }), false)
    t.strictSame(await store.findRecord(at(record)), record, 'no session: the record is as it was')

    const sessions = Array.from({ length: 20 }, () => makeSession(user))
    const opened = await race(20, (from, i) => from.createSession(sessions[i] as Session, { ...at(record), keep }))
    t.equal(opened.filter(Boolean).length, 1)
    const found = await Promise.all(sessions.map(({ id }) => store.findSession(id)))
    t.same(
      found.map((session) => session !== undefined),
      opened,
      'no record: no session',
    )
    t.match(await store.findRecord(at(record)), { spentAt: now + 1, gave: 'the session' })
  })

  t.test(`[${name}] a taking races a miss, and neither is lost`, async (t) => {
    for (let round = 0; round < (isLong ? 20 : 4); round++) {
      const record = await issue()
      const [taken, misses] = await Promise.all([store.takeRecord(at(record)), other.missRecord(at(record), 5)])
      t.equal(taken?.misses, misses === undefined ? 0 : 1)
    }
  })

  t.test(`[${name}] the records of an owner end together, those of the named kinds that are not spent`, async (t) => {
    const owner = `an owner ${randomUUID()}`
    const [code, link, third] = [await issue({ owner }), await issue({ owner, kind: 'link' }), await issue({ owner })]
    const [kept, others] = [await issue({ owner, kind: 'kept' }), await issue({ owner: `${owner} jr` })]
    await store.takeRecord({ ...at(third), keep: { gave: 'a session', until: now + day } })
    t.equal(await store.endRecords(owner, ['code', 'link']), 2)
    for (const record of [code, link]) t.equal(await store.takeRecord(at(record)), undefined)
    t.match(await store.findRecord(at(third)), { gave: 'a session' })
    for (const record of [kept, others]) t.strictSame(await store.takeRecord(at(record)), record)
    await store.removeRecord(third.id)
    t.equal(await store.findRecord(at(third)), undefined)
  })

  t.test(`[${name}] a sweep removes what has expired, and no live record`, async (t) => {
    await sweepRound({ now: now + 10 * day })
    const records = await Promise.all([...Array(10)].map((_, i) => issue({ expiresAt: now + 1000 + (i % 2) })))
    const ahead = await issue({ createdAt: now + 5 * day, expiresAt: now + 5 * day + 60_000 })
    t.equal(await sweepRound({ now: now + 1000 }), 5)
    for (const record of records) {
      const isLive = record.expiresAt > now + 1000
      t.equal((await store.takeRecord(at(record, now + 1000))) !== undefined, isLive)
    }
    const right = { ...ahead, createdAt: now + 1000, expiresAt: now + 61_000 }
    t.strictSame(await store.findRecord(at(ahead)), right, 'one of a clock that was ahead lives as long as it was to')
    t.same(await errors(), [])
  })

  t.test(
    `[${name}] records outlive the process, are copied as they are and never turned back, and checked`,
    async (t) => {
      const first = await open()
      const [fresh, spent] = [makeRecord({ misses: 1, version: 2 }), makeRecord()]
      await first.importRows('records', [fresh])
      await first.issueRecord(spent, wide)
      await first.takeRecord({ ...at(spent), keep: { gave: 'a session', until: now + day } })
      await first.close()
      t.strictSame(await store.findRecord(at(fresh)), fresh)
      const before = await store.findRecord(at(spent))

      t.equal(await store.importRows('records', [spent]), 0, 'a spent one is not good again')
      t.strictSame(await store.findRecord(at(spent)), before)
      const [report] = (await copyStore(store, other, { remove: false, now })).filter(
        ({ table }) => table === 'records',
      )
      t.match(report, { isSame: true, written: 0 })
      t.equal(
        await store.issueRecord(makeRecord({ owner: fresh.owner }), { perOwner: 1, perSource: 1 }),
        false,
        'one that was moved here counts',
      )
      t.same(await errors(), [])
      await store.importRows('records', [makeRecord({ misses: -1 }), makeRecord({ kind: '' })])
      t.same((await errors()).map(({ table, what }) => `${table}: ${what}`).sort(), [
        'records: kind is not as it should be',
        'records: misses is not as it should be',
      ])
    },
  )
}
