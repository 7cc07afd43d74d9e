import {
  type Column,
  type Columns,
  type Kind,
  revocationColumns,
  tables as rows,
  type Table,
  type TableName,
  type Tables,
  tableNames,
} from '../rows.ts'

/*
 * The tables of PostgreSQL as `rows.ts` has them: lists of columns for the statements, and what turns rows
 * of the one into rows of the other. `migrations.ts` makes the tables.
 */

const types = {
  uuid: 'uuid',
  text: 'text',
  texts: 'text[]',
  number: 'bigint',
  boolean: 'boolean',
  bytes: 'bytea',
  json: 'text',
} as const satisfies Record<Kind, string>

/** A row as a statement returns it, by column. */
export type Fields = Record<string, unknown>

/** `created_at` of `createdAt`. */
const columnOf = (member: string) => member.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** PostgreSQL's text form of an array. */
export const arrayLiteral = (texts: string[]) =>
  `{${texts.map((text) => `"${text.replace(/["\\]/g, '\\$&')}"`).join(',')}}`

/** A value as a parameter. @param isMany whether it is one of an array, which must not have arrays in it */
function encode(kind: Kind, value: unknown, isMany = false): unknown {
  if (value === undefined) return null
  if (kind === 'json') return JSON.stringify(value)
  if (kind === 'texts' && isMany) return arrayLiteral(value as string[])
  if (kind === 'bytes') return Buffer.from(value as Uint8Array)
  return value
}

function createColumns<Row>(columns: Columns<Row>) {
  const all = Object.entries<Column>(columns).map(([member, { kind, column = columnOf(member) }]) => ({
    member,
    kind,
    column,
  }))
  const indexOf = (wanted: keyof Row) => all.findIndex(({ member }) => member === wanted)
  function reader(alias?: string): (fields: Fields) => Row {
    const members = all.map(({ member, kind, column }) => ({
      member,
      isJson: kind === 'json',
      field: alias === undefined ? column : `${alias}_${column}`,
    }))
    return (fields) => {
      const row: Record<string, unknown> = {}
      for (const { member, isJson, field } of members) {
        const value = fields[field]
        if (value !== null && value !== undefined) row[member] = isJson ? JSON.parse(value as string) : value
      }
      return row as Row
    }
  }
  const excludedBut = (kept: string[]) =>
    all
      .slice(1)
      .filter(({ column }) => !kept.includes(column))
      .map(({ column }) => `${column} = excluded.${column}`)
      .join(', ')

  return {
    count: all.length,
    /** `id, name_key, …` */
    list: all.map(({ column }) => column).join(', '),
    /** `u.id AS u_id, u.name_key AS u_name_key, …`, where a statement returns rows of two tables */
    select: (alias: string, { without = [] }: { without?: readonly (keyof Row)[] } = {}) =>
      all
        .filter(({ member }) => !without.includes(member as keyof Row))
        .map(({ column }) => `${alias}.${column} AS ${alias}_${column}`)
        .join(', '),
    /** `$1::uuid, $2::text, …`, for {@link values} */
    parameters: all.map(({ kind }, i) => `$${i + 1}::${types[kind]}`).join(', '),
    /** `$2::text`: that of one member. @param first number of the first of all */
    parameter(member: keyof Row, first = 1): string {
      const i = indexOf(member)
      return `$${first + i}::${types[(all[i] as { kind: Kind }).kind]}`
    },
    /** `name_key = $2::text, …`, of all but the first column */
    assignments: (first = 1) =>
      all
        .map(({ column, kind }, i) => `${column} = $${first + i}::${types[kind]}`)
        .slice(1)
        .join(', '),
    values: (row: Row) => all.map(({ member, kind }) => encode(kind, row[member as keyof Row])),

    /** `$1::uuid[], $2::text[], …`, for {@link arrays} */
    arrayParameters: (first = 1) =>
      all.map(({ kind }, i) => `$${first + i}::${types[kind].replace('[]', '')}[]`).join(', '),
    /** The columns of what `unnest` makes of arrays. */
    unnested: (alias: string) =>
      all.map(({ column, kind }) => `${alias}.${column}${kind === 'texts' ? '::text[]' : ''}`).join(', '),
    /** `name_key = g.name_key, …`, of all but the first column of what `unnest` makes of arrays */
    assignedFrom: (alias: string) =>
      all
        .slice(1)
        .map(({ column, kind }) => `${column} = ${alias}.${column}${kind === 'texts' ? '::text[]' : ''}`)
        .join(', '),
    /** `name_key = excluded.name_key, …`, of all but the first column */
    excluded: excludedBut([]),
    /** The same without some columns. */
    excludedBut,
    /** Rows as one array for each column. */
    arrays: (rows: Row[]) =>
      all.map(({ member, kind }) => rows.map((row) => encode(kind, row[member as keyof Row], true))),

    /** A row from a list. */
    read: reader(),
    /** A row from a `select` of the alias. */
    readAs: reader,
  }
}

function createTable<Row>({ name, key, rising, columns }: Table<Row>) {
  const keyColumn: Column = columns[key]
  return {
    ...createColumns<Row>(columns),
    name: `latchkey_${name}`,
    key: columnOf(key),
    keyType: types[keyColumn.kind],
    rising: rising.map(columnOf),
  }
}

export const tables = Object.fromEntries(
  tableNames.map((name) => [name, createTable(rows[name] as unknown as Table<object>)]),
) as unknown as { [T in TableName]: ReturnType<typeof createTable<Tables[T]>> }

export const revocations = createColumns(revocationColumns)
