import { createHealth, writeTrial } from '../health.ts'
import type { Store } from '../store.ts'
import { revocationsPerPage } from '../tables/revocations.ts'
import { openDatabases } from './databases.ts'
import { openEnvironment } from './open.ts'
import { createRuns } from './runs.ts'
import { createSweep } from './sweep.ts'
import { createAudit, createAuditRows, sweepAudit } from './tables/audit.ts'
import { createBrowserSessions, sweepBrowserSessions } from './tables/browser-sessions.ts'
import { createClients } from './tables/clients.ts'
import { createConsents, sweepConsents } from './tables/consents.ts'
import { createFactors, sweepFactors } from './tables/factors.ts'
import { createFailures, sweepFailures } from './tables/failures.ts'
import { createRecords, sweepRecords } from './tables/records.ts'
import { createRevocationRows, createRevocations, sweepRevocations } from './tables/revocations.ts'
import { createRotations } from './tables/rotations.ts'
import { createSessions, sweepSessions } from './tables/sessions.ts'
import { createSigningKeys } from './tables/signing-keys.ts'
import { createUserLists } from './tables/user-lists.ts'
import { createUsers } from './tables/users.ts'
import { createLmdbReads, createLmdbTransfer } from './transfer.ts'
import { readUsage } from './usage.ts'

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
 * @throws {StoreTooOld} when an earlier release has written it, see `upgrade.ts`
 * @throws {NodeJS.ErrnoException} when the directory cannot be made, written or locked
 */
export function openLmdbStore(dataDir: string): Store {
  const { root, tables: databases, isNew } = openEnvironment(dataDir, openDatabases)
  const runs = createRuns(root, dataDir, {
    hasFailed: () => health.hasFailed(),
    addAudit: createAuditRows(databases).add,
  })
  const { run, read, broken, isUsable, close } = runs
  const records = createRecords(databases, runs)
  const transfer = createLmdbTransfer(databases, runs)
  const health = createHealth(
    () => read(() => void root.getStats()),
    () => writeTrial({ importRows: transfer.importRows, removeRecord: records.removeRecord }),
  )
  const { since } = createRevocationRows(databases)

  return {
    name: 'lmdb',
    product: 'LMDB',
    isNew,

    broken,
    ping: health.ping,
    close,
    usage: () => (isUsable() ? readUsage(root, databases, dataDir) : undefined),

    ...createUsers(databases, runs),
    ...createUserLists(databases, runs),
    ...createClients(databases, runs),
    ...createSessions(databases, runs),
    ...createRotations(databases, runs),
    ...createBrowserSessions(databases, runs),
    ...createConsents(databases, runs),
    ...createFactors(databases, runs),
    ...createRevocations(databases, runs),
    ...createSigningKeys(databases, runs),
    ...createFailures(databases, runs),
    ...records,
    ...createAudit(databases, runs),

    sweep: createSweep(
      {
        browserSessions: sweepBrowserSessions(databases),
        sessions: sweepSessions(databases),
        failures: sweepFailures(databases),
        revocations: sweepRevocations(databases),
        records: sweepRecords(databases),
        factors: sweepFactors(databases),
        consents: sweepConsents(databases),
        audit: sweepAudit(databases),
      },
      runs,
    ),

    ...transfer,
    async snapshot(work) {
      const transaction = await read(() => root.useReadTransaction())
      try {
        return await work({
          ...createLmdbReads(databases, (work) => run('read', work), transaction),
          revocationsSince: (cursor, limit = revocationsPerPage) =>
            run('read', () => since(cursor, limit, transaction)),
        })
      } finally {
        transaction.done()
      }
    },
  }
}
