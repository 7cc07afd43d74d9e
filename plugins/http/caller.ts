import { setMaxListeners } from 'node:events'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** whom the domain works for */
    readonly caller: Caller
    /** which administrator acts; undefined where it is none */
    by: string | undefined
  }
}

const longestUserAgent = 256

/** By connection: one listener for all the requests that a client pipelines. */
const signals = new WeakMap<Socket, AbortSignal>()

/**
 * The socket tells, and not `request.signal`: that follows the incoming message, which is over once its body was read.
 */
function goneSignal(socket: Socket): AbortSignal {
  const known = signals.get(socket)
  if (known) return known
  const controller = new AbortController()
  // Each request that waits for a hash listens.
  setMaxListeners(0, controller.signal)
  if (socket.destroyed) controller.abort()
  else socket.once('close', () => controller.abort())
  signals.set(socket, controller.signal)
  return controller.signal
}

/** A request as the domain sees it; each member is looked up when it is asked for. */
class RequestCaller implements Caller {
  readonly #request: FastifyRequest
  constructor(request: FastifyRequest) {
    this.#request = request
  }
  get log() {
    return this.#request.log
  }
  get address() {
    return this.#request.address
  }
  get userAgent() {
    return (this.#request.headers['user-agent'] ?? '').slice(0, longestUserAgent)
  }
  get requestId() {
    return this.#request.id
  }
  get by() {
    return this.#request.by
  }
  get gone() {
    return goneSignal(this.#request.raw.socket)
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorateRequest('by', undefined)
    app.decorateRequest('caller', {
      getter() {
        return new RequestCaller(this)
      },
    })
  },
  { name: 'request-caller', dependencies: ['client-address'] },
)
