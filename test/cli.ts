import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '..')
const require = createRequire(import.meta.url)
/** Without the loaders of the test runner. */
const { NODE_OPTIONS: _, ...plainEnv } = process.env

/** The command as `npm run build` makes it, in a place of this test file's own. */
const program = (async () => {
  const outDir = t.testdir({ 'package.json': await readFile(join(root, 'package.json')) })
  const tsc = join(require.resolve('typescript/package.json'), '../bin/tsc')
  const options = ['-p', 'tsconfig.build.json', '--noCheck', '--outDir', outDir, '--tsBuildInfoFile', join(outDir, '.tsbuildinfo')]
  const [code] = await once(spawn(process.execPath, [tsc, ...options], { cwd: root, stdio: 'inherit', env: plainEnv }), 'exit')
  if (code !== 0) throw new Error('the build failed')
  return join(outDir, 'cli', 'latchkey.js')
})()

/** Starts `latchkey` with arguments and settings. @param input for its stdin */
export async function start(args: string[], env: Record<string, string> = {}, input?: string): Promise<ChildProcess> {
  const stdin = input === undefined ? 'ignore' : 'pipe'
  const child = spawn(process.execPath, [await program, ...args], { env: { ...plainEnv, ...env }, stdio: [stdin, 'pipe', 'pipe'] })
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
