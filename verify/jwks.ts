import { type CryptoKey, importJWK, type JWK } from 'jose'
import { type SigningAlg, signingAlgs } from '../domain/signing-key.ts'
import { VerifierUnavailable } from './errors.ts'
import { backOffMs, type Http, retryAfterMs, UnwantedStatus, waitFor, wordsOf } from './http.ts'
import type { Settings } from './options.ts'

/** A public key of the server's. */
export interface Key {
  kid: string
  alg: SigningAlg
  cryptoKey: CryptoKey
  /** the members that define the key, as text */
  material: string
  /** whether the server still publishes it; a withdrawn key verifies nothing any more */
  isPublished: boolean
}

export const keyLimits = {
  fetchMs: 5_000,
  /** Unknown kids have the set fetched at most once in this time: forged ones cost nothing. */
  cooldownMs: 1_000,
  backOffMs: [500, 30_000] as readonly [number, number],
  /** bounds for the max-age of the answer, and what it is without one */
  maxAgeMs: { least: 10_000, most: 3_600_000, usual: 300_000 },
  maxBytes: 128 * 1024,
}

const maxKeys = 100

/**
 * Holds the server's public keys (RFC 7517), and keeps them fresh: fetched again in the background when they are older
 * than their max-age, and when a token names a key that is not among them. While the server is away, the keys that are
 * known stay.
 */
export function createKeys({ jwksUrl, tell }: Settings, http: Http, limits = keyLimits) {
  let keys = new Map<string, Key>()
  let etag: string | undefined
  let isClosed = false
  /** the fetch that all callers share */
  let underWay: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  /** on the clock of `performance` */
  let mayFetchAt = Number.NEGATIVE_INFINITY
  /** in a row, and the last of them */
  let failures = 0
  let failure: unknown

  /** One fetch at a time. Never rejects: what went wrong is in `failure`. */
  function refresh(): Promise<void> {
    underWay ??= attempt().finally(() => {
      underWay = undefined
    })
    return underWay
  }

  async function attempt(): Promise<void> {
    let againMs: number
    try {
      againMs = (await fetchKeys()) * (0.9 + Math.random() / 10)
      if (failures > 0)
        tell({ type: 'keys.available', level: 'info', message: 'the public keys could be fetched again' })
      failures = 0
      failure = undefined
      mayFetchAt = performance.now() + limits.cooldownMs
    } catch (error) {
      if (isClosed) return
      failures += 1
      failure = error
      againMs = Math.max(backOffMs(failures, limits.backOffMs), retryAfterMs(error))
      mayFetchAt = performance.now() + againMs
      if (failures === 1) {
        const meanwhile = keys.size > 0 ? 'those known stay in use' : 'no token can be checked'
        const message = `the public keys could not be fetched from ${jwksUrl.href}, and ${meanwhile}: ${wordsOf(error)}`
        tell({ type: 'keys.unavailable', level: keys.size > 0 ? 'warn' : 'error', message })
      }
    }
    clearTimeout(timer)
    if (!isClosed) timer = setTimeout(refresh, againMs).unref()
  }

  /** @returns milliseconds until it is to be fetched again */
  async function fetchKeys(): Promise<number> {
    // A cache in between may lack a new key, or still have a withdrawn one.
    const headers = {
      accept: 'application/json',
      'cache-control': 'no-cache',
      ...(etag !== undefined && { 'if-none-match': etag }),
    }
    const answer = await http.getText(jwksUrl, headers, limits.fetchMs, limits.maxBytes)
    if (answer.status === 200) {
      await take(answer.text)
      etag = answer.headers.etag
    } else if (answer.status !== 304 || etag === undefined) throw new UnwantedStatus(answer.status, answer.headers)
    const { least, most, usual } = limits.maxAgeMs
    const maxAge = /(?:^|[\s,])max-age=(\d{1,9})/i.exec(answer.headers['cache-control'] ?? '')?.[1]
    return maxAge === undefined ? usual : Math.min(most, Math.max(least, Number(maxAge) * 1000))
  }

  async function take(text: string): Promise<void> {
    let published: unknown
    try {
      published = JSON.parse(text).keys
    } catch {
      // Refused below.
    }
    if (!Array.isArray(published) || published.length > maxKeys) throw new Error('the answer is no JWK set')
    const usable = await Promise.all(published.map((jwk) => toKey(jwk).catch(() => undefined)))
    const next = new Map<string, Key>()
    for (const key of usable) {
      if (!key) continue
      const known = keys.get(key.kid)
      // The same object, so that what it has verified stays known.
      next.set(key.kid, known?.material === key.material ? known : key)
    }
    // Rather the old keys than none: a set that is empty for a moment must not refuse everybody.
    if (next.size === 0) throw new Error('no key of the JWK set can be used')
    const added = [...next.values()].filter((key) => keys.get(key.kid) !== key)
    const gone = [...keys.values()].filter((key) => next.get(key.kid) !== key)
    keys = next
    for (const key of gone) key.isPublished = false
    if (added.length + gone.length === 0) return
    const list = (of: Key[]) => of.map(({ kid }) => kid).join(', ') || 'none'
    tell({
      type: 'keys.changed',
      level: 'info',
      message: `the public keys have changed: new ${list(added)}; gone ${list(gone)}`,
    })
  }

  void refresh()
  return {
    get count() {
      return keys.size
    },

    /**
     * Finds a key by its id. Has the set fetched when the id is unknown, once for all who ask meanwhile.
     *
     * @returns undefined when the server has no such key
     * @throws {VerifierUnavailable} when it cannot be asked
     */
    async find(kid: string): Promise<Key | undefined> {
      const known = keys.get(kid)
      if (known) return known
      const hasAnswer = !(underWay || performance.now() >= mayFetchAt) || (await waitFor(refresh(), 2 * limits.fetchMs))
      const found = keys.get(kid)
      if (found) return found
      if (!hasAnswer || failures > 0 || keys.size === 0)
        throw new VerifierUnavailable('the public keys could not be fetched', failure)
      return undefined
    },

    /** Gives up a key that was withdrawn, without waiting for the set to be stale. */
    drop(kid: string): void {
      const key = keys.get(kid)
      if (!key || isClosed) return
      key.isPublished = false
      keys.delete(kid)
      // What is known is not the set of that tag any more.
      etag = undefined
      void refresh()
    },

    /** Waits for keys at most `ms`, and goes on asking meanwhile. */
    async ready(ms: number): Promise<void> {
      const until = performance.now() + ms
      for (let leftMs = ms; keys.size === 0 && !isClosed && leftMs > 0; leftMs = until - performance.now()) {
        if (!underWay)
          await waitFor(new Promise(() => {}), Math.max(0, Math.min(leftMs, mayFetchAt - performance.now())))
        await waitFor(refresh(), leftMs)
      }
      if (keys.size === 0) throw new VerifierUnavailable('the public keys could not be fetched', failure)
    },

    close(): void {
      isClosed = true
      clearTimeout(timer)
    },
  }
}

/**
 * @returns undefined for a key that cannot verify here: of another kind, not for signatures, without a kid, or private
 */
async function toKey(jwk: unknown): Promise<Key | undefined> {
  const { kid, kty, crv, x, y, n, e, alg = usualAlg(jwk as JWK), use, key_ops: operations, d } = jwk as JWK
  if (typeof kid !== 'string' || d !== undefined || !signingAlgs.includes(alg as SigningAlg)) return undefined
  if (alg !== usualAlg({ kty, crv } as JWK)) return undefined
  if ((use !== undefined && use !== 'sig') || (operations !== undefined && !operations.includes('verify')))
    return undefined
  // 8,192 bits: checking a signature by a longer one takes too long.
  if (n !== undefined && n.length > 1_366) return undefined
  const members = kty === 'RSA' ? { kty, n, e } : kty === 'EC' ? { kty, crv, x, y } : { kty, crv, x }
  const cryptoKey = (await importJWK(members as JWK, alg)) as CryptoKey
  return { kid, alg: alg as SigningAlg, cryptoKey, material: JSON.stringify({ alg, ...members }), isPublished: true }
}

function usualAlg({ kty, crv }: JWK): SigningAlg | undefined {
  if (kty === 'EC' && crv === 'P-256') return 'ES256'
  if (kty === 'OKP' && crv === 'Ed25519') return 'EdDSA'
  return kty === 'RSA' ? 'RS256' : undefined
}
