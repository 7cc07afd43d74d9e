import type { Database } from 'lmdb'
import type { User } from '../../domain/user.ts'
import { type ImportPlan, type ImportRow, type OnConflict, planImport } from '../../domain/user-import.ts'

interface Databases {
  users: Database<User, string>
  usersByName: Database<string, string>
  /** by their verified addresses */
  usersByEmail: Database<string, string>
  usersByCreation: Database<0, string>
  /** by where an import had them from, and what they were called there */
  usersByExternalId: Database<string, string>
}

/** The key of a user in the index of imports; undefined for one who was made here. */
export const byExternalIdKey = ({ source, externalId }: Pick<User, 'source' | 'externalId'>): string | undefined =>
  source === undefined || externalId === undefined ? undefined : `${source} ${externalId}`

/** As wide as any number of milliseconds. */
const digits = 16

/** The key of a user in the index by creation: those of one millisecond are in the order of their ids. */
export const byCreationKey = ({ createdAt, id }: Pick<User, 'createdAt' | 'id'>): string =>
  `${String(createdAt).padStart(digits, '0')}/${id}`

/** The users of the embedded store, with their indexes. Writes only inside a transaction. */
export function createLmdbUsers({ users, usersByName, usersByEmail, usersByCreation, usersByExternalId }: Databases) {
  const indexes: { index: Database<string, string>; keyOf(user: User): string | undefined }[] = [
    { index: usersByName, keyOf: ({ nameKey }) => nameKey },
    { index: usersByEmail, keyOf: ({ emailKey }) => emailKey },
    { index: usersByExternalId, keyOf: byExternalIdKey },
  ]

  /** The user who has a key in an index, whatever a release that did not know the index has left in it. */
  function holderOf({ index, keyOf }: (typeof indexes)[number], key: string | undefined): User | undefined {
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
    put,
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
