import { readlinkSync, statSync } from 'node:fs'
import { setPriority } from 'node:os'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { ConfigError } from '../config.ts'
import { checkFile, damageLine, lmdbFile, readWhollyBytes, StoreDamaged } from './lmdb-file.ts'

/* Reads the file of an embedded store before the service has it: at once where it is small, and beside the start where it is large. */

/** A start waits for so long; a store that takes longer to read is vouched for while it is served already. */
const longestWaitMs = 400
const niceness = 10
/** What the thread that reads is told apart by. */
const role = 'latchkey reads a store'

export interface Vouching {
  /** resolves when the start may go on @throws {ConfigError} that the store is damaged */
  soon: Promise<void>
  /** what was found after that, when all is read: a line that says what to do */
  later: Promise<string | undefined>
}

/**
 * Looks whether LMDB can have an embedded store.
 *
 * @throws {ConfigError} what is seen at once
 */
export function vouchForStore(dataDir: string): Vouching {
  const path = lmdbFile(dataDir)
  const size = sizeOf(path)
  if (size !== undefined && size > readWhollyBytes) {
    const later = readBeside(path).then((damage) => damage && damageLine(dataDir, damage))
    const found = later.then((line) => {
      if (line !== undefined) throw new ConfigError(line)
    })
    return { soon: Promise.race([found, sleep(longestWaitMs)]), later }
  }
  try {
    if (size !== undefined) checkFile(path)
  } catch (error) {
    if (error instanceof StoreDamaged) throw new ConfigError(damageLine(dataDir, error))
    // What else keeps it from being read is said when it is opened.
  }
  return { soon: Promise.resolve(), later: Promise.resolve(undefined) }
}

function sizeOf(path: string): number | undefined {
  try {
    return statSync(path).size
  } catch {
    return undefined
  }
}

function readBeside(path: string): Promise<StoreDamaged | undefined> {
  return new Promise((resolve) => {
    const thread = new Worker(new URL(import.meta.url), { workerData: { role, path } })
    thread.unref()
    thread.once('message', (what: string | undefined) => resolve(what === undefined ? undefined : new StoreDamaged(what)))
    // What keeps it from reading keeps the service, and is said there.
    thread.once('error', () => resolve(undefined))
  })
}

if (!isMainThread && workerData?.role === role) {
  try {
    // On Linux each thread has a niceness of its own. Who answers requests goes first.
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), niceness)
  } catch {
    // No Linux, or a sandbox that refuses.
  }
  try {
    checkFile(workerData.path)
    parentPort?.postMessage(undefined)
  } catch (error) {
    parentPort?.postMessage(error instanceof StoreDamaged ? error.message : undefined)
  }
}
