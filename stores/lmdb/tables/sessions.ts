import { isDeepStrictEqual } from 'node:util'
import type { BrowserSession } from '../../../domain/browser-session.ts'
import { hasFactor } from '../../../domain/factor.ts'
import { isCurrent, isExpired, isSignedOut, type Session } from '../../../domain/session.ts'
import { isFuture } from '../../../domain/time.ts'
import { beforeGrace, clockOf, longAgo, type SweepStep } from '../../sweeping.ts'
import { logoutRecord } from '../../tables/browser-sessions.ts'
import type { SessionTable } from '../../tables/sessions.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import { type ByParent, type ByUser, endOfTime, lastId, positionOf, readPosition, upTo } from '../keys.ts'
import type { Runs } from '../runs.ts'
import type { Stage } from '../sweep.ts'
import { createRecordRows } from './records.ts'
import { createRevocationRows } from './revocations.ts'

/** Orders the sessions of a user by age. */
const byUserKey = ({ userId, createdAt, id }: Session): ByUser => [userId, createdAt, id]
const byParentKey = ({ parent, id }: Session): ByParent | undefined => (parent === undefined ? undefined : [parent, id])

/** The rows of sessions, with the indexes of users and parents. Only inside a transaction. */
export function createSessionRows(databases: Databases) {
  const { sessions, sessionsByUser, sessionsByParent } = databases
  const records = createRecordRows(databases)
  function add(session: Session): void {
    sessions.put(session.id, session)
    sessionsByUser.put(byUserKey(session), 0)
    const child = byParentKey(session)
    if (child !== undefined) sessionsByParent.put(child, 0)
  }
  function remove(session: Session): void {
    sessions.remove(session.id)
    sessionsByUser.remove(byUserKey(session))
    const child = byParentKey(session)
    if (child !== undefined) sessionsByParent.remove(child)
  }

  /** Has the client of an app told that a session is over, where it began with one in a browser. */
  function tellOf(session: Session, now: number): void {
    if (session.parent !== undefined) records.put(logoutRecord(session, now))
  }

  return {
    /** One whose id nobody has. */
    add,
    tellOf,
    end(session: Session, now: number): void {
      remove(session)
      tellOf(session, now)
    },
    /** Puts a session in the place of the one with its id. */
    put(session: Session): void {
      const before = sessions.get(session.id)
      if (before) remove(before)
      add(session)
    },
    /** Those that a browser session has opened, in the order of their ids. @param after id of the last one before */
    childrenOf: (parent: string, limit: number, after?: string): Session[] =>
      [
        ...sessionsByParent.getKeys({
          start: after === undefined ? upTo(parent) : [parent, after],
          end: [parent, lastId],
          exclusiveStart: true,
          limit,
        }),
      ]
        .map(([, id]) => sessions.get(id))
        .filter((session) => session !== undefined),
    /** All sessions of a user, the dead too. */
    of: (userId: string): Session[] =>
      [...sessionsByUser.getKeys({ start: upTo<ByUser>(userId), end: upTo(userId, endOfTime) })]
        .map(([, , id]) => sessions.get(id))
        .filter((session) => session !== undefined),
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
  const { users, factors, sessions, sessionsByUser, browserSessions } = databases
  const sessionRows = createSessionRows(databases)
  const records = createRecordRows(databases)
  const { record } = createRevocationRows(databases)
  return {
    createSession: (session, taking, audit) =>
      change(audit, () => {
        if (!isCurrent(session, users.get(session.userId))) return false
        if (session.factor !== undefined && !hasFactor(factors.get(session.userId), session.factor)) return false
        if (session.parent !== undefined && !isOfParent(session, browserSessions.get(session.parent))) return false
        if (taking && !records.take(taking)) return false
        sessionRows.add(session)
        return true
      }),
    findSession: (id) => read(() => sessions.get(id)),
    listSessions: (userId, live, { after, limit }) =>
      read(() => {
        const user = users.get(userId)
        const found: Session[] = []
        const [createdAt = endOfTime, position = lastId] = readPosition(after) ?? []
        const start: ByUser = [userId, createdAt, position]
        const newestFirst = { start, end: upTo<ByUser>(userId), reverse: true, exclusiveStart: true }
        for (const [, , id] of sessionsByUser.getKeys(newestFirst)) {
          const session = sessions.get(id)
          if (!session || !isCurrent(session, user) || isExpired(session, live)) continue
          if (session.parent !== undefined && isSignedOut(session, browserSessions.get(session.parent), live)) continue
          if (found.length === limit) return { sessions: found, next: positionOf(found.at(-1) as Session) }
          found.push(session)
        }
        return { sessions: found }
      }),
    endSession: (id, { now, expiresAt }, userId, audit) =>
      change(audit, () => {
        const session = sessions.get(id)
        if (!session || (userId !== undefined && session.userId !== userId)) return false
        sessionRows.end(session, now)
        record({ kind: 'sid', id, revokedAt: now, expiresAt })
        return true
      }),
  }
}

/** Whether a session may be opened from a browser session. */
const isOfParent = ({ userId, generation }: Session, parent: BrowserSession | undefined) =>
  parent !== undefined && parent.userId === userId && parent.generation === generation

/** Removes sessions that are dead. */
export function sweepSessions(databases: Databases): Stage {
  const { users, sessions, browserSessions } = databases
  const { end, putRight } = createSessionRows(databases)
  const isDead = (session: Session, step: SweepStep) =>
    !isCurrent(session, users.get(session.userId)) ||
    isExpired(session, step) ||
    (session.parent !== undefined && isSignedOut(session, browserSessions.get(session.parent), step))
  return {
    table: sessions,
    isDue: (session: Session, step: SweepStep) => isDead(session, step) || isFuture(latestOf(session), clockOf(step)),
    sweep(_key: string, session: Session, step: SweepStep) {
      if (isDead(session, step)) end(session, clockOf(step))
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
export function checkSessions({ sessions, sessionsByUser, sessionsByParent }: Databases): Check[] {
  return [
    checkOf('sessions', sessions, (id) => {
      const session = sessions.get(id)
      if (session?.id !== id) return 'the row does not fit its key'
      const child = byParentKey(session)
      if (child !== undefined && !sessionsByParent.doesExist(child))
        return 'the session is missing in the index of parents'
      return sessionsByUser.doesExist(byUserKey(session)) ? undefined : 'the session is missing in the index of users'
    }),
    checkOf('sessions_by_parent', sessionsByParent, (key) => {
      const session = sessions.get(key[1])
      return session && isDeepStrictEqual(byParentKey(session), key) ? undefined : 'the index entry has no session'
    }),
    checkOf('sessions_by_user', sessionsByUser, (key) => {
      const session = sessions.get(key[2])
      return session && isDeepStrictEqual(byUserKey(session), key) ? undefined : 'the index entry has no session'
    }),
  ]
}
