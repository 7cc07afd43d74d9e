import { isUuid } from '../../../domain/ids.ts'
import { omitUndefined } from '../../../domain/omit-undefined.ts'
import type { ImportedUser, Source } from '../imported-user.ts'
import { booleanOf, idOf, type Members, objectsOf, textOf, timeOf, toUsers } from '../members.ts'
import { readRows } from '../read-rows.ts'

/**
 * What `aws cognito-idp list-users` writes, or CSV with the head line that Cognito has for imports. No hashes leave
 * Cognito.
 *
 * @see https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_ListUsers.html
 */
export const cognito: Source = {
  read: (file) => toUsers(readRows(file, { member: 'Users', hasCsv: true }), toUser, 'Username'),
}

function toUser(row: Members): ImportedUser {
  const isCsv = Object.hasOwn(row, 'cognito:username')
  const members = isCsv ? row : attributesOf(row)
  const name = idOf(row, isCsv ? 'cognito:username' : 'Username')
  const isEnabled = booleanOf(row, 'Enabled')
  // Where people sign in by address, Cognito makes up the name; that of another provider is made of its id.
  const isMadeUp = isUuid(name) || textOf(row, 'UserStatus') === 'EXTERNAL_PROVIDER'
  return omitUndefined({
    externalId: textOf(members, 'sub') ?? name,
    username: isMadeUp ? textOf(members, 'preferred_username') : name,
    email: textOf(members, 'email'),
    isEmailVerified: booleanOf(members, 'email_verified'),
    locale: textOf(members, 'locale'),
    createdAt: timeOf(row, 'UserCreateDate'),
    isDisabled: isEnabled === undefined ? undefined : !isEnabled,
  })
}

const attributesOf = (user: Members): Members =>
  Object.fromEntries(objectsOf(user, 'Attributes').map((each) => [idOf(each, 'Name'), each['Value']]))
