import { resolve } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'

/*
 * The transactions of this process that are under way. One runs in a thread of libuv's pool, holds LMDB's one write lock,
 * and waits for the main thread to run its callbacks. Where the main thread waits for it in turn, both wait for ever, and
 * with them every process on the store. There are two occasions:
 *
 * - `process.exit` joins the threads of the pool. Killed, the process gives the lock back, and nothing of the
 *   transaction is there.
 * - To open a store takes the write lock, and lmdb-js waits for it in the main thread. Another process is not in its way,
 *   for that one's main thread goes on; the same store, opened before by this process, is.
 */

const stores = new Set<{ dir: string; transactions: number }>()
/** Directories of stores that are being opened: no transaction begins there meanwhile, or those of a busy service never end. */
const opening: string[] = []

process.on('exit', () => {
  for (const { transactions } of stores) if (transactions > 0) process.kill(process.pid, 'SIGKILL')
})

/** Counts the transactions of a store, for as long as it is open. */
export function countTransactions(dataDir: string) {
  const store = { dir: resolve(dataDir), transactions: 0 }
  stores.add(store)
  const ended = () => {
    store.transactions -= 1
  }
  function during<T>(begin: () => Promise<T>): Promise<T> {
    if (opening.includes(store.dir)) return nextTurn().then(() => during(begin))
    const transaction = begin()
    store.transactions += 1
    transaction.then(ended, ended)
    return transaction
  }
  return {
    during,
    /** When the store is closed, or will not end a transaction any more. */
    release: () => void stores.delete(store),
  }
}

/** Opens a store that this process may have opened before, in a turn in which it has no transaction there. */
export async function betweenTransactions<T>(dataDir: string, open: () => T): Promise<T> {
  const dir = resolve(dataDir)
  opening.push(dir)
  try {
    while ([...stores].some((store) => store.dir === dir && store.transactions > 0)) await nextTurn()
    return open()
  } finally {
    opening.splice(opening.indexOf(dir), 1)
  }
}
