/* Programs that the benchmark starts beside itself, and tells by messages what to do. */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { onEnd, stop } from './processes.ts'

export interface Remote {
  pid: number
  /** Has the program do something. @throws with its words when it cannot */
  call<Result>(name: string, argument: unknown): Promise<Result>
}

interface Call {
  id: number
  name: string
  argument: unknown
}
type Answer = { id: number } & ({ result: unknown } | { error: string })

/** Starts a program of the build that calls `serveCalls`; it ends with the benchmark, or when the benchmark is gone. */
export function startRemote(file: string, env: Record<string, string> = {}, execArgv: string[] = []): Remote {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), { env: { ...process.env, ...env }, execArgv })
  onEnd(() => stop(child))
  const waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>()
  let lastId = 0
  child.on('message', (answer: Answer) => {
    const caller = waiting.get(answer.id)
    waiting.delete(answer.id)
    if ('error' in answer) caller?.reject(new Error(answer.error))
    else caller?.resolve(answer.result as never)
  })
  child.on('exit', (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`${file} ended with ${signal ?? code}`))
    waiting.clear()
  })
  return {
    pid: child.pid as number,
    call: (name, argument) =>
      new Promise((resolve, reject) => {
        lastId += 1
        waiting.set(lastId, { resolve, reject })
        child.send({ id: lastId, name, argument } satisfies Call)
      }),
  }
}

/** What such a program can do. */
export function serveCalls(calls: Record<string, (argument: never) => unknown>): void {
  process.on('message', async ({ id, name, argument }: Call) => {
    let answer: Answer
    try {
      answer = { id, result: await calls[name]?.(argument as never) }
    } catch (error) {
      answer = { id, error: (error as Error).message }
    }
    process.send?.(answer)
  })
  process.once('disconnect', () => process.exit())
  // Ctrl-C reaches every process of the terminal; the benchmark ends this one when it needs it no more.
  process.on('SIGINT', () => {})
}
