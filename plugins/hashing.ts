import { randomBytes } from 'node:crypto'
import argon2 from 'argon2'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Refusal } from '../errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    hashing: ReturnType<typeof createHashing>
  }
}

/** Whoever has to wait for a hash. */
interface Waiter {
  begin: () => void
}

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

  /** Waits for a turn. A request whose client has gone leaves the queue, and costs no hash. */
  async function turn({ ip, signal }: FastifyRequest): Promise<void> {
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
      const onAbort = () => stopWaiting(new Refusal('request_timeout', { reason: 'the client has gone' }))
      const timer = setTimeout(() => stopWaiting(overloaded('no hash came free in time')), maxWaitSeconds * 1000)
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
      }
      const waiter: Waiter = {
        begin() {
          done()
          resolve()
        },
      }
      signal.addEventListener('abort', onAbort)
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
     * @param isStillWanted asked when the turn has come, before the hash is paid for; throws when not
     * @throws {Refusal} 503 `overloaded` when no turn comes in time
     */
    verify: (request: FastifyRequest, storedHash: string | undefined, password: string, isStillWanted: () => void): Promise<boolean> =>
      admitted(request, async () => {
        isStillWanted()
        const isRight = await argon2.verify(storedHash ?? nobodysHash, password)
        return isRight && storedHash !== undefined
      }),

    /** Whether a stored hash was made below today's settings. */
    isOutdated: (storedHash: string): boolean => argon2.needsRehash(storedHash, options),
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('hashing', createHashing(app))
  },
  { name: 'hashing' },
)
