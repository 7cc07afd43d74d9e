import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { AccessTokenClaims } from '../../domain/access-token.ts'
import { acrOf } from '../../domain/authentication.ts'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import { type Client, clientBirth } from '../../domain/client.ts'
import { type Granted, mayHaveScope } from '../../domain/grant.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { authenticationOf, isCurrent, isOfClient, type Session, type SessionLimits } from '../../domain/session.ts'
import { type User, whyNoTokens } from '../../domain/user.ts'
import { adminScopeRefused, Refusal } from '../../errors.ts'
import type { TokenResponse } from '../../schemas/oauth.ts'
import type { Authorized } from '../factors/codes.ts'
import type { SignedIn } from '../login/sign-in.ts'
import { type Asked, createAnswers } from './answers.ts'
import { isOver, sessionLives } from './lives.ts'
import { createRefreshing } from './refreshing.ts'

declare module 'fastify' {
  interface FastifyInstance {
    sessions: ReturnType<typeof createSessions>
  }
}

/**
 * Sessions: opened by a login, kept alive by refreshing, ended. Each is one row for its whole life, and its refresh
 * tokens are numbers with a MAC; what a presented one means is decided by the store in one step (`judgeRotation`).
 */
function createSessions(
  app: Pick<
    FastifyInstance,
    | 'config'
    | 'store'
    | 'changes'
    | 'challenges'
    | 'clients'
    | 'refreshTokens'
    | 'accessTokens'
    | 'idTokens'
    | 'revocations'
    | 'now'
    | 'leaps'
  >,
) {
  const { config, store, changes, clients, refreshTokens, revocations, now } = app
  const respond = createAnswers(app)
  const lives = sessionLives(config)

  const limits = (): SessionLimits => ({ now: now(), ...lives })

  /** Whether the client that opened a session is still there, and not another of the same id. */
  async function hasItsClient(session: Session): Promise<boolean> {
    const client = await clients.find(session.clientId)
    return client !== undefined && isOfClient(session, client.id, clientBirth(client))
  }

  /**
   * Opens a session for a user who has signed in.
   *
   * @param takingFor what is taken in the same step, for the session of an id
   * @param asked by the code that it is opened by
   * @returns undefined where the user went or changed meanwhile, or what is to be taken is gone
   * @throws {Refusal} `invalid_scope` for `admin` without the role
   */
  async function open(
    caller: Caller,
    { user, authentication }: SignedIn,
    client: Client,
    granted: Granted,
    takingFor?: (sid: string) => RecordTaking,
    asked?: Asked & Pick<Authorized, 'browser'>,
  ): Promise<TokenResponse | undefined> {
    const { scope } = granted
    const { browser } = asked ?? {}
    if (!mayHaveScope(user, scope)) throw adminScopeRefused(user.roles)
    // Whoever calls has asked the same; without it no session may be there.
    if (whyNoTokens(user, { factor: authentication?.factor, mfa: config.AUTH_MFA }) !== undefined) return undefined
    const openedAt = now()
    const birth = clientBirth(client)
    const session: Session = {
      id: randomUUID(),
      userId: user.id,
      clientId: client.id,
      ...(birth !== undefined && { clientCreatedAt: birth }),
      scope,
      generation: user.generation,
      counter: 0,
      createdAt: openedAt,
      refreshedAt: openedAt,
      // The person is where the browser is; the app may be a server elsewhere.
      address: browser?.address ?? caller.address,
      userAgent: browser?.userAgent ?? caller.userAgent,
      ...authentication,
      ...(browser && { parent: browser.id }),
    }
    const { id: sid, clientId: client_id, address } = session
    const opened = {
      ...{ sub: user.id, sid, client_id, address },
      ...(authentication && { amr: authentication.amr }),
      ...(browser && { browser: browser.id }),
    }
    const isOpen = await changes.make(caller, 'login.succeeded', opened, (store) =>
      store.createSession(session, takingFor?.(sid)),
    )
    return isOpen ? respond(user, client, session, granted, asked) : undefined
  }

  const authenticationNow = async (sid: string) => {
    const session = await store.findSession(sid)
    return session && authenticationOf(session)
  }

  /** Finds a session. Where there is none, the access tokens of one that ended a moment ago are refused by then. */
  async function find(id: string): Promise<Session | undefined> {
    const session = await store.findSession(id)
    if (!session) await revocations.pull()
    return session
  }

  /** Ends a session and refuses its access tokens. @returns false when the user has no such session */
  const end = (caller: Caller, id: string, userId: string): Promise<boolean> =>
    changes.make(caller, 'session.ended', { sub: userId, sid: id }, (store, end) => store.endSession(id, end(), userId))

  return {
    /**
     * Opens a session for a user who has just logged in.
     *
     * @throws {Refusal} `invalid_grant` when the user went meanwhile; `invalid_scope` for `admin` without the role
     */
    async open(caller: Caller, signedIn: SignedIn, client: Client, granted: Granted): Promise<TokenResponse> {
      const tokens = await open(caller, signedIn, client, granted)
      if (tokens) return tokens
      const { id } = signedIn.user
      throw new Refusal('invalid_grant', {
        detail: 'The username or password is wrong',
        reason: 'the user went or changed during the login',
        checks: [checked('account', `user ${id} went or changed during the login`)],
      })
    },

    /**
     * Opens the session of an authorization code, or raises the one of a step-up, which keeps its id and its refresh
     * tokens.
     *
     * @returns undefined where the user may not have tokens any more, or the code is spent
     */
    async openByCode(
      caller: Caller,
      client: Client,
      { authorized, takingFor }: { authorized: Authorized; takingFor(sid: string): RecordTaking },
    ): Promise<TokenResponse | undefined> {
      const { userId, generation, granted, authentication, session: sid, lastsUntil } = authorized
      const user = await store.findUser(userId)
      // A step-up gives its session the level that it shows, and no other.
      const factor = authentication?.factor ?? sid
      if (!user || whyNoTokens(user, { generation, factor, mfa: config.AUTH_MFA }) !== undefined) return undefined
      if (sid === undefined)
        return open(caller, omitUndefined({ user, authentication }), client, granted, takingFor, authorized)
      if (lastsUntil !== undefined && lastsUntil * 1000 <= now()) return undefined
      // Where nothing was shown the session stays as it is now: its user may have shown something meanwhile.
      const shown = lastsUntil === undefined ? authentication : await authenticationNow(sid)
      if (!shown) return undefined
      const raised = { ...shown, sessionId: sid }
      const acr = acrOf(raised, now(), config.AUTH_STEP_UP_TTL.ms)
      // Whoever has a token could have it told without end.
      const told = lastsUntil !== undefined ? () => undefined : { sub: userId, client_id: client.id, sid, acr }
      const isRaised = await changes.make(caller, 'session.raised', told, (store) =>
        store.raiseSession(raised, takingFor(sid)),
      )
      const session = isRaised ? await store.findSession(sid) : undefined
      if (!session || (await isOver(session, store, limits()))) return undefined
      return respond(user, client, session, granted, authorized)
    },

    refresh: createRefreshing(app, respond),

    /** The live sessions of a user, newest first; a page may be short of those whose client is gone. */
    async list(
      userId: string,
      page: { after?: string; limit: number },
    ): Promise<{ sessions: Session[]; next?: string }> {
      const listed = await store.listSessions(userId, limits(), page)
      const isLive = await Promise.all(listed.sessions.map(hasItsClient))
      return { ...listed, sessions: listed.sessions.filter((_, i) => isLive[i]) }
    },

    find,
    end,

    /**
     * The session that a refresh token stands for, while the token is good. For those who only ask: nothing comes of
     * it.
     */
    async findByRefreshToken(token: string): Promise<{ session: Session; user: User } | undefined> {
      const presented = refreshTokens.decode(token)
      const session = presented && (await store.findSession(presented.sessionId))
      if (!session || presented.counter < session.counter) return undefined
      if ((await isOver(session, store, limits())) || !(await hasItsClient(session))) return undefined
      const user = await store.findUser(session.userId)
      return isCurrent(session, user) ? { session, user } : undefined
    },

    /** Ends the session that a refresh token of this client belongs to. Any other text is ignored, RFC 7009 §2.2. */
    async endByRefreshToken(caller: Caller, token: string, client: Client): Promise<void> {
      const presented = refreshTokens.decode(token)
      const session = presented && (await find(presented.sessionId))
      const isOwn = session && isOfClient(session, client.id, clientBirth(client))
      if (isOwn) await end(caller, session.id, session.userId)
    },

    /** Refuses an access token from now on; the whole session, where many of its tokens were revoked one by one. */
    async revokeAccessToken(caller: Caller, claims: AccessTokenClaims): Promise<void> {
      const { sid, sub, jti, client_id } = claims
      const told = (outcome: boolean | 'many') => (outcome === true ? { sub, jti, client_id } : undefined)
      const outcome = await changes.make(caller, 'token.revoked', told, (store) =>
        revocations.revokeToken(store, claims),
      )
      if (outcome === 'many' && sid !== undefined && !(await end(caller, sid, sub)))
        await revocations.revokeSession(sid)
    },

    /** Ends all sessions of a user and refuses their access tokens. @returns false when there is no such user */
    endAll: (caller: Caller, userId: string): Promise<boolean> =>
      changes.make(caller, 'sessions.ended', { sub: userId }, (store, end) => store.endUserSessions(userId, end())),

    limits,
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('sessions', createSessions(app))
  },
  {
    name: 'sessions',
    dependencies: [
      'store',
      'changes',
      'challenges',
      'clients',
      'refresh-tokens',
      'access-tokens',
      'id-tokens',
      'revocations',
    ],
  },
)
