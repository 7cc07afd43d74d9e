import type { User } from '../../../domain/user.ts'
import { type Store, StoreUnavailable } from '../../store.ts'
import { type UserPage, type UserTable, usersLookedAt } from '../../tables/users.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import { byCreationKey } from './users.ts'

/** Sorts behind every character of a name. */
const last = '\u{10ffff}'
const uuidLength = 36
const idOf = (byCreation: string) => byCreation.slice(-uuidLength)
/** Where a page by creation ends, as in PostgreSQL. */
const positionOf = (byCreation: string) => byCreation.replace(/^0{1,15}/, '')

/** The indexes that users are listed by. Only inside `read` or a transaction. */
export function createUserIndexes({ users, usersByName, usersByCreation }: Databases) {
  const isUser = (user: User | undefined): user is User => user !== undefined

  function listByName({ after, limit, prefix = '', createdAfter }: UserPage) {
    const found: User[] = []
    const lookAtMost = createdAfter === undefined ? limit : usersLookedAt
    let looked = 0
    const isWithin = after?.startsWith(prefix) === true
    const start = isWithin ? { start: after, exclusiveStart: true } : prefix !== '' && { start: prefix }
    for (const { key, value: id } of usersByName.getRange({ ...start, end: `${prefix}${last}` })) {
      const user = users.get(id)
      if (user && user.createdAt > (createdAfter ?? -1)) found.push(user)
      looked += 1
      if (found.length === limit || looked === lookAtMost) return { users: found, next: key }
    }
    return { users: found }
  }

  function listByCreation({ after, limit, createdAfter = -1 }: UserPage) {
    const [createdAt, id] = after?.split('/') ?? [createdAfter, last]
    const start = byCreationKey({ createdAt: Number(createdAt), id: id as string })
    const keys = [...usersByCreation.getKeys({ start, exclusiveStart: true, limit })]
    const found = keys.map((key) => users.get(idOf(key))).filter(isUser)
    const next = keys.at(-1)
    return keys.length === limit && next !== undefined ? { users: found, next: positionOf(next) } : { users: found }
  }

  /** Of all users, how many are in the index by creation; 1 only where none is missing and none too many. */
  function indexedShare(): number {
    const [indexed, all] = [entriesOf(usersByCreation), entriesOf(users)]
    return indexed === all ? 1 : Math.min(0.99, indexed / Math.max(1, all))
  }

  return {
    /** @returns how much of the index that it needs is there, where that is not all of it */
    list: (page: UserPage): { users: User[]; next?: string } | { indexedShare: number } => {
      if (page.prefix !== undefined || page.createdAfter === undefined) return listByName(page)
      const share = indexedShare()
      return share === 1 ? listByCreation(page) : { indexedShare: share }
    },

    indexedShare,
    missing,
    stray,
    putRight(due: string[]): void {
      for (const key of due) {
        const user = users.get(key)
        if (user) usersByCreation.put(byCreationKey(user), 0)
        else if (isStray(key)) usersByCreation.remove(key)
      }
    },
  }

  /** Ids of users that the index by creation lacks, of a few behind an id. */
  function missing(after: string | undefined, limit: number): Lacking {
    const page = [...users.getRange({ ...behind(after), limit })]
    const due = page.filter(({ value }) => !usersByCreation.doesExist(byCreationKey(value)))
    return { due: due.map(({ key }) => key), next: page.length === limit ? page.at(-1)?.key : undefined }
  }

  /** Entries of the index by creation without a user, of a few behind a key. */
  function stray(after: string | undefined, limit: number): Lacking {
    const keys = [...usersByCreation.getKeys({ ...behind(after), limit })]
    return { due: keys.filter(isStray), next: keys.length === limit ? keys.at(-1) : undefined }
  }

  function isStray(key: string): boolean {
    const user = users.get(idOf(key))
    return user === undefined || byCreationKey(user) !== key
  }
}

interface Lacking {
  due: string[]
  /** where to look next */
  next: string | undefined
}

const behind = (key: string | undefined) => key !== undefined && { start: key, exclusiveStart: true }

/** Lists of users in the embedded store. */
export function createUserLists(
  indexes: ReturnType<typeof createUserIndexes>,
  { read }: Runs,
): Pick<UserTable, 'listUsers'> {
  return {
    async listUsers(page) {
      const listed = await read(() => indexes.list(page))
      if ('users' in listed) return listed
      const percent = Math.floor(listed.indexedShare * 100)
      throw new StoreUnavailable(undefined, `the index of users by creation is being made: ${percent} % are in it`)
    },
  }
}

/**
 * Makes the index by creation, which no release before 0.3.0 had, and puts right what such a release has written since.
 * Rows are looked for outside the writer's lock, and looked at again inside it; a new user comes with its entry. So it
 * may be interrupted anywhere, and done by several at once.
 */
export function createUserIndexing(
  { indexedShare, missing, stray, putRight }: ReturnType<typeof createUserIndexes>,
  { read, write }: Runs,
): Required<Pick<Store, 'completeIndexes'>> {
  return {
    async completeIndexes({ cursor, limit }) {
      const share = await read(indexedShare)
      if (cursor === undefined && share === 1) return { share }
      const [pass, after] = cursor?.split(' ') ?? ['missing']
      const { due, next } = await read(() => (pass === 'missing' ? missing(after, limit) : stray(after, limit)))
      if (due.length > 0) await write(() => putRight(due))
      if (next !== undefined) return { share, cursor: `${pass} ${next}` }
      return pass === 'missing' && (await read(indexedShare)) !== 1 ? { share, cursor: 'stray' } : { share }
    },
  }
}

/** Counted by LMDB, at no cost. */
const entriesOf = (database: { getStats(): object }) => (database.getStats() as { entryCount: number }).entryCount
