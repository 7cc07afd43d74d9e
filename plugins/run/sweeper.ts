import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { failuresLastMs } from '../../domain/failures.ts'
import { revocationExpiry } from '../../domain/lifetimes.ts'
import { omitUndefined } from '../../domain/omit-undefined.ts'
import { believedAfterMs, createSteadyClock } from '../../domain/time.ts'
import { type SweptTable, sweptTables } from '../../stores/sweeping.ts'

declare module 'fastify' {
  interface FastifyInstance {
    sweeper: ReturnType<typeof createSweeper>
  }
}

const rowsPerStep = 500
/** Between the steps of a round, and before the first: short, and long enough for requests to come first. */
const stepPauseMs = 250
const roundPauseMs = 60_000

/** Removes expired rows, a small batch at a time, in one process of all; two that meet do no harm. */
function createSweeper({
  config,
  store,
  jobs,
  sessions,
  revocations,
  now,
  uptimeMs,
  log,
}: Pick<FastifyInstance, 'config' | 'store' | 'jobs' | 'sessions' | 'revocations' | 'now' | 'uptimeMs' | 'log'>) {
  // A leap that has lasted for the life of a revocation sweeps none that a token could still need.
  const revocationLastsMs = revocationExpiry(0, config.AUTH_ACCESS_TTL.seconds)
  const steadyNow = createSteadyClock(now, uptimeMs, Math.max(believedAfterMs, revocationLastsMs))
  const startedMs = uptimeMs()
  let cursor: string | undefined
  let roundBeganMs = startedMs
  /** What had expired by then is gone; at first, as if a round had ended before the start. */
  let sweptUntilMs = startedMs
  const removed = Object.fromEntries(sweptTables.map((table) => [table, 0])) as Record<SweptTable, number>

  /** @returns whether the round goes on */
  async function step(): Promise<boolean> {
    const from = cursor
    // A step that fails ends its round.
    cursor = undefined
    const steady = steadyNow()
    if (from === undefined) roundBeganMs = uptimeMs()
    const swept = await store.sweep(
      omitUndefined({
        ...sessions.limits(),
        now: steady,
        clockNow: now(),
        graceMs: config.AUTH_REFRESH_GRACE.ms,
        failuresBefore: steady - failuresLastMs,
        revocationsBefore: revocations.maySweep ? steady : 0,
        auditBefore: steady - config.AUTH_AUDIT_RETENTION.ms,
        limit: rowsPerStep,
        cursor: from,
      }),
    )
    cursor = swept.cursor
    if (cursor === undefined) sweptUntilMs = roundBeganMs
    removed[swept.table] += swept.removed
    if (swept.removed > 0) log.debug({ removed: swept.removed }, 'expired rows were swept')
    return cursor !== undefined
  }

  jobs.every(roundPauseMs, async () => ((await step()) ? stepPauseMs : roundPauseMs), 'the store could not be swept', {
    firstPauseMs: stepPauseMs,
    oneRunner: 'sweep',
  })
  return {
    /** For the metrics: rows removed by this process, and how old what has expired can be while it is still there. */
    get progress() {
      return { removed, behindMs: uptimeMs() - sweptUntilMs }
    },
    /** A whole round, at once. */
    async round(): Promise<void> {
      cursor = undefined
      while (await step());
    },
  }
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('sweeper', createSweeper(app))
  },
  { name: 'sweeper', dependencies: ['store', 'jobs', 'sessions', 'revocations'] },
)
