import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { isEmail, mapEmail } from '../../domain/emails.ts'
import { networkText } from '../../domain/network.ts'
import type { Locale, User } from '../../domain/user.ts'
import { isUsername, mapUsername } from '../../domain/usernames.ts'
import { Refusal } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import { endingWithPassword } from '../mail/kinds.ts'
import { factsOf, type Presenting } from '../mail/mail.ts'
import { refuseEmail } from './user-edit.ts'

declare module 'fastify' {
  interface FastifyInstance {
    passwordReset: ReturnType<typeof createPasswordReset>
  }
}

/** Whose password was forgotten; `name` is either of the two. */
export type Forgetful = { email: string } | { username: string } | { name: string }

/**
 * Forgotten passwords. Whoever asks for somebody's mail learns nothing: for a name that nobody has, and for whoever
 * cannot get a mail, a record is made all the same, at the same cost.
 */
function createPasswordReset({
  store,
  mail,
  mailLimits,
  hashing,
  passwordPolicy,
  throttle,
  events,
  changes,
  now,
}: Pick<
  FastifyInstance,
  'store' | 'mail' | 'mailLimits' | 'hashing' | 'passwordPolicy' | 'throttle' | 'events' | 'changes' | 'now'
>) {
  const byEmail = async (email: string) => (isEmail(email) ? store.findUserByEmail(mapEmail(email)) : undefined)
  const byUsername = async (name: string) => (isUsername(name) ? store.findUserByName(mapUsername(name)) : undefined)

  async function find(by: Forgetful): Promise<User | undefined> {
    if ('email' in by) return byEmail(by.email)
    if ('username' in by) return byUsername(by.username)
    // Both are looked up, whatever the first gives, for the time to be the same.
    const [ofAddress, ofName] = await Promise.all([byEmail(by.name), byUsername(by.name)])
    return ofAddress ?? ofName
  }

  return {
    /**
     * Mails a link and a code by which a password is replaced, to the verified address of a user who may log in.
     *
     * @returns the id that goes with the code, always
     * @throws {Refusal} 400 for what is no address; 429 when the network asks too often
     */
    async ask(caller: Caller, by: Forgetful, locale: Locale): Promise<string> {
      if ('email' in by) refuseEmail(by.email)
      await mailLimits.ofSource(caller)
      const user = await find(by)
      const [[member, text] = ['', '']] = Object.entries(by)
      const asked = member === 'email' ? mapEmail(text) : `${member} ${mapUsername(text)}`
      const { email, emailKey } = user?.disabledAt === undefined ? { ...user } : {}
      const { id } = await mailLimits.within('reset', emailKey ?? asked, (isAllowed) => {
        const isMailed = isAllowed && user !== undefined && emailKey !== undefined && email !== undefined
        return mail.issue('reset', {
          // What is not mailed must not end what was.
          owner: isMailed ? user.id : mail.nobody(`reset ${asked}${isAllowed ? '' : ` unsent ${caller.requestId}`}`),
          ...{ source: networkText(caller.address), locale },
          ...(isMailed && { to: email }),
          about: factsOf(caller, user?.username ?? text, now()),
        })
      })
      const whose = user ? { sub: user.id } : { account: throttle.accountOf(mapUsername(text)) }
      events.emit(caller, 'password.forgotten', { ...whose, address: caller.address })
      return id
    },

    /**
     * Replaces a password by the link or the code of a mail; all sessions end. What else may be wrong is found first, so
     * that neither is lost by it.
     *
     * @throws {Refusal} 400 when the password is not acceptable, and `invalid_code`; 503 when hashing is overloaded
     */
    async reset(caller: Caller, by: Presenting, password: string): Promise<void> {
      const normalized = password.normalize('NFC')
      const check = (nameKey: string) => passwordPolicy.check(normalized, nameKey, '/new_password')
      // Not yet against the name: an id is given to anybody who asks, and would tell whose account it is for.
      await check('')
      // No hash for a link or id that we have not made: invented ones would keep others from signing in. A code is not
      // looked at before, for a guess is counted by that, and an id has six at most.
      if ('token' in by) await present(by)
      else if (!(await mail.mayGuess('reset', by.id))) throw new Refusal('invalid_code')
      const passwordHash = await hashing.hash(caller, normalized)
      const { owner: userId, to, taking } = await present(by)
      const ending = { kinds: [...endingWithPassword], now: now() }
      await retryUntilApplied('The password', async () => {
        const user = await store.findUser(userId)
        const isGood = user && user.disabledAt === undefined && user.emailKey === mapEmail(to)
        if (!isGood) throw new Refusal('invalid_code')
        await check(user.nameKey)
        const isReset = await changes.make(caller, 'password.reset', { sub: userId }, (store, end) =>
          store.changePassword({ userId, expectedHash: user.passwordHash, passwordHash, taking, ending }, end()),
        )
        // Another was first with it; or else with the hash, such as a login that makes it anew.
        if (!isReset && !(await store.findRecord(taking))) throw new Refusal('invalid_code')
        return isReset
      })
    },
  }

  async function present(by: Presenting) {
    const { to, ...link } = (await mail.present(['reset'], by)) ?? {}
    if (!('taking' in link) || to === undefined) throw new Refusal('invalid_code')
    return { ...link, to }
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('passwordReset', createPasswordReset(app))
  },
  {
    name: 'password-reset',
    dependencies: ['store', 'mail', 'mail-limits', 'hashing', 'password-policy', 'throttle', 'events', 'changes'],
  },
)
