import { hostname } from 'node:os'
import { commandLine, type Log } from '../domain/caller.ts'
import { logEvent, type MembersOf, type NoteName } from '../events.ts'
import { auditRowOf } from '../plugins/run/audit-rows.ts'
import type { Store } from '../stores/store.ts'
import type { Io } from './command.ts'

const levels = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60, silent: 100 } as const

/** Tells of what a command did without the service's app: to the log, and as an audit row. */
export async function tell<Name extends NoteName>(
  io: Io,
  store: Store,
  event: Name,
  members: MembersOf<Name>,
): Promise<void> {
  const log = createEventLog(io)
  logEvent(log, event, members)
  await store.addAudit([auditRowOf({ log: { ...log, debug() {} }, by: commandLine }, event, members, Date.now())])
}

/** Lines as those of other commands, on stderr, where LOG_LEVEL is set. */
function createEventLog({ stderr, env }: Io): Pick<Log, 'info' | 'warn' | 'error'> {
  const least = levels[(env['LOG_LEVEL'] || 'silent') as keyof typeof levels]
  const line = (level: number) => (details: object, msg?: string) => {
    const base = { level, time: Date.now(), pid: process.pid, hostname: hostname(), by: commandLine }
    if (level >= least) stderr.write(`${JSON.stringify({ ...base, ...details, msg })}\n`)
  }
  return { info: line(levels.info), warn: line(levels.warn), error: line(levels.error) }
}
