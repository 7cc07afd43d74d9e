import { createHealth, writeTrial } from '../health.ts'
import type { Store } from '../store.ts'
import { migrate } from './migrations.ts'
import { openPool, type PoolOptions, type Postgres } from './pool.ts'
import { ping } from './sql.ts'
import { createRuns } from './statement.ts'
import { createSweep } from './sweep.ts'
import { createAudit, sweepAudit } from './tables/audit.ts'
import { createBrowserSessions, sweepBrowserSessions } from './tables/browser-sessions.ts'
import { createClients } from './tables/clients.ts'
import { createConsents, sweepConsents } from './tables/consents.ts'
import { createFactors, sweepFactors } from './tables/factors.ts'
import { createFailures, sweepFailures } from './tables/failures.ts'
import { createRecords, sweepRecords } from './tables/records.ts'
import { createRevocations, sweepRevocations } from './tables/revocations.ts'
import { createRotations } from './tables/rotations.ts'
import { createSessions, sweepSessions } from './tables/sessions.ts'
import { createSigningKeys } from './tables/signing-keys.ts'
import { createUserImport } from './tables/user-import.ts'
import { createUserLists } from './tables/user-lists.ts'
import { createUsers } from './tables/users.ts'
import { createPostgresTransfer } from './transfer.ts'

/**
 * The store for any number of replicas: PostgreSQL, or what speaks like it.
 *
 * Each method is one statement and one round trip, but for a refresh that is refused or repeated; concurrent refreshes
 * share a statement. The statements of a table are beside its methods in `tables/`, and how they stand up to races in
 * `statement.ts`; connections, time limits and retries in `pool.ts`. The schema is migrated first.
 *
 * @param url `postgres://user:password@host:port,host:port/database?…`; of several hosts the first that is writable is
 *   used
 * @throws StoreUnavailable when the database cannot be reached; another error when the URL cannot be read
 */
export async function openPostgresStore(url: string, options?: PoolOptions): Promise<Store> {
  const health = createHealth(
    async () => void (await postgres.query(ping, [])),
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
  const runs = createRuns(postgres.query)
  return {
    name: 'pg',
    product: 'PostgreSQL',
    isNew,

    close: () => postgres.close(),
    usage: () => postgres.usage(),

    ...createUsers(runs),
    ...createUserLists(runs),
    importUsers: createUserImport(postgres),
    ...createClients(runs),
    ...createSessions(runs),
    ...createRotations(runs),
    ...createBrowserSessions(runs),
    ...createConsents(runs),
    ...createFactors(runs),
    ...createRevocations(runs),
    ...createSigningKeys(runs),
    ...createFailures(runs),
    ...createRecords(runs),
    ...createAudit(runs),

    sweep: createSweep({
      browserSessions: sweepBrowserSessions(runs),
      sessions: sweepSessions(runs),
      failures: sweepFailures(runs),
      revocations: sweepRevocations(runs),
      records: sweepRecords(runs),
      factors: sweepFactors(runs),
      consents: sweepConsents(runs),
      audit: sweepAudit(runs),
    }),

    ...createPostgresTransfer(runs),
    snapshot: (work) =>
      postgres.transaction('ISOLATION LEVEL REPEATABLE READ READ ONLY', (query) =>
        work(createMethods({ ...postgres, query }, isNew)),
      ),
  }
}
