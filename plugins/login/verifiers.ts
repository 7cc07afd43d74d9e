import { Buffer } from 'node:buffer'
import { createCipheriv, createHash, createHmac, pbkdf2, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { argon2 } from './argon2.ts'
import { costRefusal } from './hash-costs.ts'
import {
  type Argon2Hash,
  type BcryptHash,
  type FirebaseHash,
  type PasswordHash,
  type Pbkdf2Hash,
  readPasswordHash,
  type ScryptHash,
  type UnwrappedHash,
  writePasswordHash,
} from './password-hash.ts'
import { phpassDigest } from './phpass.ts'

/*
 * Whether a password is that of a stored hash of any scheme. What takes long is done by libuv's threads, or by one of
 * its own: never by the event loop.
 */

const deriveByPbkdf2 = promisify(pbkdf2)
const deriveByScrypt = promisify<Buffer, Buffer, number, object, Buffer>(scrypt)

/** bcrypt reads no more, and stops at NUL. */
const bcryptBytes = 72
const hashBytes = { sha1: 20, sha256: 32, sha512: 64 }

function bcryptInput(scheme: BcryptHash['scheme'], password: Buffer): Buffer {
  if (scheme === 'wp-bcrypt') return Buffer.from(createHmac('sha384', 'wp-sha384').update(password).digest('base64'))
  if (scheme === 'django-bcrypt-sha256') return Buffer.from(createHash('sha256').update(password).digest('hex'))
  const nul = password.indexOf(0)
  return nul < 0 ? password : password.subarray(0, nul)
}

async function byBcrypt({ scheme, cost, salt }: BcryptHash, password: Buffer): Promise<Buffer> {
  // Loaded where there is such a hash: a service without any does not need its binary.
  const { default: bcrypt } = await import('bcrypt')
  const input = bcryptInput(scheme, password).subarray(0, bcryptBytes)
  // For passwords of this length $2a$, $2b$ and $2y$ are one.
  const text = await bcrypt.hash(input, `$2b$${String(cost).padStart(2, '0')}$${salt}`)
  return Buffer.from(text.slice(-31), 'latin1')
}

/** Of a longer digest the first block alone: the others cost as much again, and tell nothing more. */
const byPbkdf2 = ({ hash, iterations, salt, digest }: Pbkdf2Hash, password: Buffer) =>
  deriveByPbkdf2(password, salt, iterations, Math.min(digest.length, hashBytes[hash]), hash)

function byScrypt({ logN, r, p, salt }: ScryptHash | FirebaseHash, password: Buffer, bytes: number): Promise<Buffer> {
  const N = 2 ** logN
  return deriveByScrypt(password, salt, bytes, { N, r, p, maxmem: 128 * r * (N + p + 2) + 1024 })
}

async function byFirebase(hash: FirebaseHash, password: Buffer): Promise<Buffer> {
  const key = await byScrypt(hash, password, 32)
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(hash.digest.length))
}

const byArgon2 = ({ scheme, version, memory, passes, lanes, salt, digest }: Argon2Hash, password: Buffer) =>
  argon2.hash(password, {
    type: argon2[scheme],
    version,
    memoryCost: memory,
    timeCost: passes,
    parallelism: lanes,
    salt,
    hashLength: digest.length,
    raw: true,
  })

/** The digest that a password has by the parameters and salt of a hash. */
async function derive(hash: UnwrappedHash, typed: string): Promise<Buffer> {
  const password = Buffer.from(typed)
  switch (hash.scheme) {
    case 'argon2id':
    case 'argon2i':
    case 'argon2d':
      return byArgon2(hash, password)
    case 'bcrypt':
    case 'wp-bcrypt':
    case 'django-bcrypt-sha256':
      return byBcrypt(hash, password)
    case 'pbkdf2':
      return byPbkdf2(hash, password)
    case 'scrypt':
    case 'scrypt-nfkc':
      return byScrypt(hash, password, hash.digest.length)
    case 'firebase-scrypt':
      return byFirebase(hash, password)
    case 'phpass':
      return Buffer.from(await phpassDigest(hash.salt, password, hash.logRounds), 'latin1')
    case 'bare':
      return createHash(hash.hash).update(hash.salt).update(password).digest()
  }
}

/** The part of the stored digest that `derive` computes. */
function digestOf(hash: UnwrappedHash): Buffer {
  const digest = typeof hash.digest === 'string' ? Buffer.from(hash.digest, 'latin1') : hash.digest
  return hash.scheme === 'pbkdf2' ? digest.subarray(0, hashBytes[hash.hash]) : digest
}

/** As PHP has it. */
const withSlashes = (text: string) => text.replaceAll(/['"\\]/g, '\\$&')
const trimmed = (text: string) => text.replaceAll(/^[ \t\n\r\v\0]+|[ \t\n\r\v\0]+$/g, '')

/** The texts that the old system may have hashed for what was typed. */
function spellings(hash: PasswordHash, typed: string): string[] {
  switch (innerOf(hash).scheme) {
    // Latchkey's own are of the NFC, and look the same.
    case 'argon2id':
    case 'argon2i':
    case 'argon2d':
      return unique(typed.normalize('NFC'), typed)
    case 'scrypt-nfkc':
      return [typed.normalize('NFKC')]
    // WordPress trims, and its forms see quotes with the slashes of PHP's magic quotes; its API sees them without.
    case 'wp-bcrypt':
      return unique(withSlashes(trimmed(typed)), trimmed(typed))
    case 'phpass':
      return unique(withSlashes(trimmed(typed)), trimmed(typed), typed)
    default:
      return [typed]
  }
}
const unique = (...texts: string[]) => [...new Set(texts)]
const innerOf = (hash: PasswordHash): UnwrappedHash => (hash.scheme === 'wrapped' ? hash.inner : hash)

/**
 * What a comparison costs, as a key: scheme and parameters, and what of the password counts. Otherwise somebody who
 * sends long passwords could have short ones padded as long ones are.
 */
export function costKey(hash: PasswordHash, typed: string): string {
  const parameters = JSON.stringify(hash, (key, value) => (key === 'salt' || key === 'digest' ? undefined : value))
  // MD5 reads all of the password in each round, 64 bytes at a time.
  const blocks = innerOf(hash).scheme === 'phpass' ? Math.ceil((Buffer.byteLength(typed) + 25) / 64) : 0
  return `${parameters} ${spellings(hash, typed).length} ${blocks}`
}

/**
 * @param typed the password as typed
 * @returns whether the hash is that of the password, by the rules of the system that it comes from
 */
export async function isHashOf(hash: PasswordHash, typed: string): Promise<boolean> {
  const inner = innerOf(hash)
  // An import refuses these. What argon2 costs, the settings of this service may have asked for.
  const tooDear = inner.scheme.startsWith('argon2') ? undefined : costRefusal(inner)
  if (tooDear) throw new Error(tooDear)
  for (const text of spellings(hash, typed)) {
    const digest = await derive(inner, text)
    if (hash.scheme === 'wrapped') {
      if (await argon2.verify(writePasswordHash(hash.outer), digest)) return true
    } else {
      const expected = digestOf(hash)
      if (digest.length === expected.length && timingSafeEqual(digest, expected)) return true
    }
  }
  return false
}

/**
 * @param stored a hash that `readPasswordHash` reads
 * @param overDigest hashes the digest by argon2id, and returns a PHC string
 * @returns the hash that is stored in its place, of which the digest cannot be told without guessing
 */
export async function wrapHash(stored: string, overDigest: (digest: Buffer) => Promise<string>): Promise<string> {
  const hash = readPasswordHash(stored)
  if (!hash || hash.scheme === 'wrapped') throw new Error('There is nothing to wrap')
  const blank = typeof hash.digest === 'string' ? '.'.repeat(hash.digest.length) : Buffer.alloc(hash.digest.length)
  return `$wrapped${writePasswordHash({ ...hash, digest: blank } as UnwrappedHash)}${await overDigest(digestOf(hash))}`
}
