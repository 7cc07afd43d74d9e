import './argon2-build.ts'
import { randomBytes } from 'node:crypto'
import argon2 from 'argon2'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Refusal } from '../errors.ts'
import { argon2Build } from './argon2-build.ts'

declare module 'fastify' {
  interface FastifyInstance {
    hashing: ReturnType<typeof createHashing>
  }
}

/** Whoever has to wait for a hash. */
interface Waiter {
  begin: () => void
}

/** Whoever counts failures has a word before a hash, and hears of it first. */
interface Guard {
  recheck(): void
  note(isRight: boolean): void
}

const clientGone = () => new Refusal('request_timeout', { reason: 'the client has gone' })

/** Most requests that wait at once: beyond this even their bookkeeping would be a burden. */
const mostWaiting = 10_000

/**
 * Password hashes, admitted rather than queued without end: so many at once, a bounded wait, addresses in turn.
 *
 * A hash costs a core for tens of milliseconds by design. Whoever could queue them without bound could stop the service.
 */
function createHashing({ config }: FastifyInstance) {
  const { AUTH_HASH_CONCURRENCY: concurrency, AUTH_HASH_MAX_WAIT: maxWaitSeconds } = config
  const options = {
    type: argon2.argon2id,
    memoryCost: config.AUTH_ARGON2_MEMORY,
    timeCost: config.AUTH_ARGON2_TIME,
    parallelism: config.AUTH_ARGON2_PARALLELISM,
  }
  /** No password has this hash; verifying against it takes as long as against one of today's settings. */
  const nobodysHash = [
    '$argon2id$v=19',
    `m=${options.memoryCost},t=${options.timeCost},p=${options.parallelism}`,
    randomBytes(16).toString('base64').replaceAll('=', ''),
    randomBytes(32).toString('base64').replaceAll('=', ''),
  ].join('$')

  let running = 0
  let waiting = 0
  /** By address, in the order of their turns: the first address is next, and goes to the end when it has had its turn. */
  const queues = new Map<string, Waiter[]>()

  function finish(): void {
    running -= 1
    const next = queues.entries().next()
    if (next.done) return
    const [address, queue] = next.value
    queues.delete(address)
    const waiter = queue.shift() as Waiter
    if (queue.length > 0) queues.set(address, queue)
    waiting -= 1
    running += 1
    waiter.begin()
  }

  function leave(address: string, waiter: Waiter): void {
    const queue = queues.get(address)
    const index = queue?.indexOf(waiter) ?? -1
    if (!queue || index < 0) return
    queue.splice(index, 1)
    waiting -= 1
    if (queue.length === 0) queues.delete(address)
  }

  function overloaded(reason: string): Refusal {
    return new Refusal('overloaded', { reason, headers: { 'retry-after': String(Math.ceil(maxWaitSeconds)) } })
  }

  /**
   * Waits for a turn. A request whose client has gone leaves the queue, and costs no hash.
   *
   * The socket tells, and not `request.signal`: that follows the incoming message, which is over once its body was read.
   */
  async function turn({ ip, socket }: FastifyRequest): Promise<void> {
    if (socket.destroyed) throw clientGone()
    if (running < concurrency) {
      running += 1
      return
    }
    if (waiting >= mostWaiting) throw overloaded('too many requests wait for a hash')
    await new Promise<void>((resolve, reject) => {
      const stopWaiting = (error: Error) => {
        leave(ip, waiter)
        done()
        reject(error)
      }
      const onClose = () => stopWaiting(clientGone())
      const timer = setTimeout(() => stopWaiting(overloaded('no hash came free in time')), maxWaitSeconds * 1000)
      const done = () => {
        clearTimeout(timer)
        socket.off('close', onClose)
      }
      const waiter: Waiter = {
        begin() {
          done()
          resolve()
        },
      }
      // As many as the client pipelines: more than the ten at which Node suspects a leak.
      socket.setMaxListeners(0).once('close', onClose)
      const queue = queues.get(ip)
      if (queue) queue.push(waiter)
      else queues.set(ip, [waiter])
      waiting += 1
    })
  }

  async function admitted<T>(request: FastifyRequest, work: () => Promise<T>): Promise<T> {
    await turn(request)
    try {
      return await work()
    } finally {
      finish()
    }
  }

  return {
    /** Which build of argon2 is in use: the compiled one is about twice as fast. */
    build: argon2Build,

    /** For the metrics. */
    get load() {
      return { running, waiting }
    },

    /**
     * Hashes a password by argon2id at today's settings.
     *
     * @param password after NFC
     * @returns a PHC string
     * @throws {Refusal} 503 `overloaded` when no turn comes in time
     */
    hash: (request: FastifyRequest, password: string): Promise<string> => admitted(request, () => argon2.hash(password, options)),

    /**
     * Compares a password with a stored hash, or (at the same cost) with nobody's.
     *
     * @param storedHash PHC string; undefined for a user that does not exist
     * @param guard is asked when the turn has come, before the hash is paid for, and told the outcome before the next turn begins
     * @throws {Refusal} 503 `overloaded` when no turn comes in time, or what the guard throws
     */
    verify: (request: FastifyRequest, storedHash: string | undefined, password: string, guard: Guard): Promise<boolean> =>
      admitted(request, async () => {
        guard.recheck()
        const matches = await argon2.verify(storedHash ?? nobodysHash, password)
        const isRight = matches && storedHash !== undefined
        guard.note(isRight)
        return isRight
      }),

    /** Whether a stored hash was made below today's settings. */
    isOutdated(storedHash: string): boolean {
      const { memory, passes } = /^\$argon2id\$v=19\$m=(?<memory>\d+),t=(?<passes>\d+),/.exec(storedHash)?.groups ?? {}
      return memory === undefined || Number(memory) < options.memoryCost || Number(passes) < options.timeCost
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('hashing', createHashing(app))
  },
  { name: 'hashing' },
)
