import { type Static, Type } from '@sinclair/typebox'
import type { SigningKeyStatus } from '../domain/signing-key.ts'
import { Timestamp, toTimestamp } from './parts.ts'

/** A signing key as administrators see it. */
export const AdminKey = Type.Object({
  kid: Type.String(),
  alg: Type.String(),
  state: Type.Union([Type.Literal('next'), Type.Literal('current'), Type.Literal('previous')], {
    description: '`next` is published and does not sign yet, `current` signs, `previous` only verifies',
  }),
  created_at: Timestamp,
  signs_from: Timestamp,
  retires_at: Type.Optional(Timestamp),
})

export const toKey = ({
  kid,
  alg,
  state,
  createdAt,
  signsFrom,
  retiresAt,
}: SigningKeyStatus): Static<typeof AdminKey> => ({
  kid,
  alg,
  state,
  created_at: toTimestamp(createdAt),
  signs_from: toTimestamp(signsFrom),
  ...(retiresAt !== undefined && { retires_at: toTimestamp(retiresAt) }),
})
