import type { UserPage, UserTable } from '../../tables/users.ts'
import { usersLookedAt } from '../../tables/users.ts'
import { type Fields, tables } from '../columns.ts'
import { plan, type Runs } from '../statement.ts'
import { isPosition, lastUuid } from '../uuids.ts'

const { users } = tables

/** Sorts behind every character of a name. */
const lastCharacter = '\u{10ffff}'

export const statements = plan({
  // From the prefix $2 on, before $3, behind $1; of the $4 first those that were made after $5. The last of them comes
  // in any case, for the next page begins behind it.
  listUsersByName: `
    SELECT ${users.list}, place FROM (
      SELECT ${users.list}, row_number() OVER (ORDER BY name_key COLLATE "C") AS place FROM (
        SELECT ${users.list} FROM latchkey_users
        WHERE name_key COLLATE "C" > $1::text AND name_key COLLATE "C" >= $2::text AND name_key COLLATE "C" < $3::text
        ORDER BY name_key COLLATE "C" LIMIT $4::bigint
      ) AS looked
    ) AS placed
    WHERE created_at > $5::bigint OR place = $4::bigint
    ORDER BY place`,
  listUsersByCreation: `
    SELECT ${users.list} FROM latchkey_users
    WHERE (created_at, id) > ($1::bigint, $2::uuid) ORDER BY created_at, id LIMIT $3::bigint`,
})

/** Lists of users in the PostgreSQL store. */
export function createUserLists({ run }: Runs): Pick<UserTable, 'listUsers'> {
  async function listUsersByName({ after = '', limit, prefix = '', createdAfter }: UserPage) {
    const lookedAt = createdAfter === undefined ? limit : usersLookedAt
    const values = [after, prefix, `${prefix}${lastCharacter}`, lookedAt, createdAfter ?? -1]
    const rows = await run<Fields & { place: number }>(statements.listUsersByName, ...values)
    const looked = rows.map(users.read)
    const found = looked.filter((user) => user.createdAt > (createdAfter ?? -1)).slice(0, limit)
    const isMore = found.length === limit || rows.at(-1)?.place === lookedAt
    const last = (found.length === limit ? found : looked).at(-1)
    return { users: found, ...(isMore && last && { next: last.nameKey }) }
  }

  async function listUsersByCreation({ after, limit, createdAfter = -1 }: UserPage) {
    const [createdAt = '', id = ''] = after?.split('/') ?? []
    const position = isPosition(createdAt, id) ? [createdAt, id] : [createdAfter, lastUuid]
    const page = (await run<Fields>(statements.listUsersByCreation, ...position, limit)).map(users.read)
    const last = page.at(-1)
    return page.length === limit && last ? { users: page, next: `${last.createdAt}/${last.id}` } : { users: page }
  }

  return {
    listUsers: (page) =>
      page.prefix === undefined && page.createdAfter !== undefined ? listUsersByCreation(page) : listUsersByName(page),
  }
}
