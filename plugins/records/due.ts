import { setMaxListeners } from 'node:events'
import type { FastifyInstance } from 'fastify'
import type { ShortRecord } from '../../domain/record.ts'
import { elapsedMs } from '../../domain/time.ts'
import { StoreUnavailable } from '../../stores/store.ts'

/** After the store did not answer. */
const storePauseMs = 5_000
/**
 * A process that sends has the record for so long, and as often again as it says so. Then it is due again: that process
 * was killed.
 */
export const leaseMs = 15_000
/** At the end of the app what is being sent has so long, or this part of AUTH_SHUTDOWN_GRACE. */
const lastMs = 2_000
const partOfGrace = 4

/**
 * Says until when this process has a record, or when it is tried again; without a time, that it is done with.
 *
 * @param change of its data
 */
export type Save = (dueAt?: number, change?: (data: string) => string) => Promise<void>

interface DueWork {
  /** of the records that these are */
  kinds: string[]
  /** between two looks at what is due */
  pollMs: number
  /** by one process */
  atOnce: number
  /** Sends for a record that this process has, and says by `save`, or by removing it, what comes next. */
  deliver(record: ShortRecord, save: Save): Promise<void>
  /** for the log: of a look that failed, and of a delivery after which the store did not answer */
  words: { unseen: string; waits: string }
}

/**
 * Sends what records are due for. Every process looks; whoever moves `dueAt` on sends, and then says in the record that
 * it is done, or when it is tried again. So each is sent at least once, whoever is killed whenever, and one that was used
 * or replaced meanwhile is not sent any more.
 */
export function createDueWork(
  { config, store, jobs, log, now }: Pick<FastifyInstance, 'config' | 'store' | 'jobs' | 'log' | 'now'>,
  { kinds, pollMs, atOnce, deliver, words }: DueWork,
) {
  const running = new Set<Promise<void>>()
  const abort = new AbortController()
  // Each that is being sent may listen; Node warns of eleven.
  setMaxListeners(2 * atOnce, abort.signal)
  let isStopping = false
  let looking: Promise<void> | undefined
  let waitedMs = 0

  const keyOf = ({ kind, id }: ShortRecord) => ({ kind, id, now: now() })

  /** @returns the record as this process has it; undefined where another was first, or it has just changed */
  async function claim(record: ShortRecord): Promise<ShortRecord | undefined> {
    const dueAt = now() + leaseMs
    const isDone = await store.replaceRecord(keyOf(record), record.version, record.data, dueAt)
    return isDone ? { ...record, version: record.version + 1, dueAt } : undefined
  }

  /**
   * A record that this process has. Guesses at its code, and a change of AUTH_SECRET, may change it meanwhile: then it is
   * read again, and given up where it is used, replaced, or taken to be abandoned.
   */
  function hold(claimed: ShortRecord): Save {
    let held: ShortRecord | undefined = claimed
    return async (dueAt, change = (same) => same) => {
      while (held) {
        const data = change(held.data)
        if (await store.replaceRecord(keyOf(held), held.version, data, dueAt)) {
          held = { ...held, data, version: held.version + 1, ...(dueAt !== undefined && { dueAt }) }
          return
        }
        const found = await store.findRecord(keyOf(held))
        held = found && found.dueAt === held.dueAt ? found : undefined
      }
    }
  }

  /** Takes what is due, as much as there is room for, and begins to send it. */
  async function takeDue(): Promise<void> {
    while (!isStopping) {
      const room = atOnce - running.size
      const due = await store.dueRecords(kinds, now(), Math.max(room, 1))
      waitedMs = due[0]?.dueAt === undefined ? 0 : elapsedMs(due[0].dueAt, now())
      const claimed = (await Promise.all(due.slice(0, room).map(claim))).filter((record) => record !== undefined)
      // Nothing, or others have it, who look themselves.
      if (claimed.length === 0) return
      for (const record of claimed) start(record)
    }
  }

  function start(record: ShortRecord): void {
    const work = deliver(record, hold(record))
      .catch((error) => log.warn({ err: error, record: record.id }, words.waits))
      .finally(() => {
        running.delete(work)
        // There is room for the next.
        void lookOn()
      })
    running.add(work)
  }

  async function look(): Promise<void> {
    if (isStopping) return
    looking ??= takeDue().finally(() => {
      looking = undefined
    })
    await looking
  }

  /** A look that never fails. @returns the pause until the next, which finds what this one could not */
  const lookOn = (): Promise<number> =>
    look().then(
      () => pollMs,
      (error) => {
        log.warn({ err: error }, words.unseen)
        return storePauseMs
      },
    )

  return {
    /** How long a record had been due when this process looked last. */
    get waitedMs() {
      return waitedMs
    },
    /** Looks from now on, until the app closes. */
    begin: () => jobs.every(pollMs, lookOn, words.unseen),
    look,
    lookOn,
    /** Waits until nothing is being sent, nor looked for behind it. */
    async sent(): Promise<void> {
      while (looking || running.size > 0) {
        await looking?.catch(ignoreUnavailable)
        await Promise.all(running)
      }
    },
    /** aborts a moment after the app has begun to close */
    signal: abort.signal as AbortSignal,
    /** Begins with nothing more; what is being sent has a moment yet. */
    stop(): void {
      isStopping = true
      setTimeout(() => abort.abort(), Math.min(lastMs, config.AUTH_SHUTDOWN_GRACE.ms / partOfGrace)).unref()
    },
    async close(): Promise<void> {
      await looking?.catch(ignoreUnavailable)
      await Promise.all(running)
    },
  }
}

/** The next look finds it. */
export function ignoreUnavailable(error: unknown): void {
  if (!(error instanceof StoreUnavailable)) throw error
}
