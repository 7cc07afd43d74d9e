import cluster, { type Worker } from 'node:cluster'
import type { Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { Gauge, Registry } from 'prom-client'
import type { Config } from '../config.ts'
import { loggerOptions, stdoutInBlocks } from '../log/logging.ts'
import { createTotals, type Snapshot, serveMetrics } from '../plugins/run/metrics.ts'
import { idleTurn } from '../process/drain.ts'
import { onSignals, shuttingDown } from '../process/signals.ts'

/*
 * AUTH_WORKERS: several processes on one port and one store. The primary accepts connections and deals them out, has one
 * worker's revocations known to the others, sums the metrics, and replaces workers that end. It opens no store and answers
 * nobody, so that there is little in it that could end it. A worker is the service as one process runs it.
 */

/** What a worker says of itself, for the line that tells that all of them listen. */
interface Listening {
  details: object
  message: string
}

/** Why a worker could not start. */
interface Failure {
  line: string
  exitCode: number
}

/** Longest time that whoever revokes something waits for another process; those not heard of catch up by polling. */
const longestWaitMs = 250
const metricsWaitMs = 1_000
/** For what a worker does not go on without: the primary is always quick, but the machine may not be. */
const startWaitMs = 10_000
/** For the other workers to be drained too. */
const closeWaitMs = 5_000
const checkMs = 10
/** Between the end of a worker and the next in its place: doubled with each that did not last. */
const firstPauseMs = 100
const longestPauseMs = 10_000
const lastsMs = 30_000
/** Left of the grace when workers that have not ended are killed. */
const killReserveMs = 100

/**
 * The primary: starts the workers and looks after them until the service is told to end, or cannot start.
 *
 * @param config with a HOST that is an address, and a PORT that is not 0
 * @param damage what is found of the store while it is served already, in a line
 * @returns the exit code, and what there is to say about it
 */
export async function runWorkers(
  config: Config,
  damage?: Promise<string | undefined>,
): Promise<{ exitCode: number; line?: string }> {
  const { AUTH_WORKERS: count, AUTH_SHUTDOWN_GRACE: grace } = config
  const { log } = Fastify({ logger: loggerOptions(config.LOG_LEVEL, await stdoutInBlocks()) })
  for (const warning of config.warnings) log.warn(warning)

  interface Member {
    number: number
    worker: Worker
    channel: ReturnType<typeof talk>
    deliveries: ReturnType<typeof watchDeliveries>
    isSibling: boolean
    isDrained: boolean
    listensSinceMs?: number
  }
  const members = new Map<number, Member>()
  const listening = () => [...members.values()].filter(({ listensSinceMs }) => listensSinceMs !== undefined)
  const pauses = new Map<number, number>()
  let hasStarted = false
  let startLine = ''
  let isPortClosed = false
  let outcome: { exitCode: number; line?: string } | undefined
  let allEnded = () => {}

  /** Before it resolves, every other worker has fetched what was revoked, or had its time. One that is late already is not waited for. */
  async function tellSiblings(of: Member): Promise<void> {
    const siblings = [...members.values()].filter((member) => member !== of && member.isSibling)
    await Promise.all(
      siblings.map(({ channel }) => {
        const { isLate } = channel
        const answer = channel.ask('catch up')
        return isLate ? undefined : answer
      }),
    )
  }

  const totals = createTotals()
  let closeMetrics: (() => Promise<void>) | undefined
  if (config.AUTH_METRICS_PORT !== undefined) {
    const own = new Registry()
    const registers = [own]
    const workersListening = new Gauge({ name: 'latchkey_workers', help: 'Workers that listen', registers })
    closeMetrics = await serveMetrics(config, log, async () => {
      workersListening.set(listening().length)
      await Promise.all(
        listening().map(async (member) => {
          const snapshot = (await member.channel.ask('metrics', undefined, metricsWaitMs)) as Snapshot | undefined
          if (snapshot && members.get(member.number) === member) totals.note(member.worker.id, snapshot)
        }),
      )
      return totals.text(own)
    })
  }

  /** AUTH_HASH_CONCURRENCY is of the machine: each worker has its part of it, and one at least. */
  const hashesOf = (number: number) =>
    Math.max(
      1,
      Math.floor(config.AUTH_HASH_CONCURRENCY / count) + (number <= config.AUTH_HASH_CONCURRENCY % count ? 1 : 0),
    )

  function start(number: number): void {
    cluster.setupPrimary({ args: ['worker', String(number)] })
    const worker = cluster.fork({
      HOST: config.HOST,
      PORT: String(config.PORT),
      AUTH_HASH_CONCURRENCY: String(hashesOf(number)),
    })
    const channel = talk(worker.process, {
      joined() {
        member.isSibling = true
      },
      revoked: () => tellSiblings(member),
      listening: (said) => listens(member, said as Listening),
      failed: (why) => failed(member, why as Failure),
      drained() {
        member.isDrained = true
        closePort()
      },
    })
    const member: Member = {
      number,
      worker,
      channel,
      deliveries: watchDeliveries(worker),
      isSibling: false,
      isDrained: false,
    }
    members.set(number, member)
    worker.on('error', (error) => {
      log.error({ err: error, worker: worker.process.pid }, 'a worker could not be started or spoken to')
      // One that there never was has no exit.
      if (worker.process.pid === undefined) ended(member, error.message)
    })
    worker.once('exit', (code, signal) => {
      if (code !== 0) member.deliveries.closeLast()
      ended(member, signal ?? code)
    })
  }

  function listens(member: Member, { details, message }: Listening): void {
    member.listensSinceMs = performance.now()
    // The longest is that of the worker that made the store, where one did.
    if (message.length > startLine.length) startLine = message
    if (hasStarted)
      log.info(
        { event: 'worker.started', worker: member.worker.process.pid },
        'a worker was started in the place of another',
      )
    else if (listening().length === count) {
      hasStarted = true
      log.info({ ...details, workers: count }, startLine)
    }
  }

  /** At the first start a failure is everyone's; later it is one worker's, and tried again. */
  function failed({ worker }: Member, { line, exitCode }: Failure): void {
    if (hasStarted) log.error({ worker: worker.process.pid }, line)
    else end({ exitCode, line }, 'SIGTERM')
  }

  function ended(member: Member, how: number | string): void {
    const { number, worker, channel, listensSinceMs = performance.now() } = member
    channel.close()
    members.delete(number)
    totals.ended(worker.id)
    if (!outcome && !hasStarted)
      end({ exitCode: 1, line: `Latchkey could not start: a worker ended with ${how}` }, 'SIGTERM')
    if (!outcome) {
      const hasLasted = performance.now() - listensSinceMs > lastsMs
      const pauseMs = hasLasted ? firstPauseMs : (pauses.get(number) ?? firstPauseMs)
      pauses.set(number, Math.min(pauseMs * 2, longestPauseMs))
      const detail = { event: 'worker.ended', worker: worker.process.pid, how, next_in_ms: pauseMs }
      log.error(detail, 'a worker ended; another is started in its place')
      setTimeout(() => !outcome && start(number), pauseMs)
    }
    if (!outcome) return
    if (members.size === 0) allEnded()
    closePort()
  }

  /** Once all workers are ready for it, and before any of them closes: a connection that is dealt out then would find nobody. */
  async function closePort(): Promise<void> {
    if (isPortClosed || [...members.values()].some(({ isDrained }) => !isDrained)) return
    isPortClosed = true
    await idleTurn(() => [...members.values()].some(({ deliveries }) => deliveries.isBusy()))
    for (const { worker } of members.values()) worker.disconnect()
  }

  function end(how: { exitCode: number; line?: string }, signal: NodeJS.Signals): void {
    if (outcome) return
    outcome = how
    const tellAll = (signal: NodeJS.Signals) => {
      for (const { worker } of members.values()) worker.process.kill(signal)
    }
    tellAll(signal)
    setTimeout(() => tellAll('SIGKILL'), grace.ms - killReserveMs).unref()
    if (members.size === 0) allEnded()
  }

  const over = new Promise<void>((resolve) => {
    allEnded = resolve
  })
  onSignals((signal) => {
    log.info({ signal }, shuttingDown)
    end({ exitCode: 0 }, signal)
  })
  damage?.then((line) => {
    if (line === undefined) return
    log.error({ event: 'store.damaged' }, line)
    end({ exitCode: 78 }, 'SIGTERM')
  })
  for (let number = 1; number <= count; number++) start(number)
  await over
  await closeMetrics?.()
  return outcome ?? { exitCode: 0 }
}

/**
 * The primary keeps a connection that it deals out open until the worker says that it has it. When a worker is killed in
 * between, Node forgets about that connection, and the client would wait for ever.
 */
function watchDeliveries({ process: child }: Worker) {
  let last: { close?(): void } | undefined
  let isUnderWay = false
  const send = child.send as (...args: unknown[]) => boolean
  child.send = (message: unknown, handle?: unknown, ...rest: unknown[]) => {
    // One at a time: the next follows when this one was taken.
    if (handle && typeof handle === 'object') {
      last = handle
      isUnderWay = true
    }
    return send.call(child, message, handle, ...rest)
  }
  child.on('internalMessage', ({ ack }: { ack?: number }) => {
    if (ack !== undefined) isUnderWay = false
  })
  return {
    isBusy: () => isUnderWay,
    /** Closes what was not delivered; one that was is closed already, and closing it again does nothing. */
    closeLast: () => last?.close?.(),
  }
}

/** The worker's side. */
export function joinPrimary(workerNumber: number) {
  let app: FastifyInstance | undefined
  const catchUp = shared(async () => {
    // That the store does not answer is said where it is polled.
    await app?.revocations.catchUp().catch(() => {})
  })
  const primary = talk(process, { 'catch up': catchUp, metrics: () => app?.metrics?.snapshot() })

  return {
    /** Makes an app that does not listen yet one of several: what the others revoke it knows before they answer, and they what it revokes. */
    async join(joining: FastifyInstance): Promise<void> {
      app = joining
      const tell = shared(() => primary.ask('revoked'))
      app.revocations.tellOthersBy(tell)
      if (workerNumber !== 1) app.sweeper.stop()
      await primary.ask('joined', undefined, startWaitMs)
      // What was revoked between the app's own look and the moment at which the others began to wait for it.
      await app.revocations.catchUp()
    },
    /** Says that this worker has nobody left to wait for, and closes its part of the port when the primary does. */
    async drained(server: Server): Promise<void> {
      primary.ask('drained')
      for (const until = performance.now() + closeWaitMs; server.listening && performance.now() < until; )
        await sleep(checkMs)
      server.close()
    },
    listens: (listening: Listening) => primary.ask('listening', listening, startWaitMs),
    failed: (failure: Failure) => primary.ask('failed', failure, startWaitMs),
  }
}

/** Runs `work`; those who call while it runs share one more run, which begins after their calls. */
function shared(work: () => Promise<unknown>): () => Promise<void> {
  let running: Promise<unknown> | undefined
  let next: Promise<void> | undefined
  async function run(): Promise<void> {
    running = work()
    await running
    running = undefined
  }
  return () => {
    if (!running) return run()
    next ??= running.then(() => {
      next = undefined
      return run()
    })
    return next
  }
}

interface Channel {
  readonly connected: boolean
  send?(message: object, done: (error: Error | null) => void): boolean
  on(event: 'message', listener: (message: unknown) => void): unknown
}

interface Said {
  latchkey: 'question' | 'answer'
  id: number
  question?: string
  detail?: unknown
}

/** Questions and answers between the primary and one worker. */
function talk(channel: Channel, answers: Record<string, (detail: unknown) => unknown>) {
  const waiting = new Map<number, (detail?: unknown) => void>()
  let lastId = 0
  let isLate = false

  // A failure to send is the end of the other process, which is noticed elsewhere.
  const say = (said: Said) => void (channel.connected && channel.send?.(said, () => {}))
  channel.on('message', async (message) => {
    const { latchkey, id, question, detail } = message as Said
    if (latchkey === 'question') say({ latchkey: 'answer', id, detail: await answers[question as string]?.(detail) })
    if (latchkey !== 'answer') return
    isLate = false
    waiting.get(id)?.(detail)
  })

  return {
    /** Whether the last question has not been answered in time. */
    get isLate() {
      return isLate
    },
    /** @returns the answer; undefined when none comes in time, or the other process has ended */
    ask(question: string, detail?: unknown, withinMs = longestWaitMs): Promise<unknown> {
      const id = ++lastId
      return new Promise((resolve) => {
        const answered = (answer?: unknown) => {
          clearTimeout(timer)
          waiting.delete(id)
          resolve(answer)
        }
        const timer = setTimeout(() => {
          isLate = true
          answered()
        }, withinMs)
        waiting.set(id, answered)
        say({ latchkey: 'question', id, question, detail })
      })
    },
    /** Ends every wait. */
    close(): void {
      for (const answered of waiting.values()) answered()
    },
  }
}
