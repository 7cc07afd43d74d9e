import type { Database, RootDatabase, RootDatabaseOptions } from 'lmdb'
import type { AuditRow } from '../../domain/audit.ts'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { Client } from '../../domain/client.ts'
import type { UserConsents } from '../../domain/consent.ts'
import type { UserFactors } from '../../domain/factor.ts'
import type { Failures } from '../../domain/failures.ts'
import type { ShortRecord } from '../../domain/record.ts'
import type { Revocation } from '../../domain/revocation.ts'
import type { Session } from '../../domain/session.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'
import type { User } from '../../domain/user.ts'
import { tables } from '../rows.ts'
import { StoreTooNew, StoreTooOld } from '../store.ts'
import { type ByCreation, type ByParent, type ByUser, type IndexKey, idValues, keysOf } from './keys.ts'
import { RowTable, rowFormat } from './rows.ts'

/**
 * Raised by a release whose data this one cannot work with; it writes the number to `counters`. What a release only
 * adds needs none: the one before goes on with it. `upgrade.ts` brings a store of an earlier one up to date.
 *
 * 1: rows of users and sessions are MessagePack maps, and their keys text
 * 2: they are rows by position, `rows.ts`, under keys of bytes, `keys.ts`
 */
export const format = 2

export type Databases = ReturnType<typeof openDatabases>

/** Whether there is a table. It is not made. */
export const hasTable = (root: RootDatabase, name: string): boolean =>
  root.openDB(name, { create: false } as RootDatabaseOptions) !== undefined

/** In `counters`, while rows of an earlier format are being moved. */
export const moving = 'moving'

type Counters = Database<number, string>

/** Whether a release of an earlier format has written a store, and its rows are not all moved yet. */
export const isOutdated = (counters: Counters): boolean =>
  counters.get('format') !== format || counters.get(moving) !== undefined

/**
 * Opens the databases of an environment, and makes those that are missing: the tables, each with its indexes.
 *
 * @throws {StoreTooNew} before anything is made
 * @throws {StoreTooOld} likewise
 */
export function openDatabases(root: RootDatabase) {
  const counters: Counters = root.openDB('counters', {})
  if (counters.get('format') === undefined && !hasTable(root, 'users')) counters.putSync('format', format)
  if (isOutdated(counters) && (counters.get('format') ?? 0) <= format) throw new StoreTooOld()
  return openAll(root)
}

/** The same where an earlier release has written it. @throws {StoreTooNew} before anything is made */
export function openAll(root: RootDatabase) {
  const open = <V, K extends string | number | IndexKey = string>(name: string, options?: RootDatabaseOptions) =>
    root.openDB<V, K>(name, options ?? {})
  /** Those of format 2 have names of their own: a release that looks at no number finds nothing that it cannot read. */
  const named = (name: string) => `${name}.2`
  const openIds = (name: string) => open<string>(named(name), { encoder: idValues })
  const openIndex = <K extends IndexKey>(name: string, ...parts: Parameters<typeof keysOf>) =>
    open<0, K>(named(name), { keyEncoder: keysOf(...parts) })

  const counters: Counters = open<number>('counters')
  const found = counters.get('format') ?? 0
  if (found > format) throw new StoreTooNew(found, format)
  return {
    users: new RowTable(root, named('users'), rowFormat<User>(tables.users, { nameKey: 'username' })),
    usersByName: openIds('users_by_name'),
    usersByEmail: openIds('users_by_email'),
    usersByExternalId: openIds('users_by_external_id'),
    usersByCreation: openIndex<ByCreation>('users_by_creation', 'time', 'id'),
    factors: open<UserFactors>('factors'),
    clients: open<Client>('clients'),
    sessions: new RowTable(root, named('sessions'), rowFormat<Session>(tables.sessions)),
    sessionsByUser: openIndex<ByUser>('sessions_by_user', 'id', 'time', 'id'),
    /** those of apps, by the browser session that they were opened from */
    sessionsByParent: openIndex<ByParent>('sessions_by_parent', 'id', 'id'),
    browserSessions: new RowTable(root, named('browser_sessions'), rowFormat<BrowserSession>(tables.browserSessions)),
    browserSessionsByUser: openIndex<ByUser>('browser_sessions_by_user', 'id', 'time', 'id'),
    consents: open<UserConsents>('consents'),
    signingKeys: open<SigningKeyRecord>('signing_keys'),
    failures: open<Failures>('failures'),
    records: open<ShortRecord>('records'),
    /** of each record that is not spent, when it expires: by its owner, and by its source */
    recordsByHolder: open<number>('records_by_holder'),
    /** records for which something is to be sent, by kind and when */
    recordsByDue: open<0>('records_by_due'),
    revocations: open<Revocation, number>('revocations'),
    /** the number of the revocation of what is named, see `namesOne` */
    revocationsById: open<number>('revocations_by_id'),
    audit: open<AuditRow>('audit'),
    /** the ids of rows in the order in which they were written here */
    auditByPlace: open<string, number>('audit_by_place'),
    /** by user, session, client, and by the user who acted */
    auditByIndex: open<0>('audit_by_index'),
    /** deletions whose users may still have rows that tell of a person: by the row of the deletion */
    auditErasing: open<0>('audit_erasing'),
    counters,
  }
}
