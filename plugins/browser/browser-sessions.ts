import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import {
  type Authentication,
  acrOf,
  freshForSeconds,
  lackOf,
  oneFactor,
  twoFactors,
} from '../../domain/authentication.ts'
import { type BrowserSession, isBrowserSessionOver } from '../../domain/browser-session.ts'
import type { Caller } from '../../domain/caller.ts'
import { pagesClient } from '../../domain/client.ts'
import type { UserFactors } from '../../domain/factor.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { mayHaveTokens, type User, whyNoTokens } from '../../domain/user.ts'
import { codeRefused } from '../factors/codes.ts'

declare module 'fastify' {
  interface FastifyInstance {
    browserSessions: ReturnType<typeof createBrowserSessions>
  }
}

/** Who is signed in in the browser of a request. */
export interface Browser {
  session: BrowserSession
  user: User
}

const idBytes = 16
const secretBytes = 32
/** How often it is written down that somebody was seen; a shorter idle time is judged more often. */
const seenEveryMs = 5 * 60_000

const hashOf = (secret: Buffer) => createHash('sha256').update(secret).digest('base64url')

/**
 * People who are signed in in a browser. The cookie has the id of the row and a secret, of which the row has the
 * SHA-256; each sign-in has another secret, so that a cookie that somebody has put there, or has seen before, is worth
 * nothing after it (session fixation).
 */
function createBrowserSessions({
  config,
  store,
  changes,
  codes,
  cookies,
  factors,
  now,
}: Pick<FastifyInstance, 'config' | 'store' | 'changes' | 'codes' | 'cookies' | 'factors' | 'now'>) {
  const limits = { idleTtlMs: config.AUTH_BROWSER_IDLE_TTL.ms, maxTtlMs: config.AUTH_BROWSER_MAX_TTL.ms }
  const seenAfterMs = Math.min(seenEveryMs, limits.idleTtlMs / 20)
  /** looked up once a request */
  const found = new WeakMap<FastifyRequest, Promise<Browser | undefined>>()

  function readCookie(request: FastifyRequest): { id: string; secret: Buffer } | undefined {
    const bytes = Buffer.from(cookies.read(request, 'session') ?? '', 'base64url')
    if (bytes.length !== idBytes + secretBytes) return undefined
    return { id: uuidOf(bytes.subarray(0, idBytes)), secret: bytes.subarray(idBytes) }
  }

  async function find(request: FastifyRequest): Promise<Browser | undefined> {
    const cookie = readCookie(request)
    const session = cookie && (await store.findBrowserSession(cookie.id))
    if (!session || !isSame(session.secretHash, hashOf(cookie.secret))) return undefined
    if (isBrowserSessionOver(session, limits, now())) return undefined
    const user = await store.findUser(session.userId)
    if (!mayHaveTokens(user, session.generation)) return undefined
    if (now() - session.seenAt >= seenAfterMs) await store.seeBrowserSession(session.id, now())
    return { session, user }
  }

  function of(request: FastifyRequest): Promise<Browser | undefined> {
    const known = found.get(request) ?? find(request)
    found.set(request, known)
    return known
  }

  function setCookie(reply: FastifyReply, { session, user }: Browser, secret: Buffer): Browser {
    const id = Buffer.from(session.id.replaceAll('-', ''), 'hex')
    const value = Buffer.concat([id, secret]).toString('base64url')
    cookies.write(reply, 'session', value, Math.floor((session.createdAt + limits.maxTtlMs - now()) / 1000))
    const browser = { session, user }
    found.set(reply.request, Promise.resolve(browser))
    return browser
  }

  const told = ({ id }: Pick<BrowserSession, 'id'>, user: User, amr: Authentication['amr'], address: string) => ({
    ...{ sub: user.id, browser: id, address, amr },
  })

  async function renew(
    reply: FastifyReply,
    { session, user }: Browser,
    authentication: Authentication,
    taking?: RecordTaking,
  ): Promise<Browser | undefined> {
    const { caller } = reply.request
    const secret = randomBytes(secretBytes)
    const { id, secretHash: expectedHash } = session
    const next = { ...authentication, secretHash: hashOf(secret), seenAt: now() }
    const members = told(session, user, authentication.amr, caller.address)
    const isRenewed = await changes.make(caller, 'browser.signed_in', members, (store) =>
      store.renewBrowserSession({ id, expectedHash, ...next }, taking),
    )
    const { factor: _, ...rest } = session
    return isRenewed ? setCookie(reply, { session: { ...rest, ...next }, user }, secret) : undefined
  }

  async function create(
    reply: FastifyReply,
    user: User,
    authentication: Authentication,
    taking: RecordTaking,
  ): Promise<Browser | undefined> {
    const { caller } = reply.request
    const secret = randomBytes(secretBytes)
    const session: BrowserSession = {
      id: randomUUID(),
      userId: user.id,
      generation: user.generation,
      secretHash: hashOf(secret),
      createdAt: now(),
      seenAt: now(),
      address: caller.address,
      userAgent: caller.userAgent,
      ...authentication,
    }
    const members = told(session, user, authentication.amr, caller.address)
    const isOpen = await changes.make(caller, 'browser.signed_in', members, (store) =>
      store.createBrowserSession(session, taking),
    )
    return isOpen ? setCookie(reply, { session, user }, secret) : undefined
  }

  const endById = (caller: Caller, userId: string, id: string): Promise<boolean> =>
    changes.make(caller, 'browser.signed_out', { sub: userId, browser: id }, (store, end) =>
      store.endBrowserSession(id, end(), userId),
    )

  return {
    /** Who is signed in; undefined where nobody is. */
    of,

    /**
     * Signs in by the code that a challenge of the pages has ended with. Whoever is signed in already has signed in anew;
     * whoever else was is signed out.
     *
     * @throws {Refusal} `invalid_grant` where the code was used, or its user may not have tokens any more
     */
    async open(request: FastifyRequest, reply: FastifyReply, code: string): Promise<Browser> {
      const presented = await codes.present(pagesClient, code, {})
      if ('gave' in presented) throw codeRefused('it was used')
      const { userId, generation, authentication = { authAt: now(), amr: ['pwd' as const] } } = presented.authorized
      const user = await store.findUser(userId)
      const gone = () => codeRefused('its user has changed, or may not have tokens')
      if (!user || whyNoTokens(user, { generation, factor: authentication.factor, mfa: config.AUTH_MFA }) !== undefined)
        throw gone()
      const before = await of(request)
      if (before?.user.id === userId) {
        // The user as of now, who may have added a factor on the way.
        const renewed = await renew(reply, { ...before, user }, authentication, presented.takingFor(before.session.id))
        if (renewed) return renewed
      }
      const opened = await create(reply, user, authentication, presented.takingFor(''))
      if (!opened) throw gone()
      if (before && before.user.id !== userId) await endById(request.caller, before.user.id, before.session.id)
      return opened
    },

    /** Says that the user of this browser has signed in anew in it. @returns undefined where that was over meanwhile */
    async renew(
      request: FastifyRequest,
      reply: FastifyReply,
      authentication: Authentication,
    ): Promise<Browser | undefined> {
      const browser = await of(request)
      return browser && renew(reply, browser, authentication)
    },

    /** Signs the user of this browser out, and of the apps that were opened from it. */
    async end(request: FastifyRequest, reply: FastifyReply): Promise<void> {
      const browser = await of(request)
      if (browser) await endById(request.caller, browser.user.id, browser.session.id)
      cookies.clear(reply, 'session')
      found.set(request, Promise.resolve(undefined))
    },

    /** Signs a user out in one of their browsers. @returns false where there is no such one of theirs */
    endById,

    /** Where a user is signed in, the newest first. */
    list: async (userId: string): Promise<BrowserSession[]> =>
      (await store.listBrowserSessions(userId)).filter((session) => !isBrowserSessionOver(session, limits, now())),

    /**
     * The user of this browser, if they have signed in a moment ago at the highest level of their account: as
     * `requireFresh` for whoever has a token.
     */
    async fresh(
      request: FastifyRequest,
      maxAgeSeconds = freshForSeconds,
    ): Promise<(Browser & { factors: UserFactors }) | undefined> {
      const browser = await of(request)
      if (!browser) return undefined
      const { session, user } = browser
      const acr = acrOf(session, now(), config.AUTH_STEP_UP_TTL.ms)
      const signIn = { acr, auth_time: session.authAt / 1000 }
      const lack = lackOf(signIn, { acr: user.hasFactors ? twoFactors : oneFactor, maxAgeSeconds }, now())
      return lack === undefined ? { ...browser, factors: await factors.of(user.id) } : undefined
    },
  }
}

const isSame = (one: string, other: string) =>
  one.length === other.length && timingSafeEqual(Buffer.from(one), Buffer.from(other))

const uuidOf = (bytes: Buffer) => bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('browserSessions', createBrowserSessions(app))
  },
  { name: 'browser-sessions', dependencies: ['store', 'changes', 'codes', 'forms', 'factors'] },
)
