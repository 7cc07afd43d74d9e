import type { RangeOptions } from 'lmdb'
import { type Finding, unreadableRow } from '../moving/moving.ts'
import type { IndexKey } from './keys.ts'
import type { Runs } from './runs.ts'

type Key = string | number | IndexKey

/** A look at each entry of a database, for `store check`. */
export interface Check {
  /** of the database, for people */
  name: string
  // biome-ignore lint/suspicious/noExplicitAny: the databases have values and keys of different types
  database: { getKeys(options: RangeOptions): Iterable<any> }
  /** @returns what is wrong with the entry of a key */
  look(key: Key): string | undefined
}

export const checkOf = <K extends Key>(
  name: string,
  database: { getKeys(options: RangeOptions): Iterable<K> },
  look: (key: K) => string | undefined,
): Check => ({ name, database, look: look as Check['look'] })

/** Entries checked in one snapshot, so that a service beside it is not held up. */
const entriesPerStep = 500

/** Looks at every entry of a database, some in each snapshot. */
export async function* findWrong({ name: table, database, look }: Check, read: Runs['read']): AsyncGenerator<Finding> {
  let after: Key | undefined
  do {
    const { findings, next } = await read(() => {
      const keys = [
        ...database.getKeys({
          ...(after !== undefined && { start: after, exclusiveStart: true }),
          limit: entriesPerStep,
        }),
      ]
      const findings: Finding[] = []
      for (const key of keys) {
        const what = lookSafely(look, key)
        if (what !== undefined) findings.push({ level: 'error', table, key: [key].flat().join('/'), what })
      }
      return { findings, next: keys.length === entriesPerStep ? keys.at(-1) : undefined }
    })
    yield* findings
    after = next
  } while (after !== undefined)
}

/** A value that is not MessagePack throws; go on with its neighbours. */
function lookSafely(look: Check['look'], key: Key): string | undefined {
  try {
    return look(key)
  } catch {
    return unreadableRow
  }
}
