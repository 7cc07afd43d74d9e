import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { failuresLastMs } from './throttle.ts'

const rowsPerStep = 500
/** Between the steps of a round, and between rounds. */
const stepPauseMs = 250
const roundPauseMs = 60_000

/** Removes what has expired, a small batch at a time, in every process: two that meet do no harm. */
export default fp(
  async (app: FastifyInstance) => {
    const { store, sessions, now, log } = app
    let cursor: string | undefined
    let timer: NodeJS.Timeout

    async function step(): Promise<void> {
      try {
        const swept = await store.sweep({
          ...sessions.limits(),
          failuresBefore: now() - failuresLastMs,
          limit: rowsPerStep,
          ...(cursor !== undefined && { cursor }),
        })
        cursor = swept.cursor
        if (swept.removed > 0) log.debug({ removed: swept.removed }, 'expired rows were swept')
      } catch (error) {
        log.warn({ err: error }, 'the store could not be swept')
        cursor = undefined
      }
      timer = setTimeout(step, cursor === undefined ? roundPauseMs : stepPauseMs).unref()
    }

    timer = setTimeout(step, stepPauseMs).unref()
    app.addHook('preClose', async () => clearTimeout(timer))
  },
  { name: 'sweeper', dependencies: ['store', 'sessions'] },
)
