/* What is measured of anything: rate, latency, errors, CPU time and memory. */
import { existsSync, readFileSync } from 'node:fs'

export interface Measured {
  perSecond: number
  p50Ms: number
  p99Ms: number
  errors: number
  /** CPU time of one call on all cores, µs; undefined where the system does not tell */
  cpuUs?: number
  /** the first error */
  wrong?: string
}

/** @param share 0.5 for the median, 1 for the maximum @returns NaN of no values */
export function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}

export const median = (values: readonly number[]): number => quantile(values, 0.5)

/** Rounds to significant digits: 1234.5 to 1230, 0.01234 to 0.0123. */
export const round = (value: number, digits = 3): number => Number(value.toPrecision(digits))

/**
 * @param latenciesMs of the calls that ended in time
 * @param elapsedMs from the first start to the last of those ends
 */
export function summary(latenciesMs: number[], elapsedMs: number, errors: number): Measured {
  const { length } = latenciesMs
  return {
    perSecond: length === 0 ? 0 : (length / elapsedMs) * 1000,
    p50Ms: quantile(latenciesMs, 0.5) || 0,
    p99Ms: quantile(latenciesMs, 0.99) || 0,
    errors,
  }
}

/** The figures of several rounds as one; errors are added up by the caller, who may know of more rounds. */
export function medianOf(rounds: readonly Measured[]): Measured {
  const of = (read: (one: Measured) => number) => median(rounds.map(read))
  return {
    perSecond: of(({ perSecond }) => perSecond),
    p50Ms: of(({ p50Ms }) => p50Ms),
    p99Ms: of(({ p99Ms }) => p99Ms),
    errors: 0,
    ...(rounds.every(({ cpuUs }) => cpuUs !== undefined) && { cpuUs: of(({ cpuUs }) => cpuUs as number) }),
  }
}

/** Calls `work` until the time is up or it has been called often enough, and measures each call. Errors are counted. */
export async function meter(
  { seconds = Number.POSITIVE_INFINITY, calls = Number.POSITIVE_INFINITY }: { seconds?: number; calls?: number },
  concurrency: number,
  work: (index: number) => unknown,
): Promise<Measured> {
  const latencies: number[] = []
  const failures: unknown[] = []
  let [next, done] = [0, 0]
  const cpuBefore = process.cpuUsage()
  const startedAt = performance.now()
  const endAt = startedAt + seconds * 1000
  let lastAt = startedAt
  const one = async () => {
    for (let at = startedAt; at < endAt && next < calls; ) {
      const from = performance.now()
      try {
        await work(next++)
      } catch (error) {
        failures.push(error)
      }
      done += 1
      at = performance.now()
      if (at > endAt && latencies.length > 0) break
      latencies.push(at - from)
      lastAt = at
    }
  }
  await Promise.all(Array.from({ length: concurrency }, one))
  const { user, system } = process.cpuUsage(cpuBefore)
  return {
    ...summary(latencies, lastAt - startedAt, failures.length),
    cpuUs: (user + system) / done,
    ...(failures.length > 0 && { wrong: String(failures[0]) }),
  }
}

/** Runs `work` for every number below `count`. @throws the first error */
export async function inFlight(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0
  const one = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: concurrency }, one))
}

/** Linux counts the CPU time of a process in these; fixed by its interface to programs. */
const ticksPerSecond = 100
const hasProc = existsSync('/proc/self/stat')

/** The process and its descendants. */
function tree(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
  return [pid, ...children.flatMap((child) => tree(Number(child)))]
}

function sumOverTree(pid: number | undefined, read: (pid: number) => number): number | undefined {
  if (!hasProc || pid === undefined) return undefined
  try {
    return tree(pid).reduce((sum, one) => sum + read(one), 0)
  } catch {
    return undefined
  }
}

/** CPU seconds of a process and its descendants so far; undefined without /proc or without a process. */
export const cpuSeconds = (pid: number | undefined): number | undefined =>
  sumOverTree(pid, (one) => {
    // Behind the name, which is in brackets and may hold anything: state is field 3, utime 14 and stime 15.
    const fields = readFileSync(`/proc/${one}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
  })

const status = (name: string) => (pid: number) =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

/** Resident memory of a process and its descendants, MiB. */
export const residentMB = (pid: number | undefined): number | undefined => sumOverTree(pid, status('VmRSS'))
/** Its maximum so far. */
export const peakResidentMB = (pid: number | undefined): number | undefined => sumOverTree(pid, status('VmHWM'))
