import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { freshForSeconds } from '../../../domain/authentication.ts'
import { amrOf } from '../../../domain/factor.ts'
import { renderForm } from '../../../pages/form.ts'
import { html } from '../../../pages/html.ts'
import { paragraph } from '../../../pages/page.ts'
import { fieldsOf, frameFor, type Returned, sendPage } from '../answers.ts'
import { back, factorName, formTo, fresh, goTo, hidden, nameField, returned, showFirstFactor } from './form.ts'

const path = '/account/factors/passkey'

/** Adding a passkey: a name, then a script has the browser make it. */
const plugin: FastifyPluginAsync = async (app) => {
  const { ownPasskeys } = app

  function sendName(reply: FastifyReply, wrong?: Returned): FastifyReply {
    const frame = frameFor(reply.request)
    const { title, intro, begin } = frame.texts.account.passkey
    const form = formTo(reply, path, { fields: [nameField(frame)], button: begin })
    const body = [paragraph(intro), renderForm(frame, form, wrong?.errors), back(frame)]
    return sendPage(reply, { title, hasErrors: !!wrong, body }, wrong?.status)
  }

  function sendMaking(reply: FastifyReply, options: object, name: string | undefined): FastifyReply {
    const frame = frameFor(reply.request)
    const { title, create, button, without, failed } = frame.texts.account.passkey
    const passkey = { does: 'create', options, failed } as const
    const form = formTo(reply, path, { hidden: { name, webauthn: '' }, passkey, button })
    const body = [paragraph(create), renderForm(frame, form), html`<p class="without">${without}</p>`, back(frame)]
    return sendPage(reply, { title, body, script: 'passkey' })
  }

  app.get(path, hidden, async (request, reply) => {
    await fresh(request)
    return sendName(reply)
  })

  app.post(path, hidden, async (request, reply) => {
    const { caller } = request
    const { webauthn } = fieldsOf(request)
    const name = factorName(request)
    try {
      if (webauthn === undefined) return sendMaking(reply, await ownPasskeys.begin(caller, () => fresh(request)), name)
      // Fresh when it began: it takes a while to find a security key.
      const proof = () => fresh(request, freshForSeconds + ownPasskeys.registrationTtlSeconds)
      const passkey = await ownPasskeys.add(caller, proof, parsed(webauthn), name)
      await showFirstFactor(reply, passkey.id, amrOf(passkey))
    } catch (error) {
      return sendName(
        reply,
        returned(reply, error, { invalid_request: { '': frameFor(request).texts.account.passkey.failed } }),
      )
    }
    return goTo(reply, '/account/factors', 'passkey')
  })
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export default plugin
