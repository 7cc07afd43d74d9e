/* What is measured of anything, and what it costs the processor. */
import { existsSync, readFileSync } from 'node:fs'

export interface Measured {
  perSecond: number
  p50Ms: number
  p99Ms: number
  errors: number
  /** microseconds of all cores for each; undefined where they cannot be told */
  cpuUs?: number
}

/** @param latenciesMs of all that came in time @param elapsedMs from the first start to the last of those ends */
export function summary(latenciesMs: number[], elapsedMs: number, errors: number): Measured {
  const sorted = Float64Array.from(latenciesMs).sort()
  const quantile = (share: number) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0
  return {
    perSecond: sorted.length === 0 ? 0 : (sorted.length / elapsedMs) * 1000,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    errors,
  }
}

/** Calls a function for so long, so many calls under way at once, and measures each. */
export async function meter(seconds: number, atOnce: number, work: () => unknown): Promise<Measured> {
  const latencies: number[] = []
  let errors = 0
  let done = 0
  const cpuBefore = process.cpuUsage()
  const startedAt = performance.now()
  const endAt = startedAt + seconds * 1000
  let lastAt = startedAt
  const one = async () => {
    for (let at = startedAt; at < endAt; ) {
      const from = performance.now()
      try {
        await work()
      } catch {
        errors += 1
      }
      done += 1
      at = performance.now()
      if (at > endAt && latencies.length > 0) break
      latencies.push(at - from)
      lastAt = at
    }
  }
  await Promise.all(Array.from({ length: atOnce }, one))
  const { user, system } = process.cpuUsage(cpuBefore)
  return { ...summary(latencies, lastAt - startedAt, errors), cpuUs: (user + system) / done }
}

/** Of Linux, where the kernel counts a process's time in these; fixed by its interface to programs. */
const ticksPerSecond = 100

const hasProc = existsSync('/proc/self/stat')

/** The process and everything it has started. */
function tree(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
  return [pid, ...children.flatMap((child) => tree(Number(child)))]
}

function sumOverTree(pid: number, read: (pid: number) => number): number | undefined {
  if (!hasProc) return undefined
  try {
    return tree(pid).reduce((sum, one) => sum + read(one), 0)
  } catch {
    return undefined
  }
}

/** Seconds of processor time that a process and its children have taken so far. */
export const cpuSeconds = (pid: number): number | undefined =>
  sumOverTree(pid, (one) => {
    // Behind the name, which is in brackets and may hold anything: state is field 3, utime 14 and stime 15.
    const fields = readFileSync(`/proc/${one}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
  })

const status = (name: string) => (pid: number) =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

/** Resident memory of a process and its children, MiB. */
export const residentMB = (pid: number): number | undefined => sumOverTree(pid, status('VmRSS'))
/** The most that it ever was. */
export const peakResidentMB = (pid: number): number | undefined => sumOverTree(pid, status('VmHWM'))
