import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import {
  AggregatorRegistry,
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client'
import type { Config } from '../../config.ts'
import { logLinesDropped } from '../../log/logging.ts'
import { listen } from '../../process/listening.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** What this process has counted, and serves itself if it is the only one; undefined where nothing is counted. */
    metrics: { snapshot(): Promise<Snapshot>; serve(): Promise<void> } | undefined
  }
}

export type Snapshot = MetricObjectWithValues<MetricValue<string>>[]

/** Counts and times. What it has is served on AUTH_METRICS_PORT, by this process if it is the only one. */
export default fp(
  async (app: FastifyInstance) => {
    const { config, hashing, revocations } = app
    if (config.AUTH_METRICS_PORT === undefined) return

    const registers = [new Registry()]
    const [registry] = registers as [Registry]
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
    new Counter({
      name: 'latchkey_log_lines_dropped_total',
      help: 'Log lines that nobody read in time',
      registers,
      collect() {
        this.reset()
        this.inc(logLinesDropped())
      },
    })
    // All workers know the same ones.
    gauge('latchkey_revocations', 'Revocations in force', () => revocations.size, 'max')

    app.addHook('onResponse', async (request, reply) => {
      const { url = 'none' } = request.routeOptions
      durations.labels(request.method, url, String(reply.statusCode)).observe(reply.elapsedTime / 1000)
    })

    let close: (() => Promise<void>) | undefined
    app.decorate('metrics', {
      snapshot: () => registry.getMetricsAsJSON(),
      async serve() {
        close = await serveMetrics(config, app.log, () => registry.metrics())
      },
    })
    app.addHook('onClose', async () => close?.())
  },
  { name: 'metrics', dependencies: ['hashing', 'revocations'] },
)

/**
 * Serves `GET /metrics` for Prometheus on a port of its own, which no stranger can reach by the service's.
 *
 * @returns a function that ends it
 * @throws when the port cannot be listened on, naming the setting
 */
export async function serveMetrics(
  config: Config,
  log: FastifyBaseLogger,
  read: () => Promise<string>,
): Promise<() => Promise<void>> {
  const server = Fastify()
  server.get('/metrics', async (_request, reply) => reply.type(Registry.PROMETHEUS_CONTENT_TYPE).send(await read()))
  await server.ready()
  const origin = await listen(server.server, config.HOST, config.AUTH_METRICS_PORT as number, 'AUTH_METRICS_PORT')
  log.info({ address: `${origin}/metrics` }, 'metrics are served')
  return () => server.close()
}

/**
 * The sum of what several processes have counted. What one had counted when it was last asked stays in the sum after its end:
 * a sum that falls would be taken for a counter that began anew, and every rate would leap.
 */
export function createTotals() {
  const latest = new Map<number, Snapshot>()
  let ofEnded: Snapshot[] = []

  return {
    note(process: number, snapshot: Snapshot): void {
      latest.set(process, snapshot)
    },
    ended(process: number): void {
      const counted = latest.get(process)?.filter(({ type }) => isCounted(String(type)))
      latest.delete(process)
      if (counted) ofEnded = [...ofEnded, counted]
    },
    /** The sum as Prometheus reads it. @param own what the caller counts itself */
    async text(own: Registry): Promise<string> {
      const before = ofEnded
      const merged = [await AggregatorRegistry.aggregate(before).getMetricsAsJSON()]
      if (ofEnded === before) ofEnded = merged
      return AggregatorRegistry.aggregate([...ofEnded, ...latest.values(), await own.getMetricsAsJSON()]).metrics()
    },
  }
}

const isCounted = (type: string) => type === 'counter' || type === 'histogram'
