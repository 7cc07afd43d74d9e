import { mock } from 'node:test'
import t from 'tap'
import { createLoginBatch } from '../../plugins/login/login-batch.ts'

/* How finished logins resume. That the service does so is in accounts.test.ts. */

const concurrency = 2
const [fastMs, slowMs] = [10, 200]
const [fewWait, manyWait] = [5, 100]

/** A batch on a clock of its own, and the logins that have resumed. */
function withLogins() {
  mock.timers.enable({ apis: ['setTimeout'] })
  const batch = createLoginBatch(concurrency)
  const resumed: string[] = []
  const finish = async (name: string, waiting = fewWait, hashMs = fastMs) => {
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

t.test('while others wait, logins resume together once as much time is over as those are going to wait', async (t) => {
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

t.test('however many wait, that is after 200 ms', async (t) => {
  const { resumed, finish, pass } = withLogins()
  await finish('first', manyWait)
  await pass(199)
  await finish('second', manyWait)
  t.same(resumed, [])
  await pass(1)
  t.same(resumed, ['first', 'second'])
})

t.test('the 32nd login completes a batch', async (t) => {
  const { resumed, finish } = withLogins()
  const names = Array.from({ length: 32 }, (_, n) => `login ${n}`)
  for (const name of names) {
    t.same(resumed, [])
    await finish(name)
  }
  t.ok(resumed.length < names.length, 'not in one turn of the event loop: others are not to wait for all of them')
  for (let turn = 1; turn <= 3; turn++) await settle()
  t.same(resumed, names)
})

t.test('a batch is complete before the threads that hash have nothing to do', async (t) => {
  const { resumed, finish } = withLogins()
  await finish('first', concurrency)
  await finish('last', concurrency - 1)
  t.same(resumed, ['first', 'last'])
})

t.test('hashes so slow that a batch would hardly fill are not waited for', async (t) => {
  const { resumed, finish } = withLogins()
  await finish('slow', fewWait, slowMs)
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
