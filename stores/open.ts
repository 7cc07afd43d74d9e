import { hasLmdbStore } from './lmdb/file.ts'
import type { RestoreOptions, RestoreTarget } from './moving/moving.ts'
import type { Store } from './store.ts'

/** Which store, and where it is. */
export type StoreLocation = { kind: 'lmdb'; dir: string } | { kind: 'pg'; url: string }

/** The store that the settings choose, for the service and its commands alike. */
export const chosenStore = (config: { DATABASE_URL?: string; AUTH_DATA_DIR: string }): StoreLocation =>
  config.DATABASE_URL ? { kind: 'pg', url: config.DATABASE_URL } : { kind: 'lmdb', dir: config.AUTH_DATA_DIR }

/** Whether opening would make a store. Of a database only opening it can tell. */
export const isMissing = (location: StoreLocation): boolean => location.kind === 'lmdb' && !hasLmdbStore(location.dir)

/**
 * Opens a store, and makes it where it is missing.
 *
 * @throws {StoreTooOld} when an earlier release has written an embedded store: see `lmdb/upgrade.ts`
 * @throws {StoreDamaged} when a file of the embedded store is damaged @throws {NodeJS.ErrnoException} when it cannot be
 *   used
 * @throws {StoreUnavailable} when the database does not answer
 */
export async function openStore(location: StoreLocation): Promise<Store> {
  // Each is loaded only where it is used, and the packages `lmdb` and `pg` with it.
  if (location.kind === 'lmdb') {
    const [{ openLmdbStore }, { betweenTransactions }] = await Promise.all([
      import('./lmdb/store.ts'),
      import('./lmdb/transactions.ts'),
    ])
    return betweenTransactions(location.dir, () => openLmdbStore(location.dir))
  }
  return (await import('./postgres/store.ts')).openPostgresStore(location.url)
}

/**
 * Fills a store with what `fill` imports, or leaves it as it is: there is no half of it, whenever it is killed.
 *
 * @throws {RestoreRefused} where there are rows already and they are not to be replaced, or a service uses it
 * @throws {StoreUnavailable} when the database does not answer
 */
export async function restoreStore(
  location: StoreLocation,
  options: RestoreOptions,
  fill: (target: RestoreTarget) => Promise<void>,
): Promise<void> {
  if (location.kind === 'lmdb') return (await import('./lmdb/restore.ts')).restoreLmdbStore(location.dir, options, fill)
  return (await import('./postgres/restore.ts')).restorePostgres(location.url, options, fill)
}
