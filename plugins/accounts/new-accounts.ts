import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { Locale, User } from '../../domain/user.ts'
import { invalidMember, Refusal } from '../../errors.ts'
import { refuseEmail } from './user-edit.ts'

declare module 'fastify' {
  interface FastifyInstance {
    newAccounts: ReturnType<typeof createNewAccounts>
  }
}

/** What somebody gives who makes an account; what an invitation says, they need not. */
interface NewAccount {
  username?: string
  password: string
  email?: string
  invitation?: string
  locale: Locale
}

/** Makes accounts for whoever comes, by the API and by the page: what is closed for one is closed for the other. */
function createNewAccounts({
  config,
  mail,
  users,
  emails,
  invitations,
}: Pick<FastifyInstance, 'config' | 'mail' | 'users' | 'emails' | 'invitations'>) {
  /** @throws {Refusal} 400 for an address that is none, or is not taken, or is missing */
  function refuseUnwanted(email: string | undefined, isInvited: boolean): void {
    if (email === undefined) {
      if (config.AUTH_EMAIL === 'required' && !isInvited) throw invalidMember('/email', 'is required')
    } else if (!mail.isOn) throw invalidMember('/email', 'is not taken, for no mail is sent here')
    else if (isInvited) throw invalidMember('/email', 'is not taken with an invitation, which may say it')
    else refuseEmail(email)
  }

  return {
    /** whether anybody may come without an invitation */
    isOpen: config.AUTH_SIGNUP === 'open',

    /**
     * Makes an account; an address gets a mail to verify it.
     *
     * @returns the account, and with an address the id that goes with the code of that mail, also where the address is
     *   somebody else's, who is told
     * @throws {Refusal} 403 while signup is closed and there is no invitation; else as `users.signUp`
     */
    async make(caller: Caller, { invitation, ...account }: NewAccount): Promise<{ user: User; verification?: string }> {
      if (invitation === undefined && config.AUTH_SIGNUP === 'closed') throw new Refusal('signup_closed')
      const { email, locale } = account
      refuseUnwanted(email, invitation !== undefined)
      const user =
        invitation === undefined
          ? await users.signUp(caller, account)
          : await invitations.accept(caller, invitation, account)
      return omitUndefined({
        user,
        verification: email === undefined ? undefined : await emails.confirm(caller, user, { email, locale }),
      })
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('newAccounts', createNewAccounts(app))
  },
  { name: 'new-accounts', dependencies: ['mail', 'users', 'emails', 'invitations'] },
)
