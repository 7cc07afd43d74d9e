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

/** Work in the background, in rounds. A command, which does one thing and ends, has none. */
function createJobs({ log, command }: Pick<FastifyInstance, 'log' | 'command'>) {
  const jobs = new Set<Job & { round: Promise<void> }>()

  return {
    /**
     * Repeats work until the app closes. A round begins when the one before has ended, so that none overlap; one that fails is
     * logged, and the next is the next try.
     *
     * @param pauseMs between two rounds, and after one that failed
     * @param work a round; it may return another pause, in milliseconds, for this once
     * @param failed what the line of a round that failed says
     * @param firstPauseMs before the first round
     */
    every(pauseMs: number, work: () => Promise<number> | Promise<void>, failed: string, firstPauseMs = pauseMs): Job {
      let timer: NodeJS.Timeout | undefined
      let isStopped = command !== undefined
      const schedule = (ms: number) => {
        if (!isStopped) timer = setTimeout(begin, ms).unref()
      }
      const begin = () => {
        job.round = round()
      }
      async function round(): Promise<void> {
        let nextMs = pauseMs
        try {
          nextMs = (await (work() as Promise<number | undefined>)) ?? pauseMs
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
