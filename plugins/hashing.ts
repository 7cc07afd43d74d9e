import './argon2-build.ts'
import { randomBytes } from 'node:crypto'
import argon2 from 'argon2'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import ipaddr from 'ipaddr.js'
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
  sinceMs: number
}

/** Those who wait from one address, the first come first. */
interface Line {
  address: string
  waiters: Waiter[]
  hadTurn: boolean
}

/** Whoever counts failures has a word before a hash, and hears of it first. */
interface Guard {
  recheck(): void
  note(isRight: boolean): void
}

const clientGone = () => new Refusal('request_timeout', { reason: 'the client has gone' })

/** Most requests that wait at once: beyond this even their bookkeeping would be a burden. */
const mostWaiting = 10_000
/** So many turns in a row may addresses have that have just come, before one that had its turn gets another. */
const newcomersInARow = 3

/**
 * Decides who is next while more come than can be served.
 *
 * - Addresses take turns, and those that have just come are let in before those that had theirs: a lone client is served at once
 *   in the midst of any number of flooders. (The new and old flows of RFC 8290 §4.2.)
 * - Where the first has waited for long, the last come is next. Under a lasting overload every first one is about to give up, and
 *   hashes for those who have gone help nobody.
 */
function createTurns(longWaitMs: number, uptimeMs: () => number) {
  const lines = new Map<string, Line>()
  const newcomers: Line[] = []
  const returning: Line[] = []
  let newcomersSince = 0
  let waiting = 0

  const nextOf = <T>(list: T[], first: Waiter | undefined): T | undefined =>
    first && uptimeMs() - first.sinceMs > longWaitMs ? list.pop() : list.shift()

  return {
    get waiting() {
      return waiting
    },
    /** Whether there is a place: one address leaves as many free as it has, so that no flood takes them all. */
    hasPlace: (address: string): boolean => (lines.get(address)?.waiters.length ?? 0) < mostWaiting - waiting,
    join(address: string, waiter: Waiter): void {
      let line = lines.get(address)
      if (!line) {
        line = { address, waiters: [], hadTurn: false }
        lines.set(address, line)
        newcomers.push(line)
      }
      line.waiters.push(waiter)
      waiting += 1
    },
    leave(address: string, waiter: Waiter): void {
      const line = lines.get(address)
      const index = line?.waiters.indexOf(waiter) ?? -1
      if (!line || index < 0) return
      // Most that leave have waited longest, and a splice moves all the others.
      if (index === 0) line.waiters.shift()
      else line.waiters.splice(index, 1)
      waiting -= 1
      // One that had its turn is forgotten only when its next has come, or it would be back as a newcomer.
      if (line.waiters.length > 0 || line.hadTurn) return
      lines.delete(address)
      newcomers.splice(newcomers.indexOf(line), 1)
    },
    next(): Waiter | undefined {
      for (;;) {
        const isNewcomers = newcomers.length > 0 && (newcomersSince < newcomersInARow || returning.length === 0)
        const line = isNewcomers ? nextOf(newcomers, newcomers[0]?.waiters[0]) : returning.shift()
        if (!line) return undefined
        const waiter = nextOf(line.waiters, line.waiters[0])
        if (!waiter) {
          lines.delete(line.address)
          continue
        }
        newcomersSince = isNewcomers ? newcomersSince + 1 : 0
        line.hadTurn = true
        returning.push(line)
        waiting -= 1
        return waiter
      }
    },
  }
}

/** What counts as one address: of IPv6 the /64, which any one host may have to itself. */
function addressOf(ip: string): string {
  if (!ip.includes(':') || !ipaddr.isValid(ip)) return ip
  const parsed = ipaddr.process(ip)
  return parsed.kind() === 'ipv4' ? parsed.toString() : parsed.toByteArray().slice(0, 8).join('.')
}

/**
 * Password hashes, admitted rather than queued without end: so many at once, a bounded wait, addresses in turn.
 *
 * A hash costs a core for tens of milliseconds by design. Whoever could queue them without bound could stop the service.
 */
function createHashing({ config, uptimeMs }: FastifyInstance) {
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
  const turns = createTurns((maxWaitSeconds * 1000) / 4, uptimeMs)

  function finish(): void {
    running -= 1
    const next = turns.next()
    if (!next) return
    running += 1
    next.begin()
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
    const address = addressOf(ip)
    if (!turns.hasPlace(address)) throw overloaded('too many requests wait for a hash')
    await new Promise<void>((resolve, reject) => {
      const stopWaiting = (error: Error) => {
        turns.leave(address, waiter)
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
        sinceMs: uptimeMs(),
      }
      // As many as the client pipelines: more than the ten at which Node suspects a leak.
      socket.setMaxListeners(0).once('close', onClose)
      turns.join(address, waiter)
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
      return { running, waiting: turns.waiting }
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
