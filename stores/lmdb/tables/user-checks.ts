import { isDeepStrictEqual } from 'node:util'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import { byCreationKey, byExternalIdKey } from './users.ts'

/** What `store check` finds wrong with each entry. */
export function checkUsers({
  users,
  usersByName,
  usersByEmail,
  usersByExternalId,
  usersByCreation,
}: Databases): Check[] {
  return [
    checkOf('users', users, (id) => {
      const user = users.get(id)
      if (user?.id !== id) return 'the row does not fit its key'
      const holder = usersByName.get(user.nameKey)
      if (holder === undefined) return 'the user is missing in the index of names'
      if (holder !== id) return 'the name is that of another user, too'
      if (user.emailKey !== undefined && usersByEmail.get(user.emailKey) !== id)
        return 'the user is missing in the index of addresses'
      const externalKey = byExternalIdKey(user)
      if (externalKey !== undefined && usersByExternalId.get(externalKey) !== id)
        return 'the user is missing in the index of imports'
      return !usersByCreation.doesExist(byCreationKey(user))
        ? 'the user is missing in the index by creation'
        : undefined
    }),
    checkOf('users_by_name', usersByName, (nameKey) => {
      const user = users.get(usersByName.get(nameKey) ?? '')
      return user?.nameKey === nameKey ? undefined : 'the index entry has no user'
    }),
    checkOf('users_by_email', usersByEmail, (emailKey) => {
      const user = users.get(usersByEmail.get(emailKey) ?? '')
      return user?.emailKey === emailKey ? undefined : 'the index entry has no user'
    }),
    checkOf('users_by_external_id', usersByExternalId, (key) => {
      const user = users.get(usersByExternalId.get(key) ?? '')
      return user && byExternalIdKey(user) === key ? undefined : 'the index entry has no user'
    }),
    checkOf('users_by_creation', usersByCreation, (key) => {
      const user = users.get(key[1])
      return user && isDeepStrictEqual(byCreationKey(user), key) ? undefined : 'the index entry has no user'
    }),
  ]
}
