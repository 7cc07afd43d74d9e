/*
 * Logins of what bare argon2.verify does at the same settings, with few of them and many under way:
 *
 *     npm run bench:logins -- [8 64] [--seconds 4] [--rounds 5] [--warmup 30] [--json]
 *
 * The code of a login is run a hundred times a second, so V8 takes a while to make the most of it: hence the seconds of warm-up.
 */
import { availableParallelism } from 'node:os'
import { createLoader, loginLoad } from '../load.ts'
import { makeDir, startRemote } from '../processes.ts'
import { benchSettings, startService } from '../service.ts'
import { measureGroups, progress, readFlags, runScenario } from './scenario.ts'

const { flags, positionals } = readFlags({ seconds: 4, rounds: 5, warmup: 30 })
const counts = positionals.length > 0 ? positionals.map(Number) : [8, 64]
const cores = availableParallelism()

await runScenario(async () => {
  const loadCase = createLoader(progress)
  const service = await startService(makeDir(), 'main', { ...benchSettings, AUTH_THROTTLE: 'off' }, Math.max(...counts))
  const parts = startRemote('./ceilings.js', { UV_THREADPOOL_SIZE: String(cores + 4) })
  const hash = { memoryCost: 19_456, timeCost: 2, parallelism: 1, concurrency: cores }
  const bare = {
    title: 'bare argon2.verify',
    run: (seconds: number) => parts.call<never>('verifyHash', { ...hash, seconds }),
  }
  const logins = counts.map((count) => {
    const load = loginLoad(service.users.slice(0, count))
    return loadCase(`logins, ${count} under way`, service, load)
  })
  progress('warming up …')
  for (const one of logins) await one.run(flags.warmup / logins.length)
  return { 'medians, and ratios of the rates': await measureGroups([[bare, ...logins]], flags.rounds, flags.seconds) }
})
