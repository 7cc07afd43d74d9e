import cluster, { type Worker } from 'node:cluster'
import type { FastifyBaseLogger } from 'fastify'
import type { Config } from '../config.ts'
import { logEvent } from '../events.ts'
import { idleTurn } from '../process/drain.ts'
import { openChannel } from './channel.ts'
import { watchDeliveries } from './deliveries.ts'
import { watchPort } from './port.ts'
import type { PrimaryProcedures, StartFailure, StartLine, WorkerProcedures } from './protocol.ts'

/** Backoff before a worker is replaced: doubled with each one that did not last. */
const firstPauseMs = 100
const longestPauseMs = 10_000
const lastsMs = 30_000
/** Left of the grace when workers that have not ended are killed. */
const killReserveMs = 100

/** How the process ends, and the line on stderr that says why. */
export interface Outcome {
  exitCode: number
  line?: string
}

/** A worker as the primary sees it. */
interface Member {
  /** from 1; the worker that replaces it has the same */
  number: number
  worker: Worker
  channel: ReturnType<typeof openChannel<WorkerProcedures, PrimaryProcedures>>
  deliveries: ReturnType<typeof watchDeliveries>
  hasJoined: boolean
  isDrained: boolean
  hasEnded: boolean
  listensSinceMs?: number
}

/**
 * Starts the workers, replaces those that end, and ends them all.
 *
 * @param onEnded called with the id of a worker that has ended
 */
export function createWorkers(config: Config, log: FastifyBaseLogger, onEnded: (workerId: number) => void) {
  const count = config.AUTH_WORKERS
  const port = watchPort(config.PORT)
  const members = new Map<number, Member>()
  const pauses = new Map<number, number>()
  let allEnded = () => {}
  const whenAllEnded = new Promise<void>((resolve) => {
    allEnded = resolve
  })
  let hasStarted = false
  let startLine = ''
  let isPortClosed = false
  let outcome: Outcome | undefined

  const listening = () => [...members.values()].filter(({ listensSinceMs }) => listensSinceMs !== undefined)

  /** AUTH_HASH_CONCURRENCY is of the machine: each worker has its share, and one at least. */
  function hashesOf(number: number): number {
    const { AUTH_HASH_CONCURRENCY: hashes } = config
    return Math.max(1, Math.floor(hashes / count) + (number <= hashes % count ? 1 : 0))
  }

  function start(number: number): void {
    cluster.setupPrimary({ args: ['worker', String(number)] })
    const worker = cluster.fork({
      HOST: config.HOST,
      PORT: String(config.PORT),
      AUTH_HASH_CONCURRENCY: String(hashesOf(number)),
    })
    const channel: Member['channel'] = openChannel(worker.process, {
      joined() {
        member.hasJoined = true
      },
      revoked: () => catchUpOthers(member),
      explain: (requestId) => explainByOthers(member, requestId),
      listening: (line: StartLine) => listens(member, line),
      failed: (failure: StartFailure) => failed(member, failure),
      drained() {
        member.isDrained = true
        closePort()
      },
    })
    const deliveries = watchDeliveries(worker)
    const states = { hasJoined: false, isDrained: false, hasEnded: false }
    const member: Member = { number, worker, channel, deliveries, ...states }
    members.set(number, member)
    worker.on('error', (error) => {
      log.error({ err: error, worker: worker.process.pid }, 'a worker could not be started or spoken to')
      // A worker that failed to spawn emits no 'exit'.
      if (worker.process.pid === undefined) ended(member, error.message)
    })
    worker.once('exit', (code, signal) => {
      if (code !== 0) deliveries.closeLast()
      ended(member, signal ?? code)
    })
  }

  const othersThan = (member: Member) => [...members.values()].filter((other) => other !== member && other.hasJoined)

  /** Each that answers in time is believed: one of them has refused the request, or none. */
  async function explainByOthers(member: Member, requestId: string) {
    const answers = await Promise.all(othersThan(member).map(({ channel }) => channel.request('explain', [requestId])))
    return answers.find((answer) => answer !== undefined)
  }

  /**
   * Resolves when every other worker knows what was revoked, or its time is up. A worker that is late already is not
   * waited for.
   */
  async function catchUpOthers(member: Member): Promise<void> {
    await Promise.all(
      othersThan(member).map(({ channel }) => {
        const { isLate } = channel
        const response = channel.request('catchUp', [])
        return isLate ? undefined : response
      }),
    )
  }

  function listens(member: Member, { details, message }: StartLine): void {
    member.listensSinceMs = performance.now()
    // The worker that made a new store says so, in the longest line.
    if (message.length > startLine.length) startLine = message
    if (hasStarted) logEvent(log, 'worker.started', { worker: member.worker.process.pid })
    else if (listening().length === count) {
      hasStarted = true
      log.info({ ...details, workers: count }, startLine)
    }
  }

  /** At the first start the failure of one ends all; later it is logged, and tried again. */
  function failed({ worker }: Member, { line, exitCode }: StartFailure): void {
    if (hasStarted) log.error({ worker: worker.process.pid }, line)
    else end({ exitCode, line }, 'SIGTERM')
  }

  function ended(member: Member, how: number | string): void {
    member.hasEnded = true
    member.channel.close()
    members.delete(member.number)
    onEnded(member.worker.id)
    if (!outcome && !hasStarted)
      end({ exitCode: 1, line: `Latchkey could not start: a worker ended with ${how}` }, 'SIGTERM')
    if (!outcome) replace(member, how)
    else {
      if (members.size === 0) allEnded()
      closePort()
    }
  }

  function replace({ number, worker, listensSinceMs = performance.now() }: Member, how: number | string): void {
    const hasLasted = performance.now() - listensSinceMs > lastsMs
    const pauseMs = hasLasted ? firstPauseMs : (pauses.get(number) ?? firstPauseMs)
    pauses.set(number, Math.min(pauseMs * 2, longestPauseMs))
    logEvent(log, 'worker.ended', { worker: worker.process.pid, how, next_in_ms: pauseMs })
    setTimeout(() => !outcome && start(number), pauseMs)
  }

  /**
   * Once all workers are drained, and before any of them closes: a connection that is dealt out then would find no
   * listener. All of them hold their answers at the same time, so that fewer connect meanwhile.
   */
  async function closePort(): Promise<void> {
    if (isPortClosed || [...members.values()].some(({ isDrained }) => !isDrained)) return
    isPortClosed = true
    const isDelivering = () => [...members.values()].some(({ deliveries }) => deliveries.isBusy())
    await Promise.all([...members.values()].map(({ channel }) => channel.request('hold', [])))
    port.acceptNoneAhead()
    await idleTurn(isDelivering)
    port.close()
    // What was accepted before is still dealt out.
    await idleTurn(isDelivering)
    for (const { worker } of members.values()) worker.disconnect()
  }

  function end(how: Outcome, signal: NodeJS.Signals): void {
    if (outcome) return
    outcome = how
    const killAll = (signal: NodeJS.Signals) => {
      for (const { worker } of members.values()) worker.process.kill(signal)
    }
    killAll(signal)
    setTimeout(() => killAll('SIGKILL'), config.AUTH_SHUTDOWN_GRACE.ms - killReserveMs).unref()
    if (members.size === 0) allEnded()
  }
  return {
    /** Those that answer requests. */
    listening,
    /** Starts all. Resolves when none is left, after `end`. */
    async run(): Promise<Outcome> {
      for (let number = 1; number <= count; number++) start(number)
      await whenAllEnded
      return outcome ?? { exitCode: 0 }
    },
    /** Sends a signal to all, and kills those left at the end of the grace. The first call decides the outcome. */
    end,
  }
}
