import { type Static, Type } from '@sinclair/typebox'
import type { Revocation } from '../domain/revocation.ts'
import { Timestamp, toTimestamp } from './parts.ts'

/** An entry of the revocation list: which access tokens are refused. */
export const RevocationEntry = Type.Object(
  {
    kind: Type.Union([
      Type.Literal('jti'),
      Type.Literal('sid'),
      Type.Literal('user'),
      Type.Literal('client'),
      Type.Literal('key'),
    ]),
    id: Type.String({
      description:
        'The `jti`, `sid`, `sub` or `client_id` of the refused tokens; the `kid` of a withdrawn `key`: drop it, and ' +
        'fetch the JWKS again',
    }),
    generation: Type.Optional(
      Type.Integer({
        description:
          'For a user or client: only tokens of earlier generations are refused. A `jti` holds both generations: ' +
          '`<user>.<client>.<random>`',
      }),
    ),
    except_sid: Type.Optional(Type.String({ description: 'For a user: the session whose tokens stay valid' })),
    revoked_at: Timestamp,
    expires_at: Type.String({
      format: 'date-time',
      description: 'When the last such token has expired: the entry can be dropped',
    }),
  },
  { description: 'Which access tokens are refused' },
)

export function toRevocationEntry(revocation: Revocation): Static<typeof RevocationEntry> {
  const { kind, id, revokedAt, expiresAt, ...rest } = revocation
  const { generation, exceptSessionId } = rest as { generation?: number; exceptSessionId?: string }
  return {
    kind,
    id,
    ...(generation !== undefined && { generation }),
    ...(exceptSessionId !== undefined && { except_sid: exceptSessionId }),
    revoked_at: toTimestamp(revokedAt),
    expires_at: toTimestamp(expiresAt),
  }
}
