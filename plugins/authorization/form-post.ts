import type { FastifyReply } from 'fastify'
import { formTargetsOf } from '../../domain/form-targets.ts'
import { renderForm } from '../../pages/form.ts'
import { paragraph } from '../../pages/page.ts'
import { frameFor, sendPage } from '../browser/send-page.ts'

/** OAuth 2.0 Form Post Response Mode: a form that sends itself to the app; without script, by its button. */
export function sendFormPost(reply: FastifyReply, action: string, hidden: Record<string, string>): FastifyReply {
  const frame = frameFor(reply.request)
  const { title, text, button } = frame.texts.formPost
  const body = [paragraph(text), renderForm(frame, { action, hidden, button })]
  return sendPage(reply, { title, body, script: 'submit', formTargets: formTargetsOf(action) })
}
