/*
 * How long a backup and a restore take, how much memory they need, and what a service beside a backup notices:
 *
 *     npm run bench:backup -- [--size 1000000] [--stores lmdb,pg] [--json]
 *
 * A store with as many users, each with a session, is backed up beside a service that is asked for `/readyz`, which
 * reads the store, and is restored into an empty store of its kind.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { quantile, round } from '../meter.ts'
import { makeDir } from '../processes.ts'
import { benchSettings, startServer } from '../service.ts'
import * as data from './growth-data.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ size: 1_000_000, stores: 'lmdb,pg' })
const program = join(import.meta.dirname, '../../cli/latchkey.js')
const pollMs = 50
const callPauseMs = 2

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

/** Runs a command. @returns how long it took, and the most memory of its own that it had */
async function latchkey(args: string[], env: Record<string, string>) {
  const startedAt = performance.now()
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const ended = once(child, 'exit')
  let peakMegabytes = 0
  while (child.exitCode === null && child.signalCode === null) {
    peakMegabytes = Math.max(peakMegabytes, ownMegabytes(child.pid as number))
    await sleep(pollMs)
  }
  const [code] = await ended
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}`)
  return { seconds: (performance.now() - startedAt) / 1000, peakMegabytes }
}

/** Without the pages of the embedded store, which the system counts along and takes back. */
function ownMegabytes(pid: number): number {
  try {
    return Math.round((Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) || 0) / 1024)
  } catch {
    return 0
  }
}

/** The times of answers, one after the other until something is over. */
async function delays(origin: string, over: Promise<unknown>): Promise<number[]> {
  let isOver = false
  over.finally(() => {
    isOver = true
  })
  const times: number[] = []
  while (!isOver) {
    const at = performance.now()
    await (await fetch(`${origin}/readyz`)).text()
    times.push(performance.now() - at)
    await sleep(callPauseMs)
  }
  return times
}
