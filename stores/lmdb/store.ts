import { statfsSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Database } from 'lmdb'
import type { Audit } from '../../domain/audit.ts'
import { type FailureKey, type Failures, isHeld, noneHeld } from '../../domain/failures.ts'
import type { End } from '../../domain/lifetimes.ts'
import type { ShortRecord } from '../../domain/record.ts'
import { everyGeneration, type Revocation } from '../../domain/revocation.ts'
import {
  isCurrent,
  isExpired,
  judgeRotation,
  type PresentedRefresh,
  type RotationOutcome,
  type Session,
} from '../../domain/session.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'
import { isFuture } from '../../domain/time.ts'
import type { User } from '../../domain/user.ts'
import { listAudit } from '../audit.ts'
import { createHealth, writeTrial } from '../health.ts'
import { createPatience } from '../patience.ts'
import { type Store, StoreUnavailable } from '../store.ts'
import { beforeGrace, clockOf, type SweepStep, type SweptTable, sweptTables } from '../sweeping.ts'
import { revocationsPerPage } from '../tables/revocations.ts'
import { createLmdbAudit } from './audit.ts'
import { openDatabases } from './databases.ts'
import { openEnvironment } from './open.ts'
import { createLmdbRecords } from './records.ts'
import { createLmdbRevocations } from './revocations.ts'
import { countTransactions } from './transactions.ts'
import { byUserKey, createLmdbReads, createLmdbTransfer, uuidLength } from './transfer.ts'
import { causeOf, isPanic, whyUnavailable } from './unavailable.ts'
import { createUserIndexing, createUserLists } from './user-lists.ts'
import { createLmdbUsers } from './users.ts'

/** One table of a sweep. */
interface Stage {
  // biome-ignore lint/suspicious/noExplicitAny: the tables have rows and keys of different types
  table: Database<any, any>
  isDue(row: unknown, step: SweepStep): boolean
  /** @returns whether the row is gone; else its times were put right */
  sweep(key: unknown, row: unknown, step: SweepStep): boolean
}

/** Below the five seconds within which a caller must have its 503. */
const commitMs = 4_500
/** Of a sweep: as many are looked at and removed in a millisecond or two, and then requests have their turn. */
const rowsAtOnce = 50

/** Sorts behind every UUID, so that a range `[prefix, prefix + last]` holds all keys that begin with the prefix. */
const last = '\uffff'

/**
 * The embedded store: one LMDB environment in a directory, which several processes on the machine may open at once.
 *
 * LMDB has one writer across all processes, so a transaction callback is the atomic step. Callbacks queued in the same
 * turn share a commit and an `fdatasync` (group commit), and each promise resolves after that sync. A callback must
 * decide before its first write: lmdb-js commits what a callback wrote before it threw.
 *
 * @param dataDir directory, made when missing, and with it a store. Where this process may have opened it before, see
 *   `betweenTransactions`, as `openStore` does
 * @throws {StoreDamaged} when the store is damaged
 * @throws {NodeJS.ErrnoException} when the directory cannot be made, written or locked
 */
export function openLmdbStore(dataDir: string): Store {
  const { root, tables, isNew } = openEnvironment(dataDir, openDatabases)
  const { users, usersByName, clients, sessions, sessionsByUser, signingKeys } = tables
  const userRows = createLmdbUsers(tables)
  const userLists = createUserLists(tables)
  const { failures, revocations, revocationsById, counters } = tables

  const underWay = countTransactions(dataDir)
  let closed = false
  let breaks: (line: string) => void = () => {}
  let isBroken = false
  const broken = new Promise<string>((resolve) => {
    breaks = resolve
  })

  async function run<T>(what: 'read' | 'written', work: () => T | Promise<T>): Promise<T> {
    if (closed || isBroken) throw new StoreUnavailable(new Error('The store is closed'))
    try {
      return await work()
    } catch (error) {
      health.hasFailed()
      // What is queued behind a commit that broke LMDB would never be answered, so nothing more may be.
      if (what === 'written') await read(() => void root.getStats()).catch(() => {})
      const cause = await causeOf(error)
      const line = whyUnavailable(dataDir, cause, what)
      if (isPanic(cause)) {
        isBroken = true
        underWay.release()
        breaks(line)
      }
      throw new StoreUnavailable(cause, line)
    }
  }
  /** Begins a new snapshot: lmdb-js would reuse the last one, and miss what another process has committed since. */
  const read = <T>(work: () => T): Promise<T> =>
    run('read', () => {
      root.resetReadTxn()
      return work()
    })
  const write = <T>(callback: () => T): Promise<T> =>
    run('written', () => inTime(underWay.during(root.transaction(callback))))
  /** A change with its audit rows, which are made before anything is written, for to make them may fail. */
  async function change(audit: Audit<boolean> | undefined, callback: () => boolean): Promise<boolean> {
    const told = audit?.(true) ?? []
    return write(() => {
      const hasChanged = callback()
      if (hasChanged) audits.add(told)
      return hasChanged
    })
  }

  /**
   * A process that was killed in the middle of a read, such as a command, is a reader until somebody looks. No page that
   * it could see is used again meanwhile, and the file grows with each write.
   */
  const forgetDeadReaders = () => void root.readerCheck()

  const {
    record,
    isRecorded,
    remove: removeRevocation,
    since,
  } = createLmdbRevocations({ revocations, revocationsById, counters })
  const records = createLmdbRecords(tables)
  const audits = createLmdbAudit(tables)
  const transfer = createLmdbTransfer(tables, read, write)
  const removeRecord = (id: string) => write(() => records.remove(id))
  const health = createHealth(
    () => read(() => void root.getStats()),
    () => writeTrial({ importRows: transfer.importRows, removeRecord }),
  )
  const patiently = createPatience()
  function removeSession(session: Session): void {
    sessions.remove(session.id)
    sessionsByUser.remove(byUserKey(session))
  }
  /** Sets the creation of `next`, a new version of a session, to now where it lies in the future. */
  function putRight(session: Session, next: Session, now: number): void {
    if (!isFuture(session.createdAt, now)) return
    next.createdAt = now
    sessionsByUser.remove(byUserKey(session))
    sessionsByUser.put(byUserKey(next), 0)
  }
  function beginGeneration(user: User, { now: revokedAt, expiresAt }: End, kept?: Session): void {
    const next = { ...user, generation: user.generation + 1 }
    users.put(user.id, next)
    if (kept) sessions.put(kept.id, { ...kept, generation: next.generation })
    record({
      kind: 'user',
      id: user.id,
      generation: next.generation,
      ...(kept && { exceptSessionId: kept.id }),
      revokedAt,
      expiresAt,
    })
  }

  function failuresOf({ key, tag }: FailureKey): Failures | undefined {
    const row = failures.get(key)
    return row?.tag === tag ? row : undefined
  }

  /** Only inside a transaction. */
  function rotate(presented: PresentedRefresh, end: End, audit?: Audit<RotationOutcome>): RotationOutcome {
    const session = sessions.get(presented.sessionId)
    const user = session && users.get(session.userId)
    const outcome = judgeRotation(session, user, presented)
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
        return { outcome, session, user }
      case 'reused': {
        const told = audit?.({ outcome, session }) ?? []
        removeSession(session)
        record({ kind: 'sid', id: session.id, revokedAt: end.now, expiresAt: end.expiresAt })
        audits.add(told)
        return { outcome, session }
      }
      default:
        return { outcome }
    }
  }

  const isDead = (session: Session, step: SweepStep) =>
    !isCurrent(session, users.get(session.userId)) || isExpired(session, step)
  const stages = [
    {
      table: sessions,
      isDue: (session: Session, step: SweepStep) => isDead(session, step) || isFuture(latestOf(session), clockOf(step)),
      sweep(_key: string, session: Session, step: SweepStep) {
        if (isDead(session, step)) removeSession(session)
        else {
          const next = { ...session }
          if (isFuture(session.refreshedAt, clockOf(step))) next.refreshedAt = beforeGrace(step)
          putRight(session, next, clockOf(step))
          sessions.put(session.id, next)
        }
        return isDead(session, step)
      },
    },
    {
      table: failures,
      isDue: ({ lastAt }: Failures, step: SweepStep) => lastAt < step.failuresBefore || isFuture(lastAt, clockOf(step)),
      sweep(key: string, failed: Failures, step: SweepStep) {
        const isOld = failed.lastAt < step.failuresBefore
        if (isOld) failures.remove(key)
        else failures.put(key, { ...failed, lastAt: clockOf(step) })
        return isOld
      },
    },
    {
      table: revocations,
      isDue: ({ expiresAt }: Revocation, step: SweepStep) => expiresAt <= (step.revocationsBefore ?? step.now),
      sweep(number: number, revocation: Revocation) {
        removeRevocation(number, revocation)
        return true
      },
    },
    {
      table: tables.records,
      isDue: ({ createdAt, expiresAt }: ShortRecord, step: SweepStep) =>
        expiresAt <= step.now || isFuture(createdAt, clockOf(step)),
      sweep(id: string, record: ShortRecord, step: SweepStep) {
        const isOld = record.expiresAt <= step.now
        const createdAt = clockOf(step)
        if (isOld) records.remove(id)
        else records.put({ ...record, createdAt, expiresAt: createdAt + record.expiresAt - record.createdAt })
        return isOld
      },
    },
  ] as Stage[]

  /** Of the oldest rows alone: to look at all of them would take hours. */
  async function sweepAudit(step: SweepStep) {
    const swept = { table: 'audit' as const, removed: 0 }
    for (let looked = 0; looked < step.limit; looked += rowsAtOnce) {
      const limit = Math.min(rowsAtOnce, step.limit - looked)
      const { removed, looked: found } = await write(() => audits.sweep(step, limit))
      swept.removed += removed
      if (found < limit) return swept
      await nextTurn()
    }
    return { ...swept, cursor: `${sweptTables.indexOf('audit')}` }
  }

  return {
    name: 'lmdb',
    product: 'LMDB',
    isNew,

    broken,

    ping: health.ping,
    async close() {
      if (closed) return
      closed = true
      if (!isBroken) await root.close()
      underWay.release()
    },

    createUser: (user, audit) =>
      change(audit, () => {
        if (userRows.isTaken(user)) return false
        userRows.put(user)
        return true
      }),
    findUser: (id) => read(() => users.get(id)),
    findUserByName: (nameKey) =>
      read(() => {
        const id = usersByName.get(nameKey)
        return id === undefined ? undefined : users.get(id)
      }),
    replacePasswordHash: (id, expectedHash, passwordHash) =>
      write(() => {
        const user = users.get(id)
        if (user?.passwordHash !== expectedHash) return false
        users.put(id, { ...user, passwordHash })
        return true
      }),
    changePassword: ({ userId, expectedHash, passwordHash, keepSessionId }, end, audit) =>
      change(audit, () => {
        const user = users.get(userId)
        if (user?.passwordHash !== expectedHash) return false
        const kept = keepSessionId === undefined ? undefined : sessions.get(keepSessionId)
        const isKept = kept?.userId === userId && kept.generation === user.generation
        beginGeneration({ ...user, passwordHash }, end, isKept ? kept : undefined)
        return true
      }),
    deleteUser: (id, { now, expiresAt }, audit) =>
      change(audit, () => {
        const user = users.get(id)
        if (!user) return false
        userRows.remove(user)
        record({ kind: 'user', id, generation: everyGeneration, revokedAt: now, expiresAt })
        return true
      }),
    disableUser: (id, end, audit) =>
      change(audit, () => {
        const user = users.get(id)
        if (!user) return false
        beginGeneration({ ...user, disabledAt: end.now }, end)
        return true
      }),
    enableUser: (id, audit) =>
      change(audit, () => {
        const { disabledAt: _, ...user } = users.get(id) ?? {}
        if (!('id' in user)) return false
        users.put(id, user as User)
        return true
      }),
    setRoles: ({ userId, expectedRoles, roles }, end, audit) =>
      change(audit, () => {
        const user = users.get(userId)
        if (!user || !isDeepStrictEqual(user.roles, expectedRoles)) return false
        if (end) beginGeneration({ ...user, roles }, end)
        else users.put(userId, { ...user, roles })
        return true
      }),
    async listUsers(page) {
      const listed = await read(() => userLists.list(page))
      if ('users' in listed) return listed
      const percent = Math.floor(listed.indexedShare * 100)
      throw new StoreUnavailable(undefined, `the index of users by creation is being made: ${percent} % are in it`)
    },

    importUsers: (rows, onConflict, end) =>
      (end ? write : read)(() => {
        const { outcomes, made, updated } = userRows.planImport(rows, onConflict)
        if (!end) return outcomes
        for (const user of made) userRows.put(user)
        for (const { before, user, endsSessions } of updated) {
          userRows.put(user, before)
          const { id, generation } = user
          if (endsSessions) record({ kind: 'user', id, generation, revokedAt: end.now, expiresAt: end.expiresAt })
        }
        return outcomes
      }),

    createClient: (client, audit) =>
      change(audit, () => {
        if (clients.doesExist(client.id)) return false
        clients.put(client.id, client)
        return true
      }),
    findClient: (id) => read(() => clients.get(id)),
    listClients: ({ after, limit }) =>
      read(() => {
        const start = after !== undefined && { start: after, exclusiveStart: true }
        const page = [...clients.getRange({ ...start, limit })].map(({ value }) => value)
        const last = page.at(-1)
        return page.length === limit && last ? { clients: page, next: last.id } : { clients: page }
      }),
    replaceClient: (client, end, audit) =>
      change(audit, () => {
        const { id, generation } = client
        if (clients.get(id)?.generation !== generation - 1) return false
        clients.put(id, client)
        if (end) record({ kind: 'client', id, generation, revokedAt: end.now, expiresAt: end.expiresAt })
        return true
      }),
    deleteClient: (id, { now, expiresAt }, audit) =>
      change(audit, () => {
        const client = clients.get(id)
        if (!client) return false
        clients.remove(id)
        record({ kind: 'client', id, generation: client.generation + 1, revokedAt: now, expiresAt })
        return true
      }),

    createSession: (session, taking, audit) =>
      change(audit, () => {
        if (!isCurrent(session, users.get(session.userId))) return false
        if (taking && !records.take(taking)) return false
        sessions.put(session.id, session)
        sessionsByUser.put(byUserKey(session), 0)
        return true
      }),
    rotateSession: (presented, end, onDecided, audit) =>
      patiently(presented, (patient) =>
        write(() => {
          const outcome = rotate(patient, end, audit)
          // After the transaction's callbacks, when the disk is written to and this thread would only wait.
          if (onDecided) setImmediate(onDecided, outcome)
          return outcome
        }),
      ),
    findSession: (id) => read(() => sessions.get(id)),
    listSessions: (userId, live, { after, limit }) =>
      read(() => {
        const user = users.get(userId)
        const found: Session[] = []
        const newestFirst = {
          start: `${userId}/${after ?? last}`,
          end: `${userId}/`,
          reverse: true,
          exclusiveStart: true,
        }
        for (const key of sessionsByUser.getKeys(newestFirst)) {
          const session = sessions.get(key.slice(-uuidLength))
          if (!session || !isCurrent(session, user) || isExpired(session, live)) continue
          if (found.length === limit)
            return { sessions: found, next: byUserKey(found.at(-1) as Session).slice(userId.length + 1) }
          found.push(session)
        }
        return { sessions: found }
      }),
    endSession: (id, { now, expiresAt }, userId, audit) =>
      change(audit, () => {
        const session = sessions.get(id)
        if (!session || (userId !== undefined && session.userId !== userId)) return false
        removeSession(session)
        record({ kind: 'sid', id, revokedAt: now, expiresAt })
        return true
      }),
    endUserSessions: (userId, end, audit) =>
      change(audit, () => {
        const user = users.get(userId)
        if (!user) return false
        beginGeneration(user, end)
        return true
      }),

    revoke: (revocation, audit) =>
      change(audit, () => {
        if (isRecorded(revocation)) return false
        record(revocation)
        return true
      }),
    revocationsSince: (cursor, limit = revocationsPerPage) => read(() => since(cursor, limit)),

    listSigningKeys: () => read(() => [...signingKeys.getRange()].map(({ value }) => value)),
    addSigningKey: (key, expectedNewestKid, audit) =>
      change(audit, () => {
        const sameAlg = [...signingKeys.getRange()].map(({ value }) => value).filter(({ alg }) => alg === key.alg)
        const newest = sameAlg.reduce<SigningKeyRecord | undefined>(
          (a, b) => (a && a.createdAt >= b.createdAt ? a : b),
          undefined,
        )
        if (newest?.kid !== expectedNewestKid || (newest && newest.createdAt >= key.createdAt)) return false
        signingKeys.put(key.kid, key)
        return true
      }),
    removeSigningKey: (kid, audit) =>
      change(audit, () => {
        if (!signingKeys.doesExist(kid)) return false
        signingKeys.remove(kid)
        return true
      }),
    resealSigningKey: (kid, expected, sealedPrivateKey) =>
      write(() => {
        const key = signingKeys.get(kid)
        if (!key?.sealedPrivateKey || Buffer.compare(key.sealedPrivateKey, expected) !== 0) return false
        signingKeys.put(kid, { ...key, sealedPrivateKey })
        return true
      }),
    withdrawSigningKeys: (kids, { now: revokedAt, expiresAt }, audit) =>
      write(() => {
        const known = kids.filter((kid) => signingKeys.doesExist(kid))
        const told = audit?.(known) ?? []
        for (const id of known) {
          signingKeys.remove(id)
          record({ kind: 'key', id, revokedAt, expiresAt })
        }
        audits.add(told)
        return known
      }),

    findFailures: (keys) => read(() => keys.map(failuresOf)),
    recordFailure: (keys, now, held = noneHeld) =>
      write(() =>
        keys.map(({ key, tag }) => {
          const before = failures.get(key)
          if (before && before.tag !== tag && isHeld(before, held)) return undefined
          const next = {
            count: (before?.tag === tag ? (before?.count ?? 0) : 0) + 1,
            lastAt: now,
            ...(tag !== undefined && { tag }),
          }
          failures.put(key, next)
          return next
        }),
      ),
    capFailures: (keys, now) =>
      write(() => {
        for (const of of keys) {
          const row = failuresOf(of)
          if (row && row.lastAt > now) failures.put(of.key, { ...row, lastAt: now })
        }
      }),
    clearFailures: (keys) =>
      write(() => {
        for (const of of keys) if (failuresOf(of)) failures.remove(of.key)
      }),

    issueRecord: (record, bounds) => write(() => records.issue(record, bounds)),
    findRecord: (key) => read(() => records.find(key)),
    takeRecord: (taking) => write(() => records.take(taking)),
    missRecord: (key, most) => write(() => records.miss(key, most)),
    replaceRecord: (key, expectedVersion, data) => write(() => records.replace(key, expectedVersion, data)),
    endRecords: (owner, kinds) => write(() => records.endOf(owner, kinds)),
    removeRecord,

    addAudit: (rows) => write(() => audits.add(rows)),
    auditSince: (cursor, limit) => read(() => audits.since(cursor, limit)),
    auditEnd: () => read(audits.end),
    listAudit: (filter, page) => listAudit(async (...asked) => read(() => audits.page(...asked)), filter, page),
    eraseAudit: (step) => write(() => audits.erase(step)),
    removeAudit: (id) => write(() => audits.remove(id)),

    async sweep(step) {
      await run('read', forgetDeadReaders)
      const [stage, after] = readCursor(step.cursor)
      const swept = { table: sweptTables[stage] as SweptTable, removed: 0 }
      if (swept.table === 'audit') return sweepAudit(step)
      const { table, isDue, sweep } = stages[stage] as Stage
      let position: string | number | undefined = table === revocations && after !== undefined ? Number(after) : after
      for (let looked = 0; looked < step.limit; looked += rowsAtOnce) {
        const limit = Math.min(rowsAtOnce, step.limit - looked)
        const start = position !== undefined && { start: position, exclusiveStart: true }
        const rows = await read(() => [...table.getRange({ ...start, limit })])
        const dueKeys = rows.filter(({ value }) => isDue(value, step)).map(({ key }) => key)
        // Looked for outside the writer's lock, decided again inside it: a session may have been refreshed in between.
        if (dueKeys.length > 0)
          swept.removed += await write(() => {
            const stillDue = dueKeys
              .map((key) => ({ key, value: table.get(key) }))
              .filter(({ value }) => value && isDue(value, step))
            return stillDue.filter(({ key, value }) => sweep(key, value, step)).length
          })
        if (rows.length < limit) return { ...swept, cursor: `${stage + 1}` }
        position = rows.at(-1)?.key
        await nextTurn()
      }
      return { ...swept, cursor: `${stage} ${position}` }
    },
    usage() {
      if (closed || isBroken) return undefined
      root.resetReadTxn()
      const { pageSize, lastPageNumber, mapSize, root: main, free } = root.getStats() as EnvironmentStats
      const trees = [main, free, ...Object.values(tables).map((table) => table.getStats() as TreeStats)]
      const usedBytes = pageSize * (metaPages + trees.reduce((pages, tree) => pages + pagesOf(tree), 0))
      const { bavail, bsize } = statfsSync(dataDir)
      const freeBytes = pageSize * (lastPageNumber + 1) - usedBytes
      return { mapBytes: mapSize, usedBytes, freeBytes, diskFreeBytes: bavail * bsize }
    },

    ...transfer,
    ...createUserIndexing(userLists, read, write),
    async snapshot(work) {
      const transaction = await read(() => root.useReadTransaction())
      try {
        return await work({
          ...createLmdbReads(tables, (work) => run('read', work), transaction),
          revocationsSince: (cursor, limit = revocationsPerPage) =>
            run('read', () => since(cursor, limit, transaction)),
        })
      } finally {
        transaction.done()
      }
    },
  }
}

/** Rejects when a commit takes too long. It may still come to pass, as the caller is told by a 503. */
function inTime<T>(committing: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not on the disk within ${commitMs} ms`)), commitMs)
    committing.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** What lmdb-js says of a tree of pages; its types do not. */
interface TreeStats {
  treeBranchPageCount: number
  treeLeafPageCount: number
  overflowPages: number
}
interface EnvironmentStats {
  pageSize: number
  lastPageNumber: number
  mapSize: number
  root: TreeStats
  free: TreeStats
}
const metaPages = 2
const pagesOf = ({ treeBranchPageCount, treeLeafPageCount, overflowPages }: TreeStats) =>
  treeBranchPageCount + treeLeafPageCount + overflowPages

const latestOf = ({ createdAt, refreshedAt }: Session) => Math.max(createdAt, refreshedAt)

/** A sweep cursor is the stage, and the last key that was looked at in it: any text. */
function readCursor(cursor: string | undefined): [stage: number, after: string | undefined] {
  const [, stage = '0', after] = cursor?.match(/^([0-9]+)(?: (.*))?$/s) ?? []
  return [Number(stage), after]
}
