import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { mapEmail } from '../../domain/emails.ts'
import { networkText } from '../../domain/network.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { Locale, User } from '../../domain/user.ts'
import { mapUsername } from '../../domain/usernames.ts'
import { invalidMember, Refusal } from '../../errors.ts'
import { refuseEmail, refuseUsername } from './user-edit.ts'

declare module 'fastify' {
  interface FastifyInstance {
    invitations: ReturnType<typeof createInvitations>
  }
}

/** Whom an invitation is for: it says what the account will have, and leaves open what it does not say. */
interface Invited {
  email?: string
  username?: string
  roles?: string[]
}

/** Of a secret that was made here. */
const recordId = /^[\w-]{43}$/

/** Invitations: a link by which one account may be made, also while signup is closed. */
function createInvitations({
  store,
  mail,
  mailLimits,
  users,
  events,
  now,
}: Pick<FastifyInstance, 'store' | 'mail' | 'mailLimits' | 'users' | 'events' | 'now'>) {
  /** Of those for an address there is one, and else of those for a name. */
  const ownerOf = ({ email, username }: Invited) =>
    email !== undefined
      ? mail.nobody(`invitation address ${mapEmail(email)}`)
      : username === undefined
        ? randomUUID()
        : mail.nobody(`invitation name ${mapUsername(username)}`)

  /** @throws {Refusal} 400 for a name or address that is none; 409 for one that is taken already */
  async function refuseImpossible({ email, username }: Invited): Promise<void> {
    if (username !== undefined) {
      refuseUsername(username)
      if (await store.findUserByName(mapUsername(username))) throw new Refusal('username_taken')
    }
    if (email !== undefined) {
      refuseEmail(email)
      if (await store.findUserByEmail(mapEmail(email))) throw new Refusal('email_taken')
    }
  }

  return {
    /**
     * Invites somebody. The link is mailed where there is an address and a transport, unless the address has had its
     * share of mails: then it is handed over, and the one that was mailed before stays good.
     *
     * @returns the secret, in a link and alone, and whether it is mailed
     * @throws {Refusal} 400 for a name or address that is none; 409 for one that is taken already
     */
    async invite(caller: Caller, { email, username, roles = [] }: Invited, locale: Locale) {
      await refuseImpossible(omitUndefined({ email, username }))
      const isToMail = mail.isOn && email !== undefined
      const isWithin = !isToMail || (await mailLimits.ofAddress('invitation', mapEmail(email)))
      const isMailed = isToMail && isWithin
      const { secret, ...issued } = await mail.issue('invitation', {
        owner: isWithin ? ownerOf(omitUndefined({ email, username })) : randomUUID(),
        source: networkText(caller.address),
        locale,
        ...(isMailed && { to: email }),
        about: omitUndefined({ email, username, roles: JSON.stringify(roles) }),
      })
      events.emit(caller, 'invitation.made', { invitation: issued.id, roles, mailed: isMailed })
      return { ...issued, token: secret, isMailed }
    },

    /** Ends an invitation that nobody has taken yet. @throws {Refusal} 404 */
    async withdraw(caller: Caller, id: string): Promise<void> {
      const withdrawn = recordId.test(id) && (await store.takeRecord({ kind: 'invitation', id, now: now() }))
      if (!withdrawn) throw new Refusal('not_found', { detail: 'There is no such invitation' })
      events.emit(caller, 'invitation.withdrawn', { invitation: id })
    },

    /**
     * Makes the account of an invitation, which is taken with it. What the invitation says stands: whoever asks for
     * something else is refused, and does not get an account of another name than they have typed. Its address counts as
     * verified, where nobody has it by then, and is the name where there is no other.
     *
     * @throws {Refusal} 400 for an invitation that is unknown, taken, withdrawn or expired, or for something else than
     * it says; what `users.signUp` refuses; none of it takes the invitation
     */
    async accept(
      caller: Caller,
      token: string,
      { username, password, locale }: { username?: string; password: string; locale?: Locale },
    ): Promise<User> {
      const invitation = await mail.present(['invitation'], { token })
      if (!invitation) throw new Refusal('invalid_code', { reason: 'there is no such invitation, or not any more' })
      const { email, username: invited, roles = '[]' } = invitation.about
      if (invited !== undefined && mapUsername(username ?? invited) !== mapUsername(invited))
        throw invalidMember('/username', 'is not the one of the invitation')
      return users.signUp(caller, {
        ...omitUndefined({ username: invited ?? username ?? email, email, emailKey: email && mapEmail(email), locale }),
        ...{ password, roles: JSON.parse(roles), invitation: invitation.taking },
      })
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('invitations', createInvitations(app))
  },
  { name: 'invitations', dependencies: ['store', 'mail', 'mail-limits', 'users', 'events'] },
)
