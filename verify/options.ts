import type { Agent } from 'node:http'

/** What happens inside a verifier; `message` is for people. Told once when it begins, not for every attempt. */
export interface VerifierEvent {
  type:
    | 'keys.changed'
    | 'keys.unavailable'
    | 'keys.available'
    | 'feed.off'
    | 'feed.following'
    | 'feed.polling'
    | 'feed.failed'
    | 'feed.refused'
    | 'feed.lost'
    | 'feed.unknown_kind'
  level: 'info' | 'warn' | 'error'
  message: string
}

export interface VerifierOptions {
  /** the server's AUTH_ISSUER: the exact `iss` of its tokens, and the base of its URLs */
  issuer: string
  /** whom tokens have to be for, one of these is enough; the issuer when not given, as the server's AUTH_AUDIENCE */
  audience?: string | readonly string[]
  /** of a confidential client with the introspection right; without it revocations are not followed */
  clientId?: string
  clientSecret?: string
  /**
   * What to answer about a token, good otherwise, once the feed has been lost for `feedLostAfterSeconds`: `refuse` is
   * a 503, and `accept` goes on by the revocations that are known. Until the feed was there for the first time,
   * `refuse` refuses at once.
   *
   * `refuse` by default: a service that follows revocations wants them to be kept.
   */
  feedLost?: 'accept' | 'refuse'
  /**
   * Seconds without a word from the server until `feedLost` decides; 300 by default, as long as the server itself
   * answers for tokens when it is cut off from its store. So a restart or a failover of the database there does not
   * stop the services here. At least 15, which is three heartbeats; `status` and `onEvent` tell of a lost feed after
   * these 15 in any case.
   */
  feedLostAfterSeconds?: number
  /** where the server is reached from here, when not by the issuer's URL: `http://latchkey:3000` between containers */
  url?: string
  /**
   * the URL of this service's metadata, RFC 9728, which its 401 and 403 then name: so a client finds out who gives tokens
   * for it, as MCP clients do
   */
  resourceMetadata?: string
  /** for the requests to the server: an `https.Agent` with a CA, a client certificate or a proxy */
  agent?: Agent
  /**
   * seconds that the server's clock may be ahead (`iat`, `nbf`); 60 by default, as on the server. `exp` is exact, so
   * that nothing is accepted for longer than there.
   */
  clockSkewSeconds?: number
  /**
   * seconds since `iat` after which a token is refused whatever its `exp`; no limit by default. To be set to
   * AUTH_ACCESS_TTL where that was lowered, or where somebody else signs with the same key: revocations are remembered
   * for that long only.
   */
  maxTokenAgeSeconds?: number
  /** how many verified tokens are remembered; 5,000 by default, about 2 KB each */
  cacheSize?: number
  /** milliseconds since the epoch */
  now?: () => number
  /** is told what changes; when not given, warnings and errors become process warnings */
  onEvent?: (event: VerifierEvent) => void
}

/** Options with the defaults put in. */
export interface Settings {
  issuer: string
  audience: readonly string[]
  jwksUrl: URL
  revocationsUrl: URL
  /** the value of the Authorization header; undefined when revocations are not followed */
  authorization: string | undefined
  feedLost: 'accept' | 'refuse'
  feedLostAfterMs: number
  resourceMetadata: string | undefined
  agent: Agent | undefined
  clockSkewSeconds: number
  maxTokenAgeSeconds: number
  cacheSize: number
  now: () => number
  tell: (event: VerifierEvent) => void
}

/** Three heartbeats of the server: after this long without one, the feed counts as lost. */
export const lostMs = 15_000

/** Every option; the compiler holds it to the interface. */
const known: Record<keyof VerifierOptions, true> = {
  issuer: true,
  audience: true,
  clientId: true,
  clientSecret: true,
  feedLost: true,
  feedLostAfterSeconds: true,
  url: true,
  resourceMetadata: true,
  agent: true,
  clockSkewSeconds: true,
  maxTokenAgeSeconds: true,
  cacheSize: true,
  now: true,
  onEvent: true,
}

/**
 * Checks the options, and puts the defaults in.
 *
 * @throws {TypeError} that names the option and says what is expected: a wrong or misspelt one must not weaken the
 * check unnoticed
 */
export function readOptions(options: VerifierOptions): Settings {
  for (const name of Object.keys(options))
    if (!Object.hasOwn(known, name)) throw new TypeError(`latchkey/verify: there is no option ${name}`)
  const {
    issuer,
    audience = issuer,
    clientId,
    clientSecret,
    url = issuer,
    feedLost = 'refuse',
    resourceMetadata,
    now = Date.now,
    onEvent = warn,
  } = options
  readUrl('issuer', issuer)
  const base = readUrl('url', url)
  if (resourceMetadata !== undefined) readUrl('resourceMetadata', resourceMetadata)
  const audiences = typeof audience === 'string' ? [audience] : audience
  if (
    !Array.isArray(audiences) ||
    audiences.length === 0 ||
    !audiences.every((one) => typeof one === 'string' && one !== '')
  ) {
    throw expected('audience', 'a text, or a list of texts that is not empty')
  }
  for (const [name, value] of Object.entries({ clientId, clientSecret })) {
    if (value !== undefined && (typeof value !== 'string' || value === ''))
      throw expected(name, 'a text that is not empty')
  }
  if ((clientId === undefined) !== (clientSecret === undefined))
    throw expected('clientId and clientSecret', 'both or neither')
  if (feedLost !== 'accept' && feedLost !== 'refuse') throw expected('feedLost', "'accept' or 'refuse'")
  return {
    issuer,
    audience: audiences,
    jwksUrl: new URL(`${base}/.well-known/jwks.json`),
    revocationsUrl: new URL(`${base}/revocations`),
    authorization: clientId === undefined ? undefined : basic(clientId, clientSecret as string),
    feedLost,
    feedLostAfterMs: readNumber(options, 'feedLostAfterSeconds', 300, lostMs / 1000) * 1000,
    resourceMetadata: resourceMetadata === undefined ? undefined : new URL(resourceMetadata).href,
    agent: options.agent,
    // Revocations outlive the tokens they are for by a minute: to accept by more would outlive them.
    clockSkewSeconds: readNumber(options, 'clockSkewSeconds', 60, 0, 60),
    maxTokenAgeSeconds: readNumber(options, 'maxTokenAgeSeconds', Number.POSITIVE_INFINITY, 1),
    cacheSize: readNumber(options, 'cacheSize', 5_000, 1),
    now,
    tell(event) {
      try {
        onEvent(event)
      } catch (error) {
        // An error of the listener must not end the feed.
        process.emitWarning(error as Error)
      }
    },
  }
}

const expected = (name: string, what: string) => new TypeError(`latchkey/verify: ${name} has to be ${what}`)

/** @returns the URL as a base, without a slash at its end */
function readUrl(name: string, text: unknown): string {
  const url = typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined
  const isPlain = url && /^https?:$/.test(url.protocol) && !url.search && !url.hash && !url.username && !url.password
  if (!isPlain) throw expected(name, 'an http or https URL, without query, fragment or credentials')
  return (text as string).replace(/\/$/, '')
}

type NumberName = 'feedLostAfterSeconds' | 'clockSkewSeconds' | 'maxTokenAgeSeconds' | 'cacheSize'

function readNumber(
  options: VerifierOptions,
  name: NumberName,
  usual: number,
  least: number,
  most = Number.POSITIVE_INFINITY,
): number {
  const value = options[name] ?? usual
  if (typeof value !== 'number' || !(value >= least && value <= most)) {
    throw expected(
      name,
      most === Number.POSITIVE_INFINITY ? `a number, at least ${least}` : `a number from ${least} to ${most}`,
    )
  }
  return value
}

/**
 * `client_secret_basic`, RFC 6749 §2.3.1: both are form-encoded first, so that a colon or an umlaut in them survives.
 */
function basic(id: string, secret: string): string {
  const encode = (text: string) => new URLSearchParams({ '': text }).toString().slice(1)
  return `Basic ${Buffer.from(`${encode(id)}:${encode(secret)}`).toString('base64')}`
}

function warn({ level, type, message }: VerifierEvent): void {
  if (level !== 'info') process.emitWarning(message, { type: 'LatchkeyVerify', code: type })
}
