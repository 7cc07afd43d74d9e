import Fastify from 'fastify'
import { type Config, ConfigError } from '../config.ts'
import { type LogDestination, loggerOptions } from '../log/fields.ts'
import { StoreInUse, upgradeLmdbStore } from '../stores/lmdb/upgrade.ts'
import { endOnSignals } from './signals.ts'

/** Between two lines that say how far it is. */
const progressMs = 5_000

/**
 * Brings an embedded store that an earlier release has written up to date, before anything is served. A signal ends the
 * process meanwhile, and the next start goes on.
 *
 * @throws {ConfigError} when a process of that release uses it
 */
export async function upgradeStore(config: Config, logStream: LogDestination): Promise<void> {
  const { log } = Fastify({ logger: loggerOptions(config.LOG_LEVEL, logStream) })
  const goOn = endOnSignals()
  const startedAt = performance.now()
  let toldAt = Number.NEGATIVE_INFINITY
  const say = (moved: number, total: number) => {
    const [of, percent] = [total.toLocaleString('en-US'), Math.floor((100 * moved) / Math.max(1, total))]
    log.info(`bringing the store up to date: ${moved.toLocaleString('en-US')} of ${of} rows, ${percent} %`)
  }
  try {
    await upgradeLmdbStore(config.AUTH_DATA_DIR, {
      onProgress(moved, total) {
        if (performance.now() - toldAt < progressMs && moved < total) return
        toldAt = performance.now()
        say(moved, total)
      },
      onUnmovable: (table, key) => log.warn({ table, key }, 'a damaged row was left out while the store was moved'),
    })
  } catch (error) {
    if (error instanceof StoreInUse)
      throw new ConfigError(
        `AUTH_DATA_DIR: expected a store of this release in ${config.AUTH_DATA_DIR}, and ${error.message}`,
      )
    throw error
  } finally {
    goOn()
  }
  log.info(`the store is up to date, after ${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
}
