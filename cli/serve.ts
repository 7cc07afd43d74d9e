import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { join } from 'node:path'
import type { Io } from './command.ts'

/**
 * `latchkey serve`: the same as `npm start`. A process of its own, because the number of libuv's threads has to be set
 * before Node loads the first module; signals are passed on to it.
 *
 * @returns its exit code
 */
export async function serve({ env }: Io): Promise<number> {
  const start = join(import.meta.dirname, '..', 'start.cjs')
  const child = spawn(process.execPath, ['--max-semi-space-size=4', start], { env, stdio: 'inherit' })
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  return code ?? 128 + constants.signals[signal as NodeJS.Signals]
}
