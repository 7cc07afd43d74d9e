import type { Database, RootDatabase } from 'lmdb'
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
import { StoreTooNew } from '../store.ts'

/**
 * Raised by a release whose data this one cannot work with; it writes the number to `counters`. What a release only
 * adds needs none: the one before goes on with it.
 */
const format = 1

export type Databases = ReturnType<typeof openDatabases>

/**
 * Opens the databases of an environment, and makes those that are missing: the tables, each with its indexes.
 *
 * @throws {StoreTooNew} before anything is made
 */
export function openDatabases(root: RootDatabase) {
  const open = <V, K extends string | number = string>(name: string): Database<V, K> => root.openDB<V, K>({ name })
  const counters = open<number>('counters')
  const found = counters.get('format') ?? format
  if (found > format) throw new StoreTooNew(found, format)
  return {
    users: open<User>('users'),
    usersByName: open<string>('users_by_name'),
    usersByEmail: open<string>('users_by_email'),
    usersByExternalId: open<string>('users_by_external_id'),
    usersByCreation: open<0>('users_by_creation'),
    factors: open<UserFactors>('factors'),
    clients: open<Client>('clients'),
    sessions: open<Session>('sessions'),
    sessionsByUser: open<0>('sessions_by_user'),
    /** those of apps, by the browser session that they were opened from */
    sessionsByParent: open<0>('sessions_by_parent'),
    browserSessions: open<BrowserSession>('browser_sessions'),
    browserSessionsByUser: open<0>('browser_sessions_by_user'),
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
