/**
 * An end in the middle of a write.
 *
 * `process.exit` joins the threads of libuv's pool. One that is inside a transaction waits for the thread that is ending
 * to run the transaction's callbacks, and holds LMDB's one write lock: both would wait for ever, and with them every
 * process on the store. Killed, the process gives the lock back, and nothing of the transaction is there.
 */
const stores = new Set<{ transactions: number }>()

process.on('exit', () => {
  for (const { transactions } of stores) if (transactions > 0) process.kill(process.pid, 'SIGKILL')
})

/** Has the process be killed, where it ends while a transaction of a store is under way. */
export function guardExit() {
  const store = { transactions: 0 }
  stores.add(store)
  const ended = () => {
    store.transactions -= 1
  }
  return {
    during<T>(transaction: Promise<T>): Promise<T> {
      store.transactions += 1
      transaction.then(ended, ended)
      return transaction
    },
    /** When the store is closed, or will not end a transaction any more. */
    release: () => void stores.delete(store),
  }
}
