import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { RecordTaking } from '../../domain/record.ts'
import type { Locale, User } from '../../domain/user.ts'
import { mapUsername } from '../../domain/usernames.ts'
import { invalidMember, Refusal, wrongPassword } from '../../errors.ts'
import { endingWithPassword } from '../mail/kinds.ts'
import { refuseUsername } from './user-edit.ts'

declare module 'fastify' {
  interface FastifyInstance {
    users: ReturnType<typeof createUsers>
  }
}

/** What an account is made of. */
interface NewUser {
  /** required; an invitation may say it */
  username?: string
  password: string
  roles?: string[]
  email?: string
  /** of an address that counts as verified, where nobody else has it when the account is made */
  emailKey?: string
  locale?: Locale
  /** is taken with it: one of all who present it has an account */
  invitation?: RecordTaking
}

/** What people do with their own accounts. */
function createUsers({
  store,
  hashing,
  passwordPolicy,
  signIn,
  userAdmin,
  mailLimits,
  changes,
  now,
}: Pick<
  FastifyInstance,
  'store' | 'hashing' | 'passwordPolicy' | 'signIn' | 'userAdmin' | 'mailLimits' | 'changes' | 'now'
>) {
  return {
    /**
     * Makes an account.
     *
     * @throws {Refusal} 400 for a name or password that is not acceptable, or an invitation that is gone; 409 for a name
     * that is taken; 429 with an address, when the network asks for too many mails; 503 when hashing is overloaded
     */
    async signUp(caller: Caller, { username, password, roles = [], invitation, ...of }: NewUser): Promise<User> {
      if (username === undefined) throw invalidMember('/username', 'is required')
      refuseUsername(username)
      const nameKey = mapUsername(username)
      const normalized = password.normalize('NFC')
      await passwordPolicy.check(normalized, nameKey, '/password')
      hashing.refuseIfFull(caller)
      // Before the hash, so that a taken name costs none; the store decides about those that come at once.
      if (await store.findUserByName(nameKey)) throw new Refusal('username_taken')
      if (of.email !== undefined && !invitation) await mailLimits.ofSource(caller)
      const passwordHash = await hashing.hash(caller, normalized)
      const id = randomUUID()
      const user: User = { id, username, nameKey, passwordHash, roles, createdAt: now(), generation: 0, ...of }
      const { emailKey, ...unverified } = user
      const told = omitUndefined({ sub: id, invitation: invitation?.id })
      for (const made of emailKey === undefined ? [unverified] : [user, unverified]) {
        if (await changes.make(caller, 'user.created', told, (store) => store.createUser(made, invitation))) return made
        if (await store.findUserByName(nameKey)) throw new Refusal('username_taken')
      }
      throw new Refusal(invitation ? 'invalid_code' : 'username_taken')
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
  {
    name: 'users',
    dependencies: ['store', 'hashing', 'password-policy', 'sign-in', 'user-admin', 'mail-limits', 'changes'],
  },
)
