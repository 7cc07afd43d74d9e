import { randomUUID } from 'node:crypto'
import { adminScope } from '../../domain/client.ts'
import { isEmail, mapEmail } from '../../domain/emails.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { roleCharacter } from '../../domain/scope.ts'
import { locales, noPassword } from '../../domain/user.ts'
import type { ImportRow } from '../../domain/user-import.ts'
import { isUsername, mapUsername, usernameRule } from '../../domain/usernames.ts'
import { readForeignHash } from '../../plugins/login/foreign-hashes.ts'
import type { ImportedTotp, ImportedUser } from './imported-user.ts'
import { RowRefused } from './rows.ts'
import { readTotpSecret } from './totp-secrets.ts'

/** A row to be imported, and what is still to be done for its password. */
export interface ReadyRow {
  row: ImportRow
  /** in clear, to be hashed */
  password?: string
  isToBeWrapped: boolean
  /** authenticator apps, with their secrets in clear, to be sealed */
  totps: ImportedTotp[]
  notes: Note[]
}

/** What is told of users who are taken. */
export const notes = {
  withoutPassword: 'have no password, and have to reset it or be given one',
  weak: 'have a hash that is cheap to guess at until they have signed in: --wrap puts argon2id over it now',
  dearer: 'have a hash that is dearer than one of today: wrong passwords take longer until they have signed in',
  withoutFactor: 'had a second factor there that cannot be taken along, and have to add one here',
  withoutAddress: 'have no address here, for theirs is none',
  notAdmin: 'were administrators there, and are none here: "latchkey user set-roles" makes them',
} as const
export type Note = keyof typeof notes

const mostRoles = 32
const role = new RegExp(`^${roleCharacter}{1,64}$`)
const source = /^[a-z][a-z0-9-]{0,31}$/
const longestId = 255
const mostTotps = 5
const longestName = 100

/**
 * Checks a user of another system, and makes a row of it.
 *
 * @param from the source that the file is of
 * @throws {RowRefused}
 */
export function toRow(user: ImportedUser, { from, wrap, now }: { from: string; wrap: boolean; now: number }): ReadyRow {
  const { externalId, email, password, roles = [] } = user
  const username = user.username ?? email
  if (username === undefined) throw new RowRefused('there is neither a name nor an address')
  if (!isUsername(username)) throw new RowRefused(`the username ${usernameRule}`)
  if (externalId.length > longestId || /\p{Cc}/u.test(externalId))
    throw new RowRefused(`the id must be at most ${longestId} characters`)
  if (user.source !== undefined && !source.test(user.source)) throw new RowRefused('the source must be a name')
  if (roles.length > mostRoles || !roles.every((name) => role.test(name)))
    throw new RowRefused(`the roles must be at most ${mostRoles}, of 1 to 64 visible characters without , " and \\`)
  const hash = readForeignHash(user.passwordHash ?? noPassword)
  if ('refused' in hash) throw new RowRefused(hash.refused)
  const isToBeWrapped = wrap && hash.isWeak && !hash.stored.startsWith('$wrapped$')
  if (hash.isOnlyForWrapping && !wrap) throw new RowRefused('the hash is a bare digest, and is taken with --wrap only')

  const hasEmail = email !== undefined && isEmail(email)
  const isVerified = hasEmail && user.isEmailVerified === true
  // Of another system, an administrator there is no administrator of this service.
  const isOwn = from === 'latchkey'
  const here = isOwn ? roles : roles.filter((name) => name !== adminScope)
  const createdAt = Math.floor(Math.max(0, Math.min(user.createdAt ?? now, now)))
  const told: Note[] = []
  if (password === undefined && hash.stored === noPassword) told.push('withoutPassword')
  if (hash.isWeak && !wrap) told.push('weak')
  if (hash.isDearer) told.push('dearer')
  if (email !== undefined && !hasEmail) told.push('withoutAddress')
  const totps = user.totps?.slice(0, mostTotps).flatMap(checkTotp) ?? []
  if (user.leavesFactors || totps.length < (user.totps ?? []).length) told.push('withoutFactor')
  if (here.length < roles.length) told.push('notAdmin')
  return {
    row: {
      ...omitUndefined({
        email: hasEmail ? email : undefined,
        emailKey: isVerified ? mapEmail(email) : undefined,
        disabledAt: user.isDisabled ? now : undefined,
        locale: locales.find((locale) => user.locale?.toLowerCase().split(/[-_]/)[0] === locale),
      }),
      id: user.id ?? randomUUID(),
      username,
      nameKey: mapUsername(username),
      passwordHash: hash.stored,
      roles: [...new Set(here)],
      createdAt,
      // Beyond every session of a deleted user that had the same id.
      generation: user.id === undefined ? 0 : now,
      source: user.source ?? from,
      externalId,
      hasRoles: user.roles !== undefined,
    },
    ...(password !== undefined && { password }),
    isToBeWrapped,
    totps,
    notes: told,
  }
}

/** @returns none for a secret that is none */
function checkTotp({ secret: text, name, createdAt }: ImportedTotp): ImportedTotp[] {
  const secret = readTotpSecret(text)
  const shown =
    name
      ?.replace(/\p{C}+/gu, ' ')
      .trim()
      .slice(0, longestName) || undefined
  return secret === undefined ? [] : [omitUndefined({ secret, name: shown, createdAt })]
}
