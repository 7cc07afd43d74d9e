/** A request that waits for a hash. */
export interface Waiter {
  /** Called when its turn has come. */
  admit(): void
  /** Called when a new flow took its place, or the service shuts down. */
  turnAway(why: 'displaced' | 'draining'): void
  joinedAtMs: number
}

/** The requests that wait from one address, oldest first. */
interface Flow {
  address: string
  waiters: Waiter[]
  /** has had a turn */
  isOld: boolean
}

/**
 * New flows served in a row before an old one. Without a bound, clients with many addresses would starve the old flows.
 */
const maxNewInARow = 3

/**
 * Decides who may wait, and who is next, while more requests come than can be hashed: FQ-CoDel (RFC 8290), with a flow
 * for each address.
 *
 * - Flows take turns, and new flows are served before old ones (§4.2): a lone client is served at once in the midst of
 *   any flood.
 * - A flow may hold no more places than it leaves free. When none is free, a new flow displaces the request that has
 *   waited longest.
 * - A queue is there to absorb a burst. A standing queue only adds delay, and its oldest requests are about to time
 *   out: so its capacity is small and its newest request is next. The queue stands from when a request has waited long
 *   or was displaced, until the queue is empty.
 *
 * @param capacity how many requests may wait, now
 * @param standingAfterMs wait of the oldest request from which on the queue stands
 */
export function createAdmissionQueue(
  capacity: (isStanding: boolean) => number,
  standingAfterMs: number,
  uptimeMs: () => number,
) {
  /** the address of each waiter, in order of arrival */
  const waiting = new Map<Waiter, string>()
  const flows = new Map<string, Flow>()
  const newFlows: Flow[] = []
  const oldFlows: Flow[] = []
  let newInARow = 0
  let isStanding = false

  const takeFrom = <T>(list: T[]): T | undefined => (isStanding ? list.pop() : list.shift())

  /** Removes a waiter; one that has left already is ignored. */
  function leave(waiter: Waiter): void {
    const flow = flows.get(waiting.get(waiter) ?? '')
    if (!flow) return
    waiting.delete(waiter)
    // Most waiters that leave are the oldest of their flow, and a splice moves all the others.
    if (flow.waiters[0] === waiter) flow.waiters.shift()
    else flow.waiters.splice(flow.waiters.indexOf(waiter), 1)
    // An empty old flow stays until its next turn (RFC 8290 §4.2), or its address would come back as a new flow.
    if (flow.waiters.length > 0 || flow.isOld) return
    flows.delete(flow.address)
    newFlows.splice(newFlows.indexOf(flow), 1)
  }

  return {
    get length() {
      return waiting.size
    },

    /** How many may wait just now. */
    get places() {
      return capacity(isStanding)
    },

    /** Whether another request of an address may join. */
    hasPlace(address: string): boolean {
      const own = flows.get(address)?.waiters.length ?? 0
      return own === 0 || own < capacity(isStanding) - waiting.size
    },

    /** Adds a waiter, in the place of the oldest one when the queue is full. */
    join(address: string, waiter: Waiter): void {
      const [oldest] = waiting.size >= capacity(isStanding) ? waiting.keys() : []
      if (oldest) {
        isStanding = true
        leave(oldest)
        oldest.turnAway('displaced')
      }
      let flow = flows.get(address)
      if (!flow) {
        flow = { address, waiters: [], isOld: false }
        flows.set(address, flow)
        newFlows.push(flow)
      }
      flow.waiters.push(waiter)
      waiting.set(waiter, address)
    },

    leave,

    /** Turns every waiter away. */
    drain(): void {
      for (const waiter of [...waiting.keys()]) {
        leave(waiter)
        waiter.turnAway('draining')
      }
    },

    /** Removes the waiter whose turn it is. @returns undefined when nobody waits */
    next(): Waiter | undefined {
      const [oldest] = waiting.keys()
      isStanding = oldest !== undefined && (isStanding || uptimeMs() - oldest.joinedAtMs > standingAfterMs)
      for (;;) {
        const isNew = newFlows.length > 0 && (newInARow < maxNewInARow || oldFlows.length === 0)
        const flow = isNew ? takeFrom(newFlows) : oldFlows.shift()
        if (!flow) return undefined
        const waiter = takeFrom(flow.waiters)
        if (!waiter) {
          flows.delete(flow.address)
          continue
        }
        newInARow = isNew ? newInARow + 1 : 0
        flow.isOld = true
        oldFlows.push(flow)
        waiting.delete(waiter)
        return waiter
      }
    },
  }
}
