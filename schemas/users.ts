import { type Static, Type } from '@sinclair/typebox'
import type { User } from '../domain/user.ts'
import { Id, Roles, Timestamp, toTimestamp, Username } from './parts.ts'

/** A user as administrators see it. */
export const AdminUser = Type.Object({
  id: Id,
  username: Username,
  roles: Roles,
  created_at: Timestamp,
  disabled_at: Type.Optional(Timestamp),
})

export const toUser = ({ id, username, roles, createdAt, disabledAt }: User): Static<typeof AdminUser> => ({
  id,
  username,
  roles,
  created_at: toTimestamp(createdAt),
  ...(disabledAt !== undefined && { disabled_at: toTimestamp(disabledAt) }),
})
