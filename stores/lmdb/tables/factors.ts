import type { Authentication } from '../../../domain/authentication.ts'
import { type Factor, hasFactor, type UserFactors, withFactors } from '../../../domain/factor.ts'
import { isCurrent, type Session } from '../../../domain/session.ts'
import type { FactorTable, Raised } from '../../tables/factors.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import type { Stage } from '../sweep.ts'
import { createBrowserSessionRows } from './browser-sessions.ts'
import { createRecordRows } from './records.ts'
import { createSessionRows } from './sessions.ts'
import { createUserRows } from './users.ts'

/** The rows of second factors, with what that of the user says of them. Only inside a transaction. */
export function createFactorRows({ users, factors }: Databases) {
  function follow(userId: string, next: Factor[]): void {
    const user = users.get(userId)
    if (user) users.put(userId, withFactors(user, next))
  }
  return {
    put(row: UserFactors): void {
      factors.put(row.userId, row)
      follow(row.userId, row.factors)
    },
    remove(userId: string): void {
      factors.remove(userId)
      follow(userId, [])
    },
  }
}

/** The second factors of the embedded store. */
export function createFactors(databases: Databases, { read, write, change }: Runs): FactorTable {
  const { users, factors, sessions } = databases
  const { beginGeneration } = createUserRows(databases)
  const factorRows = createFactorRows(databases)
  const sessionRows = createSessionRows(databases)
  const browserSessionRows = createBrowserSessionRows(databases)
  const records = createRecordRows(databases)

  /** The session that is to be raised, if it is alive. */
  function find({ sessionId }: Raised, userId?: string): Session | undefined {
    const session = sessions.get(sessionId)
    const isOwn = session && (userId === undefined || session.userId === userId)
    return isOwn && isCurrent(session, users.get(session.userId)) ? session : undefined
  }
  function raise(session: Session, { authAt, amr, factor }: Authentication): void {
    const { factor: _, ...rest } = session
    sessions.put(session.id, { ...rest, authAt, amr, ...(factor !== undefined && { factor }) })
  }
  function lower(userId: string, factorId: string): void {
    for (const session of sessionRows.of(userId)) {
      const { factor, ...rest } = session
      if (factor === factorId) sessions.put(session.id, rest)
    }
    browserSessionRows.lower(userId, factorId)
  }

  return {
    findFactors: (userId) => read(() => factors.get(userId)),
    changeFactors: ({ userId, expectedVersion, next, raising, lowering, ...withRecords }, end, audit) =>
      change(audit, () => {
        const user = users.get(userId)
        if (!user || (user.disabledAt !== undefined && !end)) return false
        if ((factors.get(userId)?.version ?? 0) !== expectedVersion) return false
        const session = raising && find(raising, userId)
        if ((raising && !session) || !records.takeWith(userId, withRecords)) return false
        factors.put(userId, { userId, factors: next, version: expectedVersion + 1 })
        const changed = withFactors(user, next)
        if (end) beginGeneration(changed, end)
        else users.put(userId, changed)
        if (raising && session) raise(session, raising)
        if (lowering !== undefined) lower(userId, lowering)
        return true
      }),
    raiseSession: (raised, taking, audit) =>
      change(audit, () => {
        const session = find(raised)
        if (!session || !hasFactor(factors.get(session.userId), raised.factor) || !records.take(taking)) return false
        raise(session, raised)
        return true
      }),
    resealTotp: (userId, expected, sealed) =>
      write(() => {
        const row = factors.get(userId)
        const isIt = (factor: Factor) => factor.kind === 'totp' && factor.secret === expected
        if (!row?.factors.some(isIt)) return false
        const next = row.factors.map((factor) => (isIt(factor) ? ({ ...factor, secret: sealed } as Factor) : factor))
        factors.put(userId, { ...row, factors: next, version: row.version + 1 })
        return true
      }),
    removeFactors: (userId) => write(() => factorRows.remove(userId)),
  }
}

/** Removes factors whose user is gone: a release that did not know of them has left them behind. */
export function sweepFactors({ users, factors }: Databases): Stage {
  return {
    table: factors,
    isDue: ({ userId }: UserFactors) => !users.doesExist(userId),
    sweep(userId: string) {
      factors.remove(userId)
      return true
    },
  }
}

/** What `store check` finds wrong with each entry. */
export function checkFactors({ factors }: Databases): Check[] {
  return [
    checkOf('factors', factors, (userId) =>
      factors.get(userId)?.userId === userId ? undefined : 'the row does not fit its key',
    ),
  ]
}
