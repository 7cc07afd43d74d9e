/*
 * What `latchkey bench` does: starts the service on a temporary store, and measures it in rounds, each figure beside
 * its ceilings. Medians of the rounds are reported.
 */
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { version } from '../config/version.ts'
import { argon2Build } from '../plugins/login/argon2.ts'
import { createFigures, type Figure } from './figures.ts'
import { type Measured, median, residentMB } from './meter.ts'
import type { BenchOptions, FigureName } from './options.ts'
import { type Case, inRounds, medianOf, medianRatio, ratiosByCpu } from './rounds.ts'
import { type Services, startServices } from './services.ts'

export interface Line extends Measured {
  title: string
  /** of each round */
  rounds: Measured[]
}
export interface CeilingLine extends Line {
  /** what the figure reached of it: the median of the rounds */
  ratio: number
  /** the same by CPU time, which other work on the machine disturbs less */
  ratioByCpu?: number
}
export interface FigureLine extends Line {
  name: FigureName
  /** the first is the one that counts */
  ceilings: CeilingLine[]
}

export type BenchResult = Awaited<ReturnType<typeof runBench>>

const warmUpSeconds = 0.5

/**
 * @param onProgress takes a line about each step
 * @param onSettings is told what will be measured; what it throws ends the run before
 */
export async function runBench(
  options: BenchOptions,
  onProgress: (line: string) => void,
  onSettings: (settings: BenchSettings) => void = () => {},
) {
  const startedAt = performance.now()
  const loadBefore = loadavg()[0] as number
  onProgress('starting …')
  const services = await startServices(options)
  const settings = settingsOf(options, services)
  onSettings(settings)
  const notes = [...services.notes]
  const { figures, listen } = createFigures(options, services, notes)
  if (options.databaseUrl !== undefined) notes.push('The processor time of the database is not in the figures.')

  const cases = new Set<Case>(figures.flatMap((figure) => [figure, ...figure.ceilings]))
  const ceilings = [...cases].filter((one) => !figures.includes(one as Figure))
  const { secondsEach } = settings
  const steps = (1 + options.rounds) * cases.size
  let step = 0
  const report = (stage: string, title: string) => onProgress(`${stage}: ${title} (${++step} of ${steps})`)
  const warmUp = (some: Case[]) =>
    inRounds(some, 1, Math.min(secondsEach, warmUpSeconds), (title) => report('warming up', title))

  const warmFigures = await warmUp(figures)
  await listen()
  const warm = new Map([...warmFigures, ...(await warmUp(ceilings))])
  const series = await inRounds(cases, options.rounds, secondsEach, (title, round) =>
    report(`round ${round} of ${options.rounds}`, title),
  )
  const peakMB = residentMB(services.main.pid, 'VmHWM')
  await services.leave()

  const lineOf = (one: Case): Line => {
    const rounds = series.get(one) as Measured[]
    const total = medianOf(rounds)
    return { title: one.title, ...total, errors: total.errors + medianOf(warm.get(one) ?? []).errors, rounds }
  }
  const beside = (line: Line, ceiling: Line): CeilingLine => {
    const byCpu = ratiosByCpu(line.rounds, ceiling.rounds)
    const ratio = medianRatio(line.rounds, ceiling.rounds)
    return { ...ceiling, ratio, ...(byCpu.length > 0 && { ratioByCpu: median(byCpu) }) }
  }
  const { readyMs, idleMB } = services
  return {
    version,
    at: new Date().toISOString(),
    seconds: (performance.now() - startedAt) / 1000,
    machine: {
      processor: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      memoryGB: totalmem() / 2 ** 30,
      platform: `${process.platform} ${process.arch}`,
      node: process.version,
      loadBefore,
    },
    settings,
    service: {
      ...(readyMs !== undefined && { readyMs }),
      ...(idleMB !== undefined && { idleMB }),
      ...(peakMB !== undefined && { peakMB }),
    },
    figures: figures.map((figure): FigureLine => {
      const line = lineOf(figure)
      return { name: figure.name, ...line, ceilings: figure.ceilings.map((one) => beside(line, lineOf(one))) }
    }),
    notes: [...new Set(notes)],
  }
}

export type BenchSettings = ReturnType<typeof settingsOf>

const settingsOf = (options: BenchOptions, { hashes, atOnce, algorithm, store }: Services) => ({
  store,
  /** unknown of a running service */
  workers: options.url === undefined ? (options.workers ?? '1') : 'unknown',
  ...(hashes && {
    argon2: {
      memory: hashes.memoryCost,
      passes: hashes.timeCost,
      lanes: hashes.parallelism,
      atOnce,
      build: argon2Build,
    },
  }),
  algorithm,
  connections: options.connections,
  secondsEach: options.seconds / options.rounds,
  rounds: options.rounds,
})
