import { tableNames } from '../rows.ts'
import { prepare, type Statement } from './statement.ts'
import { statements as audit } from './tables/audit.ts'
import { statements as browserSessions } from './tables/browser-sessions.ts'
import { statements as clients } from './tables/clients.ts'
import { statements as consents } from './tables/consents.ts'
import { statements as factors } from './tables/factors.ts'
import { statements as failures } from './tables/failures.ts'
import { statements as records } from './tables/records.ts'
import { statements as revocations } from './tables/revocations.ts'
import { statements as rotations } from './tables/rotations.ts'
import { statements as sessions } from './tables/sessions.ts'
import { statements as signingKeys } from './tables/signing-keys.ts'
import { statements as userImport } from './tables/user-import.ts'
import { statements as userLists } from './tables/user-lists.ts'
import { statements as users } from './tables/users.ts'
import { statements as checks, movingStatements } from './transfer.ts'

export const { ping } = prepare({ ping: 'SELECT 1 AS ok FROM latchkey_schema LIMIT 1' })

/** The statements of all files. No two of them may have one name, by which a connection has them prepared. */
export const parts: Record<string, Statement>[] = [
  { ping },
  users,
  userLists,
  userImport,
  clients,
  sessions,
  rotations,
  browserSessions,
  consents,
  factors,
  revocations,
  signingKeys,
  failures,
  records,
  audit,
  checks,
]

/** By their names, for what measures them. */
export const statements: Record<string, Statement> = Object.assign({}, ...parts)

/** With those that move tables, for the tests that look at the SQL. */
export const everyStatement: Record<string, Statement> = {
  ...statements,
  ...Object.fromEntries(
    tableNames.flatMap((table) =>
      Object.entries(movingStatements[table]).map(([what, statement]) => [`${what} ${table}`, statement]),
    ),
  ),
}
