import { isUuid } from '../../../domain/ids.ts'
import { offlineScope } from '../../../domain/scope.ts'
import type { Session } from '../../../domain/session.ts'
import { futureFrom } from '../../../domain/time.ts'
import { beforeGrace, clockOf, longAgo, type SweepStep } from '../../sweeping.ts'
import { logoutKind, logoutTtlSeconds } from '../../tables/browser-sessions.ts'
import type { SessionTable } from '../../tables/sessions.ts'
import { type Fields, tables } from '../columns.ts'
import { plan, prepare, type Runs } from '../statement.ts'
import { type SweepStage, type SweptRow, sweeping } from '../sweep.ts'
import { auditing, recorded, recording, telling, toldValues } from '../telling.ts'
import { firstUuid, isPosition, lastUuid, uuidOrNull } from '../uuids.ts'
import { takingRecord, takingValueCount, takingValues } from './records.ts'

const { sessions } = tables

/** The session of a statement that joins it with its user. */
const readSession = sessions.readAs('s')

/** {@link isCurrent} of `domain/session.ts`: whether the user `u` may have tokens, and the session `s` has not ended. */
export const isCurrent = 'u.id = s.user_id AND u.generation = s.generation AND u.disabled_at IS NULL'

/**
 * That {@link isSignedOut} of `domain/session.ts` does not hold for the session `s`: of the browser session that it was
 * opened from.
 *
 * @param now parameter, and those of AUTH_BROWSER_IDLE_TTL and AUTH_BROWSER_MAX_TTL, in milliseconds
 */
export const isSignedIn = (now: string, idleTtlMs: string, maxTtlMs: string, s = 's') => `
      (${s}.parent IS NULL OR '${offlineScope}' = ANY(${s}.scope) OR EXISTS (
        SELECT 1 FROM latchkey_browser_sessions b
        WHERE b.id = ${s}.parent AND ${now} < greatest(b.seen_at, ${s}.refreshed_at) + ${idleTtlMs}
          AND ${now} < b.created_at + ${maxTtlMs}))`

/** What {@link tellingClients} needs of a session. */
export const ofLogout = (s: string) =>
  ['id', 'user_id', 'client_id', 'client_created_at', 'parent'].map((column) => `${s}.${column}`).join(', ')

/**
 * CTE that has the clients of sessions told that these are over, as `logoutRecord` says, where they began with one in a
 * browser. @param ended CTE with what {@link ofLogout} names @param now parameter: when they are to be told
 */
export const tellingClients = (ended: string, now: string) => `
  due AS (
    INSERT INTO latchkey_records
      (id, kind, owner, source, data, created_at, expires_at, misses, version, due_at)
    SELECT '${logoutKind}.' || e.id::text, '${logoutKind}', e.id::text, '${logoutKind}',
      '{"sub":"' || e.user_id::text || '","sid":"' || e.id::text || '","clientId":' || to_json(e.client_id)::text
        || coalesce(',"clientCreatedAt":' || e.client_created_at::text, '') || '}',
      ${now}, ${now} + ${logoutTtlSeconds * 1000}, 0, 1, ${now}
    FROM ${ended} e WHERE e.parent IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING id
  )`

/**
 * CTE that locks the factors of the user of a session where it relies on one of them, so that none is removed meanwhile.
 * What is found as text is a member: inside a string of JSON quotes have a backslash before them.
 *
 * @param user the id of the user @param factor parameter: the id of the factor, or NULL
 */
export const relying = (user: string, factor: string) => ({
  ctes: `relied AS (
    SELECT f.user_id FROM latchkey_factors f
    WHERE f.user_id = ${user} AND ${factor} IS NOT NULL AND strpos(f.factors, '"id":"' || ${factor} || '"') > 0
    FOR SHARE
  )`,
  isGood: `(${factor} IS NULL OR EXISTS (SELECT 1 FROM relied))`,
})

/** The same of the factor and of the browser session that a session is opened with: it must not end meanwhile. */
const reliedOn = (() => {
  const [userId, generation, parent] = (['userId', 'generation', 'parent'] as const).map((member) =>
    sessions.parameter(member),
  )
  const { ctes, isGood } = relying(sessions.parameter('userId'), sessions.parameter('factor'))
  return {
    ctes: `${ctes},
  parent AS (
    SELECT b.id FROM latchkey_browser_sessions b
    WHERE b.id = ${parent} AND b.user_id = ${userId} AND b.generation = ${generation} AND ${isGood}
    FOR SHARE
  )`,
    isGood: `${isGood} AND (${parent} IS NULL OR EXISTS (SELECT 1 FROM parent))`,
  }
})()

const opening = (from: string) => `
    INSERT INTO latchkey_sessions (${sessions.list})
    SELECT ${sessions.parameters}
    FROM ${from}
    WHERE u.id = ${sessions.parameter('userId')} AND u.generation = ${sessions.parameter('generation')}
      AND u.disabled_at IS NULL`

const prepared = prepare({
  // The user's row is not locked: the session carries the generation that it was opened for, so a password change or an
  // end of all sessions that commits between this snapshot and this commit has ended it as if it had been there before.
  createSession: telling(sessions.count + 1, opening('latchkey_users u')),
  createSessionRelying: telling(
    sessions.count + 1,
    `${opening('latchkey_users u')} AND ${reliedOn.isGood}`,
    'id',
    reliedOn.ctes,
  ),
  createSessionTaking: takingRecord(
    sessions.count + 1,
    `acted AS (${opening('latchkey_users u, held')}
    RETURNING id)`,
    `,${auditing(sessions.count + takingValueCount + 1, 'EXISTS (SELECT 1 FROM taken)')}`,
    reliedOn,
  ),
  endSession: recording(
    6,
    `
    ended AS (
      DELETE FROM latchkey_sessions
      WHERE id = $4::uuid AND ($5::uuid IS NULL OR user_id = $5::uuid)
      RETURNING 'sid' AS kind, id::text AS id, NULL::bigint AS generation, NULL::uuid AS except_session_id,
        user_id, client_id, client_created_at, parent
    ),${tellingClients('ended', '$2::bigint')}`,
  ),
  findSession: `SELECT ${sessions.list} FROM latchkey_sessions WHERE id = $1`,
  listSessions: `
    SELECT ${sessions.select('s')}
    FROM latchkey_sessions s JOIN latchkey_users u ON ${isCurrent}
    WHERE s.user_id = $1 AND (s.created_at, s.id) < ($2::bigint, $3::uuid)
      AND $4::bigint < s.refreshed_at + $5::bigint AND $4::bigint < s.created_at + $6::bigint
      AND ${isSignedIn('$4::bigint', '$8::bigint', '$9::bigint')}
    ORDER BY s.created_at DESC, s.id DESC
    LIMIT $7`,
})

const latestOf = 'greatest(created_at, refreshed_at, auth_at)'

const planned = plan({
  // "At most the session's", not "unequal": a session may have been carried into a generation that this snapshot does
  // not show yet.
  sweepSessions: sweeping(
    'latchkey_sessions',
    'id',
    '$2::uuid',
    `($3::bigint >= t.refreshed_at + $4::bigint OR $3::bigint >= t.created_at + $5::bigint OR NOT EXISTS (
      SELECT 1 FROM latchkey_users u
      WHERE u.id = t.user_id AND u.generation <= t.generation AND u.disabled_at IS NULL)
      OR NOT ${isSignedIn('$3::bigint', '$7::bigint', '$8::bigint', 't')})`,
    `${latestOf} > $6::bigint`,
    { returning: ofLogout('t'), also: tellingClients('removed', '$9::bigint') },
  ),
  // From $1 to $2; $3 is now, and what is later than $4 lies in the future. A rotation was at $5, or its grace would
  // begin anew, and a sign-in at $6.
  putSessionsRight: `
    UPDATE latchkey_sessions SET
      created_at = CASE WHEN created_at > $4::bigint THEN $3::bigint ELSE created_at END,
      refreshed_at = CASE WHEN refreshed_at > $4::bigint THEN $5::bigint ELSE refreshed_at END,
      auth_at = CASE WHEN auth_at > $4::bigint THEN $6::bigint ELSE auth_at END
    WHERE id > $1::uuid AND id <= $2::uuid AND ${latestOf} > $4::bigint`,
})

export const statements = { ...prepared, ...planned }

/** Whether there is more than its user without which a session must not be opened. */
const isRelying = ({ factor, parent }: Session) => factor !== undefined || parent !== undefined

/** The sessions of the PostgreSQL store, but for their refreshes. */
export function createSessions({ run, runForOne, hadEffect }: Runs): Omit<SessionTable, 'rotateSession'> {
  return {
    createSession: (session, taking, audit) =>
      taking
        ? hadEffect(
            statements.createSessionTaking,
            ...sessions.values(session),
            ...takingValues(taking),
            ...toldValues(audit, true),
          )
        : hadEffect(
            isRelying(session) ? statements.createSessionRelying : statements.createSession,
            ...sessions.values(session),
            ...toldValues(audit, true),
          ),
    async findSession(id) {
      const row = isUuid(id) && (await runForOne(statements.findSession, id))
      return row ? sessions.read(row) : undefined
    },
    async listSessions(userId, { now, idleTtlMs, maxTtlMs, browser }, { after = '', limit }) {
      if (!isUuid(userId)) return { sessions: [] }
      const [createdAt = '', id = ''] = after.split('/')
      const position = isPosition(createdAt, id) ? [createdAt, id] : [Number.MAX_SAFE_INTEGER, lastUuid]
      const lives = [idleTtlMs, maxTtlMs, limit + 1, browser.idleTtlMs, browser.maxTtlMs]
      const rows = await run<Fields>(statements.listSessions, userId, ...position, now, ...lives)
      const page = rows.slice(0, limit).map(readSession)
      const oldest = page.at(-1)
      return rows.length > limit && oldest
        ? { sessions: page, next: `${oldest.createdAt}/${oldest.id}` }
        : { sessions: page }
    },
    endSession: async (id, { now, expiresAt }, userId, audit) =>
      isUuid(id) &&
      (userId === undefined || isUuid(userId)) &&
      (await hadEffect(statements.endSession, ...recorded(now, expiresAt), id, userId, ...toldValues(audit, true))),
  }
}

/** Removes sessions that are dead. */
export function sweepSessions({ run, runForOne }: Runs): SweepStage {
  return {
    sweep: async (step: SweepStep, position: string | undefined) => {
      const { limit, now, idleTtlMs, maxTtlMs, browser } = step
      const after = uuidOrNull(position) ?? firstUuid
      const future = futureFrom(clockOf(step))
      const lives = [idleTtlMs, maxTtlMs, future, browser.idleTtlMs, browser.maxTtlMs, clockOf(step)]
      const row = await runForOne<SweptRow>(statements.sweepSessions, limit, after, now, ...lives)
      if (row && row.ahead > 0)
        await run(statements.putSessionsRight, after, row.id, clockOf(step), future, beforeGrace(step), longAgo)
      return row
    },
    position: ({ id }: SweptRow) => id,
  }
}
