import Fastify, { type FastifyBaseLogger } from 'fastify'
import { Registry } from 'prom-client'
import type { Config } from '../config.ts'
import { listen } from './listening.ts'

/**
 * Serves `GET /metrics` for Prometheus on AUTH_METRICS_PORT, a port of its own that the public network need not reach.
 *
 * @param read the metrics in the text format of Prometheus
 * @returns a function that ends it; without AUTH_METRICS_PORT nothing is served
 * @throws when the port cannot be listened on, naming the setting
 */
export async function serveMetrics(
  { HOST, AUTH_METRICS_PORT }: Config,
  log: FastifyBaseLogger,
  read: () => Promise<string>,
): Promise<() => Promise<void>> {
  if (AUTH_METRICS_PORT === undefined) return async () => {}
  const server = Fastify()
  server.get('/metrics', async (_request, reply) => reply.type(Registry.PROMETHEUS_CONTENT_TYPE).send(await read()))
  await server.ready()
  const origin = await listen(server.server, HOST, AUTH_METRICS_PORT, 'AUTH_METRICS_PORT')
  log.info({ address: `${origin}/metrics` }, 'metrics are served')
  return () => server.close()
}
