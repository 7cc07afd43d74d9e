import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { renderForm } from '../../pages/form.ts'
import { html } from '../../pages/html.ts'
import { paragraph, quiet } from '../../pages/page.ts'
import { localeOf } from '../../plugins/http/locale.ts'
import { fieldsOf, frameFor, missingFields, type Returned, returnedFor, sendPage } from './answers.ts'
import { sealedOf } from './asked.ts'
import { resetForm } from './reset.ts'

/** Asking for the mail that lets a forgotten password be replaced. */
const plugin: FastifyPluginAsync = async (app) => {
  const { passwordReset } = app

  function sendForm(reply: FastifyReply, name?: string, returned?: Returned): FastifyReply {
    const frame = frameFor(reply.request)
    const { title, intro, field, button } = frame.texts.forgot
    const form = renderForm(
      frame,
      {
        action: frame.linkTo('/forgot'),
        hidden: { request: sealedOf(reply.request) },
        fields: [{ name: 'name', label: field, autocomplete: 'username', value: name }],
        button,
      },
      returned?.errors,
    )
    return sendPage(reply, { title, hasErrors: !!returned, body: [paragraph(intro), form] }, returned?.status)
  }

  app.get('/forgot', { schema: { hide: true } }, async (_request, reply) => sendForm(reply))

  app.post('/forgot', { schema: { hide: true } }, async (request, reply) => {
    const fields = fieldsOf(request)
    const { name = '' } = fields
    const missing = missingFields(frameFor(request), fields, ['name'])
    if (missing) return sendForm(reply, name, missing)
    try {
      return sendSent(reply, await passwordReset.ask(request.caller, { name }, localeOf(request)))
    } catch (error) {
      return sendForm(reply, name, returnedFor(reply, error))
    }
  })

  /** The same for everybody, whether there is such an account or not. */
  function sendSent(reply: FastifyReply, id: string): FastifyReply {
    const frame = frameFor(reply.request)
    const { sentTitle, sent, late, codeTitle, codeIntro } = frame.texts.forgot
    const code = html`<section>
<h2>${codeTitle}</h2>
${paragraph(codeIntro)}
${resetForm(frame, app.config.AUTH_PASSWORD_MIN, { id }, { request: sealedOf(reply.request) })}
</section>`
    return sendPage(reply, { title: sentTitle, body: [paragraph(sent), quiet(late), code] })
  }
}

export default plugin
