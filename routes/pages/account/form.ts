import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Amr } from '../../../domain/authentication.ts'
import { isUuid } from '../../../domain/ids.ts'
import { Refusal } from '../../../errors.ts'
import type { Field, Form } from '../../../pages/form.ts'
import { type Content, type Html, html } from '../../../pages/html.ts'
import { type Frame, linkButton, linkLine, notice, paragraph } from '../../../pages/page.ts'
import { raisedBy } from '../../../plugins/factors/adding.ts'
import type { Fresh } from '../../../plugins/factors/fresh.ts'
import { noteRefusal } from '../../../plugins/http/errors.ts'
import { fieldsOf, frameFor, queryOf, type Returned, returnedFor } from '../answers.ts'

/* What the pages of the account have in common. */

export const hidden = { schema: { hide: true } } as const

/** Thrown where a sign-in is needed that is younger, or by more: the person is sent there, and comes back. */
export class NotFresh extends Error {}

/** Proves that whoever changes factors has signed in a moment ago: as `requireFresh` does for the JSON routes. */
export async function fresh(request: FastifyRequest, maxAgeSeconds?: number): Promise<Fresh> {
  const proof = await request.server.browserSessions.fresh(request, maxAgeSeconds)
  if (!proof) throw new NotFresh('the sign-in is too old, or has shown no second factor')
  return proof
}

/**
 * Says of this browser that it has shown the second factor that was added, where it has shown none: it was the first.
 *
 * @param methods by which it has been shown
 */
export async function showFirstFactor(reply: FastifyReply, factor: string, methods: Amr[]): Promise<void> {
  const { request } = reply
  const { browserSessions, now } = request.server
  const { session } = request.browser
  if (session.factor !== undefined) return
  await browserSessions.renew(request, reply, raisedBy(session, factor, methods, now()))
}

/** A form that is sent to the page that it stands on. */
export function formTo(reply: FastifyReply, path: string, form: Omit<Form, 'action'>): Form {
  const { request } = reply
  const { csrf } = request.server.forms.hidden(request, reply, path)
  return { ...form, action: frameFor(request).linkTo(path), hidden: { csrf, ...form.hidden } }
}

/** A form around things of which each has a button of its own: which was pressed is sent. */
export function formAround(reply: FastifyReply, path: string, content: Content): Html {
  const { action, hidden = {} } = formTo(reply, path, { button: '' })
  return html`<form method="post" action="${action}"><input type="hidden" name="csrf" value="${hidden['csrf']}">
${content}</form>
`
}

/** The button of one thing. Who hears the page is told which: there are several of the same word. */
export const rowButton = (name: string, value: string, label: string, of: string): Html =>
  html`<button type="submit" class="plain" name="${name}" value="${value}" aria-label="${label}: ${of}">${label}</button>`

/** What leads back to the page of all. */
export const back = ({ texts, linkTo }: Frame): Html => linkLine(linkTo('/account'), texts.account.back)

/** Leads on to another page, which says what was done: a page that is loaded again does nothing again. */
export const goTo = (reply: FastifyReply, path: string, done: keyof Frame['texts']['account']['done']): FastifyReply =>
  reply.redirect(frameFor(reply.request).linkTo(path, { done }), 303)

/** Says what was done, on the page that `goTo` has led to. */
export function doneNotice(request: FastifyRequest, { texts }: Frame): Content {
  const { done } = texts.account
  const name = queryOf(request, 'done')
  return Object.hasOwn(done, name) && notice(done[name as keyof typeof done])
}

export const currentPassword = ({ texts }: Frame, name: string): Field => ({
  ...{ name, type: 'password', autocomplete: 'current-password' },
  label: texts.account.currentPassword,
})

/** What somebody calls a factor; it need not have a name. */
export const nameField = ({ texts }: Frame): Field => ({
  ...{ name: 'name', label: texts.account.name, autocomplete: 'off', maxLength: 100, isOptional: true },
})

/** As `FactorName` has it. */
export const factorName = (request: FastifyRequest): string | undefined =>
  [...(fieldsOf(request)['name'] ?? '').replace(/\p{Cc}/gu, '').trim()].slice(0, 100).join('') || undefined

/** In the place of a form that asks for a password that there is none of. */
export function withoutPassword({ server }: FastifyRequest, { texts, linkTo }: Frame): Content {
  const { noPassword, setPassword } = texts.account
  return server.mail.isOn
    ? [paragraph(noPassword), paragraph(texts.account.settable), linkButton(linkTo('/forgot'), setPassword)]
    : paragraph(noPassword)
}

/** The id of a row, out of a form; none is empty. */
export function idOf(request: FastifyRequest, name: string): string {
  const id = fieldsOf(request)[name] ?? ''
  return isUuid(id) ? id : ''
}

/**
 * What a person may put right, of what an account's own routes refuse too.
 *
 * @param words for what only this page knows of, by the code of the refusal
 */
export function returned(
  reply: FastifyReply,
  error: unknown,
  words: Record<string, Returned['errors']> = {},
): Returned {
  const errors = error instanceof Refusal && (words[error.code] ?? ownErrors(error, frameFor(reply.request).texts))
  if (!errors) return returnedFor(reply, error)
  noteRefusal(reply, error)
  return { errors, status: error.statusCode }
}

function ownErrors(
  { code, errors: [field] = [] }: Refusal,
  { account }: Frame['texts'],
): Returned['errors'] | undefined {
  if (code === 'too_many_factors') return { '': account.tooMany }
  if (code === 'wrong_password' && field) return { [field.pointer.slice(1)]: account.wrongPassword }
  return code === 'invalid_request' && field?.pointer === '/email' ? { email: account.email.wrong } : undefined
}
