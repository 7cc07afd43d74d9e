import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { newDir, type Scope } from './basics.ts'
import { program } from './program.ts'

export interface Ended {
  code: number | null
  signal: string | null
}

/** The program as a process. */
export interface Running {
  readonly child: ChildProcess
  /** where it runs */
  readonly cwd: string
  /** what it has written */
  readonly output: { stdout: string; stderr: string }
  /** its end, and that of what it writes */
  readonly ended: Promise<Ended>
  /** Waits until it listens. @returns its origin @throws when it ends before */
  listening(): Promise<string>
  /** Asks it to end, and waits until it has. */
  stop(signal?: NodeJS.Signals): Promise<Ended>
}

/**
 * Runs the program with these settings and no others, in a directory of its own when none is given.
 *
 * @param before what a shell does first, such as a limit
 */
export async function runProgram(
  t: Scope,
  settings: Record<string, string>,
  {
    cwd,
    args = ['start.cjs'],
    before,
  }: { cwd?: string; args?: [file: string, ...rest: string[]]; before?: string } = {},
): Promise<Running> {
  const { PATH = '' } = process.env
  const [file, ...rest] = args
  const dir = cwd ?? (await newDir(t))
  const command = [process.execPath, '--max-semi-space-size=4', program(file), ...rest]
  if (before !== undefined) command.unshift('sh', '-c', `${before}; exec "$0" "$@"`)
  const child = spawn(command[0] as string, command.slice(1), {
    cwd: dir,
    env: { PATH, PORT: '0', ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk) => {
      output[name] += chunk
    })
  }
  const ended = once(child, 'close').then(([code, signal]): Ended => ({ code, signal }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return {
    child,
    cwd: dir,
    output,
    ended,
    listening: () =>
      new Promise((resolve, reject) => {
        const look = () => {
          const origin = /Latchkey listens on (http:[^",\s]+)/.exec(output.stdout)?.[1]
          if (origin) resolve(origin)
        }
        child.stdout.on('data', look)
        look()
        ended.then(({ code }) => reject(new Error(`ended with ${code}: ${output.stderr}`)))
      }),
    stop(signal = 'SIGTERM') {
      child.kill(signal)
      return ended
    },
  }
}
