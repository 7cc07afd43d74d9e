import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Caller } from '../../domain/caller.ts'
import { checked } from '../../domain/checks.ts'
import { networkOf } from '../../domain/network.ts'
import { Refusal } from '../../errors.ts'
import { createAdmissionQueue, type Waiter } from './admission-queue.ts'
import { argon2Build } from './argon2.ts'
import { createLoginBatch } from './login-batch.ts'
import { createStoredHashes } from './stored-hashes.ts'

declare module 'fastify' {
  interface FastifyInstance {
    hashing: ReturnType<typeof createHashing>
  }
}

/** Requests that may wait, however fast the hashes: beyond this even their bookkeeping would be a burden. */
const maxWaiting = 10_000

/** Why a request gets no turn: no place to wait; no turn in time; its place was taken by one from elsewhere. */
type NoTurn = 'full' | 'late' | 'displaced'

const clientGone = () => new Refusal('request_timeout', { reason: 'the client has gone' })
const draining = () => new Refusal('draining', { reason: 'it waited for a hash', headers: { 'retry-after': '1' } })

/**
 * Password hashes, admitted rather than queued without end: a fixed number at once, a bounded wait, addresses in turn.
 *
 * A hash takes a core for tens of milliseconds by design. A client that could queue any number of them could stop the
 * service.
 */
function createHashing({ config, uptimeMs, traced }: Pick<FastifyInstance, 'config' | 'uptimeMs' | 'traced'>) {
  const { AUTH_HASH_CONCURRENCY: concurrency, AUTH_HASH_MAX_WAIT: maxWait } = config
  const hashes = createStoredHashes({
    memoryCost: config.AUTH_ARGON2_MEMORY,
    timeCost: config.AUTH_ARGON2_TIME,
    parallelism: config.AUTH_ARGON2_PARALLELISM,
  })
  const make = traced('hash', hashes.make)
  const compare = traced('hash', hashes.compare)
  const wrap = traced('hash', hashes.wrap)
  const batch = createLoginBatch(concurrency)

  let isClosed = false
  let running = 0
  /** moving average; 0 before the first hash */
  let hashMs = 0
  // The queue holds twice what can be hashed within the wait. An address may take half of the free places.
  const burstMs = 2 * maxWait.ms
  const standingMs = maxWait.ms / 4
  const queue = createAdmissionQueue(
    (isStanding) => Math.min(maxWaiting, Math.ceil(((isStanding ? standingMs : burstMs) * concurrency) / hashMs)),
    standingMs,
    uptimeMs,
  )

  const refused: Record<NoTurn, number> = { full: 0, late: 0, displaced: 0 }
  let onTurn = (_waitedMs: number, _hashMs: number): void => {}

  function overloaded(why: NoTurn, reason: string): Refusal {
    refused[why] += 1
    const waited = checked('hash_wait_seconds', maxWait.seconds, maxWait.seconds)
    const checks = [
      why === 'late' ? waited : checked('hashes_waiting', queue.length, queue.places),
      checked('hashes_running', running, concurrency),
    ]
    return new Refusal('overloaded', { reason, checks, headers: { 'retry-after': String(Math.ceil(maxWait.seconds)) } })
  }

  function refuseIfFull({ address }: Pick<Caller, 'address'>): void {
    if (running >= concurrency && !queue.hasPlace(networkOf(address, 32)))
      throw overloaded('full', 'too many requests wait for a hash')
  }

  /** Waits for a turn. A request whose client has gone leaves the queue, and costs no hash. */
  const waitForTurn = traced('hash.wait', async (caller: Caller): Promise<void> => {
    const { address, gone } = caller
    if (isClosed) throw draining()
    if (gone.aborted) throw clientGone()
    refuseIfFull(caller)
    if (running < concurrency) {
      running += 1
      return
    }
    await new Promise<void>((resolve, reject) => {
      const stopWaiting = () => {
        clearTimeout(timer)
        gone.removeEventListener('abort', onGone)
      }
      const giveUp = (refusal: Refusal) => {
        queue.leave(waiter)
        stopWaiting()
        reject(refusal)
      }
      const onGone = () => giveUp(clientGone())
      const timer = setTimeout(() => giveUp(overloaded('late', 'no hash came free in time')), maxWait.ms)
      const waiter: Waiter = {
        admit() {
          stopWaiting()
          resolve()
        },
        turnAway: (why) =>
          giveUp(
            why === 'draining'
              ? draining()
              : overloaded('displaced', 'others came meanwhile, and all places were taken'),
          ),
        joinedAtMs: uptimeMs(),
      }
      gone.addEventListener('abort', onGone)
      queue.join(networkOf(address, 32), waiter)
    })
  })

  /** Gives the turn of a request that is done, or failed, to the next one. */
  function endTurn(): void {
    running -= 1
    const next = queue.next()
    if (!next) return
    running += 1
    next.admit()
  }

  async function admitted<T>(caller: Caller, work: () => Promise<T>): Promise<T> {
    const askedMs = uptimeMs()
    await waitForTurn(caller)
    const startedMs = uptimeMs()
    let result: T
    try {
      result = await work()
      const ms = uptimeMs() - startedMs
      hashMs = hashMs === 0 ? ms : 0.9 * hashMs + 0.1 * ms
      onTurn(startedMs - askedMs, ms)
    } finally {
      endTurn()
    }
    await batch.nextBatch(queue.length, hashMs)
    return result
  }

  return {
    /** Which build of argon2 is in use: the compiled one is about twice as fast. */
    build: argon2Build,

    /** For the metrics. */
    get load() {
      return { running, waiting: queue.length }
    },
    concurrency,
    /** How many got no turn so far, and why. */
    refused: refused as Readonly<Record<string, number>>,
    /** Has each turn told, when it is over: how long it was waited for, and how long it took. */
    onTurn(tell: (waitedMs: number, hashMs: number) => void): void {
      onTurn = tell
    },

    /**
     * Refuses what `hash` or `verify` would refuse for want of a place, before the store is asked for anything.
     *
     * @throws {Refusal} 503 `overloaded`
     */
    refuseIfFull,

    /**
     * Hashes a password by argon2id at the current settings.
     *
     * @param password after NFC
     * @returns a PHC string
     * @throws {Refusal} 503 `overloaded` when no turn comes in time
     */
    hash: (caller: Caller, password: string): Promise<string> => admitted(caller, () => make(password)),

    /**
     * Compares a password with a stored hash, in the same time whatever is stored: see `createStoredHashes`.
     *
     * @param storedHash undefined for a user that does not exist, `noPassword` for one who has none
     * @param password as typed
     * @param judge is called when the turn has come, and calls its argument to compare; the turn ends with it
     * @returns the result of `judge`
     * @throws {Refusal} 503 `overloaded` when no turn comes in time; what `judge` throws
     */
    verify: <Verdict extends boolean>(
      caller: Caller,
      storedHash: string | undefined,
      password: string,
      judge: (compare: () => Promise<boolean>) => Promise<Verdict>,
    ): Promise<Verdict> =>
      admitted(caller, () =>
        judge(() =>
          compare(storedHash, password, (err) => caller.log.error({ err }, 'a stored password hash cannot be read')),
        ),
      ),

    /**
     * Hashes the digest of a stored hash by argon2id, so that what is weak does not rest in the store.
     *
     * @returns what to store in its place
     * @throws {Refusal} 503 `overloaded` when no turn comes in time
     */
    wrap: (caller: Caller, storedHash: string): Promise<string> => admitted(caller, () => wrap(storedHash)),

    isOutdated: hashes.isOutdated,

    /** Turns every waiting request away, and keeps no timer. Those that came by a socket have been answered by then. */
    close(): void {
      isClosed = true
      queue.drain()
      batch.flush()
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('hashing', createHashing(app))
    app.addHook('onClose', async () => app.hashing.close())
  },
  { name: 'hashing' },
)
