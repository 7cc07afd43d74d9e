import { once } from 'node:events'
import { createServer, connect as openSocket, type Socket } from 'node:net'
import type { Scope } from './basics.ts'

/** A network between a replica and its database: it lets through, cuts, or swallows. */
export interface Network {
  /** Puts this network in the place of the database's address. */
  through(url: string): string
  /** Breaks every connection and refuses new ones, as a host that is down does. */
  cut(): void
  /** Lets nothing through, either way, and breaks nothing, as a lost route does. */
  swallow(): void
  /** Lets through again, what was held back first. */
  heal(): void
  /**
   * Breaks the next connection on which something is sent that holds this text.
   *
   * @param when before the database gets it, or after it has done it and before it is answered
   * @returns a promise of the break
   */
  breakAt(text: string, when: 'before' | 'after'): Promise<void>
  /** Holds back, for this time, the answer to the next that is sent with this text in it. */
  delayAt(text: string, ms: number): void
}

/** @param port of the database, on the loopback */
export async function startNetwork(t: Scope, port: number): Promise<Network> {
  let state: 'through' | 'cut' | 'swallow' = 'through'
  let trap: { text: string; when: 'before' | 'after'; sprung: () => void } | undefined
  let delay: { text: string; ms: number } | undefined
  const sockets = new Set<Socket>()

  const server = createServer((near) => {
    if (state === 'cut') return void near.resetAndDestroy()
    const far = openSocket(port, '127.0.0.1')
    let isLast = false
    const spring = () => {
      trap?.sprung()
      trap = undefined
      near.resetAndDestroy()
      far.destroy()
    }
    const relay = (from: Socket, to: Socket, onData: (chunk: Buffer) => boolean) => {
      sockets.add(from)
      if (state === 'swallow') from.pause()
      from.on('data', (chunk) => {
        if (onData(chunk)) to.write(chunk)
      })
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
    relay(near, far, (chunk) => {
      if (delay && chunk.includes(delay.text)) {
        far.pause()
        setTimeout(() => far.resume(), delay.ms)
        delay = undefined
      }
      if (!trap || !chunk.includes(trap.text)) return true
      isLast = true
      if (trap.when === 'after') return true
      spring()
      return false
    })
    relay(far, near, () => {
      if (isLast) spring()
      return !isLast
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port: ownPort } = server.address() as { port: number }
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })

  return {
    through: (url) => url.replace(`127.0.0.1:${port}`, `127.0.0.1:${ownPort}`),
    cut() {
      state = 'cut'
      for (const socket of sockets) socket.resetAndDestroy()
    },
    swallow() {
      state = 'swallow'
      for (const socket of sockets) socket.pause()
    },
    heal() {
      state = 'through'
      for (const socket of sockets) socket.resume()
    },
    breakAt: (text, when) =>
      new Promise((sprung) => {
        trap = { text, when, sprung }
      }),
    delayAt(text, ms) {
      delay = { text, ms }
    },
  }
}
