import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { renderForm } from '../../pages/form.ts'
import { linkButton, named, paragraph } from '../../pages/page.ts'
import type { Browser } from '../../plugins/browser/browser-sessions.ts'
import { type SignOutPlan, type SignOutRequest, signOutParameters } from '../../plugins/logout/sign-outs.ts'
import { fieldsOf, frameFor, sendPage } from './answers.ts'

const path = '/sign-out'

/**
 * Signing out in this browser, on one's own or by an app: OpenID Connect RP-Initiated Logout 1.0. An app sends the
 * browser here by a link or a form, from its own site; whoever is signed in is asked, unless it has shown by an ID token
 * that it is their app.
 */
const plugin: FastifyPluginAsync = async (app) => {
  const { browserSessions, forms, signOuts } = app

  async function signOut(request: FastifyRequest, reply: FastifyReply, asked: SignOutRequest, isConfirmed = false) {
    const browser = await browserSessions.of(request)
    const plan = await signOuts.judge(asked, browser)
    if (browser && !plan.isSure && !isConfirmed) return sendQuestion(request, reply, asked, plan, browser)
    if (browser) await browserSessions.end(request, reply)
    return plan.sendTo === undefined ? sendDone(reply, plan) : reply.redirect(plan.sendTo, 303)
  }

  // Without HEAD, for it acts.
  app.get(path, { schema: { hide: true }, exposeHeadRoute: false }, async (request, reply) =>
    signOut(request, reply, readAsked(request.query)),
  )

  app.post(path, { schema: { hide: true }, config: { isForAnySite: true } }, async (request, reply) => {
    const asked = readAsked(request.body)
    if ('csrf' in fieldsOf(request)) {
      forms.check(request, path)
      return signOut(request, reply, asked, true)
    }
    if (await browserSessions.of(request)) return signOut(request, reply, asked)
    // A form of another site comes without our cookie, which is SameSite=Lax; a link has it.
    return reply.redirect(`${app.publicPath}${path}?${new URLSearchParams({ ...asked, ...localesOf(request) })}`, 303)
  })

  function sendQuestion(
    request: FastifyRequest,
    reply: FastifyReply,
    asked: SignOutRequest,
    { client, formTargets, problem }: SignOutPlan,
    { user }: Browser,
  ): FastifyReply {
    const frame = frameFor(request)
    const { title, account, byApp, what, button, stay, notBack } = frame.texts.signOut
    const form = { action: frame.linkTo(path), hidden: { ...asked, ...forms.hidden(request, reply, path) }, button }
    const body = [
      client && [paragraph(byApp), named(client.name ?? client.id)],
      paragraph(account),
      named(user.username),
      paragraph(what),
      problem !== undefined && [paragraph(notBack), named(problem)],
      renderForm(frame, form),
      linkButton(frame.linkTo('/account'), stay, 'plain'),
    ]
    return sendPage(reply, { title, body, formTargets })
  }

  function sendDone(reply: FastifyReply, { back, problem }: SignOutPlan): FastifyReply {
    const frame = frameFor(reply.request)
    const { doneTitle, done, toApp, again, notBack } = frame.texts.signOut
    const body = [
      paragraph(done),
      problem !== undefined && [paragraph(notBack), named(problem)],
      back && [named(back.client.name ?? back.client.id), linkButton(back.url, toApp)],
      linkButton(frame.linkTo('/sign-in'), again, 'plain'),
    ]
    return sendPage(reply, { title: doneTitle, body })
  }
}

/** What an app has sent, as one text each; what is empty or repeated is as if it was not there. */
function readAsked(parameters: unknown): SignOutRequest {
  const sent = (parameters ?? {}) as Record<string, unknown>
  const texts = signOutParameters
    .map((name) => [name, sent[name]])
    .filter(([, value]) => typeof value === 'string' && value !== '')
  return Object.fromEntries(texts)
}

const localesOf = (request: FastifyRequest): Record<string, string> => {
  const { ui_locales } = fieldsOf(request)
  return ui_locales === undefined ? {} : { ui_locales }
}

export default plugin
