import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { freshForSeconds } from '../../../domain/authentication.ts'
import { Refusal } from '../../../errors.ts'
import { type Field, renderForm } from '../../../pages/form.ts'
import { html } from '../../../pages/html.ts'
import { qr } from '../../../pages/list.ts'
import { paragraph } from '../../../pages/page.ts'
import { fieldsOf, frameFor, type Returned, sendPage } from '../answers.ts'
import { back, factorName, formTo, fresh, goTo, hidden, nameField, returned, showFirstFactor } from './form.ts'

const path = '/account/factors/app'

/** Adding an authenticator app: a name, then the picture that it scans, and the first of its codes. */
const plugin: FastifyPluginAsync = async (app) => {
  const { ownFactors } = app

  function sendName(reply: FastifyReply, wrong?: Returned): FastifyReply {
    const frame = frameFor(reply.request)
    const { title, intro, begin } = frame.texts.account.app
    const form = formTo(reply, path, { fields: [nameField(frame)], button: begin })
    const body = [paragraph(intro), renderForm(frame, form, wrong?.errors), back(frame)]
    return sendPage(reply, { title, hasErrors: !!wrong, body }, wrong?.status)
  }

  /** @param shown what the app is given */
  function sendCode(
    reply: FastifyReply,
    shown: { id: string; secret: string; uri: string; qr: string },
    wrong?: Returned,
  ): FastifyReply {
    const frame = frameFor(reply.request)
    const { title, scan, picture, here, key, code: label, button } = frame.texts.account.app
    const code: Field = { name: 'code', label, autocomplete: 'one-time-code', isCode: true }
    const form = formTo(reply, path, { hidden: { id: shown.id }, fields: [code], button })
    const inFours = shown.secret.replace(/.{4}(?=.)/g, '$& ')
    const body = [
      paragraph(scan),
      qr(shown.qr, picture),
      html`<p>${key}: <code>${inFours}</code></p>`,
      html`<p><a href="${shown.uri}">${here}</a></p>`,
      renderForm(frame, form, wrong?.errors),
      back(frame),
    ]
    return sendPage(reply, { title, hasErrors: !!wrong, body }, wrong?.status)
  }

  app.get(path, hidden, async (request, reply) => {
    await fresh(request)
    return sendName(reply)
  })

  app.post(path, hidden, async (request, reply) => {
    const { caller, browser } = request
    const { id, code = '' } = fieldsOf(request)
    const { app: words, factors } = frameFor(request).texts.account
    if (id === undefined) {
      try {
        return sendCode(
          reply,
          await ownFactors.beginTotp(caller, () => fresh(request), factorName(request) ?? factors.kinds.totp),
        )
      } catch (error) {
        return sendName(reply, returned(reply, error))
      }
    }
    try {
      // Fresh when it began: it takes a while to get out a phone.
      const proof = () => fresh(request, freshForSeconds + ownFactors.enrolmentTtlSeconds)
      await ownFactors.confirmTotp(caller, proof, id, code)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      const sentBack = returned(reply, error, { invalid_code: { code: words.wrong }, not_found: { '': words.late } })
      const shown = error.code === 'invalid_code' ? await ownFactors.showTotp(browser.user, id) : undefined
      if (shown) return sendCode(reply, shown, sentBack)
      return sendName(reply, error.code === 'invalid_code' ? { ...sentBack, errors: { '': words.late } } : sentBack)
    }
    await showFirstFactor(reply, id, ['otp'])
    return goTo(reply, '/account/factors', 'app')
  })
}

export default plugin
