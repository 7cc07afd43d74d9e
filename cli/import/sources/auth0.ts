import { omitUndefined } from '../../../domain/omit-undefined.ts'
import type { ImportedUser, Source } from '../imported-user.ts'
import { booleanOf, idOf, type Members, objectOf, objectsOf, textOf, textsOf, timeOf, toUsers } from '../members.ts'
import { readRows } from '../read-rows.ts'

/**
 * The export of password hashes, which Auth0's support makes on request, and the one of users without their hashes. Of
 * the first, `email` and `email_verified` may be in `identifiers` alone.
 *
 * @see https://support.auth0.com/center/s/article/How-to-Use-the-Password-Hashes-Export-from-Auth0
 */
export const auth0: Source = {
  read: (file) => toUsers(readRows(file, {}), toUser, 'user_id'),
}

function toUser(members: Members): ImportedUser {
  const mongoId = objectOf(members, '_id')
  const objectId = mongoId && idOf(mongoId, '$oid')
  const identified = (type: string): Members =>
    objectsOf(members, 'identifiers').find((each) => each['type'] === type) ?? {}
  const email = textOf(members, 'email')
  return omitUndefined({
    externalId: objectId === undefined ? idOf(members, 'user_id') : `auth0|${textOf(members, 'alt_id') ?? objectId}`,
    username: textOf(members, 'username') ?? textOf(identified('username'), 'value'),
    email: email ?? textOf(identified('email'), 'value'),
    isEmailVerified:
      booleanOf(members, 'email_verified') ??
      (email === undefined ? booleanOf(identified('email'), 'verified') : undefined),
    locale: textOf(members, 'locale'),
    passwordHash: textOf(members, 'passwordHash'),
    createdAt: timeOf(members, 'created_at') ?? madeAt(objectId),
    isDisabled: booleanOf(members, 'blocked'),
    ...factorsOf(members),
  })
}

/** In the form of Auth0's own imports, `mfa_factors`; its exports have at most the names of factors, in `multifactor`. */
function factorsOf(members: Members): Pick<ImportedUser, 'totps' | 'leavesFactors'> {
  const factors = objectsOf(members, 'mfa_factors')
  const totps = factors.flatMap((factor) => {
    const secret = textOf(objectOf(factor, 'totp') ?? {}, 'secret')
    return secret === undefined ? [] : [{ secret }]
  })
  const isLeft =
    totps.length < factors.length || (totps.length === 0 && (textsOf(members, 'multifactor') ?? []).length > 0)
  return omitUndefined({ totps: totps.length > 0 ? totps : undefined, leavesFactors: isLeft || undefined })
}

/** An id of MongoDB begins with the second in which it was made. */
const madeAt = (objectId = ''): number | undefined =>
  /^[0-9a-f]{24}$/.test(objectId) ? Number.parseInt(objectId.slice(0, 8), 16) * 1000 : undefined
