import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { acrOf, twoFactors } from '../../domain/authentication.ts'
import { checked } from '../../domain/checks.ts'
import { asksConsent, type Client, clientBirth, remembersConsent } from '../../domain/client.ts'
import { formTargetsOf } from '../../domain/form-targets.ts'
import { mayHaveScope } from '../../domain/grant.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { isRegistered } from '../../domain/redirect-uri.ts'
import { elapsedMs, isFuture } from '../../domain/time.ts'
import { whyNoTokens } from '../../domain/user.ts'
import { type ErrorCode, Refusal } from '../../errors.ts'
import type { Browser } from '../browser/browser-sessions.ts'
import { createAnswers } from './answers.ts'
import { sendFormPost } from './form-post.ts'
import { type AuthorizationRequest, createPending, type PageRequest, type Pending } from './pending.ts'
import { createRequestReader } from './request.ts'

declare module 'fastify' {
  interface FastifyInstance {
    authorization: ReturnType<typeof createAuthorization>
  }
}

/** What the user has done about a request a moment ago. */
export interface Done {
  /** allowed it */
  consented?: boolean
}

const needsHighest = ({ needsHighest: isAsked }: PageRequest, { user }: Browser): boolean =>
  isAsked === true && user.hasFactors === true

const needsSecond = ({ factor }: AuthorizationRequest, { user }: Browser): boolean =>
  factor === 'always' || (factor === 'if_possible' && user.hasFactors === true)

/** Requests for authorization, and what comes next in each: a page, or the answer to the app. */
function createAuthorization(
  app: Pick<
    FastifyInstance,
    'config' | 'publicPath' | 'secrets' | 'cookies' | 'clientMetadata' | 'codes' | 'consents' | 'idTokens' | 'now'
  >,
) {
  const { config, publicPath, clientMetadata, codes, consents, now } = app
  const pendings = createPending(app)
  const { answer, refuse } = createAnswers(app, sendFormPost)
  const reader = createRequestReader(app)

  /** Leads to a page of ours that goes on with a request, in the language that the request names. */
  function leadTo(request: FastifyRequest, reply: FastifyReply, path: string, pending: Pending): FastifyReply {
    const query = new URLSearchParams({ request: pendings.seal(request, reply, pending) })
    const { ui_locales: locales } = (request.query ?? {}) as { ui_locales?: unknown }
    if (typeof locales === 'string' && locales.length < 100) query.set('ui_locales', locales)
    return reply.redirect(`${publicPath}${path}?${query}`, 303)
  }

  /** Whether the sign-in is as recent as it was to be when it was asked for. */
  function isRecent({ session }: Browser, { askedAt, maxAgeSeconds }: Pending, anew: boolean): boolean {
    const { authAt } = session
    // By a clock that was ahead: it would be later than every request to come.
    if ((anew || maxAgeSeconds !== undefined) && isFuture(authAt, now())) return false
    if (anew && authAt < askedAt) return false
    if (maxAgeSeconds === undefined) return true
    return authAt >= askedAt || elapsedMs(authAt, askedAt) < maxAgeSeconds * 1000
  }

  /** Whether what the user has shown is enough for a token now. */
  function isEnough({ session, user }: Browser, needsSecondLevel: boolean): boolean {
    const { generation, factor } = session
    if (whyNoTokens(user, { generation, factor, mfa: config.AUTH_MFA }) !== undefined) return false
    return !needsSecondLevel || acrOf(session, now(), config.AUTH_STEP_UP_TTL.ms) === twoFactors
  }

  function goOnToPage(request: FastifyRequest, reply: FastifyReply, page: PageRequest, browser: Browser | undefined) {
    const isIn = browser && isRecent(browser, page, false) && isEnough(browser, needsHighest(page, browser))
    return isIn ? reply.redirect(`${publicPath}${page.to}`, 303) : leadTo(request, reply, '/sign-in', page)
  }

  /**
   * The client of a request that was good when it came.
   *
   * @throws {Refusal} where the client has gone since, or its redirect_uri, which may be somebody else's by now
   */
  async function clientOf({ clientId, clientCreatedAt, redirectUri }: AuthorizationRequest): Promise<Client> {
    const client = await clientMetadata.find(clientId)
    const isThere = client && client.disabledAt === undefined && clientBirth(client) === clientCreatedAt
    if (isThere && isRegistered(client, redirectUri)) return client
    throw new Refusal('invalid_request', {
      detail: 'The client is gone, or the redirect_uri is none of its any more',
      checks: [isThere ? checked('redirect_uri', redirectUri) : checked('client', 'gone or disabled')],
    })
  }

  async function goOnToApp(
    request: FastifyRequest,
    reply: FastifyReply,
    asked: AuthorizationRequest,
    browser: Browser | undefined,
    { consented = false }: Done,
  ): Promise<FastifyReply> {
    const { prompt } = asked
    const client = await clientOf(asked)
    const isSilent = prompt.includes('none')
    const no = (code: ErrorCode, detail: string, seen: string) =>
      refuse(
        reply,
        asked,
        new Refusal(code, {
          detail,
          checks: [
            checked(code === 'consent_required' ? 'consent' : 'browser_session', seen),
            checked('client', client.id),
          ],
        }),
      )

    const anew = prompt.includes('login') || prompt.includes('select_account') || prompt.includes('create')
    const isOther = browser !== undefined && asked.hintSub !== undefined && asked.hintSub !== browser.user.id
    const isIn = browser !== undefined && !isOther && isRecent(browser, asked, anew)
    if (!isIn || !isEnough(browser, needsSecond(asked, browser))) {
      if (isSilent) {
        const [seen, code] = !browser
          ? (['nobody is signed in', 'login_required'] as const)
          : isOther
            ? (['another than the id_token_hint names', 'login_required'] as const)
            : !isIn
              ? (['signed in too long ago', 'login_required'] as const)
              : (['a factor has to be shown', 'interaction_required'] as const)
        return no(code, 'The user has to sign in, which prompt=none does not let them', seen)
      }
      // Whoever has signed in for this very request, and is another than it is for: it would be asked for ever.
      if (isOther && browser.session.authAt >= asked.askedAt)
        return no('login_required', 'Another user has signed in than the id_token_hint names', 'another user')
      return leadTo(request, reply, prompt.includes('create') ? '/sign-up' : '/sign-in', asked)
    }

    const { user, session } = browser
    const scope = asked.scope.filter((name) => mayHaveScope(user, [name]))
    if (asksConsent(client) && !consented) {
      const mayBeGiven = !prompt.includes('consent') && remembersConsent(client)
      const isGiven = mayBeGiven && (await consents.covers(user.id, client, scope))
      if (!isGiven && isSilent)
        return no('consent_required', 'The user has to be asked, which prompt=none forbids', 'has not allowed this')
      if (!isGiven) return leadTo(request, reply, '/consent', asked)
    }
    if (consented) await consents.give(request.caller, user, client, scope)
    const { id, authAt, amr, factor } = session
    const code = await codes.issue(request.caller, client, {
      userId: user.id,
      generation: session.generation,
      granted: { scope, aud: asked.aud },
      authentication: { authAt, amr, ...(factor !== undefined && { factor }) },
      browser: { id, address: request.caller.address, userAgent: request.caller.userAgent },
      redirectUri: asked.redirectUri,
      ...(asksConsent(client) && { isConsented: true }),
      ...omitUndefined({
        codeChallenge: asked.codeChallenge,
        nonce: asked.nonce,
        idTokenClaims: asked.idTokenClaims,
      }),
    })
    return answer(reply, asked, { code })
  }

  return {
    ...pendings,
    ...reader,
    refuse,

    /** Sends whoever is not signed in, or not recently enough, to sign in, and from there to a page of ours. */
    signInFor: (
      request: FastifyRequest,
      reply: FastifyReply,
      page: Omit<PageRequest, 'kind' | 'askedAt'>,
    ): FastifyReply => leadTo(request, reply, '/sign-in', { kind: 'page', askedAt: now(), ...page }),

    /** What comes next: another page, or the answer to the app, or the page that somebody has signed in for. */
    goOn: async (
      request: FastifyRequest,
      reply: FastifyReply,
      pending: Pending,
      browser: Browser | undefined,
      done: Done = {},
    ): Promise<FastifyReply> =>
      pending.kind === 'page'
        ? goOnToPage(request, reply, pending, browser)
        : goOnToApp(request, reply, pending, browser, done),

    /** Whether whoever is signed in need not sign in again, once they have said that it is them. */
    mayContinue: (pending: Pending, browser: Browser): boolean => {
      if (pending.kind === 'page')
        return isRecent(browser, pending, false) && isEnough(browser, needsHighest(pending, browser))
      const isOther = pending.hintSub !== undefined && pending.hintSub !== browser.user.id
      const isRecentEnough = isRecent(browser, pending, pending.prompt.includes('login'))
      return !isOther && isRecentEnough && isEnough(browser, needsSecond(pending, browser))
    },

    /** The user has said that they are whom the browser says, where the request has them choose. */
    chosen: (pending: Pending): Pending =>
      pending.kind === 'page'
        ? pending
        : { ...pending, prompt: pending.prompt.filter((name) => name !== 'select_account' && name !== 'create') },

    /** The user does not allow it. */
    deny: (reply: FastifyReply, asked: AuthorizationRequest): FastifyReply =>
      refuse(
        reply,
        asked,
        new Refusal('access_denied', { detail: 'The user has not allowed it', checks: [checked('consent', 'denied')] }),
      ),

    /** Where forms of the pages on the way may lead to, for `form-action`. */
    formTargets: (pending: Pending | undefined): string[] =>
      pending?.kind === 'authorization' ? formTargetsOf(pending.redirectUri) : [],

    clientOf,
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('authorization', createAuthorization(app))
  },
  {
    name: 'authorization',
    dependencies: ['secrets', 'forms', 'client-metadata', 'codes', 'consents', 'id-tokens'],
  },
)
