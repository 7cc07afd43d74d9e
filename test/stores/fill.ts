import { randomUUID } from 'node:crypto'
import type { Client } from '../../domain/client.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import type { Store } from '../../stores/store.ts'
import { makeAuditRow } from './audit.ts'
import { makeBrowserSession, makeConsents } from './browser-sessions.ts'
import { makeCodes, makeFactors, makePasskey } from './factors.ts'
import { makeRecord } from './records.ts'

/* Rows of every table, with characters that mean something to a database. */

export const now = Date.now()
export const end = { now, expiresAt: now + 600_000 } as End

export function makeUser(over: Partial<User> = {}): User {
  const id = randomUUID()
  const row = { id, username: `Zoë-${id}`, nameKey: `zoë-${id}`, passwordHash: '$argon2id$hash', roles: ['a "b"'] }
  return { ...row, createdAt: now, generation: 1, ...over }
}
export const makeClient = (over: Partial<Client> = {}): Client => ({
  ...{
    id: `svc "${randomUUID()}"`,
    type: 'confidential',
    grants: ['client_credentials'],
    scopes: ['a "b"', 'x{}'],
    audience: ['NULL'],
  },
  ...{
    introspect: 'audience',
    secrets: [{ hash: 'sha256:new', createdAt: now }],
    createdAt: now,
    isDeclared: false,
    generation: now,
    ...over,
  },
})
export const makeSession = (user: User, over: Partial<Session> = {}): Session => ({
  ...{
    id: randomUUID(),
    userId: user.id,
    clientId: 'first-party',
    scope: ['x'],
    generation: user.generation,
    counter: 1,
  },
  ...{ createdAt: now, refreshedAt: now, address: '::1', userAgent: '“test”', ...over },
})

/** Puts rows into an empty store. @param n users, each with a session */
export async function fill(store: Store, n: number) {
  const clients = Array.from({ length: n / 10 }, (_, i) => makeClient(i % 10 === 0 ? { disabledAt: now } : {}))
  const users = Array.from({ length: n }, (_, i) =>
    makeUser(i % 10 === 0 ? { disabledAt: now } : i % 10 === 3 ? { hasFactors: true } : {}),
  )
  const factors = users
    .filter(({ hasFactors }) => hasFactors)
    .map((user, i) => makeFactors(user, [makePasskey(), makeCodes()], i + 1))
  const browserSessions = users.slice(0, n / 5).map((user) => makeBrowserSession(user, { createdAt: now, seenAt: now }))
  const parentOf = (i: number) => (i % 2 === 0 ? browserSessions[i] : undefined)
  const sessions = users.map((user, i) => {
    const parent = parentOf(i)
    return makeSession(user, { counter: i + 1, ...(parent && { parent: parent.id }) })
  })
  const consents = users.slice(0, n / 5).map((user, i) => makeConsents(user, i + 1))
  await store.importRows('clients', clients)
  await store.importRows('users', users)
  await store.importRows('factors', factors)
  await store.importRows('browserSessions', browserSessions)
  await store.importRows('sessions', sessions)
  await store.importRows('consents', consents)
  await Promise.all(
    users.slice(0, 50).map(({ id: key }, i) => store.recordFailure([i % 2 ? { key } : { key, tag: `tag ${i}` }], now)),
  )
  await Promise.all(
    users.slice(0, 20).map(({ id }) => store.revoke({ kind: 'jti', id, revokedAt: now, expiresAt: end.expiresAt })),
  )
  await store.addAudit(users.slice(0, n / 10).map(({ id: user }) => makeAuditRow({ user })))
  const records = Array.from({ length: n / 10 }, (_, i) => makeRecord({ owner: `owner ${i % 3}`, createdAt: now }))
  await store.importRows('records', records)
  const keep = { gave: 'a session', until: now + 1000 }
  await store.takeRecord({ kind: 'code', id: records[0]?.id ?? '', now, keep })
  return { clients, users, factors, browserSessions, sessions, consents, records }
}
