import { randomUUID } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { Test } from 'tap'
import type { Client } from '../../domain/client.ts'
import type { End } from '../../domain/lifetimes.ts'
import { everyGeneration, type Revocation } from '../../domain/revocation.ts'
import type { PresentedRefresh, RotationOutcome, Session } from '../../domain/session.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'
import { clockSkewMs } from '../../domain/time.ts'
import type { User } from '../../domain/user.ts'
import type { Finding } from '../../stores/moving/moving.ts'
import { keyOf, type TableName, type Tables } from '../../stores/rows.ts'
import { type Store, StoreUnavailable } from '../../stores/store.ts'
import type { SweepStep } from '../../stores/sweeping.ts'
import { revocationPages } from '../../stores/tables/revocations.ts'
import { usersLookedAt } from '../../stores/tables/users.ts'
import { giveRoles } from '../support/basics.ts'
import { isLong } from '../support/processes.ts'
import { auditContract, makeAuditRow } from './audit.ts'
import { browserContract, makeBrowserSession, makeConsents, renewalOf } from './browser-sessions.ts'
import { factorContract, makeFactors, makePasskey, makeTotp } from './factors.ts'
import { importContract, makeImportRow } from './imports.ts'
import { makeRecord, recordContract } from './records.ts'

const day = 86_400_000
const now = 1_800_000_000_000
const limits = { idleTtlMs: 30 * day, maxTtlMs: 90 * day, browser: { idleTtlMs: 7 * day, maxTtlMs: 30 * day } }
const graceMs = 30_000
const end = { now, expiresAt: now + 600_000 } as End
/** of a session whose spent token comes back */
const theft = { now: now + 1000, expiresAt: now + 601_000 } as End

/** of a race */
const rounds = isLong ? 20 : 4

/** Starts N calls in the same turn, so that none has an answer before all are under way. */
const atOnce = <T>(n: number, call: (i: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: n }, (_, i) => call(i)))

function makeUser(over: Partial<User> = {}): User {
  const id = randomUUID()
  return {
    id,
    username: `Zoë-${id}`,
    nameKey: `zoë-${id}`,
    passwordHash: `$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$${id}`,
    roles: [],
    createdAt: now,
    generation: 1,
    ...over,
  }
}

function makeSession(user: User, over: Partial<Session> = {}): Session {
  return {
    id: randomUUID(),
    userId: user.id,
    clientId: 'first-party',
    scope: ['profile', 'files:read'],
    generation: user.generation,
    counter: 1,
    createdAt: now,
    refreshedAt: now,
    address: '192.0.2.1',
    userAgent: 'Mozilla/5.0 “test”',
    ...over,
  }
}

/** With all that is optional, and characters that mean something to a database or to JSON. */
function makeClient(over: Partial<Client> = {}): Client {
  return {
    id: `svc:{"a", \\b}'${randomUUID()}`,
    type: 'confidential',
    grants: ['client_credentials', 'urn:ietf:params:oauth:grant-type:token-exchange'],
    scopes: ['files:read', 'a, "b" {c} \\d', ''],
    audience: ['https://api.example/ä?x={1,2}', 'NULL'],
    introspect: 'audience',
    secrets: [
      { hash: 'sha256:"new"', createdAt: now },
      { hash: 'sha256:\\old', createdAt: now - day, expiresAt: now + day },
    ],
    createdAt: now,
    isDeclared: false,
    generation: now,
    ...over,
  }
}

const present = (session: Session, over: Partial<PresentedRefresh> = {}): PresentedRefresh => ({
  ...limits,
  now: now + 1000,
  sessionId: session.id,
  counter: session.counter,
  clientId: session.clientId,
  scope: undefined,
  graceMs,
  address: '2001:db8::1',
  userAgent: 'after',
  ...over,
})

function makeKey(over: Partial<SigningKeyRecord> = {}): SigningKeyRecord {
  return { kid: randomUUID(), alg: 'ES256', publicJwk: '{"kty":"EC"}', createdAt: now, signsFrom: now, ...over }
}

const makeJti = (over: Partial<Revocation> = {}) =>
  ({ kind: 'jti', id: randomUUID(), revokedAt: now, expiresAt: end.expiresAt, ...over }) as Revocation & { kind: 'jti' }

async function findings(store: Store): Promise<Finding[]> {
  const found: Finding[] = []
  for await (const finding of store.check()) found.push(finding)
  return found
}

const outcomes = (results: RotationOutcome[]) => results.map(({ outcome }) => outcome).sort()

/**
 * The contract of {@link Store}: what any implementation must pass.
 *
 * The tests share one set of data, as requests do, and tell their own rows by random ids.
 *
 * @param name of the store, for the titles
 * @param open gives a handle; called a second time, another handle on the same data, as another process has it
 */
export async function storeContract(t: Test, name: Store['name'], open: () => Promise<Store> | Store): Promise<void> {
  const store = await open()
  const other = await open()
  /** The calls of a race come from two processes in turn. */
  const either = (i: number) => (i % 2 === 0 ? store : other)
  t.teardown(() => Promise.all([store.close(), other.close()]))

  async function addUser(over?: Partial<User>): Promise<User> {
    const user = makeUser(over)
    if (!(await store.createUser(user))) throw new Error('the name was free')
    return user
  }
  async function addSession(user?: User, over?: Partial<Session>): Promise<Session> {
    const session = makeSession(user ?? (await addUser()), over)
    if (!(await store.createSession(session))) throw new Error('the user was current')
    return session
  }
  async function addClient(over?: Partial<Client>): Promise<Client> {
    const client = makeClient(over)
    if (!(await store.createClient(client))) throw new Error('the id was free')
    return client
  }
  const rotate = (session: Session, over?: Partial<PresentedRefresh>) =>
    store.rotateSession(present(session, over), theft)
  const isAlive = async (session: Session) => {
    const found = await store.findSession(session.id)
    const outcome = found && (await rotate(found, { scope: ['beyond every scope'] }))
    return outcome?.outcome === 'scope_exceeded'
  }
  async function everyRevocation(of: (revocation: Revocation) => boolean): Promise<Revocation[]> {
    const found: Revocation[] = []
    for await (const revocations of revocationPages(store)) found.push(...revocations.filter(of))
    return found
  }
  async function sweepRound(over: Partial<SweepStep> = {}): Promise<number> {
    let removed = 0
    let cursor: string | undefined
    do {
      const step = await store.sweep({
        ...limits,
        now,
        failuresBefore: now,
        limit: 3,
        ...over,
        ...(cursor !== undefined && { cursor }),
      })
      removed += step.removed
      cursor = step.cursor
    } while (cursor !== undefined)
    return removed
  }

  t.test(`[${name}] it says its name and answers a ping`, async (t) => {
    t.equal(store.name, name)
    await store.ping()
  })

  // Users

  t.test(`[${name}] a user is found by id and by mapped name, just as it was added`, async (t) => {
    const user = await addUser({ roles: ['admin', 'ops, and "more"'] })
    t.strictSame(await store.findUser(user.id), user)
    t.strictSame(await store.findUserByName(user.nameKey), user)
    const disabled = await addUser({ disabledAt: now + 5, generation: 7 })
    t.strictSame(await other.findUser(disabled.id), disabled, 'by another process, too')
  })

  t.test(`[${name}] what was never added is undefined, whatever its id looks like`, async (t) => {
    for (const id of [randomUUID(), 'not a uuid', '', "'; --"]) {
      t.equal(await store.findUser(id), undefined)
      t.equal(await store.findUserByName(id), undefined)
      t.equal(await store.findSession(id), undefined)
      t.equal(await store.endSession(id, end), false)
      t.equal(await store.endUserSessions(id, end), false)
      t.equal(await store.deleteUser(id, end), false)
      t.equal(await store.replacePasswordHash(id, 'a', 'b'), false)
      t.equal(await store.disableUser(id, end), false)
      t.equal(await store.enableUser(id), false)
      const profile = { username: id, nameKey: id, roles: [] }
      t.equal(await store.changeUser({ userId: id, expected: profile, next: profile }), false)
      t.equal(await store.changeUser({ userId: id, expected: profile, next: profile }, end), false)
      t.equal(await store.findUserByEmail(id), undefined)
      t.equal(await store.findClient(id), undefined)
      t.equal(await store.replaceClient(makeClient({ id })), false)
      t.equal(await store.replaceClient(makeClient({ id }), end), false)
      t.equal(await store.deleteClient(id, end), false)
      t.same(await store.listSessions(id, { ...limits, now }, { limit: 5 }), { sessions: [] })
    }
  })

  t.test(`[${name}] what one process has acknowledged, another sees at once`, async (t) => {
    for (let round = 0; round < 2 * rounds; round++) {
      const user = makeUser()
      let isAcknowledged = false
      const created = store.createUser(user).then(() => {
        isAcknowledged = true
      })
      // Reads on, so as to have a fresh snapshot of before.
      while (!isAcknowledged) {
        await other.findUser(user.id)
        await setImmediate()
      }
      await created
      t.ok(await other.findUser(user.id))
    }
  })

  t.test(`[${name}] of fifty sign-ups at once for one name, one succeeds`, async (t) => {
    const users = Array.from({ length: 50 }, () => makeUser({ nameKey: `wanted-${t.name}` }))
    const created = await atOnce(50, (i) => either(i).createUser(users[i] as User))
    t.equal(created.filter(Boolean).length, 1)
    t.strictSame(await store.findUserByName(`wanted-${t.name}`), users[created.indexOf(true)])
    t.equal(
      (await Promise.all(users.map(({ id }) => store.findUser(id)))).filter(Boolean).length,
      1,
      'the losers left nothing',
    )
  })

  t.test(`[${name}] replacePasswordHash swaps one hash for another, once, and ends no session`, async (t) => {
    const user = await addUser()
    const session = await addSession(user)
    const swapped = await atOnce(10, (i) => either(i).replacePasswordHash(user.id, user.passwordHash, `rehash-${i}`))
    t.equal(swapped.filter(Boolean).length, 1)
    t.strictSame(await store.findUser(user.id), { ...user, passwordHash: `rehash-${swapped.indexOf(true)}` })
    t.ok(await isAlive(session))
  })

  t.test(`[${name}] changePassword ends all sessions but the kept one, and records that`, async (t) => {
    const user = await addUser()
    const [kept, ended] = [await addSession(user), await addSession(user)]
    const change = {
      userId: user.id,
      expectedHash: user.passwordHash,
      passwordHash: 'new',
      keepSessionId: kept.id,
    }
    t.equal(await store.changePassword({ ...change, expectedHash: 'another' }, end), false)
    t.ok((await isAlive(kept)) && (await isAlive(ended)), 'a wrong expected hash touches nothing')

    t.equal(await store.changePassword(change, end), true)
    t.strictSame(await store.findUser(user.id), { ...user, passwordHash: 'new', generation: 2 })
    t.strictSame(await store.findSession(kept.id), { ...kept, generation: 2 })
    t.ok(await isAlive(kept))
    t.notOk(await isAlive(ended))
    t.strictSame(await everyRevocation(({ id }) => id === user.id), [
      {
        kind: 'user',
        id: user.id,
        generation: 2,
        exceptSessionId: kept.id,
        revokedAt: end.now,
        expiresAt: end.expiresAt,
      },
    ])
  })

  t.test(
    `[${name}] changePassword keeps no session that is not the user's own, or already dead, or not named`,
    async (t) => {
      const user = await addUser()
      const [stranger, dead, own] = [await addSession(), await addSession(user), await addSession(user)]
      await store.endUserSessions(user.id, end)
      const change = (expectedHash: string, passwordHash: string) => ({
        userId: user.id,
        expectedHash,
        passwordHash,
      })
      await store.changePassword({ ...change(user.passwordHash, 'second'), keepSessionId: stranger.id }, end)
      await store.changePassword({ ...change('second', 'third'), keepSessionId: dead.id }, end)
      await store.changePassword(change('third', 'fourth'), end)
      await store.changePassword({ ...change('fourth', 'fifth'), keepSessionId: 'not a uuid' }, end)
      t.equal((await store.findUser(user.id))?.generation, 6)
      t.strictSame(await store.findSession(stranger.id), stranger)
      t.notOk((await isAlive(dead)) || (await isAlive(own)))
      const recorded = await everyRevocation(({ id }) => id === user.id)
      t.notOk(recorded.some((revocation) => 'exceptSessionId' in revocation))
    },
  )

  t.test(`[${name}] of two password changes at once, one succeeds and the user moves one generation on`, async (t) => {
    const user = await addUser()
    const change = { userId: user.id, expectedHash: user.passwordHash }
    const changed = await atOnce(10, (i) => either(i).changePassword({ ...change, passwordHash: `new-${i}` }, end))
    t.equal(changed.filter(Boolean).length, 1)
    t.strictSame(await store.findUser(user.id), {
      ...user,
      passwordHash: `new-${changed.indexOf(true)}`,
      generation: 2,
    })
  })

  t.test(`[${name}] a session opened while the password changes does not outlive the change`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const user = await addUser()
      const sessions = Array.from({ length: 10 }, () => makeSession(user))
      const change = { userId: user.id, expectedHash: user.passwordHash, passwordHash: 'new' }
      await atOnce(11, (i) =>
        i === 5 ? other.changePassword(change, end) : either(i).createSession(sessions[i > 5 ? i - 1 : i] as Session),
      )
      for (const session of sessions) t.notOk(await isAlive(session))
    }
  })

  t.test(`[${name}] a refresh of the kept session while the password changes is lost by neither`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const user = await addUser()
      const session = await addSession(user)
      const change = {
        userId: user.id,
        expectedHash: user.passwordHash,
        passwordHash: 'new',
        keepSessionId: session.id,
      }
      const [changed, rotated] = await Promise.all([other.changePassword(change, end), rotate(session)])
      t.equal(changed, true)
      t.equal(rotated.outcome, 'rotated')
      t.match(await store.findSession(session.id), { generation: 2, counter: 2 })
    }
  })

  t.test(`[${name}] deleteUser ends the sessions, records it for every generation and frees the name`, async (t) => {
    const user = await addUser()
    const session = await addSession(user)
    const deleted = await atOnce(5, (i) => either(i).deleteUser(user.id, end))
    t.equal(deleted.filter(Boolean).length, 1)
    t.equal(await store.findUser(user.id), undefined)
    t.equal(await store.findUserByName(user.nameKey), undefined)
    t.same(await rotate(session), { outcome: 'unknown' })
    t.strictSame(await everyRevocation(({ id }) => id === user.id), [
      { kind: 'user', id: user.id, generation: everyGeneration, revokedAt: end.now, expiresAt: end.expiresAt },
    ])
    t.equal(await store.createUser(makeUser({ nameKey: user.nameKey })), true)
  })

  t.test(`[${name}] disableUser ends every session, records it, and does so again when asked again`, async (t) => {
    const user = await addUser({ roles: ['admin'] })
    const [session, neighbour] = [await addSession(user), await addSession()]
    t.equal(await store.disableUser(user.id, end), true)
    t.strictSame(await other.findUser(user.id), { ...user, disabledAt: end.now, generation: 2 })
    t.strictSame(
      await other.findUserByName(user.nameKey),
      { ...user, disabledAt: end.now, generation: 2 },
      'the name stays taken',
    )
    t.same(await rotate(session), { outcome: 'unknown' })
    t.ok(await isAlive(neighbour))
    const later = { now: end.now + 5, expiresAt: end.expiresAt + 5 } as End
    t.equal(await store.disableUser(user.id, later), true)
    t.match(await store.findUser(user.id), { disabledAt: later.now, generation: 3 })
    const recorded = await everyRevocation(({ id }) => id === user.id)
    t.strictSame(
      recorded.sort((a, b) => a.revokedAt - b.revokedAt),
      [
        { kind: 'user', id: user.id, generation: 2, revokedAt: end.now, expiresAt: end.expiresAt },
        { kind: 'user', id: user.id, generation: 3, revokedAt: later.now, expiresAt: later.expiresAt },
      ],
    )
  })

  t.test(
    `[${name}] no session opened or refreshed while its user is disabled outlives that, nor comes ` +
      `back when the user does`,
    async (t) => {
      for (let round = 0; round < rounds; round++) {
        const user = await addUser()
        const before = await Promise.all(Array.from({ length: 5 }, () => addSession(user)))
        const opening = Array.from({ length: 5 }, () => makeSession(user))
        await Promise.all([
          ...before.map((session, i) => either(i).rotateSession(present(session), theft)),
          other.disableUser(user.id, end),
          ...opening.map((session, i) => either(i).createSession(session)),
        ])
        for (const session of [...before, ...opening]) t.notOk(await isAlive(session))
        t.equal(await store.createSession(makeSession({ ...user, generation: 2 })), false, 'and none opens')

        t.same(await atOnce(4, (i) => either(i).enableUser(user.id)), Array(4).fill(true))
        t.strictSame(await store.findUser(user.id), { ...user, generation: 2 })
        for (const session of [...before, ...opening]) t.notOk(await isAlive(session))
        t.same((await store.listSessions(user.id, { ...limits, now }, { limit: 100 })).sessions, [])
        t.ok(await isAlive(await addSession({ ...user, generation: 2 })))
      }
    },
  )

  t.test(`[${name}] enableUser ends no session and records nothing`, async (t) => {
    const user = await addUser()
    const session = await addSession(user)
    t.equal(await store.enableUser(user.id), true)
    t.strictSame(await store.findUser(user.id), user)
    t.ok(await isAlive(session))
    t.same(await everyRevocation(({ id }) => id === user.id), [])
  })

  t.test(
    `[${name}] of many that set the roles at once, one does, with the end of all sessions or without`,
    async (t) => {
      for (const ending of [undefined, end]) {
        const user = await addUser({ roles: ['ops', 'a, "b" {c} \\d'] })
        const session = await addSession(user)
        const change = { userId: user.id, expected: user }
        const set = await atOnce(20, (i) =>
          either(i).changeUser({ ...change, next: { ...user, roles: [`role ${i}`, 'x"y'] } }, ending),
        )
        t.equal(set.filter(Boolean).length, 1)
        const generation = ending ? 2 : 1
        t.strictSame(await other.findUser(user.id), {
          ...user,
          roles: [`role ${set.indexOf(true)}`, 'x"y'],
          generation,
        })
        t.equal(await isAlive(session), generation === 1)
        t.strictSame(
          await everyRevocation(({ id }) => id === user.id),
          generation === 1
            ? []
            : [{ kind: 'user', id: user.id, generation, revokedAt: end.now, expiresAt: end.expiresAt }],
        )
      }
    },
  )

  t.test(`[${name}] a change of a user tells apart roles that only look alike`, async (t) => {
    for (const [roles, expectedRoles] of [
      [['a,b'], ['a', 'b']],
      [
        ['a', 'b'],
        ['b', 'a'],
      ],
      [[], ['']],
      [[''], []],
    ] as [string[], string[]][]) {
      const user = await addUser({ roles })
      const change = {
        userId: user.id,
        expected: { ...user, roles: expectedRoles },
        next: { ...user, roles: ['admin'] },
      }
      t.equal(await store.changeUser(change), false)
      t.equal(await store.changeUser(change, end), false)
      t.strictSame(await store.findUser(user.id), user)
      t.equal(await store.changeUser({ ...change, expected: user, next: { ...user, roles: [] } }), true)
      t.strictSame(await store.findUser(user.id), { ...user, roles: [] })
    }
  })

  t.test(`[${name}] a user gets another name, address and language, and loses them again`, async (t) => {
    const [key, address] = [`new ${randomUUID()}`, `${randomUUID()}@example.com`]
    const user = await addUser()
    const next = {
      username: 'New',
      nameKey: key,
      email: address.toUpperCase(),
      emailKey: address,
      locale: 'ko',
    } as const
    const changed = { ...user, ...next }
    t.equal(await store.changeUser({ userId: user.id, expected: user, next: changed }), true)
    for (const found of [
      await other.findUser(user.id),
      await other.findUserByName(key),
      await other.findUserByEmail(address),
    ])
      t.strictSame(found, changed)
    t.equal(await other.findUserByName(user.nameKey), undefined, 'the old name is free')
    t.ok(await addUser({ nameKey: user.nameKey }))
    const { emailKey: _, ...unverified } = changed
    const expecteds = [
      { ...changed, username: 'new' },
      { ...changed, email: 'x' },
      unverified,
      { ...changed, locale: 'en' },
    ]
    for (const expected of [user, ...expecteds] as User[])
      t.equal(
        await store.changeUser({ userId: user.id, expected, next: user }),
        false,
        'as somebody has read it before',
      )
    t.equal(await store.changeUser({ userId: user.id, expected: changed, next: unverified }), true)
    t.strictSame(await other.findUser(user.id), unverified)
    t.equal(await other.findUserByEmail(address), undefined)
    const { email: __, locale: ___, ...bare } = unverified
    t.equal(await store.changeUser({ userId: user.id, expected: unverified, next: bare }), true)
    t.strictSame(await other.findUser(user.id), bare)
    t.same(
      (await findings(store)).filter(({ level }) => level === 'error'),
      [],
    )
  })

  t.test(`[${name}] of many who take one name, or one address, at once, one has it`, async (t) => {
    for (const member of ['nameKey', 'emailKey'] as const) {
      const users = await Promise.all(Array.from({ length: 20 }, () => addUser()))
      const wanted = `wanted ${randomUUID()}`
      const done = await atOnce(20, (i) => {
        const user = users[i] as User
        return either(i).changeUser({ userId: user.id, expected: user, next: { ...user, [member]: wanted } })
      })
      t.equal(done.filter(Boolean).length, 1, member)
      const holder = await store[member === 'nameKey' ? 'findUserByName' : 'findUserByEmail'](wanted)
      t.equal(holder?.id, users[done.indexOf(true)]?.id)
      t.equal(await store.createUser(makeUser({ [member]: wanted })), false, 'nor can a new user')
    }
    t.same(
      (await findings(store)).filter(({ level }) => level === 'error'),
      [],
    )
  })

  t.test(
    `[${name}] with a change of a user or password a record is taken and others end, or nothing happens`,
    async (t) => {
      const wide = { perOwner: 100, perSource: 100 }
      const issue = async (owner: string, kind: string, createdAt = now) => {
        const id = randomUUID().padEnd(43, '-')
        const times = { createdAt, expiresAt: now + 1000, misses: 0, version: 1 }
        await store.issueRecord({ id, kind, owner, source: owner, data: 'x', dueAt: now, ...times }, wide)
        return { id, kind, now: now + 1 }
      }
      const isLive = async (key: { id: string; kind: string; now: number }) =>
        (await store.findRecord(key)) !== undefined
      for (const ending of [undefined, end]) {
        const user = await addUser()
        const [reset, verify, early, kept] = [
          await issue(user.id, 'reset'),
          await issue(user.id, 'verify'),
          await issue(user.id, 'verify', now - 5),
          await issue(user.id, 'undo'),
        ]
        const others = await issue(randomUUID(), 'verify')
        const change = {
          userId: user.id,
          expected: user,
          next: { ...user, username: 'Other' },
          ending: { kinds: ['reset', 'verify'], since: now, now: now + 1 },
        }
        t.equal(await store.changeUser({ ...change, taking: { ...reset, kind: 'verify' } }, ending), false)
        t.equal(await store.changeUser({ ...change, taking: { ...reset, now: now + 1000 } }, ending), false)
        t.strictSame(await store.findUser(user.id), user, 'without the record the user is as before')
        t.equal(
          await store.changeUser({ ...change, expected: { ...user, roles: ['x'] }, taking: reset }, ending),
          false,
        )
        for (const key of [reset, verify, early, kept]) t.ok(await isLive(key), 'and the other way round')

        const done = await atOnce(50, (i) => either(i).changeUser({ ...change, taking: reset }, ending))
        t.equal(done.filter(Boolean).length, 1)
        t.match(await store.findUser(user.id), { username: 'Other', generation: ending ? 2 : 1 })
        t.same(await Promise.all([reset, verify, early, kept, others].map(isLive)), [false, false, true, true, true])
        t.same(
          (await store.dueRecords(['verify'], now + 1, 1000)).filter(({ id }) => id === verify.id),
          [],
          'and no mail goes for it',
        )
      }

      const user = await addUser()
      const [reset, verify] = [await issue(user.id, 'reset'), await issue(user.id, 'verify')]
      const change = { userId: user.id, expectedHash: user.passwordHash, ending: { kinds: ['verify'], now: now + 1 } }
      t.equal(await store.changePassword({ ...change, passwordHash: 'a', taking: { ...reset, id: 'x' } }, end), false)
      t.equal(
        await store.changePassword({ ...change, expectedHash: 'x', passwordHash: 'a', taking: reset }, end),
        false,
      )
      t.same(await Promise.all([reset, verify].map(isLive)), [true, true])
      const done = await atOnce(50, (i) =>
        either(i).changePassword({ ...change, passwordHash: `${i}`, taking: reset }, end),
      )
      t.equal(done.filter(Boolean).length, 1)
      t.match(await store.findUser(user.id), { passwordHash: `${done.indexOf(true)}`, generation: 2 })
      t.same(await Promise.all([reset, verify].map(isLive)), [false, false])

      const invitation = await issue(randomUUID(), 'invitation')
      const taken = await addUser()
      t.equal(await store.createUser(makeUser({ nameKey: taken.nameKey }), invitation), false)
      t.ok(await isLive(invitation), 'a name that is taken spends no invitation')
      const made = await atOnce(20, (i) => either(i).createUser(makeUser(), invitation))
      t.equal(made.filter(Boolean).length, 1)
      t.same(
        (await findings(store)).filter(({ level }) => level === 'error'),
        [],
      )
    },
  )

  /** Behind all that is recorded so far: the tests before have left more than a page. */
  async function endOfRevocations(): Promise<string> {
    let page = await store.revocationsSince()
    while (page.more) page = await store.revocationsSince(page.cursor)
    return page.cursor
  }

  async function everyUser(
    limit: number,
    onPage: (next: string | undefined) => unknown = () => {},
    filter: { prefix?: string; createdAfter?: number } = {},
  ): Promise<User[]> {
    const users: User[] = []
    let after: string | undefined
    do {
      const page = await store.listUsers({ limit, ...filter, ...(after !== undefined && { after }) })
      if (page.next !== undefined && page.users.length > limit) throw new Error('a page is larger than its limit')
      users.push(...page.users)
      after = page.next
      await onPage(after)
    } while (after !== undefined)
    return users
  }

  t.test(`[${name}] users are listed page by page, each once and just as they are, in one order`, async (t) => {
    const users = [await addUser({ roles: ['admin'] }), await addUser({ disabledAt: now, generation: 3 })]
    for (let i = 0; i < 10; i++) users.push(await addUser())
    const whole = await everyUser(100_000)
    t.equal(new Set(whole.map(({ id }) => id)).size, whole.length)
    for (const user of users)
      t.strictSame(
        whole.find(({ id }) => id === user.id),
        user,
      )
    for (const limit of [1, 7, whole.length]) t.strictSame(await everyUser(limit), whole, `by ${limit}`)
    t.same(await store.listUsers({ limit: 5, after: '\uffff' }), { users: [] })
  })

  t.test(`[${name}] users are found by the beginning of their mapped names, in the order of their bytes`, async (t) => {
    const names = ['', '!', '_', '-1', 'a', 'ab', 'b', 'z', 'é', 'ﬁ', '한', '𠀀', '𠀀a'].map((tail) => `pré.fix${tail}`)
    const others = ['pré.fiw', 'pré.fi', 'pré.fiy', 'pre.fix']
    for (const nameKey of [...names, ...others]) await addUser({ nameKey, username: nameKey })
    const inOrder = names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    for (const limit of [1, 3, 100]) {
      const found = await everyUser(limit, undefined, { prefix: 'pré.fix' })
      t.same(
        found.map(({ nameKey }) => nameKey),
        inOrder,
        `by ${limit}`,
      )
    }
    t.same(await everyUser(10, undefined, { prefix: 'pré.fixab!' }), [])
    const behind = await store.listUsers({ limit: 10, prefix: 'pré.fix', after: 'pré.fiy' })
    t.notOk(
      behind.users.some(({ nameKey }) => !nameKey.startsWith('pré.fix')),
      'a cursor leads nowhere else',
    )
  })

  t.test(`[${name}] users are found by the time of their creation, the oldest first, each once`, async (t) => {
    const at = now + 10 ** 10
    const made = []
    for (const createdAt of [at, at + 1, at + 1, at + 1, at + 2, at + 3])
      made.push(await addUser({ createdAt, nameKey: `made.${randomUUID()}` }))
    const found = (createdAfter: number, limit: number, prefix?: string) =>
      everyUser(limit, undefined, { createdAfter, ...(prefix !== undefined && { prefix }) })
    const idsOf = (users: User[]) => users.map(({ id }) => id)
    const inOrder = made.toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
    for (const limit of [1, 2, 6, 100]) {
      t.strictSame(await found(at - 1, limit), inOrder, `by ${limit}`)
      t.same(idsOf(await found(at, limit)), idsOf(inOrder.slice(1)), 'later than the time itself')
      const both = await found(at, limit, 'made.')
      t.same(idsOf(both).sort(), idsOf(inOrder.slice(1)).sort(), 'with a prefix')
    }
    t.same(await found(at + 3, 10), [])
    t.same(await found(Number.MAX_SAFE_INTEGER, 10), [])
    t.ok((await everyUser(100_000)).length <= (await found(-1, 1000)).length, 'all of them')

    const [first, second] = inOrder as [User, User]
    await store.deleteUser(first.id, end)
    await store.importRows('users', [{ ...second, createdAt: at + 9 }])
    await giveRoles(store, made[4]?.id as string, ['a'])
    t.same(idsOf(await found(at - 1, 10)), idsOf([...inOrder.slice(2), second]), 'as they are now')
  })

  t.test(`[${name}] a page of a prefix and a time looks at no more than so many users`, async (t) => {
    const at = now + 2 * 10 ** 10
    const many = Array.from({ length: usersLookedAt + 20 }, (_, i) => ({
      ...makeUser(),
      nameKey: `many.${String(i).padStart(4, '0')}`,
      createdAt: i === usersLookedAt + 10 || i === 3 ? at + 1 : at,
    }))
    for (let i = 0; i < many.length; i += 100) await store.importRows('users', many.slice(i, i + 100))
    const page = await store.listUsers({ limit: 10, prefix: 'many.', createdAfter: at })
    t.same(
      page.users.map(({ id }) => id),
      [many[3]?.id],
    )
    t.equal(page.next, many[usersLookedAt - 1]?.nameKey, 'and the next goes on behind them')
    t.same(
      (await everyUser(1, undefined, { prefix: 'many.', createdAfter: at })).map(({ id }) => id),
      [many[3]?.id, many[usersLookedAt + 10]?.id],
    )
  })

  t.test(`[${name}] a listing misses and repeats none of those who stay, while others come and go`, async (t) => {
    const staying = await Promise.all(Array.from({ length: 40 }, () => addUser()))
    const listed = { going: true }
    const passing = (async () => {
      while (listed.going) {
        const guests = Array.from({ length: 5 }, () => makeUser())
        await atOnce(5, (i) => either(i).createUser(guests[i] as User))
        await atOnce(5, (i) => either(i + 1).deleteUser(guests[i]?.id ?? '', end))
      }
    })()
    for (const limit of [1, 3, 10]) {
      const ids = (await everyUser(limit)).map(({ id }) => id)
      t.equal(new Set(ids).size, ids.length, `none twice, by ${limit}`)
      t.same(
        staying.filter(({ id }) => !ids.includes(id)),
        [],
      )
    }
    listed.going = false
    await passing

    const gone = new Set<string>()
    const ids = await everyUser(3, async (next) => {
      const last = next === undefined ? undefined : await store.findUserByName(next)
      if (last && gone.size < 5 && staying.some(({ id }) => id === last.id)) {
        gone.add(last.id)
        await other.deleteUser(last.id, end)
      }
    })
    t.ok(gone.size > 0, 'and where the last of a page is deleted, it goes on behind it')
    for (const { id } of staying) t.equal(ids.filter((user) => user.id === id).length, 1)
  })

  // Clients

  t.test(`[${name}] a client is found just as it was added`, async (t) => {
    const clients = [
      await addClient(),
      await addClient({ type: 'public', grants: [], scopes: [], audience: [], introspect: 'none', secrets: [] }),
      await addClient({ disabledAt: now + 5, isDeclared: true, introspect: 'all', generation: now + 7 }),
      await addClient({ firstParty: true }),
      await addClient({ firstParty: false }),
    ]
    for (const client of clients) t.strictSame(await other.findClient(client.id), client)
  })

  t.test(`[${name}] of fifty that make a client of one id at once, one succeeds`, async (t) => {
    const id = randomUUID()
    const clients = Array.from({ length: 50 }, (_, i) => makeClient({ id, scopes: [`${i}`] }))
    const created = await atOnce(50, (i) => either(i).createClient(clients[i] as Client))
    t.equal(created.filter(Boolean).length, 1)
    t.strictSame(await store.findClient(id), clients[created.indexOf(true)])
  })

  t.test(`[${name}] of fifty changes of a client at once, one succeeds in each generation`, async (t) => {
    const changes = isLong ? 5 : 2
    for (const ended of [undefined, end]) {
      const first = await addClient()
      let client = first
      for (let round = 1; round <= changes; round++) {
        const generation = client.generation + 1
        const next = Array.from({ length: 50 }, (_, i) =>
          makeClient({ id: first.id, generation, scopes: [`${i}`], audience: [] }),
        )
        const replaced = await atOnce(50, (i) => either(i).replaceClient(next[i] as Client, ended))
        t.equal(replaced.filter(Boolean).length, 1)
        client = next[replaced.indexOf(true)] as Client
        t.strictSame(await store.findClient(first.id), client)
      }
      t.equal(client.generation, first.generation + changes)
      const recorded = await everyRevocation(({ id }) => id === first.id)
      t.equal(recorded.length, ended ? changes : 0, 'recorded when that was asked for, and for the winners alone')
    }
  })

  t.test(`[${name}] replaceClient replaces all of it, and with an end revokes the generations before`, async (t) => {
    const client = await addClient({ disabledAt: now })
    const { disabledAt: _, ...enabled } = { ...client, generation: client.generation + 1 }
    t.equal(await store.replaceClient(enabled), true)
    t.strictSame(await other.findClient(client.id), enabled)
    t.same(await everyRevocation(({ id }) => id === client.id), [])

    const next = {
      ...enabled,
      type: 'public' as const,
      grants: [],
      scopes: ['x"y'],
      audience: [],
      introspect: 'none' as const,
      secrets: [],
    }
    const changed: Client = {
      ...next,
      createdAt: now + 1,
      isDeclared: true,
      disabledAt: now + 2,
      generation: client.generation + 2,
    }
    t.equal(await store.replaceClient(changed, end), true)
    t.strictSame(await other.findClient(client.id), changed)
    const revocation = {
      kind: 'client',
      id: client.id,
      generation: changed.generation,
      revokedAt: end.now,
      expiresAt: end.expiresAt,
    }
    t.strictSame(await everyRevocation(({ id }) => id === client.id), [revocation])

    for (const step of [-1, 0, 2]) {
      const stale = makeClient({ id: client.id, generation: changed.generation + step })
      t.equal(await store.replaceClient(stale), false, `by one that is ${step} generations on`)
      t.equal(await store.replaceClient(stale, end), false)
    }
    t.strictSame(await store.findClient(client.id), changed)
    t.equal((await everyRevocation(({ id }) => id === client.id)).length, 1, 'and what was refused has revoked nothing')
  })

  t.test(`[${name}] deleteClient removes a client, once, and revokes every generation that it had`, async (t) => {
    const [client, neighbour] = [await addClient(), await addClient()]
    const cursor = await endOfRevocations()
    const deleted = await atOnce(5, (i) => either(i).deleteClient(client.id, end))
    t.equal(deleted.filter(Boolean).length, 1)
    t.equal(await other.findClient(client.id), undefined)
    t.strictSame(await store.findClient(neighbour.id), neighbour)
    t.strictSame((await other.revocationsSince(cursor)).revocations, [
      {
        kind: 'client',
        id: client.id,
        generation: client.generation + 1,
        revokedAt: end.now,
        expiresAt: end.expiresAt,
      },
    ])
    t.equal(
      await store.replaceClient({ ...client, generation: client.generation + 1 }, end),
      false,
      'nothing takes its place',
    )
  })

  t.test(`[${name}] a change racing the removal of its client does not bring it back`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const client = await addClient()
      const next = { ...client, generation: client.generation + 1 }
      const [deleted, replaced] = await Promise.all([
        other.deleteClient(client.id, end),
        store.replaceClient(next, end),
      ])
      t.equal(deleted, true)
      t.equal(await store.findClient(client.id), undefined)
      const reached = Math.max(
        ...(await everyRevocation(({ id }) => id === client.id)).map((r) => ('generation' in r ? r.generation : 0)),
      )
      t.equal(reached, client.generation + (replaced ? 2 : 1), 'the newest revocation is beyond whatever it came to')
    }
  })

  t.test(
    `[${name}] a client made anew under the id of one that is gone is ahead of the revocation of that one`,
    async (t) => {
      const before = await addClient()
      await store.replaceClient({ ...before, generation: before.generation + 1 })
      await store.deleteClient(before.id, end)
      const anew = makeClient({ id: before.id, createdAt: now + 1000, generation: now + 1000, secrets: [] })
      t.equal(await store.createClient(anew), true)
      t.strictSame(await other.findClient(before.id), anew)
      const [revocation] = await everyRevocation(({ id }) => id === before.id)
      t.match(revocation, { kind: 'client', generation: before.generation + 2 })
      t.ok(revocation && 'generation' in revocation && anew.generation >= revocation.generation)
      t.equal(
        await store.replaceClient({ ...before, generation: before.generation + 2 }),
        false,
        'who still holds the old one cannot put it back',
      )
    },
  )

  // Sessions

  t.test(`[${name}] a session is found just as it was opened`, async (t) => {
    const session = await addSession(undefined, { scope: [], userAgent: '', createdAt: now - 5, refreshedAt: now - 5 })
    t.strictSame(await other.findSession(session.id), session)
  })

  t.test(`[${name}] no session opens for a user who is gone, disabled or in another generation`, async (t) => {
    const user = await addUser({ generation: 3 })
    const refused = [
      makeSession(makeUser()),
      makeSession(await addUser({ disabledAt: now })),
      makeSession(user, { generation: 2 }),
      makeSession(user, { generation: 4 }),
    ]
    for (const session of refused) {
      t.equal(await store.createSession(session), false)
      t.equal(await store.findSession(session.id), undefined)
    }
  })

  t.test(
    `[${name}] the counter of now rotates: the counter, the time and the origin move, the rest stays`,
    async (t) => {
      const user = await addUser({ roles: ['admin'] })
      const session = await addSession(user)
      const next = { ...session, counter: 2, refreshedAt: now + 1000, address: '2001:db8::1', userAgent: 'after' }
      t.strictSame(await rotate(session), { outcome: 'rotated', session: next, user })
      t.strictSame(await store.findSession(session.id), next)
    },
  )

  t.test(`[${name}] a scope may narrow, and the session keeps its own`, async (t) => {
    const session = await addSession()
    for (const [counter, scope] of [['files:read'], ['files:read', 'profile'], []].entries()) {
      t.match(await rotate(session, { counter: counter + 1, scope }), {
        outcome: 'rotated',
        session: { scope: session.scope },
      })
    }
  })

  t.test(`[${name}] fifty refreshes at once with one counter yield one lineage`, async (t) => {
    const session = await addSession()
    const results = await atOnce(50, (i) => either(i).rotateSession(present(session), theft))
    t.same(outcomes(results), [...Array(49).fill('repeated'), 'rotated'])
    t.ok(results.every((result) => 'session' in result && result.session.counter === 2))
    t.equal((await store.findSession(session.id))?.counter, 2)
  })

  t.test(`[${name}] a chain of refreshes, each raced, advances by one each time`, async (t) => {
    let session = await addSession()
    for (let counter = 1; counter <= 2 * rounds; counter++) {
      const results = await atOnce(4, (i) => either(i).rotateSession(present(session), theft))
      t.same(outcomes(results), ['repeated', 'repeated', 'repeated', 'rotated'])
      session = (await store.findSession(session.id)) as Session
      t.equal(session.counter, counter + 1)
    }
  })

  t.test(
    `[${name}] the counter before repeats to the last millisecond of the grace, and is theft after it`,
    async (t) => {
      const session = await addSession()
      await rotate(session, { now })
      const repeated = await rotate(session, { now: now + graceMs })
      t.match(repeated, { outcome: 'repeated', session: { counter: 2, refreshedAt: now, address: '2001:db8::1' } })
      t.match(await rotate(session, { now: now + graceMs + 1 }), { outcome: 'reused' })
    },
  )

  t.test(`[${name}] an older counter is theft at once: the session is gone and its revocation recorded`, async (t) => {
    const session = await addSession()
    await rotate(session)
    await rotate(session, { counter: 2 })

    t.match(await rotate(session), {
      outcome: 'reused',
      session: { id: session.id, userId: session.userId, counter: 3 },
    })
    t.equal(await store.findSession(session.id), undefined)
    t.same(await rotate(session, { counter: 3 }), { outcome: 'unknown' }, 'the honest holder is out, too')
    t.strictSame(await everyRevocation(({ id }) => id === session.id), [
      { kind: 'sid', id: session.id, revokedAt: now + 1000, expiresAt: now + 601_000 },
    ])
  })

  t.test(`[${name}] a theft replayed many times at once is found and recorded once`, async (t) => {
    const session = await addSession()
    await rotate(session)
    await rotate(session, { counter: 2 })
    const results = await atOnce(10, (i) => either(i).rotateSession(present(session), theft))
    t.same(outcomes(results), ['reused', ...Array(9).fill('unknown')])
    t.equal((await everyRevocation(({ id }) => id === session.id)).length, 1)
  })

  t.test(`[${name}] a replay racing the honest refresh ends the session whoever comes first`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const session = await addSession()
      await rotate(session)
      await rotate(session, { counter: 2 })
      const [honest, replay] = await Promise.all([
        rotate(session, { counter: 3 }),
        other.rotateSession(present(session), theft),
      ])
      t.match(honest.outcome, /^(rotated|unknown)$/)
      t.equal(replay.outcome, 'reused')
      t.equal(await store.findSession(session.id), undefined)
    }
  })

  t.test(`[${name}] a counter ahead, of a store that lost its tail, is accepted and gone on from`, async (t) => {
    const session = await addSession()
    t.match(await rotate(session, { counter: 7 }), { outcome: 'rotated', session: { counter: 8 } })
    t.match(await rotate(session, { counter: 7 }), { outcome: 'repeated', session: { counter: 8 } })
    t.match(await rotate(session, { counter: 8 }), { outcome: 'rotated', session: { counter: 9 } })
    t.match(await rotate(session, { counter: 1 }), { outcome: 'reused' })
  })

  t.test(`[${name}] another client, and a scope beyond the session's, are refused and touch nothing`, async (t) => {
    const session = await addSession()
    await rotate(session)
    const before = await store.findSession(session.id)
    const wrongClient = { clientId: 'another' }
    for (const counter of [1, 2, 3])
      t.same(await rotate(session, { ...wrongClient, counter }), { outcome: 'wrong_client' })
    t.same(
      await rotate(session, { ...wrongClient, counter: 0 }),
      { outcome: 'wrong_client' },
      'nor can it end the session by a replay',
    )
    for (const counter of [1, 2, 3])
      t.same(await rotate(session, { counter, scope: ['profile', 'admin'] }), { outcome: 'scope_exceeded' })
    t.strictSame(await store.findSession(session.id), before)
    t.match(
      await rotate(session, { counter: 0, scope: ['admin'] }),
      { outcome: 'reused' },
      'a theft is one with any scope',
    )
  })

  t.test(`[${name}] a session lives until its idle and its absolute life are over, to the millisecond`, async (t) => {
    const idle = await addSession()
    t.same(await rotate(idle, { now: now + limits.idleTtlMs }), { outcome: 'expired' })
    t.same(
      await rotate(idle, { now: now + limits.idleTtlMs, counter: 0 }),
      { outcome: 'expired' },
      'a replay finds nothing to end',
    )
    t.match(await rotate(idle, { now: now + limits.idleTtlMs - 1 }), { outcome: 'rotated' })
    const old = await addSession(undefined, { createdAt: now - limits.maxTtlMs, refreshedAt: now - 1 })
    t.same(await rotate(old, { now }), { outcome: 'expired' })
    t.match(await rotate(old, { now: now - 1 }), { outcome: 'rotated' })
  })

  t.test(
    `[${name}] a rotation that lies in the future is outside the grace, and within the skew of clocks is as old as now`,
    async (t) => {
      for (const [aheadMs, outcome] of [
        [clockSkewMs, 'repeated'],
        [clockSkewMs + 1, 'reused'],
        [2 * day, 'reused'],
      ] as const) {
        const session = await addSession()
        await rotate(session, { now: now + aheadMs })
        t.match(await rotate(session, { now }), { outcome }, `${aheadMs} ms ahead`)
      }
    },
  )

  t.test(`[${name}] a session of the future lives its life from now on, and its next rotation says so`, async (t) => {
    const user = await addUser()
    const ahead = now + 365 * day
    const session = await addSession(user, { createdAt: ahead, refreshedAt: ahead })
    t.match(await rotate(session), { outcome: 'rotated', session: { createdAt: now + 1000, refreshedAt: now + 1000 } })
    t.match(await store.findSession(session.id), { createdAt: now + 1000, refreshedAt: now + 1000 })
    const listed = await store.listSessions(user.id, { ...limits, now: now + 1000 }, { limit: 5 })
    t.same(
      listed.sessions.map(({ id }) => id),
      [session.id],
      'once, in its new place',
    )
    t.same(await rotate(session, { counter: 2, now: now + 1000 + limits.maxTtlMs }), { outcome: 'expired' })
    const near = await addSession(user, { createdAt: now + clockSkewMs, refreshedAt: now })
    t.match(await rotate(near, { now }), { session: { createdAt: now + clockSkewMs } }, 'clocks may differ')
    t.equal((await findings(store)).filter(({ level }) => level === 'error').length, 0, 'no index has lost its way')
  })

  t.test(
    `[${name}] a client of the same id that came later is another: it gets no session of the one before`,
    async (t) => {
      const user = await addUser()
      const judged = async (of: Partial<Session>, clientCreatedAt: number | undefined) => {
        const session = await addSession(user, of)
        const { outcome } = await rotate(session, { clientCreatedAt })
        if (outcome === 'wrong_client') {
          t.strictSame(await store.findSession(session.id), session, 'nothing is touched')
          t.same(await rotate(session, { clientCreatedAt, counter: 0 }), { outcome: 'wrong_client' }, 'nor by a replay')
        }
        return outcome
      }
      t.equal(await judged({ clientCreatedAt: now - day }, now - day), 'rotated')
      t.equal(await judged({ clientCreatedAt: now - day }, now - day + 1), 'wrong_client', 'in the next millisecond')
      t.equal(await judged({ clientCreatedAt: now - day }, now - 2 * day), 'wrong_client', 'whose clock was behind')
      t.equal(await judged({ clientCreatedAt: now - day }, undefined), 'rotated', 'where there is only one')
      t.equal(await judged({}, now + clockSkewMs), 'rotated', 'before 0.3.0 a session does not say')
      t.equal(await judged({}, now + clockSkewMs + 1), 'wrong_client', 'and one older than its client was not its own')
      const sessions = await Promise.all(
        [now - day, now].map((clientCreatedAt) => addSession(user, { clientCreatedAt })),
      )
      const together = await Promise.all(sessions.map((session) => rotate(session, { clientCreatedAt: now })))
      t.same(outcomes(together), ['rotated', 'wrong_client'], 'told apart in one batch')
    },
  )

  t.test(`[${name}] a session that is not there is unknown`, async (t) => {
    t.same(await rotate(makeSession(makeUser())), { outcome: 'unknown' })
    t.same(await rotate(makeSession(makeUser(), { id: 'not a uuid' })), { outcome: 'unknown' })
  })

  t.test(`[${name}] sessions are listed newest first, in pages, the dead left out`, async (t) => {
    const user = await addUser()
    await addSession(user)
    await store.endUserSessions(user.id, end)
    const current = { ...user, generation: 2 }
    await addSession(current, { createdAt: now - limits.maxTtlMs, refreshedAt: now })
    await addSession(current, { createdAt: now - limits.idleTtlMs, refreshedAt: now - limits.idleTtlMs })
    await addSession()
    const sessions: Session[] = []
    // Pairs of the same millisecond: a page must be able to end between them.
    for (let i = 0; i < 7; i++)
      sessions.push(await addSession(current, { createdAt: now - (i >> 1), refreshedAt: now }))

    const live = { ...limits, now }
    for (const limit of [1, 2, 3, 7, 100]) {
      const listed: Session[] = []
      let after: string | undefined
      do {
        const page = await store.listSessions(user.id, live, { limit, ...(after !== undefined && { after }) })
        t.ok(page.sessions.length === limit || page.next === undefined, 'a page with a next one is full')
        listed.push(...page.sessions)
        after = page.next
      } while (after !== undefined)
      t.same(
        listed.map(({ createdAt }) => createdAt),
        sessions.map(({ createdAt }) => createdAt),
        `in pages of ${limit}`,
      )
      t.same(new Set(listed.map(({ id }) => id)), new Set(sessions.map(({ id }) => id)))
    }
    await store.deleteUser(user.id, end)
    t.same(await store.listSessions(user.id, live, { limit: 5 }), { sessions: [] })
  })

  t.test(`[${name}] endSession ends one session, once, of the named user or of any, and records it`, async (t) => {
    const [session, neighbour] = [await addSession(), await addSession()]
    t.equal(await store.endSession(session.id, end, neighbour.userId), false)
    t.equal(await store.endSession(session.id, end, 'not a uuid'), false)
    t.ok(await isAlive(session))
    const ended = await atOnce(5, (i) => either(i).endSession(session.id, end, session.userId))
    t.equal(ended.filter(Boolean).length, 1)
    t.same(await rotate(session), { outcome: 'unknown' })
    t.same((await store.listSessions(session.userId, { ...limits, now }, { limit: 5 })).sessions, [])
    t.equal(await store.endSession(neighbour.id, end), true)
    t.strictSame(await everyRevocation(({ id }) => id === session.id), [
      { kind: 'sid', id: session.id, revokedAt: end.now, expiresAt: end.expiresAt },
    ])
  })

  t.test(`[${name}] a refresh racing the end of its session does not bring it back`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const session = await addSession()
      const [ended, refreshed] = await Promise.all([other.endSession(session.id, end), rotate(session)])
      t.equal(ended, true)
      t.match(refreshed.outcome, /^(rotated|unknown)$/)
      t.equal(await store.findSession(session.id), undefined)
    }
  })

  t.test(`[${name}] endUserSessions begins a new generation each time, and ends those before`, async (t) => {
    const user = await addUser()
    const session = await addSession(user)
    t.same(await atOnce(10, (i) => either(i).endUserSessions(user.id, end)), Array(10).fill(true))
    t.equal((await store.findUser(user.id))?.generation, 11, 'none was lost')
    t.same(await rotate(session), { outcome: 'unknown' })
    const recorded = await everyRevocation(({ id }) => id === user.id)
    t.same(
      recorded.map((revocation) => 'generation' in revocation && revocation.generation).sort(),
      [10, 11, 2, 3, 4, 5, 6, 7, 8, 9],
    )
    t.ok(await isAlive(await addSession({ ...user, generation: 11 })))
  })

  // Revocations

  t.test(`[${name}] revocations come back as they were recorded, of every kind, once past the cursor`, async (t) => {
    const cursor = await endOfRevocations()
    const base = { revokedAt: now, expiresAt: end.expiresAt }
    const recorded: Revocation[] = [
      { kind: 'jti', id: 'any text', ...base },
      { kind: 'sid', id: randomUUID(), ...base },
      { kind: 'user', id: randomUUID(), generation: 2, ...base },
      { kind: 'user', id: randomUUID(), generation: everyGeneration, exceptSessionId: randomUUID(), ...base },
      { kind: 'client', id: 'svc:{"a", \\b}', generation: now, ...base },
    ]
    for (const revocation of recorded) await store.revoke(revocation)
    const since = await other.revocationsSince(cursor)
    const byKind = (a: Revocation, b: Revocation) => (a.kind + a.id).localeCompare(b.kind + b.id)
    t.strictSame(since.revocations.sort(byKind), recorded.sort(byKind))
    t.same((await store.revocationsSince(since.cursor)).revocations, [])
  })

  t.test(`[${name}] what names one thing is recorded once while it is in force, RFC 7009 §2.2`, async (t) => {
    for (const kind of ['jti', 'sid', 'key'] as const) {
      const revocation = { ...makeJti(), kind } as Revocation
      const later = { ...revocation, revokedAt: now + 5, expiresAt: end.expiresAt + 5 }
      for (const again of [revocation, revocation, later]) await store.revoke(again)
      await other.revoke(later)
      t.strictSame(await everyRevocation(({ id }) => id === revocation.id), [revocation], kind)
      await store.revoke({ ...revocation, revokedAt: end.expiresAt, expiresAt: end.expiresAt + day })
      t.equal((await everyRevocation(({ id }) => id === revocation.id)).length, 2, 'and again when that is over')
    }
    const ended = await addSession()
    await store.endSession(ended.id, end)
    await other.revoke({ kind: 'sid', id: ended.id, revokedAt: now + 1, expiresAt: end.expiresAt + 1 })
    t.equal((await everyRevocation(({ id }) => id === ended.id)).length, 1, 'by whatever it was recorded')
    const long = makeJti({ id: 'é'.repeat(3_000) })
    await store.revoke(long)
    t.strictSame(await everyRevocation(({ id }) => id === long.id), [long], 'of any length')

    const jti = makeJti()
    await atOnce(50, () => store.revoke(jti))
    const rows = (await everyRevocation(({ id }) => id === jti.id)).length
    if (name === 'lmdb') t.equal(rows, 1, 'and once by fifty at once')
    for (const generation of [2, 3])
      await store.revoke({ kind: 'user', id: jti.id, generation, revokedAt: now, expiresAt: end.expiresAt })
    t.equal((await everyRevocation(({ id }) => id === jti.id)).length, rows + 2, 'each generation of a user is another')
    await sweepRound({ now: end.expiresAt + day, failuresBefore: 0, idleTtlMs: 1000 * day, maxTtlMs: 1000 * day })
    await store.revoke(jti)
    t.strictSame(await everyRevocation(({ id }) => id === jti.id), [jti], 'once swept it can be recorded anew')
    t.same(
      (await findings(store)).filter(({ level }) => level === 'error'),
      [],
    )
  })

  t.test(`[${name}] revocations come in pages, none missed, and the last says that it is the last`, async (t) => {
    const before = await endOfRevocations()
    const expected = Array.from({ length: 100 }, () => makeJti())
    for (const revocation of expected) await store.revoke(revocation)
    for (const limit of [8, 24, 1000]) {
      let cursor: string | undefined = before
      const seen: string[] = []
      for (let pages = 1, more = true; more; pages += 1) {
        const page = await other.revocationsSince(cursor, limit)
        t.ok(page.revocations.length <= limit && pages < 200, `no page has more than ${limit}`)
        seen.push(...page.revocations.map(({ id }) => id))
        ;({ cursor, more } = page)
      }
      t.same([...seen].sort(), expected.map(({ id }) => id).sort(), `each once, by ${limit}`)
      t.strictSame(await store.revocationsSince(cursor, limit), { revocations: [], cursor, more: false })
    }
    t.equal((await store.revocationsSince(undefined, 8)).more, true)
  })

  t.test(`[${name}] a follower misses none of the revocations recorded at once by two processes`, async (t) => {
    const total = isLong ? 400 : 100
    let cursor: string | undefined
    const seen = new Set<string>()
    const follow = async () => {
      const since = await store.revocationsSince(cursor)
      cursor = since.cursor
      for (const { id } of since.revocations) seen.add(id)
    }
    const expected = Array.from({ length: total }, () => makeJti())
    let recording = true
    const recorded = (async () => {
      for (let i = 0; i < total; i += 20) await atOnce(20, (j) => either(j).revoke(expected[i + j] as Revocation))
      recording = false
    })()
    while (recording) {
      await follow()
      await setImmediate()
    }
    await recorded
    await follow()
    t.same(
      expected.filter(({ id }) => !seen.has(id)),
      [],
    )
  })

  t.test(`[${name}] a follower's cursor stays good when everything before it was swept`, async (t) => {
    await store.revoke(makeJti())
    const cursor = await endOfRevocations()
    await sweepRound({ now: end.expiresAt + day, failuresBefore: 0, idleTtlMs: 1000 * day, maxTtlMs: 1000 * day })
    t.same((await store.revocationsSince()).revocations, [])
    const later = makeJti()
    await store.revoke(later)
    t.same((await store.revocationsSince(cursor)).revocations, [later])
  })

  t.test(`[${name}] a cursor that this store never gave reads as none`, async (t) => {
    const revocation = makeJti()
    await store.revoke(revocation)
    for (const cursor of ['', 'junk', '-1', '1.5', 'zzzzzzzzzzzzzzzzzzzzzzzz', '9'.repeat(300), 'NaN'])
      t.ok(
        (await store.revocationsSince(cursor)).revocations.some(({ id }) => id === revocation.id),
        cursor.slice(0, 24),
      )
  })

  // Signing keys

  t.test(`[${name}] of many first keys at once one is added, and each alg has its own`, async (t) => {
    const keys = Array.from({ length: 10 }, (_, i) =>
      makeKey({ createdAt: now + i, sealedPrivateKey: Buffer.from([0, 255, i]) }),
    )
    const added = await atOnce(10, (i) => either(i).addSigningKey(keys[i] as SigningKeyRecord, undefined))
    t.equal(added.filter(Boolean).length, 1)
    const first = keys[added.indexOf(true)] as SigningKeyRecord
    const rsa = makeKey({ alg: 'RS256' })
    t.equal(await store.addSigningKey(rsa, undefined), true)
    const listed = await other.listSigningKeys()
    const sealed = listed.find(({ kid }) => kid === first.kid)?.sealedPrivateKey
    t.ok(sealed && first.sealedPrivateKey && Buffer.compare(sealed, first.sealedPrivateKey) === 0)
    t.match(
      listed.find(({ kid }) => kid === first.kid),
      { ...first, sealedPrivateKey: Object },
    )
    t.strictSame(
      listed.find(({ kid }) => kid === rsa.kid),
      rsa,
      'without a private key, too',
    )
    t.equal(listed.length, 2)
  })

  t.test(`[${name}] of two rotations at once from the same newest key one is added`, async (t) => {
    let newest = (await store.listSigningKeys()).find(({ alg }) => alg === 'ES256') as SigningKeyRecord
    for (let round = 0; round < rounds; round++) {
      const keys = Array.from({ length: 4 }, (_, i) => makeKey({ createdAt: newest.createdAt + 1 + i }))
      const added = await atOnce(4, (i) => either(i).addSigningKey(keys[i] as SigningKeyRecord, newest.kid))
      t.equal(added.filter(Boolean).length, 1)
      newest = keys[added.indexOf(true)] as SigningKeyRecord
    }
    t.equal(await store.addSigningKey(makeKey({ createdAt: newest.createdAt + 1 }), undefined), false)
    t.equal(
      await store.addSigningKey(makeKey({ createdAt: newest.createdAt }), newest.kid),
      false,
      'one that would not be the newest',
    )
  })

  t.test(`[${name}] a removed key is gone, and the one before it is the newest again`, async (t) => {
    const [first, second, third] = [0, 1, 2].map((i) => makeKey({ alg: 'EdDSA', createdAt: now + i })) as [
      SigningKeyRecord,
      SigningKeyRecord,
      SigningKeyRecord,
    ]
    t.ok((await store.addSigningKey(first, undefined)) && (await store.addSigningKey(second, first.kid)))
    await store.removeSigningKey(second.kid)
    await store.removeSigningKey(second.kid)
    t.notOk((await other.listSigningKeys()).some(({ kid }) => kid === second.kid))
    t.equal(await store.addSigningKey(third, second.kid), false)
    t.equal(await store.addSigningKey(third, first.kid), true)
  })

  t.test(
    `[${name}] a key is sealed anew where it is sealed as expected, and one that is gone stays gone`,
    async (t) => {
      const [a, b, c] = ['a', 'b', 'c'].map((letter) => Buffer.from(letter.repeat(60))) as [Buffer, Buffer, Buffer]
      const key = makeKey({ alg: 'RS256', createdAt: now + 5 * day, sealedPrivateKey: a })
      const bare = makeKey({ alg: 'RS256', createdAt: now + 5 * day + 1 })
      await store.importRows('signingKeys', [key, bare])
      t.equal(await store.resealSigningKey(key.kid, b, c), false)
      const resealed = await atOnce(4, (i) =>
        either(i).resealSigningKey(key.kid, a, Buffer.concat([b, Buffer.from([i])])),
      )
      t.equal(resealed.filter(Boolean).length, 1)
      const sealed = (await other.listSigningKeys()).find(({ kid }) => kid === key.kid)?.sealedPrivateKey
      t.same(sealed && Buffer.from(sealed), Buffer.concat([b, Buffer.from([resealed.indexOf(true)])]))
      t.equal(await store.resealSigningKey(bare.kid, a, b), false, 'nor one that the operator keeps')
      for (const { kid } of [key, bare]) await store.removeSigningKey(kid)
      t.equal(await store.resealSigningKey(key.kid, sealed as Uint8Array, c), false)
      t.notOk((await other.listSigningKeys()).some(({ kid }) => kid === key.kid))
    },
  )

  t.test(`[${name}] withdrawing keys removes them and records that in one step, each once`, async (t) => {
    const keys = [
      makeKey({ createdAt: now + 3 * day }),
      makeKey({ createdAt: now + 3 * day + 1 }),
      makeKey({ alg: 'RS256' }),
    ]
    await store.importRows('signingKeys', keys)
    const kids = keys.map(({ kid }) => kid)
    const cursor = await endOfRevocations()
    t.same(await store.withdrawSigningKeys([], end), [])
    t.same(await store.withdrawSigningKeys(['unknown'], end), [])
    t.same((await store.revocationsSince(cursor)).revocations, [], 'what is not there is not recorded')
    const withdrawn = await atOnce(6, (i) => either(i).withdrawSigningKeys([...kids, 'unknown'], end))
    t.same(withdrawn.flat().sort(), [...kids].sort())
    t.notOk((await other.listSigningKeys()).some(({ kid }) => kids.includes(kid)))
    const { revocations, cursor: after } = await other.revocationsSince(cursor)
    const byId = (a: { id: string }, b: { id: string }) => a.id.localeCompare(b.id)
    const recorded = kids.map((id) => ({ kind: 'key', id, revokedAt: end.now, expiresAt: end.expiresAt }))
    t.strictSame(revocations.sort(byId), recorded.sort(byId))
    const next = makeJti()
    for (let i = 0; i < 16; i++) await store.revoke(makeJti())
    await store.revoke(next)
    const since = (await store.revocationsSince(after)).revocations
    t.ok(
      since.some(({ id }) => id === next.id) && since.every(({ kind }) => kind === 'jti'),
      'and the numbers go on behind them',
    )
  })

  // Failed logins

  t.test(`[${name}] failures are counted under each key, fifty at once as fifty`, async (t) => {
    const keys = [randomUUID(), `name with spaces ${randomUUID()}`, '12345'].map((key) => ({ key }))
    t.same(await store.findFailures(keys), [undefined, undefined, undefined])
    t.same(
      await store.recordFailure(keys, now),
      keys.map(() => ({ count: 1, lastAt: now })),
    )
    const counts = await atOnce(50, (i) => either(i).recordFailure(i % 3 ? keys : keys.toReversed(), now + 1))
    t.same(new Set(counts.map((count) => count[1]?.count)).size, 50, 'each caller saw its own count')
    t.same(
      await store.findFailures(keys),
      keys.map(() => ({ count: 51, lastAt: now + 1 })),
    )

    await other.clearFailures([...keys.slice(0, 1), { key: 'never seen' }])
    t.same(await store.findFailures(keys), [undefined, { count: 51, lastAt: now + 1 }, { count: 51, lastAt: now + 1 }])
    t.same(await store.recordFailure(keys.slice(0, 2).reverse(), now + 2), [
      { count: 52, lastAt: now + 2 },
      { count: 1, lastAt: now + 2 },
    ])
    t.same(await store.findFailures([]), [])
    t.same(await store.recordFailure([], now), [])
    await store.clearFailures([])
    await store.capFailures([], now)
  })

  t.test(
    `[${name}] a slot counts for one tag at a time: another takes it over at one, and shares no count`,
    async (t) => {
      const slot = randomUUID()
      const [first, second, plain] = [{ key: slot, tag: 'first' }, { key: slot, tag: 'second' }, { key: slot }]
      for (const at of [now, now + 1, now + 2]) await store.recordFailure([first], at)
      t.same(await other.findFailures([first, second, plain]), [
        { count: 3, lastAt: now + 2, tag: 'first' },
        undefined,
        undefined,
      ])
      await other.clearFailures([second, plain])
      t.same((await store.findFailures([first]))[0]?.count, 3, 'only its own tag clears it')

      t.strictSame(await store.recordFailure([second], now + 3), [{ count: 1, lastAt: now + 3, tag: 'second' }])
      t.strictSame(await store.recordFailure([plain], now + 4), [{ count: 1, lastAt: now + 4 }])
      t.same(await store.findFailures([first, second, plain]), [undefined, undefined, { count: 1, lastAt: now + 4 }])
      await atOnce(50, (i) => either(i).recordFailure([i % 2 ? first : second], now + 5))
      const [one, two] = await store.findFailures([first, second])
      t.equal([one, two].filter((found) => found !== undefined).length, 1, 'fifty at once leave it to one of the two')
      t.ok(((one ?? two)?.count ?? 0) <= 25)
      const ownCounts = await atOnce(20, (i) => either(i).recordFailure([{ key: `${slot} own`, tag: 'a' }], now))
      t.same(new Set(ownCounts.map(([own]) => own?.count)).size, 20, 'under one tag each counts')
      await store.clearFailures([first, second])
      t.same(await store.findFailures([first, second, plain]), [undefined, undefined, undefined])
    },
  )

  t.test(
    `[${name}] a slot is held for its tag from a number of failures on, as long as the last of them is recent`,
    async (t) => {
      const held = { count: 3, since: now - 100, until: now + 100 }
      const cases = [
        { count: 2, lastAt: now, isHeld: false },
        { count: 3, lastAt: now, isHeld: true },
        { count: 9, lastAt: now - 100, isHeld: true },
        { count: 9, lastAt: now + 100, isHeld: true },
        { count: 9, lastAt: now - 101, isHeld: false },
        { count: 9, lastAt: now + 101, isHeld: false },
      ]
      for (const { count, lastAt, isHeld } of cases) {
        const [holder, comer] = [{ key: randomUUID(), tag: 'holder' }, { tag: 'comer' }]
        await store.importRows('failures', [{ ...holder, count, lastAt }])
        const [failures] = await other.recordFailure([{ ...holder, ...comer }], now, held)
        t.strictSame(
          failures,
          isHeld ? undefined : { count: 1, lastAt: now, ...comer },
          JSON.stringify({ count, lastAt }),
        )
        t.equal((await store.findFailures([holder]))[0]?.count, isHeld ? count : undefined)
        t.equal(
          (await store.recordFailure([holder], now, held))[0]?.count,
          isHeld ? count + 1 : 1,
          'and its own tag counts on',
        )
      }
    },
  )

  t.test(`[${name}] a last failure that lies ahead is set back, with its count and tag, and no other is`, async (t) => {
    const [key, tag] = [randomUUID(), 'a tag']
    const rows = [
      { key: `${key} ahead`, count: 7, lastAt: now + 400 * day, tag },
      { key: `${key} before`, count: 8, lastAt: now - 1 },
      { key: `${key} of another`, count: 9, lastAt: now + 1, tag: 'another' },
    ]
    await store.importRows('failures', rows)
    await other.capFailures([{ key: `${key} of another`, tag }, ...rows.slice(0, 2), { key: `${key} never seen` }], now)
    t.strictSame(await store.findRows('failures', rows.map(keyOf)), [{ ...rows[0], lastAt: now }, rows[1], rows[2]])
  })

  // Housekeeping

  t.test(`[${name}] a round of sweeps in small steps removes what is dead, all of it, and nothing else`, async (t) => {
    await sweepRound({ now: now + 10_000 * day, failuresBefore: now + 10_000 * day })
    const user = await addUser()
    const gone = await addUser()
    const renewed = await addUser()
    const dead: Session[] = []
    const live: Session[] = []
    for (let i = 0; i < 5; i++) {
      dead.push(
        await addSession(user, { createdAt: now - limits.idleTtlMs, refreshedAt: now - limits.idleTtlMs }),
        await addSession(user, { createdAt: now - limits.maxTtlMs, refreshedAt: now }),
        await addSession(gone),
        await addSession(renewed),
      )
      live.push(
        await addSession(user, { createdAt: now - limits.maxTtlMs + 1, refreshedAt: now - limits.idleTtlMs + 1 }),
      )
    }
    await store.deleteUser(gone.id, { now, expiresAt: now } as End)
    await store.endUserSessions(renewed.id, { now, expiresAt: now } as End)
    live.push(await addSession({ ...renewed, generation: 2 }))
    const inForce = Array.from({ length: 5 }, () => makeJti({ expiresAt: now + 1 }))
    for (const revocation of inForce) {
      await store.revoke(makeJti({ expiresAt: now }))
      await store.revoke(revocation)
    }
    const forgotten = Array.from({ length: 5 }, (_, i) => ({ key: `${i} forgotten ${i}` }))
    const remembered = Array.from({ length: 5 }, (_, i) => ({ key: `${i} remembered ${i}` }))
    await store.recordFailure(forgotten, now - 1)
    await store.recordFailure(remembered, now)

    t.equal(
      await sweepRound({ limit: 1 }),
      dead.length + 2 + 5 + 5,
      'sessions, revocations of the users, of tokens, and counters',
    )
    t.equal(await sweepRound(), 0)
    for (const session of dead) t.equal(await store.findSession(session.id), undefined)
    for (const session of live) t.strictSame(await store.findSession(session.id), session)
    t.equal((await store.listSessions(user.id, { ...limits, now }, { limit: 100 })).sessions.length, 5)
    t.same(
      new Set((await store.revocationsSince()).revocations.map(({ id }) => id)),
      new Set(inForce.map(({ id }) => id)),
    )
    t.same(await store.findFailures(forgotten), Array(5).fill(undefined))
    t.same(await store.findFailures(remembered), Array(5).fill({ count: 1, lastAt: now }))
  })

  t.test(
    `[${name}] a sweep puts times that lie in the future right, and deletes nothing by a clock that has leapt ahead`,
    async (t) => {
      const user = await addUser()
      const ahead = now + 2 * day
      const created = await addSession(user, { createdAt: ahead, refreshedAt: ahead })
      const refreshed = await addSession(user, { refreshedAt: ahead })
      const near = await addSession(user, { createdAt: now + clockSkewMs, refreshedAt: now + clockSkewMs })
      const [failed, revocation] = [{ key: randomUUID() }, makeJti()]
      await store.recordFailure([failed], ahead)
      await store.revoke(revocation)

      await sweepRound({ now, clockNow: now + 1000 * day, failuresBefore: 0, limit: 2 })
      t.strictSame(
        await store.findSession(created.id),
        created,
        'it lies in the past by such a clock, and is not old by that of before',
      )
      t.same((await everyRevocation(({ id }) => id === revocation.id)).length, 1)
      await sweepRound({ now, graceMs, failuresBefore: 0, limit: 2 })
      t.match(await store.findSession(created.id), { ...created, createdAt: now, refreshedAt: now - graceMs - 1 })
      t.match(
        await store.findSession(refreshed.id),
        { ...refreshed, refreshedAt: now - graceMs - 1 },
        'and the grace does not begin anew',
      )
      t.match(await rotate(refreshed, { counter: refreshed.counter - 1, now }), { outcome: 'reused' })
      await addSession(user)
      t.strictSame(await store.findSession(near.id), near, 'clocks may differ')
      t.match(await store.findFailures([failed]), [{ count: 1, lastAt: now }])
      t.equal((await store.listSessions(user.id, { ...limits, now }, { limit: 10 })).sessions.length, 3)
      await sweepRound({ now: now + 2000 * day, revocationsBefore: 0, failuresBefore: 0 })
      t.same(
        (await everyRevocation(({ id }) => id === revocation.id)).length,
        1,
        'revocations go by a time of their own',
      )
      t.equal((await findings(store)).filter(({ level }) => level === 'error').length, 0, 'no index has lost its way')
      await sweepRound({ now: now + 2000 * day, failuresBefore: now + 1 })
    },
  )

  t.test(`[${name}] a step looks at no more rows than its limit`, async (t) => {
    const user = await addUser()
    for (let i = 0; i < 10; i++) await addSession(user, { createdAt: 0, refreshedAt: 0 })
    const step = await store.sweep({ ...limits, now, failuresBefore: now, limit: 4 })
    t.ok(step.removed <= 4 && step.cursor !== undefined)
  })

  t.test(`[${name}] a sweep racing the last refresh in time never takes a session that was refreshed`, async (t) => {
    const over = now + limits.idleTtlMs
    for (let round = 0; round < (isLong ? 5 : 2); round++) {
      const user = await addUser()
      const sessions = await Promise.all(Array.from({ length: 20 }, () => addSession(user)))
      const results = await atOnce<RotationOutcome | number>(21, (i) =>
        i === 10
          ? sweepRound({ now: over, limit: 5 })
          : either(i).rotateSession(present(sessions[i > 10 ? i - 1 : i] as Session, { now: over - 1 }), theft),
      )
      for (const result of results) {
        if (typeof result === 'number' || !('session' in result)) continue
        t.ok(await store.findSession(result.session.id), 'refreshed, so still there')
      }
    }
  })

  // Moving

  async function everyRow<T extends TableName>(table: T, limit = 7): Promise<Tables[T][]> {
    const rows: Tables[T][] = []
    let after: string | undefined
    do {
      const page = await store.exportRows(table, { limit, ...(after !== undefined && { after }) })
      rows.push(...page.rows)
      after = page.next
    } while (after !== undefined)
    return rows
  }

  t.test(`[${name}] what is imported is exported, found and used as if it had been made here`, async (t) => {
    const users = Array.from({ length: 20 }, (_, i) =>
      makeUser({ roles: ['admin', 'a, "b" {c} \\d'], generation: i + 1 }),
    )
    const disabled = makeUser({ disabledAt: now, roles: [] })
    const clients = Array.from({ length: 20 }, (_, i) =>
      makeClient({ generation: now + i, scopes: i % 2 ? [] : ['x', 'y"z\\'] }),
    )
    clients.push(makeClient({ type: 'public', disabledAt: now, isDeclared: true, introspect: 'all', secrets: [] }))
    const sessions = users.map((user, i) => makeSession(user, { counter: i + 5, scope: i % 2 ? [] : ['x', 'y"z\\'] }))
    const keys = [
      makeKey({ createdAt: now + day }),
      makeKey({ createdAt: now + day + 1, sealedPrivateKey: Buffer.from([0, 1, 255]) }),
    ]
    const failures = ['tagged', 'plain'].map((kind) => ({
      ...{ key: `${kind}-${t.name}`, count: 3, lastAt: now },
      ...(kind === 'tagged' && { tag: 'a tag' }),
    }))
    const records = [makeRecord({ misses: 2, version: 3 }), makeRecord({ spentAt: now, gave: 'a session', data: '' })]
    const audit = [makeAuditRow(), makeAuditRow({ outcome: 'failure' })]
    t.equal(await store.importRows('users', [...users, disabled]), 21)
    t.equal(await store.importRows('clients', clients), 21)
    t.equal(await store.importRows('sessions', sessions), 20)
    t.equal(await store.importRows('signingKeys', keys), 2)
    t.equal(await store.importRows('failures', failures), 2)
    t.equal(await store.importRows('records', records), 2)
    t.equal(await store.importRows('audit', audit), 2)

    const withFactors = users[4] as User
    const factors = [makeFactors(withFactors, [makeTotp(), makePasskey()], 7)]
    t.equal(await store.importRows('factors', factors), 1)
    withFactors.hasFactors = true

    const browserSessions = users.slice(0, 3).map((user) => makeBrowserSession(user, { factor: 'a factor' }))
    t.equal(await store.importRows('browserSessions', browserSessions), 3)
    const consents = users.slice(0, 3).map((user) => makeConsents(user, 3))
    t.equal(await store.importRows('consents', consents), 3)

    const given: { [T in TableName]: Tables[T][] } = {
      users: [...users, disabled],
      factors,
      clients,
      browserSessions,
      sessions,
      consents,
      signingKeys: keys,
      failures,
      records,
      audit,
    }
    for (const table of Object.keys(given) as TableName[]) {
      const rows = new Map((await everyRow(table)).map((row) => [keyOf(row), row]))
      for (const row of given[table]) t.strictSame(rows.get(keyOf(row)), row, table)
      const found = await other.findRows(table, [...given[table].map(keyOf), randomUUID()])
      t.strictSame(found, [...given[table], undefined])
    }
    const [user, session] = [users[3] as User, sessions[3] as Session]
    t.strictSame(await other.findUserByName(user.nameKey), user)
    t.strictSame((await other.listSessions(user.id, { ...limits, now }, { limit: 5 })).sessions, [session])
    t.match(await rotate(session), { outcome: 'rotated', session: { counter: session.counter + 1 } })
    const client = clients[5] as Client
    t.strictSame(await other.findClient(client.id), client)
    t.equal(await store.createClient(makeClient({ id: client.id })), false)
    t.equal(await store.replaceClient({ ...client, generation: client.generation + 1 }), true)
    t.strictSame(await store.findFailures(failures), [
      { count: 3, lastAt: now, tag: 'a tag' },
      { count: 3, lastAt: now },
    ])
    const newest = keys[1] as SigningKeyRecord
    t.equal(
      await store.addSigningKey(makeKey({ createdAt: newest.createdAt + 1 }), newest.kid),
      true,
      'a key can follow an imported one',
    )
  })

  t.test(`[${name}] rows come page by page in the order of their keys, each once`, async (t) => {
    for (let i = 0; i < 20; i++) await addUser()
    for (const limit of [1, 3, 1000]) {
      const ids = (await everyRow('users', limit)).map(({ id }) => id)
      t.same(ids, [...new Set(ids)].sort(), `by ${limit}`)
      const clientIds = (await everyRow('clients', limit)).map(({ id }) => id)
      const listed: string[] = []
      let after: string | undefined
      do {
        const page = await store.listClients({ limit, ...(after !== undefined && { after }) })
        listed.push(...page.clients.map(({ id }) => id))
        after = page.next
      } while (after !== undefined)
      t.same(listed, clientIds, 'and so are they listed')
      t.ok(clientIds.length > 20 && new Set(clientIds).size === clientIds.length)
    }
  })

  t.test(`[${name}] an import that is repeated changes nothing, and a later one replaces by key`, async (t) => {
    const user = makeUser()
    const session = makeSession(user)
    const client = makeClient({ disabledAt: now })
    for (let i = 0; i < 2; i++) {
      await store.importRows('users', [user])
      await store.importRows('clients', [client])
      await store.importRows('sessions', [session])
    }
    const renamed = { ...user, nameKey: `later-${user.nameKey}`, username: 'later', disabledAt: now }
    const moved = { ...session, counter: 9, createdAt: now - 1, userAgent: 'later' }
    t.equal(await store.importRows('users', [renamed]), 1)
    t.equal(await store.importRows('sessions', [moved]), 1)
    const later = makeClient({
      id: client.id,
      type: 'public',
      grants: [],
      scopes: [],
      audience: [],
      introspect: 'none',
      secrets: [],
    })
    const changed = { ...later, createdAt: now + 1, isDeclared: true, generation: client.generation + 1 }
    t.equal(await store.importRows('clients', [changed]), 1)
    t.strictSame(await store.findClient(client.id), changed)
    t.strictSame(await store.findUserByName(renamed.nameKey), renamed)
    t.equal(await store.findUserByName(user.nameKey), undefined, 'the name before is free')
    t.strictSame(await store.findSession(session.id), moved)
    t.equal((await findings(store)).filter(({ level }) => level === 'error').length, 0, 'and no index has lost its way')
  })

  t.test(`[${name}] an import never turns a session, a user or a client back, nor takes a name away`, async (t) => {
    const user = await addUser({ generation: 2 })
    const session = await addSession(user, { counter: 5 })
    t.equal(await store.importRows('users', [{ ...user, generation: 1, passwordHash: 'from before' }]), 0)
    t.equal(await store.importRows('sessions', [{ ...session, counter: 4 }]), 0)
    t.equal(await store.importRows('sessions', [{ ...session, counter: 6, generation: 1 }]), 0)
    const client = await addClient()
    t.equal(
      await store.importRows('clients', [makeClient({ id: client.id, generation: client.generation - 1, scopes: [] })]),
      0,
    )
    t.strictSame(await store.findClient(client.id), client)
    const [rival, free] = [makeUser({ nameKey: user.nameKey }), makeUser()]
    t.equal(await store.importRows('users', [rival, free]), 1, 'the others of the call are written')
    t.strictSame(await store.findUserByName(user.nameKey), user)
    t.strictSame(await store.findSession(session.id), session)
    t.equal(await store.findUser(rival.id), undefined)
    t.ok(await store.findUser(free.id))
  })

  t.test(`[${name}] a refresh racing an import of its session is never undone`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const session = await addSession()
      await Promise.all([rotate(session), other.importRows('sessions', [session])])
      t.equal((await store.findSession(session.id))?.counter, 2)
    }
  })

  t.test(`[${name}] a change of a client racing an import of it is never undone`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const client = await addClient()
      const next = { ...client, secrets: [], generation: client.generation + 1 }
      await Promise.all([store.replaceClient(next, end), other.importRows('clients', [client])])
      t.strictSame(await store.findClient(client.id), next)
    }
  })

  t.test(`[${name}] a snapshot is of one moment, whatever is written while it is read`, async (t) => {
    const [user, gone] = [await addUser(), await addUser()]
    const session = await addSession(user)
    const jti = makeJti()
    const read = await store.snapshot(async (rows) => {
      await rows.exportRows('users', { limit: 1 })
      await Promise.all([store.deleteUser(gone.id, end), other.endUserSessions(user.id, end), rotate(session)])
      await Promise.all([addSession(await store.findUser(user.id)), store.revoke(jti)])
      await store.ping()
      const { rows: all } = await rows.exportRows('sessions', { limit: 10_000 })
      const revoked: Revocation[] = []
      for await (const page of revocationPages(rows)) revoked.push(...page)
      return { found: await rows.findRows('users', [user.id, gone.id]), sessions: all, revoked }
    })
    t.strictSame(read.found, [user, gone])
    t.strictSame(
      read.sessions.filter(({ userId }) => userId === user.id),
      [session],
    )
    t.notOk(read.revoked.some(({ id }) => [jti.id, user.id, gone.id].includes(id)))
    t.equal(await store.findUser(gone.id), undefined, 'and what was written is there')
    await t.rejects(
      store.snapshot(() => Promise.reject(new Error("the caller's own"))),
      { message: "the caller's own" },
      'what the work rejects with is thrown as it is',
    )
    t.equal((await store.snapshot((rows) => rows.findRows('users', [user.id])))[0]?.generation, user.generation + 1)
  })

  t.test(`[${name}] a check of a store that only these methods wrote finds no error`, async (t) => {
    t.same(
      (await findings(store)).filter(({ level }) => level === 'error'),
      [],
    )
  })

  await recordContract(t, name, open)
  await factorContract(t, name, open)
  await browserContract(t, name, open)
  await importContract(t, name, open)
  await auditContract(t, name, open)

  t.test(
    `[${name}] close finishes what is under way, and every call after it rejects with StoreUnavailable`,
    async (t) => {
      const closing = await open()
      const user = makeUser()
      const created = closing.createUser(user)
      await closing.close()
      await closing.close()
      t.equal(await created, true)
      t.ok(await store.findUser(user.id), 'the other handle goes on')

      const session = makeSession(user)
      const recordKey = { kind: 'kind', id: 'id', now }
      const calls: Record<
        Exclude<keyof Store, 'name' | 'product' | 'isNew' | 'broken' | 'usage' | 'close'>,
        () => Promise<unknown>
      > = {
        ping: () => closing.ping(),
        createUser: () => closing.createUser(makeUser()),
        findUser: () => closing.findUser(user.id),
        findUserByName: () => closing.findUserByName(user.nameKey),
        replacePasswordHash: () => closing.replacePasswordHash(user.id, user.passwordHash, 'new'),
        changePassword: () =>
          closing.changePassword({ userId: user.id, expectedHash: user.passwordHash, passwordHash: 'new' }, end),
        deleteUser: () => closing.deleteUser(user.id, end),
        disableUser: () => closing.disableUser(user.id, end),
        enableUser: () => closing.enableUser(user.id),
        changeUser: () => closing.changeUser({ userId: user.id, expected: user, next: user }),
        findUserByEmail: () => closing.findUserByEmail('x'),
        importUsers: () => closing.importUsers([makeImportRow()], 'skip', end),
        listUsers: () => closing.listUsers({ limit: 1 }),
        createClient: () => closing.createClient(makeClient()),
        findClient: () => closing.findClient('id'),
        listClients: () => closing.listClients({ limit: 1 }),
        replaceClient: () => closing.replaceClient(makeClient()),
        deleteClient: () => closing.deleteClient('id', end),
        findFactors: () => closing.findFactors(user.id),
        changeFactors: () => closing.changeFactors({ userId: user.id, expectedVersion: 0, next: [] }),
        raiseSession: () => closing.raiseSession({ sessionId: session.id, authAt: now, amr: [] }, recordKey),
        resealTotp: () => closing.resealTotp(user.id, 'a', 'b'),
        removeFactors: () => closing.removeFactors(user.id),
        createSession: () => closing.createSession(session),
        rotateSession: () => closing.rotateSession(present(session), theft),
        findSession: () => closing.findSession(session.id),
        listSessions: () => closing.listSessions(user.id, { ...limits, now }, { limit: 1 }),
        endSession: () => closing.endSession(session.id, end),
        createBrowserSession: () => closing.createBrowserSession(makeBrowserSession(user), recordKey),
        findBrowserSession: () => closing.findBrowserSession(session.id),
        renewBrowserSession: () => closing.renewBrowserSession(renewalOf(makeBrowserSession(user))),
        seeBrowserSession: () => closing.seeBrowserSession(session.id, now),
        listBrowserSessions: () => closing.listBrowserSessions(user.id),
        listChildren: () => closing.listChildren(session.id),
        endBrowserSession: () => closing.endBrowserSession(session.id, end),
        findConsents: () => closing.findConsents(user.id),
        changeConsents: () => closing.changeConsents({ userId: user.id, expectedVersion: 0, next: [] }),
        removeConsents: () => closing.removeConsents(user.id),
        endUserSessions: () => closing.endUserSessions(user.id, end),
        revoke: () => closing.revoke(makeJti()),
        revocationsSince: () => closing.revocationsSince(),
        listSigningKeys: () => closing.listSigningKeys(),
        addSigningKey: () => closing.addSigningKey(makeKey(), undefined),
        removeSigningKey: () => closing.removeSigningKey('kid'),
        resealSigningKey: () => closing.resealSigningKey('kid', Buffer.from('a'), Buffer.from('b')),
        withdrawSigningKeys: () => closing.withdrawSigningKeys(['kid'], end),
        findFailures: () => closing.findFailures([{ key: 'key' }]),
        recordFailure: () => closing.recordFailure([{ key: 'key' }], now),
        capFailures: () => closing.capFailures([{ key: 'key' }], now),
        clearFailures: () => closing.clearFailures([{ key: 'key' }]),
        issueRecord: () => closing.issueRecord(makeRecord(), { perOwner: 1, perSource: 1 }),
        findRecord: () => closing.findRecord(recordKey),
        takeRecord: () => closing.takeRecord(recordKey),
        missRecord: () => closing.missRecord(recordKey, 5),
        replaceRecord: () => closing.replaceRecord(recordKey, 1, ''),
        dueRecords: () => closing.dueRecords(['code'], now, 5),
        endRecords: () => closing.endRecords('owner', ['kind']),
        removeRecord: () => closing.removeRecord('id'),
        addAudit: () => closing.addAudit([makeAuditRow()]),
        auditSince: () => closing.auditSince(undefined, 10),
        auditEnd: () => closing.auditEnd(),
        listAudit: () => closing.listAudit({}, { limit: 10 }),
        eraseAudit: () => closing.eraseAudit({ settledBefore: now, limit: 10 }),
        removeAudit: () => closing.removeAudit(randomUUID()),
        sweep: () => closing.sweep({ ...limits, now, failuresBefore: now, limit: 1 }),
        exportRows: () => closing.exportRows('users', { limit: 1 }),
        findRows: () => closing.findRows('users', [user.id]),
        importRows: () => closing.importRows('users', [user]),
        snapshot: () => closing.snapshot(async () => {}),
        check: () => findings(closing),
      }
      for (const [method, call] of Object.entries(calls)) {
        const error = await call().catch((error: unknown) => error)
        t.ok(error instanceof StoreUnavailable, method)
      }
      t.equal((await store.findUser(user.id))?.passwordHash, user.passwordHash)
    },
  )
}
