import { omitUndefined } from '../../../domain/omit-undefined.ts'
import type { ImportedUser, Source } from '../imported-user.ts'
import { booleanOf, idOf, type Members, objectOf, textOf, timeOf, toUsers } from '../members.ts'
import { readRows } from '../read-rows.ts'
import { RowRefused } from '../rows.ts'

/**
 * What `manage.py dumpdata` writes of the user model, or the rows of its table. A model of one's own has other names: it
 * is told by its password.
 *
 * @see https://docs.djangoproject.com/en/stable/ref/django-admin/#dumpdata
 */
export const django: Source = {
  read: (file) => toUsers(readRows(file, { hasCsv: true }), toUser, 'pk'),
}

function toUser(row: Members): ImportedUser | undefined {
  const fields = objectOf(row, 'fields')
  // A dump of everything has other models as well.
  if (fields && !Object.hasOwn(fields, 'password')) return undefined
  const members = fields ?? row
  if (!Object.hasOwn(members, 'password')) throw new RowRefused('password is missing')
  const username = textOf(members, 'username')
  const isActive = booleanOf(members, 'is_active')
  const id = fields ? 'pk' : 'id'
  return omitUndefined({
    // Without a primary key, where it was dumped by natural ones.
    externalId: fields && !Object.hasOwn(row, id) && username !== undefined ? username : idOf(row, id),
    username,
    email: textOf(members, 'email'),
    passwordHash: textOf(members, 'password'),
    createdAt: timeOf(members, 'date_joined'),
    isDisabled: isActive === undefined ? undefined : !isActive,
  })
}
