/*
 * How long the first start takes, on an empty data directory or database, and what a process takes that nobody has asked
 * for anything:
 *
 *     npm run bench:start -- [--rounds 9] [--postgres] [--json]
 *     npm run bench:start -- before=../before/dist after=dist off=dist,AUTH_PAGES=off
 *
 * Builds, or settings of one, take turns; medians are printed. Ready is when the service says that it listens, as it has
 * written it. Processor time is that of all threads until then; memory is looked at a while later.
 */
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { cpuSeconds, median, quantile, residentMB, round } from '../meter.ts'
import { makeDir } from '../processes.ts'
import { benchSettings, startServer } from '../service.ts'
import { openServer } from './postgres.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const { flags, positionals } = readFlags({ rounds: 9, postgres: false })
/** By then what is left of the start has been done, and nothing else has been yet. */
const idleMs = 1_500
const secret = 'a-secret-of-the-benchmark-that-is-long-enough'

interface Case {
  name: string
  program: string
  settings: Record<string, string>
  starts: { readyMs: number; cpuMs: number; idleMB: number }[]
}

function readCase(text: string): Case {
  const [named = '', ...own] = text.split(',')
  const [name = '', dir = name] = named.split('=')
  const settings = Object.fromEntries(own.map((setting) => setting.split('=') as [string, string]))
  return { name, program: resolve(dir, 'start.cjs'), settings, starts: [] }
}

await runScenario(async () => {
  const cases = (positionals.length > 0 ? positionals : ['pages on=dist', 'pages off=dist,AUTH_PAGES=off']).map(
    readCase,
  )
  const dir = makeDir()
  const server = flags.postgres ? await openServer() : undefined
  // The first start of each reads its files from the disk.
  for (let number = 0; number <= flags.rounds; number++) {
    progress(number === 0 ? 'warming up …' : `round ${number} of ${flags.rounds} …`)
    for (const [index, { name, program, settings, starts }] of number % 2 === 0
      ? [...cases.entries()]
      : [...cases.entries()].reverse()) {
      const database = server && { DATABASE_URL: (await server.createDatabase()).url, AUTH_SECRET: secret }
      const env = { ...benchSettings, AUTH_DATA_DIR: join(dir, `${number}-${index}`), ...database, ...settings }
      const { pid, readyMs, end } = await startServer(env, join(dir, `${number}-${index}.log`), program)
      const cpuMs = (cpuSeconds(pid) ?? Number.NaN) * 1000
      await sleep(idleMs)
      const idleMB = residentMB(pid, 'VmRSS') ?? Number.NaN
      await end()
      if (number > 0) starts.push({ readyMs, cpuMs, idleMB })
      else progress(`  ${name}: ${round(readyMs)} ms`)
    }
  }
  const rows = cases.map(({ name, starts }) => {
    const ready = starts.map(({ readyMs }) => readyMs)
    return {
      what: name,
      readyMs: round(median(ready)),
      ...{ fastest: round(quantile(ready, 0)), slowest: round(quantile(ready, 1)) },
      cpuMs: round(median(starts.map(({ cpuMs }) => cpuMs))),
      idleMB: round(median(starts.map(({ idleMB }) => idleMB))),
    }
  })
  return {
    [`First start, ${flags.postgres ? `PostgreSQL ${server?.version}` : 'LMDB'}, medians of ${flags.rounds}`]: rows,
  }
})
