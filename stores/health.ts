import { randomBytes } from 'node:crypto'
import type { ShortRecord } from '../domain/record.ts'
import type { Store } from './store.ts'

/** More than what requests write at once: what fits into the last room of a disk is no sign that there is room again. */
const trialBytes = 32_768

/**
 * Whether a process can use its store. Reading is enough of a sign until something has failed; then only a write is,
 * for a full or failing disk is read as well as ever.
 *
 * @param read reads anything @param write writes anything, to the disk
 */
export function createHealth(read: () => Promise<void>, write: () => Promise<void>) {
  /** counts what has failed, so that a failure during a trial is not forgotten with it */
  let failures = 0
  let healthyAt = 0
  let trial: Promise<void> | undefined

  async function tryWriting(): Promise<void> {
    const before = failures
    await write()
    healthyAt = before
  }

  return {
    /** Something that the store was asked for has failed. */
    hasFailed(): void {
      failures += 1
    },
    /** Rejects while the store cannot be used. However many ask meanwhile, there is one trial at a time. */
    ping(): Promise<void> {
      if (failures === healthyAt) return read()
      trial ??= tryWriting().finally(() => {
        trial = undefined
      })
      return trial
    },
  }
}

/** Writes a row that nothing reads, and removes it. It has expired, so that the sweeper removes what a crash leaves. */
export async function writeTrial(store: Pick<Store, 'importRows' | 'removeRecord'>): Promise<void> {
  const id = randomBytes(32).toString('base64url')
  const expired = { createdAt: 0, expiresAt: 0, misses: 0, version: 1 }
  const data = randomBytes(trialBytes).toString('base64url')
  const row: ShortRecord = { id, kind: 'trial', owner: '', source: '', data, ...expired }
  await store.importRows('records', [row])
  await store.removeRecord(id)
}
