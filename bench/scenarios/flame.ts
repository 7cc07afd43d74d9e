/*
 * Where the time of a request goes:
 *
 *     npm run bench:flame -- refresh|login|client-credentials|introspect|protected [--svg FILE] [--profile FILE]
 *         [--build ../before/dist] [--seconds 10] [--connections 32] [--json]
 *
 * Starts the service on a temporary store, as `npm start` does, loads it over HTTP, and takes a CPU profile of the thread
 * that answers. It prints what each function costs by itself, in µs of one request, and draws a flame graph. `--profile`
 * keeps what V8 wrote, for Chrome's developer tools; `--build` is another build of this program, with its source maps.
 * Hashes, commits and all else that libuv's threads do is not in the profile: the first table says how much it is.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createLoader } from '../load.ts'
import { cpuSeconds, mainThreadSeconds, round } from '../meter.ts'
import { makeDir } from '../processes.ts'
import { benchSettings, startService, writeClients } from '../service.ts'
import { flameGraph } from './flame-graph.ts'
import { loadsOf } from './loads.ts'
import { functionsOf, owners, readProfile } from './profile.ts'
import { progress, readFlags, runScenario } from './scenario.ts'

const defaults = { svg: '', profile: '', build: fileURLToPath(new URL('../..', import.meta.url)) }
const { flags, positionals } = readFlags({ ...defaults, seconds: 10, connections: 32 })
const [what = 'refresh'] = positionals
const client = { id: 'bench', secret: 'a-secret-of-the-benchmark-that-is-long-enough' }
const warmUpSeconds = 2
const shownFunctions = 25
const [waitMs, pollMs] = [10_000, 20]

await runScenario(async () => {
  const dir = makeDir()
  const file = join(dir, 'service.cpuprofile')
  const build = resolve(flags.build)
  const settings = {
    ...benchSettings,
    AUTH_CLIENTS_FILE: writeClients(dir, [{ client_id: client.id, client_secret: client.secret, introspect: 'all' }]),
    PROFILE_FILE: file,
    NODE_OPTIONS: `--require ${JSON.stringify(join(import.meta.dirname, 'profiled.cjs'))}`,
  }
  progress('starting …')
  const service = await startService(dir, 'main', settings, flags.connections, join(build, 'start.cjs'))
  const { pid, users, sessions } = service
  const loads = loadsOf(users, sessions, client)
  const load = loads[what as keyof typeof loads]
  if (!load) throw new Error(`expected one of ${Object.keys(loads)}, got ${what}`)
  const notes: string[] = []
  const run = createLoader((note) => notes.push(note))(what, service, load)

  progress('warming up …')
  await run.run(Math.min(warmUpSeconds, flags.seconds))
  progress(`${what}, for ${flags.seconds} seconds …`)
  process.kill(pid, 'SIGUSR2')
  const busy = () => ({ all: cpuSeconds(pid) ?? Number.NaN, answering: mainThreadSeconds(pid) ?? Number.NaN })
  const before = busy()
  const measured = await run.run(flags.seconds)
  const after = busy()
  process.kill(pid, 'SIGUSR2')
  for (const until = Date.now() + waitMs; !existsSync(file); await sleep(pollMs))
    if (Date.now() > until) throw new Error('The service wrote no profile')
  if (measured.errors > 0) throw new Error(notes.join('; ') || `${measured.errors} connections broke`)

  const text = readFileSync(file, 'utf8')
  if (flags.profile !== '') writeFileSync(flags.profile, text)
  const profile = readProfile(JSON.parse(text), resolve(build, '..'))
  const allUs = measured.cpuUs ?? Number.NaN
  const answeringUs = (allUs * (after.answering - before.answering)) / (after.all - before.all)
  const isKnown = Number.isFinite(answeringUs)
  const us = (samples: number) => round((answeringUs * samples) / profile.total)
  const share = (samples: number) => `${((100 * samples) / profile.total).toFixed(1)} %`

  if (flags.svg !== '') {
    const title = `${what}: ${round(answeringUs)} µs of CPU in the thread that answers, ${round(allUs)} in all threads`
    const caption = [
      `${availableParallelism()} cores (${cpus()[0]?.model.trim()}), load generator included`,
      ...[`Node ${process.version.slice(1)}`, 'LMDB', `${flags.connections} connections`],
      `${profile.total.toLocaleString('en-US')} samples`,
    ].join('; ')
    const graph = flameGraph(profile, isKnown ? title : what, caption, isKnown ? answeringUs : undefined)
    writeFileSync(flags.svg, graph)
  }

  const functions = functionsOf(profile)
  const sumOf = (owner: string) => functions.reduce((sum, one) => sum + (one.owner === owner ? one.self : 0), 0)
  return {
    'CPU of one request, µs': [
      { thread: 'the one that answers', us: round(answeringUs) },
      { thread: 'all', us: round(allUs) },
    ],
    'of the thread that answers': owners.map((owner) => ({ owner, us: us(sumOf(owner)), share: share(sumOf(owner)) })),
    'functions by themselves': functions.slice(0, shownFunctions).map(({ name, place, self }) => ({
      ...{ name, place, us: us(self), share: share(self) },
    })),
  }
})
