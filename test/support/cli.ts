import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { main } from '../../cli/main.ts'
import { program } from './program.ts'

/** Without the loaders of the test runner. */
export const { NODE_OPTIONS: _, ...plainEnv } = process.env

interface Ended {
  code: number
  stdout: string
  stderr: string
}

/**
 * Runs `latchkey` in this process.
 *
 * @param input for its stdin
 * @param columns of the terminal that all three streams are; none when not given
 */
export async function run(
  args: string[],
  env: Record<string, string> = {},
  input = '',
  columns?: number,
): Promise<Ended> {
  const terminal = columns === undefined ? {} : { isTTY: true, columns }
  const stdin = Object.assign(Readable.from([Buffer.from(input)]), terminal)
  const [stdout, stderr] = [Object.assign(new PassThrough(), terminal), Object.assign(new PassThrough(), terminal)]
  const texts = Promise.all([text(stdout), text(stderr)])
  const code = await main(args, { stdin, stdout, stderr, env })
  stdout.end()
  stderr.end()
  const [out, err] = await texts
  return { code, stdout: out, stderr: err }
}

/** Starts `latchkey` as a process. @param input for its stdin */
export async function start(args: string[], env: Record<string, string> = {}, input?: string): Promise<ChildProcess> {
  const stdin = input === undefined ? 'ignore' : 'pipe'
  const child = spawn(process.execPath, [program('cli/latchkey.js'), ...args], {
    env: { ...plainEnv, ...env },
    stdio: [stdin, 'pipe', 'pipe'],
  })
  // It may end without reading.
  child.stdin?.on('error', () => {}).end(input)
  return child
}

/** Runs `latchkey` as a process: where signals, variables of the process or a crash have a part. */
export async function runProcess(args: string[], env?: Record<string, string>, input?: string): Promise<Ended> {
  const child = await start(args, env, input)
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text
    })
  }
  const [code] = await once(child, 'close')
  return { code, ...texts }
}

// biome-ignore lint/suspicious/noExplicitAny: the document is the command's
type Result = { code: number; stderr: string; [member: string]: any }

/** Runs it in this process with `--json`. @returns the members of its document, beside the exit code and stderr */
export async function runJson(args: string[], env?: Record<string, string>, input?: string): Promise<Result> {
  const { code, stdout, stderr } = await run([...args, '--json'], env, input)
  return { code, stderr, ...JSON.parse(stdout || '{}') }
}
