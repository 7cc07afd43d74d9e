import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import type { Factor } from '../../../domain/factor.ts'
import { Refusal } from '../../../errors.ts'
import { renderForm } from '../../../pages/form.ts'
import { type Content, html } from '../../../pages/html.ts'
import { list } from '../../../pages/list.ts'
import { type Frame, linkButton, named, paragraph, quiet } from '../../../pages/page.ts'
import { ago } from '../../../pages/times.ts'
import { noteRefusal } from '../../../plugins/http/errors.ts'
import { fieldsOf, frameFor, queryOf, sendPage } from '../answers.ts'
import { back, doneNotice, formTo, fresh, goTo, hidden } from './form.ts'

const path = '/account/factors'
const removal = `${path}/remove`

/** What there is beside the password to sign in with, and its removal. */
const plugin: FastifyPluginAsync = async (app) => {
  const { factors, ownFactors, passkeys, now } = app

  /** What it is called; the names that we have given are of no language of people. */
  const nameOf = ({ texts }: Frame, factor: Factor): string =>
    factor.kind === 'recovery_code' ? texts.account.factors.kinds.recovery_code : factor.name

  function about({ texts, locale }: Frame, factor: Factor): Content[] {
    const { kinds, added, used, left } = texts.account.factors
    return [
      factor.kind === 'recovery_code' ? left(factor.hashes.length) : kinds[factor.kind],
      html` · ${added} ${ago(locale, factor.createdAt, now())}`,
      factor.usedAt !== undefined && html` · ${used} ${ago(locale, factor.usedAt, now())}`,
    ]
  }

  app.get(path, hidden, async (request, reply) => {
    const frame = frameFor(request)
    const { title, none, remove, addApp, addPasskey, makeCodes } = frame.texts.account.factors
    const { factors: known } = await factors.of(request.browser.user.id)
    const items = known.map((factor) => {
      const name = nameOf(frame, factor)
      return {
        what: [html`<strong>${name}</strong>`, html`<p class="quiet">${about(frame, factor)}</p>`],
        act: html`<a class="button plain" href="${frame.linkTo(removal, { id: factor.id })}" aria-label="${remove}: ${name}">${remove}</a>`,
      }
    })
    const body = [
      doneNotice(request, frame),
      known.length > 0 ? list(items) : paragraph(none),
      passkeys.isOn && linkButton(frame.linkTo(`${path}/passkey`), addPasskey, 'plain'),
      linkButton(frame.linkTo(`${path}/app`), addApp, 'plain'),
      linkButton(frame.linkTo(`${path}/codes`), makeCodes, 'plain'),
      back(frame),
    ]
    return sendPage(reply, { title, body })
  })

  async function sendQuestion(reply: FastifyReply, id: string, refused?: Refusal): Promise<FastifyReply> {
    const { request } = reply
    const frame = frameFor(request)
    const { title, note, last, gone, button } = frame.texts.account.removal
    const { factors: known } = await factors.of(request.browser.user.id)
    const factor = known.find((one) => one.id === id)
    const form = formTo(reply, removal, { hidden: { id }, button: { label: button, kind: 'danger' } })
    const errors = refused && { '': last }
    const body = factor
      ? [named(nameOf(frame, factor)), quiet(note), renderForm(frame, form, errors), back(frame)]
      : [paragraph(gone), back(frame)]
    return sendPage(reply, { title, hasErrors: !!refused, body }, refused?.statusCode ?? (factor ? 200 : 404))
  }

  app.get(removal, hidden, async (request, reply) => {
    await fresh(request)
    return sendQuestion(reply, queryOf(request, 'id'))
  })

  app.post(removal, hidden, async (request, reply) => {
    const { id = '' } = fieldsOf(request)
    try {
      await ownFactors.remove(request.caller, () => fresh(request), id)
    } catch (error) {
      // Sent twice, or removed in another tab: it is gone, as was asked.
      if (error instanceof Refusal && error.code === 'not_found') return goTo(reply, path, 'removed')
      if (!(error instanceof Refusal && error.code === 'last_factor')) throw error
      noteRefusal(reply, error)
      return sendQuestion(reply, id, error)
    }
    return goTo(reply, path, 'removed')
  })
}

export default plugin
