import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import type { User } from '../../domain/user.ts'
import { isUsername, mapUsername, usernameRule } from '../../domain/usernames.ts'
import { Refusal, wrongPassword } from '../../errors.ts'
import { endingWithPassword } from '../mail/kinds.ts'

declare module 'fastify' {
  interface FastifyInstance {
    users: ReturnType<typeof createUsers>
  }
}

/** What people do with their own accounts. */
function createUsers({
  store,
  hashing,
  passwordPolicy,
  signIn,
  userAdmin,
  changes,
  now,
}: Pick<FastifyInstance, 'store' | 'hashing' | 'passwordPolicy' | 'signIn' | 'userAdmin' | 'changes' | 'now'>) {
  return {
    /**
     * Makes an account.
     *
     * @throws {Refusal} 400 for a name or password that is not acceptable, 409 for a name that is taken, 503 when
     * hashing is overloaded
     */
    async signUp(caller: Caller, username: string, password: string, roles: string[] = []): Promise<User> {
      const nameKey = mapUsername(username)
      if (!isUsername(username)) {
        const errors = [{ pointer: '/username', detail: usernameRule }]
        throw new Refusal('invalid_request', { detail: `The username ${usernameRule}`, errors })
      }
      const normalized = password.normalize('NFC')
      await passwordPolicy.check(normalized, nameKey, '/password')
      hashing.refuseIfFull(caller)
      // Before the hash, so that a taken name costs none; the store decides about those that come at once.
      if (await store.findUserByName(nameKey)) throw new Refusal('username_taken')
      const user: User = {
        id: randomUUID(),
        username,
        nameKey,
        passwordHash: await hashing.hash(caller, normalized),
        roles,
        createdAt: now(),
        generation: 0,
      }
      const isMade = await changes.make(caller, 'user.created', { sub: user.id }, (store) => store.createUser(user))
      if (!isMade) throw new Refusal('username_taken')
      return user
    },

    /**
     * The whole user of an access token that has been verified, as it is in the store now. @returns undefined when gone
     * or disabled
     */
    async find(id: string): Promise<User | undefined> {
      const user = await store.findUser(id)
      return user?.disabledAt === undefined ? user : undefined
    },

    /**
     * Sets a new password; every session but one ends.
     *
     * @throws {Refusal} 403 when the current password is wrong, 400 when the new one is not acceptable
     */
    async changePassword(
      caller: Caller,
      user: User,
      change: { current: string; next: string; keepSessionId?: string },
    ): Promise<void> {
      const next = change.next.normalize('NFC')
      await passwordPolicy.check(next, user.nameKey, '/new_password')
      if (!(await signIn.confirmPassword(caller, user, change.current))) throw wrongPassword('/current_password')
      const passwordHash = await hashing.hash(caller, next)
      const { id: userId, passwordHash: expectedHash } = user
      const { keepSessionId } = change
      const ending = { kinds: [...endingWithPassword], now: now() }
      const isChanged = await changes.make(caller, 'password.changed', { sub: userId }, (store, end) =>
        store.changePassword(
          { userId, expectedHash, passwordHash, ending, ...(keepSessionId && { keepSessionId }) },
          end(),
        ),
      )
      if (!isChanged) throw wrongPassword('/current_password')
    },

    /** Removes the account, its sessions and its access tokens. @throws {Refusal} 403 when the password is wrong */
    async remove(caller: Caller, user: User, password: string): Promise<void> {
      if (!(await signIn.confirmPassword(caller, user, password))) throw wrongPassword('/password')
      await userAdmin.delete(caller, user.id)
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('users', createUsers(app))
  },
  { name: 'users', dependencies: ['store', 'hashing', 'password-policy', 'sign-in', 'user-admin', 'changes'] },
)
