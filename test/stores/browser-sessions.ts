import { randomBytes, randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { Consent, UserConsents } from '../../domain/consent.ts'
import type { End } from '../../domain/lifetimes.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { RecordTaking } from '../../domain/record.ts'
import type { PresentedRefresh, Session, SessionLimits } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import type { Finding } from '../../stores/moving/moving.ts'
import type { Store } from '../../stores/store.ts'
import { childrenListed, logoutKind, type RenewedBrowserSession } from '../../stores/tables/browser-sessions.ts'
import { revocationPages } from '../../stores/tables/revocations.ts'
import { isLong } from '../support/processes.ts'
import { makeAuditRow } from './audit.ts'
import { makeTotp } from './factors.ts'
import { makeRecord } from './records.ts'

const now = 1_800_000_000_000
const day = 86_400_000
const end = { now, expiresAt: now + 600_000 } as End
const limits = { idleTtlMs: 30 * day, maxTtlMs: 90 * day, browser: { idleTtlMs: 7 * day, maxTtlMs: 30 * day } }
const rounds = isLong ? 20 : 4

export const makeBrowserSession = (
  { id: userId, generation }: User,
  over: Partial<BrowserSession> = {},
): BrowserSession => ({
  ...{ id: randomUUID(), userId, generation, secretHash: randomBytes(32).toString('base64url') },
  ...{ createdAt: now, seenAt: now, address: '2001:db8::1', userAgent: 'Mozilla/5.0 “test”' },
  ...{ authAt: now, amr: ['pwd'], ...over },
})
/** With what means something to JSON and to a database. */
export const makeConsents = (
  { id: userId }: User,
  version = 1,
  consents: Consent[] = [
    { clientId: 'app "{\\', clientCreatedAt: now, scope: ['openid', 'a, "b"'], grantedAt: now },
    { clientId: 'https://app.example/ä', scope: [], grantedAt: now },
  ],
): UserConsents => ({ userId, consents, version })
/** Another secret, and another sign-in. */
export const renewalOf = (
  { id, secretHash: expectedHash }: BrowserSession,
  over: Partial<RenewedBrowserSession> = {},
): RenewedBrowserSession => ({
  ...{ id, expectedHash, secretHash: randomBytes(32).toString('base64url'), seenAt: now + 5 },
  ...{ authAt: now + 5, amr: ['pwd'], ...over },
})

/**
 * The part of the store's contract that is about sign-in in the browser: browser sessions, the sessions of apps that
 * begin with them, and what users have allowed these.
 *
 * @param open as given to `storeContract`
 */
export async function browserContract(t: Test, name: string, open: () => Promise<Store> | Store): Promise<void> {
  const store = await open()
  const other = await open()
  t.teardown(() => Promise.all([store.close(), other.close()]))

  /** Calls in turn from two processes, all under way before one is answered. */
  const race = <T>(n: number, call: (from: Store, i: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: n }, (_, i) => call(i % 2 === 0 ? store : other, i)))
  const winners = (results: boolean[]) => results.filter(Boolean).length

  async function addUser(over: Partial<User> = {}): Promise<User> {
    const id = randomUUID()
    const user = { id, username: id, nameKey: id, passwordHash: 'hash', roles: [], createdAt: now, generation: 1 }
    await store.createUser({ ...user, ...over })
    return { ...user, ...over }
  }
  async function issue(): Promise<RecordTaking> {
    const record = makeRecord()
    await store.issueRecord(record, { perOwner: 1000, perSource: 1000 })
    return { kind: record.kind, id: record.id, now: now + 1 }
  }
  const isLeft = async (taking: RecordTaking) => {
    const record = await store.findRecord(taking)
    return record !== undefined && record.spentAt === undefined
  }
  async function signIn(user: User, over: Partial<BrowserSession> = {}): Promise<BrowserSession> {
    const session = makeBrowserSession(user, over)
    if (!(await store.createBrowserSession(session, await issue()))) throw new Error('the user was current')
    return session
  }
  /** Members that are undefined are left out. */
  type Over = { [M in keyof Session]?: Session[M] | undefined }
  const makeChild = (parent: BrowserSession, over: Over = {}): Session =>
    omitUndefined({
      ...{ id: randomUUID(), userId: parent.userId, clientId: 'app', clientCreatedAt: 5, scope: ['openid'] },
      ...{ generation: parent.generation, counter: 1, createdAt: now, refreshedAt: now, address: '', userAgent: '' },
      ...{ parent: parent.id, ...over },
    }) as Session
  async function addChild(parent: BrowserSession, over: Over = {}): Promise<Session> {
    const session = makeChild(parent, over)
    if (!(await store.createSession(session))) throw new Error('the parent was there')
    return session
  }
  const rotate = async (session: Session, over: Partial<PresentedRefresh> = {}, from = store) => {
    const { id: sessionId, counter, clientId, clientCreatedAt } = session
    const presented = { sessionId, counter, clientId, clientCreatedAt, scope: undefined, graceMs: 30_000 }
    const result = await from.rotateSession(
      { ...presented, ...limits, now: now + 1000, address: '', userAgent: '', ...over },
      end,
    )
    return result.outcome
  }
  const listed = async ({ id }: User, at: Partial<SessionLimits> = {}) => {
    const { sessions } = await other.listSessions(id, { ...limits, now, ...at }, { limit: 100 })
    return sessions.map((session) => session.id)
  }
  const everyLogout = async (of: Session[], at = now) => {
    const due = (await store.dueRecords([logoutKind], at, 100_000)).filter(({ owner }) =>
      of.some(({ id }) => id === owner),
    )
    return due.map(({ id, data, ...record }) => {
      t.equal(id, `logout.${record.owner}`)
      return { ...JSON.parse(data), at: record.dueAt }
    })
  }
  async function findings(): Promise<Finding[]> {
    const found: Finding[] = []
    for await (const finding of store.check()) found.push(finding)
    return found
  }
  async function isRevoked({ id }: Session): Promise<boolean> {
    for await (const page of revocationPages(store)) if (page.some((one) => one.id === id)) return true
    return false
  }
  async function sweepRound(at: number, from = store): Promise<Record<string, number>> {
    const removed: Record<string, number> = {}
    let cursor: string | undefined
    do {
      const step = { ...limits, now: at, failuresBefore: 0, revocationsBefore: 0, limit: 5 }
      const swept = await from.sweep({ ...step, ...(cursor !== undefined && { cursor }) })
      removed[swept.table] = (removed[swept.table] ?? 0) + swept.removed
      cursor = swept.cursor
    } while (cursor !== undefined)
    return removed
  }

  t.test(`[${name}] a sign-in in a browser takes its code, and is found and listed as it was opened`, async (t) => {
    const user = await addUser()
    const [first, second] = [await signIn(user), await signIn(user, { createdAt: now + 1, amr: ['pwd', 'otp', 'mfa'] })]
    t.strictSame(await other.findBrowserSession(first.id), first)
    t.strictSame(await other.listBrowserSessions(user.id), [second, first])
    for (const id of [randomUUID(), 'not a uuid', '', "'; --"]) {
      t.equal(await store.findBrowserSession(id), undefined)
      t.equal(await store.endBrowserSession(id, end), false)
      t.equal(await store.renewBrowserSession({ ...renewalOf(first), id }), false)
      t.same(await store.listBrowserSessions(id), [])
      t.same(await store.listChildren(id), [])
      await store.seeBrowserSession(id, now)
    }
    const taking = await issue()
    const won = await race(20, (from) => from.createBrowserSession(makeBrowserSession(user), taking))
    t.equal(winners(won), 1, 'one of many with one code')
    t.equal((await store.listBrowserSessions(user.id)).length, 3)
    t.notOk(await isLeft(taking))
  })

  t.test(`[${name}] nobody is signed in who may not have tokens, and no code is spent for it`, async (t) => {
    const [user, gone] = [await addUser(), await addUser()]
    const [disabled, taking] = [await addUser(), await issue()]
    await store.deleteUser(gone.id, end)
    await store.disableUser(disabled.id, end)
    const refused = [
      makeBrowserSession(user, { generation: 2 }),
      makeBrowserSession(gone),
      makeBrowserSession(disabled),
      makeBrowserSession({ ...disabled, generation: 2 }),
      makeBrowserSession(user, { factor: 'none of hers' }),
    ]
    for (const session of refused) t.equal(await store.createBrowserSession(session, taking), false)
    t.ok(await isLeft(taking))
    t.equal(await store.createBrowserSession(makeBrowserSession(user), { ...taking, kind: 'link' }), false)
    t.same(await store.listBrowserSessions(user.id), [])
  })

  t.test(`[${name}] a sign-in anew has another secret: of many with the old one, one has it`, async (t) => {
    for (const isTaking of [false, true]) {
      const user = await addUser()
      const session = await signIn(user)
      const codes = await Promise.all(Array.from({ length: 10 }, issue))
      const renewals = codes.map((_, i) => renewalOf(session, { seenAt: now + i, amr: ['pwd', 'user'] }))
      const won = await race(10, (from, i) =>
        from.renewBrowserSession(renewals[i] as RenewedBrowserSession, isTaking ? codes[i] : undefined),
      )
      t.equal(winners(won), 1)
      const { expectedHash: _, ...renewed } = renewals[won.indexOf(true)] as RenewedBrowserSession
      t.strictSame(await other.findBrowserSession(session.id), { ...session, ...renewed })
      t.equal(winners(await Promise.all(codes.map(isLeft))), isTaking ? 9 : 10)
      const next = { ...session, secretHash: renewed.secretHash }
      t.equal(await store.renewBrowserSession(renewalOf(next, { factor: 'none of hers' })), false)
      await store.endUserSessions(user.id, end)
      t.equal(await store.renewBrowserSession(renewalOf(next)), false, 'all of hers have ended')
    }
  })

  t.test(`[${name}] when one was seen only rises`, async (t) => {
    const session = await signIn(await addUser())
    await race(9, (from, i) => from.seeBrowserSession(session.id, now + (i % 3 === 1 ? 9000 : i)))
    await store.seeBrowserSession(session.id, now)
    t.strictSame(await store.findBrowserSession(session.id), { ...session, seenAt: now + 9000 })
  })

  t.test(`[${name}] the session of an app begins with a browser session of its user, or not at all`, async (t) => {
    const [user, stranger] = [await addUser(), await addUser()]
    const parent = await signIn(user)
    const [child, taking] = [await addChild(parent, { scope: ['openid', 'offline_access'] }), await issue()]
    t.strictSame(await other.findSession(child.id), child)
    t.strictSame(await other.listChildren(parent.id), [child])
    for (const over of [
      { parent: randomUUID() },
      { userId: stranger.id },
      { parent: (await signIn(stranger)).id },
      { factor: 'none of hers' },
    ]) {
      t.equal(await store.createSession(makeChild(parent, over)), false)
      t.equal(await store.createSession(makeChild(parent, over), taking), false)
    }
    t.ok(await isLeft(taking))
    t.equal(await store.createSession(makeChild(parent), taking), true)
    t.equal((await store.listChildren(parent.id)).length, 2)
  })

  t.test(`[${name}] an end of a browser session ends what it has opened, and the clients are to be told`, async (t) => {
    const user = await addUser()
    const [parent, another] = [await signIn(user), await signIn(user)]
    const children = [
      await addChild(parent, { clientId: 'app "{\\ä' }),
      await addChild(parent, { clientCreatedAt: undefined }),
    ]
    const offline = await addChild(parent, { scope: ['offline_access', 'x'] })
    const others = [await addChild(another), await addChild(another, { parent: undefined })]
    t.equal(await store.endBrowserSession(parent.id, end, another.id), false, 'of another user')
    t.equal(await store.endBrowserSession(parent.id, end, (await addUser()).id), false)
    const row = makeAuditRow({ user: user.id })
    const ended = await race(10, (from) => from.endBrowserSession(parent.id, end, user.id, () => [row]))
    t.equal(winners(ended), 1)
    t.equal((await store.listAudit({ user: user.id }, { limit: 10 })).rows.length, 1)
    t.equal(await other.findBrowserSession(parent.id), undefined)
    for (const child of children) {
      t.equal(await other.findSession(child.id), undefined)
      t.ok(await isRevoked(child))
      t.equal(await rotate(child), 'unknown')
    }
    t.same(await store.listChildren(parent.id), [offline])
    t.notOk(await isRevoked(offline))
    for (const session of [offline, ...others]) t.equal(await rotate(session), 'rotated')
    t.same((await listed(user)).sort(), [offline, ...others].map(({ id }) => id).sort())
    const told = await everyLogout([...children, offline, ...others])
    t.strictSame(
      told.sort((a, b) => (a.sid < b.sid ? -1 : 1)),
      [...children, offline]
        .map(({ id: sid, userId: sub, clientId, clientCreatedAt }) => ({
          ...{ sub, sid, clientId, ...(clientCreatedAt !== undefined && { clientCreatedAt }), at: now },
        }))
        .sort((a, b) => (a.sid < b.sid ? -1 : 1)),
    )
  })

  t.test(`[${name}] however the session of an app ends, its client is to be told, once`, async (t) => {
    const user = await addUser()
    const parent = await signIn(user)
    const [ended, stolen, bare] = [
      await addChild(parent),
      await addChild(parent),
      await addChild(parent, { parent: undefined }),
    ]
    t.equal(winners(await race(10, (from) => from.endSession(ended.id, end))), 1)
    t.equal(await rotate(stolen, { counter: 0, now: now + day }), 'reused')
    t.equal(await store.endSession(bare.id, end), true)
    const told = await everyLogout([ended, stolen, bare])
    t.same(told.map(({ sid }) => sid).sort(), [ended.id, stolen.id].sort())
    await store.endBrowserSession(parent.id, end)
    t.equal((await everyLogout([ended, stolen])).length, 2)
  })

  t.test(`[${name}] an app that was signed in to while its browser was signed out is signed out`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const user = await addUser()
      const parent = await signIn(user)
      const before = await Promise.all(Array.from({ length: 5 }, () => addChild(parent)))
      const opening = Array.from({ length: 10 }, () => makeChild(parent))
      const codes = await Promise.all(opening.map(issue))
      const [opened] = await Promise.all([
        race(10, (from, i) => from.createSession(opening[i] as Session, i % 3 === 0 ? codes[i] : undefined)),
        other.endBrowserSession(parent.id, end),
        ...before.map((session) => rotate(session, {}, other)),
      ])
      t.same(await store.listChildren(parent.id), [])
      for (const session of [...before, ...opening]) {
        t.equal(await store.findSession(session.id), undefined)
        t.equal(await rotate(session), 'unknown')
      }
      const were = [...before, ...opening.filter((_, i) => opened[i])]
      t.equal((await everyLogout([...before, ...opening])).length, were.length, 'one is told for each')
      for (const session of were) t.ok(await isRevoked(session))
    }
  })

  t.test(`[${name}] more sessions than are ended at once end, too`, async (t) => {
    const user = await addUser()
    const parent = await signIn(user)
    const many = Array.from({ length: childrenListed + 5 }, () => makeChild(parent))
    await store.importRows('sessions', many)
    t.equal((await store.listChildren(parent.id)).length, childrenListed)
    t.equal(await store.endBrowserSession(parent.id, end), true)
    t.same(await store.listChildren(parent.id), [])
    t.equal((await everyLogout(many)).length, many.length)
    t.ok(await isRevoked(many.at(-1) as Session))
  })

  t.test(`[${name}] an app is signed out when its browser session is over, unless it is in use`, async (t) => {
    const user = await addUser()
    const parent = await signIn(user)
    const [idle, used] = [await addChild(parent), await addChild(parent)]
    const offline = await addChild(parent, { scope: ['offline_access'] })
    const bare = await addChild(parent, { parent: undefined })
    const counters = new Map<string, number>()
    const use = async (session: Session, at: number) => {
      const counter = counters.get(session.id) ?? session.counter
      const outcome = await rotate(session, { now: at, counter })
      if (outcome === 'rotated') counters.set(session.id, counter + 1)
      return outcome
    }
    for (let at = now + 6 * day; at < now + 30 * day; at += 6 * day) t.equal(await use(used, at), 'rotated')
    const late = now + 29 * day
    t.same((await listed(user, { now: late })).sort(), [used, offline, bare].map(({ id }) => id).sort())
    const batch = await Promise.all([use(idle, late), use(used, late), use(offline, late), use(bare, late)])
    t.same(batch, ['signed_out', 'rotated', 'rotated', 'rotated'])
    t.equal(await use(idle, late), 'signed_out', 'alone, too')
    t.equal(await rotate(idle, { now: late, counter: 0 }), 'signed_out', 'and no token of it is a theft')
    const over = now + 30 * day
    t.same(await Promise.all([used, offline, bare].map((session) => use(session, over))), [
      'signed_out',
      'rotated',
      'rotated',
    ])
  })

  t.test(`[${name}] a sweep ends what is over, and the clients of what ends are to be told`, async (t) => {
    const user = await addUser()
    const [gone, kept] = [await addUser(), await signIn(user, { createdAt: now + 35 * day, seenAt: now + 35 * day })]
    const old = await signIn(user, { seenAt: now + 36 * day })
    const inUse = await signIn(user, { createdAt: now + 10 * day })
    const idle = await signIn(user, { createdAt: now + 10 * day })
    const ofGone = await signIn(gone, { createdAt: now + 35 * day, seenAt: now + 35 * day })
    const fresh = { createdAt: now + 36 * day, refreshedAt: now + 36 * day }
    const [ofOld, ofUsed] = [await addChild(old, fresh), await addChild(inUse, fresh)]
    const [stale, outlives] = [await addChild(inUse), await addChild(idle, { ...fresh, scope: ['offline_access'] })]
    const [ofIdle, ofDeleted] = [await addChild(idle), await addChild(ofGone, fresh)]
    await store.deleteUser(gone.id, end)
    const [one, two] = await Promise.all([sweepRound(now + 37 * day), sweepRound(now + 37 * day, other)])
    t.ok((one.browserSessions ?? 0) + (two.browserSessions ?? 0) >= 3)
    t.same((await store.listBrowserSessions(user.id)).map(({ id }) => id).sort(), [kept.id, inUse.id].sort())
    t.equal(await store.findBrowserSession(ofGone.id), undefined)
    for (const session of [ofOld, stale, ofIdle, ofDeleted]) t.equal(await store.findSession(session.id), undefined)
    for (const session of [ofUsed, outlives]) t.strictSame(await store.findSession(session.id), session)
    const told = await everyLogout([ofOld, ofUsed, stale, outlives, ofIdle, ofDeleted], now + 37 * day)
    t.same(told.map(({ sid }) => sid).sort(), [ofOld, stale, ofIdle, ofDeleted].map(({ id }) => id).sort())
  })

  t.test(`[${name}] a sweep ends sessions whose parent is gone, and sets times of the future to now`, async (t) => {
    const user = await addUser()
    const parent = await signIn(user, { createdAt: now + 9 * day, seenAt: now + 9 * day, authAt: now + 9 * day })
    const orphan = makeChild(parent, { parent: randomUUID() })
    const outlives = makeChild(parent, { parent: randomUUID(), scope: ['offline_access'] })
    await store.importRows('sessions', [orphan, outlives])
    t.equal(await rotate(orphan), 'signed_out')
    await sweepRound(now)
    t.strictSame(await store.findBrowserSession(parent.id), { ...parent, createdAt: now, seenAt: now, authAt: 0 })
    t.equal(await store.findSession(orphan.id), undefined)
    t.strictSame(await store.findSession(outlives.id), outlives)
    t.strictSame(
      (await store.listBrowserSessions(user.id)).map(({ id }) => id),
      [parent.id],
    )
  })

  t.test(
    `[${name}] a new password ends all browser sessions, and the session that is kept lives without`,
    async (t) => {
      const user = await addUser()
      const change = { userId: user.id, expectedHash: 'hash', passwordHash: 'a' }
      const [parent, another] = [await signIn(user), await signIn(user)]
      const [kept, sister, cousin] = [await addChild(parent), await addChild(parent), await addChild(another)]
      t.equal(await store.changePassword({ ...change, keepSessionId: kept.id }, end), true)
      t.same(await other.listBrowserSessions(user.id), [])
      t.equal(await store.renewBrowserSession(renewalOf(parent)), false)
      const outcomes = await Promise.all([kept, sister, cousin].map((session) => rotate(session)))
      t.same(outcomes, ['rotated', 'unknown', 'unknown'])
      await sweepRound(now)
      t.equal(await store.findBrowserSession(parent.id), undefined)
      const { parent: _, ...alone } = kept
      t.match(await store.findSession(kept.id), { ...alone, generation: 2, counter: 2, refreshedAt: now + 1000 })
      t.equal((await store.findSession(kept.id))?.parent, undefined)
      t.same((await everyLogout([kept, sister, cousin])).map(({ sid }) => sid).sort(), [sister.id, cousin.id].sort())
      t.same(
        (await findings()).filter(({ level }) => level === 'error'),
        [],
      )
      const disabled = await signIn(await addUser())
      await store.disableUser(disabled.userId, end)
      t.same(await store.listBrowserSessions(disabled.userId), [])
    },
  )

  t.test(`[${name}] no browser session is of a level that was given by a factor which is gone`, async (t) => {
    for (let round = 0; round < rounds; round++) {
      const user = await addUser()
      const [totp, kept] = [makeTotp(), makeTotp()]
      await store.changeFactors({ userId: user.id, expectedVersion: 0, next: [totp, kept] })
      const before = await signIn(user, { factor: totp.id })
      const own = await signIn(user, { factor: kept.id })
      const opening = Array.from({ length: 4 }, () => makeBrowserSession(user, { factor: totp.id }))
      const codes = await Promise.all(opening.map(issue))
      await Promise.all([
        store.changeFactors({ userId: user.id, expectedVersion: 1, next: [kept], lowering: totp.id }),
        ...opening.map((session, i) => other.createBrowserSession(session, codes[i] as RecordTaking)),
        other.renewBrowserSession(renewalOf(own, { factor: totp.id, amr: ['pwd', 'otp', 'mfa'] })),
      ])
      const left = await store.listBrowserSessions(user.id)
      t.ok(left.some(({ id }) => id === before.id))
      t.ok(left.every(({ factor }) => factor !== totp.id))
    }
  })

  t.test(`[${name}] what a user has allowed is changed by one of many at once`, async (t) => {
    const user = await addUser()
    t.equal(await store.findConsents(user.id), undefined)
    t.equal(await store.findConsents('not a uuid'), undefined)
    for (let version = 0; version < 2; version++) {
      const nexts = Array.from({ length: 10 }, (_, i) =>
        makeConsents(user, 1, [{ clientId: `${i}`, scope: [], grantedAt: i }]),
      )
      const change = { userId: user.id, expectedVersion: version }
      const won = await race(10, (from, i) => from.changeConsents({ ...change, next: nexts[i]?.consents ?? [] }))
      t.equal(winners(won), 1)
      const next = nexts[won.indexOf(true)] as UserConsents
      t.strictSame(await other.findConsents(user.id), { ...next, version: version + 1 })
    }
    const { consents } = makeConsents(user)
    t.equal(await store.changeConsents({ userId: user.id, expectedVersion: 0, next: consents }), false)
    t.equal(await store.changeConsents({ userId: user.id, expectedVersion: 2, next: consents }), true)
    t.strictSame(await other.findConsents(user.id), { userId: user.id, consents, version: 3 })
    t.equal(await store.changeConsents({ userId: randomUUID(), expectedVersion: 0, next: [] }), false)
    await store.deleteUser(user.id, end)
    t.equal(await store.findConsents(user.id), undefined, 'and nothing is left of a user who is gone')
    const gone = makeConsents({ ...user, id: randomUUID() })
    await store.importRows('consents', [gone])
    await sweepRound(now)
    t.equal(await store.findConsents(gone.userId), undefined)
  })
}
