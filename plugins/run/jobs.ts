import { randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    jobs: ReturnType<typeof createJobs>
  }
}

/** A job that is repeated. */
export interface Job {
  /** Begins no further round. */
  stop(): void
}

/** How a job runs, where it is not at every pause in every process. */
interface JobOptions {
  /** before the first round, in milliseconds */
  firstPauseMs?: number
  /** Its name, where one process among all replicas and workers is enough for a round. */
  oneRunner?: string
}

/**
 * After this many pauses without a round of its own, a process runs the job without the lease: a clock that was wrong
 * may have made one that lasts for years. So another process may be at it too, now and then: the work has to bear that.
 */
const pausesWithoutRunner = 10

/** Work in the background, in rounds. A command, which does one thing and ends, has none. */
function createJobs({
  store,
  log,
  command,
  now,
  uptimeMs,
}: Pick<FastifyInstance, 'store' | 'log' | 'command' | 'now' | 'uptimeMs'>) {
  const jobs = new Set<Job & { round: Promise<void> }>()

  /**
   * Takes the lease of a job for one pause, as a record: there is one live record of it at a time, in the whole store.
   */
  const takeLease = (name: string, pauseMs: number): Promise<boolean> =>
    store.issueRecord(
      {
        id: randomBytes(32).toString('base64url'),
        kind: 'lease',
        owner: name,
        source: name,
        data: '',
        createdAt: now(),
        expiresAt: now() + pauseMs,
        misses: 0,
        version: 0,
      },
      { perOwner: 1, perSource: 1 },
    )

  return {
    /**
     * Repeats work until the app closes. A round begins when the one before has ended, so that none overlap; one that
     * fails is logged, and the next is the next try.
     *
     * @param pauseMs between two rounds, and after one that failed
     * @param work a round; it may return another pause, in milliseconds, for this once
     * @param failed what the line of a round that failed says
     */
    every(
      pauseMs: number,
      work: () => Promise<number> | Promise<void>,
      failed: string,
      { firstPauseMs = pauseMs, oneRunner }: JobOptions = {},
    ): Job {
      let timer: NodeJS.Timeout | undefined
      let isStopped = command !== undefined
      const schedule = (ms: number) => {
        if (!isStopped) timer = setTimeout(begin, ms).unref()
      }
      const begin = () => {
        job.round = round()
      }
      let ranAtMs = uptimeMs()
      /**
       * The steps of a round, which follow one another after a shorter pause, are all for the process that began it.
       */
      let isInRound = false
      async function isRunner(name: string): Promise<boolean> {
        if (isInRound || (await takeLease(name, pauseMs))) return true
        return uptimeMs() - ranAtMs > pausesWithoutRunner * pauseMs
      }
      async function round(): Promise<void> {
        let nextMs = pauseMs
        try {
          if (oneRunner === undefined || (await isRunner(oneRunner))) {
            isInRound = false
            nextMs = (await (work() as Promise<number | undefined>)) ?? pauseMs
            isInRound = nextMs < pauseMs
            ranAtMs = uptimeMs()
          }
        } catch (error) {
          log.warn({ err: error }, failed)
        }
        schedule(nextMs)
      }
      const job = {
        round: Promise.resolve(),
        stop: () => {
          isStopped = true
          clearTimeout(timer)
        },
      }
      jobs.add(job)
      schedule(firstPauseMs)
      return job
    },
    /** Begins no further round of any job. */
    stopAll(): void {
      for (const job of jobs) job.stop()
    },
    /** Waits for the rounds that are under way. */
    async ended(): Promise<void> {
      await Promise.all([...jobs].map(({ round }) => round))
    },
  }
}

/** After the store, so that at the end it waits for the last rounds before the store closes. */
export default fp(
  async (app: FastifyInstance) => {
    app.decorate('jobs', createJobs(app))
    app.addHook('preClose', async () => app.jobs.stopAll())
    app.addHook('onClose', () => app.jobs.ended())
  },
  { name: 'jobs', dependencies: ['store'] },
)
