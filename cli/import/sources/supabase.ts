import { omitUndefined } from '../../../domain/omit-undefined.ts'
import type { ImportedUser, Source } from '../imported-user.ts'
import { idOf, type Members, textOf, timeOf, toUsers } from '../members.ts'
import { readRows } from '../read-rows.ts'
import { RowRefused } from '../rows.ts'

/** Rows of the table `auth.users`, as CSV or JSON. */
export const supabase: Source = {
  read: (file) => toUsers(readRows(file, { hasCsv: true }), toUser, 'id'),
}

function toUser(members: Members): ImportedUser {
  if (!Object.hasOwn(members, 'encrypted_password')) throw new RowRefused('encrypted_password is missing')
  if (timeOf(members, 'deleted_at') !== undefined) throw new RowRefused('the user was deleted there')
  const bannedUntil = timeOf(members, 'banned_until')
  return omitUndefined({
    externalId: idOf(members, 'id'),
    email: textOf(members, 'email'),
    isEmailVerified: timeOf(members, 'email_confirmed_at') !== undefined,
    passwordHash: textOf(members, 'encrypted_password'),
    createdAt: timeOf(members, 'created_at'),
    isDisabled: bannedUntil !== undefined && bannedUntil > Date.now() ? true : undefined,
  })
}
