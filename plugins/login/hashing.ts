import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { networkOf } from '../../domain/network.ts'
import { Refusal } from '../../errors.ts'
import { createTurns, type Waiter } from './admission-queue.ts'
import { argon2Build } from './argon2.ts'
import { createStoredHashes } from './stored-hashes.ts'

/** Decides whether to compare, and what comes of it: see `throttle`. */
type Judge = (compare: () => Promise<boolean>) => Promise<boolean>

declare module 'fastify' {
  interface FastifyInstance {
    hashing: ReturnType<typeof createHashing>
  }
}

const clientGone = () => new Refusal('request_timeout', { reason: 'the client has gone' })
const draining = () => new Refusal('draining', { reason: 'it waited for a hash', headers: { 'retry-after': '1' } })

/** Most requests that wait at once, however fast the hashes: beyond this even their bookkeeping would be a burden. */
const mostPlaces = 10_000

/** Of those whose hashes are done: so many go on together, and wait for each other no longer than this. */
const companyAtMost = 8
const patienceMs = 25

/**
 * Password hashes, admitted rather than queued without end: so many at once, a bounded wait, addresses in turn.
 *
 * A hash costs a core for tens of milliseconds by design. Whoever could queue them without bound could stop the service.
 */
function createHashing({ config, uptimeMs }: FastifyInstance) {
  const { AUTH_HASH_CONCURRENCY: concurrency, AUTH_HASH_MAX_WAIT: maxWait } = config
  const hashes = createStoredHashes({
    memoryCost: config.AUTH_ARGON2_MEMORY,
    timeCost: config.AUTH_ARGON2_TIME,
    parallelism: config.AUTH_ARGON2_PARALLELISM,
  })

  const maxWaitMs = maxWait.ms
  let running = 0
  /** a moving average; 0 before the first */
  let hashMs = 0
  /** A burst may be twice what can be served in time: so much each address may have of it, and leaves as much. */
  const burstMs = 2 * maxWaitMs
  const standingMs = maxWaitMs / 4
  const places = (isStanding: boolean) =>
    Math.min(mostPlaces, Math.ceil(((isStanding ? standingMs : burstMs) * concurrency) / hashMs))
  const turns = createTurns(places, standingMs, uptimeMs)

  /** The place of one that is done, or could not begin, goes to the next. */
  function finish(): void {
    running -= 1
    const next = turns.next()
    if (!next) return
    running += 1
    next.begin()
  }

  let done: (() => void)[] = []
  let patience: NodeJS.Timeout | undefined
  function goOn(): void {
    clearTimeout(patience)
    patience = undefined
    const all = done
    done = []
    for (const resolve of all) resolve()
  }
  /**
   * Lets those whose hashes are done go on together, as long as enough others wait to keep the threads busy.
   *
   * A hash goes through 19 MiB and leaves nothing in the processor's caches that the rest of a login would find there. That rest is
   * read from memory once for all of them: it takes half as long as for each by itself.
   */
  function inCompany(): Promise<void> | undefined {
    const isExpected = turns.waiting >= concurrency / 2 && hashMs / concurrency < patienceMs / 2
    if (done.length === 0 && !isExpected) return undefined
    return new Promise((resolve) => {
      done.push(resolve)
      if (done.length >= companyAtMost || !isExpected) goOn()
      else patience ??= setTimeout(goOn, patienceMs)
    })
  }

  function overloaded(reason: string): Refusal {
    return new Refusal('overloaded', { reason, headers: { 'retry-after': String(maxWait.seconds) } })
  }

  /** Refuses whoever would have to be refused later, before anything is read for it. */
  function refuseWithoutPlace({ address }: FastifyRequest): void {
    if (running >= concurrency && !turns.hasPlace(networkOf(address, 32)))
      throw overloaded('too many requests wait for a hash')
  }

  /**
   * Waits for a turn. A request whose client has gone leaves the queue, and costs no hash.
   *
   * The socket tells, and not `request.signal`: that follows the incoming message, which is over once its body was read.
   */
  async function turn(request: FastifyRequest): Promise<void> {
    const { address, socket } = request
    if (isClosed) throw draining()
    if (socket.destroyed) throw clientGone()
    refuseWithoutPlace(request)
    if (running < concurrency) {
      running += 1
      return
    }
    await new Promise<void>((resolve, reject) => {
      const stopWaiting = (error: Error) => {
        turns.leave(waiter)
        done()
        reject(error)
      }
      const onClose = () => stopWaiting(clientGone())
      const timer = setTimeout(() => stopWaiting(overloaded('no hash came free in time')), maxWaitMs)
      const done = () => {
        clearTimeout(timer)
        socket.off('close', onClose)
      }
      const waiter: Waiter = {
        begin() {
          done()
          resolve()
        },
        giveUp: (why) =>
          stopWaiting(why === 'draining' ? draining() : overloaded('others came meanwhile, and all places were taken')),
        sinceMs: uptimeMs(),
      }
      // As many as the client pipelines: more than the ten at which Node suspects a leak.
      socket.setMaxListeners(0).once('close', onClose)
      turns.join(networkOf(address, 32), waiter)
    })
  }

  async function admitted<T>(request: FastifyRequest, work: () => Promise<T>): Promise<T> {
    await turn(request)
    const startedMs = uptimeMs()
    let result: T
    try {
      result = await work()
      const ms = uptimeMs() - startedMs
      hashMs = hashMs === 0 ? ms : 0.9 * hashMs + 0.1 * ms
    } finally {
      finish()
    }
    await inCompany()
    return result
  }

  let isClosed = false
  /** All who wait give up, and nothing is left that would keep the process. Requests that came by a socket have been answered by then. */
  function close(): void {
    isClosed = true
    turns.drain()
    goOn()
  }

  return {
    refuseWithoutPlace,
    close,

    /** Which build of argon2 is in use: the compiled one is about twice as fast. */
    build: argon2Build,

    /** For the metrics. */
    get load() {
      return { running, waiting: turns.waiting }
    },

    /**
     * Hashes a password by argon2id at today's settings.
     *
     * @param password after NFC
     * @returns a PHC string
     * @throws {Refusal} 503 `overloaded` when no turn comes in time
     */
    hash: (request: FastifyRequest, password: string): Promise<string> =>
      admitted(request, () => hashes.make(password)),

    /**
     * Compares a password with a stored hash, or with nobody's, in the same time: see `createStoredHashes`.
     *
     * @param storedHash PHC string; undefined for a user that does not exist
     * @param judge is called when the turn has come, and has it compared or not; the next turn begins when it is done
     * @returns what `judge` makes of it
     * @throws {Refusal} 503 `overloaded` when no turn comes in time, or what `judge` throws
     */
    verify: (
      request: FastifyRequest,
      storedHash: string | undefined,
      password: string,
      judge: Judge = (compare) => compare(),
    ): Promise<boolean> =>
      admitted(request, () =>
        judge(() =>
          hashes.compare(storedHash, password, (err) =>
            request.log.error({ err }, 'a stored password hash cannot be read'),
          ),
        ),
      ),

    isOutdated: hashes.isOutdated,
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('hashing', createHashing(app))
    app.addHook('onClose', async () => app.hashing.close())
  },
  { name: 'hashing', dependencies: ['client-address'] },
)
