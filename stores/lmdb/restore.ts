import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { type RestoreOptions, RestoreRefused, type RestoreTarget } from '../moving/moving.ts'
import { isOutdated, openAll } from './databases.ts'
import { keepPrivate, restoreDrafts, sync } from './directory.ts'
import { checkFile, hasLmdbStore, lmdbDirectory, lmdbFile, StoreDamaged } from './file.ts'
import { openEnvironment, otherUsers } from './open.ts'
import { openLmdbStore } from './store.ts'

/**
 * Fills a new embedded store and puts it into its place in one step. Until then a store that was there is as it was,
 * and a service does not start beside what was left half done.
 *
 * @throws {RestoreRefused} where there are rows already and they are not to be replaced, or a process uses the store
 */
export async function restoreLmdbStore(
  dataDir: string,
  { replace }: RestoreOptions,
  fill: (target: RestoreTarget) => Promise<void>,
): Promise<void> {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  keepPrivate(dataDir)
  removeLeftovers(dataDir)
  const draft = `${lmdbDirectory(dataDir)}.restoring-${process.pid}`
  const before = openBefore(dataDir)
  try {
    before.refuseUsers()
    if (!replace && !before.isEmpty) throw new RestoreRefused('it is not empty')
    mkdirSync(draft, { mode: 0o700 })
    const store = openLmdbStore(draft)
    try {
      await fill(store)
    } finally {
      await store.close()
    }
    before.refuseUsers()
    await before.close()
    putInPlace(draft, dataDir)
  } finally {
    await before.close()
    rmSync(draft, { recursive: true, force: true })
  }
}

/** Of a restore that was killed. @throws {RestoreRefused} when one is running */
function removeLeftovers(dataDir: string): void {
  for (const path of restoreDrafts(dataDir)) {
    const pid = Number(path.slice(path.lastIndexOf('-') + 1))
    if (isRunning(pid)) throw new RestoreRefused(`another restore is running, as process ${pid}`)
    rmSync(path, { recursive: true, force: true })
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return pid !== process.pid
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The store that is to be replaced; opened, for LMDB knows who uses it. One that is damaged is used by nobody. */
function openBefore(dataDir: string) {
  const nothing = { isEmpty: true, refuseUsers() {}, async close() {} }
  if (!hasLmdbStore(dataDir)) return nothing
  try {
    checkFile(lmdbFile(dataDir))
  } catch (error) {
    if (error instanceof StoreDamaged) return { ...nothing, isEmpty: false }
    throw error
  }
  const { root, tables } = openEnvironment(dataDir, openAll)
  const { users, clients, sessions, signingKeys } = tables
  let isOpen = true
  return {
    isEmpty:
      !isOutdated(tables.counters) &&
      [users, clients, sessions, signingKeys].every((table) => [...table.getKeys({ limit: 1 })].length === 0),
    refuseUsers() {
      const [other] = otherUsers(root)
      if (other !== undefined) throw new RestoreRefused(`a process uses it (${other}): stop the service first`)
    },
    async close() {
      if (isOpen) await root.close()
      isOpen = false
    },
  }
}

/** Renames what was filled; over the file of a store that was there, whose directory stays. */
function putInPlace(draft: string, dataDir: string): void {
  sync(lmdbFile(draft))
  sync(lmdbDirectory(draft))
  if (hasLmdbStore(dataDir)) {
    renameSync(lmdbFile(draft), lmdbFile(dataDir))
    sync(lmdbDirectory(dataDir))
  } else renameSync(lmdbDirectory(draft), lmdbDirectory(dataDir))
  sync(dataDir)
}
