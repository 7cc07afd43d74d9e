import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Granted } from '../../domain/grant.ts'
import { Refusal } from '../../errors.ts'
import {
  type Button,
  type Field,
  type Form,
  type FormErrors,
  renderBareForm,
  renderForm,
  renderSummary,
} from '../../pages/form.ts'
import { type Content, type Html, html } from '../../pages/html.ts'
import { qr } from '../../pages/list.ts'
import { type Frame, linkLine, paragraph } from '../../pages/page.ts'
import type { challengeNames } from '../../plugins/factors/asking.ts'
import type { Shown } from '../../plugins/factors/judging.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'
import { frameFor, sendPage } from './answers.ts'
import { type Asked, withoutScript } from './asked.ts'

/** Members of `insufficient_authorization`. */
interface Next {
  auth_session: string
  challenges: (typeof challengeNames)[number][]
  webauthn?: { user?: unknown }
  totp?: { secret: string; uri: string; qr: string }
}

const path = '/sign-in'

/** What comes behind the password, or a new account: the second factor, or the first one of somebody who has to have one. */
export function createSignInSteps({
  config,
  authorization,
  browserSessions,
  forms,
  passkeys,
}: Pick<FastifyInstance, 'config' | 'authorization' | 'browserSessions' | 'forms' | 'passkeys'>) {
  /** Sign-ins on the pages give nothing but the browser's session. */
  const granted: Granted = { scope: [], aud: config.AUTH_AUDIENCE }

  const isNext = (error: unknown): error is Refusal =>
    error instanceof Refusal && error.code === 'insufficient_authorization'

  /** Signs the browser in by the code of a sign-in that is done, and goes on to what it was for. */
  async function finish(
    request: FastifyRequest,
    reply: FastifyReply,
    { pending }: Asked,
    code: string,
  ): Promise<FastifyReply> {
    const browser = await browserSessions.open(request, reply, code)
    return authorization.goOn(request, reply, pending, browser)
  }

  /**
   * Sends the page of a step.
   *
   * @param refusal that asks for it
   * @param shown the step before: its answer, where it was one, was wrong
   */
  function send(reply: FastifyReply, asked: Asked, refusal: Refusal, shown?: Shown): FastifyReply {
    const { request } = reply
    const isWrong = shown !== undefined && !('enroll' in shown)
    // A sign-in that goes on is no failure.
    if (isWrong) noteRefusal(reply, refusal)
    const frame = frameFor(request)
    const next = refusal.members as unknown as Next
    const { sealed, pending } = asked
    const form = {
      action: frame.linkTo(path),
      hidden: { request: sealed, auth_session: next.auth_session, ...forms.hidden(request, reply, path, true) },
    }
    const { title, body } = stepOf(frame, form, next, isWrong ? wrongIn(frame, shown) : {})
    const { texts, linkTo } = frame
    return sendPage(
      reply,
      {
        title,
        hasErrors: isWrong,
        body: [body, linkLine(linkTo(path, { request: sealed }), texts.signIn.again)],
        script: next.webauthn && 'passkey',
        formTargets: authorization.formTargets(pending),
      },
      isWrong ? refusal.statusCode : 200,
    )
  }

  function stepOf(frame: Frame, form: Begun, next: Next, errors: FormErrors): Step {
    if (next.challenges.includes('enroll')) return toEnrol(frame, form, passkeys.isOn)
    if (next.totp) return enrolTotp(frame, form, next.totp, errors)
    return next.webauthn?.user ? enrolPasskey(frame, form, next, errors) : toShow(frame, form, next, errors)
  }

  return { granted, isNext, finish, send }
}

type Step = { title: string; body: Content }
type Begun = Pick<Form, 'action' | 'hidden'>

function wrongIn({ texts }: Frame, shown: Shown): FormErrors {
  if ('otp' in shown) return { otp: texts.factor.wrongCode }
  if ('recoveryCode' in shown) return { recovery_code: texts.factor.wrongRecoveryCode }
  return { '': texts.factor.wrongPasskey }
}

const otpField = ({ texts }: Frame) =>
  ({ name: 'otp', label: texts.factor.otp, autocomplete: 'one-time-code', isCode: true }) as const

/** Any one of the factors that there are: a form each. */
function toShow(frame: Frame, form: Begun, { challenges, webauthn }: Next, errors: FormErrors): Step {
  const { factor, signIn } = frame.texts
  const hasTotp = challenges.includes('totp')
  const byCode = { ...form, fields: [otpField(frame)], button: signIn.goOn }
  const byPasskey: Form = {
    ...form,
    hidden: { ...form.hidden, webauthn: '' },
    passkey: { does: 'get', options: webauthn, failed: signIn.passkeyFailed },
    button: { label: factor.withPasskey, kind: hasTotp ? 'plain' : 'strong' },
  }
  const body = [
    renderSummary(frame, errors),
    paragraph(hasTotp ? factor.intro : factor.introPasskey),
    hasTotp && renderBareForm(frame, byCode, errors),
    webauthn && [renderBareForm(frame, byPasskey), withoutScript(frame)],
    challenges.includes('recovery_code') && byRecoveryCode(frame, form, errors),
  ]
  return { title: factor.title, body }
}

/** The last resort, which need not be in view. */
function byRecoveryCode(frame: Frame, form: Begun, errors: FormErrors): Html {
  const { factor, signIn } = frame.texts
  const { recoveryCode: label, recoveryHint: hint } = factor
  const field: Field = { name: 'recovery_code', label, hint, autocomplete: 'off' }
  return html`<details${errors['recovery_code'] !== undefined && html` open`}>
<summary>${factor.lost}</summary>
${renderBareForm(frame, { ...form, fields: [field], button: { label: signIn.goOn, kind: 'plain' } }, errors)}
</details>
`
}

/** Whoever has to have a factor and has none chooses one. */
function toEnrol(frame: Frame, form: Begun, passkeysAreOn: boolean): Step {
  const { title, intro, totp, webauthn } = frame.texts.enrol
  const kinds = passkeysAreOn ? (['totp', 'webauthn'] as const) : (['totp'] as const)
  const button = kinds.map(
    (value): Button => ({ name: 'enroll', value, kind: 'plain', label: { totp, webauthn }[value] }),
  )
  return {
    title,
    body: [paragraph(intro), renderForm(frame, { ...form, button }), passkeysAreOn && withoutScript(frame)],
  }
}

function enrolTotp(frame: Frame, form: Begun, totp: NonNullable<Next['totp']>, errors: FormErrors): Step {
  const { enrol, signIn } = frame.texts
  const body = [
    renderSummary(frame, errors),
    paragraph(enrol.scan),
    authenticatorKey(frame, totp),
    renderBareForm(frame, { ...form, fields: [otpField(frame)], button: signIn.goOn }, errors),
  ]
  return { title: enrol.totpTitle, body }
}

/** What an authenticator app is given: a picture for its camera, and the same as text. */
const authenticatorKey = ({ texts }: Frame, { secret, qr: svg, uri }: NonNullable<Next['totp']>): Html =>
  html`${qr(svg, texts.enrol.qrAlt)}
<details>
<summary>${texts.enrol.noCamera}</summary>
<p>${texts.enrol.typeKey}</p>
<p class="what"><code>${secret.replace(/(.{4})(?=.)/g, '$1 ')}</code></p>
<p><a href="${uri}">${texts.enrol.openApp}</a></p>
</details>
`

function enrolPasskey(frame: Frame, form: Begun, { webauthn }: Next, errors: FormErrors): Step {
  const { enrol } = frame.texts
  const passkey: Form = {
    ...form,
    hidden: { ...form.hidden, webauthn: '' },
    passkey: { does: 'create', options: webauthn, failed: enrol.passkeyFailed },
    button: enrol.makePasskey,
  }
  const body = [paragraph(enrol.passkeyIntro), renderForm(frame, passkey, errors), withoutScript(frame)]
  return { title: enrol.webauthn, body }
}
