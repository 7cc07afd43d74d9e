import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { invalidMember, Refusal } from '../../errors.ts'
import { refuseEmail } from '../../plugins/accounts/user-edit.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import { Email, Password, strictObject, Username } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { NewUser, toUser } from '../../schemas/users.ts'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, mail, users, emails, invitations } = app
  acceptJson(app)

  /** @throws {Refusal} 400 for an address that is none, or is not taken, or is missing */
  function refuseUnwanted(email: string | undefined, isInvited: boolean): void {
    if (email === undefined) {
      if (config.AUTH_EMAIL === 'required' && !isInvited) throw invalidMember('/email', 'is required')
    } else if (!mail.isOn) throw invalidMember('/email', 'is not taken, for no mail is sent here')
    else if (isInvited) throw invalidMember('/email', 'is not taken with an invitation, which may say it')
    else refuseEmail(email)
  }

  app.post(
    '/signup',
    {
      schema: {
        operationId: 'signUp',
        summary: 'Sign up: create an account',
        tags: ['accounts'],
        description:
          'By an invitation also while signup is closed. The `username` is required where none says it. An address gets a ' +
          'mail to verify it; the answer is the same where somebody else has it, who is told.',
        body: strictObject({
          username: Type.Optional(Username),
          password: Password,
          email: Type.Optional(Email),
          invitation: Type.Optional(Type.String({ description: 'The token of an invitation', examples: ['lki_…'] })),
        }),
        response: { 201: NewUser, ...problemResponses(400, 403, 409, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { invitation, ...given } = request.body
      if (invitation === undefined && config.AUTH_SIGNUP === 'closed') throw new Refusal('signup_closed')
      refuseUnwanted(given.email, invitation !== undefined)
      const locale = localeOf(request)
      const account = { ...given, locale }
      const user =
        invitation === undefined
          ? await users.signUp(request.caller, account)
          : await invitations.accept(request.caller, invitation, account)
      const { email } = given
      const verification = email !== undefined && {
        email_verification_id: await emails.confirm(request.caller, user, { email, locale }),
      }
      reply.code(201).header('location', `${app.publicPath}/users/me`)
      return { ...toUser(user), ...verification }
    },
  )
}

export default plugin
