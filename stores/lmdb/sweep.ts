import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Database, RangeOptions } from 'lmdb'
import type { Store } from '../store.ts'
import { type SweepStep, type SweptTable, sweptTables } from '../sweeping.ts'
import type { Runs } from './runs.ts'

/** The sweep of one table, row by row. */
export interface Stage {
  // biome-ignore lint/suspicious/noExplicitAny: the tables have rows and keys of different types
  table: Pick<Database<any, any>, 'get'> & { getRange(options: RangeOptions): Iterable<any> }
  isDue(row: unknown, step: SweepStep): boolean
  /** @returns whether the row is gone; else its times were put right */
  sweep(key: unknown, row: unknown, step: SweepStep): boolean
}

/** Of a table that is swept from its oldest row on: to look at all of them would take hours. */
export interface OldestStage {
  sweepOldest(step: SweepStep, limit: number): { removed: number; looked: number }
}

/** Of a sweep: as many are looked at and removed in a millisecond or two, and then requests have their turn. */
const rowsAtOnce = 50

/** Sweeps table after table. */
export function createSweep(
  stages: Record<SweptTable, Stage | OldestStage>,
  { read, write, forgetDeadReaders }: Pick<Runs, 'read' | 'write' | 'forgetDeadReaders'>,
): Store['sweep'] {
  async function sweepOldest(table: SweptTable, stage: OldestStage, step: SweepStep) {
    const swept = { table, removed: 0 }
    for (let looked = 0; looked < step.limit; looked += rowsAtOnce) {
      const limit = Math.min(rowsAtOnce, step.limit - looked)
      const { removed, looked: found } = await write(() => stage.sweepOldest(step, limit))
      swept.removed += removed
      if (found < limit) return swept
      await nextTurn()
    }
    return { ...swept, cursor: `${sweptTables.indexOf(table)}` }
  }

  async function sweepRows(name: SweptTable, stage: Stage, step: SweepStep, after: string | undefined) {
    const swept = { table: name, removed: 0 }
    const { table, isDue, sweep } = stage
    const number = sweptTables.indexOf(name)
    let position: string | number | undefined = name === 'revocations' && after !== undefined ? Number(after) : after
    for (let looked = 0; looked < step.limit; looked += rowsAtOnce) {
      const limit = Math.min(rowsAtOnce, step.limit - looked)
      const start = position !== undefined && { start: position, exclusiveStart: true }
      const rows = await read(() => [...table.getRange({ ...start, limit })])
      const dueKeys = rows.filter(({ value }) => isDue(value, step)).map(({ key }) => key)
      // Looked for outside the writer's lock, decided again inside it: a session may have been refreshed in between.
      if (dueKeys.length > 0)
        swept.removed += await write(() => {
          const stillDue = dueKeys
            .map((key) => ({ key, value: table.get(key) }))
            .filter(({ value }) => value && isDue(value, step))
          return stillDue.filter(({ key, value }) => sweep(key, value, step)).length
        })
      if (rows.length < limit) return { ...swept, cursor: `${number + 1}` }
      position = rows.at(-1)?.key
      await nextTurn()
    }
    return { ...swept, cursor: `${number} ${position}` }
  }

  return async (step) => {
    await forgetDeadReaders()
    const [number, after] = readCursor(step.cursor)
    const table = sweptTables[number] as SweptTable
    const stage = stages[table]
    return 'sweepOldest' in stage ? sweepOldest(table, stage, step) : sweepRows(table, stage, step, after)
  }
}

/** A sweep cursor is the stage, and the last key that was looked at in it: any text. */
function readCursor(cursor: string | undefined): [stage: number, after: string | undefined] {
  const [, stage = '0', after] = cursor?.match(/^([0-9]+)(?: (.*))?$/s) ?? []
  return [Number(stage), after]
}
