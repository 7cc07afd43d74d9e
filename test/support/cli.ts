import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { program } from './program.ts'

/** Without the loaders of the test runner. */
const { NODE_OPTIONS: _, ...plainEnv } = process.env

/** Starts `latchkey` with arguments and settings. @param input for its stdin */
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

/** Runs `latchkey` to its end. */
export async function run(
  args: string[],
  env?: Record<string, string>,
  input?: string,
): Promise<{ code: number; stdout: string; stderr: string }> {
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

/** Runs it with `--json`. @returns the members of its document, beside the exit code and stderr */
export async function runJson(args: string[], env?: Record<string, string>, input?: string): Promise<Result> {
  const { code, stdout, stderr } = await run([...args, '--json'], env, input)
  return { code, stderr, ...JSON.parse(stdout || '{}') }
}
