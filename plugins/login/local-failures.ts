import { Lru } from 'toad-cache'
import type { FailureKey } from '../../domain/failures.ts'

/** A number of failures, and how long ago the last one was. */
export interface Counted {
  count: number
  agoMs: number
}

interface Entry {
  failures: number
  /** of them, those that may not be in the store yet */
  unrecorded: number
  lastAtMs: number
}

const maxEntries = 10_000

/**
 * Counts the failures that this process sees. Concurrent guesses have all read the same stored count: counted here too,
 * not all of them pass on that one reading. A guess is counted only what came after its reading, for a success
 * elsewhere resets the count.
 */
export function createLocalFailures(uptimeMs: () => number) {
  const entries = new Lru<Entry>(maxEntries)
  const idOf = ({ key, tag }: FailureKey) => `${key} ${tag}`

  return {
    /**
     * Begins before the stored count is read. @returns a function that tells what came since, or is not in the store
     * yet
     */
    watch(key: FailureKey): () => Counted | undefined {
      const id = idOf(key)
      const before = entries.get(id)
      const { failures = 0, unrecorded = 0 } = before ?? {}
      return () => {
        const entry = entries.get(id)
        if (!entry) return undefined
        // A reset or an eviction may have begun another entry meanwhile.
        const count = entry === before ? entry.failures - failures + unrecorded : entry.failures
        return count > 0 ? { count, agoMs: uptimeMs() - entry.lastAtMs } : undefined
      }
    },

    /** Counts a failure. @returns a function to call when the store has recorded it, or never will */
    add(keys: FailureKey[]): () => void {
      const counted = keys.map((key) => {
        const entry = entries.get(idOf(key)) ?? { failures: 0, unrecorded: 0, lastAtMs: 0 }
        entry.failures += 1
        entry.unrecorded += 1
        entry.lastAtMs = uptimeMs()
        entries.set(idOf(key), entry)
        return entry
      })
      // In these entries, even if others have taken their place.
      return () => {
        for (const entry of counted) entry.unrecorded -= 1
      }
    },

    /** Resets a count. */
    forget: (key: FailureKey): void => entries.delete(idOf(key)),
  }
}
