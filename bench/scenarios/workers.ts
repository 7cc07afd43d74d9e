/*
 * What several workers gain over one process, on LMDB: `npm run bench:workers`, with the seconds of a measurement, the
 * rounds, and the numbers of workers, such as `-- 4 5 1 2 4`.
 *
 * Each runs on a temporary store of its own. They are measured in turn, round by round, and compared within a round, because a
 * machine does not stay the same for minutes. The load comes from this process, which takes up to a core by itself. Where all
 * cores are busy with that, more workers cannot show in the rate; what a request costs them in processor time can be told anyway.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type autocannon from 'autocannon'
import { bearer, form, logIn, measure, password, refreshing, signUp, type Tokens } from '../load.ts'
import { median, onEnd, progress, round, runToEnd, start } from '../processes.ts'

const [duration = 4, rounds = 5, ...numbers] = process.argv.slice(2).map(Number)
const workerNumbers = numbers.length > 0 ? numbers : [1, 2]
const connections = 32
const user = 'bench'

interface Service {
  workers: number
  pid: number
  loads: Record<string, autocannon.Options>
}

async function startService(workers: number): Promise<Service> {
  const dataDir = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))
  onEnd(() => rmSync(dataDir, { recursive: true, force: true }))
  const settings = {
    AUTH_DATA_DIR: dataDir,
    DATABASE_URL: '',
    AUTH_THROTTLE: 'off',
    AUTH_HASH_MAX_WAIT: '60s',
    LOG_LEVEL: 'info',
  }
  const { url, process: child } = await start('../start.cjs', { ...settings, AUTH_WORKERS: String(workers) })
  await signUp(url, user)
  const sessions: Tokens[] = []
  for (let n = 0; n < connections; n++) sessions.push(await logIn(url, user))
  const login = {
    method: 'POST',
    headers: form,
    body: new URLSearchParams({ username: user, password }).toString(),
  } as const
  return {
    workers,
    pid: child.pid as number,
    loads: {
      'GET /protected': { url: `${url}/protected`, connections, headers: bearer(sessions[0] as Tokens) },
      refresh: refreshing(url, sessions),
      login: { url: `${url}/token`, connections, ...login },
    },
  }
}

/** Processor time of a process and its children so far; Linux only. */
function cpuMs(pid: number): number {
  const msPerTick = 10
  let ticks = 0
  for (const id of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    try {
      // After the name, which may hold anything: the state, the parent, and in the 12th and 13th place user and system time.
      const fields = readFileSync(`/proc/${id}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
      if (Number(id) === pid || Number(fields[1]) === pid) ticks += Number(fields[11]) + Number(fields[12])
    } catch {
      // It has ended.
    }
  }
  return ticks * msPerTick
}

await runToEnd(async () => {
  const services: Service[] = []
  for (const workers of workerNumbers) services.push(await startService(workers))
  const figures = new Map<string, { perSecond: number; p99Ms: number; cpuMicros: number; ofFirst: number }[]>()
  for (let n = 1; n <= rounds; n++) {
    progress(`round ${n} of ${rounds}`)
    for (const what of Object.keys(services[0]?.loads ?? {})) {
      let first: number | undefined
      for (const { workers, pid, loads } of services) {
        const cpuBefore = cpuMs(pid)
        const { perSecond, p99Ms, errors } = await measure({ duration, ...(loads[what] as autocannon.Options) })
        if (errors > 0) throw new Error(`${errors} errors: ${what}, ${workers} workers`)
        const cpuMicros = ((cpuMs(pid) - cpuBefore) * 1000) / (perSecond * duration)
        first ??= perSecond
        const name = `${what}, ${workers} ${workers === 1 ? 'process' : 'workers'}`
        figures.set(name, [...(figures.get(name) ?? []), { perSecond, p99Ms, cpuMicros, ofFirst: perSecond / first }])
      }
    }
  }
  const rows = [...figures].map(([what, measured]) => {
    const of = (key: 'perSecond' | 'p99Ms' | 'cpuMicros' | 'ofFirst') => round(median(measured.map((one) => one[key])))
    const ratios = measured.map(({ ofFirst }) => round(ofFirst, 2))
    return {
      what,
      perSecond: of('perSecond'),
      p99Ms: of('p99Ms'),
      cpuMicros: of('cpuMicros'),
      ofFirst: of('ofFirst'),
      from: Math.min(...ratios),
      to: Math.max(...ratios),
    }
  })
  console.table(rows)
})
