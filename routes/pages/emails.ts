import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'
import { type Field, renderForm } from '../../pages/form.ts'
import { linkButton, named, paragraph, quiet } from '../../pages/page.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'
import {
  fieldsOf,
  frameFor,
  missingFields,
  queryOf,
  type Returned,
  returnedFor,
  sendDeadLink,
  sendPage,
  sendWords,
} from './answers.ts'

/** Confirming an address, and taking an old one back: a button each. */
const plugin: FastifyPluginAsync = async (app) => {
  const { mail, emails } = app

  const pages = {
    verify: {
      path: '/verify-email',
      kinds: ['verify', 'change'],
      act: (request: FastifyRequest, token: string) => emails.verify(request.caller, { token }),
    },
    undo: {
      path: '/undo-email',
      kinds: ['undo'],
      act: (request: FastifyRequest, token: string) => emails.undo(request.caller, token),
    },
  } as const

  /** For whoever reads the mail on another device, from where it was asked for. */
  function sendCodeForm(reply: FastifyReply, id: string, returned?: Returned): FastifyReply {
    const frame = frameFor(reply.request)
    const { code: label, verify } = frame.texts
    const field: Field = { name: 'code', label, autocomplete: 'one-time-code', isCode: true }
    const form = { action: frame.linkTo('/verify-email'), hidden: { id }, fields: [field], button: verify.codeButton }
    const body = [paragraph(verify.codeIntro), renderForm(frame, form, returned?.errors)]
    return sendPage(reply, { title: verify.title, hasErrors: !!returned, body }, returned?.status)
  }

  async function verifyByCode(
    request: FastifyRequest,
    reply: FastifyReply,
    { id, code }: { id: string; code: string },
  ): Promise<FastifyReply> {
    const { texts } = frameFor(request)
    const missing = missingFields(frameFor(request), { code }, ['code'])
    if (missing) return sendCodeForm(reply, id, missing)
    try {
      await emails.verify(request.caller, { id, code })
    } catch (error) {
      if (!(error instanceof Refusal && error.code === 'invalid_code'))
        return sendCodeForm(reply, id, returnedFor(reply, error))
      noteRefusal(reply, error)
      return sendCodeForm(reply, id, { status: error.statusCode, errors: { code: texts.wrongCode } })
    }
    return sendWords(reply, { title: texts.verify.doneTitle, text: texts.verify.done })
  }

  for (const of of ['verify', 'undo'] as const) {
    const { path, kinds, act } = pages[of]

    async function sendButton(reply: FastifyReply, token: string, returned?: Returned): Promise<FastifyReply> {
      const link = await mail.present([...kinds], { token })
      if (!link) return sendDeadLink(reply, of)
      const frame = frameFor(reply.request)
      const { title, intro, button, note } = frame.texts[of]
      const form = { action: frame.linkTo(path), hidden: { token }, button }
      const body = [
        paragraph(intro),
        link.to !== undefined && named(link.to),
        renderForm(frame, form, returned?.errors),
        quiet(note),
      ]
      return sendPage(reply, { title, hasErrors: !!returned, body }, returned?.status)
    }

    app.get(path, { schema: { hide: true } }, async (request, reply) => {
      const id = queryOf(request, 'id')
      return of === 'verify' && id !== '' ? sendCodeForm(reply, id) : sendButton(reply, queryOf(request, 'token'))
    })

    app.post(path, { schema: { hide: true } }, async (request, reply) => {
      const { token = '', id, code = '' } = fieldsOf(request)
      if (of === 'verify' && id !== undefined) return verifyByCode(request, reply, { id, code })
      try {
        await act(request, token)
      } catch (error) {
        if (!(error instanceof Refusal && error.code === 'invalid_code'))
          return sendButton(reply, token, returnedFor(reply, error))
        noteRefusal(reply, error)
        return sendDeadLink(reply, of)
      }
      const { texts, linkTo } = frameFor(request)
      const body = [paragraph(texts[of].done), of === 'undo' && linkButton(linkTo('/forgot'), texts.undo.next)]
      return sendPage(reply, { title: texts[of].doneTitle, body })
    })
  }
}

export default plugin
