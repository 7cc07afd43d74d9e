import type { FastifyBaseLogger } from 'fastify'

interface BatchOptions<Row> {
  /** Fails when the store is away: then the same rows come again. */
  write: (rows: Row[]) => Promise<void>
  rowsAtOnce: number
  /** A row waits so long for others, or until there are `rowsAtOnce`. */
  pauseMs: number
  /** after a write that failed */
  retryMs: number
  log: FastifyBaseLogger
  /** what the line of a write that failed says */
  failed: string
}

/**
 * Rows that go to the store behind the answers, many at once: a store that is slow or away slows no request. How many
 * may wait is up to who adds them. What is lost with a process that is killed is the last moment.
 */
export function createBatches<Row>({ write, rowsAtOnce, pauseMs, retryMs, log, failed }: BatchOptions<Row>) {
  const waiting: Row[] = []
  /** taken from those that wait, and not yet written */
  let due: Row[] = []
  let timer: NodeJS.Timeout | undefined
  let writing: Promise<void> | undefined
  let isClosed = false

  const isDone = () => due.length + waiting.length === 0
  async function writeAll(): Promise<void> {
    while (!isDone()) {
      if (due.length === 0) due = waiting.splice(0, rowsAtOnce)
      await write(due)
      due = []
    }
  }
  function schedule(ms: number): void {
    if (!isClosed && !writing) timer ??= setTimeout(writeSoon, ms).unref()
  }
  /** Writes what waits, one write at a time. @returns when it is written, or has failed and is tried again later */
  function writeSoon(): Promise<void> {
    clearTimeout(timer)
    timer = undefined
    writing ??= writeAll()
      .then(
        () => pauseMs,
        (err) => {
          log.warn({ err }, isClosed ? failed : `${failed}; it is tried again`)
          return retryMs
        },
      )
      .then((nextMs) => {
        writing = undefined
        if (!isDone()) schedule(nextMs)
      })
    return writing
  }

  return {
    /** How many wait, beside those that are being written. */
    get waiting() {
      return waiting.length
    },
    find: (isIt: (row: Row) => boolean): Row | undefined => due.find(isIt) ?? waiting.find(isIt),
    add(row: Row): void {
      if (waiting.push(row) === rowsAtOnce) writeSoon()
      else schedule(pauseMs)
    },
    writeSoon,
    /** Writes what waits, once more, and keeps no timer. */
    async close(): Promise<void> {
      await writing
      isClosed = true
      await writeSoon()
    },
  }
}
