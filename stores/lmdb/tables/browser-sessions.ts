import { isDeepStrictEqual } from 'node:util'
import { type BrowserSession, isBrowserSessionOver } from '../../../domain/browser-session.ts'
import { hasFactor } from '../../../domain/factor.ts'
import type { End } from '../../../domain/lifetimes.ts'
import { endsWithParent } from '../../../domain/session.ts'
import { isFuture } from '../../../domain/time.ts'
import { mayHaveTokens } from '../../../domain/user.ts'
import { clockOf, longAgo, type SweepStep } from '../../sweeping.ts'
import { type BrowserSessionTable, browserSessionsListed, childrenListed } from '../../tables/browser-sessions.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import { type ByUser, endOfTime, upTo } from '../keys.ts'
import type { Runs } from '../runs.ts'
import type { Stage } from '../sweep.ts'
import { createRecordRows } from './records.ts'
import { createRevocationRows } from './revocations.ts'
import { createSessionRows } from './sessions.ts'

/** Orders those of a user by age, as the index of sessions does. */
const byUserKey = ({ userId, createdAt, id }: BrowserSession): ByUser => [userId, createdAt, id]

/** Ended in one transaction: lmdb-js has crashed on some of thousands of writes, and an end has as many as ten. */
const childrenAtOnce = 200

/** The rows of browser sessions, with the index of users. Only inside a transaction. */
export function createBrowserSessionRows(databases: Databases) {
  const { browserSessions, browserSessionsByUser } = databases
  const sessionRows = createSessionRows(databases)
  const { record } = createRevocationRows(databases)

  const newestFirst = (userId: string) =>
    [...browserSessionsByUser.getKeys({ start: upTo<ByUser>(userId, endOfTime), end: upTo(userId), reverse: true })]
      .map(([, , id]) => browserSessions.get(id))
      .filter((session) => session !== undefined)

  return {
    newestFirst,
    /** Puts one in the place of the one with its id. */
    put(session: BrowserSession): void {
      const before = browserSessions.get(session.id)
      if (before) browserSessionsByUser.remove(byUserKey(before))
      browserSessionsByUser.put(byUserKey(session), 0)
      browserSessions.put(session.id, session)
    },
    remove(session: BrowserSession): void {
      browserSessions.remove(session.id)
      browserSessionsByUser.remove(byUserKey(session))
    },
    /** No browser session of a user is of a level that was given by a factor which is gone. */
    lower(userId: string, factorId: string): void {
      for (const { factor, ...rest } of newestFirst(userId)) if (factor === factorId) browserSessions.put(rest.id, rest)
    },
    /**
     * Ends the sessions of apps that one has opened, and has their clients told.
     *
     * @returns behind which one to go on; undefined where there are no more
     */
    endChildren(parent: string, { now, expiresAt }: End, after?: string): string | undefined {
      const children = sessionRows.childrenOf(parent, childrenAtOnce, after)
      for (const child of children) {
        if (endsWithParent(child)) {
          sessionRows.end(child, now)
          record({ kind: 'sid', id: child.id, revokedAt: now, expiresAt })
        } else sessionRows.tellOf(child, now)
      }
      return children.length === childrenAtOnce ? children.at(-1)?.id : undefined
    },
  }
}

/** People who are signed in in a browser, in the embedded store. */
export function createBrowserSessions(databases: Databases, { read, write, change }: Runs): BrowserSessionTable {
  const { users, factors, browserSessions } = databases
  const rows = createBrowserSessionRows(databases)
  const sessionRows = createSessionRows(databases)
  const records = createRecordRows(databases)

  /** Whether its user may be signed in so. */
  const isGood = ({ userId, generation }: BrowserSession, factor: string | undefined) =>
    mayHaveTokens(users.get(userId), generation) && hasFactor(factors.get(userId), factor)

  return {
    createBrowserSession: (session, taking, audit) =>
      change(audit, () => {
        if (!isGood(session, session.factor) || !records.take(taking)) return false
        rows.put(session)
        return true
      }),
    findBrowserSession: (id) => read(() => browserSessions.get(id)),
    renewBrowserSession: ({ id, expectedHash, secretHash, seenAt, authAt, amr, factor }, taking, audit) =>
      change(audit, () => {
        const session = browserSessions.get(id)
        if (session?.secretHash !== expectedHash || !isGood(session, factor)) return false
        if (taking && !records.take(taking)) return false
        const { factor: _, ...rest } = session
        browserSessions.put(id, { ...rest, secretHash, seenAt, authAt, amr, ...(factor !== undefined && { factor }) })
        return true
      }),
    seeBrowserSession: (id, seenAt) =>
      write(() => {
        const session = browserSessions.get(id)
        if (session && session.seenAt < seenAt) browserSessions.put(id, { ...session, seenAt })
      }),
    listBrowserSessions: (userId) =>
      read(() => {
        const user = users.get(userId)
        const isAlive = ({ generation }: BrowserSession) => mayHaveTokens(user, generation)
        return rows.newestFirst(userId).filter(isAlive).slice(0, browserSessionsListed)
      }),
    listChildren: (parent) => read(() => sessionRows.childrenOf(parent, childrenListed)),
    async endBrowserSession(id, end, userId, audit) {
      let after: string | undefined
      const isEnded = await change(audit, () => {
        const session = browserSessions.get(id)
        if (!session || (userId !== undefined && session.userId !== userId)) return false
        rows.remove(session)
        after = rows.endChildren(id, end)
        return true
      })
      // None of the rest is refreshed any more, for its parent is gone.
      while (after !== undefined) {
        const behind: string = after
        after = await write(() => rows.endChildren(id, end, behind))
      }
      return isEnded
    },
  }
}

/** Removes those that are over. The sessions of apps that end with them are swept after them. */
export function sweepBrowserSessions(databases: Databases): Stage {
  const { users } = databases
  const rows = createBrowserSessionRows(databases)
  const { childrenOf } = createSessionRows(databases)

  function isDead(session: BrowserSession, { now, browser }: SweepStep): boolean {
    const { id, userId, generation } = session
    if (!mayHaveTokens(users.get(userId), generation)) return true
    if (!isBrowserSessionOver(session, browser, now)) return false
    // An app that is in use keeps its own session alive, and needs this.
    return !childrenOf(id, childrenListed).some(
      (child) => endsWithParent(child) && !isBrowserSessionOver(session, browser, now, child.refreshedAt),
    )
  }

  return {
    table: databases.browserSessions,
    isDue: (session: BrowserSession, step: SweepStep) =>
      isFuture(latestOf(session), clockOf(step)) || isDead(session, step),
    sweep(_key: string, session: BrowserSession, step: SweepStep) {
      const clock = clockOf(step)
      if (isDead(session, step)) {
        rows.remove(session)
        return true
      }
      const { createdAt, seenAt, authAt } = session
      rows.put({
        ...session,
        createdAt: isFuture(createdAt, clock) ? clock : createdAt,
        seenAt: isFuture(seenAt, clock) ? clock : seenAt,
        authAt: isFuture(authAt, clock) ? longAgo : authAt,
      })
      return false
    },
  }
}

const latestOf = ({ createdAt, seenAt, authAt }: BrowserSession) => Math.max(createdAt, seenAt, authAt)

/** What `store check` finds wrong with each entry. */
export function checkBrowserSessions({ browserSessions, browserSessionsByUser }: Databases): Check[] {
  return [
    checkOf('browser_sessions', browserSessions, (id) => {
      const session = browserSessions.get(id)
      if (session?.id !== id) return 'the row does not fit its key'
      return browserSessionsByUser.doesExist(byUserKey(session))
        ? undefined
        : 'the browser session is missing in the index of users'
    }),
    checkOf('browser_sessions_by_user', browserSessionsByUser, (key) => {
      const session = browserSessions.get(key[2])
      return session && isDeepStrictEqual(byUserKey(session), key)
        ? undefined
        : 'the index entry has no browser session'
    }),
  ]
}
