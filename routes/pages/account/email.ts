import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { noPassword } from '../../../domain/user.ts'
import { type Field, renderForm } from '../../../pages/form.ts'
import { named, paragraph, quiet } from '../../../pages/page.ts'
import { localeOf } from '../../../plugins/http/locale.ts'
import { fieldsOf, frameFor, missingFields, type Returned, sendPage } from '../answers.ts'
import { back, currentPassword, formTo, hidden, returned, withoutPassword } from './form.ts'

const path = '/account/email'

/** Having another address confirmed. */
const plugin: FastifyPluginAsync = async (app) => {
  const { emails } = app

  function sendForm(reply: FastifyReply, typed?: string, wrong?: Returned): FastifyReply {
    const { user } = reply.request.browser
    const frame = frameFor(reply.request)
    const { account } = frame.texts
    const { title, none, field, note, firstNote, button } = account.email
    const address: Field = { name: 'email', type: 'email', label: field, autocomplete: 'email', value: typed }
    const form = formTo(reply, path, { fields: [address, currentPassword(frame, 'password')], button })
    const body = [
      named(user.email ?? none),
      user.email !== undefined && quiet(user.emailKey === undefined ? account.no : account.yes),
      user.passwordHash === noPassword
        ? withoutPassword(reply.request, frame)
        : [quiet(user.emailKey === undefined ? firstNote : note), renderForm(frame, form, wrong?.errors)],
      back(frame),
    ]
    return sendPage(reply, { title, hasErrors: !!wrong, body }, wrong?.status)
  }

  /** The same whether or not the address is somebody else's. */
  function sendSent(reply: FastifyReply, email: string, id: string): FastifyReply {
    const frame = frameFor(reply.request)
    const { title, sent, confirm } = frame.texts.account.email
    const code: Field = { name: 'code', label: frame.texts.code, autocomplete: 'one-time-code', isCode: true }
    const form = { action: frame.linkTo('/verify-email'), hidden: { id }, fields: [code], button: confirm }
    return sendPage(reply, { title, body: [paragraph(sent), named(email), renderForm(frame, form), back(frame)] })
  }

  app.get(path, hidden, async (_request, reply) => sendForm(reply))

  app.post(path, hidden, async (request, reply) => {
    const { user } = request.browser
    const frame = frameFor(request)
    const fields = fieldsOf(request)
    const { email = '', password = '' } = fields
    const missing = missingFields(frame, fields, ['email', 'password'])
    if (missing) return sendForm(reply, email, missing)
    try {
      const id = await emails.ask(request.caller, user, { email, password, locale: localeOf(request) })
      return sendSent(reply, email, id)
    } catch (error) {
      return sendForm(reply, email, returned(reply, error))
    }
  })
}

export default plugin
