/*
 * How long a backup and a restore take, how much memory they need, and what a service beside a backup notices:
 *
 *     npm run bench:backup -- [--size 1000000] [--stores lmdb,pg] [--json]
 *
 * A store with as many users, each with a session, is backed up beside a service that is asked for `/readyz`, which
 * reads the store, and is restored into an empty store of its kind.
 */
import { statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { quantile, round } from '../meter.ts'
import { makeDir } from '../processes.ts'
import { benchSettings, startServer } from '../service.ts'
import { delays, latchkey } from './commands.ts'
import * as data from './growth-data.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ size: 1_000_000, stores: 'lmdb,pg' })

await runScenario(async () => {
  const names = flags.stores.split(',')
  const server = names.includes('pg') ? await openServer() : undefined
  const results: Record<string, Record<string, number>> = {}
  for (const store of names) {
    progress(`loading ${flags.size} users and sessions into ${store} …`)
    const isPostgres = server && store === 'pg'
    const from = isPostgres
      ? await data.loadPostgres(flags.size, await server.createDatabase())
      : await data.loadLmdb(flags.size)
    const to = isPostgres
      ? { ...from.env, DATABASE_URL: (await server.createDatabase()).url }
      : { ...from.env, AUTH_DATA_DIR: makeDir() }
    const dir = makeDir()
    const file = join(dir, 'backup')

    const settings = { ...benchSettings, ...from.env, LOG_LEVEL: 'info' }
    const { origin, end } = await startServer(settings, join(dir, 'log'))
    const idle = await delays(origin, sleep(3_000))
    progress(`backing up ${store} …`)
    const backup = latchkey(['store', 'backup', file], from.env)
    const beside = await delays(origin, backup)
    await end()
    progress(`restoring ${store} …`)
    const restore = await latchkey(['store', 'restore', file], to)

    const megabytes = statSync(file).size / 1e6
    const { seconds, peakMegabytes } = await backup
    results[store] = {
      megabytes: round(megabytes),
      backupSeconds: round(seconds),
      backupRowsPerSecond: Math.round((2 * flags.size) / seconds),
      backupPeakMegabytes: peakMegabytes,
      restoreSeconds: round(restore.seconds),
      restorePeakMegabytes: restore.peakMegabytes,
      idleP99Ms: round(quantile(idle, 0.99)),
      besideP99Ms: round(quantile(beside, 0.99)),
      besideMostMs: round(Math.max(...beside)),
    }
  }
  return { environment: { node: process.version, cores: availableParallelism(), size: flags.size }, results }
})
