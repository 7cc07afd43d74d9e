import { hash } from 'node:crypto'
import type { ImportRow } from '../../domain/user-import.ts'

/** Keys in an array; a file has one or two for each of its users. */
const keysAtOnce = 131_072

/** What no two users may have: their names, and their verified addresses. */
export const uniqueKeysOf = ({ nameKey, emailKey }: Pick<ImportRow, 'nameKey' | 'emailKey'>): string[] =>
  emailKey === undefined ? [`name ${nameKey}`] : [`name ${nameKey}`, `email ${emailKey}`]

/** 48 bits: of a million keys hardly two are alike, and those are told apart afterwards. */
const fingerprintOf = (key: string) => hash('sha256', key, 'buffer').readUIntLE(0, 6)

/**
 * Gathers the keys of a file that may be there more than once, at eight bytes a key, whatever the size of the file.
 */
export function createFingerprints() {
  const full: Float64Array[] = []
  let last = new Float64Array(keysAtOnce)
  let count = 0
  return {
    add(key: string): void {
      last[count++] = fingerprintOf(key)
      if (count < keysAtOnce) return
      full.push(last)
      last = new Float64Array(keysAtOnce)
      count = 0
    },

    /** @returns whether a key may be there more than once; nothing can be added any more */
    end(): { size: number; mayRepeat(key: string): boolean } {
      const all = new Float64Array(full.length * keysAtOnce + count)
      for (const [i, some] of full.splice(0).entries()) all.set(some, i * keysAtOnce)
      all.set(last.subarray(0, count), all.length - count)
      all.sort()
      const repeated = new Set<number>()
      for (let i = 1; i < all.length; i++) if (all[i] === all[i - 1]) repeated.add(all[i] as number)
      return { size: repeated.size, mayRepeat: (key) => repeated.has(fingerprintOf(key)) }
    },
  }
}

/** Tells, of keys that may repeat, those that users of different external ids have. */
export function createDoubles(mayRepeat: (key: string) => boolean) {
  const holders = new Map<string, string>()
  const doubles = new Set<string>()
  return {
    add(row: ImportRow): void {
      for (const key of uniqueKeysOf(row)) {
        if (!mayRepeat(key)) continue
        const holder = `${row.source} ${row.externalId}`
        if ((holders.get(key) ?? holder) === holder) holders.set(key, holder)
        else doubles.add(key)
      }
    },
    doubles,
  }
}
