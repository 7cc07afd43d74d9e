import { erasingEvent } from '../../domain/audit.ts'
import { isUuid } from '../../domain/ids.ts'
import { type Moving, unreadableRow } from '../moving/moving.ts'
import { keyOf, type TableName, type Tables, tableNames } from '../rows.ts'
import { type Fields, tables } from './columns.ts'
import { migrations } from './migrations.ts'
import { plan, type Runs, type Statement } from './statement.ts'
import { firstUuid } from './uuids.ts'

export const statements = plan({
  schemaVersion: 'SELECT max(version) AS version FROM latchkey_schema',
  // Through the indexes of texts, which are broken when the sort order of the system changed under them (a new glibc).
  checkNames: `
    SELECT u.id, (SELECT count(*) FROM latchkey_users n WHERE n.name_key = u.name_key) AS names,
      (SELECT count(*) FROM latchkey_users n WHERE n.email_key IS NOT NULL AND n.email_key = u.email_key)
        + CASE WHEN u.email_key IS NULL THEN 1 ELSE 0 END AS addresses,
      (SELECT count(*) FROM latchkey_users n
        WHERE n.external_id IS NOT NULL AND n.external_id = u.external_id AND n.source = u.source)
        + CASE WHEN u.external_id IS NULL THEN 1 ELSE 0 END AS imports
    FROM (
      SELECT id, name_key, email_key, source, external_id FROM latchkey_users WHERE id > $1::uuid ORDER BY id LIMIT $2
    ) u
    ORDER BY u.id`,
})

interface Importing {
  /** whether the row `g` may be put in */
  isFree?: string
  /** columns that no row has, and their values */
  extra?: Record<string, string>
  /** columns that keep their value in a row that is there */
  kept?: string[]
  /** CTEs before the rows are put in, and after it, when `put` has them */
  before?: string
  after?: string
}

/**
 * Puts rows in, each in the place of the one with its key unless that is ahead of it (see `isAhead` of `rows.ts`). Rows
 * come as one array for each column.
 */
function importing(
  table: TableName,
  { isFree = 'true', extra = {}, kept = [], before, after }: Importing = {},
): string {
  const { name, key, list, unnested, arrayParameters, excludedBut, rising } = tables[table]
  const isNoStepBack = ['true', ...rising.map((column) => `t.${column} <= excluded.${column}`)].join(' AND ')
  const put = `
    INSERT INTO ${name} AS t (${[list, ...Object.keys(extra)]})
    SELECT ${[unnested('g'), ...Object.values(extra)]}
    FROM unnest(${arrayParameters()}) AS g (${list})
    WHERE ${isFree}
    ON CONFLICT (${key}) DO UPDATE SET ${excludedBut(kept)}
    WHERE ${isNoStepBack}
    RETURNING ${after ? 't.*' : `t.${key}`}`
  return before && after ? `WITH ${before}, put AS (${put}), ${after} SELECT put.${key} FROM put` : put
}

/** What the rows of some tables need beyond their columns. */
const imports: { [T in TableName]?: Importing } = {
  // What it follows is nothing that addSigningKey asks for: it has not come in a race, and its predecessor may be long
  // gone.
  signingKeys: { extra: { follows: "'moved: ' || g.kid" } },
  users: {
    kept: ['has_factors'],
    isFree: `NOT EXISTS (SELECT 1 FROM latchkey_users n WHERE n.name_key = g.name_key AND n.id <> g.id)
      AND NOT EXISTS (
        SELECT 1 FROM latchkey_users n
        WHERE n.email_key IS NOT NULL AND n.email_key = g.email_key AND n.id <> g.id)
      AND NOT EXISTS (
        SELECT 1 FROM latchkey_users n
        WHERE n.external_id IS NOT NULL AND n.external_id = g.external_id AND n.source = g.source AND n.id <> g.id)`,
  },
  // The users are locked first, as everywhere. A text in JSON has a backslash before its quotes, and so is no member.
  factors: {
    before: 'owners AS (SELECT u.id FROM latchkey_users u WHERE u.id = ANY($1::uuid[]) ORDER BY u.id FOR UPDATE)',
    isFree: '(SELECT count(*) FROM owners) >= 0',
    after: `followed AS (
      UPDATE latchkey_users u
      SET has_factors = CASE WHEN strpos(put.factors, '"kind":"totp"') + strpos(put.factors, '"kind":"webauthn"') > 0
        THEN true END
      FROM put WHERE u.id = put.user_id
      RETURNING u.id
    )`,
  },
  audit: { extra: { erases: `g.event = '${erasingEvent}'` } },
}

/** For the moving of a table. Planned anew each time: one process uses them now and then. */
export interface MovingStatements {
  /** behind the key $1, at most $2 rows */
  page: Statement
  /** those with the keys $1 */
  find: Statement
  import: Statement
}

function moving(table: TableName): MovingStatements {
  const { name, list, key, keyType } = tables[table]
  return {
    page: { text: `SELECT ${list} FROM ${name} WHERE ${key} > $1::${keyType} ORDER BY ${key} LIMIT $2` },
    find: { text: `SELECT ${list} FROM ${name} WHERE ${key} = ANY($1::${keyType}[])` },
    import: { text: importing(table, imports[table]) },
  }
}

export const movingStatements = Object.fromEntries(tableNames.map((table) => [table, moving(table)])) as Record<
  TableName,
  MovingStatements
>

const rowsPerStep = 1000

/** Users who have the name, the address or the external id of one, as the index has it. */
interface Holders {
  id: string
  names: number
  addresses: number
  imports: number
}
const indexesOfUsers = [
  ['names', 'name'],
  ['addresses', 'address'],
  ['imports', 'external id'],
] as const

/** A text that is JSON to us is no more than text to the database. */
const ofJson = ['clients', 'factors', 'consents'] as const
function isReadable(table: TableName, row: Fields): boolean {
  try {
    tables[table].read(row)
    return true
  } catch {
    return false
  }
}

/** The part of the PostgreSQL store that moves and checks it. */
export function createPostgresTransfer({ run }: Runs): Omit<Moving, 'snapshot'> {
  const hasUuids = (table: TableName) => tables[table].keyType === 'uuid'
  const pageOf = (table: TableName, after: string | undefined, limit: number) =>
    run<Fields>(movingStatements[table].page, after ?? (hasUuids(table) ? firstUuid : ''), limit)
  const read = <T extends TableName>(table: T, rows: Fields[]): Tables[T][] => rows.map(tables[table].read)

  return {
    async exportRows(table, { after, limit }) {
      const rows = read(table, await pageOf(table, after, limit))
      const last = rows.at(-1)
      return rows.length === limit && last ? { rows, next: keyOf(last) } : { rows }
    },
    async findRows(table, keys) {
      const known = hasUuids(table) ? keys.filter(isUuid) : keys
      const rows = read(table, await run<Fields>(movingStatements[table].find, known))
      const byKey = new Map(rows.map((row) => [keyOf(row), row]))
      return keys.map((key) => byKey.get(key))
    },
    importRows: async (table, rows) =>
      (await run(movingStatements[table].import, ...tables[table].arrays(rows))).length,

    async *check() {
      const newest = migrations.at(-1)?.version ?? 0
      const [row] = await run<{ version: number | null }>(statements.schemaVersion)
      const version = row?.version ?? 0
      if (version > newest)
        yield { level: 'note', table: 'schema', what: `version ${version}, of a newer release than this one` }
      if (version < newest)
        yield { level: 'error', table: 'schema', what: `version ${version}, and this release needs ${newest}` }

      let after: string | undefined = firstUuid
      while (after !== undefined) {
        const users: Holders[] = await run(statements.checkNames, after, rowsPerStep)
        for (const { id: key, ...holders } of users) {
          for (const [index, what] of indexesOfUsers) {
            if (holders[index] === 0)
              yield { level: 'error', table: 'users', key, what: `the user is missing in the index of ${index}` }
            if (holders[index] > 1)
              yield { level: 'error', table: 'users', key, what: `the ${what} is that of another user, too` }
          }
        }
        after = users.length === rowsPerStep ? users.at(-1)?.id : undefined
      }
      for (const table of ofJson) {
        const { key } = tables[table]
        let position: string | undefined
        do {
          const page = await pageOf(table, position, rowsPerStep)
          for (const row of page)
            if (!isReadable(table, row)) yield { level: 'error', table, key: row[key] as string, what: unreadableRow }
          position = page.length === rowsPerStep ? (page.at(-1)?.[key] as string) : undefined
        } while (position !== undefined)
      }
    },
  }
}
