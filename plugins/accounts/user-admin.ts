import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import type { Factor } from '../../domain/factor.ts'
import type { User, UserProfile } from '../../domain/user.ts'
import { isUsername, mapUsername } from '../../domain/usernames.ts'
import { Refusal } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import type { UserPage } from '../../stores/tables/users.ts'
import { endingWithPassword, linkKinds } from '../mail/kinds.ts'
import { changesBetween, editProfile, hasOtherAddress, type UserEdit } from './user-edit.ts'

declare module 'fastify' {
  interface FastifyInstance {
    userAdmin: ReturnType<typeof createUserAdmin>
  }
}

type By = Pick<Caller, 'log'>

/** What administrators do with accounts. Each change takes effect at once, everywhere: see `revocations`. */
function createUserAdmin({
  store,
  hashing,
  passwordPolicy,
  changes,
  revocations,
  mail,
  now,
}: Pick<FastifyInstance, 'store' | 'hashing' | 'passwordPolicy' | 'changes' | 'revocations' | 'mail' | 'now'>) {
  /** The user of a name, as people type it, or of an id; disabled ones too. @throws {Refusal} 404 */
  async function get(by: { username: string } | { id: string }): Promise<User> {
    const user =
      'id' in by
        ? await store.findUser(by.id)
        : isUsername(by.username) && (await store.findUserByName(mapUsername(by.username)))
    if (!user) throw unknownUser()
    return user
  }

  /** @throws {Refusal} 409 where another user has the name or the verified address */
  async function refuseTaken(id: string, { nameKey, emailKey }: UserProfile): Promise<void> {
    const named = await store.findUserByName(nameKey)
    if (named && named.id !== id) throw new Refusal('username_taken')
    const written = emailKey === undefined ? undefined : await store.findUserByEmail(emailKey)
    if (written && written.id !== id) throw new Refusal('email_taken')
  }

  /** Only one that was verified: anybody may have typed another. The change stands, whether or not it can be told. */
  async function tellOldAddress(by: By, { id, email, emailKey, locale = 'en' }: User, next: UserProfile) {
    if (email === undefined || emailKey === undefined || !hasOtherAddress({ email }, next)) return
    const about = { username: next.username, at: new Date(now()).toISOString(), how: 'set' }
    await mail
      .tell('email_changed', { owner: id, to: email, locale, about })
      .catch((err) => by.log.warn({ err }, 'an address was changed, and the old one could not be told'))
  }

  return {
    get,

    /** Users page by page, disabled ones too. @param page `prefix` as people type it */
    async list({ prefix, ...page }: UserPage): Promise<{ users: User[]; next?: string }> {
      if (prefix === undefined) return store.listUsers(page)
      // What no name could begin with is nothing to ask a store for.
      return isUsername(prefix) ? store.listUsers({ ...page, prefix: mapUsername(prefix) }) : { users: [] }
    },

    /** Removes the account, its sessions, its access tokens and the links that were sent. @throws {Refusal} 404 */
    async delete(by: By, id: string): Promise<void> {
      await mail.end(id, linkKinds)
      const deleted = { sub: id }
      const isDeleted = await changes.make(by, 'user.deleted', deleted, (store, end) => store.deleteUser(id, end()))
      if (!isDeleted) throw unknownUser()
      // They would find nobody; it is for what has not been mailed yet.
      await mail.end(id, linkKinds)
    },

    /** Ends the sessions and access tokens of a user, who cannot log in until enabled again. @throws {Refusal} 404 */
    async disable(by: By, id: string): Promise<void> {
      const disabled = { sub: id }
      const isDisabled = await changes.make(by, 'user.disabled', disabled, (store, end) => store.disableUser(id, end()))
      if (!isDisabled) throw unknownUser()
    },

    /** Lets a disabled user log in again; what was ended stays so. @throws {Refusal} 404 */
    async enable(by: By, id: string): Promise<void> {
      const isEnabled = await changes.make(by, 'user.enabled', { sub: id }, (store) => store.enableUser(id))
      if (!isEnabled) throw unknownUser()
    },

    /**
     * Changes what a user is called and written to, and may do. A role that is added shows in the next access token; when
     * one is taken away, the sessions and access tokens of the user end, so that it cannot be used any more. When the
     * address is another one, all links that the user has been sent end, and the old one is told, if it was verified.
     *
     * @returns the user as it is now
     * @throws {Refusal} 404; 400 for a name or address that is none; 409 for one that another user has
     */
    async change(by: By, id: string, edit: UserEdit): Promise<User> {
      return retryUntilApplied('The user', async () => {
        const user = await get({ id })
        const next = editProfile(user, edit)
        const told = changesBetween(user, next, id)
        if (told.length === 0) {
          // A request before that had no answer may have taken a role away, as this one is asked to.
          if (edit.roles) await revocations.pull()
          return user
        }
        const isTakingAway = user.roles.some((role) => !next.roles.includes(role))
        const endsLinks = hasOtherAddress(user, next) || (user.emailKey !== undefined && next.emailKey === undefined)
        const ending = endsLinks && { ending: { kinds: linkKinds, now: now() } }
        const isChanged = await changes.makeAll(by, told, (store, end) =>
          store.changeUser({ userId: id, expected: user, next, ...ending }, isTakingAway ? end() : undefined),
        )
        if (!isChanged) {
          await refuseTaken(id, next)
          return false
        }
        await tellOldAddress(by, user, next)
        return get({ id })
      })
    },

    /** The second factors, disabled users' too. @throws {Refusal} 404 */
    async factorsOf(id: string): Promise<Factor[]> {
      await get({ id })
      return (await store.findFactors(id))?.factors ?? []
    },

    /**
     * Takes away all second factors of a user who has lost them, and ends all sessions: whoever knows the password signs
     * in, and adds others. Where there are none, nothing ends.
     *
     * @throws {Refusal} 404
     */
    async resetFactors(by: By, id: string): Promise<void> {
      await retryUntilApplied('The factors', async () => {
        await get({ id })
        const found = await store.findFactors(id)
        if (!found?.factors.length) {
          // A request before that had no answer may have done it.
          await revocations.pull()
          return true
        }
        const reset = { userId: id, expectedVersion: found.version, next: [] }
        return changes.make(by, 'factors.reset', { sub: id }, (store, end) => store.changeFactors(reset, end()))
      })
    },

    /**
     * Sets a password that the user has not chosen, and ends all sessions.
     *
     * @throws {Refusal} 404; 400 when it is not acceptable; 503 when hashing is overloaded
     */
    async setPassword(caller: Caller, id: string, password: string): Promise<void> {
      const { nameKey } = await get({ id })
      const normalized = password.normalize('NFC')
      await passwordPolicy.check(normalized, nameKey, '/password')
      const passwordHash = await hashing.hash(caller, normalized)
      const ending = { kinds: [...endingWithPassword], now: now() }
      await retryUntilApplied('The password', async () => {
        const { passwordHash: expectedHash } = await get({ id })
        return changes.make(caller, 'password.set', { sub: id }, (store, end) =>
          store.changePassword({ userId: id, expectedHash, passwordHash, ending }, end()),
        )
      })
    },
  }
}

const unknownUser = () => new Refusal('not_found', { detail: 'There is no such user' })

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('userAdmin', createUserAdmin(app))
  },
  { name: 'user-admin', dependencies: ['store', 'hashing', 'password-policy', 'changes', 'revocations', 'mail'] },
)
