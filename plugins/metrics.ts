import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Serves `GET /metrics` for Prometheus on a port of its own, AUTH_METRICS_PORT, which no stranger can reach by the service's. */
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
    const gauge = (name: string, help: string, read: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read())
        },
      })
    gauge('latchkey_hashes_running', 'Password hashes being computed', () => hashing.load.running)
    gauge('latchkey_hashes_waiting', 'Requests that wait for a password hash', () => hashing.load.waiting)
    gauge('latchkey_revocations', 'Revocations in force', () => revocations.size)

    app.addHook('onResponse', async (request, reply) => {
      const { url = 'none' } = request.routeOptions
      durations.labels(request.method, url, String(reply.statusCode)).observe(reply.elapsedTime / 1000)
    })

    const server = Fastify()
    server.get('/metrics', async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()))
    app.addHook('onListen', async () => {
      const address = await server.listen({ host: config.HOST, port: config.AUTH_METRICS_PORT as number })
      app.log.info({ address: `${address}/metrics` }, 'metrics are served')
    })
    app.addHook('onClose', () => server.close())
  },
  { name: 'metrics', dependencies: ['hashing', 'revocations'] },
)
