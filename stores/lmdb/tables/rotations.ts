import type { Audit } from '../../../domain/audit.ts'
import type { End } from '../../../domain/lifetimes.ts'
import { judgeRotation, type PresentedRefresh, type RotationOutcome } from '../../../domain/session.ts'
import { createPatience } from '../../patience.ts'
import type { SessionTable } from '../../tables/sessions.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import { createAuditRows } from './audit.ts'
import { createRevocationRows } from './revocations.ts'
import { createSessionRows } from './sessions.ts'

/** Refreshes of the embedded store. */
export function createRotations(databases: Databases, { write }: Runs): Pick<SessionTable, 'rotateSession'> {
  const { users, sessions, browserSessions } = databases
  const { end: endSession, putRight } = createSessionRows(databases)
  const { record } = createRevocationRows(databases)
  const audits = createAuditRows(databases)
  const patiently = createPatience()

  /** Only inside a transaction. */
  function rotate(presented: PresentedRefresh, end: End, audit?: Audit<RotationOutcome>): RotationOutcome {
    const session = sessions.get(presented.sessionId)
    const user = session && users.get(session.userId)
    const parent = session?.parent === undefined ? undefined : browserSessions.get(session.parent)
    const outcome = judgeRotation(session, user, presented, parent)
    if (!session || !user) return { outcome: 'unknown' }
    switch (outcome) {
      case 'rotated': {
        const { address, userAgent, now: refreshedAt } = presented
        const next = { ...session, counter: presented.counter + 1, refreshedAt, address, userAgent }
        putRight(session, next, refreshedAt)
        sessions.put(session.id, next)
        return { outcome, session: next, user }
      }
      case 'repeated':
      case 'factor_missing':
        return { outcome, session, user }
      case 'reused': {
        const told = audit?.({ outcome, session }) ?? []
        endSession(session, end.now)
        record({ kind: 'sid', id: session.id, revokedAt: end.now, expiresAt: end.expiresAt })
        audits.add(told)
        return { outcome, session }
      }
      default:
        return { outcome }
    }
  }

  return {
    rotateSession: (presented, end, onDecided, audit) =>
      patiently(presented, (patient) =>
        write(() => {
          const outcome = rotate(patient, end, audit)
          // After the transaction's callbacks, when the disk is written to and this thread would only wait.
          if (onDecided) setImmediate(onDecided, outcome)
          return outcome
        }),
      ),
  }
}
