import { type Static, Type } from '@sinclair/typebox'
import { type Factor, type FactorKind, factorKinds } from '../domain/factor.ts'
import { omitUndefined } from '../domain/omit-undefined.ts'
import { Id, Timestamp, toTimestamp } from './parts.ts'

/** A second factor, as its user and administrators see it: nothing that could be signed in with. */
export const ListedFactor = Type.Object({
  id: Id,
  kind: Type.Unsafe<FactorKind>({ type: 'string', enum: [...factorKinds] }),
  name: Type.String({ examples: ['Pixel 9'] }),
  created_at: Timestamp,
  used_at: Type.Optional(Type.String({ format: 'date-time', description: 'Of the last sign-in with it' })),
  left: Type.Optional(Type.Integer({ description: 'Of recovery codes, how many are not spent' })),
})

export const FactorList = Type.Object({ factors: Type.Array(ListedFactor) })

/** In the order in which they were added. */
export const toFactorList = (factors: Factor[]): Static<typeof FactorList> => ({ factors: factors.map(toListed) })

const toListed = (factor: Factor): Static<typeof ListedFactor> => ({
  id: factor.id,
  kind: factor.kind,
  name: factor.name,
  created_at: toTimestamp(factor.createdAt),
  ...omitUndefined({
    used_at: factor.usedAt === undefined ? undefined : toTimestamp(factor.usedAt),
    left: factor.kind === 'recovery_code' ? factor.hashes.length : undefined,
  }),
})
