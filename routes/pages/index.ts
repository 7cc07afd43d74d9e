import cookie from '@fastify/cookie'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { checked } from '../../domain/checks.ts'
import { Refusal } from '../../errors.ts'
import { named, paragraph } from '../../pages/page.ts'
import { style, styleName } from '../../pages/style.ts'
import { noteRefusal, toRefusal } from '../../plugins/http/errors.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import { frameFor, sendPage } from './answers.ts'
import authorizeRoute from './authorize.ts'
import emailPages from './emails.ts'
import forgotPage from './forgot.ts'
import resetPage from './reset.ts'
import signUpPage from './sign-up.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** a form that any site may send here: it does nothing by itself */
    isForAnySite?: true
  }
}

const keptForSeconds = 365 * 86_400

/**
 * The pages that links in mails open. GET and HEAD change nothing, for mail scanners follow links: a page has a form,
 * and its POST acts, by the same plugins as the JSON routes. They need no cookie, for whoever has the link may act.
 */
const plugin: FastifyPluginAsync = async (app) => {
  const { config, mail } = app
  const ownOrigins = [config.AUTH_ISSUER, config.AUTH_PAGES_URL].map((url) => url && new URL(url).origin)

  /**
   * A form has to be sent from a page of ours. Browsers that do not say where from send no `Origin` either, or, as our
   * pages have `no-referrer`, `null` (Fetch, "append a request Origin header").
   */
  function refuseForeign({ headers }: FastifyRequest): void {
    const { origin, 'sec-fetch-site': site } = headers
    const isOwn = (site ?? 'same-origin') === 'same-origin'
    if (isOwn && (origin === undefined || origin === 'null' || ownOrigins.includes(origin))) return
    const seen = `${origin ?? 'no Origin'}, ${site ?? 'no Sec-Fetch-Site'}`.slice(0, 200)
    throw new Refusal('foreign_form', { checks: [checked('form_origin', seen, 'same-origin')] })
  }

  app.addHook('onRequest', async (request) => {
    if (request.method === 'POST' && !request.routeOptions.config.isForAnySite) refuseForeign(request)
  })
  await app.register(cookie)
  await acceptForms(app)
  app.setErrorHandler((error, request, reply) => {
    const refusal = toRefusal(error, request)
    noteRefusal(reply, refusal)
    return sendFailure(reply.headers(refusal.headers), refusal)
  })

  app.get<{ Params: { name: string } }>('/pages/:name', { schema: { hide: true } }, async ({ params }, reply) => {
    // A replica of another release may have sent the page: it gets this style, and does not keep it.
    if (!params.name.endsWith('.css')) throw new Refusal('not_found')
    const caching = params.name === styleName ? `public, max-age=${keptForSeconds}, immutable` : 'no-store'
    return reply.header('cache-control', caching).type('text/css; charset=utf-8').send(style)
  })
  await app.register(authorizeRoute)
  await app.register(signUpPage)
  if (!mail.isOn) return
  await app.register(forgotPage)
  await app.register(resetPage)
  await app.register(emailPages)
}

/** What cannot be put right in a form. */
function sendFailure(reply: FastifyReply, { code, statusCode }: Refusal): FastifyReply {
  const { texts } = frameFor(reply.request)
  if (code === 'foreign_form') {
    const { title, text } = texts.foreign
    return sendPage(reply, { title, body: paragraph(text) }, statusCode)
  }
  const { title, unreadable, missing, inside } = texts.failed
  const words = statusCode === 503 ? texts.busy : statusCode === 404 ? missing : statusCode >= 500 ? inside : unreadable
  const body = [paragraph(words), words === inside && named(reply.request.id)]
  return sendPage(reply, { title, body }, statusCode)
}

export default plugin
