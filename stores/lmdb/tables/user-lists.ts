import type { User } from '../../../domain/user.ts'
import { type UserPage, type UserTable, usersLookedAt } from '../../tables/users.ts'
import type { Databases } from '../databases.ts'
import { type ByCreation, lastId, positionOf, readPosition, upTo } from '../keys.ts'
import type { Runs } from '../runs.ts'

/** Sorts behind every character of a name. */
const last = '\u{10ffff}'

/** Lists of users in the embedded store. */
export function createUserLists(
  { users, usersByName, usersByCreation }: Databases,
  { read }: Runs,
): Pick<UserTable, 'listUsers'> {
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
    const start = readPosition(after) ?? (createdAfter < 0 ? upTo<ByCreation>(0) : [createdAfter, lastId])
    const keys = [...usersByCreation.getKeys({ start, exclusiveStart: true, limit })]
    const found = keys.map(([, id]) => users.get(id)).filter(isUser)
    const next = keys.at(-1)
    if (keys.length < limit || next === undefined) return { users: found }
    const [createdAt, id] = next
    return { users: found, next: positionOf({ createdAt, id }) }
  }

  return {
    listUsers: (page) =>
      read(() =>
        page.prefix === undefined && page.createdAfter !== undefined ? listByCreation(page) : listByName(page),
      ),
  }
}
