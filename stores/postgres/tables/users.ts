import { isUuid } from '../../../domain/ids.ts'
import { everyGeneration } from '../../../domain/revocation.ts'
import type { UserTable } from '../../tables/users.ts'
import { tables } from '../columns.ts'
import { prepare, type Runs } from '../statement.ts'
import { recorded, recording, telling, toldValues } from '../telling.ts'
import { uuidOrNull } from '../uuids.ts'

const { users } = tables

export const statements = prepare({
  createUser: telling(
    users.count + 1,
    `
    INSERT INTO latchkey_users (${users.list}) VALUES (${users.parameters})
    ON CONFLICT DO NOTHING`,
  ),
  findUser: `SELECT ${users.list} FROM latchkey_users WHERE id = $1`,
  findUserByName: `SELECT ${users.list} FROM latchkey_users WHERE name_key = $1`,
  replacePasswordHash: 'UPDATE latchkey_users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 RETURNING id',
  changePassword: recording(
    8,
    `
    changed AS (
      UPDATE latchkey_users SET password_hash = $6, generation = generation + 1
      WHERE id = $4::uuid AND password_hash = $5
      RETURNING id, generation
    ),
    kept AS (
      UPDATE latchkey_sessions s SET generation = changed.generation
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
    ended AS (
      DELETE FROM latchkey_users
      WHERE id = $4::uuid
      RETURNING 'user' AS kind, id::text AS id, $5::bigint AS generation, NULL::uuid AS except_session_id
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
  setRoles: telling(4, 'UPDATE latchkey_users SET roles = $3::text[] WHERE id = $1::uuid AND roles = $2::text[]'),
  setRolesAndEnd: recording(
    7,
    `
    ended AS (
      UPDATE latchkey_users SET roles = $6::text[], generation = generation + 1
      WHERE id = $4::uuid AND roles = $5::text[]
      RETURNING 'user' AS kind, id::text AS id, generation, NULL::uuid AS except_session_id
    )`,
  ),
})

/** The users of the PostgreSQL store. */
export function createUsers({ runForOne, hadEffect }: Runs): Omit<UserTable, 'listUsers' | 'importUsers'> {
  return {
    createUser: (user, audit) => hadEffect(statements.createUser, ...users.values(user), ...toldValues(audit, true)),
    async findUser(id) {
      const row = isUuid(id) && (await runForOne(statements.findUser, id))
      return row ? users.read(row) : undefined
    },
    async findUserByName(nameKey) {
      const row = await runForOne(statements.findUserByName, nameKey)
      return row && users.read(row)
    },
    replacePasswordHash: async (id, expectedHash, passwordHash) =>
      isUuid(id) && (await hadEffect(statements.replacePasswordHash, id, expectedHash, passwordHash)),
    changePassword: async ({ userId, expectedHash, passwordHash, keepSessionId }, { now, expiresAt }, audit) =>
      isUuid(userId) &&
      (await hadEffect(
        statements.changePassword,
        ...recorded(now, expiresAt),
        ...[userId, expectedHash, passwordHash, uuidOrNull(keepSessionId)],
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
    setRoles: async ({ userId, expectedRoles, roles }, end, audit) => {
      const values = [userId, expectedRoles, roles, ...toldValues(audit, true)]
      return (
        isUuid(userId) &&
        (end
          ? hadEffect(statements.setRolesAndEnd, ...recorded(end.now, end.expiresAt), ...values)
          : hadEffect(statements.setRoles, ...values))
      )
    },
    endUserSessions: async (userId, { now, expiresAt }, audit) =>
      isUuid(userId) &&
      (await hadEffect(statements.endUserSessions, ...recorded(now, expiresAt), userId, ...toldValues(audit, true))),
  }
}
