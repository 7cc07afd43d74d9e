import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import type { Authentication } from '../../../domain/authentication.ts'
import { pagesClient } from '../../../domain/client.ts'
import { authenticationOf } from '../../../domain/session.ts'
import { noPassword } from '../../../domain/user.ts'
import { ignoreRefusal } from '../../../errors.ts'
import { renderForm } from '../../../pages/form.ts'
import { quiet } from '../../../pages/page.ts'
import { fieldsOf, frameFor, missingFields, passwordField, type Returned, sendPage } from '../answers.ts'
import { back, currentPassword, formTo, goTo, hidden, returned, withoutPassword } from './form.ts'

const path = '/account/password'

/** Changing the password. */
const plugin: FastifyPluginAsync = async (app) => {
  const { config, users, codes, browserSessions } = app

  function sendForm(reply: FastifyReply, wrong?: Returned): FastifyReply {
    const { user } = reply.request.browser
    const frame = frameFor(reply.request)
    const { title, note, button } = frame.texts.account.password
    const fields = [currentPassword(frame, 'current_password'), passwordField(frame, config.AUTH_PASSWORD_MIN)]
    const form = formTo(reply, path, { account: user.username, fields, button })
    const body =
      user.passwordHash === noPassword
        ? withoutPassword(reply.request, frame)
        : [quiet(note), renderForm(frame, form, wrong?.errors)]
    return sendPage(reply, { title, hasErrors: !!wrong, body: [body, back(frame)] }, wrong?.status)
  }

  /** Every sign-in has ended with the old password, that of this browser too: it begins anew, by what was shown for it. */
  async function signInAnew(reply: FastifyReply, userId: string, authentication: Authentication): Promise<void> {
    const { request } = reply
    const user = await users.find(userId)
    if (!user) return
    const { generation } = user
    const granted = { scope: [], aud: config.AUTH_AUDIENCE }
    const code = await codes.issue(request.caller, pagesClient, { userId, generation, granted, authentication })
    await browserSessions.open(request, reply, code).catch(ignoreRefusal)
  }

  app.get(path, hidden, async (_request, reply) => sendForm(reply))

  app.post(path, hidden, async (request, reply) => {
    const { caller } = request
    const { user, session } = request.browser
    const fields = fieldsOf(request)
    const missing = missingFields(frameFor(request), fields, ['current_password', 'new_password'])
    if (missing) return sendForm(reply, missing)
    const { current_password: current = '', new_password: next = '' } = fields
    try {
      await users.changePassword(caller, user, { current, next })
    } catch (error) {
      return sendForm(reply, returned(reply, error))
    }
    await signInAnew(reply, user.id, authenticationOf(session))
    return goTo(reply, '/account', 'password')
  })
}

export default plugin
