import { randomUUID } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { Test } from 'tap'
import { type AuditRow, newAuditId } from '../../domain/audit.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { User } from '../../domain/user.ts'
import type { Finding } from '../../stores/moving/moving.ts'
import type { Store } from '../../stores/store.ts'

const now = 1_800_000_000_000
const day = 86_400_000
const end = { now, expiresAt: now + 600_000 } as End
const browser = { idleTtlMs: day, maxTtlMs: day }
const limits = { now, idleTtlMs: day, maxTtlMs: day, browser, failuresBefore: 0, limit: 100 }

/** With characters that mean something to a database or to JSON. */
export function makeAuditRow(over: Partial<AuditRow> = {}): AuditRow {
  const at = over.at ?? now
  return {
    ...{ id: newAuditId(at), at, event: 'login.succeeded', outcome: 'success', user: randomUUID() },
    ...{ session: randomUUID(), client: `svc:{"a", \\b}'`, address: '2001:db8::1', userAgent: 'Mozilla/5.0 “x”' },
    ...{ requestId: 'req-1', detail: { roles: ['a "b"', '{c}'], n: 1 } },
    ...over,
  }
}

/**
 * The part of the store's contract that is about what happened.
 *
 * @param open as given to `storeContract`
 */
export async function auditContract(t: Test, name: string, open: () => Promise<Store> | Store): Promise<void> {
  const store = await open()
  const other = await open()
  t.teardown(() => Promise.all([store.close(), other.close()]))
  const race = <T>(n: number, call: (from: Store, i: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: n }, (_, i) => call(i % 2 === 0 ? store : other, i)))
  async function addUser(): Promise<User> {
    const id = randomUUID()
    const user = { id, username: id, nameKey: id, passwordHash: 'hash', roles: [], createdAt: now, generation: 1 }
    await store.createUser(user)
    return user
  }
  const makeSession = ({ id: userId, generation }: User) => ({
    ...{ id: randomUUID(), userId, clientId: 'app', scope: [], generation, counter: 0, createdAt: now },
    ...{ refreshedAt: now, address: '', userAgent: '' },
  })
  async function since(cursor: string | undefined, limit = 7): Promise<AuditRow[]> {
    const rows: AuditRow[] = []
    for (let position = cursor; ; ) {
      const page = await other.auditSince(position, limit)
      rows.push(...page.rows)
      position = page.cursor
      if (!page.more) return rows
    }
  }
  async function errors(): Promise<Finding[]> {
    const found: Finding[] = []
    for await (const finding of store.check()) if (finding.level === 'error') found.push(finding)
    return found
  }

  t.test(`[${name}] a change has its audit row in its own step, and one that changes nothing has none`, async (t) => {
    const begin = await store.auditEnd()
    const written: AuditRow[] = []
    /** what a change is handed; a row is kept here where the store has taken it */
    const audit = (event: string) => () => {
      const row = makeAuditRow({ event })
      written.push(row)
      return [row]
    }
    const user = await addUser()
    const session = makeSession(user)
    const client = {
      ...{ id: `c-${randomUUID()}`, type: 'public' as const, grants: [], scopes: [], audience: [] },
      ...{ introspect: 'none' as const, secrets: [], createdAt: now, isDeclared: false, generation: now },
    }
    const before = (await store.listSigningKeys())
      .filter(({ alg }) => alg === 'EdDSA')
      .toSorted((a, b) => a.createdAt - b.createdAt)
      .at(-1)
    const createdAt = (before?.createdAt ?? 0) + 1
    const key = { kid: randomUUID(), alg: 'EdDSA' as const, publicJwk: '{}', createdAt, signsFrom: now }
    const jti = { kind: 'jti' as const, id: randomUUID(), revokedAt: now, expiresAt: now + 1000 }
    const change = { userId: user.id, expectedHash: 'hash', passwordHash: 'new' }
    const record = {
      ...{ id: randomUUID().padEnd(43, '-'), kind: 'code', owner: randomUUID(), source: randomUUID(), data: '' },
      ...{ createdAt: now, expiresAt: now + 1000, misses: 0, version: 1 },
    }
    await store.issueRecord(record, { perOwner: 1, perSource: 1 })
    const taking = { kind: 'code', id: record.id, now }
    const withRole = { ...user, roles: ['a'] }
    const roles = { userId: user.id, expected: user, next: withRole }
    const lesser = { userId: user.id, expected: withRole, next: { ...user, roles: ['b'] } }
    // Each twice: the second finds nothing to change, but for those that can be repeated.
    const steps: [event: string, isRepeatable: boolean, step: () => Promise<unknown>][] = [
      [
        'created',
        false,
        () => store.createUser({ ...user, id: randomUUID(), nameKey: 'new' }, undefined, audit('created')),
      ],
      ['opened', true, () => store.createSession(makeSession(user), undefined, audit('opened'))],
      ['taken', false, () => store.createSession(session, taking, audit('taken'))],
      ['ended', false, () => store.endSession(session.id, end, user.id, audit('ended'))],
      ['roles', false, () => store.changeUser(roles, undefined, audit('roles'))],
      ['lesser', false, () => store.changeUser(lesser, end, audit('lesser'))],
      ['password', false, () => store.changePassword(change, end, audit('password'))],
      ['all', true, () => store.endUserSessions(user.id, end, audit('all'))],
      ['disabled', true, () => store.disableUser(user.id, end, audit('disabled'))],
      ['enabled', true, () => store.enableUser(user.id, audit('enabled'))],
      ['deleted', false, () => store.deleteUser(user.id, end, audit('deleted'))],
      ['client', false, () => store.createClient(client, audit('client'))],
      ['next', false, () => store.replaceClient({ ...client, generation: now + 1 }, undefined, audit('next'))],
      ['ending', false, () => store.replaceClient({ ...client, generation: now + 2 }, end, audit('ending'))],
      ['gone', false, () => store.deleteClient(client.id, end, audit('gone'))],
      ['key', false, () => store.addSigningKey(key, before?.kid, audit('key'))],
      ['retired', false, () => store.removeSigningKey(key.kid, audit('retired'))],
      ['revoked', false, () => store.revoke(jti, audit('revoked'))],
    ]
    const expected: string[] = []
    for (const [event, isRepeatable, step] of steps) {
      t.equal(await step(), true, event)
      t.equal(await step(), isRepeatable, `${event}, again`)
      expected.push(event, ...(isRepeatable ? [event] : []))
    }
    const rows = await since(begin)
    t.same(rows.map(({ event }) => event).sort(), expected.sort())
    const byId = new Map(written.map((row) => [row.id, row]))
    for (const row of rows) t.strictSame(row, byId.get(row.id), row.event)
  })

  t.test(`[${name}] rows follow what was decided: a spent token, and the keys that were there`, async (t) => {
    const begin = await store.auditEnd()
    const user = await addUser()
    const session = { ...makeSession(user), counter: 5 }
    await store.createSession(session)
    const presented = {
      ...{
        now: now + 1000,
        idleTtlMs: day,
        maxTtlMs: day,
        browser,
        graceMs: 0,
        sessionId: session.id,
        clientId: 'app',
      },
      ...{ scope: undefined, address: '', userAgent: '' },
    }
    const rotate = (counter: number) =>
      store.rotateSession({ ...presented, counter }, end, undefined, (result) =>
        'session' in result ? [makeAuditRow({ event: result.outcome, user: result.session.userId })] : [],
      )
    t.match(await rotate(5), { outcome: 'rotated' })
    t.match(await rotate(1), { outcome: 'reused' })
    t.match(await rotate(1), { outcome: 'unknown' })

    const kids = [randomUUID(), randomUUID(), randomUUID()]
    for (const [i, kid] of kids.slice(0, 2).entries())
      await store.importRows('signingKeys', [{ kid, alg: 'RS256', publicJwk: '', createdAt: i, signsFrom: 0 }])
    const asked = [kids[1], kids[2], kids[0]] as string[]
    const told = (of: string[]) => of.map((kid) => makeAuditRow({ event: 'key', detail: { kid } }))
    await store.withdrawSigningKeys(asked, end, told)
    const rows = await since(begin)
    t.same(
      rows.filter(({ event }) => event !== 'key').map(({ event, user }) => [event, user]),
      [['reused', user.id]],
    )
    const ofKeys = rows.filter(({ event }) => event === 'key').map(({ detail }) => detail?.['kid'])
    t.same(ofKeys.sort(), kids.slice(0, 2).sort())
  })

  t.test(`[${name}] where its rows cannot be made, nothing is changed`, async (t) => {
    const begin = await store.auditEnd()
    const user = await addUser()
    const session = { ...makeSession(user), counter: 5 }
    await store.createSession(session)
    const key = { kid: randomUUID(), alg: 'RS256' as const, publicJwk: '', createdAt: 1, signsFrom: 0 }
    await store.importRows('signingKeys', [key])
    const spent = {
      ...{
        now,
        idleTtlMs: day,
        maxTtlMs: day,
        browser,
        graceMs: 0,
        sessionId: session.id,
        clientId: 'app',
        counter: 1,
      },
      ...{ scope: undefined, address: '', userAgent: '' },
    }
    const failing = () => {
      throw new Error('no rows')
    }
    for (const change of [
      () => store.disableUser(user.id, end, failing),
      () => store.endSession(session.id, end, user.id, failing),
      () => store.rotateSession(spent, end, undefined, failing),
      () => store.withdrawSigningKeys([key.kid], end, failing),
    ])
      await t.rejects(async () => change())
    t.same(await other.findUser(user.id), user)
    t.same(await other.findSession(session.id), session)
    t.same(await other.findRows('signingKeys', [key.kid]), [key])
    t.same(await since(begin), [])
  })

  t.test(
    `[${name}] a follower misses no row, however many write at once, and has those of a user in order`,
    async (t) => {
      let cursor = await store.auditEnd()
      const seen: AuditRow[] = []
      let isWriting = true
      const following = (async () => {
        for (;;) {
          const isLast = !isWriting
          const page = await other.auditSince(cursor, 20)
          cursor = page.cursor
          seen.push(...page.rows)
          if (isLast && !page.more) return
          await setImmediate()
        }
      })()
      const users: string[] = Array.from({ length: 5 }, () => randomUUID())
      const written: AuditRow[] = []
      await race(10, async (from, i) => {
        for (let n = 0; n < 12; n++) {
          const own = users[i % 5] as string
          const rows = [makeAuditRow({ user: own, detail: { i, n } }), makeAuditRow({ detail: { i, n } })]
          written.push(...rows)
          await from.addAudit(i % 3 === 0 ? rows : rows.toReversed())
        }
      })
      isWriting = false
      await following
      const ids = seen.map(({ id }) => id)
      t.same(ids.sort(), written.map(({ id }) => id).sort(), 'each once')
      for (let i = 0; i < 10; i++) {
        const own = seen.filter(({ user, detail }) => users.includes(user as string) && detail?.['i'] === i)
        t.same(
          own.map(({ detail }) => detail?.['n']),
          Array.from({ length: 12 }, (_, n) => n),
        )
      }
      const idle = await store.auditSince(cursor, 10)
      t.same([idle.rows, idle.more], [[], false])
      t.same((await store.auditSince(await store.auditEnd(), 10)).rows, [])
      t.ok((await since(undefined)).length >= written.length, 'without a cursor it begins with the first')
      t.ok((await since('of another store')).length >= written.length)
    },
  )

  t.test(`[${name}] rows are listed newest first, by what the filter says, page by page`, async (t) => {
    const [user, session, client] = [randomUUID(), randomUUID(), `client ${randomUUID()}`]
    const rows = Array.from({ length: 30 }, (_, i) =>
      makeAuditRow({
        ...{ at: now + 10 * day + i * 1000, user, client: i % 2 ? client : 'app' },
        ...{ session: i % 3 ? session : randomUUID(), event: i % 5 ? 'a' : 'b' },
      }),
    )
    await store.addAudit(rows)
    const neighbours = [makeAuditRow({ client: `${client} x` }), makeAuditRow({ client: client.slice(0, -1) })]
    await store.addAudit(neighbours)
    async function listed(filter: Parameters<Store['listAudit']>[0], limit = 4): Promise<string[]> {
      const ids: string[] = []
      let after: string | undefined
      do {
        const page = await other.listAudit(filter, { limit, ...(after !== undefined && { after }) })
        t.ok(page.rows.length <= limit)
        ids.push(...page.rows.map(({ id }) => id))
        after = page.next
      } while (after !== undefined)
      return ids
    }
    const expected = (isWanted: (row: AuditRow, i: number) => boolean) =>
      rows
        .filter(isWanted)
        .map(({ id }) => id)
        .reverse()
    t.same(
      await listed({ user }),
      expected(() => true),
    )
    t.same(
      await listed({ user }, 1000),
      expected(() => true),
    )
    t.same(
      await listed({ session }),
      expected((row) => row.session === session),
    )
    t.same(
      await listed({ client }),
      expected((row) => row.client === client),
    )
    t.same(
      await listed({ user, event: 'b' }),
      expected((row) => row.event === 'b'),
    )
    t.same(
      await listed({ user, session, client, event: 'a' }),
      expected((row) => row.session === session && row.client === client && row.event === 'a'),
    )
    const from = now + 10 * day + 20_000
    t.same(
      await listed({ user, since: from }),
      expected((row) => row.at >= from),
    )
    t.same(
      await listed({ since: from + 1, client }),
      expected((row) => row.client === client && row.at > from),
    )
    t.same(
      (await listed({ since: now + 10 * day }, 7)).slice(0, 30),
      expected(() => true),
      'all, and the newest first',
    )
    t.same(await listed({ user: 'nobody' }), [])
    t.same(await listed({ user: randomUUID() }), [])
    t.same(await listed({ client: 'x'.repeat(700) }), [])
  })

  t.test(`[${name}] after a deletion its rows lose who it was, step by step, and late ones too`, async (t) => {
    const [user, neighbour] = [randomUUID(), randomUUID()]
    const of = (id: string, over: Partial<AuditRow> = {}) => makeAuditRow({ user: id, ...over })
    await store.addAudit([...Array.from({ length: 11 }, () => of(user)), of(neighbour)])
    const acts = Array.from({ length: 7 }, () => of(neighbour, { event: 'user.disabled', by: user }))
    await store.addAudit([...acts, of(user, { by: user }), of(neighbour, { by: 'latchkey cli' })])
    const deletion = of(user, { event: 'user.deleted' })
    await store.addAudit([deletion])
    const erase = async (settledBefore: number) => {
      let [steps, cursor]: [number, string | undefined] = [0, undefined]
      do {
        cursor = await (steps % 2 ? other : store).eraseAudit({
          ...{ settledBefore, limit: 3 },
          ...(cursor !== undefined && { cursor }),
        })
        steps += 1
      } while (cursor !== undefined)
      return steps
    }
    const personal = async (id: string) =>
      (await other.listAudit({ user: id }, { limit: 100 })).rows.filter(
        ({ address, userAgent }) => address || userAgent,
      )
    t.ok((await erase(now)) > 4)
    t.same(await personal(user), [])
    const left = await personal(neighbour)
    t.same(left.map(({ by }) => by).sort(), ['latchkey cli', undefined], 'those of what they did to others, too')
    const { rows } = await store.listAudit({ user }, { limit: 100 })
    t.equal(rows.length, 13, 'they are still there')
    t.match(rows[0], { id: deletion.id, event: 'user.deleted', user, requestId: 'req-1' })

    await store.addAudit([of(user, { event: 'login.failed' })])
    t.equal((await personal(user)).length, 1, 'of a request that was under way')
    await erase(now + 1)
    t.same(await personal(user), [])
    t.equal(await erase(now + 1), 1, 'and that was the end of it')
  })

  t.test(`[${name}] rows are swept by age; those of a clock that was ahead count as of now`, async (t) => {
    const [old, young, ahead] = [
      Array.from({ length: 120 }, (_, i) => makeAuditRow({ at: now - 90 * day - 1 - i })),
      makeAuditRow({ at: now - 90 * day }),
      makeAuditRow({ at: now + 400 * day }),
    ]
    await store.addAudit([...old, young, ahead])
    const begin = await store.auditEnd()
    const sweep = async (step: Partial<Parameters<Store['sweep']>[0]>) => {
      let removed = 0
      let cursor: string | undefined
      do {
        const swept = await store.sweep({ ...limits, limit: 50, ...step, ...(cursor !== undefined && { cursor }) })
        if (swept.table === 'audit') removed += swept.removed
        cursor = swept.cursor
      } while (cursor !== undefined)
      return removed
    }
    t.equal(await sweep({}), 0, 'none where nothing is said')
    t.equal(await sweep({ auditBefore: now - 90 * day }), 120)
    t.same(await store.findRows('audit', [...old.map(({ id }) => id), young.id]), [...old.map(() => undefined), young])
    t.equal(await store.findRows('audit', [ahead.id]).then(([row]) => row), undefined)
    const { rows } = await store.listAudit({ user: ahead.user as string }, { limit: 5 })
    t.match(rows, [{ at: now, event: ahead.event, session: ahead.session }])
    await store.addAudit([makeAuditRow({ event: 'after all' })])
    t.match((await since(begin)).at(-1), { event: 'after all' }, 'cursors go on')
    t.same(await errors(), [])
  })

  t.test(`[${name}] rows that were moved here are listed, and not told again to followers`, async (t) => {
    const begin = await store.auditEnd()
    const rows = [makeAuditRow(), makeAuditRow({ event: 'user.deleted' }), { ...makeAuditRow(), by: 'latchkey cli' }]
    t.equal(await store.importRows('audit', rows), 3)
    t.equal(await store.importRows('audit', rows), 3, 'again')
    t.strictSame(
      await other.findRows(
        'audit',
        rows.map(({ id }) => id),
      ),
      rows,
    )
    t.same(await since(begin), [])
    for (const { user, id } of rows)
      t.match((await store.listAudit({ user: user as string }, { limit: 2 })).rows, [{ id }])
    await store.eraseAudit({ settledBefore: now + 1, limit: 100 })
    t.notOk((await store.findRows('audit', [rows[1]?.id ?? '']))[0]?.address, 'a deletion is done here too')
    await store.removeAudit(rows[0]?.id ?? '')
    t.same(await store.findRows('audit', [rows[0]?.id ?? '']), [undefined])
    t.same(await errors(), [])
  })
}
