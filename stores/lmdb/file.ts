import { closeSync, existsSync, openSync } from 'node:fs'
import { join } from 'node:path'
import {
  type Entry,
  isKnownFormat,
  type Overflow,
  overflowValue,
  PageFile,
  readTree,
  type Snapshot,
  StoreDamaged,
  type Tree,
  TreePage,
} from './format.ts'

export { StoreDamaged } from './format.ts'

export const lmdbDirectory = (dataDir: string): string => join(dataDir, 'lmdb')
export const lmdbFile = (dataDir: string): string => join(dataDir, 'lmdb', 'data.mdb')
/** A directory of the name is a whole store, or one that is damaged: see `makeStore`. */
export const hasLmdbStore = (dataDir: string): boolean => existsSync(lmdbDirectory(dataDir))

/** A file up to this size is read whole before LMDB opens it (some 50 ms); of a larger one, only the meta pages. */
export const readWhollyBytes = 32 * 2 ** 20
/** Branch pages whose children are looked at together, in the order of the file. */
const branchesAtOnce = 64
const triesAtMost = 4

/** What an operator reads about a damaged store: what is wrong, and what to do. */
export const damageLine = (dataDir: string, { message }: StoreDamaged): string =>
  `AUTH_DATA_DIR: the store in ${dataDir} is damaged (${message}): put it back from a backup; ` +
  `or, to begin anew with no accounts, remove ${dataDir}/lmdb and ${dataDir}/secret`

/** A page to be read, and the bounds of its keys. */
interface Reference {
  page: number
  from?: Buffer | undefined
  below?: Buffer | undefined
}

/** Whether every page was checked; `some` when the time was up, or writers reused the pages of each snapshot. */
export type Extent = 'all' | 'some'

const timeIsUp = new Error('The time is up')

/**
 * Checks the file of an embedded store: the meta pages, every page reached from them, and the list of free pages. LMDB
 * maps the file and trusts it, so that a damaged page ends the process by a signal; found here, it is an error with a
 * message. Takes no lock, and may run beside processes that write.
 *
 * Damage inside a row is not detected: LMDB has no checksums.
 *
 * @param withinMs when the reading ends, all read or not
 * @throws {StoreDamaged} @throws {NodeJS.ErrnoException} when the file cannot be read
 */
export function checkFile(path: string, { withinMs = Number.POSITIVE_INFINITY } = {}): Extent {
  const until = performance.now() + withinMs
  const descriptor = openData(path)
  try {
    for (let tries = 1; ; tries++) {
      const file = new PageFile(descriptor)
      if (file.bytes === 0) throw new StoreDamaged('data.mdb is empty')
      if (!isKnownFormat) return 'some'
      const snapshot = file.snapshot()
      try {
        checkSnapshot(file, snapshot, until)
        return 'all'
      } catch (error) {
        if (error === timeIsUp) return 'some'
        // The third transaction after this moment may use its pages again: then it was no damage that was seen.
        if (!(error instanceof StoreDamaged) || file.snapshot().transaction <= snapshot.transaction + 1) throw error
        if (tries === triesAtMost) return 'some'
      }
    }
  } finally {
    closeSync(descriptor)
  }
}

function openData(path: string): number {
  try {
    return openSync(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new StoreDamaged('data.mdb is missing')
    throw error
  }
}

function checkSnapshot(file: PageFile, { free, tables, lastPage, transaction }: Snapshot, until: number): void {
  const filePages = Math.ceil(file.bytes / file.pageBytes)
  /** Each page has one place in the store. The file may be longer: a transaction that never ended has written to it. */
  const isUsed = new Uint8Array(Math.min(lastPage + 1, filePages))
  function use(page: number, count: number): void {
    if (page + count > filePages) throw new StoreDamaged(`data.mdb is cut short: page ${page} is missing`)
    for (let i = page; i < page + count; i++) {
      if (i < 2 || i > lastPage || isUsed[i]) throw new StoreDamaged(`page ${i} is used for two things`)
      isUsed[i] = 1
    }
  }

  /** @param onEntry is given every entry of the tree, those outside of its pages too */
  function checkTree(tree: Tree, onEntry?: (key: Buffer, entry: Exclude<Entry, { overflow: Overflow }>) => void): void {
    const counted = { branches: 0, leaves: 0, overflows: 0, entries: 0 }
    const overwritten = (page: number) => new StoreDamaged(`page ${page}, of ${tree.name}, is overwritten`)

    function checkEntries(page: TreePage, number: number): void {
      counted.leaves += 1
      counted.entries += page.nodes
      if (onEntry === undefined && page.isPlain) return
      for (let i = 0; i < page.nodes; i++) {
        const entry = page.entry(i)
        if (entry === undefined || 'table' in entry !== (tree === tables)) throw overwritten(number)
        if ('overflow' in entry) outside.push({ ...entry.overflow, key: Buffer.from(page.key(i)) })
        else onEntry?.(page.key(i), entry)
      }
    }

    const outside: (Overflow & { key: Buffer })[] = []
    function checkOutside(): void {
      for (const overflow of outside.splice(0)) {
        const { page, pages, key } = overflow
        use(page, pages)
        counted.overflows += pages
        const value = overflowValue(file.read(page, onEntry ? pages : 1), overflow, file.pageBytes)
        onEntry?.(key, { value })
      }
    }

    function checkLevel(references: Reference[], level: number): void {
      const isBranch = level < tree.levels
      const step = isBranch ? branchesAtOnce : references.length
      for (let begin = 0; begin < references.length; begin += step) {
        if (tree !== free && performance.now() > until) throw timeIsUp
        const below: Reference[] = []
        const some = references.slice(begin, begin + step)
        for (const { page } of some) use(page, 1)
        file.each(some, (bytes, reference) => {
          const page = new TreePage(bytes, reference.page, { isBranch, transaction })
          if (!page.isInOrder(reference, tree === free)) throw overwritten(reference.page)
          if (!isBranch) return checkEntries(page, reference.page)
          counted.branches += 1
          below.push(...childrenOf(page, reference))
        })
        checkOutside()
        checkLevel(below, level + 1)
      }
    }

    if (tree.root !== undefined) checkLevel([{ page: tree.root }], 1)
    for (const [what, count] of Object.entries(counted)) {
      if (tree[what as keyof typeof counted] !== count)
        throw new StoreDamaged(`${tree.name}: not as many ${what} as there should be`)
    }
  }

  const lists: Buffer[] = []
  const records: Tree[] = []
  checkTree(free, (_key, entry) => 'value' in entry && lists.push(Buffer.from(entry.value)))
  const runs = lists.flatMap((list) => freePages(list, lastPage))
  // Pages at the end that were free before they were ever written are missing in a good file.
  const missing = lastPage + 1 - filePages
  if (missing > 0 && missing > pagesBehind(runs, filePages))
    throw new StoreDamaged(`data.mdb is cut short: page ${filePages} is missing`)
  if (performance.now() > until) throw timeIsUp
  checkTree(tables, (key, entry) => 'table' in entry && records.push(readTree(`table ${key}`, entry.table)))
  if (records.length === 0) throw new StoreDamaged('there are no tables in it')
  for (const table of records) checkTree(table)
  for (const { first, count } of runs) {
    const used = isUsed.subarray(first, first + count).indexOf(1)
    if (used !== -1) throw new StoreDamaged(`page ${first + used} is in use, and said to be free`)
  }
}

function childrenOf(page: TreePage, { from, below }: Reference): Reference[] {
  const keys = Array.from({ length: page.nodes }, (_, i) => (i === 0 ? from : Buffer.from(page.key(i))))
  return keys.map((key, i) => ({ page: page.child(i), from: key, below: i + 1 < keys.length ? keys[i + 1] : below }))
}

interface Run {
  first: number
  count: number
}

/** A list is its length and numbers of pages; a negative one says how many follow from the next, and 0 is nothing. */
function freePages(list: Buffer, lastPage: number): Run[] {
  const overwritten = new StoreDamaged('the list of free pages is overwritten')
  const length = list.length < 8 ? -1 : Number(list.readBigInt64LE(0))
  if (length < 0 || (length + 1) * 8 > list.length) throw overwritten
  const runs: Run[] = []
  for (let i = 1; i <= length; i++) {
    const number = Number(list.readBigInt64LE(i * 8))
    if (number === 0) continue
    const count = number < 0 ? -number : 1
    if (number < 0 && ++i > length) throw overwritten
    const first = number < 0 ? Number(list.readBigInt64LE(i * 8)) : number
    // A list keeps the length of a run that was used up.
    if (first === 0) continue
    if (first < 2 || first + count - 1 > lastPage) throw overwritten
    runs.push({ first, count })
  }
  return runs
}

/** How many of the pages, each counted once, are behind the end of a file. */
function pagesBehind(runs: Run[], end: number): number {
  let [pages, next] = [0, end]
  for (const { first, count } of runs.toSorted((a, b) => a.first - b.first)) {
    pages += Math.max(0, first + count - Math.max(first, next))
    next = Math.max(next, first + count)
  }
  return pages
}
