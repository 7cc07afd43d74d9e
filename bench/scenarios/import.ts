/*
 * How long an import takes, how much memory it needs, and what a service beside it notices:
 *
 *     npm run bench:import -- [--size 1000000] [--stores lmdb,pg] [--json]
 *
 * A file in the format of Auth0 with as many users is imported beside a service that is asked for `/readyz`, which reads
 * the store; then again, when all of them are there; and all users are exported.
 */
import { closeSync, openSync, statSync, writeSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { quantile, round } from '../meter.ts'
import { makeDir } from '../processes.ts'
import { benchSettings, startServer } from '../service.ts'
import { delays, latchkey } from './commands.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags } = readFlags({ size: 1_000_000, stores: 'lmdb,pg' })
const usersAtOnce = 10_000

await runScenario(async () => {
  const names = flags.stores.split(',')
  const server = names.includes('pg') ? await openServer() : undefined
  const dir = makeDir()
  const file = join(dir, 'users.ndjson')
  writeUsers(file, flags.size)
  const results: Record<string, Record<string, number>> = {}
  for (const store of names) {
    const env = {
      AUTH_SECRET: 'a secret of the bench, of more than 32 characters',
      ...(server && store === 'pg'
        ? { DATABASE_URL: (await server.createDatabase()).url }
        : { AUTH_DATA_DIR: makeDir() }),
    }
    const { origin, end } = await startServer({ ...benchSettings, ...env }, join(dir, `log-${store}`))
    const idle = await delays(origin, sleep(3_000))
    progress(`importing ${flags.size} users into ${store} …`)
    const importing = latchkey(['user', 'import', file, '--from', 'auth0'], env)
    const beside = await delays(origin, importing)
    const made = await importing
    await end()
    progress(`importing them again into ${store} …`)
    const again = await latchkey(['user', 'import', file, '--from', 'auth0'], env)
    progress(`exporting them from ${store} …`)
    const exported = await latchkey(['user', 'export', join(dir, `${store}.jsonl`), '--with-hashes', '--yes'], env)
    results[store] = {
      fileMegabytes: round(statSync(file).size / 1e6),
      seconds: round(made.seconds),
      usersPerSecond: Math.round(flags.size / made.seconds),
      peakMegabytes: made.peakMegabytes,
      againSeconds: round(again.seconds),
      exportSeconds: round(exported.seconds),
      idleP99Ms: round(quantile(idle, 0.99)),
      besideP99Ms: round(quantile(beside, 0.99)),
      besideMostMs: round(Math.max(...beside)),
    }
  }
  return { environment: { node: process.version, cores: availableParallelism(), size: flags.size }, results }
})

/** Writes users as Auth0 exports them. */
function writeUsers(file: string, size: number): void {
  const descriptor = openSync(file, 'wx')
  for (let done = 0; done < size; done += usersAtOnce) {
    const lines = Array.from({ length: Math.min(usersAtOnce, size - done) }, (_, i) =>
      JSON.stringify({
        _id: { $oid: (done + i).toString(16).padStart(24, '0') },
        email: `user-${done + i}@example.com`,
        email_verified: true,
        passwordHash: '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy',
      }),
    )
    writeSync(descriptor, `${lines.join('\n')}\n`)
  }
  closeSync(descriptor)
}
