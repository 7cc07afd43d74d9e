import { randomBytes } from 'node:crypto'
import { chmodSync, closeSync, fsyncSync, openSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/* What is done to files and directories of AUTH_DATA_DIR, without the package `lmdb`. */

/** A new name in a directory is on disk only when the directory is. */
export function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  fsyncSync(descriptor)
  closeSync(descriptor)
}

/**
 * Removes the permissions of group and others from a file or directory. Another owner's stays as it is: under a
 * user of the platform's choosing it is the group that gives us access. So does what many share, such as /tmp.
 */
export function keepPrivate(path: string): void {
  const [ofOthers, isShared] = [0o077, 0o1000]
  try {
    const { mode, uid } = statSync(path)
    if (uid === process.getuid?.() && (mode & ofOthers) !== 0 && (mode & isShared) === 0)
      chmodSync(path, mode & 0o7777 & ~ofOthers)
  } catch {
    // Not ours, or on a file system that has no modes.
  }
}

/** A new store, its secret and its keys are a tenth of it. */
const firstRoomBytes = 2 ** 20

/** Writes a file and removes it. @throws {NodeJS.ErrnoException} when there is no room for a store in a directory */
export function checkRoom(dir: string): void {
  const path = join(dir, `room.${process.pid}.${randomBytes(4).toString('hex')}`)
  try {
    writeFileSync(path, randomBytes(firstRoomBytes), { flag: 'wx', flush: true, mode: 0o600 })
  } finally {
    rmSync(path, { force: true })
  }
}

/** What a restore is building beside the store, or has left where it was killed. @returns paths, which end in its pid */
export function restoreDrafts(dataDir: string): string[] {
  try {
    const names = readdirSync(dataDir).filter((name) => /^lmdb\.restoring-[0-9]+$/.test(name))
    return names.map((name) => join(dataDir, name))
  } catch {
    return []
  }
}
