import { isDeepStrictEqual } from 'node:util'
import { mapEmail } from './emails.ts'
import { type Factor, type UserFactors, withFactors } from './factor.ts'
import { omitUndefined } from './omit-undefined.ts'
import { noPassword, type User } from './user.ts'

/** What becomes of a row whose user, name or address is there already. */
export const onConflicts = ['skip', 'fail', 'update'] as const
export type OnConflict = (typeof onConflicts)[number]

/** A row of an import, as the user that it would make. */
export interface ImportRow extends User {
  source: string
  externalId: string
  /** whether its roles are those of a source that has roles; others are left to whoever gives them here */
  hasRoles: boolean
  /** second factors of a user who is made; whoever is here already keeps their own */
  factors?: Factor[]
}

/** Why a row is not taken. */
export const importConflicts = {
  name: 'another user has the name',
  email: 'another user has the address',
  id: 'another user has the id',
  here: 'the account was not made by this import, and is not taken over',
  again: 'it was imported before',
} as const
export type ImportConflict = keyof typeof importConflicts

export type ImportOutcome =
  | { outcome: 'made' | 'updated' | 'unchanged' }
  /** `left`: nothing stands against it but another row of its batch, with --on-conflict fail */
  | { outcome: 'left' }
  | { outcome: 'refused'; conflict: ImportConflict }

/** What a batch comes to, and what has to be written for it. */
export interface ImportPlan {
  /** in the order of the rows */
  outcomes: ImportOutcome[]
  made: User[]
  /** of those who are made */
  factors: UserFactors[]
  updated: { before: User; user: User; endsSessions: boolean }[]
}

const externalKey = ({ source, externalId }: User) => `${source} ${externalId}`

/**
 * Decides about a batch of rows, one after the other. A name or address that an update gives up is free for the next
 * batch.
 *
 * @param known every user with the id, the name, the verified address, or the source and external id of a row
 */
export function planImport(rows: ImportRow[], known: User[], onConflict: OnConflict): ImportPlan {
  const byId = new Map<string, User>()
  const byExternalId = new Map<string, User>()
  const byName = new Map<string, string>()
  const byEmail = new Map<string, string>()
  function add(user: User): void {
    byId.set(user.id, user)
    byName.set(user.nameKey, user.id)
    if (user.emailKey !== undefined) byEmail.set(user.emailKey, user.id)
    if (user.externalId !== undefined) byExternalId.set(externalKey(user), user)
  }
  for (const user of known) add(user)

  const plan: ImportPlan = { outcomes: [], made: [], factors: [], updated: [] }
  function judge(row: ImportRow): ImportOutcome {
    const before = byExternalId.get(externalKey(row)) ?? byId.get(row.id)
    // An id, which rows of another Latchkey bring, may be that of somebody else.
    if (before?.source !== undefined && externalKey(before) !== externalKey(row))
      return { outcome: 'refused', conflict: 'id' }
    if (before && onConflict === 'skip') return { outcome: 'unchanged' }
    if (before && onConflict === 'fail') return { outcome: 'refused', conflict: 'again' }
    if (before && externalKey(before) !== externalKey(row)) return { outcome: 'refused', conflict: 'here' }
    const id = before?.id ?? row.id
    const isTaken = (holder: string | undefined) => holder !== undefined && holder !== id
    if (isTaken(byName.get(row.nameKey))) return { outcome: 'refused', conflict: 'name' }
    if (row.emailKey !== undefined && isTaken(byEmail.get(row.emailKey)))
      return { outcome: 'refused', conflict: 'email' }
    if (before) {
      const update = updateOf(before, row)
      if (!update) return { outcome: 'unchanged' }
      plan.updated.push({ before, ...update })
      add(update.user)
      return { outcome: 'updated' }
    }
    const { hasRoles: _, factors = [], ...made } = row
    const user = withFactors(made, factors)
    plan.made.push(user)
    if (factors.length > 0) plan.factors.push({ userId: id, factors, version: 1 })
    add(user)
    return { outcome: 'made' }
  }
  plan.outcomes = rows.map(judge)
  if (onConflict !== 'fail' || plan.outcomes.every(({ outcome }) => outcome !== 'refused')) return plan
  const outcomes = plan.outcomes.map((each): ImportOutcome => (each.outcome === 'made' ? { outcome: 'left' } : each))
  return { outcomes, made: [], factors: [], updated: [] }
}

/** Made by a login or a change here; or argon2id over a hash from elsewhere, which cannot be compared with it. */
const isOwnHash = (hash: string) => hash.startsWith('$argon2id$v=19$') || hash.startsWith('$wrapped$')

/**
 * A user as another import of the same row leaves it. What was decided here since stays: a password and an address, once
 * the user has signed in; that an address is verified; and that an account is disabled.
 *
 * @returns undefined when there is nothing to change
 */
function updateOf(before: User, row: ImportRow): { user: User; endsSessions: boolean } | undefined {
  const isHashKept = row.passwordHash === noPassword || isOwnHash(before.passwordHash)
  const isEmailKept =
    row.email === undefined ||
    (before.email !== undefined && isOwnHash(before.passwordHash)) ||
    before.emailKey === mapEmail(row.email)
  const user: User = omitUndefined({
    ...before,
    username: row.username,
    nameKey: row.nameKey,
    ...(!isEmailKept && { email: row.email, emailKey: row.emailKey }),
    locale: before.locale ?? row.locale,
    passwordHash: isHashKept ? before.passwordHash : row.passwordHash,
    roles: row.hasRoles ? row.roles : before.roles,
    disabledAt: before.disabledAt ?? row.disabledAt,
  })
  if (isDeepStrictEqual(user, before)) return undefined
  const endsSessions =
    user.passwordHash !== before.passwordHash ||
    user.disabledAt !== before.disabledAt ||
    before.roles.some((role) => !user.roles.includes(role))
  return { user: endsSessions ? { ...user, generation: before.generation + 1 } : user, endsSessions }
}
