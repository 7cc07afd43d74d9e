import { isUuid } from '../../domain/ids.ts'
import { endOfId, readId, writeId } from './uuids.ts'

/* Keys of tables and indexes as bytes. They sort as LMDB compares them: byte by byte. */

/** What a key is made of: an id, or milliseconds since the epoch in six bytes, the highest first. */
type Part = 'id' | 'time'

/** Keys of indexes. */
export type ByCreation = [createdAt: number, id: string]
export type ByUser = [userId: string, createdAt: number, id: string]
export type ByParent = [parent: string, id: string]
export type IndexKey = ByCreation | ByUser | ByParent

/** The first parts of a key: a range begins there, or ends before all that begin with them. */
export const upTo = <K extends IndexKey>(...parts: (string | number)[]): K => parts as IndexKey as K

/** Behind every time, and behind every id: a range that ends with one of them has all of what is before it. */
export const endOfTime = 2 ** 48 - 1
export const lastId = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

const timeBytes = 6

function writeTime(time: number, target: Uint8Array, start: number): number {
  const within = Math.min(Math.max(0, Math.floor(time)), endOfTime)
  const [high, low] = [Math.floor(within / 2 ** 32), within >>> 0]
  target[start] = high >>> 8
  target[start + 1] = high
  target[start + 2] = low >>> 24
  target[start + 3] = low >>> 16
  target[start + 4] = low >>> 8
  target[start + 5] = low
  return start + timeBytes
}

function readTime(source: Uint8Array, start: number): number {
  const byte = (at: number) => source[start + at] as number
  return ((byte(0) << 8) | byte(1)) * 2 ** 32 + byte(2) * 2 ** 24 + ((byte(3) << 16) | (byte(4) << 8) | byte(5))
}

/** Where a page in the order of creation ends, as in PostgreSQL. */
export const positionOf = ({ createdAt, id }: { createdAt: number; id: string }): string => `${createdAt}/${id}`
export function readPosition(text = ''): ByCreation | undefined {
  const [, createdAt, id = ''] = /^([0-9]{1,15})\/(.*)$/s.exec(text) ?? []
  return createdAt !== undefined && isUuid(id) ? [Number(createdAt), id] : undefined
}

/** How lmdb-js turns keys into bytes, and back: `keyEncoder` of a database. */
export interface KeyEncoder {
  writeKey(key: string | IndexKey | Uint8Array, target: Uint8Array, start: number): number
  readKey(source: Uint8Array, start: number): string | IndexKey
}

/**
 * Keys of some parts, given as an array; of the first of them alone, where a range begins or ends.
 *
 * @param parts one alone is given as it is
 */
export function keysOf(...parts: Part[]): KeyEncoder {
  return {
    writeKey(key, target, start) {
      // Where a range is not said to begin, lmdb-js gives the first key of its own encoding. All of ours are behind this.
      if (key instanceof Uint8Array) return target.fill(0, start, start + 1) && start + 1
      if (typeof key === 'string') return writeId(key, target, start)
      let end = start
      for (const part of key) end = typeof part === 'number' ? writeTime(part, target, end) : writeId(part, target, end)
      return end
    },
    readKey(source, start) {
      if (parts.length === 1) return readId(source, start)
      const key: (string | number)[] = []
      let at = start
      for (const part of parts) {
        key.push(part === 'time' ? readTime(source, at) : readId(source, at))
        at = part === 'time' ? at + timeBytes : endOfId(source, at)
      }
      return key as IndexKey
    },
  }
}

/** The value of an index: the id of its row. */
export const idValues = {
  encode(id: string): Buffer {
    const bytes = Buffer.allocUnsafe(16 + 3 * id.length + 1)
    return bytes.subarray(0, writeId(id, bytes, 0))
  },
  decode: (bytes: Uint8Array): string => readId(bytes, 0),
}
