import { statfsSync } from 'node:fs'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { getSystemErrorName } from 'node:util'

/** `MDB_PANIC`: LMDB could not write where a transaction ends, and refuses everything from then on. */
export const isPanic = (error: unknown): boolean => /\bMDB_PANIC\b/.test((error as Error).message)

const { EDQUOT, EFBIG, EIO, ENOSPC } = constants.errno

/** Whether a disk is full or fails: it may be no more at the next start, unlike a directory that is not ours. */
export const isFull = (error: unknown): boolean => [EDQUOT, EFBIG, EIO, ENOSPC].includes(Math.abs(numberOf(error) ?? 0))

/** lmdb-js has the number of the system's error as its `code`, Node as its `errno`. */
function numberOf(error: unknown): number | undefined {
  const { code, errno } = error as { code?: unknown; errno?: number }
  return typeof code === 'number' ? code : errno
}

/** lmdb-js tells the cause of a failed commit by another promise, in the same turn or never. */
const toldWithinMs = 100

/** @returns what lmdb-js rejected with, or the cause of a commit that failed */
export async function causeOf(error: unknown): Promise<unknown> {
  const { commitError } = error as { commitError?: Promise<unknown> }
  const told = commitError?.then(undefined, (cause: unknown) => cause)
  return told ? Promise.race([told, sleep(toldWithinMs, error, { ref: false })]) : error
}

/** What an operator reads: the setting, the directory, the error of the system, and how much is free there. */
export function whyUnavailable(dataDir: string, error: unknown, what: 'read' | 'written'): string {
  const { code, message } = error as { code?: unknown; message: string }
  // LMDB goes on with where it was writing to.
  const words = message.split(': Attempting')[0]
  const name = typeof code === 'number' && code > 0 ? ` (${getSystemErrorName(-code)})` : ''
  return `AUTH_DATA_DIR: the store in ${dataDir} cannot be ${what}: ${words}${name}${freeIn(dataDir)}`
}

/** LMDB calls it an input/output error where a disk takes a part of what is written and is full then. */
function freeIn(dir: string): string {
  try {
    const { bavail, bsize } = statfsSync(dir)
    return `; ${Math.floor((bavail * bsize) / 2 ** 20)} MiB are free there`
  } catch {
    return ''
  }
}
