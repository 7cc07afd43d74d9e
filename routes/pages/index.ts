import cookie from '@fastify/cookie'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { checked } from '../../domain/checks.ts'
import { Refusal } from '../../errors.ts'
import { styleSheet } from '../../pages/assets.ts'
import { toRefusal } from '../../plugins/http/errors.ts'
import { acceptForms } from '../../plugins/http/form.ts'
import accountPages from './account/index.ts'
import { sendError } from './answers.ts'
import authorizeRoute from './authorize.ts'
import consentPage from './consent.ts'
import devicePage from './device.ts'
import emailPages from './emails.ts'
import forgotPage from './forgot.ts'
import resetPage from './reset.ts'
import signInPage from './sign-in.ts'
import signOutPage from './sign-out.ts'
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
  const { config, publicPath, mail } = app
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
  app.setErrorHandler((error, request, reply) => sendError(reply, toRefusal(error, request)))

  app.get<{ Params: { name: string } }>('/pages/:name', { schema: { hide: true } }, async ({ params }, reply) => {
    const asset = app.pageAssets.get(params.name)
    // A replica of another release may have sent the page: it gets this style, and does not keep it.
    const { type, body } = asset ?? (params.name.endsWith('.css') ? styleSheet : missing())
    const caching = asset ? `public, max-age=${keptForSeconds}, immutable` : 'no-store'
    // By itself in a window, a picture may do nothing.
    const policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return reply.headers({ 'cache-control': caching, 'content-security-policy': policy }).type(type).send(body)
  })
  await app.register(authorizeRoute)
  await app.register(accountPages)
  app.get('/', { schema: { hide: true } }, async (_request, reply) => reply.redirect(`${publicPath}/account`, 303))
  await app.register(signInPage)
  await app.register(signOutPage)
  await app.register(signUpPage)
  await app.register(consentPage)
  await app.register(devicePage)
  if (!mail.isOn) return
  await app.register(forgotPage)
  await app.register(resetPage)
  await app.register(emailPages)
}

function missing(): never {
  throw new Refusal('not_found')
}

export default plugin
