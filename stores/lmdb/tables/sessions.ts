import { hasFactor } from '../../../domain/factor.ts'
import { isCurrent, isExpired, type Session } from '../../../domain/session.ts'
import { isFuture } from '../../../domain/time.ts'
import { beforeGrace, clockOf, longAgo, type SweepStep } from '../../sweeping.ts'
import type { SessionTable } from '../../tables/sessions.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import type { Stage } from '../sweep.ts'
import { createRecordRows } from './records.ts'
import { createRevocationRows } from './revocations.ts'

/** Orders the sessions of a user by age: milliseconds keep 13 digits until the year 2286. */
export const byUserKey = (session: Session) => `${session.userId}/${session.createdAt}/${session.id}`
const uuidLength = 36

/** Sorts behind every UUID, so that a range `[prefix, prefix + last]` holds all keys that begin with the prefix. */
const last = '\uffff'

/** The rows of sessions, with the index of users. Only inside a transaction. */
export function createSessionRows({ sessions, sessionsByUser }: Databases) {
  return {
    /** Puts a session in the place of the one with its id. */
    put(session: Session): void {
      const before = sessions.get(session.id)
      if (before) sessionsByUser.remove(byUserKey(before))
      sessionsByUser.put(byUserKey(session), 0)
      sessions.put(session.id, session)
    },
    /** All sessions of a user, the dead too. */
    of: (userId: string): Session[] =>
      [...sessionsByUser.getKeys({ start: `${userId}/`, end: `${userId}/${last}` })]
        .map((key) => sessions.get(key.slice(-uuidLength)))
        .filter((session) => session !== undefined),
    remove(session: Session): void {
      sessions.remove(session.id)
      sessionsByUser.remove(byUserKey(session))
    },
    /** Sets the creation of `next`, a new version of a session, to now where it lies in the future. */
    putRight(session: Session, next: Session, now: number): void {
      if (!isFuture(session.createdAt, now)) return
      next.createdAt = now
      sessionsByUser.remove(byUserKey(session))
      sessionsByUser.put(byUserKey(next), 0)
    },
  }
}

/** The sessions of the embedded store, but for their refreshes. */
export function createSessions(databases: Databases, { read, change }: Runs): Omit<SessionTable, 'rotateSession'> {
  const { users, factors, sessions, sessionsByUser } = databases
  const sessionRows = createSessionRows(databases)
  const records = createRecordRows(databases)
  const { record } = createRevocationRows(databases)
  return {
    createSession: (session, taking, audit) =>
      change(audit, () => {
        if (!isCurrent(session, users.get(session.userId))) return false
        if (session.factor !== undefined && !hasFactor(factors.get(session.userId), session.factor)) return false
        if (taking && !records.take(taking)) return false
        sessions.put(session.id, session)
        sessionsByUser.put(byUserKey(session), 0)
        return true
      }),
    findSession: (id) => read(() => sessions.get(id)),
    listSessions: (userId, live, { after, limit }) =>
      read(() => {
        const user = users.get(userId)
        const found: Session[] = []
        const newestFirst = {
          start: `${userId}/${after ?? last}`,
          end: `${userId}/`,
          reverse: true,
          exclusiveStart: true,
        }
        for (const key of sessionsByUser.getKeys(newestFirst)) {
          const session = sessions.get(key.slice(-uuidLength))
          if (!session || !isCurrent(session, user) || isExpired(session, live)) continue
          if (found.length === limit)
            return { sessions: found, next: byUserKey(found.at(-1) as Session).slice(userId.length + 1) }
          found.push(session)
        }
        return { sessions: found }
      }),
    endSession: (id, { now, expiresAt }, userId, audit) =>
      change(audit, () => {
        const session = sessions.get(id)
        if (!session || (userId !== undefined && session.userId !== userId)) return false
        sessionRows.remove(session)
        record({ kind: 'sid', id, revokedAt: now, expiresAt })
        return true
      }),
  }
}

/** Removes sessions that are dead. */
export function sweepSessions(databases: Databases): Stage {
  const { users, sessions } = databases
  const { remove, putRight } = createSessionRows(databases)
  const isDead = (session: Session, step: SweepStep) =>
    !isCurrent(session, users.get(session.userId)) || isExpired(session, step)
  return {
    table: sessions,
    isDue: (session: Session, step: SweepStep) => isDead(session, step) || isFuture(latestOf(session), clockOf(step)),
    sweep(_key: string, session: Session, step: SweepStep) {
      if (isDead(session, step)) remove(session)
      else {
        const next = { ...session }
        if (isFuture(session.refreshedAt, clockOf(step))) next.refreshedAt = beforeGrace(step)
        if (isFuture(session.authAt ?? 0, clockOf(step))) next.authAt = longAgo
        putRight(session, next, clockOf(step))
        sessions.put(session.id, next)
      }
      return isDead(session, step)
    },
  }
}

const latestOf = ({ createdAt, refreshedAt, authAt = 0 }: Session) => Math.max(createdAt, refreshedAt, authAt)

/** What `store check` finds wrong with each entry. */
export function checkSessions({ sessions, sessionsByUser }: Databases): Check[] {
  return [
    checkOf('sessions', sessions, (id) => {
      const session = sessions.get(id)
      if (session?.id !== id) return 'the row does not fit its key'
      return sessionsByUser.doesExist(byUserKey(session)) ? undefined : 'the session is missing in the index of users'
    }),
    checkOf('sessions_by_user', sessionsByUser, (key) => {
      const session = sessions.get(key.slice(-uuidLength))
      return session && byUserKey(session) === key ? undefined : 'the index entry has no session'
    }),
  ]
}
