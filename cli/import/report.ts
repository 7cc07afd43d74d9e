import { closeSync, fchmodSync, fstatSync, openSync, writeSync } from 'node:fs'
import { CommandError, exitCodes } from '../exit.ts'
import type { Note } from './to-row.ts'

/** What became of a row; `skipped` of one that is not taken. */
export type Action = 'made' | 'updated' | 'unchanged' | 'skipped'

/** A row of a report. It has no name and no hash. */
export interface Line {
  /** where there are several files */
  file?: string
  line: number
  externalId: string | undefined
  action: Action
  reason?: string
}

/** Lines that are shown of each reason, where there is no report. */
const shown = 10

export type Report = ReturnType<typeof createReport>

/**
 * Counts what becomes of the rows, and writes down those that are not taken.
 *
 * @param path of the report; undefined for a summary @param tell is told of each row
 */
export function createReport(path: string | undefined, tell?: (line: Line) => void) {
  const descriptor = path === undefined ? undefined : openReport(path)
  const counts = { made: 0, updated: 0, unchanged: 0, skipped: 0 } satisfies Record<Action, number>
  const noted = new Map<Note, number>()
  const reasons = new Map<string, { count: number; lines: string[] }>()
  return {
    counts: counts as Readonly<Record<Action, number>>,
    noted: noted as ReadonlyMap<Note, number>,

    add(told: Line): void {
      const { file, line, externalId: external_id, action, reason } = told
      counts[action] += 1
      tell?.(told)
      if (reason === undefined) return
      if (descriptor !== undefined) {
        write(descriptor, `${JSON.stringify({ file, line, external_id, action, reason })}\n`)
        return
      }
      const of = reasons.get(reason) ?? { count: 0, lines: [] }
      reasons.set(reason, of)
      of.count += 1
      if (of.lines.length < shown) of.lines.push(file === undefined ? `${line}` : `${file}:${line}`)
    },
    note(note: Note): void {
      noted.set(note, (noted.get(note) ?? 0) + 1)
    },

    /** The rows with a reason, for people, where there is no file for them. */
    summary: (): string[] =>
      [...reasons].map(([reason, { count, lines }]) => {
        const more = count > lines.length ? ', …' : ''
        return `${count.toLocaleString('en-US')} × ${reason} (line ${lines.join(', ')}${more})`
      }),
    close(): void {
      if (descriptor !== undefined) closeSync(descriptor)
    },
  }
}

function openReport(path: string): number {
  try {
    const descriptor = openSync(path, 'w', 0o600)
    if (fstatSync(descriptor).isFile()) fchmodSync(descriptor, 0o600)
    return descriptor
  } catch (error) {
    throw unwritable(error)
  }
}

function write(descriptor: number, line: string): void {
  try {
    writeSync(descriptor, line)
  } catch (error) {
    throw unwritable(error)
  }
}

const unwritable = (error: unknown) =>
  new CommandError(`--report: it cannot be written (${(error as NodeJS.ErrnoException).code})`, exitCodes.problems)
