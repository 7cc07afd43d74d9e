import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Snapshot } from './meters.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** undefined without AUTH_METRICS_PORT, and in a command: nothing is counted then */
    metrics: Awaited<ReturnType<typeof createMetrics>> | undefined
  }
}

/** Registered before all that is measured: before the first route, and before the store is opened. */
async function createMetrics(app: Pick<FastifyInstance, 'addHook'>) {
  // Loaded only where it is used, and the package `prom-client` with it.
  const [{ createMeters }, { countRequests }, { timeCalls }] = await Promise.all([
    import('./meters.ts'),
    import('./requests.ts'),
    import('./store-calls.ts'),
  ])
  const meters = createMeters()
  countRequests(app, meters)
  return {
    /** Makes the metrics of other parts. */
    meters,
    timeCalls: timeCalls(meters),
    /** The metrics of this process, as the primary gets them from a worker. */
    snapshot: (): Promise<Snapshot> => meters.registry.getMetricsAsJSON(),
    /** In the text format of Prometheus. */
    text: (): Promise<string> => meters.registry.metrics(),
  }
}

/** Counts and times for Prometheus. `process/metrics-port.ts` serves them. */
export default fp(
  async (app: FastifyInstance) => {
    const isOn = app.config.AUTH_METRICS_PORT !== undefined && app.command === undefined
    app.decorate('metrics', isOn ? await createMetrics(app) : undefined)
  },
  { name: 'metrics' },
)
