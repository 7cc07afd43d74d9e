import type { Audit } from '../../domain/audit.ts'
import { type FailureKey, type Failures, noneHeld } from '../../domain/failures.ts'
import { isUuid } from '../../domain/ids.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { RecordTaking } from '../../domain/record.ts'
import { everyGeneration, namesOne, type Revocation } from '../../domain/revocation.ts'
import { judgeRotation, type PresentedRefresh, type RotationOutcome } from '../../domain/session.ts'
import { futureFrom } from '../../domain/time.ts'
import { createHealth, writeTrial } from '../health.ts'
import { createPatience } from '../patience.ts'
import { type Store, StoreUnavailable } from '../store.ts'
import { beforeGrace, clockOf, type SweepStep, type SweptTable, sweptTables } from '../sweeping.ts'
import { revocationsPerPage } from '../tables/revocations.ts'
import { type UserPage, usersLookedAt } from '../tables/users.ts'
import { createPostgresAudit, toldValues } from './audit.ts'
import { createImports } from './imports.ts'
import { migrate } from './migrations.ts'
import { openPool, type PoolOptions, type Postgres } from './pool.ts'
import { createRotations } from './rotations.ts'
import { revocationLines, type Statement, statements } from './sql.ts'
import { type Fields, firstUuid, revocations, tables } from './tables.ts'
import { createPostgresTransfer } from './transfer.ts'

const { users, clients, sessions, signingKeys, failures, records } = tables
/** Where a statement returns both. */
const [readSession, readUser] = [sessions.readAs('s'), users.readAs('u')]

const lastUuid = 'ffffffff-ffff-ffff-ffff-ffffffffffff'
/** Sorts behind every character of a name. */
const lastCharacter = '\u{10ffff}'

/**
 * Adds what the request said to what `rotated` of `sql.ts` returns. The user is current, or nothing would have been
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

/** Retries when a concurrent call took the slot. */
const issueTriesAtMost = 50

/**
 * The store for any number of replicas: PostgreSQL, or what speaks like it.
 *
 * Each method is one statement and one round trip, but for a refresh that is refused or repeated; concurrent refreshes
 * share a statement. The statements and how they stand up to races are in `sql.ts`; connections, time limits and
 * retries in `pool.ts`. The schema is migrated first.
 *
 * @param url `postgres://user:password@host:port,host:port/database?…`; of several hosts the first that is writable is
 *   used
 * @throws StoreUnavailable when the database cannot be reached; another error when the URL cannot be read
 */
export async function openPostgresStore(url: string, options?: PoolOptions): Promise<Store> {
  const health = createHealth(
    async () => void (await postgres.query(statements.ping, [])),
    () => writeTrial(store),
  )
  const postgres = openPool(url, { ...options, hasFailed: health.hasFailed })
  let isNew: boolean
  try {
    isNew = await migrate(postgres)
  } catch (error) {
    await postgres.close()
    throw error
  }

  const store: Store = { ...createMethods(postgres, isNew), ping: health.ping }
  return store
}

/** What the store does. @param postgres connections, or a transaction on one */
export function createMethods(postgres: Postgres, isNew: boolean): Omit<Store, 'ping'> {
  const run = <Row>(statement: Statement, ...values: unknown[]) => postgres.query<Row>(statement, values)
  const runForOne = async <Row = Fields>(statement: Statement, ...values: unknown[]) =>
    (await run<Row>(statement, ...values))[0]
  const hadEffect = async (statement: Statement, ...values: unknown[]) => (await run(statement, ...values)).length > 0
  const newLine = () => Math.floor(Math.random() * revocationLines)
  /** The first three values of every statement that records a revocation. */
  const recorded = (revokedAt: number, expiresAt: number) => [newLine(), revokedAt, expiresAt]

  const rotate = createRotations(run)
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
      const outcome = judgeRotation(session, user, presented)
      if (outcome === 'repeated') return { outcome, session, user }
      if (outcome === 'reused') return endReusedSession(presented, end, toldValues(audit, { outcome, session }))
      if (outcome !== 'rotated') return { outcome }
    }
    throw new StoreUnavailable(new Error(`The session was ahead of us ${rotationTriesAtMost} times`))
  }

  const patiently = createPatience()
  const audit = createPostgresAudit(run)

  async function listUsersByName({ after = '', limit, prefix = '', createdAfter }: UserPage) {
    const lookedAt = createdAfter === undefined ? limit : usersLookedAt
    const values = [after, prefix, `${prefix}${lastCharacter}`, lookedAt, createdAfter ?? -1]
    const rows = await run<Fields & { place: number }>(statements.listUsersByName, ...values)
    const looked = rows.map(users.read)
    const found = looked.filter((user) => user.createdAt > (createdAfter ?? -1)).slice(0, limit)
    const isMore = found.length === limit || rows.at(-1)?.place === lookedAt
    const last = (found.length === limit ? found : looked).at(-1)
    return { users: found, ...(isMore && last && { next: last.nameKey }) }
  }

  async function listUsersByCreation({ after, limit, createdAfter = -1 }: UserPage) {
    const [createdAt = '', id = ''] = after?.split('/') ?? []
    const position = isPosition(createdAt, id) ? [createdAt, id] : [createdAfter, lastUuid]
    const page = (await run<Fields>(statements.listUsersByCreation, ...position, limit)).map(users.read)
    const last = page.at(-1)
    return page.length === limit && last ? { users: page, next: `${last.createdAt}/${last.id}` } : { users: page }
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

  interface SweptRow {
    looked: number
    removed: number
    /** rows with times in the future */
    ahead: number
    id: string
    key: string
    line: number
    number: number
  }
  interface SweepStage {
    sweep(step: SweepStep, position: string | undefined): Promise<Pick<SweptRow, 'looked' | 'removed'> | undefined>
    // biome-ignore lint/suspicious/noExplicitAny: the row that this stage's sweep returned
    position(row: any): string
  }
  /** Each stage runs from a position in its table, and says from a row where the next step goes on. */
  const stages: SweepStage[] = [
    {
      sweep: async (step: SweepStep, position: string | undefined) => {
        const { limit, now, idleTtlMs, maxTtlMs } = step
        const after = uuidOrNull(position) ?? firstUuid
        const future = futureFrom(clockOf(step))
        const row = await runForOne<SweptRow>(statements.sweepSessions, limit, after, now, idleTtlMs, maxTtlMs, future)
        if (row && row.ahead > 0)
          await run(statements.putSessionsRight, after, row.id, clockOf(step), future, beforeGrace(step))
        return row
      },
      position: ({ id }: SweptRow) => id,
    },
    {
      sweep: async (step: SweepStep, after = '') => {
        const { limit, failuresBefore } = step
        const future = futureFrom(clockOf(step))
        const row = await runForOne<SweptRow>(statements.sweepFailures, limit, after, failuresBefore, future)
        if (row && row.ahead > 0) await run(statements.putFailuresRight, after, row.key, clockOf(step), future)
        return row
      },
      position: ({ key }: SweptRow) => key,
    },
    {
      sweep: ({ limit, now, revocationsBefore = now }: SweepStep, after = '-1 0') =>
        runForOne<SweptRow>(statements.sweepRevocations, limit, ...after.split(' '), revocationsBefore),
      position: ({ line, number }: SweptRow) => `${line} ${number}`,
    },
    {
      sweep: async (step: SweepStep, after = '') => {
        const future = futureFrom(clockOf(step))
        const row = await runForOne<SweptRow>(statements.sweepRecords, step.limit, after, step.now, future)
        if (row && row.ahead > 0) await run(statements.putRecordsRight, after, row.id, clockOf(step), future)
        return row
      },
      position: ({ id }: SweptRow) => id,
    },
    { sweep: audit.sweep, position: () => '' },
  ]

  return {
    name: 'pg',
    product: 'PostgreSQL',
    isNew,

    close: () => postgres.close(),

    createUser: (user, audit) => hadEffect(statements.createUser, ...users.values(user), ...toldValues(audit, true)),
    async findUser(id) {
      const row = isUuid(id) && (await runForOne(statements.findUser, id))
      return row ? users.read(row) : undefined
    },
    async findUserByName(nameKey) {
      const row = await runForOne(statements.findUserByName, nameKey)
      return row && users.read(row)
    },
    replacePasswordHash: async (id, expectedHash, passwordHash) =>
      isUuid(id) && (await hadEffect(statements.replacePasswordHash, id, expectedHash, passwordHash)),
    changePassword: async ({ userId, expectedHash, passwordHash, keepSessionId }, { now, expiresAt }, audit) =>
      isUuid(userId) &&
      (await hadEffect(
        statements.changePassword,
        ...recorded(now, expiresAt),
        ...[userId, expectedHash, passwordHash, uuidOrNull(keepSessionId)],
        ...toldValues(audit, true),
      )),
    deleteUser: async (id, { now, expiresAt }, audit) =>
      isUuid(id) &&
      (await hadEffect(
        statements.deleteUser,
        ...recorded(now, expiresAt),
        id,
        everyGeneration,
        ...toldValues(audit, true),
      )),
    disableUser: async (id, { now, expiresAt }, audit) =>
      isUuid(id) &&
      (await hadEffect(statements.disableUser, ...recorded(now, expiresAt), id, ...toldValues(audit, true))),
    enableUser: async (id, audit) =>
      isUuid(id) && (await hadEffect(statements.enableUser, id, ...toldValues(audit, true))),
    setRoles: async ({ userId, expectedRoles, roles }, end, audit) => {
      const values = [userId, expectedRoles, roles, ...toldValues(audit, true)]
      return (
        isUuid(userId) &&
        (end
          ? hadEffect(statements.setRolesAndEnd, ...recorded(end.now, end.expiresAt), ...values)
          : hadEffect(statements.setRoles, ...values))
      )
    },
    listUsers: (page) =>
      page.prefix === undefined && page.createdAfter !== undefined ? listUsersByCreation(page) : listUsersByName(page),

    importUsers: createImports(postgres, newLine),

    createClient: (client, audit) =>
      hadEffect(statements.createClient, ...clients.values(client), ...toldValues(audit, true)),
    async findClient(id) {
      const row = await runForOne(statements.findClient, id)
      return row && clients.read(row)
    },
    async listClients({ after = '', limit }) {
      const page = (await run<Fields>(statements.listClients, after, limit)).map(clients.read)
      const last = page.at(-1)
      return page.length === limit && last ? { clients: page, next: last.id } : { clients: page }
    },
    replaceClient: (client, end, audit) => {
      const values = [...clients.values(client), ...toldValues(audit, true)]
      return end
        ? hadEffect(statements.replaceClientAndEnd, ...recorded(end.now, end.expiresAt), ...values)
        : hadEffect(statements.replaceClient, ...values)
    },
    deleteClient: (id, { now, expiresAt }, audit) =>
      hadEffect(statements.deleteClient, ...recorded(now, expiresAt), id, ...toldValues(audit, true)),

    createSession: (session, taking, audit) =>
      taking
        ? hadEffect(
            statements.createSessionTaking,
            ...sessions.values(session),
            ...takingValues(taking),
            ...toldValues(audit, true),
          )
        : hadEffect(statements.createSession, ...sessions.values(session), ...toldValues(audit, true)),
    rotateSession: async (presented, end, _onDecided, audit) =>
      isUuid(presented.sessionId)
        ? patiently(presented, (patient) => rotateSession(patient, end, audit))
        : { outcome: 'unknown' },
    async findSession(id) {
      const row = isUuid(id) && (await runForOne(statements.findSession, id))
      return row ? sessions.read(row) : undefined
    },
    async listSessions(userId, { now, idleTtlMs, maxTtlMs }, { after = '', limit }) {
      if (!isUuid(userId)) return { sessions: [] }
      const [createdAt = '', id = ''] = after.split('/')
      const position = isPosition(createdAt, id) ? [createdAt, id] : [Number.MAX_SAFE_INTEGER, lastUuid]
      const rows = await run<Fields>(statements.listSessions, userId, ...position, now, idleTtlMs, maxTtlMs, limit + 1)
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
    endUserSessions: async (userId, { now, expiresAt }, audit) =>
      isUuid(userId) &&
      (await hadEffect(statements.endUserSessions, ...recorded(now, expiresAt), userId, ...toldValues(audit, true))),

    async revoke(revocation, audit) {
      const { revokedAt, expiresAt, kind, id, ...rest } = revocation
      const { generation, exceptSessionId } = rest as { generation?: number; exceptSessionId?: string }
      return hadEffect(
        statements.revoke,
        ...recorded(revokedAt, expiresAt),
        kind,
        id,
        generation,
        exceptSessionId,
        namesOne(revocation),
        ...toldValues(audit, true),
      )
    },
    async revocationsSince(cursor, limit = revocationsPerPage) {
      const positions = readRevocationCursor(cursor)
      const ofEachLine = Math.max(1, Math.floor(limit / revocationLines))
      const rows = await run<Fields & { line: number; number: number }>(
        statements.revocationsSince,
        ...positions,
        ofEachLine,
      )
      const counts = Array<number>(revocationLines).fill(0)
      for (const { line, number } of rows) {
        positions[line] = Math.max(positions[line] as number, number)
        counts[line] = (counts[line] as number) + 1
      }
      return {
        revocations: rows.map(revocations.read) as Revocation[],
        cursor: positions.map((position) => position.toString(36)).join('.'),
        more: counts.includes(ofEachLine),
      }
    },

    listSigningKeys: async () => (await run<Fields>(statements.listSigningKeys)).map(signingKeys.read),
    addSigningKey: (key, expectedNewestKid = '', audit) =>
      hadEffect(statements.addSigningKey, ...signingKeys.values(key), expectedNewestKid, ...toldValues(audit, true)),
    removeSigningKey: (kid, audit) => hadEffect(statements.removeSigningKey, kid, ...toldValues(audit, true)),
    resealSigningKey: (kid, expected, sealed) => hadEffect(statements.resealSigningKey, kid, expected, sealed),
    async withdrawSigningKeys(kids, { now, expiresAt }, audit) {
      const values = [...recorded(now, expiresAt), kids, kids.length, ...toldValues(audit, kids)]
      return (await run<{ kid: string }>(statements.withdrawSigningKeys, ...values)).map(({ kid }) => kid)
    },

    async findFailures(keys) {
      const rows = await run<Fields>(
        statements.findFailures,
        keys.map(({ key }) => key),
      )
      return countsOf(keys, rows)
    },
    recordFailure: async (keys, now, held = noneHeld) =>
      countsOf(
        keys,
        await run(statements.recordFailure, ...keysAndTags(keys), now, held.count, held.since, held.until),
      ),
    capFailures: async (keys, now) => void (await run(statements.capFailures, ...keysAndTags(keys), now)),
    clearFailures: async (keys) => void (await run(statements.clearFailures, ...keysAndTags(keys))),

    async issueRecord(record, { perOwner, perSource }) {
      const { kind, owner, source, createdAt } = record
      for (let tries = 1; tries <= issueTriesAtMost; tries++) {
        const start = Math.floor(Math.random() * 2 ** 31)
        const { issued = 0, free = 0 } =
          (await runForOne<{ issued: number; free: number }>(
            statements.issueRecord,
            ...records.values(record),
            perOwner,
            perSource,
            start,
          )) ?? {}
        if (issued > 0) return true
        if (free > 0) continue
        if (!(await hadEffect(statements.removeExpiredRecords, kind, owner, source, createdAt))) return false
      }
      throw new StoreUnavailable(new Error(`Others took the slot ${issueTriesAtMost} times`))
    },
    async findRecord({ kind, id, now }) {
      const row = await runForOne(statements.findRecord, kind, id, now)
      return row && records.read(row)
    },
    async takeRecord(taking) {
      const row = await runForOne(statements.takeRecord, ...takingValues(taking))
      return row && records.read(row)
    },
    missRecord: async ({ kind, id, now }, most) =>
      (await runForOne<{ misses: number }>(statements.missRecord, kind, id, now, most))?.misses,
    replaceRecord: ({ kind, id, now }, expectedVersion, data) =>
      hadEffect(statements.replaceRecord, kind, id, now, expectedVersion, data),
    endRecords: async (owner, kinds) => (await run(statements.endRecords, owner, kinds)).length,
    removeRecord: async (id) => void (await run(statements.removeRecord, id)),

    ...audit.methods,

    async sweep(step) {
      const [, text = '0', after] = step.cursor?.match(/^([0-9])(?: (.*))?$/s) ?? []
      const number = Number(text)
      const stage = stages[number] as SweepStage
      const row = await stage.sweep(step, after)
      const swept = { table: sweptTables[number] as SweptTable, removed: row?.removed ?? 0 }
      if (row?.looked === step.limit) return { ...swept, cursor: `${number} ${stage.position(row)}` }
      return number + 1 < stages.length ? { ...swept, cursor: `${number + 1}` } : swept
    },
    usage: () => postgres.usage(),

    ...createPostgresTransfer(run),
    snapshot: (work) =>
      postgres.transaction('ISOLATION LEVEL REPEATABLE READ READ ONLY', (query) =>
        work(createMethods({ ...postgres, query }, isNew)),
      ),
  }
}

/** The values of `takingRecord`. What is not to be kept has expired with the taking. */
const takingValues = ({ kind, id, now, keep }: RecordTaking) => [kind, id, now, keep?.gave, keep?.until ?? now]

/** Whether two texts are where a page ordered by creation ends. */
const isPosition = (createdAt: string, id: string) => /^[0-9]{1,15}$/.test(createdAt) && isUuid(id)

const uuidOrNull = (text: string | undefined) => (text !== undefined && isUuid(text) ? text : null)

/** As two arrays, for `unnest`. */
const keysAndTags = (keys: FailureKey[]) => [keys.map(({ key }) => key), keys.map(({ tag }) => tag ?? null)]

function countsOf(keys: FailureKey[], rows: Fields[]): (Failures | undefined)[] {
  const byKey = new Map<string, Failures>()
  for (const { key, ...counted } of rows.map(failures.read)) byKey.set(key, counted)
  return keys.map(({ key, tag }) => {
    const failures = byKey.get(key)
    return failures?.tag === tag ? failures : undefined
  })
}

/** A cursor is the last number seen in each line. Any other text stands before the first. */
function readRevocationCursor(cursor = ''): number[] {
  const positions = cursor
    .split('.')
    .map((text) => (/^[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text, 36) : Number.NaN))
  return positions.length === revocationLines && positions.every(Number.isSafeInteger)
    ? positions
    : Array(revocationLines).fill(0)
}
