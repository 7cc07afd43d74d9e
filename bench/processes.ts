/* What the benchmarks share: processes that they start and surely end, and figures of what they measured. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface Target {
  url: string
  process: ChildProcess
}

/** Starts a program of the build that logs one JSON line with its `address`. */
export function start(file: string, env: Record<string, string> = {}): Promise<Target> {
  const child = spawn(process.execPath, ['--max-semi-space-size=4', fileURLToPath(new URL(file, import.meta.url))], {
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onEnd(() => stop(child))
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`${file} ended with ${code}`)))
    createInterface(child.stdout).on('line', (line) => {
      const { address } = JSON.parse(line) as { address?: string }
      if (address) resolve({ url: address, process: child })
    })
  })
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill()
  const killer = setTimeout(() => child.kill('SIGKILL'), 5_000)
  await exited
  clearTimeout(killer)
}

const endings: (() => unknown)[] = []

/** Has something undone when the benchmark ends, in the opposite order of the calls. */
export function onEnd(undo: () => unknown): void {
  endings.push(undo)
}

/** Runs some work, and then, however it ended, everything that `onEnd` was given; also when it is interrupted. */
export async function endingAll<T>(work: () => Promise<T>): Promise<T> {
  const end = async () => {
    for (let undo = endings.pop(); undo; undo = endings.pop()) {
      try {
        await undo()
      } catch (error) {
        console.error(error)
      }
    }
  }
  const interrupted = () => void end().finally(() => process.exit(130))
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted)
  try {
    return await work()
  } finally {
    await end()
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
  }
}

/** Runs a benchmark that is the whole program. */
export async function runToEnd(benchmark: () => Promise<void>): Promise<void> {
  try {
    await endingAll(benchmark)
  } catch (error) {
    console.error(error)
    process.exitCode = 1
  }
  process.exit()
}

/** @param share 0.5 for the median, 1 for the largest */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}

export const median = (values: readonly number[]): number => quantile(values, 0.5)

/** Rounds to so many digits that mean something: 1234.5 to 1230, 0.01234 to 0.0123. */
export const round = (value: number, digits = 3): number => Number(value.toPrecision(digits))

/** Runs `work` for every number below `count`, so many at once. */
export async function inFlight(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (next < count) await work(next++)
    }),
  )
}

/** What is being done, for the one who waits; on stderr, so that stdout is the result. */
export const progress = (text: string): void => void process.stderr.write(`${text}\n`)
