import { emailRule, isEmail, mapEmail } from '../../domain/emails.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { profileOf, type UserProfile } from '../../domain/user.ts'
import { isUsername, mapUsername, usernameRule } from '../../domain/usernames.ts'
import { invalidMember } from '../../errors.ts'
import type { Change } from '../run/changes.ts'

/** What is to be different about a user; null removes the address. */
export interface UserEdit {
  username?: string
  roles?: string[]
  email?: string | null
  emailVerified?: boolean
}

/**
 * The profile after an edit. Another address is not verified unless the edit says so; another spelling of the same
 * stays what it was.
 *
 * @throws {Refusal} 400 for a name or an address that is none, and for a verified address where there is no address
 */
export function editProfile(before: UserProfile, { username, roles, ...address }: UserEdit): UserProfile {
  if (username !== undefined) refuseUsername(username)
  const name = username === undefined ? undefined : { username, nameKey: mapUsername(username) }
  return omitUndefined({ ...profileOf(before), ...name, ...(roles && { roles }), ...editAddress(before, address) })
}

function editAddress(before: UserProfile, edit: Pick<UserEdit, 'email' | 'emailVerified'>) {
  if (edit.email === undefined && edit.emailVerified === undefined) return undefined
  if (typeof edit.email === 'string') refuseEmail(edit.email)
  const email = edit.email === undefined ? before.email : (edit.email ?? undefined)
  if (edit.emailVerified && email === undefined)
    throw invalidMember('/email_verified', 'cannot be true without an address')
  const isVerified = edit.emailVerified ?? (before.emailKey !== undefined && !hasOtherAddress(before, { email }))
  return { email, emailKey: isVerified && email !== undefined ? mapEmail(email) : undefined }
}

/** What has happened between two profiles of a user, as an administrator has made it. */
export function changesBetween(before: UserProfile, next: UserProfile, sub: string): Change[] {
  const { username, roles, email, emailKey } = next
  const changes: Change[] = []
  if (roles.join() !== before.roles.join()) changes.push({ event: 'user.roles_set', members: { sub, roles } })
  if (username !== before.username) changes.push({ event: 'user.renamed', members: { sub } })
  if (email === before.email && emailKey === before.emailKey) return changes
  if (email === undefined) return [...changes, { event: 'email.removed', members: { sub } }]
  return [...changes, { event: 'email.set', members: { sub, verified: emailKey !== undefined } }]
}

type Addressed = { email?: string | undefined }

/** Whether the address is another one, and not the same as somebody else types it. */
export const hasOtherAddress = (before: Addressed, next: Addressed): boolean =>
  mapEmail(before.email ?? '') !== mapEmail(next.email ?? '')

/** @throws {Refusal} 400 for a name that is none */
export function refuseUsername(username: string): void {
  if (!isUsername(username)) throw invalidMember('/username', usernameRule)
}

/** @throws {Refusal} 400 for what is not one address */
export function refuseEmail(email: string): void {
  if (!isEmail(email)) throw invalidMember('/email', emailRule)
}
