import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { Refusal } from '../../errors.ts'
import { type Field, renderForm } from '../../pages/form.ts'
import { linkButton, named, paragraph } from '../../pages/page.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import {
  fieldsOf,
  frameFor,
  missingFields,
  passwordField,
  type Returned,
  returnedFor,
  sendDeadLink,
  sendPage,
} from './answers.ts'

/** Making the account that somebody is invited to. */
export function createInvitationPage({
  config,
  mail,
  newAccounts,
}: Pick<FastifyInstance, 'config' | 'mail' | 'newAccounts'>) {
  async function sendForm(
    reply: FastifyReply,
    invitation: string,
    sent?: { username: string | undefined; returned: Returned },
  ): Promise<FastifyReply> {
    const link = await mail.present(['invitation'], { token: invitation })
    if (!link) return sendDeadLink(reply, 'invitation')
    const frame = frameFor(reply.request)
    const { username: label, signUp } = frame.texts
    const { email, username: account } = link.about
    const name: Field = { name: 'username', label, autocomplete: 'username', value: sent ? sent.username : email }
    const password = passwordField(frame, config.AUTH_PASSWORD_MIN, 'password')
    const fields = account === undefined ? [name, password] : [password]
    const form = { action: frame.linkTo('/sign-up'), hidden: { invitation }, account, fields, button: signUp.button }
    const body = [
      email !== undefined && [paragraph(signUp.invited), named(email)],
      account !== undefined && [paragraph(signUp.name), named(account)],
      renderForm(frame, form, sent?.returned.errors),
    ]
    return sendPage(reply, { title: signUp.title, hasErrors: !!sent, body }, sent?.returned.status)
  }

  return {
    sendForm,

    async accept(request: FastifyRequest, reply: FastifyReply, invitation: string): Promise<FastifyReply> {
      const fields = fieldsOf(request)
      const { username, password = '' } = fields
      const frame = frameFor(request)
      // An invitation may say the name: then the form has no field for it.
      const missing = missingFields(frame, fields, username === undefined ? ['password'] : ['username', 'password'])
      if (missing) return sendForm(reply, invitation, { username, returned: missing })
      try {
        const account = { ...omitUndefined({ username }), password, locale: localeOf(request) }
        const { user } = await newAccounts.make(request.caller, { invitation, ...account })
        const { signUp: texts, signIn } = frame.texts
        const body = [paragraph(texts.done), named(user.username), linkButton(frame.linkTo('/sign-in'), signIn.title)]
        return sendPage(reply, { title: texts.doneTitle, body })
      } catch (error) {
        if (!(error instanceof Refusal && error.code === 'invalid_code'))
          return sendForm(reply, invitation, { username, returned: returnedFor(reply, error) })
        noteRefusal(reply, error)
        return sendDeadLink(reply, 'invitation')
      }
    },
  }
}
