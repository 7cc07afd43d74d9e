import { ConfigError } from '../config.ts'
import { StoreUnavailable } from '../stores/store.ts'

/** What the exit codes mean; the numbers above 1 are those of sysexits.h. */
export const exitCodes = { fine: 0, problems: 1, usage: 64, unavailable: 69, setting: 78 } as const

/** Something that whoever typed the command can put right. The message is one line that names it. */
export class CommandError extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode: number) {
    super(message)
    this.exitCode = exitCode
  }
}

/** @returns the line that says what went wrong, and the exit code */
export function explain(error: unknown): { line: string; exitCode: number } {
  if (error instanceof CommandError) return { line: error.message, exitCode: error.exitCode }
  if (error instanceof ConfigError) return { line: error.message, exitCode: exitCodes.setting }
  if (error instanceof StoreUnavailable) {
    return {
      line: `The store is unavailable: ${oneLine((error.cause as Error)?.message)}`,
      exitCode: exitCodes.unavailable,
    }
  }
  return { line: `latchkey: ${oneLine((error as Error)?.message ?? String(error))}`, exitCode: exitCodes.problems }
}

const oneLine = (text = 'no reason was given') => text.replace(/\s+/g, ' ').trim()
