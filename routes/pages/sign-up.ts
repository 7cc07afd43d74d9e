import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { pagesClient } from '../../domain/client.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { Refusal } from '../../errors.ts'
import { type Field, renderForm } from '../../pages/form.ts'
import { type Frame, linkButton, linkLine } from '../../pages/page.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import {
  fieldsOf,
  frameFor,
  missingFields,
  passwordField,
  queryOf,
  type Returned,
  returnedFor,
  sendPage,
  sendWords,
} from './answers.ts'
import { type Asked, appOf, askedOf, forApp, sendStale } from './asked.ts'
import { createInvitationPage } from './invitation.ts'
import { createSignInSteps } from './sign-in-steps.ts'

const path = '/sign-up'

/** Making an account: whoever has made one is signed in. Of whom an invitation is of, see `invitation.ts`. */
const plugin: FastifyPluginAsync = async (app) => {
  const { config, authorization, challenges, forms, mail, newAccounts } = app
  const invitation = createInvitationPage(app)
  const steps = createSignInSteps(app)

  app.get<{ Querystring: { invitation?: unknown } }>(path, { schema: { hide: true } }, async (request, reply) => {
    if (request.query.invitation !== undefined) return invitation.sendForm(reply, queryOf(request, 'invitation'))
    if (!newAccounts.isOpen) return sendClosed(reply)
    const asked = askedOf(request)
    return asked ? sendForm(reply, asked) : sendStale(reply)
  })

  app.post(path, { schema: { hide: true } }, async (request, reply) => {
    const fields = fieldsOf(request)
    if (fields['invitation'] !== undefined) return invitation.accept(request, reply, fields['invitation'])
    forms.check(request, path, true)
    const asked = askedOf(request)
    if (!asked) return sendStale(reply)
    const required = ['username', ...(config.AUTH_EMAIL === 'required' ? ['email'] : []), 'password']
    const missing = newAccounts.isOpen && missingFields(frameFor(request), fields, required)
    if (missing) return sendForm(reply, asked, { fields, returned: missing })
    const { username = '', password = '', email = '' } = fields
    const of = { ...omitUndefined({ email: email.trim() || undefined }), locale: localeOf(request) }
    try {
      await newAccounts.make(request.caller, { username, password, ...of })
    } catch (error) {
      if (!(error instanceof Refusal && error.code === 'signup_closed'))
        return sendForm(reply, asked, { fields, returned: returnedFor(reply, error) })
      noteRefusal(reply, error)
      return sendClosed(reply)
    }
    return signIn(request, reply, asked, { username, password })
  })

  /** Who has made an account has shown its password. */
  async function signIn(
    request: FastifyRequest,
    reply: FastifyReply,
    asked: Asked,
    account: { username: string; password: string },
  ): Promise<FastifyReply> {
    try {
      const code = await challenges.byPassword(request.caller, pagesClient, account, { granted: steps.granted })
      return await steps.finish(request, reply, asked, code)
    } catch (error) {
      if (steps.isNext(error)) return steps.send(reply, asked, error)
      if (!(error instanceof Refusal)) throw error
      // The account is there all the same.
      noteRefusal(reply, error)
      const { texts, linkTo } = frameFor(request)
      const words = { title: texts.signUp.doneTitle, text: texts.signUp.notSignedIn }
      return sendWords(reply, words, 200, linkButton(linkTo('/sign-in', { request: asked.sealed }), texts.signIn.title))
    }
  }

  async function sendForm(
    reply: FastifyReply,
    asked: Asked,
    { fields = {}, returned }: { fields?: Record<string, string>; returned?: Returned } = {},
  ): Promise<FastifyReply> {
    const { request } = reply
    const { pending, sealed } = asked
    const frame = frameFor(request)
    const { texts, linkTo } = frame
    const form = {
      action: linkTo(path),
      hidden: { request: sealed, ...forms.hidden(request, reply, path, true) },
      fields: [
        { name: 'username', label: texts.username, autocomplete: 'username', value: fields['username'] } as const,
        ...(mail.isOn ? [emailField(frame, config.AUTH_EMAIL === 'required', fields['email'])] : []),
        passwordField(frame, config.AUTH_PASSWORD_MIN, 'password'),
      ],
      button: texts.signUp.button,
    }
    const body = [
      forApp(frame, await appOf(request, asked)),
      renderForm(frame, form, returned?.errors),
      linkLine(linkTo('/sign-in', { request: sealed }), texts.signIn.title, texts.signUp.haveAccount),
    ]
    const page = { title: texts.signUp.title, hasErrors: !!returned, body }
    return sendPage(reply, { ...page, formTargets: authorization.formTargets(pending) }, returned?.status)
  }
}

const emailField = ({ texts }: Frame, isRequired: boolean, value: string | undefined): Field => ({
  ...{ name: 'email', type: 'email', autocomplete: 'email', value, isOptional: !isRequired },
  label: isRequired ? texts.email : texts.signUp.emailOptional,
  hint: texts.signUp.emailHint,
})

function sendClosed(reply: FastifyReply): FastifyReply {
  const { texts, linkTo } = frameFor(reply.request)
  const { closedTitle: title, closed: text } = texts.signUp
  return sendWords(reply, { title, text }, 403, linkButton(linkTo('/sign-in'), texts.signIn.title))
}

export default plugin
