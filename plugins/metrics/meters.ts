import {
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client'

/** The metrics of a process, as the primary gets them from a worker. */
export type Snapshot = MetricObjectWithValues<MetricValue<string>>[]

/** How the values of several workers become one: of what is counted, the sum; of what all see alike, the largest. */
type Of = 'sum' | 'max' | 'min'

/** From half a millisecond, what a call of a store takes, to the longest that a request waits for one. */
const secondsBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]

export type Meters = ReturnType<typeof createMeters>

/**
 * Makes metrics in one registry, with those that `prom-client` has of the process and of Node.
 *
 * Labels are names out of closed lists of the code: never a user, a client, an address or a path that came in.
 */
export function createMeters() {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  return {
    registry,
    /** @param start values of its only label that are there from the start, so that their first rate is not missed */
    counter<Label extends string>(name: string, help: string, labelNames: Label[] = [], start: readonly string[] = []) {
      const counter = new Counter<Label>({ name, help, labelNames, registers })
      for (const value of start) counter.inc({ [labelNames[0] as Label]: value } as Record<Label, string>, 0)
      return counter
    },
    histogram: <Label extends string>(name: string, help: string, labelNames: Label[] = [], buckets = secondsBuckets) =>
      new Histogram<Label>({ name, help, labelNames, buckets, registers }),

    /** A counter that somebody else counts on: it is read when Prometheus asks. */
    total(name: string, help: string, read: () => number): void {
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset()
          this.inc(read())
        },
      })
    },
    /** The same, with a number for each value of a label. */
    totals(name: string, help: string, label: string, read: () => Record<string, number>): void {
      new Counter({
        name,
        help,
        labelNames: [label],
        registers,
        collect() {
          this.reset()
          for (const [value, count] of Object.entries(read())) this.inc({ [label]: value }, count)
        },
      })
    },
    /** A value that goes up and down, read when Prometheus asks. @param read undefined where there is none just now */
    gauge(name: string, help: string, read: () => number | undefined, aggregator: Of = 'sum'): void {
      new Gauge({
        name,
        help,
        aggregator,
        registers,
        collect() {
          const value = read()
          if (value === undefined) this.remove()
          else this.set(value)
        },
      })
    },
    /** The same, with a value for each value of a label. */
    gauges(
      name: string,
      help: string,
      label: string,
      read: () => Record<string, number>,
      aggregator: Of = 'sum',
    ): void {
      new Gauge({
        name,
        help,
        labelNames: [label],
        aggregator,
        registers,
        collect() {
          this.reset()
          for (const [value, count] of Object.entries(read())) this.set({ [label]: value }, count)
        },
      })
    },
    /** A metric that is always 1, whose labels tell what there is. */
    info(name: string, help: string, labels: Record<string, string>): void {
      new Gauge({ name, help, labelNames: Object.keys(labels), aggregator: 'first', registers }).set(labels, 1)
    },
  }
}
