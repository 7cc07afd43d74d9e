import { isUuid } from '../../domain/ids.ts'
import { keyOf, type Store, type TableName, type Tables, unreadableRow } from '../store.ts'
import { migrations } from './migrations.ts'
import {
  type ClientRow,
  type FailuresRow,
  firstUuid,
  type SessionRow,
  type SigningKeyRow,
  toClient,
  toFailures,
  toSession,
  toSigningKey,
  toUser,
  type UserRow,
} from './rows.ts'
import { type Statement, statements } from './sql.ts'

type Run = <Row>(statement: Statement, ...values: unknown[]) => Promise<Row[]>

const rowsPerStep = 1000

/** PostgreSQL's text form of an array. */
export const arrayLiteral = (texts: string[]) =>
  `{${texts.map((text) => `"${text.replace(/["\\]/g, '\\$&')}"`).join(',')}}`

/** The secrets are JSON in a text, which the database does not look into. */
function isReadable(row: ClientRow): boolean {
  try {
    toClient(row)
    return true
  } catch {
    return false
  }
}

/** The part of the PostgreSQL store that moves and checks it. */
export function createPostgresTransfer(run: Run): Pick<Store, 'exportRows' | 'findRows' | 'importRows' | 'check'> {
  const toFailuresRow = (row: FailuresRow) => ({ key: row.key, ...toFailures(row) })

  const exportPage: { [T in TableName]: (after: string | undefined, limit: number) => Promise<Tables[T][]> } = {
    users: async (after = firstUuid, limit) => (await run<UserRow>(statements.exportUsers, after, limit)).map(toUser),
    clients: async (after = '', limit) => (await run<ClientRow>(statements.exportClients, after, limit)).map(toClient),
    sessions: async (after = firstUuid, limit) =>
      (await run<SessionRow>(statements.exportSessions, after, limit)).map(toSession),
    signingKeys: async (after = '', limit) =>
      (await run<SigningKeyRow>(statements.exportSigningKeys, after, limit)).map(toSigningKey),
    failures: async (after = '', limit) =>
      (await run<FailuresRow>(statements.exportFailures, after, limit)).map(toFailuresRow),
  }

  const find: { [T in TableName]: (keys: string[]) => Promise<Tables[T][]> } = {
    users: async (keys) => (await run<UserRow>(statements.findUsers, keys.filter(isUuid))).map(toUser),
    clients: async (keys) => (await run<ClientRow>(statements.findClients, keys)).map(toClient),
    sessions: async (keys) => (await run<SessionRow>(statements.findSessions, keys.filter(isUuid))).map(toSession),
    signingKeys: async (keys) => (await run<SigningKeyRow>(statements.findSigningKeys, keys)).map(toSigningKey),
    failures: async (keys) => (await run<FailuresRow>(statements.findFailures, keys)).map(toFailuresRow),
  }

  const put: { [T in TableName]: (rows: Tables[T][]) => Promise<unknown[]> } = {
    users: (rows) =>
      run(
        statements.importUsers,
        rows.map((row) => row.id),
        rows.map((row) => row.username),
        rows.map((row) => row.nameKey),
        rows.map((row) => row.passwordHash),
        rows.map((row) => arrayLiteral(row.roles)),
        rows.map((row) => row.createdAt),
        rows.map((row) => row.disabledAt),
        rows.map((row) => row.generation),
      ),
    clients: (rows) =>
      run(
        statements.importClients,
        rows.map((row) => row.id),
        rows.map((row) => row.generation),
        rows.map((row) => row.createdAt),
        rows.map((row) => row.disabledAt),
        rows.map((row) => row.isDeclared),
        rows.map((row) => row.type),
        rows.map((row) => arrayLiteral(row.grants)),
        rows.map((row) => arrayLiteral(row.scopes)),
        rows.map((row) => arrayLiteral(row.audience)),
        rows.map((row) => row.introspect),
        rows.map((row) => JSON.stringify(row.secrets)),
      ),
    sessions: (rows) =>
      run(
        statements.importSessions,
        rows.map((row) => row.id),
        rows.map((row) => row.userId),
        rows.map((row) => row.clientId),
        rows.map((row) => row.clientCreatedAt),
        rows.map((row) => arrayLiteral(row.scope)),
        rows.map((row) => row.generation),
        rows.map((row) => row.counter),
        rows.map((row) => row.createdAt),
        rows.map((row) => row.refreshedAt),
        rows.map((row) => row.address),
        rows.map((row) => row.userAgent),
      ),
    signingKeys: (rows) =>
      run(
        statements.importSigningKeys,
        rows.map((row) => row.kid),
        rows.map((row) => row.alg),
        rows.map((row) => row.publicJwk),
        rows.map((row) => row.sealedPrivateKey && Buffer.from(row.sealedPrivateKey)),
        rows.map((row) => row.createdAt),
        rows.map((row) => row.signsFrom),
      ),
    failures: (rows) =>
      run(
        statements.importFailures,
        rows.map((row) => row.key),
        rows.map((row) => row.count),
        rows.map((row) => row.lastAt),
        rows.map((row) => row.tag),
      ),
  }

  return {
    async exportRows(table, { after, limit }) {
      const rows = await exportPage[table](after, limit)
      const newest = rows.at(-1)
      return rows.length === limit && newest ? { rows, next: keyOf(newest) } : { rows }
    },
    async findRows(table, keys) {
      const byKey = new Map((await find[table](keys)).map((row) => [keyOf(row), row]))
      return keys.map((key) => byKey.get(key))
    },
    importRows: async (table, rows) => (await put[table](rows)).length,

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
        const users: { id: string; holders: number }[] = await run(statements.checkNames, after, rowsPerStep)
        for (const { id, holders } of users) {
          if (holders === 0)
            yield { level: 'error', table: 'users', key: id, what: 'the user is missing in the index of names' }
          if (holders > 1)
            yield { level: 'error', table: 'users', key: id, what: 'the name is that of another user, too' }
        }
        after = users.length === rowsPerStep ? users.at(-1)?.id : undefined
      }
      after = ''
      while (after !== undefined) {
        const clients: ClientRow[] = await run(statements.exportClients, after, rowsPerStep)
        for (const row of clients)
          if (!isReadable(row)) yield { level: 'error', table: 'clients', key: row.id, what: unreadableRow }
        after = clients.length === rowsPerStep ? clients.at(-1)?.id : undefined
      }
    },
  }
}
