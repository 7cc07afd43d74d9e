import { setTimeout as sleep } from 'node:timers/promises'
import type { End } from '../../../domain/lifetimes.ts'
import type { User } from '../../../domain/user.ts'
import { type ImportPlan, type ImportRow, type OnConflict, planImport } from '../../../domain/user-import.ts'
import type { UserTable } from '../../tables/users.ts'
import { type Fields, tables } from '../columns.ts'
import { type Postgres, sqlState } from '../pool.ts'
import { plan, type Statement } from '../statement.ts'
import { newLine, toldValues } from '../telling.ts'
import { statements as revocations } from './revocations.ts'

const { users, factors } = tables

/** Users with one of the ids $1, names $2, verified addresses $3, or external ids $4 of the sources $5. */
const usersOfImport = `
    SELECT ${users.list} FROM latchkey_users u WHERE u.id IN (
      SELECT i.id FROM latchkey_users i WHERE i.id = ANY($1::uuid[])
      UNION SELECT n.id FROM latchkey_users n WHERE n.name_key = ANY($2::text[])
      UNION SELECT e.id FROM latchkey_users e WHERE e.email_key IS NOT NULL AND e.email_key = ANY($3::text[])
      UNION SELECT x.id FROM latchkey_users x
        WHERE x.external_id IS NOT NULL AND x.external_id = ANY($4::text[]) AND x.source = ANY($5::text[]))`

export const statements = plan({
  findForImport: usersOfImport,
  // In the order of their ids, so that two imports do not wait for each other.
  lockForImport: `${usersOfImport} ORDER BY u.id FOR UPDATE`,
  // A name or address that was taken in between is left out; see `importUsers` of `store.ts`.
  importUsers: `
    INSERT INTO latchkey_users (${users.list})
    SELECT ${users.unnested('g')} FROM unnest(${users.arrayParameters()}) AS g (${users.list}) ORDER BY g.name_key
    ON CONFLICT DO NOTHING
    RETURNING id`,
  importFactors: `
    INSERT INTO latchkey_factors (${factors.list})
    SELECT ${factors.unnested('g')} FROM unnest(${factors.arrayParameters()}) AS g (${factors.list})`,
  updateImported: `
    UPDATE latchkey_users u SET ${users.assignedFrom('g')}
    FROM unnest(${users.arrayParameters()}) AS g (${users.list})
    WHERE u.id = g.id
    RETURNING u.id`,
})

/** A name was taken between the look and the write: nothing is written, and what is there now decides. */
class Overtaken extends Error {}

/** After these nothing was written; the batch is looked at anew. The first is a name that an update would give twice. */
const looksAgain = new Set(['23505', '40001', '40P01'])
const triesAtMost = 20

/**
 * Imports batches of users: reads and locks whom they concern, decides by `planImport`, and writes, in one transaction.
 */
export function createUserImport({
  query,
  transaction,
}: Pick<Postgres, 'query' | 'transaction'>): UserTable['importUsers'] {
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
      const {
        outcomes,
        made,
        factors: ofMade,
        updated,
      } = await planBy(query, statements.lockForImport, rows, onConflict)
      const write = async (statement: Statement, rows: User[]) => {
        if (rows.length > 0 && (await query(statement, users.arrays(rows))).length < rows.length) throw new Overtaken()
      }
      await write(
        statements.updateImported,
        updated.map(({ user }) => user),
      )
      await write(statements.importUsers, made)
      if (ofMade.length > 0) await query(statements.importFactors, factors.arrays(ofMade))
      // One, for the heads of lines stay locked until the end.
      const line = newLine()
      for (const { user, endsSessions } of updated) {
        if (!endsSessions) continue
        const revoked = ['user', user.id, user.generation, null, false]
        await query(revocations.revoke, [line, end.now, end.expiresAt, ...revoked, ...toldValues(undefined, true)])
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
