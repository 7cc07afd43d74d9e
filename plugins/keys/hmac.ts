import { Buffer } from 'node:buffer'
import { hash } from 'node:crypto'

/** of SHA-256 */
const [blockBytes, digestBytes] = [64, 32]
const [innerPad, outerPad] = [0x36, 0x5c]

/**
 * HMAC-SHA-256 (RFC 2104) under one key, by two one-shot hashes: `createHmac` makes a stream and two native objects each
 * time, and takes three times as long.
 *
 * @param key 64 bytes at most
 * @returns a function of a message, to 32 bytes
 */
export function createHmacOf(key: Uint8Array): (message: Uint8Array) => Buffer {
  const block = (pad: number) => Buffer.alloc(blockBytes).map((_, at) => (key[at] ?? 0) ^ pad)
  const inner = block(innerPad)
  const outer = Buffer.concat([block(outerPad), Buffer.alloc(digestBytes)])
  return (message) => {
    const padded = Buffer.allocUnsafe(blockBytes + message.length)
    padded.set(inner)
    padded.set(message, blockBytes)
    // A digest as a string of bytes: to make a buffer takes longer than to hash.
    outer.write(hash('sha256', padded, 'binary'), blockBytes, 'binary')
    return Buffer.from(hash('sha256', outer, 'binary'), 'binary')
  }
}
