import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { AccessTokenClaims } from '../../domain/access-token.ts'
import {
  type Acr,
  type Amr,
  type Authentication,
  acrOf,
  authTimeOf,
  freshForSeconds,
  isWithin,
  twoFactors,
} from '../../domain/authentication.ts'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import { type Client, clientBirth } from '../../domain/client.ts'
import { lacksFactor } from '../../domain/factor.ts'
import { type Granted, mayHaveScope, parseScope } from '../../domain/grant.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { authenticationOf, isOfClient, type Session } from '../../domain/session.ts'
import { mayHaveTokens, type User } from '../../domain/user.ts'
import { adminScopeRefused, Refusal } from '../../errors.ts'
import { isOver, sessionLives } from '../sessions/lives.ts'
import { createAsking } from './asking.ts'
import { createAuthSessions, type Flow } from './auth-sessions.ts'
import type { Authorized } from './codes.ts'
import { createJudging, type Right, type Shown, type Wrong } from './judging.ts'

declare module 'fastify' {
  interface FastifyInstance {
    challenges: ReturnType<typeof createChallenges>
  }
}

const noPasskeys = () => new Refusal('invalid_request', { detail: 'There are no passkeys here' })

/** What a step-up asks for. */
export interface Demands {
  acr?: Acr
  maxAgeSeconds?: number
}

/**
 * Sign-ins of several steps, by draft-ietf-oauth-first-party-apps: until the last one there is an `auth_session`, and
 * nothing that opens anything; then an authorization code.
 */
function createChallenges(
  app: Pick<
    FastifyInstance,
    | 'config'
    | 'store'
    | 'secrets'
    | 'signIn'
    | 'throttle'
    | 'factors'
    | 'passkeys'
    | 'codes'
    | 'mail'
    | 'events'
    | 'now'
  >,
) {
  const { config, store, signIn, passkeys, codes, events, now } = app
  const authSessions = createAuthSessions(app)
  const ask = createAsking(app, authSessions)
  const counts = { begun: 0, finished: 0 }
  const judge = createJudging(app)

  /** The code of a sign-in. @param authentication left out for a mere password @param more what is said of the code */
  const authorize = (
    caller: Caller,
    client: Client,
    flow: Flow,
    user: User,
    authentication?: Authentication,
    more?: Pick<Authorized, 'lastsUntil'>,
  ) =>
    codes.issue(caller, client, {
      userId: user.id,
      generation: flow.generation ?? user.generation,
      granted: flow.granted,
      ...omitUndefined({ authentication, codeChallenge: flow.codeChallenge, session: flow.session }),
      ...more,
    })

  /** The answer to whoever has signed in. */
  async function finish(caller: Caller, client: Client, flow: Flow, { user, amr, factor }: Right): Promise<string> {
    const isNew = flow.session === undefined
    // A session that is raised has what its user may still have.
    if (isNew && !mayHaveScope(user, flow.granted.scope)) throw adminScopeRefused(user.roles)
    if (isNew && factor === undefined) return authorize(caller, client, flow, user)
    const methods = [...new Set([...(flow.amr ?? []), ...amr])]
    const of = factor === undefined ? { amr: methods } : { amr: [...methods, 'mfa' as const], factor }
    return authorize(caller, client, flow, user, { authAt: now(), ...of })
  }

  const ofUser = (flow: Flow, user: User, amr: Amr[] | undefined): Flow => ({
    ...flow,
    userId: user.id,
    generation: user.generation,
    ...(amr && { amr }),
  })
  const begin = (granted: Granted, codeChallenge: string | undefined): Flow => ({
    ...authSessions.newFlow(granted),
    ...(codeChallenge !== undefined && { codeChallenge }),
  })

  /** As `ask`, of a sign-in that begins. */
  const askFirst: typeof ask = (...of) => {
    counts.begun += 1
    return ask(...of)
  }

  return {
    /** Sign-ins of several steps, and how many of them came to an end. */
    counts,

    /** What `/token` answers where a password was right and more is needed. */
    afterPassword: (caller: Caller, client: Client, user: User, granted: Granted): Promise<Refusal> =>
      askFirst(caller, client, ofUser(begin(granted, undefined), user, ['pwd']), user, { status: 403 }),

    /** A session that may not be refreshed before its user has a factor. */
    toGoOn: (
      caller: Caller,
      client: Client,
      { user, session }: { user: User; session: Session },
      aud: Granted['aud'],
    ): Promise<Refusal> => {
      const flow = { ...begin({ scope: session.scope, aud }, undefined), session: session.id }
      return askFirst(caller, client, ofUser(flow, user, undefined), user, { status: 403 })
    },

    /**
     * Begins by a password. @returns an authorization code
     *
     * @throws {Refusal} `insufficient_authorization` with what is needed; `invalid_grant`; 429; 503
     */
    async byPassword(
      caller: Caller,
      client: Client,
      { username, password }: { username: string; password: string },
      { granted, acr, codeChallenge }: Pick<Demands, 'acr'> & { granted: Granted; codeChallenge?: string },
    ): Promise<string> {
      const step = await signIn.withPassword(caller, username, password)
      const user = 'done' in step ? step.done.user : step.needs
      const needsFactor = acr === twoFactors
      const flow = ofUser({ ...begin(granted, codeChallenge), needsFactor }, user, ['pwd'])
      if ('done' in step && !needsFactor) return finish(caller, client, flow, { user, amr: [] })
      throw await askFirst(caller, client, flow, user)
    },

    /** Begins by a passkey: whose it is shows when it has signed. @returns the refusal with the options */
    byPasskey: (caller: Caller, client: Client, granted: Granted, codeChallenge?: string): Promise<Refusal> => {
      if (!passkeys.isOn) throw noPasskeys()
      return askFirst(caller, client, begin(granted, codeChallenge), undefined)
    },

    /**
     * Begins a step-up of the session of an access token, RFC 9470. @returns an authorization code, where the session is
     * good enough as it is: for an access token that is no more than the one that came
     *
     * @throws {Refusal} `insufficient_authorization` with what is needed; `invalid_grant` for a token that stands for no
     * session of this client
     */
    async stepUp(
      caller: Caller,
      client: Client,
      { sid, sub, act, scope = '', exp }: AccessTokenClaims,
      { aud, acr: asked, maxAgeSeconds, codeChallenge }: Demands & { aud: Granted['aud']; codeChallenge?: string },
    ): Promise<string> {
      const [session, user] = await Promise.all([
        sid === undefined ? undefined : store.findSession(sid),
        store.findUser(sub),
      ])
      const isIts = session?.userId === sub && isOfClient(session, client.id, clientBirth(client)) && act === undefined
      const isGone = !isIts || (await isOver(session, store, { now: now(), ...sessionLives(config) }))
      if (isGone || !mayHaveTokens(user, session.generation)) {
        throw new Refusal('invalid_grant', {
          detail: 'The access token stands for no session of this client',
          checks: [checked('session', 'it has ended or expired, or is of another client or of a user who is gone')],
        })
      }
      const authentication = authenticationOf(session)
      // One that AUTH_MFA demands is asked for now: without it the code would give nothing.
      const acr = lacksFactor(user, config.AUTH_MFA)
        ? twoFactors
        : (asked ?? (user.hasFactors ? twoFactors : undefined))
      const isHigh = acrOf(authentication, now(), config.AUTH_STEP_UP_TTL.ms) === twoFactors
      const needsFactor = acr === twoFactors && !isHigh
      // A factor may be added by whoever has just signed in only, or a stolen token would do.
      const mostSeconds = needsFactor && !user.hasFactors ? freshForSeconds : Number.POSITIVE_INFINITY
      const isFresh =
        maxAgeSeconds !== 0 &&
        isWithin(authTimeOf(authentication) * 1000, Math.min(maxAgeSeconds ?? mostSeconds, mostSeconds) * 1000, now())
      const flow: Flow = {
        ...begin({ scope: parseScope(scope) ?? [], aud }, codeChallenge),
        ...{ session: session.id, needsFactor: acr === twoFactors },
      }
      if (isFresh && !needsFactor) return authorize(caller, client, flow, user, authentication, { lastsUntil: exp })
      const amr = authentication.amr.filter((method) => method !== 'mfa')
      throw await askFirst(caller, client, ofUser(flow, user, isFresh ? amr : undefined), user)
    },

    /**
     * Goes on with a sign-in. @returns an authorization code
     *
     * @throws {Refusal} `insufficient_authorization` with a new `auth_session`, also for what was wrong;
     * `invalid_session`; 429
     */
    async goOn(
      caller: Caller,
      client: Client,
      value: string,
      shown: Shown,
      codeChallenge: string | undefined,
    ): Promise<string> {
      if ('enroll' in shown && shown.enroll === 'webauthn' && !passkeys.isOn) throw noPasskeys()
      const taken = await authSessions.take(client, value)
      const before = taken.userId === undefined ? undefined : await store.findUser(taken.userId)
      if (taken.userId !== undefined && !mayHaveTokens(before, taken.generation))
        throw authSessions.gone('its user has changed, or may not have tokens')
      const needsFactor = taken.needsFactor || (before !== undefined && lacksFactor(before, config.AUTH_MFA))
      if (before && taken.amr && !before.hasFactors && !needsFactor) throw authSessions.gone('the factor is gone')
      if (codeChallenge !== undefined && taken.codeChallenge !== undefined && codeChallenge !== taken.codeChallenge)
        throw new Refusal('invalid_request', { detail: 'The code_challenge is another than before' })
      const { enrolling, ...rest } = taken
      const flow: Flow = {
        ...rest,
        ...(codeChallenge !== undefined && { codeChallenge }),
        // Where a factor was added meanwhile, that is the one to show.
        ...(enrolling && !before?.hasFactors && { enrolling }),
      }
      const judged = await judge(caller, flow, before, shown)
      if ('enrolling' in judged) throw await ask(caller, client, { ...flow, ...judged }, before)
      const refuse = async (failed: Wrong): Promise<Refusal> => {
        const { wrong, user } = failed
        events.emit(caller, 'login.failed', { reason: wrong, ...(user && { sub: user.id }), address: caller.address })
        return ask(caller, client, { ...flow, misses: flow.misses + 1 }, before, { failed })
      }
      if ('wrong' in judged) throw await refuse(judged)
      const { right } = judged
      const next = ofUser(flow, right.user, undefined)
      const isEnough = right.factor !== undefined || !(right.user.hasFactors || needsFactor)
      if (!isEnough) throw await ask(caller, client, { ...next, amr: right.amr }, right.user)
      // Before anything is spent for it: a store that fails now takes no recovery code from anybody.
      const code = await finish(caller, client, next, right)
      const lost = await right.spend?.()
      if (lost) throw await refuse(lost)
      counts.finished += 1
      return code
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('challenges', createChallenges(app))
  },
  {
    name: 'challenges',
    dependencies: ['store', 'secrets', 'sign-in', 'throttle', 'factors', 'passkeys', 'codes', 'mail', 'events'],
  },
)
