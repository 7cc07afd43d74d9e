import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { type Acr, twoFactors } from '../../domain/authentication.ts'
import { pagesClient } from '../../domain/client.ts'
import { Refusal } from '../../errors.ts'
import { renderForm } from '../../pages/form.ts'
import { html } from '../../pages/html.ts'
import { linkLine, named, paragraph } from '../../pages/page.ts'
import type { Browser } from '../../plugins/browser/browser-sessions.ts'
import type { Shown } from '../../plugins/factors/judging.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'
import { fieldsOf, frameFor, missingFields, queryOf, type Returned, returnedFor, sendPage } from './answers.ts'
import { type Asked, appOf, askedOf, forApp, sendStale } from './asked.ts'
import { createSignInSteps } from './sign-in-steps.ts'

const path = '/sign-in'

/** Signing in: by password or passkey, and then by what else the account needs; the same rules as at `/challenge`. */
const plugin: FastifyPluginAsync = async (app) => {
  const { authorization, browserSessions, challenges, forms, passkeys, newAccounts, mail } = app
  const steps = createSignInSteps(app)

  app.get(path, { schema: { hide: true } }, async (request, reply) => {
    const asked = askedOf(request)
    if (!asked) return sendStale(reply)
    const browser = await browserSessions.of(request)
    const isAnother = queryOf(request, 'as') === 'another'
    if (browser && !isAnother && authorization.mayContinue(asked.pending, browser))
      return sendChoice(reply, asked, browser)
    return sendForm(reply, asked, { username: isAnother ? undefined : browser?.user.username })
  })

  app.post(path, { schema: { hide: true } }, async (request, reply) => {
    forms.check(request, path, true)
    const asked = askedOf(request)
    if (!asked) return sendStale(reply)
    const fields = fieldsOf(request)
    const browser = await browserSessions.of(request)
    // Asked of somebody else than is signed in by now, in another tab, or of nobody: whoever it is, is asked anew.
    if (fields['continue'])
      return browser?.session.id === fields['browser']
        ? authorization.goOn(request, reply, authorization.chosen(asked.pending), browser)
        : beginAnew(reply, asked)
    const shown = shownIn(fields)
    const { auth_session: authSession } = fields
    const back = { username: fields['username'] }
    const missing = !shown && missingFields(frameFor(request), fields, ['username', 'password'])
    if (missing) return sendForm(reply, asked, { ...back, returned: missing })
    try {
      const code = shown
        ? await challenges.goOn(request.caller, pagesClient, authSession ?? '', shown, undefined)
        : await challenges.byPassword(request.caller, pagesClient, credentials(fields), demandsOf(asked))
      return await steps.finish(request, reply, asked, code)
    } catch (error) {
      if (steps.isNext(error)) return steps.send(reply, asked, error, shown)
      // A step that is sent a second time, by a click or by the way back: whoever is signed in by it goes on.
      if (isOver(error) && browser && authorization.mayContinue(asked.pending, browser)) return beginAnew(reply, asked)
      return sendForm(reply, asked, { ...back, returned: returnedTo(reply, error) })
    }
  })

  // What a passkey is to sign is asked for by script, when it is needed: pages that nobody signs in on leave no row.
  if (passkeys.isOn) {
    app.post(`${path}/passkey`, { schema: { hide: true } }, async (request, reply) => {
      forms.check(request, path, true)
      const { members } = await challenges.byPasskey(request.caller, pagesClient, steps.granted)
      return reply.send({ auth_session: members?.['auth_session'], webauthn: members?.['webauthn'] })
    })
  }

  const demandsOf = ({ pending }: Asked): { granted: typeof steps.granted; acr?: Acr } => ({
    granted: steps.granted,
    ...(pending.kind === 'authorization' && pending.factor === 'always' && { acr: twoFactors }),
  })

  const beginAnew = (reply: FastifyReply, { sealed }: Asked): FastifyReply =>
    reply.redirect(frameFor(reply.request).linkTo(path, { request: sealed }), 303)

  function returnedTo(reply: FastifyReply, error: unknown): Returned {
    const { signIn } = frameFor(reply.request).texts
    const isWrong = error instanceof Refusal && error.code === 'invalid_grant'
    if (!isWrong && !isOver(error)) return returnedFor(reply, error)
    noteRefusal(reply, error)
    return { status: error.statusCode, errors: { '': isWrong ? signIn.wrong : signIn.over } }
  }

  async function sendForm(
    reply: FastifyReply,
    asked: Asked,
    { username, returned }: { username?: string | undefined; returned?: Returned | undefined } = {},
  ): Promise<FastifyReply> {
    const { request } = reply
    const frame = frameFor(request)
    const { texts, linkTo } = frame
    const { pending, sealed } = asked
    const hinted = pending.kind === 'authorization' ? pending.loginHint : undefined
    const hidden = { request: sealed, ...forms.hidden(request, reply, path, true) }
    const action = linkTo(path)
    const byPassword = renderForm(
      frame,
      {
        action,
        hidden,
        fields: [
          {
            name: 'username',
            label: mail.isOn ? texts.signIn.nameOrAddress : texts.username,
            autocomplete: passkeys.isOn ? 'username webauthn' : 'username',
            value: username ?? hinted,
          },
          { name: 'password', label: texts.password, type: 'password', autocomplete: 'current-password' },
        ],
        button: texts.signIn.button,
      },
      returned?.errors,
    )
    const byPasskey =
      passkeys.isOn &&
      renderForm(frame, {
        action,
        hidden: { ...hidden, auth_session: '', webauthn: '' },
        passkey: { does: 'get', ask: linkTo(`${path}/passkey`), failed: texts.signIn.passkeyFailed },
        button: { label: texts.signIn.withPasskey, kind: 'plain' },
      })
    const body = [
      forApp(frame, await appOf(request, asked)),
      byPassword,
      byPasskey,
      mail.isOn && linkLine(linkTo('/forgot', { request: sealed }), texts.forgot.title),
      newAccounts.isOpen &&
        linkLine(linkTo('/sign-up', { request: sealed }), texts.signUp.title, texts.signIn.noAccount),
    ]
    const page = {
      title: texts.signIn.title,
      hasErrors: !!returned,
      body,
      script: passkeys.isOn ? 'passkey' : undefined,
    } as const
    return sendPage(reply, { ...page, formTargets: authorization.formTargets(pending) }, returned?.status)
  }

  /** Whoever is signed in goes on, or is somebody else. */
  async function sendChoice(reply: FastifyReply, asked: Asked, { session, user }: Browser): Promise<FastifyReply> {
    const { request } = reply
    const frame = frameFor(request)
    const { texts, linkTo } = frame
    const { pending, sealed } = asked
    const hidden = { request: sealed, browser: session.id, ...forms.hidden(request, reply, path, true) }
    const button = { label: texts.signIn.goOn, name: 'continue', value: '1' }
    const body = [
      forApp(frame, await appOf(request, asked)),
      paragraph(texts.signIn.signedInAs),
      named(user.username),
      renderForm(frame, { action: linkTo(path), hidden, button }),
      html`<a class="button plain" href="${linkTo(path, { request: sealed, as: 'another' })}">${texts.signIn.another}</a>`,
    ]
    const formTargets = authorization.formTargets(pending)
    return sendPage(reply, { title: texts.signIn.signedIn, body, formTargets })
  }
}

const isOver = (error: unknown): error is Refusal => error instanceof Refusal && error.code === 'invalid_session'

const credentials = ({ username = '', password = '' }: Record<string, string>) => ({ username, password })

/** What a step after the first one shows; undefined for the first. */
export function shownIn(fields: Record<string, string>): Shown | undefined {
  const { auth_session: session, otp, recovery_code: recoveryCode, webauthn, enroll } = fields
  if (!session) return undefined
  if (enroll === 'totp' || enroll === 'webauthn') return { enroll }
  if (webauthn) return { webauthn }
  return recoveryCode === undefined ? { otp: otp ?? '' } : { recoveryCode }
}

export default plugin
