import { isUuid } from '../../domain/ids.ts'
import { unreadableRow } from '../moving/moving.ts'
import { keyOf, type TableName, type Tables } from '../rows.ts'
import type { Store } from '../store.ts'
import { migrations } from './migrations.ts'
import { movingStatements, type Statement, statements } from './sql.ts'
import { type Fields, firstUuid, tables } from './tables.ts'

type Run = <Row>(statement: Statement, ...values: unknown[]) => Promise<Row[]>

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
function isReadable(row: Fields): boolean {
  try {
    tables.clients.read(row)
    return true
  } catch {
    return false
  }
}

/** The part of the PostgreSQL store that moves and checks it. */
export function createPostgresTransfer(run: Run): Pick<Store, 'exportRows' | 'findRows' | 'importRows' | 'check'> {
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
      after = ''
      while (after !== undefined) {
        const clients: (Fields & { id: string })[] = (await pageOf('clients', after, rowsPerStep)) as never
        for (const row of clients)
          if (!isReadable(row)) yield { level: 'error', table: 'clients', key: row.id, what: unreadableRow }
        after = clients.length === rowsPerStep ? clients.at(-1)?.id : undefined
      }
    },
  }
}
