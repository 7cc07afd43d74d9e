import { mock } from 'node:test'
import t from 'tap'
import { createLoginBatch } from '../../plugins/login/login-batch.ts'

/* How finished logins resume. That the service does so is in accounts.test.ts. */

const concurrency = 2
const [fastMs, slowMs] = [10, 25]
const manyWait = 5

/** A batch on a clock of its own, and the logins that have resumed. */
function withLogins() {
  mock.timers.enable({ apis: ['setTimeout'] })
  const batch = createLoginBatch(concurrency)
  const resumed: string[] = []
  const finish = async (name: string, waiting = manyWait, hashMs = fastMs) => {
    void Promise.resolve(batch.nextBatch(waiting, hashMs)).then(() => resumed.push(name))
    await settle()
  }
  const pass = async (ms: number) => {
    mock.timers.tick(ms)
    await settle()
  }
  return { batch, resumed, finish, pass }
}

const settle = () => new Promise((resolve) => setImmediate(resolve))

t.afterEach(() => mock.timers.reset())

t.test('a login that finishes while nobody waits resumes at once', async (t) => {
  const { resumed, finish } = withLogins()
  await finish('only', 0)
  t.same(resumed, ['only'])
})

t.test('while others wait, logins resume together after 25 ms', async (t) => {
  const { resumed, finish, pass } = withLogins()
  await finish('first')
  await pass(20)
  await finish('second')
  await pass(4)
  t.same(resumed, [])
  await pass(1)
  t.same(resumed, ['first', 'second'])
  await finish('third')
  await pass(24)
  t.equal(resumed.length, 2, 'the next batch has its own time')
})

t.test('the eighth login completes a batch', async (t) => {
  const { resumed, finish } = withLogins()
  const names = Array.from({ length: 8 }, (_, n) => `login ${n}`)
  for (const name of names) {
    t.same(resumed, [])
    await finish(name)
  }
  t.same(resumed, names)
})

t.test('the last login that waited completes a batch', async (t) => {
  const { resumed, finish } = withLogins()
  await finish('first')
  await finish('last', 0)
  t.same(resumed, ['first', 'last'])
})

t.test('hashes so slow that a batch would hardly fill are not waited for', async (t) => {
  const { resumed, finish } = withLogins()
  await finish('slow', manyWait, slowMs)
  t.same(resumed, ['slow'])
})

t.test('a flush resumes all, and keeps no timer', async (t) => {
  const { batch, resumed, finish, pass } = withLogins()
  await finish('first')
  batch.flush()
  await settle()
  t.same(resumed, ['first'])
  await pass(20)
  await finish('second')
  await pass(5)
  t.same(resumed, ['first'], 'the time of the first is over')
})
