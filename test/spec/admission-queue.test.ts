import t from 'tap'
import { createAdmissionQueue, type Waiter } from '../../plugins/login/admission-queue.ts'

/* Who waits for a hash, and who is next. What comes of it in a storm is in storm.test.ts. */

const standingAfterMs = 500

/** A queue with a clock, for waiters with names. */
function withNames({ burst, standing }: { burst: number; standing: number }) {
  const clock = { ms: 0 }
  const queue = createAdmissionQueue(
    (isStanding) => (isStanding ? standing : burst),
    standingAfterMs,
    () => clock.ms,
  )
  const names = new Map<Waiter, string>()
  const turnedAway: string[] = []
  const come = (address: string, name = address) => {
    const waiter = { admit() {}, turnAway: () => turnedAway.push(name), joinedAtMs: clock.ms }
    names.set(waiter, name)
    queue.join(address, waiter)
    return waiter
  }
  const next = () => names.get(queue.next() as Waiter)
  return { clock, queue, come, next, turnedAway }
}

t.test('addresses take turns, the oldest request of each first', async (t) => {
  const { come, next } = withNames({ burst: 100, standing: 10 })
  for (const name of ['a1', 'a2', 'a3']) come('a', name)
  come('b', 'b1')
  t.same([next(), next(), next(), next(), next()], ['a1', 'b1', 'a2', 'a3', undefined])
})

t.test('new flows are served before old ones, three in a row', async (t) => {
  const { come, next } = withNames({ burst: 100, standing: 10 })
  come('a', 'a1')
  come('a', 'a2')
  t.equal(next(), 'a1')
  for (const name of ['b', 'c', 'd', 'e']) come(name)
  t.same([next(), next(), next(), next(), next()], ['b', 'c', 'a2', 'd', 'e'])
})

t.test('an address may hold no more places than it leaves free', async (t) => {
  const { queue, come } = withNames({ burst: 10, standing: 4 })
  for (let n = 0; n < 5; n++) {
    t.ok(queue.hasPlace('a'))
    come('a')
  }
  t.notOk(queue.hasPlace('a'))
  for (let n = 0; n < 3; n++) {
    t.ok(queue.hasPlace('b'))
    come('b')
  }
  t.notOk(queue.hasPlace('b'))
})

t.test('in a full queue a new flow displaces the oldest request', async (t) => {
  const { queue, come, next, turnedAway } = withNames({ burst: 3, standing: 3 })
  for (const name of ['a', 'b', 'c', 'd']) {
    t.ok(queue.hasPlace(name))
    come(name)
  }
  t.same(turnedAway, ['a'])
  t.equal(queue.length, 3)
  t.same([next(), next(), next(), next()], ['d', 'c', 'b', undefined], 'and the last come is next')
})

t.test('in a standing queue the newest request is next and few may wait, until it was empty', async (t) => {
  const { clock, queue, come, next } = withNames({ burst: 100, standing: 10 })
  const [first] = ['first', 'second', 'third', 'fourth'].map((name) => come('a', name))
  clock.ms = standingAfterMs
  t.equal(next(), 'first', 'in their order while none has waited for long')
  for (let n = 0; n < 20; n++) come('b', `b${n}`)
  t.ok(queue.hasPlace('b'))
  clock.ms += 1
  t.equal(next(), 'b19')
  t.equal(next(), 'fourth')
  t.notOk(queue.hasPlace('b'), 'who waits already has no place')
  t.ok(queue.hasPlace('c'), 'who does not, has')
  come('c')
  t.equal(next(), 'c')
  while (next()) t.ok(queue.length >= 0)
  t.equal(queue.length, 0)
  for (const name of ['early', 'late']) come('a', name)
  t.same([next(), next()], ['early', 'late'])
  t.doesNotThrow(() => queue.leave(first as Waiter), 'one that had its turn has left already')
})

t.test('a request that has left has no turn, and takes no place', async (t) => {
  const { queue, come, next } = withNames({ burst: 100, standing: 10 })
  const [one, two, three] = [come('a', 'one'), come('a', 'two'), come('b', 'three')]
  come('a', 'four')
  queue.leave(two)
  queue.leave(three)
  queue.leave(three)
  t.equal(queue.length, 2)
  t.same([next(), next(), next()], ['one', 'four', undefined])
  queue.leave(one)
  t.equal(queue.length, 0)
  come('b', 'again')
  t.equal(next(), 'again')
})
