import { type TSchema, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { uuid } from '../../domain/ids.ts'
import type { Session } from '../../domain/session.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'
import { type Finding, keyOf, revocationPages, type Store, type TableName, unreadableRow } from '../store.ts'
import { pagesOf, tableNames } from './copy.ts'

const Uuid = Type.RegExp(uuid)
/** Milliseconds, counters and generations. */
const Count = (least = 0) => Type.Integer({ minimum: least, maximum: Number.MAX_SAFE_INTEGER })

/** What a row has to look like. More members than these are a later release's. */
const shapes = {
  users: Type.Object({
    id: Uuid,
    username: Type.String({ minLength: 1 }),
    nameKey: Type.String({ minLength: 1 }),
    passwordHash: Type.String(),
    roles: Type.Array(Type.String()),
    createdAt: Count(),
    disabledAt: Type.Optional(Count()),
    generation: Count(),
  }),
  clients: Type.Object({
    id: Type.String({ minLength: 1 }),
    type: Type.Union([Type.Literal('confidential'), Type.Literal('public')]),
    grants: Type.Array(Type.String()),
    scopes: Type.Array(Type.String()),
    audience: Type.Array(Type.String()),
    introspect: Type.Union([Type.Literal('none'), Type.Literal('audience'), Type.Literal('all')]),
    secrets: Type.Array(Type.Object({ hash: Type.String(), createdAt: Count(), expiresAt: Type.Optional(Count()) })),
    createdAt: Count(),
    disabledAt: Type.Optional(Count()),
    isDeclared: Type.Boolean(),
    generation: Count(),
  }),
  sessions: Type.Object({
    id: Uuid,
    userId: Uuid,
    clientId: Type.String(),
    clientCreatedAt: Type.Optional(Count()),
    scope: Type.Array(Type.String()),
    generation: Count(),
    counter: Count(),
    createdAt: Count(),
    refreshedAt: Count(),
    address: Type.String(),
    userAgent: Type.String(),
  }),
  signingKeys: Type.Object({
    kid: Type.String({ minLength: 1 }),
    alg: Type.Union([Type.Literal('ES256'), Type.Literal('RS256'), Type.Literal('EdDSA')]),
    publicJwk: Type.String(),
    sealedPrivateKey: Type.Optional(Type.Uint8Array()),
    createdAt: Count(),
    signsFrom: Count(),
  }),
  failures: Type.Object({ key: Type.String(), count: Count(1), lastAt: Count(), tag: Type.Optional(Type.String()) }),
} satisfies Record<TableName, TSchema>

const Revoked = Type.Object({
  kind: Type.Union([
    Type.Literal('jti'),
    Type.Literal('sid'),
    Type.Literal('user'),
    Type.Literal('client'),
    Type.Literal('key'),
  ]),
  id: Type.String({ minLength: 1 }),
  generation: Type.Optional(Count()),
  revokedAt: Count(),
  expiresAt: Count(),
})

export interface CheckOptions {
  /** whether the private half of a key can be had, now that AUTH_SECRET is what it is */
  opens?(key: SigningKeyRecord): boolean
  onProgress?(table: string, rows: number): void
}

/**
 * Reads all of a store, and says what is wrong with it. It changes nothing, and may run beside the service.
 *
 * Not checked: whether a session has expired, and whether a password hash is a good one.
 */
export async function* checkStore(store: Store, options: CheckOptions = {}): AsyncGenerator<Finding> {
  const unreadable = new Set<string>()
  for await (const finding of store.check()) {
    if (finding.what === unreadableRow) unreadable.add(finding.table)
    yield finding
  }
  // A page with an unreadable row in it cannot be had: such a table has to be mended before it can be looked at closer.
  const canRead = (table: TableName) => !unreadable.has(nameOf(table))
  for (const table of tableNames) {
    if (canRead(table)) yield* checkTable(store, table, options, canRead('users'))
  }
  if (canRead('signingKeys') && options.opens) yield* checkSealing(await store.listSigningKeys(), options.opens)
  if (!unreadable.has('revocations')) yield* checkRevocations(store)
}

async function* checkTable(
  store: Store,
  table: TableName,
  { onProgress }: CheckOptions,
  withUsers: boolean,
): AsyncGenerator<Finding> {
  const name = nameOf(table)
  const shape = TypeCompiler.Compile(shapes[table] as TSchema)
  let read = 0
  for await (const rows of pagesOf(store, table)) {
    for (const row of rows) {
      const error = shape.Errors(row).First()
      if (error)
        yield {
          level: 'error',
          table: name,
          key: keyOf(row),
          what: `${error.path.slice(1) || 'the row'} is not as it should be`,
        }
    }
    if (table === 'sessions' && withUsers) yield* checkOwners(store, rows as Session[])
    read += rows.length
    onProgress?.(name, read)
  }
}

/** A session that has lost its user is no error: it is refused, and swept later. */
async function* checkOwners(store: Store, sessions: Session[]): AsyncGenerator<Finding> {
  const users = await store.findRows(
    'users',
    sessions.map(({ userId }) => userId),
  )
  for (const [i, { id: key, generation }] of sessions.entries()) {
    const user = users[i]
    const [level, what] =
      user === undefined
        ? (['note', 'dead: its user is gone'] as const)
        : user.disabledAt !== undefined
          ? (['note', 'dead: its user is disabled'] as const)
          : generation < user.generation
            ? (['note', 'dead: ended with all sessions of its user'] as const)
            : generation > user.generation
              ? (['error', 'its generation is ahead of its user'] as const)
              : []
    if (level) yield { level, table: 'sessions', key, what }
  }
}

/** The newest key of each algorithm has to open, for it signs. Those before it may be sealed under a secret that is gone: they only verify. */
function* checkSealing(keys: SigningKeyRecord[], opens: (key: SigningKeyRecord) => boolean): Generator<Finding> {
  for (const key of keys) {
    if (!key.sealedPrivateKey || opens(key)) continue
    const isNewest = !keys.some(({ alg, createdAt }) => alg === key.alg && createdAt > key.createdAt)
    yield isNewest
      ? {
          level: 'error',
          table: 'signing_keys',
          key: key.kid,
          what: 'it is to sign and does not open under AUTH_SECRET',
        }
      : {
          level: 'note',
          table: 'signing_keys',
          key: key.kid,
          what: 'sealed under an earlier AUTH_SECRET: it only verifies',
        }
  }
}

async function* checkRevocations(store: Store): AsyncGenerator<Finding> {
  const shape = TypeCompiler.Compile(Revoked)
  for await (const revocations of revocationPages(store)) {
    for (const revocation of revocations) {
      if (!shape.Check(revocation))
        yield { level: 'error', table: 'revocations', key: revocation.id, what: 'the row is not as it should be' }
    }
  }
}

/** As the databases call it. */
const nameOf = (table: TableName) => (table === 'signingKeys' ? 'signing_keys' : table)
