import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import type { User } from '../../domain/user.ts'
import { isUsername, mapUsername } from '../../domain/usernames.ts'
import { Refusal } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import type { UserPage } from '../../stores/tables/users.ts'
import { endingWithPassword, linkKinds } from '../mail/kinds.ts'

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
  mail,
  now,
}: Pick<FastifyInstance, 'store' | 'hashing' | 'passwordPolicy' | 'changes' | 'mail' | 'now'>) {
  /** The user of a name, as people type it, or of an id; disabled ones too. @throws {Refusal} 404 */
  async function get(by: { username: string } | { id: string }): Promise<User> {
    const user =
      'id' in by
        ? await store.findUser(by.id)
        : isUsername(by.username) && (await store.findUserByName(mapUsername(by.username)))
    if (!user) throw unknownUser()
    return user
  }

  return {
    get,

    /** Users page by page, disabled ones too. @param page `prefix` as people type it */
    async list({ prefix, ...page }: UserPage): Promise<{ users: User[]; next?: string }> {
      if (prefix === undefined) return store.listUsers(page)
      // What no name could begin with is nothing to ask a store for.
      return isUsername(prefix) ? store.listUsers({ ...page, prefix: mapUsername(prefix) }) : { users: [] }
    },

    /** Removes the account, its sessions and its access tokens. @throws {Refusal} 404 */
    async delete(by: By, id: string): Promise<void> {
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
     * Sets the roles. One that is added shows in the next access token; when one is taken away, the sessions and access
     * tokens of the user end, so that it cannot be used any more.
     *
     * @throws {Refusal} 404
     */
    async setRoles(by: By, id: string, roles: string[]): Promise<void> {
      await retryUntilApplied('The roles', async () => {
        const expected = await get({ id })
        const isTakingAway = expected.roles.some((role) => !roles.includes(role))
        const change = { userId: id, expected, next: { ...expected, roles } }
        return changes.make(by, 'user.roles_set', { sub: id, roles }, (store, end) => {
          // Made in any case: a request before that had no answer may have taken away what this one is asked to.
          const ending = end()
          return store.changeUser(change, isTakingAway ? ending : undefined)
        })
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
  { name: 'user-admin', dependencies: ['store', 'hashing', 'password-policy', 'changes', 'mail'] },
)
