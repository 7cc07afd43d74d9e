import { fstatSync, readSync } from 'node:fs'
import { endianness } from 'node:os'

/*
 * How LMDB's data version 2 lies in its file, as lmdb-js writes it: pages, of which the first two are meta pages,
 * written in turn by each transaction. A meta page has the roots of two trees, of what is free and of the tables; each
 * table is a tree of its own. Numbers are those of the machine.
 */

/** A file of the embedded store is damaged. The message says how. */
export class StoreDamaged extends Error {}

/** Numbers of 64 bits, the lowest byte first. Elsewhere the file is not looked into. */
export const isKnownFormat = endianness() === 'LE' && !['arm', 'ia32', 'mipsel'].includes(process.arch)

const headerBytes = 24
const nodeHeaderBytes = 8
const pageKinds = { branch: 1, leaf: 2, overflow: 4, meta: 8 } as const
const nodeKinds = { plain: 0, overflow: 1, table: 2 } as const
const meta = { magic: 0xbeefc0de, version: 2, bytes: 144 } as const
const treeBytes = 48
/** The depth of LMDB's cursors. */
const mostLevels = 32
const noPage = 0xffff_ffff_ffff_ffffn
/** Wanted pages that lie so close are read together. */
const pagesReadAtOnce = 64
const gapReadAlong = 4

/** A tree of pages, with what its record says of it. */
export interface Tree {
  name: string
  root: number | undefined
  levels: number
  branches: number
  leaves: number
  overflows: number
  entries: number
}

/** What the newest transaction made of the store. */
export interface Snapshot {
  transaction: number
  lastPage: number
  free: Tree
  tables: Tree
}

/** Pages of a value that is larger than a page. */
export interface Overflow {
  page: number
  pages: number
  bytes: number
}

export type Entry = { value: Buffer } | { table: Buffer } | { overflow: Overflow }

/** Reads pages of a file. */
export class PageFile {
  readonly #file: number
  #buffer = Buffer.alloc(0)
  pageBytes = 0

  constructor(file: number) {
    this.#file = file
  }

  get bytes(): number {
    return fstatSync(this.#file).size
  }

  /** @throws {StoreDamaged} when a meta page cannot be right */
  snapshot(): Snapshot {
    for (let seen = ''; ; ) {
      const first = this.#meta(0)
      this.pageBytes = first.pageBytes
      const second = this.#meta(this.pageBytes)
      const follow = Math.abs(first.transaction - second.transaction) <= 1 && first.pageBytes === second.pageBytes
      if (follow) return first.transaction >= second.transaction ? first : second
      // Another process may have committed between the two reads.
      const transactions = `${first.transaction} ${second.transaction}`
      if (transactions === seen) throw new StoreDamaged('its two meta pages do not belong together')
      seen = transactions
    }
  }

  #meta(offset: number): Snapshot & { pageBytes: number } {
    const page = Buffer.alloc(headerBytes + meta.bytes)
    if (readSync(this.#file, page, 0, page.length, offset) < page.length)
      throw new StoreDamaged('data.mdb is cut short')
    const at = page.subarray(headerBytes)
    const pageBytes = at.readUInt32LE(24)
    const isMeta = page.readUInt16LE(18) === pageKinds.meta && at.readUInt32LE(0) === meta.magic
    const isPowerOf2 = pageBytes >= 512 && pageBytes <= 65_536 && (pageBytes & (pageBytes - 1)) === 0
    if (!isMeta || !isPowerOf2) throw new StoreDamaged('a meta page is overwritten')
    const version = at.readUInt32LE(4) & 0xffff
    if (version !== meta.version) throw new StoreDamaged(`data.mdb is of version ${version}, not ${meta.version}`)
    return {
      pageBytes,
      free: readTree('the free pages', at.subarray(24)),
      tables: readTree('the tables', at.subarray(24 + treeBytes)),
      lastPage: Number(at.readBigUInt64LE(120)),
      transaction: Number(at.readBigUInt64LE(128)),
    }
  }

  /** Calls back with each wanted page, in file order. The bytes are valid until the callback returns. */
  each<T extends { page: number }>(wanted: T[], look: (page: Buffer, wanted: T) => void): void {
    const sorted = wanted.toSorted((a, b) => a.page - b.page)
    for (let begin = 0, end = 1; begin < sorted.length; begin = end++) {
      const first = (sorted[begin] as T).page
      let last = first
      for (; end < sorted.length; end++) {
        const { page } = sorted[end] as T
        if (page - first >= pagesReadAtOnce || page - last > gapReadAlong) break
        last = page
      }
      const pages = this.read(first, last - first + 1)
      for (const one of sorted.slice(begin, end)) {
        const at = (one.page - first) * this.pageBytes
        look(pages.subarray(at, at + this.pageBytes), one)
      }
    }
  }

  /** The bytes are valid until the next read. @throws {StoreDamaged} when the file ends before */
  read(first: number, pages: number): Buffer {
    const length = pages * this.pageBytes
    if (this.#buffer.length < length) this.#buffer = Buffer.alloc(length)
    for (let read = 0; read < length; ) {
      const n = readSync(this.#file, this.#buffer, read, length - read, first * this.pageBytes + read)
      if (n === 0)
        throw new StoreDamaged(`data.mdb is cut short: page ${first + Math.floor(read / this.pageBytes)} is missing`)
      read += n
    }
    return this.#buffer.subarray(0, length)
  }
}

/** @param record as a meta page, or an entry of the tree of tables, has it */
export function readTree(name: string, record: Buffer): Tree {
  const count = (at: number) => Number(record.readBigUInt64LE(at))
  const levels = record.readUInt16LE(6)
  const isEmpty = record.readBigUInt64LE(40) === noPage
  if (isEmpty !== (levels === 0) || levels > mostLevels) throw new StoreDamaged(`the record of ${name} is overwritten`)
  const root = isEmpty ? undefined : count(40)
  return { name, root, levels, branches: count(8), leaves: count(16), overflows: count(24), entries: count(32) }
}

/** One page of a tree, and its nodes: entries of a leaf, or children of a branch. */
export class TreePage {
  readonly isBranch: boolean
  readonly nodes: number
  readonly #page: Buffer

  /**
   * Looks whether the header is that of the page, and whether the nodes lie within the page and fill it.
   *
   * @param transaction the newest that can have written it
   * @throws {StoreDamaged}
   */
  constructor(page: Buffer, number: number, { isBranch, transaction }: { isBranch: boolean; transaction: number }) {
    const wrong = () => new StoreDamaged(`page ${number} is overwritten`)
    this.#page = page
    this.isBranch = isBranch
    const kind = isBranch ? pageKinds.branch : pageKinds.leaf
    const isHeader = page.readBigUInt64LE(0) === BigInt(number) && (u16(page, 18) & 0x0f) === kind
    const [lower, upper, room] = [u16(page, 20), u16(page, 22), page.length - headerBytes]
    this.nodes = lower >> 1
    const isHole = lower <= upper && upper <= room && (lower & 1) === 0 && this.nodes > 0
    if (!isHeader || !isHole || page.readBigUInt64LE(8) > BigInt(transaction)) throw wrong()
    let filled = 0
    for (let i = 0; i < this.nodes; i++) {
      const at = this.#at(i)
      if (at < headerBytes + upper || at + nodeHeaderBytes > page.length || (at & 1) === 1) throw wrong()
      const inPage = isBranch ? 0 : this.#valueInPage(at)
      const bytes = nodeHeaderBytes + u16(page, at + 6) + inPage
      if (at + bytes > page.length) throw wrong()
      filled += (bytes + 1) & ~1
    }
    if (filled !== room - upper) throw wrong()
  }

  #at(i: number): number {
    return headerBytes + u16(this.#page, headerBytes + 2 * i)
  }
  #kind(at: number): number {
    return u16(this.#page, at + 4)
  }
  #valueBytes(at: number): number {
    return u16(this.#page, at) + u16(this.#page, at + 2) * 65_536
  }
  #valueInPage(at: number): number {
    return this.#kind(at) === nodeKinds.overflow ? headerBytes : this.#valueBytes(at)
  }

  key(i: number): Buffer {
    const at = this.#at(i)
    return this.#page.subarray(at + nodeHeaderBytes, at + nodeHeaderBytes + u16(this.#page, at + 6))
  }

  child(i: number): number {
    const at = this.#at(i)
    return this.#valueBytes(at) + u16(this.#page, at + 4) * 2 ** 32
  }

  /** The value of an entry, or where it is. @returns undefined for a kind of entry that our tables do not have */
  entry(i: number): Entry | undefined {
    const at = this.#at(i)
    const begin = at + nodeHeaderBytes + u16(this.#page, at + 6)
    const value = this.#page.subarray(begin, begin + this.#valueInPage(at))
    const kind = this.#kind(at)
    if (kind === nodeKinds.plain) return { value }
    if (kind === nodeKinds.table && value.length === treeBytes) return { table: value }
    if (kind !== nodeKinds.overflow) return undefined
    const [page, pages] = [Number(value.readBigUInt64LE(0)), Number(value.readBigUInt64LE(16))]
    return { overflow: { page, pages, bytes: this.#valueBytes(at) } }
  }

  /** Whether all entries are plain ones, which most pages are. */
  get isPlain(): boolean {
    for (let i = 0; i < this.nodes; i++) if (this.#kind(this.#at(i)) !== nodeKinds.plain) return false
    return true
  }

  /**
   * Whether the keys rise, beginning at `from` and ending before `below`.
   *
   * @param areNumbers of 64 bits, as in the tree of free pages
   */
  isInOrder({ from, below }: { from?: Buffer | undefined; below?: Buffer | undefined }, areNumbers: boolean): boolean {
    // The first key of a branch stands for all that comes before the second.
    const first = this.isBranch ? 1 : 0
    for (let i = first; i < this.nodes; i++) {
      const length = u16(this.#page, this.#at(i) + 6)
      if (areNumbers ? length !== 8 : length === 0) return false
      if (i > first && !(areNumbers ? number(this.key(i - 1)) < number(this.key(i)) : this.#rises(i))) return false
    }
    if (this.nodes <= first) return true
    const compare = areNumbers ? (a: Buffer, b: Buffer) => Number(number(a) - number(b)) : Buffer.compare
    return !(from && compare(from, this.key(first)) > 0) && !(below && compare(this.key(this.nodes - 1), below) >= 0)
  }

  /** Whether a key is behind the one before it. There are millions of them: nothing is allocated. */
  #rises(i: number): boolean {
    const page = this.#page
    const [a, b] = [this.#at(i - 1), this.#at(i)]
    const [lengthA, lengthB] = [u16(page, a + 6), u16(page, b + 6)]
    const both = Math.min(lengthA, lengthB)
    for (let k = nodeHeaderBytes; k < nodeHeaderBytes + both; k++) {
      const difference = (page[b + k] as number) - (page[a + k] as number)
      if (difference !== 0) return difference > 0
    }
    return lengthB > lengthA
  }
}

/**
 * What is on the pages of an overflow.
 *
 * @param bytes its pages, or the first
 * @throws {StoreDamaged}
 */
export function overflowValue(bytes: Buffer, { page, pages, bytes: length }: Overflow, pageBytes: number): Buffer {
  const isHeader = bytes.readBigUInt64LE(0) === BigInt(page) && (u16(bytes, 18) & 0x0f) === pageKinds.overflow
  const fits = bytes.readUInt32LE(20) === pages && headerBytes + length <= pages * pageBytes
  if (!isHeader || !fits) throw new StoreDamaged(`page ${page} is overwritten`)
  return bytes.subarray(headerBytes, headerBytes + length)
}

const u16 = (bytes: Buffer, at: number): number => (bytes[at] as number) | ((bytes[at + 1] as number) << 8)

const number = (key: Buffer): bigint => key.readBigUInt64LE(0)
