import { type Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'

export interface Answer {
  status: number
  headers: IncomingMessage['headers']
  /** empty when the status is not 200 */
  text: string
}

/**
 * GET requests that keep no process alive and are bounded in time and size. Redirects are not followed: credentials go
 * to the one place that was configured. By node:http, because a stream read through `fetch` keeps its process running.
 */
export function createHttp(agent: Agent | undefined) {
  const open = new Set<ClientRequest>()
  let isClosed = false

  /** @returns the answer when its head has arrived; its body must be read or destroyed */
  function get(url: URL, headers: Record<string, string>, timeoutMs: number): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      if (isClosed) throw new Error('the verifier was closed')
      const call = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, { agent, headers })
      const timer = setTimeout(() => call.destroy(new Timeout(timeoutMs)), timeoutMs).unref()
      open.add(call)
      call.on('socket', (socket) => socket.unref())
      call.on('response', (response) => {
        clearTimeout(timer)
        resolve(response)
      })
      call.on('error', reject)
      call.on('close', () => {
        clearTimeout(timer)
        open.delete(call)
      })
      call.end()
    })
  }

  return {
    get,

    /** @throws when it takes longer, or a 200 is larger */
    async getText(url: URL, headers: Record<string, string>, timeoutMs: number, maxBytes: number): Promise<Answer> {
      const response = await get(url, headers, timeoutMs)
      const { statusCode: status = 0 } = response
      if (status !== 200) {
        response.on('error', () => {})
        if (status === 304) response.resume()
        else response.destroy()
        return { status, headers: response.headers, text: '' }
      }
      const timer = setTimeout(() => response.destroy(new Timeout(timeoutMs)), timeoutMs).unref()
      try {
        const chunks: Buffer[] = []
        let bytes = 0
        for await (const chunk of response as AsyncIterable<Buffer>) {
          bytes += chunk.length
          // Leaving the loop closes the connection.
          if (bytes > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`)
          chunks.push(chunk)
        }
        return { status, headers: response.headers, text: Buffer.concat(chunks).toString() }
      } finally {
        clearTimeout(timer)
      }
    },

    close(): void {
      isClosed = true
      for (const call of open) call.destroy(new Error('the verifier was closed'))
    },
  }
}
export type Http = ReturnType<typeof createHttp>

export class Timeout extends Error {
  constructor(ms: number) {
    super(`no answer within ${ms / 1000} s`)
  }
}

const longestRetryAfterSeconds = 300

/** The server answered with another status than was wanted. */
export class UnwantedStatus extends Error {
  /** how long the server asked to be left alone; 0 when it did not */
  readonly retryAfterMs: number

  constructor(status: number, { 'retry-after': retryAfter = '' }: IncomingMessage['headers']) {
    const hint = status >= 300 && status < 400 ? ', and redirects are not followed: set `url`' : ''
    super(`the server answered ${status}${hint}`)
    this.retryAfterMs = Math.min(/^\d{1,9}$/.test(retryAfter) ? Number(retryAfter) : 0, longestRetryAfterSeconds) * 1000
  }
}

export const retryAfterMs = (error: unknown): number => (error instanceof UnwantedStatus ? error.retryAfterMs : 0)

/**
 * The wait before the next attempt: doubles with each failure, and is spread, so that many verifiers do not come back
 * at once.
 *
 * @param failures in a row, from 1
 * @returns milliseconds
 */
export function backOffMs(failures: number, [least, most]: readonly [number, number]): number {
  return Math.min(most, least * 2 ** (failures - 1)) * (0.5 + Math.random() / 2)
}

/** A promise that is resolved from outside; Node 20 has no `Promise.withResolvers`. */
export function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {}
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

/**
 * Waits for something at most this long, and keeps the process alive meanwhile: a caller waits, and neither requests
 * nor timers here keep it alive.
 *
 * @returns whether it came
 */
export async function waitFor(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const timeUp = deferred()
  const timer = setTimeout(timeUp.resolve, ms)
  try {
    return await Promise.race([promise.then(() => true), timeUp.promise.then(() => false)])
  } finally {
    clearTimeout(timer)
  }
}

/** Words for an error; those of node:net for several addresses have only a code. */
export function wordsOf(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException
  return message || code || String(error)
}
