import type { Database, Transaction } from 'lmdb'
import type { Session } from '../../domain/session.ts'
import { type Finding, unreadableRow } from '../moving/moving.ts'
import { isAhead, keyOf, type TableName, type Tables } from '../rows.ts'
import type { Store } from '../store.ts'
import { createLmdbAudit, indexKeys } from './audit.ts'
import type { Databases } from './databases.ts'
import { createLmdbRecords, holderKeys } from './records.ts'
import { byIdKey } from './revocations.ts'
import { createUserLists } from './user-lists.ts'
import { byCreationKey, byExternalIdKey, createLmdbUsers } from './users.ts'

/** Orders the sessions of a user by age: milliseconds keep 13 digits until the year 2286. */
export const byUserKey = (session: Session) => `${session.userId}/${session.createdAt}/${session.id}`
export const uuidLength = 36

type Run = <T>(work: () => T) => Promise<T>
type Key = string | number

/** Written in one transaction: lmdb-js has crashed on some of thousands of writes, and a row has as many as six. */
const rowsAtOnce = 200
/** Entries checked in one snapshot, so that a service beside it is not held up. */
const entriesPerStep = 500

/** How rows are read, now or as of the moment of a transaction. */
export function createLmdbReads(databases: Databases, read: Run, transaction?: Transaction) {
  const { users, clients, sessions, signingKeys, failures, records, audit } = databases
  const moment = transaction && { transaction }
  const rowAt: { [T in TableName]: (key: string) => Tables[T] | undefined } = {
    users: (key) => users.get(key, moment),
    clients: (key) => clients.get(key, moment),
    sessions: (key) => sessions.get(key, moment),
    signingKeys: (key) => signingKeys.get(key, moment),
    failures(key) {
      const row = failures.get(key, moment)
      return row && { key, ...row }
    },
    records: (key) => records.get(key, moment),
    audit: (key) => audit.get(key, moment),
  }
  const rows: Pick<Store, 'exportRows' | 'findRows'> = {
    exportRows: (table, { after, limit }) =>
      read(() => {
        const start = after !== undefined && { start: after, exclusiveStart: true }
        const keys = [...databases[table].getKeys({ ...start, limit, ...moment })]
        const rows = keys.map((key) => rowAt[table](key)).filter((row) => row !== undefined)
        const next = keys.at(-1)
        return keys.length === limit && next !== undefined ? { rows, next } : { rows }
      }),
    findRows: (table, keys) => read(() => keys.map((key) => rowAt[table](key))),
  }
  return { rowAt, ...rows }
}

/**
 * The part of the embedded store that moves and checks it.
 *
 * @param read runs its callback on one snapshot @param write runs its callback as one transaction
 */
export function createLmdbTransfer(
  databases: Databases,
  read: Run,
  write: Run,
): Pick<Store, 'exportRows' | 'findRows' | 'importRows' | 'check'> {
  const {
    users,
    usersByName,
    usersByEmail,
    usersByExternalId,
    usersByCreation,
    clients,
    sessions,
    sessionsByUser,
    signingKeys,
    failures,
    revocations,
    revocationsById,
    counters,
    records,
    recordsByHolder,
    audit,
    auditByPlace,
    auditByIndex,
  } = databases

  const { indexedShare } = createUserLists(databases)
  const { rowAt, exportRows, findRows } = createLmdbReads(databases, read)
  const userRows = createLmdbUsers(databases)

  const put: { [T in TableName]: (row: Tables[T]) => boolean } = {
    users(user) {
      if (userRows.isTaken(user)) return false
      userRows.put(user, users.get(user.id))
      return true
    },
    clients(client) {
      clients.put(client.id, client)
      return true
    },
    sessions(session) {
      const before = sessions.get(session.id)
      if (before) sessionsByUser.remove(byUserKey(before))
      sessionsByUser.put(byUserKey(session), 0)
      sessions.put(session.id, session)
      return true
    },
    signingKeys(record) {
      signingKeys.put(record.kid, record)
      return true
    },
    failures({ key, ...row }) {
      failures.put(key, row)
      return true
    },
    records(record) {
      createLmdbRecords(databases).put(record)
      return true
    },
    audit(row) {
      createLmdbAudit(databases).put(row)
      return true
    },
  }

  /** Checks every key of a database, some in each snapshot. @param look says what is wrong with the entry of a key */
  async function* eachKey<K extends Key>(
    table: string,
    database: Database<unknown, K>,
    look: (key: K) => string | undefined,
  ) {
    let after: K | undefined
    do {
      const { findings, next } = await read(() => {
        const keys = [
          ...database.getKeys({
            ...(after !== undefined && { start: after, exclusiveStart: true }),
            limit: entriesPerStep,
          }),
        ]
        const findings: Finding[] = []
        for (const key of keys) {
          const what = lookSafely(look, key)
          if (what !== undefined) findings.push({ level: 'error', table, key: String(key), what })
        }
        return { findings, next: keys.length === entriesPerStep ? keys.at(-1) : undefined }
      })
      yield* findings
      after = next
    } while (after !== undefined)
  }

  return {
    exportRows,
    findRows,
    async importRows(table, rows) {
      const take = (row: (typeof rows)[0]) => !isAhead(table, rowAt[table](keyOf(row)), row) && put[table](row)
      let taken = 0
      for (let begin = 0; begin < rows.length; begin += rowsAtOnce)
        taken += await write(() => rows.slice(begin, begin + rowsAtOnce).filter(take).length)
      return taken
    },

    async *check() {
      const isIndexed = (await read(indexedShare)) === 1
      if (!isIndexed) yield { level: 'note', table: 'users_by_creation', what: 'the index is still being made' }
      yield* eachKey('users', users, (id) => {
        const user = users.get(id)
        if (user?.id !== id) return 'the row does not fit its key'
        const holder = usersByName.get(user.nameKey)
        if (holder === undefined) return 'the user is missing in the index of names'
        if (holder !== id) return 'the name is that of another user, too'
        if (user.emailKey !== undefined && usersByEmail.get(user.emailKey) !== id)
          return 'the user is missing in the index of addresses'
        const externalKey = byExternalIdKey(user)
        if (externalKey !== undefined && usersByExternalId.get(externalKey) !== id)
          return 'the user is missing in the index of imports'
        return isIndexed && !usersByCreation.doesExist(byCreationKey(user))
          ? 'the user is missing in the index by creation'
          : undefined
      })
      yield* eachKey('users_by_name', usersByName, (nameKey) => {
        const user = users.get(usersByName.get(nameKey) ?? '')
        return user?.nameKey === nameKey ? undefined : 'the index entry has no user'
      })
      yield* eachKey('users_by_email', usersByEmail, (emailKey) => {
        const user = users.get(usersByEmail.get(emailKey) ?? '')
        return user?.emailKey === emailKey ? undefined : 'the index entry has no user'
      })
      yield* eachKey('users_by_external_id', usersByExternalId, (key) => {
        const user = users.get(usersByExternalId.get(key) ?? '')
        return user && byExternalIdKey(user) === key ? undefined : 'the index entry has no user'
      })
      yield* eachKey('users_by_creation', usersByCreation, (key) => {
        const user = users.get(key.slice(-uuidLength))
        return !isIndexed || (user && byCreationKey(user) === key) ? undefined : 'the index entry has no user'
      })
      yield* eachKey('clients', clients, (id) =>
        clients.get(id)?.id === id ? undefined : 'the row does not fit its key',
      )
      yield* eachKey('sessions', sessions, (id) => {
        const session = sessions.get(id)
        if (session?.id !== id) return 'the row does not fit its key'
        return sessionsByUser.doesExist(byUserKey(session)) ? undefined : 'the session is missing in the index of users'
      })
      yield* eachKey('sessions_by_user', sessionsByUser, (key) => {
        const session = sessions.get(key.slice(-uuidLength))
        return session && byUserKey(session) === key ? undefined : 'the index entry has no session'
      })
      yield* eachKey('signing_keys', signingKeys, (kid) =>
        signingKeys.get(kid)?.kid === kid ? undefined : 'the row does not fit its key',
      )
      yield* eachKey('failures', failures, (key) => (failures.get(key) ? undefined : 'the row is empty'))
      yield* eachKey('records', records, (id) => {
        const record = records.get(id)
        if (record?.id !== id) return 'the row does not fit its key'
        const isIndexed = holderKeys(record).every((key) => recordsByHolder.get(key) === record.expiresAt)
        return isIndexed || record.spentAt !== undefined ? undefined : 'the record is missing in the index of holders'
      })
      yield* eachKey('records_by_holder', recordsByHolder, (key) => {
        const record = records.get(key.slice(key.lastIndexOf(' ') + 1))
        return record && record.spentAt === undefined && holderKeys(record).includes(key)
          ? undefined
          : 'the index entry has no record'
      })
      yield* eachKey('audit', audit, (id) => {
        const row = audit.get(id)
        if (row?.id !== id) return 'the row does not fit its key'
        const isIndexed = indexKeys(row).every((key) => auditByIndex.doesExist(key))
        return isIndexed ? undefined : 'the audit row is missing in its indexes'
      })
      // A place without a row is one of a row that was removed.
      yield* eachKey('audit_by_place', auditByPlace, (number) =>
        number <= (counters.get('audit') ?? 0) ? undefined : 'its number is still to be given out',
      )
      yield* eachKey('audit_by_index', auditByIndex, (key) => {
        const row = audit.get(key.slice(-uuidLength))
        return row && indexKeys(row).includes(key) ? undefined : 'the index entry has no audit row'
      })
      yield* eachKey('revocations', revocations, (number) => {
        if (!revocations.get(number)) return 'the row is empty'
        return number <= (counters.get('revocations') ?? 0) ? undefined : 'its number is still to be given out'
      })
      // A row without an entry is one of before 0.3.0.
      yield* eachKey('revocations_by_id', revocationsById, (key) => {
        const revocation = revocations.get(revocationsById.get(key) ?? 0)
        return revocation && byIdKey(revocation) === key ? undefined : 'the index entry has no revocation'
      })
    },
  }
}

/** A value that is not MessagePack throws; go on with its neighbours. */
function lookSafely<K extends Key>(look: (key: K) => string | undefined, key: K): string | undefined {
  try {
    return look(key)
  } catch {
    return unreadableRow
  }
}
