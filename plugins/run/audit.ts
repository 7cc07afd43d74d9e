import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type AuditRow, erasingEvent } from '../../domain/audit.ts'
import { type EventName, isChange } from '../../events.ts'
import { auditRowOf } from './audit-rows.ts'
import { createBatches } from './batches.ts'
import { createFailureBudget } from './failure-budget.ts'

declare module 'fastify' {
  interface FastifyInstance {
    audit: ReturnType<typeof createAuditTrail>
  }
}

/** Rows of what has changed nothing go to the store behind the answers; `retryMs` after a write that failed. */
const batching = { rowsAtOnce: 100, pauseMs: 50, retryMs: 1_000 }
/** Beyond it they are dropped, and counted: a store that is slow or away slows no login. */
const mostWaiting = 1_000

const erasedAtOnce = 200
const erasePauseMs = 60_000
/** By then a request that was under way when its user was deleted is over, and what it has told is written. */
const settledMs = 60_000

/**
 * What happened, as rows in the store. A change is written by `changes`, in its own step; what changes nothing, such as
 * a failed login, is written here, a moment later and many at once.
 *
 * When a user is deleted, the rows lose who that was: at once, by this process; and by a job, where it was killed.
 */
function createAuditTrail({
  store,
  events,
  jobs,
  log,
  now,
}: Pick<FastifyInstance, 'store' | 'events' | 'jobs' | 'log' | 'now'>) {
  let dropped = 0
  const failures = createFailureBudget(store, now)
  /** of the batch that is being written: a failed login is put to the budget once, however often the write is tried */
  let kept: AuditRow[] | undefined

  const batches = createBatches<AuditRow>({
    ...batching,
    async write(rows) {
      kept ??= await failures.keepOf(rows)
      if (kept.length > 0) await store.addAudit(kept)
      kept = undefined
    },
    log,
    failed: 'what happened could not be written to the store',
  })
  function add(row: AuditRow): void {
    if (batches.waiting >= mostWaiting) dropped += 1
    else batches.add(row)
  }

  events.onAny((event, members, caller) => {
    if (!isChange(event)) add(auditRowOf(caller, event, members, now()))
  })

  /** Writes how many failures of a minute were not kept one by one, when it is over. */
  async function countFailures(isOver = false): Promise<void> {
    for (const [event, count] of failures.takeUncounted(isOver))
      add(auditRowOf({ log }, event as EventName, { count }, now()))
  }
  jobs.every(10_000, () => countFailures(), 'failed logins could not be counted')

  async function erase(): Promise<void> {
    let cursor: string | undefined
    do {
      const step = { settledBefore: now() - settledMs, limit: erasedAtOnce }
      cursor = await store.eraseAudit(cursor === undefined ? step : { ...step, cursor })
      if (cursor !== undefined) await sleep(5)
    } while (cursor !== undefined)
  }
  let erasing: Promise<void> | undefined
  let isErasedAgain = false
  /** At once, for whoever looks; a deletion during it has it begin again. */
  function eraseSoon(): void {
    isErasedAgain = erasing !== undefined
    erasing ??= batches
      .writeSoon()
      .then(erase)
      .catch((err) => log.warn({ err }, 'the rows of a deleted user still say who it was; it is tried again'))
      .finally(() => {
        erasing = undefined
        if (isErasedAgain) eraseSoon()
      })
  }
  events.on('user', (_, event) => {
    if (event === erasingEvent) eraseSoon()
  })
  jobs.every(erasePauseMs, erase, 'the rows of deleted users could not be looked at', { oneRunner: 'audit erasure' })

  return {
    /** Rows that were dropped, because the store took them too slowly. */
    get dropped() {
      return dropped
    },
    /** Writes all that waits. For tests. */
    async written(): Promise<void> {
      await batches.writeSoon()
      await erasing
    },
    /** Writes what waits, and waits for what is under way. */
    async close(): Promise<void> {
      await countFailures(true)
      await batches.close()
      while (erasing) await erasing
    },
  }
}

/** After the store, so that at the end it writes before the store closes. */
export default fp(
  async (app: FastifyInstance) => {
    app.decorate('audit', createAuditTrail(app))
    app.addHook('onClose', () => app.audit.close())
  },
  { name: 'audit', dependencies: ['store', 'events', 'jobs'] },
)
