/*
 * What several workers gain over one process, on each store: `npm run bench:workers`, with the seconds of a
 * measurement, the rounds, and the numbers of workers, such as `-- 4 5 1 2 4`.
 *
 *     npm run bench:workers -- [4 5 1 2] [--wrk] [--connections 32] [--stores lmdb,pg] [--only protected,refresh,login] [--json]
 *
 * Where all cores are busy with one process and the load generator, more workers cannot show in the rate; the CPU
 * time of a request shows what they cost anyway. `--wrk` takes wrk, which has to be installed, as the generator, on one
 * CPU: it leaves most of that to the service. A PostgreSQL is started, or the one of DATABASE_URL is used.
 */
import { bearerLoad, createLoader, type Load, loginLoad, refreshLoad } from '../load.ts'
import type { Measured } from '../meter.ts'
import { makeDir, startRemote } from '../processes.ts'
import { type Case, medianOf } from '../rounds.ts'
import { benchSettings, startService } from '../service.ts'
import { makeSecret } from '../services.ts'
import { openServer } from './postgres.ts'
import { measureGroups, progress, readFlags, runScenario } from './scenario.ts'
import { wrkCase } from './wrk.ts'

const { flags, positionals } = readFlags({
  wrk: false,
  connections: 32,
  stores: 'lmdb',
  only: 'protected,refresh,login',
})
const [seconds = 4, rounds = 5, ...given] = positionals.map(Number)
const { connections } = flags

await runScenario(async () => {
  const loadCase = createLoader(progress)
  const dir = makeDir()
  const counts = given.length > 0 ? given : [1, 2]
  const groups: Case[][] = [counts.map(computing)]
  for (const store of flags.stores.split(',')) {
    const server = store === 'pg' ? await openServer() : undefined
    const byWhat = new Map<string, Case[]>()
    for (const workers of counts) {
      const database = await server?.createDatabase()
      const stored = database && { DATABASE_URL: database.url, AUTH_SECRET: makeSecret() }
      const settings = { ...benchSettings, ...stored, AUTH_THROTTLE: 'off', AUTH_WORKERS: String(workers) }
      const service = await startService(dir, `${store}-${workers}`, settings, connections)
      const name = workers === 1 ? '1 process' : `${workers} workers`
      const loads: Record<string, Load> = {
        protected: bearerLoad('/protected', service.sessions),
        refresh: refreshLoad(service.sessions),
        login: loginLoad(service.users),
      }
      for (const what of flags.only.split(',')) {
        const load = loads[what]
        if (!load) throw new Error(`--only: expected some of ${Object.keys(loads)}, got ${what}`)
        const title = `${what}, ${store}, ${name}`
        const one = flags.wrk
          ? wrkCase(title, service, what === 'refresh' ? (service.users[0] as string) : load, connections)
          : loadCase(title, service, load)
        byWhat.set(what, [...(byWhat.get(what) ?? []), one])
      }
    }
    groups.push(...byWhat.values())
  }
  return { 'medians, and ratios of the rates': await measureGroups(groups, rounds, seconds) }
})

/** What the machine has: virtual cores that share a real one do not do twice as much as one. */
function computing(processes: number): Case {
  const remotes = Array.from({ length: processes }, () => startRemote('./ceilings.js'))
  const run = async (seconds: number) => {
    const measured = await Promise.all(remotes.map((remote) => remote.call<Measured>('compute', { seconds })))
    return { ...medianOf(measured), perSecond: measured.reduce((sum, { perSecond }) => sum + perSecond, 0) }
  }
  return { title: `JavaScript alone, ${processes === 1 ? '1 process' : `${processes} processes`}`, run }
}
