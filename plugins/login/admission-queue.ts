/** Whoever has to wait for a hash. */
export interface Waiter {
  /** its turn has come */
  begin(): void
  /** somebody else got its place, or nobody gets another turn */
  giveUp(why: 'displaced' | 'draining'): void
  sinceMs: number
}

/** Those who wait from one address, the first come first. */
interface Line {
  address: string
  waiters: Waiter[]
  hadTurn: boolean
}

/** So many turns in a row may addresses have that have just come, before one that had its turn gets another. */
const newcomersInARow = 3

/**
 * Decides who may wait, and who is next, while more come than can be served.
 *
 * - Addresses take turns, and those that have just come are let in before those that had theirs: a lone client is served at once
 *   in the midst of any number of flooders. (The new and old flows of RFC 8290 §4.2.)
 * - One address leaves as many places free as it has. Where none is free, who has nobody waiting yet gets the place of whoever
 *   has waited longest.
 * - Many places are for a burst. Where the queue stands instead (somebody has waited for long or lost a place, and it has not been
 *   empty since), it only makes everyone wait, and the first are about to give up: few places then, and the last come is next.
 *
 * @param places how many may wait, now
 * @param longWaitMs of the first, where the queue stands
 */
export function createTurns(places: (isStanding: boolean) => number, longWaitMs: number, uptimeMs: () => number) {
  /** in the order in which they came */
  const all = new Map<Waiter, string>()
  const lines = new Map<string, Line>()
  const newcomers: Line[] = []
  const returning: Line[] = []
  let newcomersSince = 0
  let isStanding = false

  const nextOf = <T>(list: T[]): T | undefined => (isStanding ? list.pop() : list.shift())

  function leave(waiter: Waiter): void {
    const line = lines.get(all.get(waiter) ?? '')
    if (!line) return
    all.delete(waiter)
    // Most that leave have waited longest, and a splice moves all the others.
    if (line.waiters[0] === waiter) line.waiters.shift()
    else line.waiters.splice(line.waiters.indexOf(waiter), 1)
    // One that had its turn is forgotten only when its next has come, or it would be back as a newcomer.
    if (line.waiters.length > 0 || line.hadTurn) return
    lines.delete(line.address)
    newcomers.splice(newcomers.indexOf(line), 1)
  }

  return {
    get waiting() {
      return all.size
    },
    hasPlace(address: string): boolean {
      const own = lines.get(address)?.waiters.length ?? 0
      return own === 0 || own < places(isStanding) - all.size
    },
    join(address: string, waiter: Waiter): void {
      const [oldest] = all.size >= places(isStanding) ? all.keys() : []
      if (oldest) {
        isStanding = true
        leave(oldest)
        oldest.giveUp('displaced')
      }
      let line = lines.get(address)
      if (!line) {
        line = { address, waiters: [], hadTurn: false }
        lines.set(address, line)
        newcomers.push(line)
      }
      line.waiters.push(waiter)
      all.set(waiter, address)
    },
    leave,
    /** Sends all away. */
    drain(): void {
      for (const waiter of [...all.keys()]) {
        leave(waiter)
        waiter.giveUp('draining')
      }
    },
    next(): Waiter | undefined {
      const [oldest] = all.keys()
      isStanding = oldest !== undefined && (isStanding || uptimeMs() - oldest.sinceMs > longWaitMs)
      for (;;) {
        const isNewcomers = newcomers.length > 0 && (newcomersSince < newcomersInARow || returning.length === 0)
        const line = isNewcomers ? nextOf(newcomers) : returning.shift()
        if (!line) return undefined
        const waiter = nextOf(line.waiters)
        if (!waiter) {
          lines.delete(line.address)
          continue
        }
        newcomersSince = isNewcomers ? newcomersSince + 1 : 0
        line.hadTurn = true
        returning.push(line)
        all.delete(waiter)
        return waiter
      }
    },
  }
}
