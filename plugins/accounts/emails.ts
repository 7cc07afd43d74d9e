import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { mapEmail } from '../../domain/emails.ts'
import { networkText } from '../../domain/network.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { type Locale, profileOf, type User } from '../../domain/user.ts'
import { Refusal, wrongPassword } from '../../errors.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'
import { endingWithPassword } from '../mail/kinds.ts'
import { factsOf, type Presenting } from '../mail/mail.ts'
import { refuseEmail } from './user-edit.ts'

declare module 'fastify' {
  interface FastifyInstance {
    emails: ReturnType<typeof createEmails>
  }
}

/**
 * The addresses of users: each is verified by a mail to it, and is good for nothing before.
 *
 * Whoever names the address of another user is told nothing, by what is answered, by the time that takes, or by what
 * can be done later: a record is made as for any address, and the owner is told.
 */
function createEmails({
  store,
  mail,
  mailLimits,
  signIn,
  changes,
  now,
}: Pick<FastifyInstance, 'store' | 'mail' | 'mailLimits' | 'signIn' | 'changes' | 'now'>) {
  /**
   * Mails a link and a code to an address, which make it that of the user.
   *
   * @param kind `change` where it is to take the place of one that is verified
   * @returns the id that goes with the code
   */
  async function confirm(
    caller: Caller,
    user: Pick<User, 'id'>,
    { email, locale, kind = 'verify' }: { email: string; locale: Locale; kind?: 'verify' | 'change' },
  ): Promise<string> {
    const key = mapEmail(email)
    const holder = await store.findUserByEmail(key)
    const isTaken = holder !== undefined && holder.id !== user.id
    // What the owner is told is counted by itself: a mail that she has asked for must not be why she hears nothing.
    const { id } = await mailLimits.within(isTaken ? 'address_taken' : 'verify', key, (isAllowed) =>
      mail.issue(kind, {
        // What is not mailed must not end what was.
        owner: isAllowed ? user.id : mail.nobody(`unsent ${user.id} ${caller.requestId}`),
        source: networkText(caller.address),
        locale: isTaken ? (holder.locale ?? 'en') : locale,
        ...(isAllowed && { to: isTaken ? (holder.email ?? email) : email }),
        ...(isTaken && { says: 'address_taken', about: factsOf(caller, holder.username, now()) }),
      }),
    )
    return id
  }

  /** A change has been made, and stands whether or not its notice can be written. */
  async function tellOld(caller: Caller, { id: owner, username, email: to, emailKey, locale = 'en' }: User) {
    if (emailKey === undefined || to === undefined) return
    await mail
      .tell('email_changed', { owner, to, locale, about: factsOf(caller, username, now()) })
      .catch((err) => caller.log.warn({ err }, 'an address was changed, and the old one could not be told'))
  }

  /**
   * Repeats a read with its change until no other comes in between.
   *
   * @returns the user as they were
   * @throws {Refusal} 400 `invalid_code` where the record that is taken is gone; or where the user has stayed as they
   * were, for then another has the address
   */
  async function untilApplied(
    taking: RecordTaking,
    attempt: () => Promise<{ isChanged: boolean; expected: User }>,
  ): Promise<User> {
    let seen: string | undefined
    return retryUntilApplied('The user', async () => {
      const { isChanged, expected } = await attempt()
      if (isChanged) return expected
      const profile = JSON.stringify(profileOf(expected))
      if (profile === seen || !(await store.findRecord(taking))) throw new Refusal('invalid_code')
      seen = profile
      return undefined
    })
  }

  return {
    confirm,

    /**
     * Has another address verified. One that is verified stays good until then, and is told, with a way back; one that is
     * not is replaced at once.
     *
     * @returns the id that goes with the code of the mail
     * @throws {Refusal} 400 for what is no address; 429 when the network asks too often; 403 for a wrong password
     */
    async ask(
      caller: Caller,
      user: User,
      { email, password, locale }: { email: string; password: string; locale: Locale },
    ): Promise<string> {
      refuseEmail(email)
      await mailLimits.ofSource(caller)
      if (!(await signIn.confirmPassword(caller, user, password))) throw wrongPassword('/password')
      const asking = await retryUntilApplied('The address', async () => {
        const expected = await store.findUser(user.id)
        if (!expected) throw new Refusal('not_found', { detail: 'There is no such user' })
        const next = { ...profileOf(expected), locale, ...(expected.emailKey === undefined && { email }) }
        const isChanged = await changes.make(caller, 'email.asked', { sub: user.id }, (store) =>
          store.changeUser({ userId: user.id, expected, next }),
        )
        return isChanged && expected
      })
      const { email: before, emailKey } = asking
      if (before === undefined || emailKey === undefined || emailKey === mapEmail(email))
        return confirm(caller, user, { email, locale })
      // Before the mail that changes it: without a way back nothing is changed.
      await mail.issue('undo', {
        ...{ owner: user.id, source: networkText(caller.address), to: before },
        // Whoever asks need not be whom this is to warn.
        locale: asking.locale ?? locale,
        about: factsOf(caller, user.username, now()),
      })
      return confirm(caller, user, { email, locale, kind: 'change' })
    },

    /**
     * Makes an address that of the user, by the link or the code of the mail to it.
     *
     * @throws {Refusal} 400 `invalid_code`, also where another user has it by now
     */
    async verify(caller: Caller, by: Presenting): Promise<void> {
      const link = await mail.present(['verify', 'change'], by)
      if (link?.to === undefined) throw new Refusal('invalid_code')
      const { owner: userId, to: email, taking } = link
      const emailKey = mapEmail(email)
      const ending = { kinds: [...endingWithPassword], now: now() }
      const before = await untilApplied(taking, async () => {
        const expected = await store.findUser(userId)
        const isAsked = link.kind === 'change' || mapEmail(expected?.email ?? '') === emailKey
        if (!expected || expected.disabledAt !== undefined || !isAsked) throw new Refusal('invalid_code')
        const event = link.kind === 'change' ? 'email.changed' : 'email.verified'
        const next = { ...profileOf(expected), email, emailKey }
        const isChanged = await changes.make(caller, event, { sub: userId }, (store) =>
          store.changeUser({ userId, expected, next, taking, ending }),
        )
        return { isChanged, expected }
      })
      if (link.kind === 'change') await tellOld(caller, before)
    },

    /**
     * Brings an address back, by the mail that told it of a change: it is verified again, the other one goes, and all
     * sessions end. Where another user has verified it by now, it is not that user's loss: it is kept, and is not
     * verified.
     *
     * @throws {Refusal} 400 `invalid_code`
     */
    async undo(caller: Caller, token: string): Promise<void> {
      const link = await mail.present(['undo'], { token })
      if (link?.to === undefined) throw new Refusal('invalid_code')
      const { owner: userId, to: email, taking, createdAt: since } = link
      const emailKey = mapEmail(email)
      // Of the ways back only the later ones: an earlier one leads to an address that was the user's for longer.
      const ending = { kinds: [...endingWithPassword, 'undo'], since, now: now() }
      // Those that a replica made whose clock is behind would not end with it.
      await mail.end(userId, [...endingWithPassword])
      await untilApplied(taking, async () => {
        const expected = await store.findUser(userId)
        if (!expected) throw new Refusal('invalid_code')
        const holder = await store.findUserByEmail(emailKey)
        const isFree = holder === undefined || holder.id === userId
        const { emailKey: _, ...kept } = profileOf(expected)
        const next = { ...kept, email, ...(isFree && { emailKey }) }
        const isChanged = await changes.make(caller, 'email.restored', { sub: userId }, (store, end) =>
          store.changeUser({ userId, expected, next, taking, ending }, end()),
        )
        return { isChanged, expected }
      })
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('emails', createEmails(app))
  },
  { name: 'emails', dependencies: ['store', 'mail', 'mail-limits', 'sign-in', 'changes'] },
)
