import { migrate } from './migrations.ts'
import { openPool, type PoolOptions } from './pool.ts'
import { revocationLines, type Statement, statements } from './sql.ts'
import {
  everyGeneration,
  type Failures,
  judgeRotation,
  type PresentedRefresh,
  type Revocation,
  type RotationOutcome,
  type Session,
  type SigningKeyRecord,
  type Store,
  StoreUnavailable,
  type SweepStep,
  type User,
} from './store.ts'

interface UserRow {
  u_id: string
  u_username: string
  u_name_key: string
  u_password_hash: string
  u_roles: string[]
  u_created_at: number
  u_disabled_at: number | null
  u_generation: number
}

interface SessionRow {
  s_id: string
  s_user_id: string
  s_client_id: string
  s_scope: string[]
  s_generation: number
  s_counter: number
  s_created_at: number
  s_refreshed_at: number
  s_address: string
  s_user_agent: string
}

interface RevocationRow {
  line: number
  number: number
  kind: Revocation['kind']
  id: string
  generation: number | null
  except_session_id: string | null
  revoked_at: number
  expires_at: number
}

interface SigningKeyRow {
  kid: string
  alg: SigningKeyRecord['alg']
  public_jwk: string
  sealed_private_key: Buffer | null
  created_at: number
  signs_from: number
}

interface FailuresRow {
  key: string
  count: number
  last_at: number
}

const toUser = (row: UserRow): User => ({
  id: row.u_id,
  username: row.u_username,
  nameKey: row.u_name_key,
  passwordHash: row.u_password_hash,
  roles: row.u_roles,
  createdAt: row.u_created_at,
  generation: row.u_generation,
  ...(row.u_disabled_at !== null && { disabledAt: row.u_disabled_at }),
})

const toSession = (row: SessionRow): Session => ({
  id: row.s_id,
  userId: row.s_user_id,
  clientId: row.s_client_id,
  scope: row.s_scope,
  generation: row.s_generation,
  counter: row.s_counter,
  createdAt: row.s_created_at,
  refreshedAt: row.s_refreshed_at,
  address: row.s_address,
  userAgent: row.s_user_agent,
})

const toRevocation = ({ kind, id, generation, except_session_id, revoked_at, expires_at }: RevocationRow) =>
  ({
    kind,
    id,
    revokedAt: revoked_at,
    expiresAt: expires_at,
    ...(generation !== null && { generation }),
    ...(except_session_id !== null && { exceptSessionId: except_session_id }),
  }) as Revocation

const toSigningKey = (row: SigningKeyRow): SigningKeyRecord => ({
  kid: row.kid,
  alg: row.alg,
  publicJwk: row.public_jwk,
  createdAt: row.created_at,
  signsFrom: row.signs_from,
  ...(row.sealed_private_key !== null && { sealedPrivateKey: row.sealed_private_key }),
})

const toFailures = ({ count, last_at }: FailuresRow): Failures => ({ count, lastAt: last_at })

/** What is no UUID is the id of nothing; the database would not compare it but fail. */
const isUuid = (text: string) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
const uuidOrNull = (text: string | undefined) => (text !== undefined && isUuid(text) ? text : null)
const firstUuid = '00000000-0000-0000-0000-000000000000'
const lastUuid = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/** Each time it is run again, another call has moved the session on. */
const rotationTriesAtMost = 10

/**
 * The store for any number of replicas: PostgreSQL, or what speaks like it.
 *
 * Each method is one statement, and one round trip; the statements and how they stand up to races are in `sql.ts`,
 * connections, time limits and retries in `pool.ts`. The schema is brought up to date first.
 *
 * @param url `postgres://user:password@host:port,host:port/database?…`; of several hosts the first that is writable is used
 * @throws StoreUnavailable when the database cannot be reached; another error when the URL cannot be read
 */
export async function openPostgresStore(url: string, options?: PoolOptions): Promise<Store> {
  const postgres = openPool(url, options)
  try {
    await migrate(postgres)
  } catch (error) {
    await postgres.close()
    throw error
  }

  const run = <Row>(statement: Statement, ...values: unknown[]) => postgres.query<Row>(statement, values)
  const runForOne = async <Row>(statement: Statement, ...values: unknown[]) => (await run<Row>(statement, ...values))[0]
  const hadEffect = async (statement: Statement, ...values: unknown[]) => (await run(statement, ...values)).length > 0
  /** The first three values of every statement that records a revocation. */
  const recorded = (revokedAt: number, expiresAt: number) => [Math.floor(Math.random() * revocationLines), revokedAt, expiresAt]

  async function rotateSession(presented: PresentedRefresh): Promise<RotationOutcome> {
    const { sessionId, counter, now, address, userAgent, clientId, idleTtlMs, maxTtlMs, scope = [] } = presented
    for (let tries = 1; tries <= rotationTriesAtMost; tries++) {
      const row = await runForOne<SessionRow & UserRow & { is_rotated: boolean }>(
        statements.rotateSession,
        ...[sessionId, counter, now, address, userAgent, clientId, idleTtlMs, maxTtlMs, scope],
      )
      if (!row) return { outcome: 'unknown' }
      const [session, user] = [toSession(row), toUser(row)]
      if (row.is_rotated) {
        return { outcome: 'rotated', session: { ...session, counter: counter + 1, refreshedAt: now, address, userAgent }, user }
      }
      // Not rotated, so the session as it was when the statement began says why. A counter that is spent stays spent and an age
      // only grows, so a verdict upon that moment is a true one; but a verdict of `rotated` has been overtaken by another call.
      const outcome = judgeRotation(session, user, presented)
      if (outcome === 'repeated') return { outcome, session, user }
      if (outcome === 'reused') return endReusedSession(presented)
      if (outcome !== 'rotated') return { outcome }
    }
    throw new StoreUnavailable(new Error(`The session was ahead of us ${rotationTriesAtMost} times`))
  }

  /** Theft pays for a second round trip: CockroachDB takes no UPDATE and DELETE of one table in one statement. */
  async function endReusedSession({ sessionId, counter, now, revokedUntil }: PresentedRefresh): Promise<RotationOutcome> {
    const ended = await runForOne<SessionRow>(statements.endReusedSession, ...recorded(now, revokedUntil), sessionId, counter)
    return ended ? { outcome: 'reused', session: toSession(ended) } : { outcome: 'unknown' }
  }

  interface SweptRow {
    looked: number
    removed: number
    id: string
    key: string
    line: number
    number: number
  }
  /** Each stage runs from a position in its table, and says from a row where the next step goes on. */
  const stages = [
    {
      sweep: ({ limit, now, idleTtlMs, maxTtlMs }: SweepStep, after: string | undefined) =>
        runForOne<SweptRow>(statements.sweepSessions, limit, uuidOrNull(after) ?? firstUuid, now, idleTtlMs, maxTtlMs),
      position: ({ id }: SweptRow) => id,
    },
    {
      sweep: ({ limit, failuresBefore }: SweepStep, after = '') =>
        runForOne<SweptRow>(statements.sweepFailures, limit, after, failuresBefore),
      position: ({ key }: SweptRow) => key,
    },
    {
      sweep: ({ limit, now }: SweepStep, after = '-1 0') =>
        runForOne<SweptRow>(statements.sweepRevocations, limit, ...after.split(' '), now),
      position: ({ line, number }: SweptRow) => `${line} ${number}`,
    },
  ]

  return {
    name: 'pg',

    ping: async () => void (await run(statements.ping)),
    close: () => postgres.close(),

    createUser: ({ id, username, nameKey, passwordHash, roles, createdAt, disabledAt, generation }) =>
      hadEffect(statements.createUser, id, username, nameKey, passwordHash, roles, createdAt, disabledAt, generation),
    async findUser(id) {
      const row = isUuid(id) && (await runForOne<UserRow>(statements.findUser, id))
      return row ? toUser(row) : undefined
    },
    async findUserByName(nameKey) {
      const row = await runForOne<UserRow>(statements.findUserByName, nameKey)
      return row && toUser(row)
    },
    replacePasswordHash: async (id, expectedHash, passwordHash) =>
      isUuid(id) && (await hadEffect(statements.replacePasswordHash, id, expectedHash, passwordHash)),
    changePassword: async ({ userId, expectedHash, passwordHash, keepSessionId, now, expiresAt }) =>
      isUuid(userId) &&
      (await hadEffect(
        statements.changePassword,
        ...recorded(now, expiresAt),
        ...[userId, expectedHash, passwordHash, uuidOrNull(keepSessionId)],
      )),
    deleteUser: async (id, { now, expiresAt }) =>
      isUuid(id) && (await hadEffect(statements.deleteUser, ...recorded(now, expiresAt), id, everyGeneration)),

    createSession: ({ id, userId, clientId, scope, generation, counter, createdAt, refreshedAt, address, userAgent }) =>
      hadEffect(
        statements.createSession,
        ...[id, userId, clientId, scope, generation, counter, createdAt, refreshedAt, address, userAgent],
      ),
    rotateSession: async (presented) => (isUuid(presented.sessionId) ? rotateSession(presented) : { outcome: 'unknown' }),
    async findSession(id) {
      const row = isUuid(id) && (await runForOne<SessionRow>(statements.findSession, id))
      return row ? toSession(row) : undefined
    },
    async listSessions(userId, { now, idleTtlMs, maxTtlMs }, { after = '', limit }) {
      if (!isUuid(userId)) return { sessions: [] }
      const [createdAt = '', id = ''] = after.split('/')
      const isPosition = /^[0-9]{1,15}$/.test(createdAt) && isUuid(id)
      const position = isPosition ? [createdAt, id] : [Number.MAX_SAFE_INTEGER, lastUuid]
      const rows = await run<SessionRow>(statements.listSessions, userId, ...position, now, idleTtlMs, maxTtlMs, limit + 1)
      const sessions = rows.slice(0, limit).map(toSession)
      const oldest = sessions.at(-1)
      return rows.length > limit && oldest ? { sessions, next: `${oldest.createdAt}/${oldest.id}` } : { sessions }
    },
    endSession: async (id, { userId, now, expiresAt }) =>
      isUuid(id) &&
      (userId === undefined || isUuid(userId)) &&
      (await hadEffect(statements.endSession, ...recorded(now, expiresAt), id, userId)),
    endUserSessions: async (userId, { now, expiresAt }) =>
      isUuid(userId) && (await hadEffect(statements.endUserSessions, ...recorded(now, expiresAt), userId)),

    async revoke({ revokedAt, expiresAt, kind, id, ...rest }) {
      const { generation, exceptSessionId } = rest as { generation?: number; exceptSessionId?: string }
      await run(statements.revoke, ...recorded(revokedAt, expiresAt), kind, id, generation, exceptSessionId)
    },
    async revocationsSince(cursor) {
      const positions = readRevocationCursor(cursor)
      const rows = await run<RevocationRow>(statements.revocationsSince, ...positions)
      for (const { line, number } of rows) positions[line] = number
      return { revocations: rows.map(toRevocation), cursor: positions.map((position) => position.toString(36)).join('.') }
    },

    listSigningKeys: async () => (await run<SigningKeyRow>(statements.listSigningKeys)).map(toSigningKey),
    addSigningKey: ({ kid, alg, publicJwk, sealedPrivateKey, createdAt, signsFrom }, expectedNewestKid = '') =>
      hadEffect(statements.addSigningKey, kid, alg, publicJwk, sealedPrivateKey, createdAt, signsFrom, expectedNewestKid),
    removeSigningKey: async (kid) => void (await run(statements.removeSigningKey, kid)),

    async findFailures(keys) {
      const rows = await run<FailuresRow>(statements.findFailures, keys)
      const byKey = new Map(rows.map((row) => [row.key, toFailures(row)]))
      return keys.map((key) => byKey.get(key))
    },
    async recordFailure(keys, now) {
      const rows = await run<FailuresRow>(statements.recordFailure, keys, now)
      const byKey = new Map(rows.map((row) => [row.key, toFailures(row)]))
      return keys.map((key) => byKey.get(key) as Failures)
    },
    clearFailures: async (keys) => void (await run(statements.clearFailures, keys)),

    async sweep(step) {
      const [, text = '0', after] = step.cursor?.match(/^([0-9])(?: (.*))?$/s) ?? []
      const number = Number(text)
      const stage = stages[number] as (typeof stages)[number]
      const row = await stage.sweep(step, after)
      const removed = row?.removed ?? 0
      if (row?.looked === step.limit) return { removed, cursor: `${number} ${stage.position(row)}` }
      return number + 1 < stages.length ? { removed, cursor: `${number + 1}` } : { removed }
    },
  }
}

/** A cursor is the last number seen in each line. Any other text stands before the first. */
function readRevocationCursor(cursor = ''): number[] {
  const positions = cursor.split('.').map((text) => (/^[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text, 36) : Number.NaN))
  return positions.length === revocationLines && positions.every(Number.isSafeInteger) ? positions : Array(revocationLines).fill(0)
}
