import t from 'tap'
import { createTurns, type Waiter } from '../../plugins/login/admission-queue.ts'

/* Who waits for a hash, and who is next. What comes of it in a storm is in storm.test.ts. */

const longWaitMs = 500

/** Turns with a clock, for waiters that have names. */
function withNames({ burst, standing }: { burst: number; standing: number }) {
  const clock = { ms: 0 }
  const turns = createTurns(
    (isStanding) => (isStanding ? standing : burst),
    longWaitMs,
    () => clock.ms,
  )
  const names = new Map<Waiter, string>()
  const gaveUp: string[] = []
  const come = (address: string, name = address) => {
    const waiter = { begin() {}, giveUp: () => gaveUp.push(name), sinceMs: clock.ms }
    names.set(waiter, name)
    turns.join(address, waiter)
    return waiter
  }
  const next = () => names.get(turns.next() as Waiter)
  return { clock, turns, come, next, gaveUp }
}

t.test('addresses take turns, the first come first', async (t) => {
  const { come, next } = withNames({ burst: 100, standing: 10 })
  for (const name of ['a1', 'a2', 'a3']) come('a', name)
  come('b', 'b1')
  t.same([next(), next(), next(), next(), next()], ['a1', 'b1', 'a2', 'a3', undefined])
})

t.test('an address that has just come is before those that had their turn, three times of four', async (t) => {
  const { come, next } = withNames({ burst: 100, standing: 10 })
  come('a', 'a1')
  come('a', 'a2')
  t.equal(next(), 'a1')
  for (const name of ['b', 'c', 'd', 'e']) come(name)
  t.same([next(), next(), next(), next(), next()], ['b', 'c', 'a2', 'd', 'e'])
})

t.test('one address leaves as many places as it has', async (t) => {
  const { turns, come } = withNames({ burst: 10, standing: 4 })
  for (let n = 0; n < 5; n++) {
    t.ok(turns.hasPlace('a'))
    come('a')
  }
  t.notOk(turns.hasPlace('a'))
  for (let n = 0; n < 3; n++) {
    t.ok(turns.hasPlace('b'))
    come('b')
  }
  t.notOk(turns.hasPlace('b'))
})

t.test('where no place is free, who has nobody waiting gets that of whoever has waited longest', async (t) => {
  const { turns, come, next, gaveUp } = withNames({ burst: 3, standing: 3 })
  for (const name of ['a', 'b', 'c', 'd']) {
    t.ok(turns.hasPlace(name))
    come(name)
  }
  t.same(gaveUp, ['a'])
  t.equal(turns.waiting, 3)
  t.same([next(), next(), next(), next()], ['d', 'c', 'b', undefined], 'and the last come is next')
})

t.test('where the queue stands, the last come is next and few may wait, until it was empty', async (t) => {
  const { clock, turns, come, next } = withNames({ burst: 100, standing: 10 })
  const [first] = ['first', 'second', 'third', 'fourth'].map((name) => come('a', name))
  clock.ms = longWaitMs
  t.equal(next(), 'first', 'in their order while none has waited for long')
  for (let n = 0; n < 20; n++) come('b', `b${n}`)
  t.ok(turns.hasPlace('b'))
  clock.ms += 1
  t.equal(next(), 'b19')
  t.equal(next(), 'fourth')
  t.notOk(turns.hasPlace('b'), 'who waits already has no place')
  t.ok(turns.hasPlace('c'), 'who does not, has')
  come('c')
  t.equal(next(), 'c')
  while (next()) t.ok(turns.waiting >= 0)
  t.equal(turns.waiting, 0)
  for (const name of ['early', 'late']) come('a', name)
  t.same([next(), next()], ['early', 'late'])
  t.doesNotThrow(() => turns.leave(first as Waiter), 'one that had its turn has left already')
})

t.test('whoever leaves has no turn, and takes no place', async (t) => {
  const { turns, come, next } = withNames({ burst: 100, standing: 10 })
  const [one, two, three] = [come('a', 'one'), come('a', 'two'), come('b', 'three')]
  come('a', 'four')
  turns.leave(two)
  turns.leave(three)
  turns.leave(three)
  t.equal(turns.waiting, 2)
  t.same([next(), next(), next()], ['one', 'four', undefined])
  turns.leave(one)
  t.equal(turns.waiting, 0)
  come('b', 'again')
  t.equal(next(), 'again')
})
