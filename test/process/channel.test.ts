import { EventEmitter } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { openChannel } from '../../cluster/channel.ts'

/* Requests between the primary and a worker, over IPC. */

interface Procedures {
  add(a: number, b: number): number
  stall(): Promise<void>
}

/** Two ends that pass messages on as IPC does: as JSON, in a later turn. */
function connect() {
  const ends = [new EventEmitter(), new EventEmitter()].map((end) => Object.assign(end, { connected: true }))
  const [one, other] = ends as [(typeof ends)[0], (typeof ends)[0]]
  const sendTo = (end: EventEmitter) => (message: object) => {
    const text = JSON.stringify(message)
    setImmediate(() => end.emit('message', JSON.parse(text)))
    return true
  }
  return [Object.assign(one, { send: sendTo(other) }), Object.assign(other, { send: sendTo(one) })] as const
}

t.test('a request has the result of the other process', async (t) => {
  const [one, other] = connect()
  let stallsLeft = 1
  openChannel<object, Procedures>(other, {
    add: (a, b) => a + b,
    stall: async () => {
      if (stallsLeft-- > 0) await sleep(60)
    },
  })
  const channel = openChannel<Procedures, object>(one, {})
  t.same(await Promise.all([channel.request('add', [1, 2]), channel.request('add', [3, 4])]), [3, 7])

  t.equal(await channel.request('stall', [], 20), undefined, 'undefined when none comes in time')
  t.ok(channel.isLate)
  await sleep(100)
  t.notOk(channel.isLate, 'until a response comes, be it late')
})

t.test('no request waits for a process that has ended', async (t) => {
  const [one] = connect()
  const channel = openChannel<Procedures, object>(one, {})
  const pending = channel.request('add', [1, 2], 60_000)
  channel.close()
  t.equal(await pending, undefined)
  one.connected = false
  t.equal(await channel.request('add', [1, 2], 10), undefined)
})

t.test('messages of Node are left alone', async (t) => {
  const [one, other] = connect()
  openChannel<object, Procedures>(other, { add: (a, b) => a + b, stall: async () => {} })
  const channel = openChannel<Procedures, object>(one, {})
  one.send({ cmd: 'NODE_HANDLE_ACK' })
  t.equal(await channel.request('add', [1, 2]), 3)
})
