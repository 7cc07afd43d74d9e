import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { freshForSeconds } from '../../../domain/authentication.ts'
import { lacksFactor } from '../../../domain/factor.ts'
import type { Browser } from '../../../plugins/browser/browser-sessions.ts'
import activityPage from './activity.ts'
import appsPage from './apps.ts'
import authenticatorAppPage from './authenticator-app.ts'
import deletionPage from './deletion.ts'
import emailPage from './email.ts'
import exportPage from './export.ts'
import factorsPage from './factors.ts'
import { NotFresh } from './form.ts'
import overviewPage from './overview.ts'
import passkeysPage from './passkeys.ts'
import passwordPage from './password.ts'
import recoveryCodesPage from './recovery-codes.ts'
import sessionsPage from './sessions.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** who is signed in, on the pages of the account */
    browser: Browser
  }
}

/** It goes along with the sign-in, in a URL. */
const mostQuery = 200

/**
 * What people see and change of their own account, by what the JSON routes use. Each form is sent to the page that it
 * stands on, so that whoever has to sign in first comes back to it.
 */
const plugin: FastifyPluginAsync = async (app) => {
  const { config, authorization, browserSessions, forms } = app
  const pathOf = (request: FastifyRequest) => request.routeOptions.url as string
  /** The page that somebody is to come back to, with a query of ours. */
  function pageOf(request: FastifyRequest): string {
    const [, query = ''] = request.method === 'POST' ? [] : request.url.split('?', 2)
    return pathOf(request) + (query === '' || query.length > mostQuery ? '' : `?${query}`)
  }

  const browsers = Symbol('browser')
  app.decorateRequest(browsers, null)
  app.decorateRequest('browser', {
    getter() {
      return (this as unknown as Record<symbol, Browser>)[browsers] as Browser
    },
  })
  app.addHook('preHandler', async (request, reply) => {
    const browser = await browserSessions.of(request)
    // A factor that AUTH_MFA demands by now is added on the way.
    if (!browser || lacksFactor(browser.user, config.AUTH_MFA))
      return authorization.signInFor(request, reply, { to: pageOf(request) })
    if (request.method === 'POST') await forms.check(request, pathOf(request))
    Object.assign(request, { [browsers]: browser })
    return undefined
  })
  app.setErrorHandler((error, request, reply) => {
    if (!(error instanceof NotFresh)) throw error
    const needed = { maxAgeSeconds: freshForSeconds, needsHighest: true as const }
    return authorization.signInFor(request, reply, { to: pageOf(request), ...needed })
  })

  await app.register(overviewPage)
  await app.register(passwordPage)
  if (app.mail.isOn) await app.register(emailPage)
  await app.register(factorsPage)
  await app.register(authenticatorAppPage)
  if (app.passkeys.isOn) await app.register(passkeysPage)
  await app.register(recoveryCodesPage)
  await app.register(sessionsPage)
  await app.register(appsPage)
  await app.register(activityPage)
  await app.register(exportPage)
  await app.register(deletionPage)
}

export default plugin
