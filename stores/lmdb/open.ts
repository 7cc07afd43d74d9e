import { randomBytes } from 'node:crypto'
import { accessSync, constants, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { checkRoom, keepPrivate, sync } from './directory.ts'
import { checkFile, hasLmdbStore, lmdbDirectory, lmdbFile, readWhollyBytes } from './file.ts'

/*
 * The kernel may read ahead, so there is no `noReadAhead`: after a restart a store of a million users is in memory within
 * seconds. Without it each page is waited for, and refreshes took twice the time and the CPU for as long as it was tried.
 */
const options = {
  // A directory, whatever its name ends with.
  noSubdir: false,
  maxDbs: 64,
  permissionsMode: 0o600,
  // Sync before a commit is visible, so that no process ever acts on what a power cut could take back.
  overlappingSync: false,
  // With it, lmdb-js makes a promise for each batch that nobody can listen to: a full disk would end the process.
  eventTurnBatching: false,
  // Plain MessagePack maps: rows that any later release, and any other tool, can read.
  encoder: { useRecords: false, mapsAsObjects: true },
}

/** Drafts older than this were left by a start that was killed: making a store takes milliseconds. */
const leftAfterMs = 60_000
const drafts = /^(lmdb\.new-[0-9]+-[0-9a-f]+|(secret|room)\.[0-9]+\.[0-9a-f]+)$/

/**
 * Opens the environment in a directory, and makes it where there is none.
 *
 * @param openTables opens every table, which makes those that are missing
 * @throws {StoreDamaged} when the store is damaged
 * @throws {StoreTooNew}
 * @throws {NodeJS.ErrnoException} with the path that cannot be used
 */
export function openEnvironment<T>(
  dataDir: string,
  openTables: (root: RootDatabase) => T,
): { root: RootDatabase; tables: T; isNew: boolean } {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK)
  keepPrivate(dataDir)
  removeDrafts(dataDir)
  // LMDB writes to its lock file by memory, which a full disk answers with a signal.
  if (!existsSync(join(lmdbDirectory(dataDir), 'lock.mdb'))) checkRoom(dataDir)
  const made = hasLmdbStore(dataDir) ? undefined : makeStore(dataDir, openTables)
  const { root, tables } = made ?? openStore(dataDir, openTables)
  for (const name of ['', 'data.mdb', 'lock.mdb']) keepPrivate(join(lmdbDirectory(dataDir), name))
  return { root, tables, isNew: made !== undefined }
}

/** Other processes that have an environment open. @returns their pids */
export function otherUsers(root: RootDatabase): number[] {
  root.readerCheck()
  const pids = [...root.readerList().matchAll(/^ *([0-9]+) /gm)].map(([, pid]) => Number(pid))
  return pids.filter((pid) => pid !== process.pid)
}

function openStore<T>(dataDir: string, openTables: (root: RootDatabase) => T): { root: RootDatabase; tables: T } {
  const [directory, path] = [lmdbDirectory(dataDir), lmdbFile(dataDir)]
  accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK)
  const { size = 0 } = statSync(path, { throwIfNoEntry: false }) ?? {}
  checkFile(path, size > readWhollyBytes ? { withinMs: 0 } : {})
  accessSync(path, constants.R_OK | constants.W_OK)
  const root = open({ path: directory, ...options })
  try {
    return { root, tables: openTables(root) }
  } catch (error) {
    root.close()
    throw error
  }
}

/**
 * Makes a store in a draft directory and renames it: a start that is killed at any moment leaves no store, or a whole
 * one. LMDB goes on in the renamed directory as in any other.
 *
 * @returns undefined when another process was faster
 */
function makeStore<T>(
  dataDir: string,
  openTables: (root: RootDatabase) => T,
): { root: RootDatabase; tables: T } | undefined {
  const draft = `${lmdbDirectory(dataDir)}.new-${process.pid}-${randomBytes(4).toString('hex')}`
  mkdirSync(draft, { mode: 0o700 })
  let root: RootDatabase | undefined
  try {
    const made = open({ path: draft, ...options })
    root = made
    // In one commit, rather than one for each table.
    const tables = made.transactionSync(() => openTables(made))
    sync(join(draft, 'data.mdb'))
    sync(draft)
    renameSync(draft, lmdbDirectory(dataDir))
    sync(dataDir)
    return { root: made, tables }
  } catch (error) {
    root?.close()
    rmSync(draft, { recursive: true, force: true })
    if (['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

function removeDrafts(dataDir: string): void {
  for (const name of readdirSync(dataDir)) {
    const path = join(dataDir, name)
    if (drafts.test(name) && Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) > leftAfterMs) {
      rmSync(path, { recursive: true, force: true })
    }
  }
}
