import type { FastifyPluginAsync } from 'fastify'
import { renderForm } from '../../../pages/form.ts'
import { html } from '../../../pages/html.ts'
import { linkButton, paragraph, quiet } from '../../../pages/page.ts'
import { frameFor, sendPage } from '../answers.ts'
import { back, formTo, fresh, hidden } from './form.ts'

const path = '/account/factors/codes'

/** Making recovery codes, which are shown once. */
const plugin: FastifyPluginAsync = async (app) => {
  const { ownFactors } = app

  app.get(path, hidden, async (request, reply) => {
    const { factors } = (await fresh(request)).factors
    const frame = frameFor(request)
    const { title, intro, again, button } = frame.texts.account.codes
    const has = factors.some(({ kind }) => kind === 'recovery_code')
    const form = formTo(reply, path, { button })
    return sendPage(reply, {
      title,
      body: [paragraph(intro), has && paragraph(again), renderForm(frame, form), back(frame)],
    })
  })

  app.post(path, hidden, async (request, reply) => {
    const codes = await ownFactors.makeRecoveryCodes(request.caller, () => fresh(request))
    const frame = frameFor(request)
    const { title, keep, list, next } = frame.texts.account.codes
    const lines = html`<ol class="codes" aria-label="${list}">
${codes.map((code) => html`<li>${code}</li>\n`)}</ol>
`
    return sendPage(reply, { title, body: [quiet(keep), lines, linkButton(frame.linkTo('/account/factors'), next)] })
  })
}

export default plugin
