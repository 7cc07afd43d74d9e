import { compactVerify } from 'jose'
import { LruMap } from 'toad-cache'
import { type AccessTokenClaims, wrongTime } from '../domain/access-token.ts'
import { type Acr, acrValues, lackOf, type SignInDemand } from '../domain/authentication.ts'
import { createRevocationSet } from '../domain/revocation.ts'
import { pointTo, TokenRefused, VerifierUnavailable } from './errors.ts'
import { createFeed, type FeedState, type feedLimits } from './feed.ts'
import { createHttp } from './http.ts'
import { createKeys, type Key, type keyLimits } from './jwks.ts'
import { readOptions, type VerifierOptions } from './options.ts'
import { likelyTokenOf, readUnverified, readVerified, tokenOf } from './token.ts'

/** What a token needs beyond being good. */
export interface Requirements {
  /** every one of these names, in a list or with a space between them */
  scope?: string | readonly string[]
  /** a role of the user's */
  role?: string
  /** the least level of the user's sign-in: `urn:latchkey:acr:2` is two factors, or a passkey */
  acr?: Acr
  /** how many seconds ago the user may have signed in */
  maxAge?: number
}

export interface VerifierStatus {
  /** public keys that are known */
  keys: number
  /**
   * how the revocations come; `off` without a clientId, `connecting` until they came once, `lost` after 15 s without a
   * word
   */
  feed: FeedState | 'off'
  /** seconds since the last news of revocations or heartbeat; undefined before the first */
  feedHeardSecondsAgo: number | undefined
  /** revocations in force, in memory */
  revocations: number
  /** verified tokens in the cache */
  cachedTokens: number
}

export interface Verifier {
  /**
   * Checks an access token by RFC 9068 §4 and RFC 8725: type, algorithm, signature by a published key of the issuer,
   * issuer, audience, times, and that nothing has revoked it; then scope and role, and how the user has signed in by
   * RFC 9470. A token that was checked before is recognised; what can have changed is looked at each time.
   *
   * Not checked: whether the user still exists beyond what was revoked, where the token came from, and its binding to
   * a key (DPoP, mTLS).
   *
   * @param presented the token, or the value of the Authorization header with it
   * @returns the claims, frozen
   * @throws {TokenRefused} 401 or 403, with the challenge of RFC 6750 §3 or RFC 9470 §3
   * @throws {VerifierUnavailable} 503, when keys or revocations cannot be had
   * @throws {TypeError} for requirements that are not what they should be
   */
  verify(presented: string | undefined, requirements?: Requirements): Promise<AccessTokenClaims>
  /**
   * Waits until keys and revocations are there. Need not be called: the first `verify` waits as well.
   *
   * @throws {VerifierUnavailable} when they are not after `timeoutSeconds`, 10 by default; they are tried for further
   */
  ready(options?: { timeoutSeconds?: number }): Promise<void>
  readonly status: VerifierStatus
  /** as in the options */
  readonly resourceMetadata: string | undefined
  /** Ends every request and timer. Tokens are answered by `VerifierUnavailable` from then on. */
  close(): Promise<void>
}

/** A token that passed every check that does not change with time. */
interface Good {
  claims: AccessTokenClaims
  scope: readonly string[]
  key: Key
}

/**
 * Makes a verifier of access tokens for one issuer, and starts to fetch its keys and to follow its revocations. It
 * does not keep the process alive. One is enough for a process.
 *
 * @param limits for tests
 * @throws {TypeError} for an option that is not what it should be
 */
export function createVerifier(
  options: VerifierOptions,
  limits: { keys?: typeof keyLimits; feed?: typeof feedLimits } = {},
): Verifier {
  const settings = readOptions(options)
  const {
    issuer,
    audience,
    authorization,
    feedLost,
    feedLostAfterMs,
    clockSkewSeconds,
    maxTokenAgeSeconds,
    cacheSize,
    resourceMetadata,
    now,
  } = settings
  const http = createHttp(settings.agent)
  const keys = createKeys(settings, http, limits.keys)
  const revocations = createRevocationSet()
  const feed =
    authorization === undefined
      ? undefined
      : createFeed(settings, http, { revocations, onKeyWithdrawn: keys.drop }, limits.feed)
  /** by the whole text, so that nothing can be confused */
  const known = new LruMap<Good>(cacheSize)
  let isClosed = false
  if (!feed) {
    const message = 'revocations are not followed, and a token is good until it expires: give clientId and clientSecret'
    settings.tell({ type: 'feed.off', level: 'info', message })
  }

  /** What does not change with time: done once for a token. */
  async function verifyOnce(token: string): Promise<Good> {
    const { kid, alg, payload } = readUnverified(token)
    if (revocations.has('key', kid)) throw new TokenRefused('invalid', 'its key was withdrawn')
    const key = await keys.find(kid)
    if (!key || key.alg !== alg) throw new TokenRefused('invalid', 'no key of the issuer has its kid and alg')
    try {
      await compactVerify(token, key.cryptoKey, { algorithms: [key.alg] })
    } catch {
      // Without the error of the library, which may hold what the token says.
      throw new TokenRefused('invalid', 'the signature is not by the key')
    }
    const claims = readVerified(payload, issuer, audience)
    return { claims, scope: claims.scope?.split(' ') ?? [], key }
  }

  async function recognise(token: string): Promise<Good> {
    const seen = known.get(token)
    if (seen?.key.isPublished) return seen
    known.delete(token)
    const good = await verifyOnce(token)
    checkTime(good.claims, now())
    known.set(token, good)
    return good
  }

  /** @throws {TokenRefused} when it is not its time */
  function checkTime(claims: AccessTokenClaims, nowMs: number): void {
    const wrong = wrongTime(claims, nowMs / 1000, { maxAgeSeconds: maxTokenAgeSeconds, clockSkewSeconds })
    if (wrong) throw new TokenRefused(wrong.failure, wrong.reason)
  }

  /** @throws {VerifierUnavailable} when revocations may be missing here, and `feedLost` says to refuse then */
  function checkFeed({ silenceMs, failure }: NonNullable<typeof feed>): void {
    if (feedLost === 'accept') return
    if (silenceMs === undefined) throw new VerifierUnavailable('the revocations could not be had yet', failure)
    if (silenceMs >= feedLostAfterMs)
      throw new VerifierUnavailable('the revocations have been lost for too long', failure)
  }

  const verify: Verifier['verify'] = async (presented, requirements = {}) => {
    const needed = readRequirements(requirements)
    if (isClosed) throw new VerifierUnavailable('the verifier was closed')
    let good = known.get(likelyTokenOf(presented))
    if (!good?.key.isPublished) good = await recognise(tokenOf(presented))
    const waiting = feed?.firstAnswer()
    if (waiting) await waiting
    // While something was waited for.
    if (!good.key.isPublished) throw new TokenRefused('invalid', 'its key was withdrawn')
    const nowMs = now()
    checkTime(good.claims, nowMs)
    if (feed) {
      if (revocations.isRevoked(good.claims)) throw new TokenRefused('revoked', 'the token was revoked')
      checkFeed(feed)
    }
    for (const name of needed.scope) {
      if (!good.scope.includes(name))
        throw new TokenRefused('scope', 'the token lacks a scope', { scope: needed.scope.join(' ') })
    }
    if (needed.role !== undefined && !good.claims.roles?.includes(needed.role))
      throw new TokenRefused('role', 'the user lacks a role')
    const lack = lackOf(good.claims, needed, nowMs)
    if (lack) {
      const { acr = 'none', auth_time: authTime = 'unknown' } = good.claims
      throw new TokenRefused(lack, `the sign-in has acr ${acr} and auth_time ${authTime}`, { signIn: needed })
    }
    return good.claims
  }

  return {
    resourceMetadata,
    verify:
      resourceMetadata === undefined
        ? verify
        : (...given) =>
            verify(...given).catch((error) => {
              throw pointTo(resourceMetadata, error)
            }),

    async ready({ timeoutSeconds = 10 } = {}) {
      if (isClosed) throw new VerifierUnavailable('the verifier was closed')
      const ms = timeoutSeconds * 1000
      const [, isCaughtUp = true] = await Promise.all([keys.ready(ms), feed?.ready(ms)])
      if (!isCaughtUp) throw new VerifierUnavailable('the revocations could not be had', feed?.failure)
    },

    get status(): VerifierStatus {
      const silenceMs = feed?.silenceMs
      return {
        keys: keys.count,
        feed: feed?.state ?? 'off',
        feedHeardSecondsAgo: silenceMs === undefined ? undefined : silenceMs / 1000,
        revocations: revocations.size,
        cachedTokens: known.size,
      }
    },

    async close() {
      isClosed = true
      keys.close()
      feed?.close()
      http.close()
      known.clear()
    },
  }
}

interface Needed extends SignInDemand {
  scope: readonly string[]
  role: string | undefined
}

const noNames: readonly string[] = []

const isText = (value: unknown) => typeof value === 'string'

/** What each has to be, and words for it. */
const kinds: Record<keyof Requirements, [is: (value: unknown) => boolean, what: string]> = {
  scope: [(value) => isText(value) || (Array.isArray(value) && value.every(isText)), 'a text, or a list of them'],
  role: [isText, 'a text'],
  acr: [(value) => acrValues.includes(value as Acr), acrValues.join(' or ')],
  maxAge: [(value) => Number.isSafeInteger(value) && (value as number) >= 0, 'a whole number of seconds'],
}

/**
 * @throws {TypeError} for what is not known or not what it has to be: a requirement that is misspelt or undefined would
 * guard nothing
 */
export function readRequirements(requirements: Requirements): Needed {
  for (const name in requirements) {
    if (!Object.hasOwn(kinds, name)) throw new TypeError(`latchkey/verify: there is no requirement ${name}`)
    const [is, what] = kinds[name as keyof Requirements]
    if (!is(requirements[name as keyof Requirements]))
      throw new TypeError(`latchkey/verify: the requirement ${name} is not ${what}`)
  }
  const { scope = noNames, role, acr, maxAge: maxAgeSeconds } = requirements
  const names = typeof scope === 'string' ? scope.split(' ').filter((name) => name !== '') : scope
  return { scope: names, role, acr, maxAgeSeconds }
}
