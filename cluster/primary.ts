import Fastify from 'fastify'
import { Gauge, Registry } from 'prom-client'
import type { Config } from '../config.ts'
import { logEvent } from '../events.ts'
import { stdoutInBlocks } from '../log/destination.ts'
import { loggerOptions } from '../log/fields.ts'
import { serveMetrics } from '../process/metrics-port.ts'
import { onSignals, shuttingDown } from '../process/signals.ts'
import { createTotals } from './totals.ts'
import { createWorkers, type Outcome } from './workers.ts'

/*
 * AUTH_WORKERS: several processes on one port and one store. The primary accepts connections and deals them out, passes
 * on that a worker has revoked something, sums the metrics, and replaces workers that end. It opens no store and
 * answers no request, so little can end it. A worker is the service as a single process runs it.
 */

const metricsTimeoutMs = 1_000

/**
 * Runs the workers until the service is told to end, or cannot start.
 *
 * @param config with a HOST that is an address, and a PORT that is not 0
 * @param damage resolves with a line when the store is found damaged while it is served
 * @returns how the process should end
 */
export async function runPrimary(config: Config, damage?: Promise<string | undefined>): Promise<Outcome> {
  const { log } = Fastify({ logger: loggerOptions(config.LOG_LEVEL, await stdoutInBlocks()) })
  for (const warning of config.warnings) log.warn(warning)

  const totals = createTotals()
  const workers = createWorkers(config, log, totals.ended)
  const own = new Registry()
  const listening = new Gauge({ name: 'latchkey_workers', help: 'Workers that listen', registers: [own] })

  async function readMetrics(): Promise<string> {
    const members = workers.listening()
    listening.set(members.length)
    await Promise.all(
      members.map(async (member) => {
        const snapshot = await member.channel.request('metrics', [], metricsTimeoutMs)
        if (snapshot && !member.hasEnded) totals.update(member.worker.id, snapshot)
      }),
    )
    return totals.text(own)
  }

  const closeMetrics = await serveMetrics(config, log, readMetrics)
  onSignals((signal) => {
    log.info({ signal }, shuttingDown)
    workers.end({ exitCode: 0 }, signal)
  })
  damage?.then((line) => {
    if (line === undefined) return
    logEvent(log, 'store.damaged', {}, line)
    workers.end({ exitCode: 78 }, 'SIGTERM')
  })
  const outcome = await workers.run()
  await closeMetrics()
  return outcome
}
