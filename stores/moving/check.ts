import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { isSecondFactor, type Totp, type UserFactors } from '../../domain/factor.ts'
import type { Session } from '../../domain/session.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'
import type { User } from '../../domain/user.ts'
import { type Column, keyOf, revocationColumns, type TableName, tableNames, tables } from '../rows.ts'
import type { Store } from '../store.ts'
import { revocationPages } from '../tables/revocations.ts'
import { pagesOf } from './copy.ts'
import { type Finding, unreadableRow } from './moving.ts'

/**
 * What a row has to look like. More members than these are a later release's.
 *
 * @returns a function that names the first member of a row that is wrong; undefined where none is
 */
export function checkerOf(columns: Record<string, Column>): (row: unknown) => string | undefined {
  const members = Object.entries(columns).map(([member, column]) => [
    member,
    'isOptional' in column ? Type.Optional(column.shape) : column.shape,
  ])
  const shape = TypeCompiler.Compile(Type.Object(Object.fromEntries(members)))
  return (row) => (shape.Check(row) ? undefined : shape.Errors(row).First()?.path.slice(1) || 'the row')
}

export interface CheckOptions {
  /** whether the private half of a key can be had, now that AUTH_SECRET is what it is */
  opens?(key: SigningKeyRecord): boolean
  /** the same of the secret of an authenticator app */
  opensTotp?(userId: string, totp: Totp): boolean
  onProgress?(table: string, rows: number): void
}

/**
 * Reads a whole store and reports what is wrong. It changes nothing, and may run beside the service.
 *
 * Not checked: whether a session has expired, and whether a password hash is a good one.
 */
export async function* checkStore(store: Store, options: CheckOptions = {}): AsyncGenerator<Finding> {
  const unreadable = new Set<string>()
  for await (const finding of store.check()) {
    if (finding.what === unreadableRow) unreadable.add(finding.table)
    yield finding
  }
  // A page with an unreadable row cannot be read: such a table has to be mended before its rows are checked.
  const canRead = (table: TableName) => !unreadable.has(tables[table].name)
  for (const table of tableNames) {
    if (canRead(table)) yield* checkTable(store, table, options, canRead)
  }
  if (canRead('signingKeys') && options.opens) yield* checkSealing(await store.listSigningKeys(), options.opens)
  if (!unreadable.has('revocations')) yield* checkRevocations(store)
}

async function* checkTable(
  store: Store,
  table: TableName,
  { onProgress, opensTotp }: CheckOptions,
  canRead: (table: TableName) => boolean,
): AsyncGenerator<Finding> {
  const name = tables[table].name
  const wrongIn = checkerOf(tables[table].columns)
  const canReadBoth = canRead('users') && canRead('factors')
  let read = 0
  for await (const rows of pagesOf(store, table)) {
    for (const row of rows) {
      const wrong = wrongIn(row)
      if (wrong !== undefined)
        yield { level: 'error', table: name, key: keyOf(row), what: `${wrong} is not as it should be` }
    }
    if ((table === 'sessions' || table === 'browserSessions') && canRead('users'))
      yield* checkOwners(store, name, rows as Owned[])
    if (table === 'users' && canReadBoth) {
      const flagged = (rows as User[]).filter(({ hasFactors }) => hasFactors).map(keyOf)
      for (const { key, user, row } of await inOneMoment(store, flagged)) {
        if (user?.hasFactors && !row)
          yield { level: 'error', table: name, key, what: 'it is to have a second factor, and has none' }
      }
    }
    if (table === 'factors' && canReadBoth) yield* checkFactorOwners(store, rows.map(keyOf))
    if (table === 'factors' && opensTotp) yield* checkTotps(rows as UserFactors[], opensTotp)
    read += rows.length
    onProgress?.(name, read)
  }
}

/** What ends with its user. */
export type Owned = Pick<Session, 'id' | 'userId' | 'generation'>

/** A session, of a browser or of an app, that has lost its user is no error: it is refused, and swept later. */
export async function* checkOwners(
  store: Pick<Store, 'findRows'>,
  table: string,
  sessions: Owned[],
): AsyncGenerator<Finding> {
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
    if (level) yield { level, table, key, what }
  }
}

/** Users and their factors. The service changes both in one step, so they are looked at in one moment. */
async function inOneMoment(store: Store, userIds: string[]) {
  if (userIds.length === 0) return []
  const [users, factors] = await store.snapshot((rows) =>
    Promise.all([rows.findRows('users', userIds), rows.findRows('factors', userIds)]),
  )
  return userIds.map((key, i) => ({ key, user: users[i], row: factors[i] }))
}

async function* checkFactorOwners(store: Store, userIds: string[]): AsyncGenerator<Finding> {
  for (const { key, user, row } of await inOneMoment(store, userIds)) {
    if (!row) continue
    if (!user) yield { level: 'note', table: 'factors', key, what: 'dead: its user is gone' }
    else if ((user.hasFactors ?? false) !== row.factors.some(isSecondFactor))
      yield { level: 'error', table: 'factors', key, what: 'the row of its user does not say whether there is one' }
  }
}

function* checkTotps(rows: UserFactors[], opensTotp: NonNullable<CheckOptions['opensTotp']>): Generator<Finding> {
  const what = 'the secret of an authenticator app does not open under AUTH_SECRET'
  for (const { userId: key, factors } of rows) {
    if (factors.some((factor) => factor.kind === 'totp' && !opensTotp(key, factor)))
      yield { level: 'error', table: 'factors', key, what }
  }
}

/** The newest key of each algorithm signs, and has to open. Older ones only verify: their secret may be gone. */
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
  const wrongIn = checkerOf(revocationColumns)
  for await (const revocations of revocationPages(store)) {
    for (const revocation of revocations) {
      if (wrongIn(revocation) !== undefined)
        yield { level: 'error', table: 'revocations', key: revocation.id, what: 'the row is not as it should be' }
    }
  }
}
