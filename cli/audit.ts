import { hostname } from 'node:os'
import type { Log } from '../domain/caller.ts'
import type { Io } from './command.ts'

const levels = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60, silent: 100 } as const

/**
 * The log of a command that acts without the service's app: lines as those of other commands, on stderr, where
 * LOG_LEVEL is set.
 */
export function createAuditLog({ stderr, env }: Io): Pick<Log, 'info' | 'warn' | 'error'> {
  const least = levels[(env['LOG_LEVEL'] || 'silent') as keyof typeof levels]
  const line = (level: number) => (details: object, msg?: string) => {
    const base = { level, time: Date.now(), pid: process.pid, hostname: hostname(), by: 'latchkey cli' }
    if (level >= least) stderr.write(`${JSON.stringify({ ...base, ...details, msg })}\n`)
  }
  return { info: line(levels.info), warn: line(levels.warn), error: line(levels.error) }
}
