import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Authentication } from '../../domain/authentication.ts'
import type { Caller } from '../../domain/caller.ts'
import { type Check, checked } from '../../domain/checks.ts'
import { isEmail, mapEmail } from '../../domain/emails.ts'
import { mayHaveTokens, noPassword, type User, whyNoTokens } from '../../domain/user.ts'
import { isUsername, mapUsername } from '../../domain/usernames.ts'
import { Refusal } from '../../errors.ts'
import type { LoginFailure } from '../../events.ts'

declare module 'fastify' {
  interface FastifyInstance {
    signIn: ReturnType<typeof createSignIn>
  }
}

/** A user who has signed in. */
export interface SignedIn {
  user: User
  /** when, and by which methods; left out for a mere password, a moment ago */
  authentication?: Authentication
}

/**
 * The result of one step of a sign-in. Callers handle every member, with `step satisfies never` behind the last one: a
 * new member does not compile until each of them handles it.
 *
 * @property needs the user has a second factor and has to show it, or has none, and AUTH_MFA demands one
 */
export type SignInStep = { done: SignedIn } | { needs: User }

/** Signs users in, by any method. Sessions and tokens are left to the grants. */
function createSignIn({
  config,
  store,
  hashing,
  throttle,
  events,
}: Pick<FastifyInstance, 'config' | 'store' | 'hashing' | 'throttle' | 'events'>) {
  /**
   * Costs the same whether the user exists and has a password or not. For a user who may not have tokens no password is
   * right.
   */
  const guessPassword = (
    caller: Caller,
    nameKey: string,
    find: () => Promise<User | undefined> | User | undefined,
    password: string,
  ) =>
    throttle.guard(
      caller,
      'user',
      nameKey,
      find,
      (user, judge) =>
        hashing.verify(caller, user?.passwordHash, password, (compare) =>
          judge(async () => (await compare()) && mayHaveTokens(user)),
        ),
      ({ hasFactors }) => !hasFactors,
    )

  function wrongCredentials(caller: Caller, nameKey: string, user: User | undefined, counted: Check[]): Refusal {
    const reason: LoginFailure = !user
      ? 'unknown user'
      : user.disabledAt !== undefined
        ? 'disabled user'
        : 'wrong password'
    const { address } = caller
    const whose = user ? { sub: user.id } : { account: throttle.accountOf(nameKey) }
    events.emit(caller, 'login.failed', { reason, ...whose, address })
    const account = checked(
      'account',
      user ? `${user.disabledAt === undefined ? '' : 'disabled '}user ${user.id}` : reason,
    )
    const isKnown = reason === 'wrong password'
    const checks = [
      ...(isKnown ? [checked('password', user?.passwordHash === noPassword ? 'none is set' : reason)] : []),
      account,
      ...counted,
    ]
    return new Refusal('invalid_grant', { detail: 'The username or password is wrong', reason, checks })
  }

  /**
   * Judges a password for a text that is an address: that of the user who has verified it, or else the name of one.
   * Failures are counted for the account, under its name, whichever was typed. Both are looked up, so that an address
   * that somebody has costs what one that nobody has does.
   */
  async function guessByAddress(caller: Caller, address: string, password: string) {
    const nameKey = mapUsername(address)
    const [named, owner] = await Promise.all([
      isUsername(address) ? store.findUserByName(nameKey) : undefined,
      store.findUserByEmail(mapEmail(address)),
    ])
    const user = owner ?? named
    const guess = await guessPassword(caller, user?.nameKey ?? nameKey, () => user, password)
    if (guess.isRight || !owner || !named || owner.id === named.id) return guess
    // Somebody's name may be the address of another: each signs in by their own password, and keeps the other not out.
    const byName = await guessPassword(caller, nameKey, () => named, password)
    return byName.isRight ? byName : guess
  }

  return {
    /**
     * Signs in by username, or verified address, and password. A hash below the current settings is replaced.
     *
     * @throws {Refusal} 400 `invalid_grant`, the same for a wrong password and for a user who is unknown, disabled or
     * gone; 429 while a wait is on; 503 when hashing is overloaded
     */
    async withPassword(caller: Caller, username: string, password: string): Promise<SignInStep> {
      // Before the store is asked, so that in a flood a refused login costs no look-up.
      hashing.refuseIfFull(caller)
      const nameKey = mapUsername(username)
      const find = () => (isUsername(username) ? store.findUserByName(nameKey) : undefined)
      const guess = isEmail(username)
        ? await guessByAddress(caller, username, password)
        : await guessPassword(caller, nameKey, find, password)
      if (!guess.isRight) throw wrongCredentials(caller, nameKey, guess.found, guess.checks)
      const { found: user } = guess
      if (hashing.isOutdated(user.passwordHash)) {
        const passwordHash = await hashing.hash(caller, password.normalize('NFC'))
        await store.replacePasswordHash(user.id, user.passwordHash, passwordHash)
      }
      return whyNoTokens(user, { mfa: config.AUTH_MFA }) === undefined ? { done: { user } } : { needs: user }
    },

    /**
     * Whether a password is that of a user who is signed in already, asked for before a change. Wrong ones count as
     * failed logins.
     *
     * @throws {Refusal} 429 while a wait is on; 503 when hashing is overloaded
     */
    confirmPassword: async (caller: Caller, user: User, password: string): Promise<boolean> =>
      (await guessPassword(caller, user.nameKey, () => user, password)).isRight,
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('signIn', createSignIn(app))
  },
  { name: 'sign-in', dependencies: ['store', 'hashing', 'throttle', 'events'] },
)
