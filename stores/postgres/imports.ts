import { setTimeout as sleep } from 'node:timers/promises'
import type { End } from '../../domain/lifetimes.ts'
import type { User } from '../../domain/user.ts'
import { type ImportPlan, type ImportRow, type OnConflict, planImport } from '../../domain/user-import.ts'
import type { Store } from '../store.ts'
import { toldValues } from './audit.ts'
import { type Postgres, sqlState } from './pool.ts'
import { type Statement, statements } from './sql.ts'
import { type Fields, tables } from './tables.ts'

const { users } = tables

/** A name was taken between the look and the write: nothing is written, and what is there now decides. */
class Overtaken extends Error {}

/** After these nothing was written; the batch is looked at anew. The first is a name that an update would give twice. */
const looksAgain = new Set(['23505', '40001', '40P01'])
const triesAtMost = 20

/**
 * Imports batches of users: reads and locks whom they concern, decides by `planImport`, and writes, in one transaction.
 *
 * @param newLine in which the revocations of a batch are numbered: one, for their heads stay locked until the end
 */
export function createImports(
  { query, transaction }: Pick<Postgres, 'query' | 'transaction'>,
  newLine: () => number,
): Store['importUsers'] {
  const planBy = async (
    look: Postgres['query'],
    statement: Statement,
    rows: ImportRow[],
    onConflict: OnConflict,
  ): Promise<ImportPlan> => {
    const known = await look<Fields>(statement, [
      rows.map(({ id }) => id),
      rows.map(({ nameKey }) => nameKey),
      rows.flatMap(({ emailKey = [] }) => emailKey),
      rows.map(({ externalId }) => externalId),
      [...new Set(rows.map(({ source }) => source))],
    ])
    return planImport(rows, known.map(users.read), onConflict)
  }

  const take = (rows: ImportRow[], onConflict: OnConflict, end: End) =>
    transaction('', async (query) => {
      const { outcomes, made, updated } = await planBy(query, statements.lockForImport, rows, onConflict)
      const write = async (statement: Statement, rows: User[]) => {
        if (rows.length > 0 && (await query(statement, users.arrays(rows))).length < rows.length) throw new Overtaken()
      }
      await write(
        statements.updateImported,
        updated.map(({ user }) => user),
      )
      await write(statements.importUsers, made)
      const line = newLine()
      for (const { user, endsSessions } of updated) {
        if (!endsSessions) continue
        const revoked = ['user', user.id, user.generation, null, false]
        await query(statements.revoke, [line, end.now, end.expiresAt, ...revoked, ...toldValues(undefined, true)])
      }
      return outcomes
    })

  return async (rows, onConflict, end) => {
    // A row that was taken before costs no more than this look.
    const { outcomes, made, updated } = await planBy(query, statements.findForImport, rows, onConflict)
    if (end === undefined || made.length + updated.length === 0) return outcomes
    for (let tries = 1; ; tries++) {
      try {
        return await take(rows, onConflict, end)
      } catch (error) {
        const isOvertaken = error instanceof Overtaken || looksAgain.has(sqlState((error as Error).cause) ?? '')
        if (!isOvertaken || tries === triesAtMost) throw error
        await sleep(2 ** Math.min(tries, 6) * (2 + Math.random() * 4))
      }
    }
  }
}
