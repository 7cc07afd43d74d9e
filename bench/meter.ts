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

/** Calls `work` until the time is up or it has been called often enough, and measures each call. Errors are counted. */
export async function meter(
  { seconds = Number.POSITIVE_INFINITY, calls = Number.POSITIVE_INFINITY }: { seconds?: number; calls?: number },
  concurrency: number,
  work: (index: number) => unknown,
): Promise<Measured> {
  const latencies: number[] = []
  let [next, done, errors] = [0, 0, 0]
  let wrong: string | undefined
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
        errors += 1
        wrong ??= String(error)
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
    ...summary(latencies, lastAt - startedAt, errors),
    cpuUs: (user + system) / done,
    ...(wrong !== undefined && { wrong }),
  }
}

/** Runs `work` for every number below `count`. @returns its results, in order @throws the first error */
export async function inFlight<T>(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = []
  let next = 0
  const one = async () => {
    for (let index = next++; index < count; index = next++) results[index] = await work(index)
  }
  await Promise.all(Array.from({ length: concurrency }, one))
  return results
}

/** Linux counts the CPU time of a process in these; fixed by its interface to programs. */
const ticksPerSecond = 100
const hasProc = existsSync('/proc/self/stat')

/** The sum over a process and its descendants; undefined without /proc or without a process. */
function sumOverTree(pid: number | undefined, read: (file: (name: string) => string) => number): number | undefined {
  const sum = (one: number): number => {
    const file = (name: string) => readFileSync(`/proc/${one}/${name}`, 'utf8')
    const children = file(`task/${one}/children`).match(/\d+/g) ?? []
    return children.reduce((total, child) => total + sum(Number(child)), read(file))
  }
  if (!hasProc || pid === undefined) return undefined
  try {
    return sum(pid)
  } catch {
    return undefined
  }
}

/** CPU seconds by `stat` of a process or a thread. */
function secondsIn(stat: string): number {
  // Behind the name, which is in brackets and may hold anything: state is field 3, utime 14 and stime 15.
  const fields = stat.replace(/^.*\) /s, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}

/** CPU seconds of a process and its descendants so far. */
export const cpuSeconds = (pid: number | undefined): number | undefined =>
  sumOverTree(pid, (file) => secondsIn(file('stat')))

/** CPU seconds so far of the thread that runs the JavaScript of a process. */
export const mainThreadSeconds = (pid: number): number | undefined =>
  hasProc ? secondsIn(readFileSync(`/proc/${pid}/task/${pid}/stat`, 'utf8')) : undefined

/** Resident memory of a process and its descendants now (VmRSS), or its maximum so far (VmHWM), MiB. */
export const residentMB = (pid: number | undefined, name: 'VmRSS' | 'VmHWM'): number | undefined =>
  sumOverTree(pid, (file) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(file('status'))?.[1]) / 1024)
