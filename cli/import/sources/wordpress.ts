import { omitUndefined } from '../../../domain/omit-undefined.ts'
import type { ImportedUser, Source } from '../imported-user.ts'
import { booleanOf, idOf, type Members, textOf, timeOf, toUsers } from '../members.ts'
import { readRows } from '../read-rows.ts'
import { RowRefused } from '../rows.ts'

/** Rows of the table `wp_users`, as CSV or JSON. */
export const wordpress: Source = {
  read: (file) => toUsers(readRows(file, { hasCsv: true }), toUser, 'ID'),
}

/** What MySQL has for no date. */
const noDate = '0000-00-00 00:00:00'

function toUser(members: Members): ImportedUser {
  if (!Object.hasOwn(members, 'user_pass')) throw new RowRefused('user_pass is missing')
  return omitUndefined({
    externalId: idOf(members, 'ID'),
    username: textOf(members, 'user_login'),
    email: textOf(members, 'user_email'),
    passwordHash: textOf(members, 'user_pass'),
    createdAt: members['user_registered'] === noDate ? undefined : timeOf(members, 'user_registered'),
    // Of a network of sites.
    isDisabled: booleanOf(members, 'deleted') || booleanOf(members, 'spam') || undefined,
  })
}
