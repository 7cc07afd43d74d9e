import { isUuid } from '../../../domain/ids.ts'
import { offlineScope } from '../../../domain/scope.ts'
import { futureFrom } from '../../../domain/time.ts'
import { clockOf, longAgo, type SweepStep } from '../../sweeping.ts'
import {
  type BrowserSessionTable,
  browserSessionsListed,
  childrenListed,
  type RenewedBrowserSession,
} from '../../tables/browser-sessions.ts'
import { type Fields, tables } from '../columns.ts'
import { plan, prepare, type Runs } from '../statement.ts'
import { type SweepStage, type SweptRow, sweeping } from '../sweep.ts'
import { auditing, recorded, telling, toldValues } from '../telling.ts'
import { firstUuid, uuidOrNull } from '../uuids.ts'
import { takingRecord, takingValueCount, takingValues } from './records.ts'
import { ofLogout, relying, tellingClients } from './sessions.ts'

const { browserSessions, sessions } = tables

/** Whether the user `u` may be signed in in the browser session `b`. */
const isCurrent = 'u.id = b.user_id AND u.generation = b.generation AND u.disabled_at IS NULL'

const renewedCount = 7
const renewing = (from: string) => `
      UPDATE latchkey_browser_sessions b
      SET secret_hash = $3::text, seen_at = $4::bigint, auth_at = $5::bigint, amr = $6::text[], factor = $7::text
      FROM ${from}
      WHERE b.id = $1::uuid AND b.secret_hash = $2::text AND ${isCurrent}`
const renewedValues = (renewed: RenewedBrowserSession) => {
  const { id, expectedHash, secretHash, seenAt, authAt, amr, factor } = renewed
  return [id, expectedHash, secretHash, seenAt, authAt, amr, factor]
}
const renewedRelying = relying('(SELECT o.user_id FROM latchkey_browser_sessions o WHERE o.id = $1::uuid)', '$7::text')

/** Ended by one statement, and so the numbers by which a line of revocations goes on. */
const childrenAtOnce = childrenListed

/**
 * CTEs that end the sessions of apps in `children`, but for those that outlive their parent, and have the clients of all
 * told. The children are locked in the order of their ids, as refreshes lock them.
 *
 * @param children the FROM and WHERE of those that are meant, `s`
 */
const endingChildren = (children: string) => `
  children AS (
    SELECT ${ofLogout('s')}, s.scope FROM latchkey_sessions s ${children}
    ORDER BY s.id LIMIT ${childrenAtOnce} FOR UPDATE OF s
  ),
  ended AS (
    DELETE FROM latchkey_sessions s USING children
    WHERE s.id = children.id AND NOT '${offlineScope}' = ANY(children.scope)
    RETURNING s.id
  ),${tellingClients('children', '$2::bigint')}`

/** CTEs that record the revocations of those that {@link endingChildren} has ended; the values are `recorded`. */
const recordingEnded = `
  placed AS (
    SELECT id, row_number() OVER (ORDER BY id) AS place FROM ended
  ),
  head AS (
    INSERT INTO latchkey_revocation_heads AS h (line, number)
    SELECT $1::smallint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + ${childrenAtOnce}
    FROM placed WHERE place = 1
    ON CONFLICT (line) DO UPDATE SET number = greatest(h.number + ${childrenAtOnce}, excluded.number)
    RETURNING h.line, h.number
  ),
  recorded AS (
    INSERT INTO latchkey_revocations (line, number, kind, id, revoked_at, expires_at)
    SELECT head.line, head.number - ${childrenAtOnce} + placed.place, 'sid', placed.id::text, $2::bigint, $3::bigint
    FROM head, placed
    RETURNING number
  )`

const prepared = prepare({
  createBrowserSession: takingRecord(
    browserSessions.count + 1,
    `acted AS (
    INSERT INTO latchkey_browser_sessions (${browserSessions.list})
    SELECT ${browserSessions.parameters}
    FROM latchkey_users u, held
    WHERE u.id = ${browserSessions.parameter('userId')} AND u.generation = ${browserSessions.parameter('generation')}
      AND u.disabled_at IS NULL
    RETURNING id)`,
    `,${auditing(browserSessions.count + takingValueCount + 1, 'EXISTS (SELECT 1 FROM taken)')}`,
    relying(browserSessions.parameter('userId'), browserSessions.parameter('factor')),
  ),
  findBrowserSession: `SELECT ${browserSessions.list} FROM latchkey_browser_sessions WHERE id = $1`,
  renewBrowserSession: telling(
    renewedCount + 1,
    `${renewing('latchkey_users u')} AND ${renewedRelying.isGood}`,
    'secret_hash',
    renewedRelying.ctes,
  ),
  renewBrowserSessionTaking: takingRecord(
    renewedCount + 1,
    `acted AS (${renewing('latchkey_users u, held')}
      RETURNING b.id)`,
    `,${auditing(renewedCount + takingValueCount + 1, 'EXISTS (SELECT 1 FROM taken)')}`,
    renewedRelying,
  ),
  seeBrowserSession: `
    UPDATE latchkey_browser_sessions SET seen_at = $2::bigint WHERE id = $1::uuid AND seen_at < $2::bigint`,
  listBrowserSessions: `
    SELECT ${browserSessions.select('b')}
    FROM latchkey_browser_sessions b JOIN latchkey_users u ON ${isCurrent}
    WHERE b.user_id = $1
    ORDER BY b.created_at DESC, b.id DESC
    LIMIT ${browserSessionsListed}`,
  listChildren: `SELECT ${sessions.list} FROM latchkey_sessions WHERE parent = $1 ORDER BY id LIMIT ${childrenListed}`,
  endBrowserSession: `
    WITH gone AS (
      DELETE FROM latchkey_browser_sessions b
      WHERE b.id = $4::uuid AND ($5::uuid IS NULL OR b.user_id = $5::uuid)
      RETURNING b.id
    ),${endingChildren('JOIN gone ON s.parent = gone.id')},
    ${recordingEnded},${auditing(6, 'EXISTS (SELECT 1 FROM gone)')}
    SELECT id FROM gone`,
  // Of a parent that is gone.
  endLateChildren: `
    WITH ${endingChildren(`WHERE s.parent = $4::uuid AND NOT '${offlineScope}' = ANY(s.scope)`)},
    ${recordingEnded}
    SELECT id FROM ended`,
})

const latestOf = 'greatest(created_at, seen_at, auth_at)'

const planned = plan({
  // $3 is now, and $4 and $5 are the idle and the absolute life. An app that is in use keeps its own session alive, and
  // needs its parent.
  sweepBrowserSessions: sweeping(
    'latchkey_browser_sessions',
    'id',
    '$2::uuid',
    `($3::bigint >= t.created_at + $5::bigint
      OR NOT EXISTS (
        SELECT 1 FROM latchkey_users u
        WHERE u.id = t.user_id AND u.generation <= t.generation AND u.disabled_at IS NULL)
      OR ($3::bigint >= t.seen_at + $4::bigint AND NOT EXISTS (
        SELECT 1 FROM latchkey_sessions s
        WHERE s.parent = t.id AND NOT '${offlineScope}' = ANY(s.scope) AND $3::bigint < s.refreshed_at + $4::bigint)))`,
    `${latestOf} > $6::bigint`,
  ),
  // As `putSessionsRight`.
  putBrowserSessionsRight: `
    UPDATE latchkey_browser_sessions SET
      created_at = CASE WHEN created_at > $4::bigint THEN $3::bigint ELSE created_at END,
      seen_at = CASE WHEN seen_at > $4::bigint THEN $3::bigint ELSE seen_at END,
      auth_at = CASE WHEN auth_at > $4::bigint THEN $5::bigint ELSE auth_at END
    WHERE id > $1::uuid AND id <= $2::uuid AND ${latestOf} > $4::bigint`,
})

export const statements = { ...prepared, ...planned }

const readBrowserSession = browserSessions.readAs('b')

/** People who are signed in in a browser, in the PostgreSQL store. */
export function createBrowserSessions({ run, runForOne, hadEffect }: Runs): BrowserSessionTable {
  return {
    createBrowserSession: (session, taking, audit) =>
      hadEffect(
        statements.createBrowserSession,
        ...browserSessions.values(session),
        ...takingValues(taking),
        ...toldValues(audit, true),
      ),
    async findBrowserSession(id) {
      const row = isUuid(id) && (await runForOne(statements.findBrowserSession, id))
      return row ? browserSessions.read(row) : undefined
    },
    renewBrowserSession: async (renewed, taking, audit) => {
      if (!isUuid(renewed.id)) return false
      const [values, told] = [renewedValues(renewed), toldValues(audit, true)]
      return taking
        ? hadEffect(statements.renewBrowserSessionTaking, ...values, ...takingValues(taking), ...told)
        : hadEffect(statements.renewBrowserSession, ...values, ...told)
    },
    seeBrowserSession: async (id, seenAt) => void (isUuid(id) && (await run(statements.seeBrowserSession, id, seenAt))),
    listBrowserSessions: async (userId) =>
      isUuid(userId) ? (await run<Fields>(statements.listBrowserSessions, userId)).map(readBrowserSession) : [],
    listChildren: async (parent) =>
      isUuid(parent) ? (await run<Fields>(statements.listChildren, parent)).map(sessions.read) : [],
    async endBrowserSession(id, { now, expiresAt }, userId, audit) {
      if (!isUuid(id) || (userId !== undefined && !isUuid(userId))) return false
      const told = toldValues(audit, true)
      const isEnded = await hadEffect(statements.endBrowserSession, ...recorded(now, expiresAt), id, userId, ...told)
      // A session that was opened while this waited for its parent is not in the snapshot of the end. It is not refreshed.
      while (isEnded && (await hadEffect(statements.endLateChildren, ...recorded(now, expiresAt), id)));
      return isEnded
    },
  }
}

/** Removes those that are over. The sessions of apps that end with them are swept after them. */
export function sweepBrowserSessions({ run, runForOne }: Runs): SweepStage {
  return {
    sweep: async (step: SweepStep, position: string | undefined) => {
      const { limit, now, browser } = step
      const after = uuidOrNull(position) ?? firstUuid
      const [clock, future] = [clockOf(step), futureFrom(clockOf(step))]
      const lives = [browser.idleTtlMs, browser.maxTtlMs]
      const row = await runForOne<SweptRow>(statements.sweepBrowserSessions, limit, after, now, ...lives, future)
      if (row && row.ahead > 0) await run(statements.putBrowserSessionsRight, after, row.id, clock, future, longAgo)
      return row
    },
    position: ({ id }: SweptRow) => id,
  }
}
