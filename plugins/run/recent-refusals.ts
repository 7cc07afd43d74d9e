import type { KeptExplanation } from './explanations.ts'

/**
 * The latest refusals of a process, in memory. Where it is full, a network that has its share or more makes room for
 * itself, and else the one that was quiet for longest does: a flood from one network does not push out the others.
 *
 * @param most in all @param share of one network
 */
export function createRecentRefusals(most: number, share: number) {
  /** the one that was refused last stands last */
  const byNetwork = new Map<string, KeptExplanation[]>()
  let count = 0

  function dropOldestOf(network: string): void {
    const own = byNetwork.get(network)
    own?.shift()
    if (own?.length === 0) byNetwork.delete(network)
    count -= 1
  }

  return {
    add(network: string, explanation: KeptExplanation): void {
      const own = byNetwork.get(network) ?? []
      const [quietest = network] = byNetwork.keys()
      if (count >= most) dropOldestOf(own.length >= share ? network : quietest)
      byNetwork.delete(network)
      byNetwork.set(network, own)
      own.push(explanation)
      count += 1
    },
    /** Looks at all, for it is asked now and then by an administrator. */
    find(requestId: string): KeptExplanation | undefined {
      for (const own of byNetwork.values()) {
        const found = own.find((explanation) => explanation.requestId === requestId)
        if (found) return found
      }
      return undefined
    },
    get size() {
      return count
    },
  }
}
