import { isUuid } from '../../../domain/ids.ts'
import { omitUndefined } from '../../../domain/omit-undefined.ts'
import type { ImportedUser, Source } from '../imported-user.ts'
import { anyIdOf, booleanOf, idOf, type Members, textOf, textsOf, timeOf, toUsers } from '../members.ts'
import { readRows } from '../read-rows.ts'
import { RowRefused } from '../rows.ts'

/** All that `latchkey user export` writes, `password` for users whose passwords are known, and `totp_secret`. */
const known = new Set([
  'id',
  'username',
  'email',
  'email_verified',
  'locale',
  'password_hash',
  'password',
  'totp_secret',
  'second_factor',
  'roles',
  'created_at',
  'disabled_at',
  'source',
  'external_id',
])

/** JSON Lines of `latchkey user export`, and what scripts write to have users imported. */
export const latchkey: Source = {
  read: (file) => toUsers(readRows(file, {}), toUser, 'external_id'),
}

function toUser(members: Members): ImportedUser {
  // A misspelt one would be lost, and a password with it.
  for (const name of Object.keys(members)) if (!known.has(name)) throw new RowRefused(unknownMember(name))
  const id = anyIdOf(members, 'id')
  const username = textOf(members, 'username')
  const email = textOf(members, 'email')
  if (username === undefined && email === undefined) throw new RowRefused('username is missing')
  const source = textOf(members, 'source')
  const externalId =
    source === undefined ? (anyIdOf(members, 'external_id') ?? id ?? username ?? email) : idOf(members, 'external_id')
  const passwordHash = textOf(members, 'password_hash')
  const password = textOf(members, 'password')
  if (passwordHash !== undefined && password !== undefined)
    throw new RowRefused('password and password_hash exclude each other')
  const totp = textOf(members, 'totp_secret')
  return omitUndefined({
    externalId: externalId as string,
    source,
    id: id !== undefined && isUuid(id) ? id : undefined,
    username,
    email,
    isEmailVerified: booleanOf(members, 'email_verified'),
    locale: textOf(members, 'locale'),
    passwordHash,
    password,
    roles: textsOf(members, 'roles'),
    createdAt: timeOf(members, 'created_at'),
    isDisabled: timeOf(members, 'disabled_at') !== undefined || undefined,
    totps: totp === undefined ? undefined : [{ secret: totp }],
    leavesFactors: (totp === undefined && booleanOf(members, 'second_factor')) || undefined,
  })
}

const unknownMember = (name: string) => (/^[\w-]{1,64}$/.test(name) ? `unknown member ${name}` : 'unknown member')
