import { type Static, Type } from '@sinclair/typebox'
import type { Session } from '../domain/session.ts'
import { Id, Timestamp, toTimestamp } from './parts.ts'

/** A session as administrators see it. */
export const AdminSession = Type.Object({
  id: Id,
  created_at: Timestamp,
  last_used_at: Timestamp,
  client_id: Type.String(),
  scope: Type.Optional(Type.String()),
  address: Type.String(),
  user_agent: Type.String(),
})

/** A session as its user sees it. */
export const OwnSession = Type.Composite([
  Type.Omit(AdminSession, ['scope']),
  Type.Object({ current: Type.Boolean({ description: 'Whether it is the session of the access token' }) }),
])

export const toSession = ({ scope, ...session }: Session): Static<typeof AdminSession> => ({
  id: session.id,
  created_at: toTimestamp(session.createdAt),
  last_used_at: toTimestamp(session.refreshedAt),
  client_id: session.clientId,
  ...(scope.length > 0 && { scope: scope.join(' ') }),
  address: session.address,
  user_agent: session.userAgent,
})
