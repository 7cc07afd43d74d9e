import { type IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    drain: Drain
  }
}

/** Longest time for which responses are held: their clients wait for it. */
export const holdMs = 50

/**
 * The end of the service, as requests see it. Once it has begun, every response ends its connection (RFC 9112 §9.6),
 * and for a moment all responses may be held.
 */
export class Drain {
  readonly #controller = new AbortController()
  /** resolves when responses may be sent; undefined while they are not held */
  held: Promise<void> | undefined
  hasBegun = false

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  begin(): void {
    this.hasBegun = true
    this.#controller.abort()
  }

  /** Holds every response. @returns a function that releases them, as 50 ms do */
  hold(): () => void {
    let release = () => {}
    this.held = new Promise((resolve) => {
      release = () => {
        this.held = undefined
        resolve()
      }
    })
    setTimeout(release, holdMs).unref()
    return release
  }
}

type EndResponse = (chunk?: unknown, encoding?: unknown, callback?: unknown) => ServerResponse

/** The class of a server's responses, so that no way of sending one is left out: routes, errors, streams. */
export function drainingResponse(drain: Drain): typeof ServerResponse {
  const end = ServerResponse.prototype.end as EndResponse
  return class<Request extends IncomingMessage> extends ServerResponse<Request> {
    override writeHead(statusCode: number, reason?: unknown, headers?: unknown): this {
      if (drain.hasBegun) this.shouldKeepAlive = false
      return super.writeHead(statusCode, reason as string, headers as OutgoingHttpHeaders)
    }
    override end(chunk?: unknown, encoding?: unknown, callback?: unknown): this {
      if (drain.held) drain.held.then(() => end.call(this, chunk, encoding, callback))
      else end.call(this, chunk, encoding, callback)
      return this
    }
  }
}

/** Begins the drain when the app closes, if nothing has before. */
export default fp(
  async (app: FastifyInstance, { drain }: { drain: Drain }) => {
    app.decorate('drain', drain)
    app.addHook('preClose', async () => drain.begin())
  },
  { name: 'draining' },
)
