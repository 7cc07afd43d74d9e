import type { Store } from '../store.ts'
import { type SweepStep, type SweptTable, sweptTables } from '../sweeping.ts'

/**
 * One step of a sweep: looks at the rows behind a key, and removes the dead ones among them. Says too how many it has
 * seen whose times lie in the future: they are put right by another statement, for none may change a table twice.
 *
 * Whether a row is dead is asked in the DELETE, which looks again at a row that was refreshed meanwhile.
 *
 * @param returning columns of the rows in `removed` @param also a CTE for what goes with them
 */
export const sweeping = (
  table: string,
  key: string,
  after: string,
  isDead: string,
  isAhead = 'false',
  { returning = '1 AS one', also }: { returning?: string; also?: string } = {},
) => `
  WITH looked AS (
    SELECT ${key}, ${isAhead} AS is_ahead FROM ${table} WHERE (${key}) > (${after}) ORDER BY ${key} LIMIT $1
  ),
  removed AS (DELETE FROM ${table} t WHERE (${key}) IN (SELECT ${key} FROM looked) AND ${isDead} RETURNING ${returning})${also === undefined ? '' : `,${also}`}
  SELECT ${key}, (SELECT count(*) FROM looked) AS looked, (SELECT count(*) FROM removed) AS removed,
    (SELECT count(*) FROM looked WHERE is_ahead) AS ahead
  FROM looked ORDER BY ${key.replaceAll(',', ' DESC,')} DESC LIMIT 1`

/** What a statement by {@link sweeping} returns, with the key of the last row that it looked at. */
export interface SweptRow {
  looked: number
  removed: number
  /** rows with times in the future */
  ahead: number
  id: string
  key: string
  line: number
  number: number
}

/** The sweep of one table: runs from a position in it, and says from a row where the next step goes on. */
export interface SweepStage {
  sweep(step: SweepStep, position: string | undefined): Promise<Pick<SweptRow, 'looked' | 'removed'> | undefined>
  // biome-ignore lint/suspicious/noExplicitAny: the row that this stage's sweep returned
  position(row: any): string
}

/** Sweeps table after table. */
export function createSweep(stages: Record<SweptTable, SweepStage>): Store['sweep'] {
  return async (step) => {
    const [, text = '0', after] = step.cursor?.match(/^([0-9])(?: (.*))?$/s) ?? []
    const number = Number(text)
    const table = sweptTables[number] as SweptTable
    const row = await stages[table].sweep(step, after)
    const swept = { table, removed: row?.removed ?? 0 }
    if (row?.looked === step.limit) return { ...swept, cursor: `${number} ${stages[table].position(row)}` }
    return number + 1 < sweptTables.length ? { ...swept, cursor: `${number + 1}` } : swept
  }
}
