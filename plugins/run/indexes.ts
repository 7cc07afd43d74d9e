import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { omitUndefined } from '../../domain/omit-undefined.ts'

const rowsPerStep = 250
/** Between two steps: requests come first. */
const stepPauseMs = 2
const roundPauseMs = 60_000
const progressMs = 10_000

/**
 * Makes what an index lacks that this release has added, a small step at a time: a large store is served meanwhile. A
 * look that finds nothing costs nothing.
 */
export default fp(
  async ({ store, jobs, log, uptimeMs }: FastifyInstance) => {
    const { completeIndexes } = store
    if (!completeIndexes) return
    let cursor: string | undefined
    let told: number | undefined

    async function step(): Promise<number> {
      const from = cursor
      // A step that fails begins anew: what is there already is only looked at.
      cursor = undefined
      const completed = await completeIndexes?.(omitUndefined({ limit: rowsPerStep, cursor: from }))
      cursor = completed?.cursor
      const isOver = cursor === undefined
      if (isOver ? told !== undefined : uptimeMs() - (told ?? 0) >= progressMs) {
        told = isOver ? undefined : uptimeMs()
        log.info({ percent: isOver ? 100 : Math.floor((completed?.share ?? 0) * 100) }, 'an index is being made')
      }
      return isOver ? roundPauseMs : stepPauseMs
    }
    jobs.every(roundPauseMs, step, 'an index could not be made', { firstPauseMs: stepPauseMs, oneRunner: 'indexes' })
  },
  { name: 'indexes', dependencies: ['store', 'jobs'] },
)
