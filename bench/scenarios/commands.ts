import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/* Commands that are measured, and what a service beside them notices. */

const program = join(import.meta.dirname, '../../cli/latchkey.js')
const pollMs = 50
const callPauseMs = 2

/** Runs a command. @returns how long it took, and the most memory of its own that it had */
export async function latchkey(args: string[], env: Record<string, string>) {
  const startedAt = performance.now()
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const ended = once(child, 'exit')
  let peakMegabytes = 0
  while (child.exitCode === null && child.signalCode === null) {
    peakMegabytes = Math.max(peakMegabytes, ownMegabytes(child.pid as number))
    await sleep(pollMs)
  }
  const [code] = await ended
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}`)
  return { seconds: (performance.now() - startedAt) / 1000, peakMegabytes }
}

/** Without the pages of the embedded store, which the system counts along and takes back. */
function ownMegabytes(pid: number): number {
  try {
    return Math.round((Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) || 0) / 1024)
  } catch {
    return 0
  }
}

/** The times of answers, one after the other until something is over. */
export async function delays(origin: string, over: Promise<unknown>): Promise<number[]> {
  let isOver = false
  over.finally(() => {
    isOver = true
  })
  const times: number[] = []
  while (!isOver) {
    const at = performance.now()
    await (await fetch(`${origin}/readyz`)).text()
    times.push(performance.now() - at)
    await sleep(callPauseMs)
  }
  return times
}
