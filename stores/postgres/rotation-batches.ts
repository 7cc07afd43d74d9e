import type { PresentedRefresh } from '../../domain/session.ts'
import { futureFrom } from '../../domain/time.ts'
import { arrayLiteral, type Fields } from './columns.ts'
import type { Run, Statement } from './statement.ts'

/** Statements under way at once, each on a connection of its own; later refreshes wait for the next. */
const batchesAtOnce = 2
const batchAtMost = 64
/** A batch takes a few milliseconds. When the database stalls, waiting refreshes go to other connections. */
const patienceMs = 50

interface Waiting {
  presented: PresentedRefresh
  resolve(row: Fields | undefined): void
  reject(error: unknown): void
}

/**
 * Rotates concurrent sessions by one statement: one round trip, one commit and one sync for the batch. A single refresh
 * does not wait for others.
 *
 * @returns a function that rotates one; undefined when it was not rotated
 */
export function createRotationBatches(
  run: Run,
  statements: Record<'rotateSession' | 'rotateSessions', Statement>,
): (presented: PresentedRefresh) => Promise<Fields | undefined> {
  let waiting: Waiting[] = []
  let underWay = 0
  let isDue = false
  let patience: NodeJS.Timeout | undefined

  async function runBatch(batch: Waiting[]): Promise<void> {
    underWay += 1
    try {
      const rows = await rotateAll(batch.map(({ presented }) => presented))
      const byId = new Map(rows.map((row) => [row.s_id, row]))
      for (const { presented, resolve } of batch) resolve(byId.get(presented.sessionId))
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      underWay -= 1
      begin()
    }
  }

  function rotateAll(all: PresentedRefresh[]): Promise<Fields[]> {
    const [{ idleTtlMs, maxTtlMs, browser, ...first }] = all as [PresentedRefresh]
    const future = futureFrom(first.now)
    const mfa = first.mfa ?? 'optional'
    if (all.length === 1) {
      const { sessionId, counter, now, address, userAgent, clientId, scope = [], clientCreatedAt } = first
      return run(
        statements.rotateSession,
        ...[
          sessionId,
          counter,
          now,
          address,
          userAgent,
          clientId,
          idleTtlMs,
          maxTtlMs,
          scope,
          clientCreatedAt,
          future,
          mfa,
          browser.idleTtlMs,
          browser.maxTtlMs,
        ],
      )
    }
    return run(
      statements.rotateSessions,
      all.map(({ sessionId }) => sessionId),
      all.map(({ counter }) => counter),
      all.map(({ now }) => now),
      all.map(({ address }) => address),
      all.map(({ userAgent }) => userAgent),
      all.map(({ clientId }) => clientId),
      idleTtlMs,
      maxTtlMs,
      all.map(({ scope = [] }) => arrayLiteral(scope)),
      all.map(({ clientCreatedAt }) => clientCreatedAt),
      future,
      mfa,
      browser.idleTtlMs,
      browser.maxTtlMs,
    )
  }

  /** @param isLate whether they waited for long: then the batches under way are stuck, and others begin beside them */
  function begin({ isLate = false } = {}): void {
    while (waiting.length > 0 && (underWay < batchesAtOnce || isLate)) {
      // A session is in a batch once: of two, the statement would take either.
      const batch = new Map<string, Waiting>()
      const rest: Waiting[] = []
      for (const one of waiting) {
        if (batch.size < batchAtMost && !batch.has(one.presented.sessionId)) batch.set(one.presented.sessionId, one)
        else rest.push(one)
      }
      waiting = rest
      void runBatch([...batch.values()])
    }
    if (waiting.length === 0) return
    if (patience === undefined) {
      patience = setTimeout(() => {
        patience = undefined
        begin({ isLate: true })
      }, patienceMs)
    }
  }

  return (presented) =>
    new Promise((resolve, reject) => {
      waiting.push({ presented, resolve, reject })
      if (isDue) return
      isDue = true
      // Refreshes of the same turn of the event loop share a batch.
      setImmediate(() => {
        isDue = false
        begin()
      })
    })
}
