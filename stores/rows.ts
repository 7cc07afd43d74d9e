import { type TSchema, Type } from '@sinclair/typebox'
import type { AuditRow } from '../domain/audit.ts'
import { type Amr, amrs } from '../domain/authentication.ts'
import type { BrowserSession } from '../domain/browser-session.ts'
import type { Client, ClientSecret } from '../domain/client.ts'
import type { Consent, UserConsents } from '../domain/consent.ts'
import type { Factor, UserFactors } from '../domain/factor.ts'
import type { Failures } from '../domain/failures.ts'
import { uuid as uuidPattern } from '../domain/ids.ts'
import type { ShortRecord } from '../domain/record.ts'
import type { Revocation } from '../domain/revocation.ts'
import type { Session } from '../domain/session.ts'
import type { SigningKeyRecord } from '../domain/signing-key.ts'
import { locales, type User } from '../domain/user.ts'

/*
 * The rows of a store, member by member, written once: the column lists and conversions of PostgreSQL
 * (`postgres/columns.ts`), the shapes of `store check` (`moving/check.ts`) and the bytes of rows of users and sessions in
 * LMDB (`lmdb/rows.ts`) follow from here. A new member of a type does not compile until it is in this table, behind
 * the others; in PostgreSQL it needs a migration that adds the column.
 */

/** What is moved row by row. */
export interface Tables {
  users: User
  factors: UserFactors
  clients: Client
  browserSessions: BrowserSession
  sessions: Session
  consents: UserConsents
  signingKeys: SigningKeyRecord
  failures: Failures & { key: string }
  records: ShortRecord
  audit: AuditRow
}

export type TableName = keyof Tables

/** The type of a column. JSON is one text to the database. */
export type Kind = 'uuid' | 'text' | 'texts' | 'number' | 'boolean' | 'bytes' | 'json'

/** One member of a row. */
export interface Column<Value = unknown> {
  kind: Kind
  /** what a value has to look like */
  shape: TSchema & { static: Value }
  /** as PostgreSQL calls it, where the member is a word of SQL */
  column?: string
}

/** A column for every member of a row, `optional` where the member is. */
export type Columns<Row> = {
  [M in keyof Row]-?: Column<Exclude<Row[M], undefined>> &
    ([undefined] extends [Row[M]] ? { isOptional: true } : unknown)
}

export interface Table<Row> {
  /** as both databases call it, PostgreSQL with a prefix */
  name: string
  key: keyof Row & string
  /** Members that only rise: a row with a higher one has gone on since the other. */
  rising: readonly (keyof Row & string)[]
  columns: Columns<Row>
}

const uuid: Column<string> = { kind: 'uuid', shape: Type.RegExp(uuidPattern) }
const text: Column<string> = { kind: 'text', shape: Type.String() }
const name: Column<string> = { kind: 'text', shape: Type.String({ minLength: 1 }) }
const texts: Column<string[]> = { kind: 'texts', shape: Type.Array(Type.String()) }
const yesOrNo: Column<boolean> = { kind: 'boolean', shape: Type.Boolean() }
const yes: Column<true> = { kind: 'boolean', shape: Type.Literal(true) }
const bytes: Column<Uint8Array> = { kind: 'bytes', shape: Type.Uint8Array() }
const integer = (minimum: number) => Type.Integer({ minimum, maximum: Number.MAX_SAFE_INTEGER })
/** Milliseconds since the epoch, counters and generations. */
const number: Column<number> = { kind: 'number', shape: integer(0) }
const positive: Column<number> = { kind: 'number', shape: integer(1) }
const oneOf = <Value extends string>(...values: Value[]): Column<Value> => ({
  kind: 'text',
  shape: Type.Unsafe<Value>(Type.Union(values.map((value) => Type.Literal(value)))),
})
const optional = <Value>(column: Column<Value>) => ({ ...column, isOptional: true }) as const

const secrets: Column<ClientSecret[]> = {
  kind: 'json',
  shape: Type.Array(Type.Object({ hash: Type.String(), createdAt: integer(0), expiresAt: Type.Optional(integer(0)) })),
}

const factorOf = <Kind extends string>(kind: Kind, members: Record<string, TSchema>) =>
  Type.Object({
    kind: Type.Literal(kind),
    id: Type.String({ minLength: 1 }),
    name: Type.String(),
    createdAt: integer(0),
    usedAt: Type.Optional(integer(0)),
    ...members,
  })

const factors: Column<Factor[]> = {
  kind: 'json',
  shape: Type.Unsafe<Factor[]>(
    Type.Array(
      Type.Union([
        factorOf('totp', { secret: Type.String({ minLength: 1 }), step: integer(0) }),
        factorOf('webauthn', {
          credentialId: Type.String({ minLength: 1 }),
          publicKey: Type.String({ minLength: 1 }),
          counter: integer(0),
          transports: Type.Array(Type.String()),
          aaguid: Type.String(),
          isBackupEligible: Type.Boolean(),
          isBackedUp: Type.Boolean(),
        }),
        factorOf('recovery_code', { hashes: Type.Array(Type.String()) }),
      ]),
    ),
  ),
}

const amr: Column<Amr[]> = {
  kind: 'texts',
  shape: Type.Unsafe<Amr[]>(Type.Array(Type.Union(amrs.map((amr) => Type.Literal(amr))))),
}

const consents: Column<Consent[]> = {
  kind: 'json',
  shape: Type.Array(
    Type.Object({
      clientId: Type.String(),
      clientCreatedAt: Type.Optional(integer(0)),
      scope: Type.Array(Type.String()),
      grantedAt: integer(0),
    }),
  ),
}

const detail: Column<Record<string, unknown>> = { kind: 'json', shape: Type.Record(Type.String(), Type.Unknown()) }

/** In the order in which they are moved: no row before one that it refers to. */
export const tables: { readonly [T in TableName]: Table<Tables[T]> } = {
  signingKeys: {
    name: 'signing_keys',
    key: 'kid',
    rising: [],
    columns: {
      kid: name,
      alg: oneOf('ES256', 'RS256', 'EdDSA'),
      publicJwk: text,
      sealedPrivateKey: optional(bytes),
      createdAt: number,
      signsFrom: number,
    },
  },
  clients: {
    name: 'clients',
    key: 'id',
    rising: ['generation'],
    columns: {
      id: name,
      generation: number,
      createdAt: number,
      disabledAt: optional(number),
      isDeclared: yesOrNo,
      type: oneOf('confidential', 'public'),
      grants: texts,
      scopes: texts,
      audience: texts,
      introspect: oneOf('none', 'audience', 'all'),
      firstParty: optional(yesOrNo),
      name: optional(text),
      redirectUris: optional(texts),
      postLogoutRedirectUris: optional(texts),
      backchannelLogoutUri: optional(text),
      pkce: optional(oneOf('required', 'optional')),
      consent: optional(oneOf('ask', 'implicit')),
      idTokenAlg: optional(oneOf('ES256', 'RS256', 'EdDSA')),
      requirePar: optional(yesOrNo),
      secrets,
    },
  },
  users: {
    name: 'users',
    key: 'id',
    rising: ['generation'],
    columns: {
      id: uuid,
      username: name,
      nameKey: name,
      passwordHash: text,
      roles: texts,
      createdAt: number,
      disabledAt: optional(number),
      generation: number,
      email: optional(name),
      emailKey: optional(name),
      locale: optional(oneOf(...locales)),
      hasFactors: optional(yes),
      source: optional(name),
      externalId: optional(name),
    },
  },
  factors: {
    name: 'factors',
    key: 'userId',
    rising: ['version'],
    columns: { userId: uuid, factors, version: positive },
  },
  browserSessions: {
    name: 'browser_sessions',
    key: 'id',
    rising: ['generation', 'authAt', 'seenAt'],
    columns: {
      id: uuid,
      userId: uuid,
      generation: number,
      secretHash: name,
      createdAt: number,
      seenAt: number,
      address: text,
      userAgent: text,
      authAt: number,
      amr,
      factor: optional(name),
    },
  },
  sessions: {
    name: 'sessions',
    key: 'id',
    rising: ['counter', 'generation'],
    columns: {
      id: uuid,
      userId: uuid,
      clientId: text,
      clientCreatedAt: optional(number),
      scope: texts,
      generation: number,
      counter: number,
      createdAt: number,
      refreshedAt: number,
      address: text,
      userAgent: text,
      authAt: optional(number),
      amr: optional(amr),
      factor: optional(name),
      parent: optional(uuid),
    },
  },
  consents: {
    name: 'consents',
    key: 'userId',
    rising: ['version'],
    columns: { userId: uuid, consents, version: positive },
  },
  failures: {
    name: 'failures',
    key: 'key',
    rising: [],
    columns: { key: text, count: positive, lastAt: number, tag: optional(text) },
  },
  records: {
    name: 'records',
    key: 'id',
    rising: ['version'],
    columns: {
      id: name,
      kind: name,
      owner: text,
      source: text,
      data: text,
      createdAt: number,
      expiresAt: number,
      misses: number,
      version: number,
      dueAt: optional(number),
      spentAt: optional(number),
      gave: optional(text),
    },
  },
  audit: {
    name: 'audit',
    key: 'id',
    rising: [],
    columns: {
      id: uuid,
      at: number,
      event: name,
      outcome: oneOf('success', 'failure'),
      user: { ...optional(uuid), column: 'user_id' },
      session: optional(uuid),
      client: optional(text),
      by: { ...optional(text), column: 'made_by' },
      address: optional(text),
      userAgent: optional(text),
      requestId: optional(text),
      detail: optional(detail),
    },
  },
}

export const tableNames = Object.keys(tables) as TableName[]

/** The members of all parts of a union, in one row. */
type Merged<Union> = Pick<Union, keyof Union> & {
  [M in Exclude<Union extends unknown ? keyof Union : never, keyof Union>]?: Union extends { [K in M]?: infer V }
    ? V
    : never
}

/** Revocations move by their own methods, since the target numbers them anew. */
export const revocationColumns: Columns<Merged<Revocation>> = {
  kind: oneOf('jti', 'sid', 'user', 'client', 'key'),
  id: name,
  generation: optional(number),
  exceptSessionId: optional(uuid),
  revokedAt: number,
  expiresAt: number,
}

/** The key of a row, by which it is found and moved. */
export function keyOf<T extends TableName>(row: Tables[T]): string {
  return 'id' in row ? row.id : 'kid' in row ? row.kid : 'key' in row ? row.key : row.userId
}

/**
 * Whether a row is newer than another with its key: generations, counters and versions only rise. Replacing it would
 * make a spent refresh token good again, or bring back a changed password.
 */
export function isAhead<T extends TableName>(table: T, row: Tables[T] | undefined, other: Tables[T]): boolean {
  return row !== undefined && tables[table].rising.some((member) => row[member] > other[member])
}
