/* Processes and directories of a benchmark, which end with it however it ends. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const endings: (() => unknown)[] = []

/** Registers what undoes a step; at the end of the benchmark all run, the last one first. */
export function onEnd(undo: () => unknown): void {
  endings.push(undo)
}

/** Runs `work`, and then, also after an error, SIGINT or SIGTERM, everything that `onEnd` was given. */
export async function endingAll<T>(work: () => Promise<T>): Promise<T> {
  const end = async () => {
    for (let undo = endings.pop(); undo; undo = endings.pop()) await Promise.resolve().then(undo).catch(console.error)
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

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill()
  const killer = setTimeout(() => child.kill('SIGKILL'), 5_000)
  await exited
  clearTimeout(killer)
}

/** Makes a temporary directory, removed at the end. */
export function makeDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'latchkey-bench-'))
  onEnd(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A program that is called by messages. */
export interface Remote {
  pid: number
  /** @throws an error with the message of the one that was thrown there */
  call<Result>(name: string, argument: unknown): Promise<Result>
}

type Call = { id: number; name: string; argument: unknown }
type Answer = { id: number; result?: unknown; error?: string }

/** Starts a program of this directory that calls `serveCalls`; it ends with the benchmark, or when that is gone. */
export function startRemote(file: string, env: Record<string, string> = {}, execArgv: string[] = []): Remote {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), { env: { ...process.env, ...env }, execArgv })
  onEnd(() => stop(child))
  const pending = new Map<number, (answer: Omit<Answer, 'id'>) => void>()
  let lastId = 0
  child.on('message', (answer: Answer) => pending.get(answer.id)?.(answer))
  child.on('exit', (code, signal) => {
    for (const settle of pending.values()) settle({ error: `${file} ended with ${signal ?? code}` })
  })
  return {
    pid: child.pid as number,
    call: (name, argument) =>
      new Promise((resolve, reject) => {
        const id = lastId++
        pending.set(id, ({ result, error }) => {
          pending.delete(id)
          if (error === undefined) resolve(result as never)
          else reject(new Error(error))
        })
        child.send({ id, name, argument } satisfies Call)
      }),
  }
}

/** Answers the calls of `startRemote`. */
export function serveCalls(calls: Record<string, (argument: never) => unknown>): void {
  process.on('message', async ({ id, name, argument }: Call) => {
    try {
      process.send?.({ id, result: await calls[name]?.(argument as never) } satisfies Answer)
    } catch (error) {
      process.send?.({ id, error: (error as Error).message } satisfies Answer)
    }
  })
  process.once('disconnect', () => process.exit())
  // Ctrl-C reaches every process of the terminal; the benchmark ends this one when its work is undone.
  process.on('SIGINT', () => {})
}
