import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type AuditRow, erasingEvent } from '../../domain/audit.ts'
import { type EventName, isChange } from '../../events.ts'
import { auditRowOf } from './audit-rows.ts'
import { createFailureBudget } from './failure-budget.ts'

declare module 'fastify' {
  interface FastifyInstance {
    audit: ReturnType<typeof createAuditTrail>
  }
}

/** Rows of what has changed nothing wait so long for others, or until there are so many. */
const pauseMs = 50
const rowsAtOnce = 100
/** Beyond it they are dropped, and counted: a store that is slow or away slows no login. */
const mostWaiting = 1_000
/** After a write that failed. */
const retryMs = 1_000

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
  const waiting: AuditRow[] = []
  /** taken from those that wait, and not yet written */
  let due: AuditRow[] = []
  let timer: NodeJS.Timeout | undefined
  let writing: Promise<void> | undefined
  let dropped = 0
  const failures = createFailureBudget(store, now)

  async function writeBatch(): Promise<void> {
    if (due.length === 0) due = await failures.keepOf(waiting.splice(0, rowsAtOnce))
    if (due.length > 0) await store.addAudit(due)
    due = []
  }
  /** @returns when to go on */
  async function write(): Promise<number> {
    try {
      while (due.length + waiting.length > 0) await writeBatch()
      return pauseMs
    } catch (err) {
      log.warn({ err }, 'what happened could not be written to the store; it is tried again')
      return retryMs
    }
  }
  const begin = (): void => {
    clearTimeout(timer)
    timer = undefined
    writing ??= write().then((nextMs) => {
      writing = undefined
      if (due.length + waiting.length > 0) schedule(nextMs)
    })
  }
  function schedule(ms: number): void {
    timer ??= setTimeout(begin, ms).unref()
  }
  function add(row: AuditRow): void {
    if (waiting.length >= mostWaiting) dropped += 1
    else if (waiting.push(row) >= rowsAtOnce && !writing) begin()
    else if (!writing) schedule(pauseMs)
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
    begin()
    erasing ??= (writing as Promise<void>)
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
      begin()
      while (writing) await writing
      await erasing
    },
    /** Writes what waits, and waits for what is under way. */
    async close(): Promise<void> {
      await countFailures(true)
      clearTimeout(timer)
      await writing
      await write()
      clearTimeout(timer)
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
