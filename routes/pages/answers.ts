import type { FastifyReply, FastifyRequest } from 'fastify'
import { Refusal } from '../../errors.ts'
import type { Field, FormErrors } from '../../pages/form.ts'
import { type Content, html } from '../../pages/html.ts'
import { type Frame, linkButton, named, paragraph } from '../../pages/page.ts'
import type { PageTexts } from '../../pages/texts/index.ts'
import { passwordProblemOf } from '../../plugins/accounts/password-policy.ts'
import { frameFor, sendPage } from '../../plugins/browser/send-page.ts'
import { noteRefusal } from '../../plugins/http/errors.ts'

export { frameFor, sendPage }

/**
 * Answers with a page that says that something did not work, and what to do next; notes why, for the log and for
 * `latchkey explain`.
 *
 * @param of `app`: what an app has asked for in the browser, which must not be sent back to it; the page has the words
 *   of the error, for whoever runs the app
 */
export function sendError(reply: FastifyReply, refusal: Refusal, of?: 'app'): FastifyReply {
  noteRefusal(reply, refusal)
  reply.headers(refusal.headers)
  const { code, statusCode, oauthCode, detail } = refusal
  const { texts } = frameFor(reply.request)
  if (code === 'foreign_form') return sendWords(reply, texts.foreign, statusCode)
  const isOfApp = of === 'app' && statusCode < 500 && statusCode !== 429
  const body = [
    paragraph(isOfApp ? texts.appFailed.text : wordsFor(refusal, texts)),
    isOfApp && html`<p class="what" lang="en"><code>${oauthCode}: ${detail}</code></p>`,
    (isOfApp || (statusCode >= 500 && statusCode !== 503)) && named(reply.request.id),
  ]
  return sendPage(reply, { title: isOfApp ? texts.appFailed.title : texts.failed.title, body }, statusCode)
}

function wordsFor(refusal: Refusal, { wait, busy, failed: { missing, inside, unreadable } }: PageTexts): string {
  const { statusCode } = refusal
  if (statusCode === 429) return wait(minutesOf(refusal))
  if (statusCode === 503) return busy
  if (statusCode === 404) return missing
  return statusCode >= 500 ? inside : unreadable
}

/** A page of a few words, on which nothing can be done. */
export const sendWords = (
  reply: FastifyReply,
  { title, text }: { title: string; text: string },
  status = 200,
  ...more: Content[]
): FastifyReply => sendPage(reply, { title, body: [paragraph(text), ...more] }, status)

const minutesOf = ({ headers }: Refusal): number => Math.ceil(Number(headers['retry-after'] ?? 60) / 60)

/** What a link was for, with the page where another may be had, if there is one. */
const ways = { reset: '/forgot', verify: undefined, undo: '/forgot', invitation: undefined } as const

/**
 * Says that a link is dead, and what to do next; not why, for a guess must not learn it. The status is that of
 * `invalid_code`.
 */
export function sendDeadLink(reply: FastifyReply, of: keyof typeof ways): FastifyReply {
  const { texts, linkTo } = frameFor(reply.request)
  const { title, why, ...next } = texts.dead
  const way = ways[of]
  const body = [
    paragraph(why),
    of !== 'reset' && paragraph(next[of]),
    way !== undefined && linkButton(linkTo(way), of === 'undo' ? texts.undo.next : next.reset),
  ]
  return sendPage(reply, { title, body }, 400)
}

/** The fields of a form; what a route does not know is ignored. */
export const fieldsOf = ({ body }: FastifyRequest): Record<string, string> => (body ?? {}) as Record<string, string>

/** A field of the query; of one that is repeated, none. */
export function queryOf({ query }: FastifyRequest, name: string): string {
  const value = (query as Record<string, unknown>)[name]
  return typeof value === 'string' ? value : ''
}

/** The field of a new password. */
export const passwordField = ({ texts }: Frame, least: number, name = 'new_password'): Field => ({
  ...{ name, type: 'password', autocomplete: 'new-password', minLength: least },
  label: name === 'password' ? texts.password : texts.newPassword,
  hint: texts.passwordHint(least),
})

/** What is wrong with a form that was sent, and the status to send it back with. */
export interface Returned {
  errors: FormErrors
  status: number
}

/** Fields that were left empty, where a browser did not hold its user to `required`. */
export function missingFields({ texts }: Frame, fields: Record<string, string>, names: string[]): Returned | undefined {
  const empty = names.filter((name) => (fields[name] ?? '').trim() === '')
  return empty.length === 0
    ? undefined
    : { status: 400, errors: Object.fromEntries(empty.map((name) => [name, texts.missing])) }
}

/**
 * What a person may put right in the form that was refused, in the language of the page.
 *
 * @throws whatever they cannot put right
 */
export function returnedFor(reply: FastifyReply, error: unknown): Returned {
  const { texts } = frameFor(reply.request)
  const errors =
    error instanceof Refusal ? errorsOf(error, texts, reply.request.server.config.AUTH_PASSWORD_MIN) : undefined
  if (!errors) throw error
  const refusal = error as Refusal
  noteRefusal(reply, refusal)
  reply.headers(refusal.headers)
  return { errors, status: refusal.statusCode }
}

function errorsOf(refusal: Refusal, texts: Frame['texts'], leastCharacters: number): FormErrors | undefined {
  const { code, errors: [invalid] = [], statusCode } = refusal
  const name = invalid?.pointer.slice(1) ?? ''
  if (statusCode === 429) return { '': texts.wait(minutesOf(refusal)) }
  if (statusCode === 503) return { '': texts.busy }
  if (code === 'username_taken') return { username: texts.usernameTaken }
  if (code !== 'invalid_request') return undefined
  if (name === 'username') return { username: texts.usernameRule }
  if (name === 'email') return { email: texts.emailRule }
  if (name === 'password' || name === 'new_password') {
    const words = texts.passwordProblems[passwordProblemOf(refusal)]
    return { [name]: typeof words === 'string' ? words : words(leastCharacters) }
  }
  return undefined
}
