import type { JavaScriptTypeBuilder } from '@sinclair/typebox'

/*
 * The part of TypeBox that schemas are made of, under its types. The package itself is 300 files, whose loading is a
 * sixth of the CPU time of a start. A test compares what the two make.
 */

// Global symbols, by which TypeBox too knows what these are.
const kind = Symbol.for('TypeBox.Kind')
const optional = Symbol.for('TypeBox.Optional')

type Schema = Partial<Record<string | symbol, unknown>>
type Members = Record<string, Schema>
interface ObjectSchema extends Schema {
  properties: Members
}

const schemaOf = (name: string, keywords: Schema, options: Schema = {}) => ({ ...options, [kind]: name, ...keywords })

const builders = {
  Array: (items: Schema, options?: Schema) => schemaOf('Array', { type: 'array', items }, options),
  Boolean: (options?: Schema) => schemaOf('Boolean', { type: 'boolean' }, options),
  Integer: (options?: Schema) => schemaOf('Integer', { type: 'integer' }, options),
  Literal: (value: unknown, options?: Schema) => schemaOf('Literal', { const: value, type: typeof value }, options),
  Null: (options?: Schema) => schemaOf('Null', { type: 'null' }, options),
  String: (options?: Schema) => schemaOf('String', { type: 'string' }, options),
  /** of two types or more */
  Union: (anyOf: Schema[], options?: Schema) => schemaOf('Union', { anyOf }, options),
  Unsafe: (schema: Schema) => ({ [kind]: 'Unsafe', ...schema }),

  Object(properties: Members, options?: Schema) {
    const required = Object.keys(properties).filter((name) => !(optional in (properties[name] as Schema)))
    return schemaOf('Object', { type: 'object', ...(required.length > 0 && { required }), properties }, options)
  },
  Optional: (schema: Schema) => ({ ...schema, [optional]: 'Optional' }),
  Omit({ properties, required: _, ...options }: ObjectSchema, names: string[]) {
    const kept = Object.entries(properties).filter(([name]) => !names.includes(name))
    return builders.Object(Object.fromEntries(kept), options)
  },
  Partial({ properties, required: _, ...options }: ObjectSchema) {
    const members = Object.entries(properties).map(([name, schema]) => [name, builders.Optional(schema)])
    return builders.Object(Object.fromEntries(members), options)
  },
}

export const Type = builders as unknown as Pick<JavaScriptTypeBuilder, keyof typeof builders>
