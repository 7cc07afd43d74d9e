/**
 * Another process on the environment in `argv[2]`. It says on stdout what the store has acknowledged:
 *
 * - `count KEY N` records N failures under a key, ten at a time, and says each count;
 * - `exit` ends by itself in the middle of a write;
 * - `again` opens the environment a second time in the middle of a write, and says the count of it and of the next;
 * - `die` is killed in the middle of a read;
 * - `create` adds users until it is killed, each with a record that is taken; one line with the id of each, written only
 *   after the promises resolved.
 */
import { randomUUID } from 'node:crypto'
import { writeSync } from 'node:fs'
import { openLmdbStore } from '../../stores/lmdb/store.ts'
import { openStore } from '../../stores/open.ts'

const [, , dir = '', task, key = '', times] = process.argv
const store = openLmdbStore(dir)
// Both children must be up before either begins, or there is no race.
const started = new Promise((resolve) => process.stdin.once('data', resolve))
writeSync(1, 'ready\n')
await started

/** In the turn after a write: its transaction begins meanwhile, and waits for this thread. */
const waitForTransaction = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)

if (task === 'count') {
  for (let i = 0; i < Number(times); i += 10) {
    const counts = await Promise.all(Array.from({ length: 10 }, () => store.recordFailure([{ key }], 1)))
    writeSync(1, counts.map(([failures]) => `${failures?.count}\n`).join(''))
  }
  await store.close()
  process.exit(0)
}
if (task === 'exit') {
  store.recordFailure([{ key: 'key' }], 1)
  setImmediate(() => {
    waitForTransaction()
    process.exit(0)
  })
}
if (task === 'again') {
  const first = store.recordFailure([{ key: 'key' }], 1)
  setImmediate(async () => {
    waitForTransaction()
    const again = await openStore({ kind: 'lmdb', dir })
    for (const counting of [first, again.recordFailure([{ key: 'key' }], 1)]) {
      const [failures] = await counting
      writeSync(1, `${failures?.count}\n`)
    }
    await Promise.all([store.close(), again.close()])
    process.exit(0)
  })
}
if (task === 'die') {
  store.findUser(key)
  // In the same turn of the event loop, which the transaction of the read lasts for.
  process.kill(process.pid, 'SIGKILL')
}
if (task === 'create') {
  for (;;) {
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const id = randomUUID()
        await store.createUser({
          id,
          username: id,
          nameKey: id,
          passwordHash: 'x'.repeat(100),
          roles: [],
          createdAt: 1,
          generation: 1,
        })
        const record = { id, kind: 'code', owner: id, source: id, data: '{}', misses: 0, version: 0 }
        await store.issueRecord({ ...record, createdAt: 1, expiresAt: 1e6 }, { perOwner: 1, perSource: 1 })
        await store.takeRecord({ id, kind: 'code', now: 1, keep: { gave: id, until: 1e6 } })
        // Not written at once where the pipe is full, and then lost with the process: it only says less than it could.
        process.stdout.write(`${id}\n`)
      }),
    )
  }
}
