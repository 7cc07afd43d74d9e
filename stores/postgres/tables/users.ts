import { isUuid } from '../../../domain/ids.ts'
import { everyGeneration } from '../../../domain/revocation.ts'
import type { UserTable } from '../../tables/users.ts'
import { tables } from '../columns.ts'
import { prepare, type Runs } from '../statement.ts'
import { auditing, recorded, recording, telling, toldValues } from '../telling.ts'
import { uuidOrNull } from '../uuids.ts'
import {
  takingRecord,
  takingValueCount,
  takingValues,
  withRecords,
  withRecordsCount,
  withRecordsValues,
} from './records.ts'

const { users } = tables

const making = (from: string) => `
    INSERT INTO latchkey_users (${users.list}) SELECT ${users.parameters} ${from}
    ON CONFLICT DO NOTHING`

const changingCount = 12 + withRecordsCount

/**
 * CTEs that change a profile, `changed` the one with the id.
 *
 * @param first number of the first value: the id, what is expected, what is next, and those of `withRecords`
 * @param generations by how many the user moves on
 */
function changing(first: number, generations: 0 | 1): string {
  const value = (i: number, type = 'text') => `$${first + i}::${type}`
  return withRecords(
    value(0, 'uuid'),
    first + changingCount - withRecordsCount,
    (isHeld) => `
    changed AS (
      UPDATE latchkey_users u
      SET username = ${value(6)}, name_key = ${value(7)}, email = ${value(8)}, email_key = ${value(9)},
        roles = ${value(10, 'text[]')}, locale = ${value(11)}, generation = u.generation + ${generations}
      WHERE u.id = ${value(0, 'uuid')} AND u.username = ${value(1)} AND u.email IS NOT DISTINCT FROM ${value(2)}
        AND u.email_key IS NOT DISTINCT FROM ${value(3)} AND u.roles = ${value(4, 'text[]')}
        AND u.locale IS NOT DISTINCT FROM ${value(5)}
        AND NOT EXISTS (SELECT 1 FROM latchkey_users o WHERE o.name_key = ${value(7)} AND o.id <> u.id)
        AND NOT EXISTS (SELECT 1 FROM latchkey_users o WHERE o.email_key = ${value(9)} AND o.id <> u.id)
        AND ${isHeld}
      RETURNING u.id, u.generation
    )`,
  )
}

/** The revocation of all sessions of the user of a CTE. */
export const endedOf = (changed: string) => `
    ended AS (
      SELECT 'user' AS kind, id::text AS id, generation, NULL::uuid AS except_session_id FROM ${changed}
    )`

export const statements = prepare({
  createUser: telling(users.count + 1, making('')),
  createUserTaking: takingRecord(
    users.count + 1,
    `acted AS (${making('FROM held')}
    RETURNING id)`,
    `,${auditing(users.count + takingValueCount + 1, 'EXISTS (SELECT 1 FROM taken)')}`,
  ),
  findUser: `SELECT ${users.list} FROM latchkey_users WHERE id = $1`,
  findUserByName: `SELECT ${users.list} FROM latchkey_users WHERE name_key = $1`,
  findUserByEmail: `SELECT ${users.list} FROM latchkey_users WHERE email_key = $1`,
  changeUser: `
    WITH ${changing(1, 0)},${auditing(1 + changingCount, 'EXISTS (SELECT 1 FROM changed)')}
    SELECT id FROM changed`,
  changeUserAndEnd: recording(4 + changingCount, `${changing(4, 1)}, ${endedOf('changed')}`),
  replacePasswordHash: 'UPDATE latchkey_users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 RETURNING id',
  changePassword: recording(
    8 + withRecordsCount,
    `${withRecords(
      '$4::uuid',
      8,
      (isHeld) => `
    changed AS (
      UPDATE latchkey_users SET password_hash = $6, generation = generation + 1
      WHERE id = $4::uuid AND password_hash = $5 AND ${isHeld}
      RETURNING id, generation
    )`,
    )},
    kept AS (
      UPDATE latchkey_sessions s SET generation = changed.generation, parent = NULL
      FROM changed
      WHERE s.id = $7::uuid AND s.user_id = changed.id AND s.generation = changed.generation - 1
      RETURNING s.id
    ),
    ended AS (
      SELECT 'user' AS kind, changed.id::text AS id, changed.generation, kept.id AS except_session_id
      FROM changed LEFT JOIN kept ON true
    )`,
  ),
  endUserSessions: recording(
    5,
    `
    ended AS (
      UPDATE latchkey_users SET generation = generation + 1
      WHERE id = $4::uuid
      RETURNING 'user' AS kind, id::text AS id, generation, NULL::uuid AS except_session_id
    )`,
  ),
  deleteUser: recording(
    6,
    `
    gone AS (DELETE FROM latchkey_users WHERE id = $4::uuid RETURNING id),
    forgotten AS (
      DELETE FROM latchkey_factors f USING gone WHERE f.user_id = gone.id
      RETURNING f.user_id
    ),
    withdrawn AS (
      DELETE FROM latchkey_consents c USING gone WHERE c.user_id = gone.id
      RETURNING c.user_id
    ),
    ended AS (
      SELECT 'user' AS kind, gone.id::text AS id, $5::bigint AS generation, NULL::uuid AS except_session_id FROM gone
    )`,
  ),
  // Disabled since the time of the revocation. The generation rises, or sessions opened before would be alive again
  // once enabled.
  disableUser: recording(
    5,
    `
    ended AS (
      UPDATE latchkey_users SET disabled_at = $2::bigint, generation = generation + 1
      WHERE id = $4::uuid
      RETURNING 'user' AS kind, id::text AS id, generation, NULL::uuid AS except_session_id
    )`,
  ),
  enableUser: telling(2, 'UPDATE latchkey_users SET disabled_at = NULL WHERE id = $1::uuid'),
})

/** The users of the PostgreSQL store. */
export function createUsers({ runForOne, hadEffect }: Runs): Omit<UserTable, 'listUsers' | 'importUsers'> {
  return {
    createUser: (user, taking, audit) =>
      taking
        ? hadEffect(
            statements.createUserTaking,
            ...users.values(user),
            ...takingValues(taking),
            ...toldValues(audit, true),
          )
        : hadEffect(statements.createUser, ...users.values(user), ...toldValues(audit, true)),
    async findUser(id) {
      const row = isUuid(id) && (await runForOne(statements.findUser, id))
      return row ? users.read(row) : undefined
    },
    async findUserByName(nameKey) {
      const row = await runForOne(statements.findUserByName, nameKey)
      return row && users.read(row)
    },
    async findUserByEmail(emailKey) {
      const row = await runForOne(statements.findUserByEmail, emailKey)
      return row && users.read(row)
    },
    changeUser: async ({ userId, expected, next, ...records }, end, audit) => {
      const values = [
        ...[userId, expected.username, expected.email, expected.emailKey, expected.roles, expected.locale],
        ...[next.username, next.nameKey, next.email, next.emailKey, next.roles, next.locale],
        ...[...withRecordsValues(records), ...toldValues(audit, true)],
      ]
      return (
        isUuid(userId) &&
        (end
          ? hadEffect(statements.changeUserAndEnd, ...recorded(end.now, end.expiresAt), ...values)
          : hadEffect(statements.changeUser, ...values))
      )
    },
    replacePasswordHash: async (id, expectedHash, passwordHash) =>
      isUuid(id) && (await hadEffect(statements.replacePasswordHash, id, expectedHash, passwordHash)),
    changePassword: async (
      { userId, expectedHash, passwordHash, keepSessionId, ...records },
      { now, expiresAt },
      audit,
    ) =>
      isUuid(userId) &&
      (await hadEffect(
        statements.changePassword,
        ...recorded(now, expiresAt),
        ...[userId, expectedHash, passwordHash, uuidOrNull(keepSessionId)],
        ...withRecordsValues(records),
        ...toldValues(audit, true),
      )),
    deleteUser: async (id, { now, expiresAt }, audit) =>
      isUuid(id) &&
      (await hadEffect(
        statements.deleteUser,
        ...recorded(now, expiresAt),
        id,
        everyGeneration,
        ...toldValues(audit, true),
      )),
    disableUser: async (id, { now, expiresAt }, audit) =>
      isUuid(id) &&
      (await hadEffect(statements.disableUser, ...recorded(now, expiresAt), id, ...toldValues(audit, true))),
    enableUser: async (id, audit) =>
      isUuid(id) && (await hadEffect(statements.enableUser, id, ...toldValues(audit, true))),
    endUserSessions: async (userId, { now, expiresAt }, audit) =>
      isUuid(userId) &&
      (await hadEffect(statements.endUserSessions, ...recorded(now, expiresAt), userId, ...toldValues(audit, true))),
  }
}
