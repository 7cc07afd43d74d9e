import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { Factor } from '../../domain/factor.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { User } from '../../domain/user.ts'
import type { ImportRow } from '../../domain/user-import.ts'
import { copyStore } from '../../stores/moving/copy.ts'
import type { Finding } from '../../stores/moving/moving.ts'
import type { Store } from '../../stores/store.ts'
import { revocationPages } from '../../stores/tables/revocations.ts'
import { importedAtOnce } from '../../stores/tables/users.ts'
import { giveEmail, giveRoles } from '../support/basics.ts'
import { isLong } from '../support/processes.ts'

const now = 1_800_000_000_000
const end = { now, expiresAt: now + 600_000 } as End

/** A row of an import, with characters that mean something to a database or to a key. */
export function makeImportRow(over: Partial<ImportRow> = {}): ImportRow {
  const id = randomUUID()
  return {
    ...{ id, username: `Zoë-${id}`, nameKey: `zoë-${id}`, passwordHash: '$2b$10$hash', roles: ['a "b"'] },
    ...{ createdAt: now, generation: 0, email: `Zoë+${id}@x.example`, emailKey: `zoë+${id}@x.example` },
    ...{ source: 'auth0', externalId: `auth0|"${id}" \\{}`, hasRoles: true },
    ...over,
  }
}

const userOf = ({ hasRoles: _, factors: __, ...user }: ImportRow): User => user

/**
 * The part of the store's contract that is about imports of users.
 *
 * @param open as given to `storeContract`
 */
export async function importContract(t: Test, name: string, open: () => Promise<Store> | Store): Promise<void> {
  const store = await open()
  const other = await open()
  t.teardown(() => Promise.all([store.close(), other.close()]))

  const race = <T>(n: number, call: (from: Store, i: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: n }, (_, i) => call(i % 2 === 0 ? store : other, i)))
  async function errors(): Promise<Finding[]> {
    const found: Finding[] = []
    for await (const finding of store.check()) if (finding.level === 'error') found.push(finding)
    return found
  }
  const refused = (conflict: string) => ({ outcome: 'refused', conflict })
  const made = { outcome: 'made' }
  const unchanged = { outcome: 'unchanged' }
  async function revokedGeneration(id: string): Promise<number | undefined> {
    const found: number[] = []
    for await (const page of revocationPages(store))
      for (const each of page) if (each.kind === 'user' && each.id === id) found.push(each.generation)
    return found.length > 0 ? Math.max(...found) : undefined
  }

  t.test(
    `[${name}] users who are made bring their second factors, and those who are here keep their own`,
    async (t) => {
      const totp: Factor = { kind: 'totp', id: 'one', name: 'Phone', createdAt: now, secret: 'sealed', step: 0 }
      const [row, bare] = [makeImportRow({ factors: [totp] }), makeImportRow()]
      t.same(await store.importUsers([row, bare], 'skip', end), [made, made])
      t.strictSame(await other.findFactors(row.id), { userId: row.id, factors: [totp], version: 1 })
      t.equal((await other.findUser(row.id))?.hasFactors, true)
      t.equal(await other.findFactors(bare.id), undefined)
      t.equal((await other.findUser(bare.id))?.hasFactors, undefined)

      await store.changeFactors({ userId: row.id, expectedVersion: 1, next: [] })
      const [again, late] = [row, bare].map((one) => ({ ...one, roles: ['new'], factors: [{ ...totp, id: 'two' }] }))
      t.same(await store.importUsers([again as ImportRow, late as ImportRow], 'update', end), [
        { outcome: 'updated' },
        { outcome: 'updated' },
      ])
      t.strictSame(await other.findFactors(row.id), { userId: row.id, factors: [], version: 2 }, 'what was taken away')
      t.equal(await other.findFactors(bare.id), undefined)
      t.same(await errors(), [])
    },
  )

  t.test(`[${name}] a batch makes users, who are found as they are; again, nothing is changed`, async (t) => {
    const bare = makeImportRow({ email: 'unverified@x.example' })
    delete bare.emailKey
    const rows = [...Array.from({ length: importedAtOnce - 1 }, () => makeImportRow()), bare]
    const told = await store.importUsers(rows, 'skip')
    t.same(told, Array(rows.length).fill(made))
    t.equal(await store.findUser(rows[0]?.id ?? ''), undefined, 'without an end nothing is written')
    t.same(await store.importUsers(rows, 'skip', end), told)
    for (const row of [rows[0], bare] as ImportRow[]) {
      t.strictSame(await other.findUser(row.id), userOf(row))
      t.strictSame(await other.findUserByName(row.nameKey), userOf(row))
    }
    const again = rows.map((row) => ({ ...row, id: randomUUID(), createdAt: now + 1 }))
    t.same(await other.importUsers(again, 'skip', end), Array(rows.length).fill(unchanged))
    t.same(await other.importUsers(again, 'update', end), Array(rows.length).fill(unchanged))
    t.strictSame(await store.findUserByName(bare.nameKey), userOf(bare))
    t.same(await errors(), [])
  })

  t.test(`[${name}] a name, a verified address and an account that are there are not taken over`, async (t) => {
    const local = userOf(makeImportRow())
    for (const member of ['source', 'externalId'] as const) delete local[member]
    t.equal(await store.createUser(local), true)
    const { nameKey, emailKey, id } = local as User & { emailKey: string }
    for (const onConflict of ['skip', 'update'] as const) {
      const rows = [makeImportRow({ nameKey }), makeImportRow({ emailKey }), makeImportRow()]
      t.same(await store.importUsers(rows, onConflict, end), [refused('name'), refused('email'), made])
    }
    t.same(await store.importUsers([makeImportRow({ id })], 'update', end), [refused('here')])
    t.same(await store.importUsers([makeImportRow({ id })], 'skip', end), [unchanged])
    t.strictSame(await store.findUser(id), local)
    t.equal(await store.createUser({ ...local, id: randomUUID(), nameKey: randomUUID() }), false, 'nor by a sign-up')

    const first = makeImportRow()
    const second = makeImportRow({ nameKey: first.nameKey })
    t.same(await store.importUsers([first, second], 'skip', end), [made, refused('name')], 'nor within a batch')
    const taken = makeImportRow({ id: first.id })
    t.same(await store.importUsers([taken], 'skip', end), [refused('id')], 'nor is an id')
    t.same(await errors(), [])
  })

  t.test(`[${name}] with "fail", one row that is there already keeps its whole batch from being written`, async (t) => {
    const [there, free] = [makeImportRow(), makeImportRow()]
    t.same(await store.importUsers([there], 'fail', end), [made])
    const name_ = makeImportRow({ nameKey: there.nameKey })
    t.same(await store.importUsers([free, there, name_], 'fail', end), [
      { outcome: 'left' },
      refused('again'),
      refused('name'),
    ])
    t.equal(await store.findUser(free.id), undefined)
    t.same(await store.importUsers([free], 'fail', end), [made])
  })

  t.test(`[${name}] with "update", what an import made follows its row, and its old name is free`, async (t) => {
    const row = makeImportRow({ roles: ['a', 'b'] })
    await store.importUsers([row], 'skip', end)
    const { externalId } = row
    const renamed = makeImportRow({
      ...row,
      externalId,
      username: 'New',
      nameKey: randomUUID(),
      roles: ['a', 'b', 'c'],
    })
    t.same(await store.importUsers([{ ...renamed, id: randomUUID() }], 'update', end), [{ outcome: 'updated' }])
    t.strictSame(await store.findUserByName(renamed.nameKey), userOf(renamed))
    t.equal(await store.findUserByName(row.nameKey), undefined)
    t.equal(await revokedGeneration(row.id), undefined, 'a name and a role more end nothing')

    const unverified = { ...renamed, email: 'other@x.example' }
    delete unverified.emailKey
    t.same(await store.importUsers([unverified], 'update', end), [{ outcome: 'updated' }])
    t.same(await store.importUsers([makeImportRow({ emailKey: renamed.emailKey as string })], 'update', end), [made])
    t.same(await store.importUsers([renamed], 'update', end), [refused('email')])
    t.strictSame(await store.findUser(row.id), userOf(unverified))
    t.same(await errors(), [])
  })

  t.test(`[${name}] an update that takes something away ends the sessions, once`, async (t) => {
    const row = makeImportRow({ roles: ['a', 'b'] })
    await store.importUsers([row], 'skip', end)
    const changes: Partial<ImportRow>[] = [{ roles: ['a'] }, { passwordHash: '$2b$10$other' }, { disabledAt: now }]
    let changed = row
    for (const [i, change] of changes.entries()) {
      changed = { ...changed, ...change }
      t.same(await store.importUsers([changed, makeImportRow()], 'update', end), [{ outcome: 'updated' }, made])
      t.strictSame(await store.findUser(row.id), { ...userOf(changed), generation: i + 1 })
      t.equal(await revokedGeneration(row.id), i + 1)
      t.same(await store.importUsers([changed], 'update', end), [unchanged])
    }
  })

  t.test(`[${name}] an update leaves what was decided here since: a password, a disabled account, roles`, async (t) => {
    const row = makeImportRow({ roles: [], hasRoles: false })
    await store.importUsers([row], 'skip', end)
    await store.replacePasswordHash(row.id, row.passwordHash, '$argon2id$v=19$m=8,t=1,p=1$own')
    await giveRoles(store, row.id, ['editor'])
    await store.disableUser(row.id, end)
    const user = await store.findUser(row.id)
    t.same(await store.importUsers([{ ...row, passwordHash: '$2b$10$other' }], 'update', end), [unchanged])
    t.same(await store.importUsers([{ ...row, passwordHash: '' }], 'update', end), [unchanged])
    t.strictSame(await store.findUser(row.id), user)
  })

  t.test(`[${name}] an update gives nobody an address back that they have left, nor a verified one up`, async (t) => {
    const [row, verifiedLater] = [makeImportRow(), makeImportRow()]
    const unverified: ImportRow = { ...verifiedLater, email: `u-${row.id}@x.example` }
    delete unverified.emailKey
    await store.importUsers([row, unverified], 'skip', end)
    await giveEmail(store, unverified.id, unverified.email as string)
    const verified = await store.findUser(unverified.id)
    t.same(await store.importUsers([unverified], 'update', end), [unchanged])
    t.strictSame(await store.findUser(unverified.id), verified)

    await store.replacePasswordHash(row.id, row.passwordHash, '$argon2id$v=19$m=8,t=1,p=1$own')
    await giveEmail(store, row.id, `new-${row.id}@x.example`)
    const moved = await store.findUser(row.id)
    t.same(await store.importUsers([row], 'update', end), [unchanged], 'whoever has signed in has it here')
    t.strictSame(await store.findUser(row.id), moved)

    const [before, ...others] = [makeImportRow(), makeImportRow(), makeImportRow()]
    delete before.emailKey
    await store.importUsers([before], 'skip', end)
    for (const { email, emailKey } of others) {
      const after = { ...before, email, emailKey, locale: 'ko' } as ImportRow
      t.same(await store.importUsers([after], 'update', end), [{ outcome: 'updated' }], 'others follow the file')
      t.strictSame(await store.findUser(before.id), userOf(after))
    }
  })

  t.test(`[${name}] of imports and sign-ups at once for the same names, each name has one winner`, async (t) => {
    for (let round = 0; round < (isLong ? 20 : 3); round++) {
      const rows = Array.from({ length: 20 }, () => makeImportRow())
      const rivals = (i: number) =>
        rows.map(({ nameKey }) => makeImportRow({ nameKey, externalId: `${randomUUID()} ${i}` }))
      const [outcomes, signedUp] = await Promise.all([
        race(6, (from, i) => from.importUsers(i % 3 === 0 ? rivals(i).reverse() : rivals(i), 'skip', end)),
        Promise.all(rows.slice(0, 3).map((row) => other.createUser(userOf({ ...row, externalId: randomUUID() })))),
      ])
      const wins = outcomes.flat().filter(({ outcome }) => outcome === 'made').length
      t.equal(wins + signedUp.filter(Boolean).length, rows.length)
    }
    t.same(await errors(), [])
  })

  t.test(`[${name}] of the same file imported twice at once, each user is made once`, async (t) => {
    const rows = Array.from({ length: 50 }, () => makeImportRow())
    const outcomes = await race(4, (from) =>
      from.importUsers(
        rows.map((row) => ({ ...row, id: randomUUID() })),
        'skip',
        end,
      ),
    )
    t.equal(outcomes.flat().filter(({ outcome }) => outcome === 'made').length, rows.length)
    t.equal(outcomes.flat().filter(({ outcome }) => outcome === 'unchanged').length, 3 * rows.length)
  })

  t.test(`[${name}] a deleted user frees the name, the address and the external id`, async (t) => {
    const row = makeImportRow()
    await store.importUsers([row], 'skip', end)
    t.equal(await store.deleteUser(row.id, end), true)
    t.same(await store.importUsers([{ ...row, id: randomUUID() }], 'fail', end), [made])
    t.same(await errors(), [])
  })

  t.test(`[${name}] imported users are copied as they are, and take nothing away from others there`, async (t) => {
    const row = makeImportRow()
    await store.importUsers([row], 'skip', end)
    const { emailKey, source, externalId } = row
    for (const over of [{ emailKey: emailKey as string }, { source, externalId }])
      t.equal(await store.importRows('users', [userOf(makeImportRow(over))]), 0)
    const moved = userOf({ ...row, emailKey: `moved-${emailKey}`, externalId: `moved ${externalId}` })
    t.equal(await store.importRows('users', [moved]), 1)
    t.same(await store.importUsers([makeImportRow({ emailKey: emailKey as string, externalId })], 'fail', end), [made])
    const [users] = (await copyStore(store, other, { remove: false, now })).filter(({ table }) => table === 'users')
    t.match(users, { isSame: true, written: 0 })
    t.same(await errors(), [])
  })
}
