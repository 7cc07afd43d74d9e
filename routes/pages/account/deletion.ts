import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { noPassword } from '../../../domain/user.ts'
import { renderForm } from '../../../pages/form.ts'
import { named, paragraph } from '../../../pages/page.ts'
import { fieldsOf, frameFor, missingFields, type Returned, sendPage } from '../answers.ts'
import { back, currentPassword, formTo, fresh, hidden, returned } from './form.ts'

const path = '/account/deletion'

/** Deleting the account, for good. */
const plugin: FastifyPluginAsync = async (app) => {
  const { users, userAdmin, browserSessions } = app

  function sendForm(reply: FastifyReply, wrong?: Returned): FastifyReply {
    const { user } = reply.request.browser
    const frame = frameFor(reply.request)
    const { title, intro, whose, button } = frame.texts.account.deletion
    const form = formTo(reply, path, {
      ...(user.passwordHash !== noPassword && { account: user.username, fields: [currentPassword(frame, 'password')] }),
      button: { label: button, kind: 'danger' },
    })
    const body = [
      paragraph(intro),
      paragraph(whose),
      named(user.username),
      renderForm(frame, form, wrong?.errors),
      back(frame),
    ]
    return sendPage(reply, { title, hasErrors: !!wrong, body }, wrong?.status)
  }

  app.get(path, hidden, async (request, reply) => {
    // Who signs in by passkey alone has no password to show: a sign-in of a moment ago takes its place.
    if (request.browser.user.passwordHash === noPassword) await fresh(request)
    return sendForm(reply)
  })

  app.post(path, hidden, async (request, reply) => {
    const { user } = request.browser
    const fields = fieldsOf(request)
    const frame = frameFor(request)
    if (user.passwordHash === noPassword) {
      await fresh(request)
      await userAdmin.delete(request.caller, user.id)
    } else {
      const missing = missingFields(frame, fields, ['password'])
      if (missing) return sendForm(reply, missing)
      try {
        await users.remove(request.caller, user, fields['password'] ?? '')
      } catch (error) {
        return sendForm(reply, returned(reply, error))
      }
    }
    await browserSessions.end(request, reply)
    const { doneTitle, done } = frame.texts.account.deletion
    return sendPage(reply, { title: doneTitle, body: paragraph(done) })
  })
}

export default plugin
