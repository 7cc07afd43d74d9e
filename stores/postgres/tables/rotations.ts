import type { Audit } from '../../../domain/audit.ts'
import { isUuid } from '../../../domain/ids.ts'
import type { End } from '../../../domain/lifetimes.ts'
import { judgeRotation, type PresentedRefresh, type RotationOutcome } from '../../../domain/session.ts'
import { clockSkewMs } from '../../../domain/time.ts'
import { createPatience } from '../../patience.ts'
import { StoreUnavailable } from '../../store.ts'
import type { SessionTable } from '../../tables/sessions.ts'
import { type Fields, tables } from '../columns.ts'
import { createRotationBatches } from '../rotation-batches.ts'
import { prepare, type Runs } from '../statement.ts'
import { recorded, recording, toldValues } from '../telling.ts'
import { isCurrent, isSignedIn, tellingClients } from './sessions.ts'

const { users, sessions, browserSessions } = tables

/** Where a statement returns more than one. */
const [readSession, readUser, readParent] = [sessions.readAs('s'), users.readAs('u'), browserSessions.readAs('b')]

/** {@link isOfClient} of `domain/session.ts`. @param createdAt of the client that presents the token, or NULL */
const isOfClient = (id: string, createdAt: string) => `s.client_id = ${id} AND (${createdAt} IS NULL OR CASE
        WHEN s.client_created_at IS NULL THEN s.created_at + ${clockSkewMs} >= ${createdAt}
        ELSE s.client_created_at = ${createdAt} END)`

/** That `lacksFactor` of `domain/factor.ts` does not hold. @param mfa parameter: AUTH_MFA */
const hasDemandedFactor = (mfa: string) =>
  `(${mfa} = 'optional' OR u.has_factors OR (${mfa} = 'admins' AND NOT 'admin' = ANY(u.roles)))`

/**
 * What a rotation does not know already. A refresh is the most frequent write, and each column costs both sides time:
 * the client and what was written come from the request, and a session that is rotated has a user who is current, of
 * whom tokens have no address.
 */
const rotated = `${sessions.select('s', { without: ['clientId', 'counter', 'refreshedAt', 'address', 'userAgent'] })},
      ${users.select('u', { without: ['id', 'disabledAt', 'generation', 'email', 'emailKey', 'source', 'externalId'] })}`

export const statements = prepare({
  // Compare and set, by the same conditions as judgeRotation's `rotated`. No row: see `findRotation`. A creation in the
  // future becomes now; the same value again is no change to PostgreSQL, and the update stays a heap-only one.
  rotateSession: `
    UPDATE latchkey_sessions s
    SET counter = $2::bigint + 1, refreshed_at = $3::bigint, address = $4, user_agent = $5,
      created_at = CASE WHEN s.created_at > $11::bigint THEN $3::bigint ELSE s.created_at END
    FROM latchkey_users u
    WHERE s.id = $1 AND s.counter <= $2::bigint AND ${isOfClient('$6', '$10::bigint')}
      AND $3::bigint < s.refreshed_at + $7::bigint AND $3::bigint < s.created_at + $8::bigint
      AND s.scope @> $9::text[] AND ${hasDemandedFactor('$12::text')} AND ${isCurrent}
      AND ${isSignedIn('$3::bigint', '$13::bigint', '$14::bigint')}
    RETURNING ${rotated}`,
  // The same for many sessions, none of them twice. Their rows are locked in the order of their ids first, or two
  // batches with the same sessions in them could wait for each other; a row that had to be waited for is looked at anew
  // by the UPDATE.
  rotateSessions: `
    WITH asked AS (
      SELECT a.id, a.counter, a.refreshed_at, a.address, a.user_agent, a.client_id, a.scope::text[] AS scope,
        a.client_created_at
      FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $9::text[], $10::bigint[])
        AS a (id, counter, refreshed_at, address, user_agent, client_id, scope, client_created_at)
    ),
    locked AS (
      SELECT s.id FROM latchkey_sessions s WHERE s.id = ANY($1::uuid[]) ORDER BY s.id FOR UPDATE
    )
    UPDATE latchkey_sessions s
    SET counter = a.counter + 1, refreshed_at = a.refreshed_at, address = a.address, user_agent = a.user_agent,
      created_at = CASE WHEN s.created_at > $11::bigint THEN a.refreshed_at ELSE s.created_at END
    FROM asked a, latchkey_users u
    WHERE s.id = a.id AND s.id IN (SELECT locked.id FROM locked) AND s.counter <= a.counter
      AND ${isOfClient('a.client_id', 'a.client_created_at')}
      AND a.refreshed_at < s.refreshed_at + $7::bigint AND a.refreshed_at < s.created_at + $8::bigint
      AND s.scope @> a.scope AND ${hasDemandedFactor('$12::text')} AND ${isCurrent}
      AND ${isSignedIn('a.refreshed_at', '$13::bigint', '$14::bigint')}
    RETURNING ${rotated}`,
  // Why a session was not rotated, for the caller to judge.
  findRotation: `
    SELECT ${sessions.select('s')}, ${users.select('u')}, ${browserSessions.select('b')}
    FROM latchkey_sessions s JOIN latchkey_users u ON u.id = s.user_id
      LEFT JOIN latchkey_browser_sessions b ON b.id = s.parent
    WHERE s.id = $1`,
  endReusedSession: recording(
    6,
    `
    ended AS (
      DELETE FROM latchkey_sessions s
      WHERE s.id = $4::uuid AND s.counter > $5::bigint
      RETURNING 'sid' AS kind, s.id::text AS id, NULL::bigint AS generation, NULL::uuid AS except_session_id,
        ${sessions.select('s')}, s.user_id, s.client_id, s.client_created_at, s.parent
    ),${tellingClients('ended', '$2::bigint')}`,
  ),
})

/**
 * Adds what the request said to what {@link rotated} returns. The user is current, or nothing would have been
 * rotated.
 */
function toRotation(
  row: Fields,
  { counter, clientId, now, address, userAgent }: PresentedRefresh,
): RotationOutcome & { outcome: 'rotated' } {
  const session = readSession(row)
  session.clientId = clientId
  session.counter = counter + 1
  session.refreshedAt = now
  session.address = address
  session.userAgent = userAgent
  const user = readUser(row)
  user.id = session.userId
  user.generation = session.generation
  return { outcome: 'rotated', session, user }
}

/** Retries when a concurrent refresh won. */
const rotationTriesAtMost = 10

/** Refreshes of the PostgreSQL store: those that come together share a statement. */
export function createRotations({ run, runForOne }: Runs): Pick<SessionTable, 'rotateSession'> {
  const rotate = createRotationBatches(run, statements)
  const patiently = createPatience()

  async function rotateSession(
    presented: PresentedRefresh,
    end: End,
    audit: Audit<RotationOutcome> | undefined,
  ): Promise<RotationOutcome> {
    for (let tries = 1; tries <= rotationTriesAtMost; tries++) {
      const rotated = await rotate(presented)
      if (rotated) return toRotation(rotated, presented)
      const found = await runForOne(statements.findRotation, presented.sessionId)
      if (!found) return { outcome: 'unknown' }
      const [session, user] = [readSession(found), readUser(found)]
      // Read after the statement that did not rotate it, and so possibly after another call that did. A counter that is
      // spent stays spent and an age only grows, so a verdict upon that moment is a true one; but for a verdict of
      // `rotated` it is to be tried again.
      const outcome = judgeRotation(session, user, presented, found.b_id === null ? undefined : readParent(found))
      if (outcome === 'repeated' || outcome === 'factor_missing') return { outcome, session, user }
      if (outcome === 'reused') return endReusedSession(presented, end, toldValues(audit, { outcome, session }))
      if (outcome !== 'rotated') return { outcome }
    }
    throw new StoreUnavailable(new Error(`The session was ahead of us ${rotationTriesAtMost} times`))
  }

  /** Theft pays for one more round trip: CockroachDB takes no UPDATE and DELETE of one table in one statement. */
  async function endReusedSession(
    { sessionId, counter }: PresentedRefresh,
    { now, expiresAt }: End,
    told: unknown[],
  ): Promise<RotationOutcome> {
    const ended = await runForOne(statements.endReusedSession, ...recorded(now, expiresAt), sessionId, counter, ...told)
    return ended ? { outcome: 'reused', session: readSession(ended) } : { outcome: 'unknown' }
  }

  return {
    rotateSession: async (presented, end, _onDecided, audit) =>
      isUuid(presented.sessionId)
        ? patiently(presented, (patient) => rotateSession(patient, end, audit))
        : { outcome: 'unknown' },
  }
}
