import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { failuresLastMs } from '../../domain/failures.ts'
import { createSteadyClock } from '../../domain/time.ts'

declare module 'fastify' {
  interface FastifyInstance {
    sweeper: {
      /** Leaves the sweeping to another process. */
      stop(): void
      /** A whole round, at once. */
      round(): Promise<void>
    }
  }
}

const rowsPerStep = 500
/** Between the steps of a round, and between rounds. */
const stepPauseMs = 250
const roundPauseMs = 60_000

/** Removes what has expired, a small batch at a time, in every replica: two that meet do no harm. */
export default fp(
  async (app: FastifyInstance) => {
    const { config, store, sessions, accessTokens, now, uptimeMs, log } = app
    const steadyNow = createSteadyClock(now, uptimeMs)
    const startedMs = uptimeMs()
    const revocationMs = accessTokens.forgottenAt() - now()
    let cursor: string | undefined
    let timer: NodeJS.Timeout | undefined
    let isStopped = false

    async function step(): Promise<void> {
      try {
        await sweepSome()
      } catch (error) {
        log.warn({ err: error }, 'the store could not be swept')
        cursor = undefined
      }
      if (!isStopped) timer = setTimeout(step, cursor === undefined ? roundPauseMs : stepPauseMs).unref()
    }

    async function sweepSome(): Promise<void> {
      const steady = steadyNow()
      const swept = await store.sweep({
        ...sessions.limits(),
        now: steady,
        clockNow: now(),
        graceMs: config.AUTH_REFRESH_GRACE.ms,
        failuresBefore: steady - failuresLastMs,
        // What was there at the start stays for as long as one lasts: the clock may have been wrong already.
        revocationsBefore: uptimeMs() - startedMs > revocationMs ? steady : 0,
        limit: rowsPerStep,
        ...(cursor !== undefined && { cursor }),
      })
      cursor = swept.cursor
      if (swept.removed > 0) log.debug({ removed: swept.removed }, 'expired rows were swept')
    }

    if (!app.command) timer = setTimeout(step, stepPauseMs).unref()
    const stop = () => {
      isStopped = true
      clearTimeout(timer)
    }
    const round = async () => {
      cursor = undefined
      do await sweepSome()
      while (cursor !== undefined)
    }
    app.decorate('sweeper', { stop, round })
    app.addHook('preClose', async () => stop())
  },
  { name: 'sweeper', dependencies: ['store', 'sessions', 'access-tokens'] },
)
