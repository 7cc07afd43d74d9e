import { randomBytes, randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { AuditRow } from '../../domain/audit.ts'
import type { Authentication } from '../../domain/authentication.ts'
import type { Factor, Passkey, RecoveryCodes, Totp, UserFactors } from '../../domain/factor.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { authenticationOf, type PresentedRefresh, type Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import type { Store } from '../../stores/store.ts'
import type { FactorsChange, Raised } from '../../stores/tables/factors.ts'
import { revocationPages } from '../../stores/tables/revocations.ts'
import { isLong } from '../support/processes.ts'
import { makeAuditRow } from './audit.ts'
import { makeRecord } from './records.ts'

const now = 1_800_000_000_000
const day = 86_400_000
const end = { now, expiresAt: now + 600_000 } as End
const rounds = isLong ? 20 : 4

const named = (name: string) => ({ id: randomUUID(), name, createdAt: now })

/** With names that mean something to JSON, and to whoever looks for a member in it. */
export const makeTotp = (over: Partial<Totp> = {}): Totp => ({
  ...named('“phone” \\ "id":"x", "kind":"webauthn" \u0000'),
  ...{ kind: 'totp', secret: randomBytes(60).toString('base64url'), step: 59_000_000, ...over },
})
export const makePasskey = (over: Partial<Passkey> = {}): Passkey => ({
  ...named('Schlüssel'),
  ...{ kind: 'webauthn', credentialId: randomBytes(16).toString('base64url'), publicKey: 'pQECAyYgASFYI', counter: 3 },
  ...{
    transports: ['internal', 'a "b"'],
    aaguid: randomUUID(),
    isBackupEligible: true,
    isBackedUp: false,
    usedAt: now,
  },
  ...over,
})
export const makeCodes = (over: Partial<RecoveryCodes> = {}): RecoveryCodes => ({
  ...named('"kind":"totp"'),
  ...{
    kind: 'recovery_code',
    hashes: Array.from({ length: 10 }, () => randomBytes(32).toString('base64url')),
    ...over,
  },
})
export const makeFactors = ({ id: userId }: User, factors: Factor[], version = 1): UserFactors => ({
  ...{ userId, factors, version },
})

/**
 * The part of the store's contract that is about second factors.
 *
 * @param open as given to `storeContract`
 */
export async function factorContract(t: Test, name: string, open: () => Promise<Store> | Store): Promise<void> {
  const store = await open()
  const other = await open()
  t.teardown(() => Promise.all([store.close(), other.close()]))

  /** Calls in turn from two processes, all under way before one is answered. */
  const race = <T>(n: number, call: (from: Store, i: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: n }, (_, i) => call(i % 2 === 0 ? store : other, i)))
  const winners = (results: boolean[]) => results.flatMap((won, i) => (won ? [i] : []))

  async function addUser(over: Partial<User> = {}): Promise<User> {
    const id = randomUUID()
    const user = { id, username: id, nameKey: id, passwordHash: 'hash', roles: [], createdAt: now, generation: 1 }
    await store.createUser({ ...user, ...over })
    return { ...user, ...over }
  }
  /** Puts factors in the place of those that a user has. */
  async function give(user: User, next: Factor[], change: Partial<FactorsChange> = {}): Promise<boolean> {
    const expectedVersion = (await store.findFactors(user.id))?.version ?? 0
    return store.changeFactors({ userId: user.id, expectedVersion, next, ...change })
  }
  async function addUserWith(...factors: Factor[]): Promise<User> {
    const user = await addUser()
    await give(user, factors)
    return user
  }
  const makeSession = ({ id: userId, generation }: User, over: Partial<Session> = {}): Session => ({
    ...{ id: randomUUID(), userId, clientId: 'app', scope: [], generation, counter: 1 },
    ...{ createdAt: now, refreshedAt: now, address: '', userAgent: '', ...over },
  })
  async function addSession(user: User, over: Partial<Session> = {}): Promise<Session> {
    const session = makeSession(user, over)
    if (!(await store.createSession(session))) throw new Error('the user was current')
    return session
  }
  async function issue(owner = 'somebody'): Promise<RecordTaking> {
    const record = makeRecord({ owner })
    await store.issueRecord(record, { perOwner: 1000, perSource: 1000 })
    return { kind: record.kind, id: record.id, now: now + 1 }
  }
  const isLeft = async (taking: RecordTaking) =>
    (await store.findRecord(taking))?.spentAt === undefined && (await store.findRecord(taking)) !== undefined
  const by = (factor: Factor, authAt = now + 5): Authentication => ({
    ...{ authAt, amr: ['pwd', 'otp', 'mfa'], factor: factor.id },
  })
  const raisedBy = ({ id: sessionId }: Session, factor: Factor, authAt?: number): Raised => ({
    ...{ sessionId, ...by(factor, authAt) },
  })
  /** A round of sweeps. @returns how many rows went, by table */
  async function sweepRound(): Promise<Record<string, number>> {
    const removed: Record<string, number> = { factors: 0 }
    const lives = { idleTtlMs: 1000 * day, maxTtlMs: 1000 * day }
    const limits = { ...lives, browser: lives, failuresBefore: 0, revocationsBefore: 0, limit: 5 }
    let cursor: string | undefined
    do {
      const swept = await store.sweep({ ...limits, now: now + 10, ...(cursor !== undefined && { cursor }) })
      removed[swept.table] = (removed[swept.table] ?? 0) + swept.removed
      cursor = swept.cursor
    } while (cursor !== undefined)
    return removed
  }
  const hasFactors = async ({ id }: User) => (await other.findUser(id))?.hasFactors
  const factorOf = async ({ id }: Session) => (await other.findSession(id))?.factor
  const rotate = (session: Session, over: Partial<PresentedRefresh> = {}, from = store) =>
    from.rotateSession(
      {
        ...{ sessionId: session.id, counter: session.counter, clientId: 'app', scope: undefined, graceMs: 30_000 },
        ...{ now: now + 1000, idleTtlMs: 30 * day, maxTtlMs: 90 * day, address: '', userAgent: '' },
        ...{ browser: { idleTtlMs: 7 * day, maxTtlMs: 30 * day }, ...over },
      },
      end,
    )
  async function revocationsOf(user: User): Promise<number> {
    let count = 0
    for await (const page of revocationPages(store)) count += page.filter(({ id }) => id === user.id).length
    return count
  }
  /** The rows of a user in the audit, by event. */
  const told = async ({ id: user }: User) =>
    (await store.listAudit({ user }, { limit: 100 })).rows.map(({ event }) => event).sort()
  const audit =
    ({ id: user }: User, event: string) =>
    (): AuditRow[] => [makeAuditRow({ user, event })]

  t.test(
    `[${name}] factors are found as they were put, and the row of the user says whether there are any`,
    async (t) => {
      const user = await addUser()
      t.equal(await store.findFactors(user.id), undefined)
      const factors = [makeTotp(), makePasskey(), makeCodes()]
      t.equal(await store.changeFactors({ userId: user.id, expectedVersion: 0, next: factors }), true)
      t.strictSame(await other.findFactors(user.id), { userId: user.id, factors, version: 1 })
      t.strictSame(await other.findUser(user.id), { ...user, hasFactors: true }, 'and nothing else of the user changes')
      t.equal(await give(user, factors.slice(2)), true)
      t.strictSame(await other.findUser(user.id), user, 'recovery codes alone are none')
      t.equal(await give(user, []), true)
      t.strictSame(
        await other.findFactors(user.id),
        { userId: user.id, factors: [], version: 3 },
        'the version goes on',
      )
      for (const one of [makeTotp(), makePasskey()]) {
        t.equal(await give(user, [one]), true)
        t.equal(await hasFactors(user), true, one.kind)
      }
    },
  )

  t.test(`[${name}] a row of factors is as small as docs/operations.md says, and who has none has none`, async (t) => {
    const bytesOf = async (factor: Factor) => {
      const user = await addUserWith(factor)
      return Buffer.byteLength(JSON.stringify(await store.findFactors(user.id)))
    }
    const es256 = {
      publicKey: randomBytes(77).toString('base64url'),
      credentialId: randomBytes(32).toString('base64url'),
    }
    const name = 'Authenticator app'
    const [app, passkey, codes] = [
      await bytesOf(makeTotp({ name, usedAt: now })),
      await bytesOf(makePasskey({ name, ...es256, transports: ['internal', 'hybrid'] })),
      await bytesOf(makeCodes({ name, usedAt: now })),
    ]
    t.ok(app <= 350 && passkey <= 550 && codes <= 700, `${app}, ${passkey}, ${codes} bytes`)
    const user = await addUser()
    await addSession(user)
    t.same(await store.findRows('factors', [user.id]), [undefined])
  })

  t.test(
    `[${name}] nothing is changed of a version that is another, of a user who is gone, disabled or nobody`,
    async (t) => {
      const user = await addUserWith(makeTotp())
      const before = await store.findFactors(user.id)
      for (const expectedVersion of [0, 2, 99])
        t.equal(await store.changeFactors({ userId: user.id, expectedVersion, next: [] }), false, `${expectedVersion}`)
      for (const userId of [randomUUID(), 'not a uuid', '', "'; --"]) {
        for (const expectedVersion of [0, 1]) {
          const change = { userId, expectedVersion, next: [makeTotp()] }
          t.equal(await store.changeFactors(change), false)
          t.equal(await store.changeFactors(change, end), false)
        }
        t.equal(await store.findFactors(userId), undefined)
        const raised = { sessionId: userId, authAt: now, amr: [] }
        t.equal(await store.raiseSession(raised, await issue()), false)
        t.equal(await give(user, [], { raising: raised }), false)
      }
      await store.disableUser(user.id, end)
      t.equal(await give(user, []), false, 'disabled')
      t.strictSame(await store.findFactors(user.id), before)
      t.equal(await hasFactors(user), true)
      t.equal(await revocationsOf(user), 1, 'that of being disabled')
      t.equal(await store.changeFactors({ userId: user.id, expectedVersion: 1, next: [] }, end), true, 'a reset')
      t.equal(await hasFactors(user), undefined)
      t.equal((await store.findUser(user.id))?.disabledAt, now, 'they stay disabled')
    },
  )

  t.test(
    `[${name}] of fifty changes at once from one version, one is made: the first of a user, and each after it`,
    async (t) => {
      for (let round = 0; round < rounds; round++) {
        const user = await addUser()
        for (let expectedVersion = 0; expectedVersion < 3; expectedVersion++) {
          const next = Array.from({ length: 50 }, () => [makeTotp({ step: round })])
          const changed = await race(50, (from, i) =>
            from.changeFactors(
              { userId: user.id, expectedVersion, next: next[i] as Factor[] },
              undefined,
              audit(user, 'x'),
            ),
          )
          const [won, ...more] = winners(changed)
          t.same(more, [])
          t.strictSame(await store.findFactors(user.id), {
            ...{ userId: user.id, factors: next[won as number], version: expectedVersion + 1 },
          })
        }
        t.same(await told(user), ['x', 'x', 'x'], 'each is told of once')
      }
    },
  )

  t.test(`[${name}] a step and a recovery code are spent by one of two hundred at once`, async (t) => {
    const [totp, codes] = [makeTotp(), makeCodes()]
    const user = await addUserWith(totp, codes)
    /** As who signs in does: reads, judges, and has it written of what was read. */
    async function spend(from: Store, edit: (factors: Factor[]) => Factor[] | undefined): Promise<boolean> {
      for (;;) {
        const read = await from.findFactors(user.id)
        const next = edit(read?.factors ?? [])
        if (!next) return false
        if (await from.changeFactors({ userId: user.id, expectedVersion: read?.version ?? 0, next })) return true
      }
    }
    const step = totp.step + 1
    const takeStep = (factors: Factor[]) =>
      factors.some((one) => one.kind === 'totp' && one.step >= step)
        ? undefined
        : factors.map((one) => (one.kind === 'totp' ? { ...one, step } : one))
    const code = codes.hashes[3] as string
    const takeCode = (factors: Factor[]) =>
      factors.some((one) => one.kind === 'recovery_code' && one.hashes.includes(code))
        ? factors.map((one) =>
            one.kind === 'recovery_code' ? { ...one, hashes: one.hashes.filter((hash) => hash !== code) } : one,
          )
        : undefined
    const spent = await race(200, (from, i) => spend(from, i % 4 < 2 ? takeStep : takeCode))
    t.equal(winners(spent).filter((i) => i % 4 < 2).length, 1, 'the step')
    t.equal(winners(spent).filter((i) => i % 4 >= 2).length, 1, 'the code')
    const left = codes.hashes.filter((hash) => hash !== code)
    t.strictSame((await store.findFactors(user.id))?.factors, [
      { ...totp, step },
      { ...codes, hashes: left },
    ])
    t.equal((await store.findFactors(user.id))?.version, 3)
  })

  t.test(
    `[${name}] a change takes a record, and ends others, in its step; without the record nothing is changed`,
    async (t) => {
      const user = await addUser()
      const [taking, ending] = [await issue(user.id), await issue(user.id)]
      const change = { userId: user.id, next: [makeTotp()], taking, ending: { kinds: ['code'], now: now + 1 } }
      const changed = await race(20, (from) => from.changeFactors({ ...change, expectedVersion: 0 }))
      t.equal(winners(changed).length, 1)
      t.equal((await isLeft(taking)) || (await isLeft(ending)), false)
      t.equal(await store.changeFactors({ ...change, expectedVersion: 1, next: [] }), false, 'it is taken')
      t.equal((await store.findFactors(user.id))?.version, 1)
      const left = await issue(user.id)
      t.equal(await store.changeFactors({ ...change, taking: left, expectedVersion: 0 }), false, 'of another version')
      t.equal(await isLeft(left), true, 'which leaves the record')
      t.equal(await give(user, [], { taking: left }), true)
    },
  )

  t.test(`[${name}] a change raises a session of the user in its step, and without that session is none`, async (t) => {
    const [user, neighbour] = [await addUser(), await addUser()]
    const totp = makeTotp()
    const [session, beside, ended] = [await addSession(user), await addSession(user), await addSession(user)]
    const strange = await addSession(neighbour)
    await store.endSession(ended.id, end)
    for (const gone of [ended, strange, makeSession(user)]) {
      const taking = await issue()
      t.equal(await give(user, [totp], { raising: raisedBy(gone, totp), taking }), false)
      t.ok(await isLeft(taking))
    }
    t.equal(await store.findFactors(user.id), undefined)
    t.equal(await give(user, [totp], { raising: raisedBy(session, totp) }), true)
    t.strictSame(await other.findSession(session.id), { ...session, ...by(totp) })
    t.strictSame(await other.findSession(beside.id), beside)
    t.strictSame(await other.findSession(strange.id), strange)
    const outcome = await rotate(session)
    t.match(outcome, { outcome: 'rotated', user: { hasFactors: true } })
    t.strictSame('session' in outcome && authenticationOf(outcome.session), by(totp), 'a refresh knows')
    await store.endUserSessions(user.id, end)
    t.equal(await give(user, [], { raising: raisedBy(session, totp) }), false, 'of a generation that has passed')
  })

  t.test(`[${name}] with a factor go the levels that it gave, in every session of the user`, async (t) => {
    const [gone, kept] = [makeTotp(), makePasskey()]
    const user = await addUserWith(gone, kept)
    const ofGone = await Promise.all(Array.from({ length: 12 }, () => addSession(user, by(gone))))
    const ofKept = await addSession(user, by(kept))
    const plain = await addSession(user)
    t.equal(await give(user, [kept], { lowering: gone.id, raising: raisedBy(ofGone[0] as Session, kept) }), true)
    t.equal(await factorOf(ofGone[0] as Session), kept.id, 'what is raised by another in the same step is raised')
    for (const session of ofGone.slice(1)) {
      const { factor: _, ...lowered } = session
      t.strictSame(await other.findSession(session.id), lowered)
      t.match(await rotate(session), { outcome: 'rotated' }, 'and it goes on')
    }
    t.strictSame(await other.findSession(ofKept.id), ofKept)
    t.strictSame(await other.findSession(plain.id), plain)
    t.equal(await give(user, [], { lowering: kept.id, raising: raisedBy(plain, kept) }), true)
    t.equal(await factorOf(plain), undefined, 'nor is one raised by what goes')
  })

  t.test(`[${name}] with an end, a change ends all sessions and records that`, async (t) => {
    const user = await addUserWith(makeTotp())
    const session = await addSession(user)
    const changes = await race(10, (from) =>
      from.changeFactors({ userId: user.id, expectedVersion: 1, next: [] }, end, audit(user, 'factors.reset')),
    )
    t.equal(winners(changes).length, 1)
    t.strictSame(await other.findUser(user.id), { ...user, generation: 2 })
    t.match(await rotate(session), { outcome: 'unknown' })
    t.equal(await revocationsOf(user), 1)
    t.same(await told(user), ['factors.reset'])
  })

  t.test(`[${name}] a session is raised by a record, once of two hundred at once`, async (t) => {
    const totp = makeTotp()
    const user = await addUserWith(totp)
    const session = await addSession(user)
    const taking = { ...(await issue()), keep: { gave: session.id, until: now + day } }
    const raised = await race(200, (from, i) =>
      from.raiseSession(raisedBy(session, totp, now + i), taking, audit(user, 'session.raised')),
    )
    const [won, ...more] = winners(raised)
    t.same(more, [])
    t.strictSame(await other.findSession(session.id), { ...session, ...by(totp, now + (won as number)) })
    t.match(await store.findRecord(taking), { gave: session.id, spentAt: now + 1 }, 'which says what it gave')
    t.same(await told(user), ['session.raised'])
    const anew = { sessionId: session.id, authAt: now + 9, amr: ['pwd' as const] }
    t.equal(await store.raiseSession(anew, await issue()), true)
    t.strictSame(await other.findSession(session.id), { ...session, authAt: now + 9, amr: ['pwd'] }, 'by one factor')
  })

  t.test(
    `[${name}] no session is raised that has ended, of a user who may not, or without a record, which is left`,
    async (t) => {
      const totp = makeTotp()
      const users = await Promise.all(Array.from({ length: 5 }, () => addUserWith(totp)))
      const sessions = await Promise.all(users.map((user) => addSession(user)))
      const [disabled, deleted, ended, all, good] = sessions as [Session, Session, Session, Session, Session]
      await store.disableUser(disabled.userId, end)
      await store.deleteUser(deleted.userId, end)
      await store.endSession(ended.id, end)
      await store.endUserSessions(all.userId, end)
      for (const session of [disabled, deleted, ended, all]) {
        const taking = await issue()
        t.equal(await store.raiseSession(raisedBy(session, totp), taking), false)
        t.ok(await isLeft(taking))
      }
      t.equal(await store.raiseSession(raisedBy(good, totp), { kind: 'code', id: 'x', now }), false)
      t.strictSame(await store.findSession(good.id), good)
    },
  )

  t.test(
    `[${name}] no session is opened or raised by a factor that is gone, in a race with its removal either`,
    async (t) => {
      for (let round = 0; round < 3 * rounds; round++) {
        const [gone, kept] = [makeTotp(), makeTotp()]
        const user = await addUserWith(gone, kept)
        const session = await addSession(user)
        const opened = [makeSession(user, by(gone)), makeSession(user, by(gone))]
        const takings = [await issue(), await issue()] as [RecordTaking, RecordTaking]
        await race(
          4,
          (from, i) =>
            [
              () => from.changeFactors({ userId: user.id, expectedVersion: 1, next: [kept], lowering: gone.id }),
              () => from.raiseSession(raisedBy(session, gone), takings[0]),
              () => from.createSession(opened[0] as Session, takings[1]),
              () => from.createSession(opened[1] as Session),
            ][(i + round) % 4]?.() ?? Promise.resolve(false),
        )
        t.same((await store.findFactors(user.id))?.factors, [kept])
        for (const one of [session, ...opened]) t.equal(await factorOf(one), undefined)

        const [late, lateTaking] = [makeSession(user, by(gone)), await issue()]
        t.equal(await store.createSession(late), false)
        t.equal(await store.createSession(late, lateTaking), false)
        t.equal(await store.raiseSession(raisedBy(session, gone), lateTaking), false)
        t.ok(await isLeft(lateTaking), 'and what was to be taken is left')
        t.equal(await store.createSession(makeSession(user, by(kept))), true)
        t.equal(await store.createSession({ ...late, ...by(kept) }, lateTaking), true)
      }
    },
  )

  t.test(`[${name}] a refresh while its session is raised is lost by neither`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const totp = makeTotp()
      const user = await addUserWith(totp)
      const session = await addSession(user)
      const taking = await issue()
      const [outcome, isRaised] = await Promise.all([
        rotate(session),
        other.raiseSession(raisedBy(session, totp), taking),
      ])
      t.equal(outcome.outcome, 'rotated')
      t.equal(isRaised, true)
      t.match(await store.findSession(session.id), { counter: 2, factor: totp.id, authAt: now + 5 })
    }
  })

  t.test(
    `[${name}] a refresh of a user without a factor that AUTH_MFA demands is refused, and nothing is rotated`,
    async (t) => {
      const totp = makeTotp()
      const plain = await addUser()
      const admin = await addUser({ roles: ['a', 'admin'] })
      const withFactor = await addUserWith(totp)
      const adminWith = await addUser({ roles: ['admin'] })
      await give(adminWith, [totp])
      const codesOnly = await addUserWith(makeCodes())
      const refused = { optional: [], admins: [admin], required: [plain, admin, codesOnly] }
      for (const mfa of ['optional', 'admins', 'required'] as const) {
        const users = [plain, admin, withFactor, adminWith, codesOnly]
        const sessions = await Promise.all(users.map((user) => addSession(user)))
        const alone = await Promise.all(users.map((user) => addSession(user)))
        // Together they share a statement; one by one each has its own.
        const together = await Promise.all(sessions.map((session) => rotate(session, { mfa })))
        for (const [i, user] of users.entries()) {
          const expected = (refused[mfa] as User[]).includes(user) ? 'factor_missing' : 'rotated'
          t.equal(together[i]?.outcome, expected, `${mfa}: user ${i}`)
          t.equal((await rotate(alone[i] as Session, { mfa })).outcome, expected, `${mfa}: user ${i}, alone`)
          t.equal((await store.findSession(sessions[i]?.id ?? ''))?.counter, expected === 'rotated' ? 2 : 1)
        }
      }
    },
  )

  t.test(
    `[${name}] deleteUser forgets the factors; what is put there in that moment goes with the next sweep`,
    async (t) => {
      const user = await addUserWith(makeTotp())
      await store.deleteUser(user.id, end)
      t.equal(await other.findFactors(user.id), undefined)
      t.equal(await give(user, [makeTotp()]), false)
      const users = await Promise.all(Array.from({ length: 2 * rounds }, () => addUser()))
      await race(4 * rounds, (from, i) => {
        const { id } = users[i >> 1] as User
        return i % 2 === 0
          ? from.deleteUser(id, end)
          : from.changeFactors({ userId: id, expectedVersion: 0, next: [makeTotp()] })
      })
      await sweepRound()
      for (const { id } of users) t.equal(await other.findFactors(id), undefined)
    },
  )

  t.test(`[${name}] a secret is sealed anew once, and what is written beside it is lost by neither`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const [first, second] = [makeTotp(), makeTotp()]
      const user = await addUserWith(first, second, makeCodes())
      const [resealed, isStepped] = await Promise.all([
        race(10, (from, i) => from.resealTotp(user.id, first.secret, `anew_${i}-`)),
        other.changeFactors({ userId: user.id, expectedVersion: 1, next: [first, { ...second, step: 7 }] }),
      ])
      const [won, ...more] = winners(resealed)
      t.same(more, [])
      const found = await store.findFactors(user.id)
      t.match(found, { version: isStepped ? 3 : 2, factors: [{ ...first, secret: `anew_${won}-` }, { id: second.id }] })
      t.match(found?.factors[1], isStepped ? { step: 7 } : second)
    }
    const user = await addUserWith(makeCodes({ name: '"secret":"a"' }), makeTotp({ secret: 'b' }))
    const before = await store.findFactors(user.id)
    t.equal(await store.resealTotp(user.id, 'a', 'c'), false)
    for (const id of [randomUUID(), 'x', '']) t.equal(await store.resealTotp(id, 'b', 'c'), false)
    t.strictSame(await store.findFactors(user.id), before)
    await store.disableUser(user.id, end)
    t.equal(await store.resealTotp(user.id, 'b', 'c'), true, 'of a disabled user too')
  })

  t.test(`[${name}] a sweep takes the factors of users who are gone, and of nobody else`, async (t) => {
    const users = await Promise.all(Array.from({ length: 12 }, () => addUserWith(makeTotp())))
    const orphans = Array.from({ length: 12 }, () => makeFactors({ ...(users[0] as User), id: randomUUID() }, []))
    await store.importRows('factors', orphans)
    t.equal((await sweepRound()).factors, 12)
    for (const { userId } of orphans) t.equal(await other.findFactors(userId), undefined)
    for (const { id } of users) t.equal((await other.findFactors(id))?.version, 1)
    t.same((await sweepRound()).factors, 0)
  })

  t.test(
    `[${name}] a sign-in of the future was by a clock that was wrong: a sweep makes it one of long ago`,
    async (t) => {
      const totp = makeTotp()
      const user = await addUserWith(totp)
      const ahead = await addSession(user, by(totp, now + day))
      const [good, plain] = [await addSession(user, by(totp, now)), await addSession(user)]
      await sweepRound()
      t.strictSame(await other.findSession(ahead.id), { ...ahead, authAt: 0 })
      for (const session of [good, plain]) t.strictSame(await other.findSession(session.id), session)
    },
  )

  t.test(`[${name}] an import never turns factors back, and the row of the user follows them`, async (t) => {
    const totp = makeTotp({ step: 7 })
    const user = await addUserWith(totp)
    await give(user, [{ ...totp, step: 8 }])
    const found = await store.findFactors(user.id)
    t.equal(await store.importRows('factors', [makeFactors(user, [totp], 1)]), 0)
    t.strictSame(await store.findFactors(user.id), found)
    await store.importRows('users', [{ ...user, username: 'from a time without a factor' }])
    t.match(await store.findUser(user.id), { username: 'from a time without a factor', hasFactors: true })
    t.equal(await store.importRows('factors', [makeFactors(user, [makeCodes()], 3)]), 1)
    t.equal(await hasFactors(user), undefined)
    await store.importRows('users', [{ ...user, hasFactors: true }])
    t.equal(await hasFactors(user), undefined)
    t.equal(await store.importRows('factors', [makeFactors(user, [makePasskey()], 4)]), 1)
    t.equal(await hasFactors(user), true)
    await store.removeFactors(user.id)
    t.equal(await hasFactors(user), undefined)
    t.equal(await store.findFactors(user.id), undefined)
    const imported = await addUser({ hasFactors: true })
    t.equal(await hasFactors(imported), true, 'a new one is as its row says')
  })
}
