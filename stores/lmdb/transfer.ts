import type { Transaction } from 'lmdb'
import type { Moving } from '../moving/moving.ts'
import { isAhead, keyOf, type TableName, type Tables } from '../rows.ts'
import { type Check, findWrong } from './checks.ts'
import type { Databases } from './databases.ts'
import type { Runs } from './runs.ts'
import { checkAudit, createAuditRows } from './tables/audit.ts'
import { checkBrowserSessions, createBrowserSessionRows } from './tables/browser-sessions.ts'
import { checkClients } from './tables/clients.ts'
import { checkConsents } from './tables/consents.ts'
import { checkFactors, createFactorRows } from './tables/factors.ts'
import { checkFailures } from './tables/failures.ts'
import { checkRecords, createRecordRows } from './tables/records.ts'
import { checkRevocations } from './tables/revocations.ts'
import { checkSessions, createSessionRows } from './tables/sessions.ts'
import { checkSigningKeys } from './tables/signing-keys.ts'
import { checkUsers } from './tables/user-checks.ts'
import { createUserRows } from './tables/users.ts'

/** Written in one transaction: lmdb-js has crashed on some of thousands of writes, and a row has as many as six. */
const rowsAtOnce = 200

const checks: { [T in TableName | 'revocations']: (databases: Databases) => Check[] } = {
  users: checkUsers,
  factors: checkFactors,
  clients: checkClients,
  browserSessions: checkBrowserSessions,
  sessions: checkSessions,
  consents: checkConsents,
  signingKeys: checkSigningKeys,
  failures: checkFailures,
  records: checkRecords,
  audit: checkAudit,
  revocations: checkRevocations,
}

/** How a row is put in the place of the one with its key; false where it must not be. Only inside a transaction. */
function createPuts(databases: Databases): { [T in TableName]: (row: Tables[T]) => unknown } {
  const { users, clients, consents, signingKeys, failures } = databases
  const userRows = createUserRows(databases)
  const factorRows = createFactorRows(databases)
  return {
    users(user) {
      if (userRows.isTaken(user)) return false
      const before = users.get(user.id)
      const { hasFactors: _, ...rest } = user
      userRows.put(before ? { ...rest, ...(before.hasFactors && { hasFactors: true }) } : user, before)
      return true
    },
    factors: factorRows.put,
    clients: (client) => void clients.put(client.id, client),
    browserSessions: createBrowserSessionRows(databases).put,
    sessions: createSessionRows(databases).put,
    consents: (row) => void consents.put(row.userId, row),
    signingKeys: (record) => void signingKeys.put(record.kid, record),
    failures: ({ key, ...row }) => void failures.put(key, row),
    records: createRecordRows(databases).put,
    audit: createAuditRows(databases).put,
  }
}

/** How rows are read, now or as of the moment of a transaction. */
export function createLmdbReads(databases: Databases, read: Runs['read'], transaction?: Transaction) {
  const moment = transaction && { transaction }
  function rowAt<T extends TableName>(table: T, key: string): Tables[T] | undefined {
    const row = databases[table].get(key, moment)
    // Those of failures are stored without their key.
    return (table === 'failures' && row ? { key, ...row } : row) as Tables[T] | undefined
  }
  const rows: Pick<Moving, 'exportRows' | 'findRows'> = {
    exportRows: (table, { after, limit }) =>
      read(() => {
        const start = after !== undefined && { start: after, exclusiveStart: true }
        const keys = [...databases[table].getKeys({ ...start, limit, ...moment })]
        const rows = keys.map((key) => rowAt(table, key)).filter((row) => row !== undefined)
        const next = keys.at(-1)
        return keys.length === limit && next !== undefined ? { rows, next } : { rows }
      }),
    findRows: (table, keys) => read(() => keys.map((key) => rowAt(table, key))),
  }
  return { rowAt, ...rows }
}

/** The part of the embedded store that moves and checks it. */
export function createLmdbTransfer(databases: Databases, { read, write }: Runs): Omit<Moving, 'snapshot'> {
  const { rowAt, exportRows, findRows } = createLmdbReads(databases, read)
  const put = createPuts(databases)

  return {
    exportRows,
    findRows,
    async importRows(table, rows) {
      const take = (row: (typeof rows)[0]) =>
        !isAhead(table, rowAt(table, keyOf(row)), row) && put[table](row) !== false
      let taken = 0
      for (let begin = 0; begin < rows.length; begin += rowsAtOnce)
        taken += await write(() => rows.slice(begin, begin + rowsAtOnce).filter(take).length)
      return taken
    },

    async *check() {
      for (const check of await read(() => Object.values(checks).flatMap((checksOf) => checksOf(databases))))
        yield* findWrong(check, read)
    },
  }
}
