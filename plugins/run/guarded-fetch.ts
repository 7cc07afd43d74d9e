import type { LookupAddress } from 'node:dns'
import { lookup } from 'node:dns/promises'
import {
  Agent as HttpAgent,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestOptions,
  request as requestByHttp,
} from 'node:http'
import { Agent as HttpsAgent, request as requestByHttps } from 'node:https'
import type { LookupFunction } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createFetchGuard } from '../../domain/fetch-guard.ts'

declare module 'fastify' {
  interface FastifyInstance {
    guardedFetch: ReturnType<typeof createGuardedFetch>['fetch']
  }
}

export interface GuardedRequest {
  method: 'GET' | 'HEAD' | 'POST'
  headers?: Record<string, string>
  body?: string
  /** for all of it: the look-up of the name, the connection, the answer to its end */
  withinMs?: number
  /** of the body of the answer; what follows is not read */
  mostBytes?: number
  signal?: AbortSignal
}

export interface GuardedAnswer {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
  /** whether the body ended within `mostBytes` */
  isWhole: boolean
}

/** There is no answer. The message says why, in words for the operator. */
export class FetchFailed extends Error {
  /** whether nothing was sent, because the guard does not let it */
  readonly isRefused: boolean
  constructor(message: string, isRefused = false) {
    super(message)
    this.isRefused = isRefused
  }
}

/** What Node closes by itself is shorter than the five seconds after which its servers do. */
const idleMs = 4_000
/** Before another address of the same name is tried; Node's own 250 ms fail a name that is far away. */
const nextAddressMs = 1_000
/** Each holds a thread of libuv for as long as a name server lets it wait, and the store needs some too. */
const fewLookups = 2

/**
 * Makes the requests that the service sends by itself, to URLs that somebody wrote down: to addresses that
 * `createFetchGuard` lets it reach, looked up once and then connected to, so that a name cannot turn into another
 * address in between (DNS rebinding). Redirects are not followed, and the answer is bounded in size and time.
 *
 * @param allowed AUTH_FETCH_ALLOW
 * @param resolve the addresses of a name; in the place of the system's for tests
 */
export function createGuardedFetch(
  allowed: string[] = [],
  resolve: typeof lookup = lookup,
  lookupsAtOnce: number = fewLookups,
) {
  const guard = createFetchGuard(allowed)
  const turns = createTurns(lookupsAtOnce)
  const options = { keepAlive: true, timeout: idleMs, autoSelectFamilyAttemptTimeout: nextAddressMs }
  const [http, https] = [new HttpAgent(options), new HttpsAgent(options)]

  /** For connections of a URL: only addresses that pass. Node asks nobody for a host that is an address. */
  function lookupFor(url: URL): LookupFunction {
    return (hostname, { family, hints, all }, callback) => {
      const answer = (found: LookupAddress[]) => {
        const good = found.filter(({ address }) => guard.mayConnect(url, address))
        const [first] = good
        if (!first) {
          const seen = `${hostname} turns into ${found[0]?.address}, which AUTH_FETCH_ALLOW does not name`
          callback(new FetchFailed(seen, true), [])
        } else if (all) callback(null, good)
        else callback(null, first.address, first.family)
      }
      const asked = { all: true as const, family: family ?? 0, ...(hints !== undefined && { hints }) }
      turns.take(() => resolve(hostname, asked)).then(answer, (error) => callback(error, []))
    }
  }

  function send(url: URL, asked: GuardedRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const { method, headers, body } = asked
    const isHttps = url.protocol === 'https:'
    const settings: RequestOptions = {
      method,
      headers: { ...headers, ...(body !== undefined && { 'content-length': Buffer.byteLength(body) }) },
      agent: isHttps ? https : http,
      lookup: lookupFor(url),
      signal,
    }
    return new Promise((resolve, reject) => {
      const request = (isHttps ? requestByHttps : requestByHttp)(url, settings, resolve)
      request.once('error', (error: NodeJS.ErrnoException) => {
        // The other side has just closed a connection that was idle, which tells nothing of this request.
        const isStale = request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
        if (isStale) send(url, asked, signal).then(resolve, reject)
        else reject(error)
      })
      request.end(body)
    })
  }

  return {
    /** Asks a URL. @throws {FetchFailed} */
    async fetch(url: URL, asked: GuardedRequest): Promise<GuardedAnswer> {
      const { withinMs = 15_000, mostBytes = 65_536 } = asked
      const problem = guard.problemWith(url)
      if (problem !== undefined) throw new FetchFailed(problem, true)
      const abort = new AbortController()
      const end = () => abort.abort()
      let isLate = false
      const timer = setTimeout(() => {
        isLate = true
        end()
      }, withinMs)
      asked.signal?.addEventListener('abort', end)
      try {
        const response = await send(url, asked, abort.signal)
        const { statusCode, headers } = response
        return { status: statusCode as number, headers, ...(await read(response, mostBytes)) }
      } catch (error) {
        if (isLate) throw new FetchFailed(`no answer within ${withinMs / 1000} s`)
        throw error instanceof FetchFailed ? error : new FetchFailed(wordsFor(error as NodeJS.ErrnoException))
      } finally {
        clearTimeout(timer)
        asked.signal?.removeEventListener('abort', end)
      }
    },
    close(): void {
      http.destroy()
      https.destroy()
    },
  }
}

async function read(response: IncomingMessage, mostBytes: number): Promise<{ body: Buffer; isWhole: boolean }> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    // To leave the loop ends the connection, too.
    if (size > mostBytes) return { body: Buffer.concat(chunks), isWhole: false }
    chunks.push(chunk)
  }
  return { body: Buffer.concat(chunks), isWhole: true }
}

const unknownAuthority =
  'its certificate, or the chain that it sends with it, leads to no authority that is known here; NODE_EXTRA_CA_CERTS names others'
/** What OpenSSL's words leave open. */
const tlsWords: Record<string, string> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: unknownAuthority,
  SELF_SIGNED_CERT_IN_CHAIN: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownAuthority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownAuthority,
}

/** The reason in an error of OpenSSL, among numbers and places in its sources. */
const tlsReason = /SSL routines:[^:]*:([^:]+)/
function tlsFailure(reason: string): string {
  // What plain HTTP looks like to OpenSSL.
  if (reason === 'wrong version number') return 'it does not answer by TLS, as https needs'
  return `TLS with it failed: ${reason}`
}

/** Of a name with several addresses, the first that failed. */
function wordsFor(error: NodeJS.ErrnoException & { errors?: NodeJS.ErrnoException[] }): string {
  const { code, message } = error.errors?.[0] ?? error
  const [, reason] = tlsReason.exec(message) ?? []
  const words = reason === undefined ? code !== undefined && tlsWords[code] : tlsFailure(reason)
  if (words) return `${words} (${code})`
  return code === undefined || message.includes(code) ? message : `${message} (${code})`
}

/** Work that waits until fewer than so many are at it. */
function createTurns(atOnce: number) {
  let running = 0
  const waiting: (() => void)[] = []
  return {
    async take<T>(work: () => Promise<T>): Promise<T> {
      if (running >= atOnce) await new Promise<void>((resolve) => waiting.push(resolve))
      else running += 1
      try {
        return await work()
      } finally {
        const next = waiting.shift()
        if (next) next()
        else running -= 1
      }
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    const { fetch, close } = createGuardedFetch(app.config.AUTH_FETCH_ALLOW)
    app.decorate('guardedFetch', fetch)
    app.addHook('onClose', async () => close())
  },
  { name: 'guarded-fetch' },
)
