import type { PasswordHash } from './password-hash.ts'

/** The most that a hash may cost: each guess at it is work that somebody else has ordered. Memory in KiB. */
const caps = {
  bcryptCost: 15,
  pbkdf2Iterations: 5_000_000,
  scryptCost: 2 ** 20,
  argon2Memory: 262_144,
  argon2Passes: 10,
  argon2Lanes: 64,
  phpassLogRounds: 20,
}
/** A shorter digest has other passwords that fit. */
const minDigestBytes = 16
const maxDigestBytes = 512

/** OWASP Password Storage Cheat Sheet: a hash is strong that has both numbers of one of the pairs. */
const strong = {
  bcryptCost: 10,
  pbkdf2Iterations: { sha1: 1_300_000, sha256: 600_000, sha512: 210_000 },
  scryptWithR8: [
    [17, 1],
    [16, 2],
    [15, 3],
    [14, 5],
    [13, 10],
  ],
  argon2: [
    [47_104, 1],
    [19_456, 2],
    [12_288, 3],
    [9_216, 4],
    [7_168, 5],
  ],
} as const

/** What costs about as much as argon2id with m=19456, t=2, compiled, by the figures of `npm run bench:hashes`. */
const asDear = {
  bcryptCost: 7,
  pbkdf2Iterations: { sha1: 50_000, sha256: 40_000, sha512: 25_000 },
  scryptCost: 2 ** 15,
  argon2Cost: 19_456 * 2,
  phpassLogRounds: 14,
}

/** Why a number is not taken. @returns undefined when it is */
function outside(what: string, value: number, least: number, most: number): string | undefined {
  // It may come from somebody's JSON.
  if (!Number.isSafeInteger(value)) return `${what} is no whole number`
  if (value > most) return `${what} of ${value} is above ${most}, the most that is taken`
  return value < least ? `${what} of ${value} is below ${least}, the least there can be` : undefined
}

/** Why a hash of this cost is not compared. @returns undefined when it is */
export function costRefusal(hash: PasswordHash): string | undefined {
  switch (hash.scheme) {
    case 'bcrypt':
    case 'wp-bcrypt':
    case 'django-bcrypt-sha256':
      return outside('a bcrypt cost', hash.cost, 4, caps.bcryptCost)
    case 'pbkdf2':
      return outside('a PBKDF2 iteration count', hash.iterations, 1, caps.pbkdf2Iterations)
    case 'scrypt':
    case 'scrypt-nfkc':
    case 'firebase-scrypt': {
      const { logN, r, p } = hash
      return (
        outside('an scrypt r', r, 1, caps.scryptCost) ??
        outside('an scrypt p', p, 1, caps.scryptCost) ??
        // N < 2^(128 r / 8): RFC 7914 §2.
        outside('an scrypt exponent of N', logN, 1, 16 * r - 1) ??
        outside('an scrypt cost N·r·p', 2 ** Math.min(logN, 30) * r * p, 2, caps.scryptCost)
      )
    }
    case 'argon2id':
    case 'argon2i':
    case 'argon2d': {
      const { version, memory, passes, lanes, salt } = hash
      if (version !== 16 && version !== 19) return 'argon2 has no such version'
      return (
        outside('an argon2 lane count', lanes, 1, caps.argon2Lanes) ??
        outside('an argon2 memory in KiB', memory, 8 * lanes, caps.argon2Memory) ??
        outside('an argon2 pass count', passes, 1, caps.argon2Passes) ??
        outside('an argon2 salt length in bytes', salt.length, 8, maxDigestBytes)
      )
    }
    case 'phpass':
      return outside('a phpass round exponent', hash.logRounds, 7, caps.phpassLogRounds)
    case 'bare':
      return undefined
    case 'wrapped':
      return [hash.inner, hash.outer].map((part) => costRefusal(part) ?? digestRefusal(part)).find(Boolean)
  }
}

/** Why a digest is not taken, by its length. @returns undefined when it is */
export function digestRefusal(hash: PasswordHash): string | undefined {
  // The length of a text is held by its pattern.
  if (hash.scheme === 'wrapped' || typeof hash.digest === 'string') return undefined
  return outside('a digest length in bytes', hash.digest.length, minDigestBytes, maxDigestBytes)
}

/** Whether a hash is cheaper to guess at than it should be today. */
export function isWeak(hash: PasswordHash): boolean {
  switch (hash.scheme) {
    case 'bcrypt':
    case 'wp-bcrypt':
    case 'django-bcrypt-sha256':
      return hash.cost < strong.bcryptCost
    case 'pbkdf2':
      return hash.iterations < strong.pbkdf2Iterations[hash.hash]
    case 'scrypt':
    case 'scrypt-nfkc':
    case 'firebase-scrypt':
      return !strong.scryptWithR8.some(([logN, p]) => hash.logN >= logN && hash.r >= 8 && hash.p >= p)
    case 'argon2id':
    case 'argon2i':
    case 'argon2d':
      return !strong.argon2.some(([memory, passes]) => hash.memory >= memory && hash.passes >= passes)
    case 'phpass':
    case 'bare':
      return true
    case 'wrapped':
      return isWeak(hash.outer)
  }
}

/** Whether comparing takes longer than with a hash of today's default cost. */
export function isDearer(hash: PasswordHash): boolean {
  switch (hash.scheme) {
    case 'bcrypt':
    case 'wp-bcrypt':
    case 'django-bcrypt-sha256':
      return hash.cost > asDear.bcryptCost
    case 'pbkdf2':
      return hash.iterations > asDear.pbkdf2Iterations[hash.hash]
    case 'scrypt':
    case 'scrypt-nfkc':
    case 'firebase-scrypt':
      return 2 ** hash.logN * hash.r * hash.p > asDear.scryptCost
    case 'argon2id':
    case 'argon2i':
    case 'argon2d':
      return hash.memory * hash.passes > asDear.argon2Cost
    case 'phpass':
      return hash.logRounds > asDear.phpassLogRounds
    case 'bare':
      return false
    case 'wrapped':
      return hash.inner.scheme !== 'bare'
  }
}
