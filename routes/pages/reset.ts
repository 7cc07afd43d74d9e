import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { Refusal } from '../../errors.ts'
import { type Field, type FormErrors, renderForm } from '../../pages/form.ts'
import { type Html, html } from '../../pages/html.ts'
import { type Frame, linkButton, named, paragraph, quiet } from '../../pages/page.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'
import {
  fieldsOf,
  frameFor,
  missingFields,
  passwordField,
  queryOf,
  type Returned,
  returnedFor,
  sendDeadLink,
  sendPage,
} from './answers.ts'
import { sealedOf } from './asked.ts'

/** What somebody shows: the secret of the link, or the id of the mail with its code. */
type Shown = { token: string } | { id: string; code?: string }

/** Choosing a new password, by a link or by the code of its mail. */
const plugin: FastifyPluginAsync = async (app) => {
  const { config, mail, users, passwordReset } = app

  async function sendForm(reply: FastifyReply, shown: Shown, returned?: Returned): Promise<FastifyReply> {
    const frame = frameFor(reply.request)
    const { title, account, note } = frame.texts.reset
    const link = 'token' in shown ? await mail.present(['reset'], shown) : undefined
    const user = link && (await users.find(link.owner))
    if ('token' in shown && !user) return sendDeadLink(reply, 'reset')
    const body = [
      user && [paragraph(account), named(user.username)],
      quiet(note),
      resetForm(frame, config.AUTH_PASSWORD_MIN, shown, {
        username: user?.username,
        errors: returned?.errors,
        request: sealedOf(reply.request),
      }),
      'id' in shown && html`<p class="quiet"><a href="${frame.linkTo('/forgot')}">${frame.texts.forgot.again}</a></p>`,
    ]
    return sendPage(reply, { title, hasErrors: !!returned, body }, returned?.status)
  }

  app.get('/reset', { schema: { hide: true } }, async (request, reply) =>
    sendForm(reply, { token: queryOf(request, 'token') }),
  )

  app.post('/reset', { schema: { hide: true } }, async (request, reply) => {
    const fields = fieldsOf(request)
    const { token, id = '', code = '', new_password: password = '' } = fields
    const shown = token === undefined ? { id, code } : { token }
    const frame = frameFor(request)
    const missing = missingFields(frame, fields, token === undefined ? ['code', 'new_password'] : ['new_password'])
    if (missing) return sendForm(reply, shown, missing)
    try {
      await passwordReset.reset(request.caller, shown, password)
    } catch (error) {
      if (!(error instanceof Refusal && error.code === 'invalid_code'))
        return sendForm(reply, shown, returnedFor(reply, error))
      noteRefusal(reply, error)
      if (token !== undefined) return sendDeadLink(reply, 'reset')
      return sendForm(reply, { id }, { status: error.statusCode, errors: { code: frame.texts.wrongCode } })
    }
    const { doneTitle, done } = frame.texts.reset
    const toSignIn = linkButton(frame.linkTo('/sign-in', { request: sealedOf(request) }), frame.texts.signIn.title)
    return sendPage(reply, { title: doneTitle, body: [paragraph(done), toSignIn] })
  })
}

/** Also stands below what says that a mail was sent. */
export function resetForm(
  frame: Frame,
  leastCharacters: number,
  shown: Shown,
  {
    username,
    errors,
    request,
  }: { username?: string | undefined; errors?: FormErrors | undefined; request?: string | undefined } = {},
): Html {
  const { texts, linkTo } = frame
  const code: Field = { name: 'code', label: texts.code, autocomplete: 'one-time-code', isCode: true }
  const password = passwordField(frame, leastCharacters)
  const form = { action: linkTo('/reset'), button: texts.reset.button }
  if ('token' in shown)
    return renderForm(frame, { ...form, hidden: { ...shown, request }, account: username, fields: [password] }, errors)
  const typed = { ...code, value: shown.code }
  return renderForm(frame, { ...form, hidden: { id: shown.id, request }, fields: [typed, password] }, errors)
}

export default plugin
