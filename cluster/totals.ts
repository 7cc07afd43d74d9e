import { AggregatorRegistry, type Registry } from 'prom-client'
import type { Snapshot } from '../plugins/metrics/meters.ts'

/**
 * Sums the metrics of several processes. What a process had counted when it was last asked stays in the sum after its
 * end: a counter that falls is taken for one that began anew, and every rate computed from it leaps.
 */
export function createTotals() {
  const latest = new Map<number, Snapshot>()
  let ofEnded: Snapshot[] = []

  return {
    update(process: number, snapshot: Snapshot): void {
      latest.set(process, snapshot)
    },
    ended(process: number): void {
      const counted = latest.get(process)?.filter(({ type }) => isCumulative(String(type)))
      latest.delete(process)
      if (counted) ofEnded = [...ofEnded, counted]
    },
    /** The sum in the text format of Prometheus. @param own the metrics of the calling process */
    async text(own: Registry): Promise<string> {
      const before = ofEnded
      const merged = [await AggregatorRegistry.aggregate(before).getMetricsAsJSON()]
      if (ofEnded === before) ofEnded = merged
      return AggregatorRegistry.aggregate([...ofEnded, ...latest.values(), await own.getMetricsAsJSON()]).metrics()
    },
  }
}

const isCumulative = (type: string) => type === 'counter' || type === 'histogram'
