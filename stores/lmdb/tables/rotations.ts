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

/** A refresh that waits for a transaction; then with what came of it. */
interface Asked {
  presented: PresentedRefresh
  end: End
  audit: Audit<RotationOutcome> | undefined
  onDecided: ((decided: RotationOutcome) => void) | undefined
  resolve(outcome: RotationOutcome): void
  reject(error: unknown): void
  outcome?: RotationOutcome
  error?: unknown
}

/** Refreshes of the embedded store. */
export function createRotations(databases: Databases, { write, run }: Runs): Pick<SessionTable, 'rotateSession'> {
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

  /** those that wait for a transaction which has not begun */
  let gathering: Asked[] | undefined

  /**
   * Has all that come before the transaction begins decided in one callback of it. (lmdb-js takes as many callbacks as
   * one likes into a transaction, but each has its promise, its timer and its way through native code.)
   */
  function rotateTogether(batch: Asked[]): void {
    const begin = () => {
      if (gathering === batch) gathering = undefined
    }
    write(() => {
      begin()
      for (const one of batch) {
        try {
          one.outcome = rotate(one.presented, one.end, one.audit)
        } catch (error) {
          one.error = error
        }
      }
      // After the transaction's callbacks, when the disk is written to and this thread would only wait.
      setImmediate(tellDecided, batch)
    }).then(
      () => {
        for (const { outcome, error, resolve, reject } of batch)
          if (outcome) resolve(outcome)
          else run('written', () => Promise.reject(error)).catch(reject)
      },
      (error) => {
        begin()
        for (const { reject } of batch) reject(error)
      },
    )
  }

  function ask(asked: Asked): void {
    if (gathering) return void gathering.push(asked)
    gathering = [asked]
    rotateTogether(gathering)
  }

  return {
    rotateSession: (presented, end, onDecided, audit) =>
      patiently(
        presented,
        (patient) =>
          new Promise((resolve, reject) => ask({ presented: patient, end, audit, onDecided, resolve, reject })),
      ),
  }
}

function tellDecided(batch: Asked[]): void {
  for (const { outcome, onDecided } of batch) if (outcome) onDecided?.(outcome)
}
