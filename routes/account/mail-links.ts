import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Refusal } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import type { Presenting } from '../../plugins/mail/mail.ts'
import { MailAsked, Presented, Token } from '../../schemas/mails.ts'
import { Email, Password, strictObject, Username } from '../../schemas/parts.ts'
import { Done, problemResponses } from '../../schemas/responses.ts'

const eitherOr = (detail: string) => new Refusal('invalid_request', { detail })

function presentingOf({ token, id, code }: { token?: string; id?: string; code?: string }): Presenting {
  if (token !== undefined && id === undefined && code === undefined) return { token }
  if (token === undefined && id !== undefined && code !== undefined) return { id, code }
  throw eitherOr('Either token is needed, or id and code')
}

/** What is done by a link or a code of a mail, whoever brings it; and asking for the mail, where nobody is signed in. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { mail, emails, passwordReset } = app
  if (!mail.isOn) return
  acceptJson(app)

  app.post(
    '/email/verify',
    {
      schema: {
        operationId: 'verifyEmail',
        summary: 'Verify an address, by the link or the code of the mail to it',
        tags: ['accounts'],
        body: strictObject(Presented),
        response: { 204: Done, ...problemResponses(400, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      await emails.verify(request.caller, presentingOf(request.body))
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/email/undo',
    {
      schema: {
        operationId: 'undoEmail',
        summary: 'Bring an address back, by the mail that told it of a change; all sessions end',
        tags: ['accounts'],
        body: strictObject({ token: Token }),
        response: { 204: Done, ...problemResponses(400, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      await emails.undo(request.caller, request.body.token)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/password/forgot',
    {
      schema: {
        operationId: 'forgotPassword',
        summary: 'Ask for a mail by which a forgotten password is replaced',
        description:
          'It goes to a verified address only. The answer is the same, and takes as long, whether or not there is one.',
        tags: ['accounts'],
        body: strictObject({ email: Type.Optional(Email), username: Type.Optional(Username) }),
        response: { 202: MailAsked, ...problemResponses(400, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const { email, username } = request.body
      if ((email === undefined) === (username === undefined)) throw eitherOr('Either email or username is needed')
      const by = email !== undefined ? { email } : { username: username as string }
      return reply.code(202).send({ id: await passwordReset.ask(request.caller, by, localeOf(request)) })
    },
  )

  app.post(
    '/password/reset',
    {
      schema: {
        operationId: 'resetPassword',
        summary: 'Replace a forgotten password; all sessions end',
        description: 'By the link or the code of a mail. A password that is not acceptable uses neither up.',
        tags: ['accounts'],
        body: strictObject({ ...Presented, new_password: Password }),
        response: { 204: Done, ...problemResponses(400, 413, 415, 503) },
      },
    },
    async (request, reply) => {
      const { new_password: password, ...by } = request.body
      await passwordReset.reset(request.caller, presentingOf(by), password)
      return reply.code(204).send(null)
    },
  )
}

export default plugin
