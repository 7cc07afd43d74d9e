import { isDeepStrictEqual } from 'node:util'
import * as typebox from '@sinclair/typebox'
import t from 'tap'
import { Type } from '../../schemas/type.ts'

t.test('schemas are those that TypeBox makes', async (t) => {
  type Builder = typeof Type
  const described = { description: 'words', examples: ['x'] }
  const some = (type: Builder) =>
    type.Object(
      { kept: type.String(described), maybe: type.Optional(type.Integer({ minimum: 0 })), other: type.Boolean() },
      { additionalProperties: false, ...described },
    )
  const made: Record<keyof Builder, (type: Builder) => unknown[]> = {
    Array: (type) => [type.Array(type.String()), type.Array(type.String(), { maxItems: 2 })],
    Boolean: (type) => [type.Boolean(), type.Boolean(described)],
    Integer: (type) => [type.Integer(), type.Integer({ minimum: 1 })],
    Literal: (type) => [type.Literal('a'), type.Literal(1), type.Literal(true, described)],
    Null: (type) => [type.Null(), type.Null(described)],
    String: (type) => [type.String(), type.String({ minLength: 1, pattern: 'a' })],
    Union: (type) => [type.Union([type.Literal('a'), type.Null()]), type.Union([type.Null(), some(type)], described)],
    Unsafe: (type) => [type.Unsafe({ type: 'object' }), type.Unsafe(type.String())],
    Object: (type) => [some(type), type.Object({}), type.Object({ maybe: type.Optional(some(type)) })],
    Optional: (type) => [type.Optional(some(type))],
    Omit: (type) => [type.Omit(some(type), ['other']), type.Omit(some(type), ['kept', 'other'])],
    Partial: (type) => [type.Partial(some(type))],
  }
  for (const name of Object.keys(Type) as (keyof Builder)[])
    t.ok(isDeepStrictEqual(made[name](Type), made[name](typebox.Type)), name)
})
