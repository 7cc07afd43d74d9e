import { omitUndefined } from '../../../domain/omit-undefined.ts'
import { type Bytes, type ImportedRow, type ImportedUser, ImportRefused, type Source } from '../imported-user.ts'
import {
  booleanOf,
  idOf,
  type Members,
  nameOf,
  objectOf,
  objectsOf,
  textOf,
  timeOf,
  toMembers,
  toUsers,
} from '../members.ts'
import { readRows } from '../read-rows.ts'
import { RowRefused } from '../rows.ts'

/**
 * Rows of the tables `user` and `account`: joined by the user's id, or in two files. A join may have a row for each of
 * somebody's accounts, one after the other; the objects of an ORM have them in `accounts`.
 *
 * @see https://www.better-auth.com/docs/concepts/database
 */
export const betterAuth: Source = {
  async *read(file, { second }) {
    const hashes = second && (await hashesOf(second))
    const rows = toUsers(readRows(file, { hasCsv: true }), (members) => toUser(members, hashes), 'id')
    yield* mergeAccounts(rows)
  },
}

function toUser(members: Members, hashes: Map<string, string> | undefined): ImportedUser {
  const externalId = idOf(members, 'id')
  const within = Object.hasOwn(members, 'accounts') ? objectsOf(members, 'accounts') : objectOf(members, 'account')
  if (!hashes && !within && !Object.hasOwn(members, 'password'))
    throw new RowRefused('password is missing, which is in the table account')
  const account = Array.isArray(within) ? (within.find(isOfPassword) ?? {}) : (within ?? members)
  const banEnds = timeOf(members, nameOf(members, 'banExpires', 'ban_expires'))
  const isBanned = booleanOf(members, 'banned') && (banEnds === undefined || banEnds > Date.now())
  return omitUndefined({
    externalId,
    username: usernameOf(members),
    email: textOf(members, 'email'),
    isEmailVerified: booleanOf(members, nameOf(members, 'emailVerified', 'email_verified')),
    passwordHash: hashes ? hashes.get(externalId) : textOf(account, 'password'),
    createdAt: timeOf(members, nameOf(members, 'createdAt', 'created_at')),
    isDisabled: isBanned || undefined,
    roles: textOf(members, 'role')?.split(','),
    leavesFactors: booleanOf(members, nameOf(members, 'twoFactorEnabled', 'two_factor_enabled')) || undefined,
  })
}

/** As it was typed, where that is the same name: it may also be any other. */
function usernameOf(members: Members): string | undefined {
  const username = textOf(members, 'username')
  const typed = textOf(members, nameOf(members, 'displayUsername', 'display_username'))
  return typed?.toLowerCase() === username ? typed : username
}

/** Others are of other providers, with tokens. */
const isOfPassword = (account: Members) =>
  textOf(account, nameOf(account, 'providerId', 'provider_id')) === 'credential'

/**
 * Reads the file of accounts into memory: some 300 MB for a million.
 *
 * @returns hashes by the id of the user
 * @throws {ImportRefused} for a row that cannot be read, for its user would be without a password
 */
async function hashesOf(accounts: Bytes): Promise<Map<string, string>> {
  const hashes = new Map<string, string>()
  for await (const row of readRows(accounts, { hasCsv: true })) {
    try {
      if ('reason' in row) throw new RowRefused(row.reason)
      const members = toMembers(row.value)
      const userId = idOf(members, nameOf(members, 'userId', 'user_id'))
      const hash = isOfPassword(members) ? textOf(members, 'password') : undefined
      if (hash !== undefined) hashes.set(userId, hash)
    } catch (error) {
      if (!(error instanceof RowRefused)) throw error
      throw new ImportRefused(`The file of accounts, line ${row.line}: ${error.message}`)
    }
  }
  return hashes
}

/** Makes one user of rows that follow one another with the same id. */
async function* mergeAccounts(rows: AsyncIterable<ImportedRow>): AsyncGenerator<ImportedRow> {
  let last: { line: number; user: ImportedUser } | undefined
  for await (const row of rows) {
    if ('user' in row && row.user.externalId === last?.user.externalId) {
      last.user = { ...row.user, ...last.user }
      continue
    }
    if (last) yield last
    last = undefined
    if ('user' in row) last = row
    else yield row
  }
  if (last) yield last
}
