import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { tokenRefused } from '../../errors.ts'
import { acceptJson } from '../../plugins/http/json.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import { MailAsked } from '../../schemas/mails.ts'
import { Email, PresentedPassword, strictObject } from '../../schemas/parts.ts'
import { problemResponses } from '../../schemas/responses.ts'
import { withToken } from '../../schemas/security.ts'

/** The address of a user. */
const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { mail, users, emails } = app
  if (!mail.isOn) return
  acceptJson(app)

  app.post(
    '/users/me/email',
    {
      schema: {
        operationId: 'askForEmail',
        summary: 'Have another address verified',
        description:
          'A mail goes to it, with a link and a code for `POST /email/verify`. An address that is verified stays until ' +
          'then, and is told, with a way back; one that is not is replaced at once. The answer is the same whether or ' +
          'not somebody else has the address.',
        tags: ['accounts'],
        security: withToken,
        body: strictObject({ email: Email, password: PresentedPassword }),
        response: { 202: MailAsked, ...problemResponses(400, 401, 403, 413, 415, 429, 503) },
      },
    },
    async (request, reply) => {
      const user = await users.find(request.token.sub)
      if (!user) throw tokenRefused('invalid', 'the user of the token is gone')
      const id = await emails.ask(request.caller, user, { ...request.body, locale: localeOf(request) })
      return reply.code(202).send({ id })
    },
  )
}

export default plugin
