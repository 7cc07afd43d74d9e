import { isDeepStrictEqual } from 'node:util'
import type { Database } from 'lmdb'
import type { End } from '../../../domain/lifetimes.ts'
import { everyGeneration } from '../../../domain/revocation.ts'
import type { Session } from '../../../domain/session.ts'
import { profileOf, type User } from '../../../domain/user.ts'
import { type ImportPlan, type ImportRow, type OnConflict, planImport } from '../../../domain/user-import.ts'
import type { UserTable } from '../../tables/users.ts'
import type { Databases } from '../databases.ts'
import type { ByCreation } from '../keys.ts'
import type { Runs } from '../runs.ts'
import { createRecordRows } from './records.ts'
import { createRevocationRows } from './revocations.ts'
import { createSessionRows } from './sessions.ts'

/** The key of a user in the index of imports; undefined for one who was made here. */
export const byExternalIdKey = ({ source, externalId }: Pick<User, 'source' | 'externalId'>): string | undefined =>
  source === undefined || externalId === undefined ? undefined : `${source} ${externalId}`

/** The key of a user in the index by creation: those of one millisecond are in the order of their ids. */
export const byCreationKey = ({ createdAt, id }: Pick<User, 'createdAt' | 'id'>): ByCreation => [createdAt, id]

/** The rows of users, with their indexes. Writes only inside a transaction. */
export function createUserRows(databases: Databases) {
  const { users, usersByName, usersByEmail, usersByCreation, usersByExternalId } = databases
  const sessionRows = createSessionRows(databases)
  const { record } = createRevocationRows(databases)
  interface Index {
    index: Database<string, string>
    keyOf(user: User): string | undefined
  }
  const byName: Index = { index: usersByName, keyOf: ({ nameKey }) => nameKey }
  const byEmail: Index = { index: usersByEmail, keyOf: ({ emailKey }) => emailKey }
  const indexes = [byName, byEmail, { index: usersByExternalId, keyOf: byExternalIdKey }]

  /** The user who has a key in an index; nobody where the user's own row says otherwise. */
  function holderOf({ index, keyOf }: Index, key: string | undefined): User | undefined {
    const id = key === undefined ? undefined : index.get(key)
    const user = id === undefined ? undefined : users.get(id)
    return user && keyOf(user) === key ? user : undefined
  }

  function put(user: User, before?: User): void {
    for (const { index, keyOf } of indexes) {
      const [key, keyBefore] = [keyOf(user), before && keyOf(before)]
      if (key === keyBefore) continue
      if (keyBefore !== undefined) index.remove(keyBefore)
      if (key !== undefined) index.put(key, user.id)
    }
    if (before?.createdAt !== user.createdAt) {
      if (before) usersByCreation.remove(byCreationKey(before))
      usersByCreation.put(byCreationKey(user), 0)
    }
    users.put(user.id, user)
  }

  return {
    findByName: (nameKey: string) => holderOf(byName, nameKey),
    findByEmail: (emailKey: string) => holderOf(byEmail, emailKey),
    put,
    /** Puts a user with the next generation, which ends all sessions but the kept one. */
    beginGeneration(user: User, { now: revokedAt, expiresAt }: End, kept?: Session): void {
      const next = { ...user, generation: user.generation + 1 }
      users.put(user.id, next)
      if (kept) {
        const { parent: _, ...rest } = kept
        sessionRows.put({ ...rest, generation: next.generation })
      }
      record({
        kind: 'user',
        id: user.id,
        generation: next.generation,
        ...(kept && { exceptSessionId: kept.id }),
        revokedAt,
        expiresAt,
      })
    },
    remove(user: User): void {
      for (const { index, keyOf } of indexes) {
        const key = keyOf(user)
        if (key !== undefined) index.remove(key)
      }
      usersByCreation.remove(byCreationKey(user))
      users.remove(user.id)
    },

    /** Whether another user has the name, the verified address, or the source and external id of a user. */
    isTaken: (user: User): boolean =>
      indexes.some((each) => {
        const holder = holderOf(each, each.keyOf(user))
        return holder !== undefined && holder.id !== user.id
      }),

    planImport(rows: ImportRow[], onConflict: OnConflict): ImportPlan {
      const known = rows.flatMap((row) => [
        users.get(row.id),
        ...indexes.map((each) => holderOf(each, each.keyOf(row))),
      ])
      return planImport(
        rows,
        known.filter((user) => user !== undefined),
        onConflict,
      )
    },
  }
}

/** The users of the embedded store. */
export function createUsers(databases: Databases, { read, write, change }: Runs): Omit<UserTable, 'listUsers'> {
  const { users, factors, sessions, consents } = databases
  const userRows = createUserRows(databases)
  const { beginGeneration } = userRows
  const records = createRecordRows(databases)
  const { record } = createRevocationRows(databases)

  return {
    createUser: (user, taking, audit) =>
      change(audit, () => {
        if (userRows.isTaken(user) || (taking && !records.take(taking))) return false
        userRows.put(user)
        return true
      }),
    findUser: (id) => read(() => users.get(id)),
    findUserByName: (nameKey) => read(() => userRows.findByName(nameKey)),
    findUserByEmail: (emailKey) => read(() => userRows.findByEmail(emailKey)),
    changeUser: ({ userId, expected, next, ...withRecords }, end, audit) =>
      change(audit, () => {
        const user = users.get(userId)
        if (!user || !isDeepStrictEqual(profileOf(user), profileOf(expected))) return false
        const { email: _, emailKey: __, locale: ___, ...kept } = user
        const changed: User = { ...kept, ...profileOf(next) }
        if (userRows.isTaken(changed) || !records.takeWith(userId, withRecords)) return false
        userRows.put(changed, user)
        if (end) beginGeneration(changed, end)
        return true
      }),
    replacePasswordHash: (id, expectedHash, passwordHash) =>
      write(() => {
        const user = users.get(id)
        if (user?.passwordHash !== expectedHash) return false
        users.put(id, { ...user, passwordHash })
        return true
      }),
    changePassword: ({ userId, expectedHash, passwordHash, keepSessionId, ...withRecords }, end, audit) =>
      change(audit, () => {
        const user = users.get(userId)
        if (user?.passwordHash !== expectedHash || !records.takeWith(userId, withRecords)) return false
        const kept = keepSessionId === undefined ? undefined : sessions.get(keepSessionId)
        const isKept = kept?.userId === userId && kept.generation === user.generation
        beginGeneration({ ...user, passwordHash }, end, isKept ? kept : undefined)
        return true
      }),
    deleteUser: (id, { now, expiresAt }, audit) =>
      change(audit, () => {
        const user = users.get(id)
        if (!user) return false
        userRows.remove(user)
        factors.remove(id)
        consents.remove(id)
        record({ kind: 'user', id, generation: everyGeneration, revokedAt: now, expiresAt })
        return true
      }),
    disableUser: (id, end, audit) =>
      change(audit, () => {
        const user = users.get(id)
        if (!user) return false
        beginGeneration({ ...user, disabledAt: end.now }, end)
        return true
      }),
    enableUser: (id, audit) =>
      change(audit, () => {
        const { disabledAt: _, ...user } = users.get(id) ?? {}
        if (!('id' in user)) return false
        users.put(id, user as User)
        return true
      }),
    endUserSessions: (userId, end, audit) =>
      change(audit, () => {
        const user = users.get(userId)
        if (!user) return false
        beginGeneration(user, end)
        return true
      }),

    importUsers: (rows, onConflict, end) =>
      (end ? write : read)(() => {
        const { outcomes, made, factors: ofMade, updated } = userRows.planImport(rows, onConflict)
        if (!end) return outcomes
        for (const user of made) userRows.put(user)
        for (const row of ofMade) factors.put(row.userId, row)
        for (const { before, user, endsSessions } of updated) {
          userRows.put(user, before)
          const { id, generation } = user
          if (endsSessions) record({ kind: 'user', id, generation, revokedAt: end.now, expiresAt: end.expiresAt })
        }
        return outcomes
      }),
  }
}
