import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { noPassword } from '../../../domain/user.ts'
import { renderForm } from '../../../pages/form.ts'
import { named, paragraph } from '../../../pages/page.ts'
import { fieldsOf, frameFor, missingFields, type Returned, sendPage } from '../answers.ts'
import { back, currentPassword, formTo, hidden, returned, withoutPassword } from './form.ts'

const path = '/account/deletion'

/** Deleting the account, for good. */
const plugin: FastifyPluginAsync = async (app) => {
  const { users, browserSessions } = app

  function sendForm(reply: FastifyReply, wrong?: Returned): FastifyReply {
    const { user } = reply.request.browser
    const frame = frameFor(reply.request)
    const { title, intro, whose, button } = frame.texts.account.deletion
    const form = formTo(reply, path, {
      account: user.username,
      fields: [currentPassword(frame, 'password')],
      button: { label: button, kind: 'danger' },
    })
    const body = [
      paragraph(intro),
      paragraph(whose),
      named(user.username),
      user.passwordHash === noPassword ? withoutPassword(frame) : renderForm(frame, form, wrong?.errors),
      back(frame),
    ]
    return sendPage(reply, { title, hasErrors: !!wrong, body }, wrong?.status)
  }

  app.get(path, hidden, async (_request, reply) => sendForm(reply))

  app.post(path, hidden, async (request, reply) => {
    const fields = fieldsOf(request)
    const frame = frameFor(request)
    const missing = missingFields(frame, fields, ['password'])
    if (missing) return sendForm(reply, missing)
    try {
      await users.remove(request.caller, request.browser.user, fields['password'] ?? '')
    } catch (error) {
      return sendForm(reply, returned(reply, error))
    }
    await browserSessions.end(request, reply)
    const { doneTitle, done } = frame.texts.account.deletion
    return sendPage(reply, { title: doneTitle, body: paragraph(done) })
  })
}

export default plugin
