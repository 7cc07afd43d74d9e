import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Lru } from 'toad-cache'
import type { User } from '../../domain/user.ts'
import { isUsername, mapUsername, usernameRule } from '../../domain/usernames.ts'
import { Refusal } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    users: ReturnType<typeof createUsers>
  }
}

/** What people and services may see of a user. */
export type Profile = Pick<User, 'id' | 'username' | 'roles' | 'createdAt'>

/** What is younger is shown as it is; a change of roles shows with the first request after. */
const profileFreshMs = 5_000
/** What is older is waited for. */
const profileStaleMs = 60_000
const triesAtMost = 10

/**
 * Accounts: made, changed, removed.
 */
function createUsers({
  store,
  hashing,
  passwordPolicy,
  signIn,
  accessTokens,
  revocations,
  now,
  uptimeMs,
}: FastifyInstance) {
  const end = () => ({ now: now(), expiresAt: accessTokens.forgottenAt() })
  const profiles = new Lru<Profile & { readAtMs: number }>(10_000)

  async function readProfile(id: string): Promise<Profile | undefined> {
    const user = await store.findUser(id)
    if (!user || user.disabledAt !== undefined) {
      profiles.delete(id)
      return undefined
    }
    const { username, roles, createdAt } = user
    const profile = { id, username, roles, createdAt, readAtMs: uptimeMs() }
    profiles.set(id, profile)
    return profile
  }

  return {
    /**
     * Makes an account.
     *
     * @throws {Refusal} 400 for a name or password that is not acceptable, 409 for a name that is taken, 503 when hashing is overloaded
     */
    async signUp(request: FastifyRequest, username: string, password: string, roles: string[] = []): Promise<User> {
      const nameKey = mapUsername(username)
      if (!isUsername(username)) {
        const errors = [{ pointer: '/username', detail: usernameRule }]
        throw new Refusal('invalid_request', { detail: `The username ${usernameRule}`, errors })
      }
      const normalized = password.normalize('NFC')
      await passwordPolicy.check(normalized, nameKey, '/password')
      hashing.refuseIfFull(request.caller)
      // Before the hash, so that a taken name costs none; the store decides about those that come at once.
      if (await store.findUserByName(nameKey)) throw new Refusal('username_taken')
      const user: User = {
        id: randomUUID(),
        username,
        nameKey,
        passwordHash: await hashing.hash(request.caller, normalized),
        roles,
        createdAt: now(),
        generation: 0,
      }
      if (!(await store.createUser(user))) throw new Refusal('username_taken')
      request.log.info({ event: 'user.created', sub: user.id }, 'an account was made')
      return user
    },

    /**
     * What may be shown of the user of an access token that has been verified.
     *
     * From memory, and read again behind the answer, so that a store that stalls delays nobody; a user who is gone or
     * disabled is refused by the revocation already. Only what was not asked for in a while is waited for.
     *
     * @returns undefined when the user is gone or disabled
     */
    async profile(id: string): Promise<Profile | undefined> {
      const known = profiles.get(id)
      if (!known) return readProfile(id)
      const ageMs = uptimeMs() - known.readAtMs
      if (ageMs < profileFreshMs) return known
      const reading = readProfile(id).catch(() => known)
      if (ageMs >= profileStaleMs) return reading
      known.readAtMs = uptimeMs()
      return known
    },

    /** The whole user of an access token that has been verified, as it is in the store now. @returns undefined when gone or disabled */
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
      request: FastifyRequest,
      user: User,
      change: { current: string; next: string; keepSessionId?: string },
    ): Promise<void> {
      const next = change.next.normalize('NFC')
      await passwordPolicy.check(next, user.nameKey, '/new_password')
      if (!(await signIn.confirmPassword(request.caller, user, change.current)))
        throw wrongPassword('/current_password')
      const isChanged = await store.changePassword({
        userId: user.id,
        expectedHash: user.passwordHash,
        passwordHash: await hashing.hash(request.caller, next),
        ...(change.keepSessionId !== undefined && { keepSessionId: change.keepSessionId }),
        now: now(),
        expiresAt: accessTokens.forgottenAt(),
      })
      if (!isChanged) throw wrongPassword('/current_password')
      await revocations.pull()
      request.log.info({ event: 'password.changed', sub: user.id }, 'a password was changed')
    },

    /** Removes the account, its sessions and its access tokens. @throws {Refusal} 403 when the password is wrong */
    async remove(request: FastifyRequest, user: User, password: string): Promise<void> {
      if (!(await signIn.confirmPassword(request.caller, user, password))) throw wrongPassword('/password')
      await this.delete(request, user.id)
    },

    // What administrators do. Each of these takes effect at once, everywhere: see `revocations`.

    /** Users in the order of their names, disabled ones too. */
    list: (page: { after?: string; limit: number }) => store.listUsers(page),

    /** The user of a name, as people type it, or of an id; disabled ones too. @throws {Refusal} 404 */
    async get(by: { username: string } | { id: string }): Promise<User> {
      const user =
        'id' in by
          ? await store.findUser(by.id)
          : isUsername(by.username) && (await store.findUserByName(mapUsername(by.username)))
      if (!user) throw unknownUser()
      return user
    },

    /** Removes the account, its sessions and its access tokens. @throws {Refusal} 404 */
    async delete(request: FastifyRequest, id: string): Promise<void> {
      if (!(await store.deleteUser(id, end()))) throw unknownUser()
      profiles.delete(id)
      await revocations.pull()
      request.log.info({ event: 'user.deleted', sub: id }, 'an account was deleted')
    },

    /** Ends the sessions and access tokens of a user, who cannot log in until enabled again. @throws {Refusal} 404 */
    async disable(request: FastifyRequest, id: string): Promise<void> {
      if (!(await store.disableUser(id, end()))) throw unknownUser()
      profiles.delete(id)
      await revocations.pull()
      request.log.info({ event: 'user.disabled', sub: id }, 'an account was disabled')
    },

    /** Lets a disabled user log in again; what was ended stays so. @throws {Refusal} 404 */
    async enable(request: FastifyRequest, id: string): Promise<void> {
      if (!(await store.enableUser(id))) throw unknownUser()
      profiles.delete(id)
      request.log.info({ event: 'user.enabled', sub: id }, 'an account was enabled')
    },

    /**
     * Sets the roles. One that is added shows in the next access token; when one is taken away, the sessions and access tokens
     * of the user end, so that it cannot be used any more.
     *
     * @throws {Refusal} 404
     */
    async setRoles(request: FastifyRequest, id: string, roles: string[]): Promise<void> {
      for (let tries = 1; tries <= triesAtMost; tries++) {
        const user = await this.get({ id })
        const isTakingAway = user.roles.some((role) => !roles.includes(role))
        const change = { userId: id, expectedRoles: user.roles, roles, ...(isTakingAway && { end: end() }) }
        if (!(await store.setRoles(change))) continue
        profiles.delete(id)
        if (isTakingAway) await revocations.pull()
        request.log.info({ event: 'user.roles_set', sub: id, roles }, 'the roles of a user were set')
        return
      }
      throw new Error('The roles were changed by others all the time')
    },

    /**
     * Sets a password that the user has not chosen, and ends all sessions.
     *
     * @throws {Refusal} 404; 400 when it is not acceptable; 503 when hashing is overloaded
     */
    async setPassword(request: FastifyRequest, id: string, password: string): Promise<void> {
      const { nameKey } = await this.get({ id })
      const normalized = password.normalize('NFC')
      await passwordPolicy.check(normalized, nameKey, '/password')
      const passwordHash = await hashing.hash(request.caller, normalized)
      for (let tries = 1; tries <= triesAtMost; tries++) {
        const { passwordHash: expectedHash } = await this.get({ id })
        if (!(await store.changePassword({ userId: id, expectedHash, passwordHash, ...end() }))) continue
        await revocations.pull()
        request.log.info({ event: 'password.set', sub: id }, 'a password was set by an administrator')
        return
      }
      throw new Error('The password was changed by others all the time')
    },
  }
}

const unknownUser = () => new Refusal('not_found', { detail: 'There is no such user' })

const wrongPassword = (pointer: string) =>
  new Refusal('wrong_password', { reason: 'wrong password', errors: [{ pointer, detail: 'is wrong' }] })

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('users', createUsers(app))
  },
  { name: 'users', dependencies: ['store', 'hashing', 'password-policy', 'sign-in', 'access-tokens', 'revocations'] },
)
