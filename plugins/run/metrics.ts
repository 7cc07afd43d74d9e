import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import {
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client'

declare module 'fastify' {
  interface FastifyInstance {
    /** undefined without AUTH_METRICS_PORT: nothing is counted then */
    metrics: ReturnType<typeof createMetrics> | undefined
  }
}

/** The metrics of a process, as the primary gets them from a worker. */
export type Snapshot = MetricObjectWithValues<MetricValue<string>>[]

function createMetrics(
  { hashing, revocations, events }: Pick<FastifyInstance, 'hashing' | 'revocations' | 'events'>,
  droppedLines: () => number,
) {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const durations = new Histogram({
    name: 'latchkey_http_request_duration_seconds',
    help: 'Time to answer, by route and status',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    registers,
  })
  const gauge = (name: string, help: string, read: () => number, aggregator: 'sum' | 'max' = 'sum') =>
    new Gauge({
      name,
      help,
      aggregator,
      registers,
      collect() {
        this.set(read())
      },
    })
  gauge('latchkey_hashes_running', 'Password hashes being computed', () => hashing.load.running)
  gauge('latchkey_hashes_waiting', 'Requests that wait for a password hash', () => hashing.load.waiting)
  // Every worker knows all of them.
  gauge('latchkey_revocations', 'Revocations in force', () => revocations.size, 'max')
  new Counter({
    name: 'latchkey_log_lines_dropped_total',
    help: 'Log lines that nobody read in time',
    registers,
    collect() {
      this.reset()
      this.inc(droppedLines())
    },
  })
  const counted = new Counter({
    name: 'latchkey_events_total',
    help: 'Events, by the name that they are logged under',
    labelNames: ['event'],
    registers,
  })
  events.onAny((event) => counted.inc({ event }))

  return {
    durations,
    snapshot: (): Promise<Snapshot> => registry.getMetricsAsJSON(),
    /** In the text format of Prometheus. */
    text: (): Promise<string> => registry.metrics(),
  }
}

/** Counts and times for Prometheus. `process/metrics-port.ts` serves them. */
export default fp(
  async (app: FastifyInstance, { droppedLines = () => 0 }: { droppedLines?: (() => number) | undefined }) => {
    const metrics = createMetrics(app, droppedLines)
    app.decorate('metrics', metrics)
    app.addHook('onResponse', async (request, reply) => {
      const { url = 'none' } = request.routeOptions
      metrics.durations.labels(request.method, url, String(reply.statusCode)).observe(reply.elapsedTime / 1000)
    })
  },
  { name: 'metrics', dependencies: ['hashing', 'revocations', 'events'] },
)
