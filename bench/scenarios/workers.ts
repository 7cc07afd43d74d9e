/*
 * What several workers gain over one process, on LMDB: `npm run bench:workers`, with the seconds of a measurement,
 * the rounds, and the numbers of workers, such as `-- 4 5 1 2 4`.
 *
 * Where all cores are busy with one process and the load generator, more workers cannot show in the rate; the CPU
 * time of a request shows what they cost anyway.
 */
import { bearerLoad, createLoader, loginLoad, refreshLoad } from '../load.ts'
import { makeDir } from '../processes.ts'
import type { Case } from '../rounds.ts'
import { benchSettings, startService } from '../service.ts'
import { measureGroups, progress, readFlags, runScenario } from './scenario.ts'

const [seconds = 4, rounds = 5, ...given] = readFlags({}).positionals.map(Number)
const connections = 32

await runScenario(async () => {
  const loadCase = createLoader(progress)
  const dir = makeDir()
  const groups: [Case[], Case[], Case[]] = [[], [], []]
  for (const workers of given.length > 0 ? given : [1, 2]) {
    const settings = { ...benchSettings, AUTH_THROTTLE: 'off', AUTH_WORKERS: String(workers) }
    const service = await startService(dir, String(workers), settings, connections)
    const name = workers === 1 ? '1 process' : `${workers} workers`
    groups[0].push(loadCase(`GET /protected, ${name}`, service, bearerLoad('/protected', service.sessions)))
    groups[1].push(loadCase(`refresh, ${name}`, service, refreshLoad(service.sessions)))
    groups[2].push(loadCase(`login, ${name}`, service, loginLoad(service.users)))
  }
  return { 'medians, and ratios of the rates': await measureGroups(groups, rounds, seconds) }
})
