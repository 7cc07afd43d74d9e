import type { RootDatabase } from 'lmdb'
import type { Audit, AuditRow } from '../../domain/audit.ts'
import { StoreUnavailable } from '../store.ts'
import { countTransactions } from './transactions.ts'
import { causeOf, isPanic, whyUnavailable } from './unavailable.ts'

/** Below the five seconds within which a caller must have its 503. */
const commitMs = 4_500

/** What the methods of a table read and write by. */
export type Runs = ReturnType<typeof createRuns>

/**
 * Runs what reads and writes an environment, until it is closed or broken.
 *
 * @param hasFailed is called when anything has failed @param addAudit adds audit rows, inside a transaction
 */
export function createRuns(
  root: RootDatabase,
  dataDir: string,
  { hasFailed, addAudit }: { hasFailed(): void; addAudit(rows: AuditRow[]): void },
) {
  const underWay = countTransactions(dataDir)
  let closed = false
  let breaks: (line: string) => void = () => {}
  let isBroken = false
  const broken = new Promise<string>((resolve) => {
    breaks = resolve
  })

  async function run<T>(what: 'read' | 'written', work: () => T | Promise<T>): Promise<T> {
    if (closed || isBroken) throw new StoreUnavailable(new Error('The store is closed'))
    try {
      return await work()
    } catch (error) {
      hasFailed()
      // What is queued behind a commit that broke LMDB would never be answered, so nothing more may be.
      if (what === 'written') await read(() => void root.getStats()).catch(() => {})
      const cause = await causeOf(error)
      const line = whyUnavailable(dataDir, cause, what)
      if (isPanic(cause)) {
        isBroken = true
        underWay.release()
        breaks(line)
      }
      throw new StoreUnavailable(cause, line)
    }
  }
  /** Begins a new snapshot: lmdb-js would reuse the last one, and miss what another process has committed since. */
  const read = <T>(work: () => T): Promise<T> =>
    run('read', () => {
      root.resetReadTxn()
      return work()
    })
  const write = <T>(callback: () => T): Promise<T> =>
    run('written', () =>
      inTime(
        underWay.during(() => {
          // It may have had to wait for an opening.
          if (closed) throw new Error('The store is closed')
          return root.transaction(callback)
        }),
      ),
    )
  /** A change with its audit rows, which are made before anything is written, for to make them may fail. */
  async function change(audit: Audit<boolean> | undefined, callback: () => boolean): Promise<boolean> {
    const told = audit?.(true) ?? []
    return write(() => {
      const hasChanged = callback()
      if (hasChanged) addAudit(told)
      return hasChanged
    })
  }

  return {
    run,
    read,
    write,
    change,
    /**
     * A process that was killed in the middle of a read, such as a command, is a reader until somebody looks. No page that
     * it could see is used again meanwhile, and the file grows with each write.
     */
    forgetDeadReaders: () => run('read', () => void root.readerCheck()),

    /** Resolves, if ever, with a line for the operator: see `Store`. */
    broken,
    isUsable: () => !closed && !isBroken,
    async close() {
      if (closed) return
      closed = true
      if (!isBroken) await root.close()
      underWay.release()
    },
  }
}

/** Rejects when a commit takes too long. It may still come to pass, as the caller is told by a 503. */
function inTime<T>(committing: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not on the disk within ${commitMs} ms`)), commitMs)
    committing.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
