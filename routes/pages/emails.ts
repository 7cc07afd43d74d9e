import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'
import { renderForm } from '../../pages/form.ts'
import { linkButton, named, paragraph, quiet } from '../../pages/page.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'
import { fieldsOf, frameFor, queryOf, type Returned, returnedFor, sendDeadLink, sendPage } from './answers.ts'

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

    app.get(path, { schema: { hide: true } }, async (request, reply) => sendButton(reply, queryOf(request, 'token')))

    app.post(path, { schema: { hide: true } }, async (request, reply) => {
      const { token = '' } = fieldsOf(request)
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
