import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import type { End } from '../../domain/lifetimes.ts'
import type { ShortRecord } from '../../domain/record.ts'
import type { Revocation } from '../../domain/revocation.ts'
import type { Session } from '../../domain/session.ts'
import { clockSkewMs } from '../../domain/time.ts'
import type { User } from '../../domain/user.ts'
import { openStore } from '../../stores/open.ts'
import type { Store } from '../../stores/store.ts'
import type { SweepStep } from '../../stores/sweeping.ts'
import { revocationPages } from '../../stores/tables/revocations.ts'
import { newDir, sharedPostgres } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'
import { holds } from '../support/property.ts'

/*
 * Rows of each kind with any times, any clock that goes on, and sweeps a few rows at a time, with other writes between
 * their steps and beside them: no live row is ever removed, and all dead ones are in the end. What is live is written
 * out here once more, and asked of the rows as they are in the store. To run a failure again:
 * FC_SEED=<seed> npm test -- test/stores/sweep.property.test.ts
 */

const minute = 60_000
const [idleTtlMs, maxTtlMs, failuresLastMs, graceMs] = [60 * minute, 300 * minute, 120 * minute, 30_000]
const browser = { idleTtlMs, maxTtlMs }
/** Counted under again and again: a count that is over by the time that a sweep looks may have begun anew. */
const keys = Array.from({ length: 8 }, (_, n) => `key ${n}`)
const wide = { perOwner: 1_000, perSource: 1_000 }

/** Every row that a sweep may remove, by its table and key; and the users, by whom sessions live. */
interface Rows {
  users: Map<string, User>
  sessions: Map<string, Session>
  failures: Map<string, { lastAt: number }>
  revocations: Map<string, Revocation>
  records: Map<string, ShortRecord>
}

async function readRows(store: Store): Promise<Rows> {
  const page = { limit: 10_000 }
  const [users, sessions, failures, records] = await Promise.all([
    store.exportRows('users', page),
    store.exportRows('sessions', page),
    store.exportRows('failures', page),
    store.exportRows('records', page),
  ])
  const revocations = new Map<string, Revocation>()
  for await (const found of revocationPages(store))
    for (const revocation of found) revocations.set(`${revocation.kind} ${revocation.id}`, revocation)
  return {
    users: new Map(users.rows.map((row) => [row.id, row])),
    sessions: new Map(sessions.rows.map((row) => [row.id, row])),
    failures: new Map(failures.rows.map((row) => [row.key, row])),
    revocations,
    records: new Map(records.rows.map((row) => [row.id, row])),
  }
}

/** Names of the rows that are live at a time, such as `session 1234`. */
function liveIn({ users, sessions, failures, revocations, records }: Rows, now: number): Set<string> {
  const live = new Set<string>()
  for (const [id, session] of sessions) {
    const user = users.get(session.userId)
    const isCurrent = user && user.disabledAt === undefined && user.generation <= session.generation
    if (isCurrent && now < session.refreshedAt + idleTtlMs && now < session.createdAt + maxTtlMs)
      live.add(`session ${id}`)
  }
  for (const [key, { lastAt }] of failures) if (lastAt >= now - failuresLastMs) live.add(`failures ${key}`)
  for (const [key, { expiresAt }] of revocations) if (expiresAt > now) live.add(`revocation ${key}`)
  for (const [id, { expiresAt }] of records) if (expiresAt > now) live.add(`record ${id}`)
  return live
}

const namesOf = ({ sessions, failures, revocations, records }: Rows) =>
  new Set([
    ...[...sessions.keys()].map((id) => `session ${id}`),
    ...[...failures.keys()].map((key) => `failures ${key}`),
    ...[...revocations.keys()].map((key) => `revocation ${key}`),
    ...[...records.keys()].map((id) => `record ${id}`),
  ])

type Write =
  | { do: 'open' | 'fail' | 'revoke' | 'issue'; ageMs: number; lastsMs: number; user: number }
  | { do: 'refresh' | 'log out' | 'take' | 'guess' | 'replace'; which: number }
  | { do: 'fail everywhere' }
  | { do: 'end all' | 'disable' | 'enable' | 'delete' | 'change password'; user: number; which: number }
type Step =
  | { do: 'pass'; ms: number }
  | { do: 'sweep' }
  | { do: 'write'; write: Write }
  | { do: 'race'; writes: Write[]; begunBefore: number }

/** Mostly a past that may be long over; some in the future, by a clock that was wrong. */
const ageMs = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 330 * minute }) },
  { weight: 1, arbitrary: fc.integer({ min: -2 * clockSkewMs, max: 0 }) },
  { weight: 1, arbitrary: fc.integer({ min: -330 * minute, max: 0 }) },
)
const which = fc.nat(30)
const user = fc.nat(3)
const add = fc.record({
  do: fc.constantFrom('open' as const, 'fail' as const, 'revoke' as const, 'issue' as const),
  ageMs,
  lastsMs: fc.integer({ min: 1, max: 40 * minute }),
  user,
})
const write: fc.Arbitrary<Write> = fc.oneof(
  { weight: 4, arbitrary: add },
  { weight: 1, arbitrary: fc.constant({ do: 'fail everywhere' as const }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom(...(['refresh', 'refresh', 'refresh', 'log out', 'take', 'guess', 'replace'] as const)),
      which,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom(...(['end all', 'disable', 'enable', 'delete', 'change password'] as const)),
      user,
      which,
    }),
  },
)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 30 * minute }) }),
  },
  { weight: 6, arbitrary: fc.constant({ do: 'sweep' as const }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('write' as const), write }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('race' as const),
      writes: fc.array(write, { minLength: 1, maxLength: 4 }),
      begunBefore: fc.nat(4),
    }),
  },
)

/** One life of a store. */
class World {
  private readonly store: Store
  private readonly limit: number
  private now = 1_800_000_000_000
  private cursor: string | undefined
  private readonly users: User[] = []

  constructor(store: Store, limit: number) {
    this.store = store
    this.limit = limit
  }

  private get end() {
    return { now: this.now, expiresAt: this.now + 11 * minute } as End
  }

  async begin(rows: Write[]): Promise<void> {
    for (let n = 0; n < 4; n++) await this.addUser(n)
    await Promise.all(rows.map((row) => this.write(row)))
  }

  private async addUser(index: number): Promise<void> {
    const id = randomUUID()
    const user = { id, username: id, nameKey: id, passwordHash: 'hash', roles: [], createdAt: this.now, generation: 1 }
    await this.store.createUser(user)
    this.users[index] = user
  }

  async take(step: Step): Promise<void> {
    if (step.do === 'pass') this.now += step.ms
    else if (step.do === 'write') await this.write(step.write)
    else if (step.do === 'race') await this.sweep(step.writes, step.begunBefore)
    else await this.sweep()
  }

  /** One step of a sweep, alone or beside writes, of which some begin before it. */
  private async sweep(writes: Write[] = [], begunBefore = 0): Promise<void> {
    const { store, now, cursor } = this
    const before = await readRows(store)
    const step: SweepStep = {
      now,
      idleTtlMs,
      maxTtlMs,
      browser,
      graceMs,
      failuresBefore: now - failuresLastMs,
      limit: this.limit,
    }
    const begin = (writes: Write[]) => Promise.all(writes.map((write) => this.write(write)))
    const [earlier, swept, later] = await Promise.all([
      begin(writes.slice(0, begunBefore)),
      store.sweep({ ...step, ...(cursor !== undefined && { cursor }) }),
      begin(writes.slice(begunBefore)),
    ])
    const told = [...earlier, ...later]
    this.cursor = swept.cursor
    const after = await readRows(store)
    const names = namesOf(after)
    const ended = new Set(told.flatMap(({ ended }) => ended))
    const endedUsers = new Set(told.flatMap(({ endedUsers }) => endedUsers))
    for (const name of liveIn(before, now)) {
      const owner = before.sessions.get(name.slice('session '.length))?.userId
      if (!names.has(name) && !ended.has(name) && !endedUsers.has(owner ?? ''))
        throw new Error(`live, and removed: ${name}`)
    }
    for (const { name, owner } of told.flatMap(({ kept }) => kept))
      if (!names.has(name) && !ended.has(name) && !endedUsers.has(owner ?? ''))
        throw new Error(`written while live, and removed: ${name}`)
  }

  /** @returns rows that a write has found or made live, and those that it has ended itself */
  private async write(write: Write): Promise<{
    kept: { name: string; owner?: string }[]
    ended: string[]
    endedUsers: string[]
  }> {
    const { store, now } = this
    const nothing = { kept: [], ended: [], endedUsers: [] }
    const pick = <Row>(rows: Map<string, Row>): Row | undefined =>
      'which' in write ? [...rows.values()][write.which % Math.max(1, rows.size)] : undefined
    const kept = (name: string, owner?: string) => ({ ...nothing, kept: [{ name, ...(owner && { owner }) }] })
    switch (write.do) {
      case 'open': {
        const of = this.users[write.user] as User
        const createdAt = now - write.ageMs
        const id = randomUUID()
        const times = { createdAt, refreshedAt: Math.min(now, createdAt + write.lastsMs) }
        const rest = { clientId: 'app', scope: [], counter: 1, address: '', userAgent: '' }
        await store.createSession({ id, userId: of.id, generation: of.generation, ...rest, ...times })
        return nothing
      }
      case 'fail': {
        const key = keys[write.lastsMs % keys.length] as string
        const at = now - write.ageMs
        await store.recordFailure([{ key }], at)
        // A count takes the time of the newest write, whatever it is: that of a clock which is far behind ends it.
        return at >= now - failuresLastMs ? kept(`failures ${key}`) : { ...nothing, ended: [`failures ${key}`] }
      }
      case 'fail everywhere': {
        await store.recordFailure(
          keys.map((key) => ({ key })),
          now,
        )
        return { ...nothing, kept: keys.map((key) => ({ name: `failures ${key}` })) }
      }
      case 'revoke': {
        const [revokedAt, id] = [now - write.ageMs, randomUUID()]
        await store.revoke({ kind: 'jti', id, revokedAt, expiresAt: revokedAt + write.lastsMs })
        return revokedAt + write.lastsMs > now ? kept(`revocation jti ${id}`) : nothing
      }
      case 'issue': {
        const [createdAt, id] = [now - write.ageMs, randomUUID()]
        const times = { createdAt, expiresAt: createdAt + write.lastsMs }
        const rest = { kind: 'code', owner: `user ${write.user}`, source: 'network', data: '{}', misses: 0, version: 0 }
        await store.issueRecord({ id, ...rest, ...times }, wide)
        return times.expiresAt > now ? kept(`record ${id}`) : nothing
      }
      case 'refresh': {
        const session = pick((await readRows(store)).sessions)
        if (!session) return nothing
        const { id: sessionId, clientId, counter } = session
        const seen = { clientId, scope: undefined, address: '', userAgent: '' }
        const presented = { sessionId, counter, now, idleTtlMs, maxTtlMs, browser, graceMs, ...seen }
        const { outcome } = await store.rotateSession(presented, this.end)
        if (outcome === 'rotated') return kept(`session ${sessionId}`, session.userId)
        return outcome === 'reused' ? { ...nothing, ended: [`session ${sessionId}`] } : nothing
      }
      case 'log out': {
        const session = pick((await readRows(store)).sessions)
        if (!session) return nothing
        const isEnded = await store.endSession(session.id, this.end)
        const revocation = { name: `revocation sid ${session.id}` }
        return { ...nothing, ended: [`session ${session.id}`], kept: isEnded ? [revocation] : [] }
      }
      case 'take': {
        const record = pick((await readRows(store)).records)
        if (!record) return nothing
        const until = now + 5 * minute
        const taken = await store.takeRecord({ kind: 'code', id: record.id, now, keep: { gave: 'session', until } })
        return taken ? kept(`record ${record.id}`) : nothing
      }
      case 'guess':
      case 'replace': {
        const record = pick((await readRows(store)).records)
        if (!record) return nothing
        const key = { kind: 'code', id: record.id, now }
        const isDone =
          write.do === 'guess'
            ? (await store.missRecord(key, 1_000)) !== undefined
            : await store.replaceRecord(key, record.version, '{"new":true}')
        return isDone ? kept(`record ${record.id}`) : nothing
      }
      default: {
        const { id } = this.users[write.user] as User
        if (write.do === 'end all') await store.endUserSessions(id, this.end)
        else if (write.do === 'disable') await store.disableUser(id, this.end)
        else if (write.do === 'enable') await store.enableUser(id)
        else if (write.do === 'delete') {
          await store.deleteUser(id, this.end)
          await this.addUser(write.user)
        } else {
          const keep = pick((await readRows(store)).sessions)
          const change = { userId: id, expectedHash: 'hash', passwordHash: 'hash' }
          await store.changePassword({ ...change, ...(keep && { keepSessionId: keep.id }) }, this.end)
        }
        const now = (await readRows(store)).users.get(this.users[write.user]?.id as string)
        if (now) this.users[write.user] = now
        return { ...nothing, endedUsers: [id] }
      }
    }
  }

  /** Nobody writes any more: a whole round leaves what is live, just that, and the next finds nothing. */
  async finish(): Promise<void> {
    this.cursor = undefined
    do await this.sweep()
    while (this.cursor !== undefined)
    const rows = await readRows(this.store)
    const live = liveIn(rows, this.now)
    const left = [...namesOf(rows)].filter((name) => !live.has(name))
    if (left.length > 0) throw new Error(`dead, and still there after a whole round: ${left}`)
    for await (const { level, table, what } of this.store.check())
      if (level === 'error') throw new Error(`${table}: ${what}`)
    this.now += 1_000 * minute
    do await this.sweep()
    while (this.cursor !== undefined)
    const { size } = namesOf(await readRows(this.store))
    if (size > 0) throw new Error(`${size} rows are left when all are over`)
  }
}

const stores = {
  lmdb: async (t: Parameters<typeof newDir>[0]) => openStore({ kind: 'lmdb', dir: await newDir(t) }),
  pg: async () => openStore({ kind: 'pg', url: await (await sharedPostgres()).createSchema() }),
}

for (const [name, open] of Object.entries(stores)) {
  t.test(`no live row is ever swept, and in the end all dead ones are [${name}]`, async (t) => {
    const store = await open(t)
    t.teardown(() => store.close())
    let runs = 0
    const property = fc.asyncProperty(
      fc.array(add, { minLength: 10, maxLength: 40, size: 'max' }),
      fc.array(step, { minLength: 10, maxLength: 40, size: 'max' }),
      fc.integer({ min: 1, max: 12 }),
      async (rows, steps, limit) => {
        runs += 1
        const world = new World(store, limit)
        await world.begin(rows)
        for (const step of steps) await world.take(step)
        await world.finish()
      },
    )
    const numRuns = (name === 'pg' ? 5 : 20) * (isLong ? 20 : 1)
    await holds(t, property, { numRuns })
    t.comment(`${runs} lives`)
  })
}
