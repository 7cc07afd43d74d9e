import { ConfigError } from '../config.ts'
import { StoreUnavailable } from '../stores/store.ts'
import { CommandError, exitCodes } from './exit.ts'

/** How a command that failed ends. @returns one line for stderr, and the exit code */
export function describeFailure(error: unknown): { line: string; exitCode: number } {
  if (error instanceof CommandError) return { line: error.message, exitCode: error.exitCode }
  if (error instanceof ConfigError) return { line: error.message, exitCode: exitCodes.setting }
  if (error instanceof StoreUnavailable) return { line: oneLine(error.reason), exitCode: exitCodes.unavailable }
  return { line: `latchkey: ${oneLine((error as Error)?.message ?? String(error))}`, exitCode: exitCodes.problems }
}

const oneLine = (text = 'no reason was given') => text.replace(/\s+/g, ' ').trim()
