import { type RestoreOptions, RestoreRefused, type RestoreTarget } from '../moving/moving.ts'
import { tables } from './columns.ts'
import { migrate } from './migrations.ts'
import { openPool, type Postgres } from './pool.ts'
import { createMethods } from './store.ts'

/**
 * Fills a database in one transaction: until it is committed, what was there is as it was.
 *
 * @throws {RestoreRefused} where there are rows already and they are not to be replaced, or a service is connected
 * @throws {StoreUnavailable} when the database does not answer
 */
export async function restorePostgres(
  url: string,
  { replace }: RestoreOptions,
  fill: (target: RestoreTarget) => Promise<void>,
): Promise<void> {
  // One connection, so that every other of the name is another process.
  const postgres = openPool(url, { maxConnections: 1 })
  try {
    await migrate(postgres)
    const canTell = await refuseUsers(postgres).catch(unlessRefused)
    await postgres.transaction('', async (query) => {
      const store = createMethods({ ...postgres, query }, false)
      for (const table of ['users', 'clients', 'sessions', 'signingKeys'] as const) {
        const { rows } = await store.exportRows(table, { limit: 1 })
        if (!replace && rows.length > 0) throw new RestoreRefused('it is not empty')
      }
      for (const name of [...Object.values(tables).map(({ name }) => name), 'latchkey_revocations'])
        await query({ text: `DELETE FROM ${name}` }, [])
      await fill(store)
      if (canTell) await refuseUsers({ query })
    })
  } finally {
    await postgres.close()
  }
}

/** A service is told by the name of its connections. @throws StoreUnavailable on an engine that does not list them */
async function refuseUsers({ query }: Pick<Postgres, 'query'>): Promise<boolean> {
  const text = `SELECT coalesce(host(client_addr), 'this machine') AS address FROM pg_stat_activity
    WHERE application_name = 'latchkey' AND datname = current_database() AND pid <> pg_backend_pid() LIMIT 1`
  const [other] = await query<{ address: string }>({ text }, [])
  if (other) throw new RestoreRefused(`latchkey is connected to it from ${other.address}: stop the service first`)
  return true
}

function unlessRefused(error: unknown): false {
  if (error instanceof RestoreRefused) throw error
  return false
}
