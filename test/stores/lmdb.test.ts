import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { open } from 'lmdb'
import t, { type Test } from 'tap'
import type { End } from '../../domain/lifetimes.ts'
import { checkFile, lmdbFile } from '../../stores/lmdb/file.ts'
import { openLmdbStore } from '../../stores/lmdb/store.ts'
import { openStore } from '../../stores/open.ts'
import { StoreUnavailable } from '../../stores/store.ts'
import { moduleFile } from '../support/program.ts'
import { storeContract } from './contract.ts'

t.test('the contract', async (t) => {
  const dir = t.testdir()
  await storeContract(t, 'lmdb', () => openLmdbStore(dir))
  t.equal(checkFile(lmdbFile(dir)), 'all', 'a store that all of this was done to is no damaged one')
})

/** Starts `lmdb.child.ts` under the loaders of this process, and gathers the whole lines that it prints. */
async function startChild(
  t: Test,
  ...args: string[]
): Promise<{ child: ChildProcess; lines: string[]; ended: Promise<unknown> }> {
  const script = moduleFile('test/stores/lmdb.child')
  const child = spawn(process.execPath, [...process.execArgv, script, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const lines: string[] = []
  let rest = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const pieces = (rest + text).split('\n')
    rest = pieces.pop() ?? ''
    lines.push(...pieces)
  })
  const ended = once(child.stdout, 'end')
  const endedEarly = ended.then(() => Promise.reject(new Error('the child ended before it was ready')))
  while (!lines.includes('ready')) await Promise.race([once(child.stdout, 'data'), endedEarly])
  lines.length = 0
  return { child, lines, ended }
}

t.test('two processes that count on the same environment agree', async (t) => {
  const dir = t.testdir()
  const children = await Promise.all([
    startChild(t, dir, 'count', 'key', '500'),
    startChild(t, dir, 'count', 'key', '500'),
  ])
  for (const { child } of children) child.stdin?.write('go')
  await Promise.all(children.map(({ ended }) => ended))
  const counts = children.flatMap(({ lines }) => lines.map(Number)).sort((a, b) => a - b)
  t.same(
    counts,
    Array.from({ length: 1000 }, (_, i) => i + 1),
    'each count was given out once',
  )
  const store = openLmdbStore(dir)
  t.same(await store.findFailures([{ key: 'key' }]), [{ count: 1000, lastAt: 1 }])
  await store.close()
})

t.test(
  'a session that cannot be read is refused as trouble of the store, and none of those that came with it',
  async (t) => {
    const dir = t.testdir()
    const [user, ...ids] = Array.from({ length: 4 }, () => randomUUID()) as [string, ...string[]]
    const store = openLmdbStore(dir)
    const [passwordHash, now] = ['$argon2id$', Date.now()]
    await store.createUser({
      ...{ id: user, username: 'ada', nameKey: 'ada', passwordHash, roles: [], createdAt: now, generation: 0 },
    })
    const times = { generation: 0, counter: 0, createdAt: now, refreshedAt: now }
    const seen = { clientId: 'first-party', address: '', userAgent: '' }
    for (const id of ids) await store.createSession({ id, userId: user, scope: [], ...times, ...seen })
    await store.close()
    const root = open({ path: join(dir, 'lmdb'), maxDbs: 32 })
    const rows = root.openDB({ name: 'sessions.2', keyEncoding: 'binary', encoding: 'binary' })
    await rows.put(Buffer.from((ids[1] as string).replaceAll('-', ''), 'hex'), Buffer.from('no row of ours'))
    await root.close()

    const again = openLmdbStore(dir)
    t.teardown(() => again.close())
    const limits = { now, idleTtlMs: 60_000, maxTtlMs: 60_000, browser: { idleTtlMs: 60_000, maxTtlMs: 60_000 } }
    const presented = { ...limits, ...seen, counter: 0, scope: undefined, graceMs: 0 }
    const refresh = (sessionId: string) =>
      again.rotateSession({ ...presented, sessionId }, { now, expiresAt: now } as End)
    const [first, broken, last] = await Promise.allSettled(ids.map(refresh))
    t.match([first, last], [{ value: { outcome: 'rotated' } }, { value: { outcome: 'rotated' } }])
    t.ok(broken?.status === 'rejected' && broken.reason instanceof StoreUnavailable)
    t.match(await again.findSession(ids[0] as string), { counter: 1 })
  },
)

t.test('a process killed in the middle of its writes loses none that it acknowledged', async (t) => {
  const dir = t.testdir()
  for (let round = 1; round <= 3; round++) {
    const { child, lines, ended } = await startChild(t, dir, 'create')
    child.stdin?.write('go')
    while (lines.length < 200 * round) await once(child.stdout as NonNullable<typeof child.stdout>, 'data')
    child.kill('SIGKILL')
    await ended
    t.equal(checkFile(lmdbFile(dir)), 'all', 'killed is not damaged')
    const store = openLmdbStore(dir)
    for (const id of lines) {
      if (!(await store.findUserByName(id))) t.fail(`user ${id} was acknowledged and is not there`)
      const key = { id, kind: 'code', now: 2 }
      const again = [await store.takeRecord(key), (await store.findRecord(key))?.gave]
      if (again[0] !== undefined || again[1] !== id) t.fail(`record ${id} was taken, and is not spent`)
    }
    t.pass(`${lines.length} acknowledged`)
    await store.close()
  }
})

t.test('a process killed in the middle of a read has the file grow no longer than until the next sweep', async (t) => {
  const dir = t.testdir()
  const store = openLmdbStore(dir)
  const keys = Array.from({ length: 100 }, (_, i) => `key ${i}`)
  const write = async (times: number) => {
    for (let i = 0; i < times; i++) await store.recordFailure([{ key: keys[i % keys.length] as string }], 1)
  }
  await write(200)
  const { child, ended } = await startChild(t, dir, 'die')
  child.stdin?.write('go')
  await ended
  await write(100)
  const lives = { idleTtlMs: 1, maxTtlMs: 1 }
  await store.sweep({ now: 1, ...lives, browser: lives, failuresBefore: 0, limit: 1 })
  const bytes = () => statSync(lmdbFile(dir)).size
  const before = bytes()
  await write(500)
  t.equal(bytes(), before, 'its pages are used again')
  await store.close()
})

t.test('a process that ends in the middle of a write ends, and leaves no lock behind', async (t) => {
  const dir = t.testdir()
  const store = openLmdbStore(dir)
  const { child } = await startChild(t, dir, 'exit')
  const exited = once(child, 'exit')
  child.stdin?.write('go')
  t.ok(await Promise.race([exited, sleep(10_000)]), 'it does not wait for itself')
  t.same(await store.recordFailure([{ key: 'another' }], 1), [{ count: 1, lastAt: 1 }], 'others write on')
  await store.close()
})

t.test('a process that opens a store again in the middle of its own write waits for that write first', async (t) => {
  const { child, lines, ended } = await startChild(t, t.testdir(), 'again')
  child.stdin?.write('go')
  t.ok(await Promise.race([ended, sleep(10_000)]), 'it does not wait for itself')
  t.same(lines, ['1', '2'])
})

t.test(
  'a process that opens a store again while it writes without a pause has it soon, and loses no write',
  async (t) => {
    const dir = t.testdir()
    const store = await openStore({ kind: 'lmdb', dir })
    let isWriting = true
    const writing = Array.from({ length: 4 }, async (_, key) => {
      let count = 0
      for (; isWriting; count++) await store.recordFailure([{ key: `${key}` }], 1)
      return count
    })
    const opened = openStore({ kind: 'lmdb', dir })
    t.ok(await Promise.race([opened, sleep(5_000)]))
    isWriting = false
    const counts = await Promise.all(writing)
    const again = await opened
    for (const [key, count] of counts.entries())
      t.same(await again.recordFailure([{ key: `${key}` }], 1), [{ count: count + 1, lastAt: 1 }])
    await Promise.all([store.close(), again.close()])
  },
)
