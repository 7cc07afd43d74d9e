import { Buffer } from 'node:buffer'

/** Hash functions below PBKDF2, and those of bare digests. */
export type HashFunction = 'md5' | 'sha1' | 'sha256' | 'sha512'

interface Salted {
  salt: Buffer
  digest: Buffer
}
/** `N` is 2 to the power of `logN`. */
interface ScryptCost {
  logN: number
  r: number
  p: number
}

/** Memory in KiB. */
export interface Argon2Hash extends Salted {
  scheme: 'argon2id' | 'argon2i' | 'argon2d'
  /** 16 or 19 */
  version: number
  memory: number
  passes: number
  lanes: number
}
/** The salt and the digest are text in the alphabet of crypt, as in `$2b$12$…`. */
export interface BcryptHash {
  /** what is hashed: the password; base64 of its HMAC-SHA-384 (WordPress 6.8); hex of its SHA-256 (Django) */
  scheme: 'bcrypt' | 'wp-bcrypt' | 'django-bcrypt-sha256'
  version: 'a' | 'b' | 'y'
  cost: number
  salt: string
  digest: string
}
export interface Pbkdf2Hash extends Salted {
  scheme: 'pbkdf2'
  hash: Exclude<HashFunction, 'md5'>
  iterations: number
}
/** `scrypt-nfkc` of the password after NFKC (better-auth). */
export interface ScryptHash extends Salted, ScryptCost {
  scheme: 'scrypt' | 'scrypt-nfkc'
}
/**
 * Firebase encrypts the signer key of the project under a key made by scrypt. The digest here is the key stream: what it
 * added to the signer key, which then is needed no more.
 */
export interface FirebaseHash extends Salted, ScryptCost {
  scheme: 'firebase-scrypt'
}
/** MD5 again and again, 2 to the power of `logRounds` times (WordPress before 6.8, phpBB). Text as for bcrypt. */
export interface PhpassHash {
  scheme: 'phpass'
  /** P, or H of phpBB: the same */
  id: 'P' | 'H'
  logRounds: number
  salt: string
  digest: string
}
/** One round of a hash function over the salt and then the password: only to be wrapped. */
export interface BareHash extends Salted {
  scheme: 'bare'
  hash: HashFunction
}
export type UnwrappedHash = Argon2Hash | BcryptHash | Pbkdf2Hash | ScryptHash | FirebaseHash | PhpassHash | BareHash
/** argon2id over the digest of `inner`, which has a blank one of the same length in its place. */
export interface WrappedHash {
  scheme: 'wrapped'
  inner: UnwrappedHash
  outer: Argon2Hash
}

/** A stored password hash, in parts. */
export type PasswordHash = UnwrappedHash | WrappedHash

/** Longer than all that is known to be in use; PBKDF2 with 512 bytes is. */
const maxTextLength = 2_000

/** The alphabet of crypt, of bcrypt and phpass. */
export const cryptAlphabet = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

const bcryptSchemes = { '': 'bcrypt', $wp: 'wp-bcrypt', '$django-bcrypt-sha256': 'django-bcrypt-sha256' } as const
const bcryptPrefixes = { bcrypt: '', 'wp-bcrypt': '$wp', 'django-bcrypt-sha256': '$django-bcrypt-sha256' } as const

/** @returns undefined for what is no base64, with or without padding */
export function fromBase64(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.replaceAll('=', '').length % 4 === 1) return undefined
  return Buffer.from(text, 'base64')
}
/** As PHC strings have it, without padding. */
export const toBase64 = (bytes: Buffer): string => bytes.toString('base64').replaceAll('=', '')

/**
 * @param text such as `m=64,t=2`
 * @param names of those that have to be there; what else is there makes it another hash
 */
function parameters<Name extends string>(text: string, names: Name[]): Partial<Record<Name, number>> {
  const pairs = text.split(',').map((pair) => pair.split('=', 2) as [Name, string])
  if (pairs.length !== names.length || !names.every((name) => pairs.some(([key]) => key === name))) return {}
  return Object.fromEntries(pairs.map(([name, value]) => [name, Number(value)])) as Record<Name, number>
}

const phc =
  /^\$(?<id>[a-z0-9-]+)(?:\$v=(?<version>\d{1,3}))?\$(?<params>[a-z]+=\d{1,10}(?:,[a-z]+=\d{1,10})*)\$(?<salt>[^$]*)\$(?<digest>[^$]*)$/
const bcrypt =
  /^(?<prefix>\$wp|\$django-bcrypt-sha256)?\$2(?<version>[aby])\$(?<cost>\d\d)\$(?<salt>[./A-Za-z0-9]{22})(?<digest>[./A-Za-z0-9]{31})$/
const phpass = /^\$(?<id>[PH])\$(?<rounds>[./A-Za-z0-9])(?<salt>.{8})(?<digest>[./A-Za-z0-9]{22})$/
const bare = /^\$(?<hash>md5|sha1|sha256|sha512)\$(?<salt>[^$]*)\$(?<digest>[^$]*)$/
const wrapped = /^\$wrapped(?<inner>\$.+)(?<outer>\$argon2id\$v=19\$[^$]+\$[^$]+\$[^$]+)$/

function readPhc(text: string): UnwrappedHash | undefined {
  const { id, version, params, ...rest } = phc.exec(text)?.groups ?? {}
  if (id === undefined || params === undefined) return undefined
  const salt = fromBase64(rest['salt'] as string)
  const digest = fromBase64(rest['digest'] as string)
  if (!salt || !digest) return undefined
  const hash = /^pbkdf2-(sha1|sha256|sha512)$/.exec(id)?.[1] as Pbkdf2Hash['hash'] | undefined
  if (hash) {
    const { i } = parameters(params.replace(/,l=\d+$/, ''), ['i'])
    return i === undefined ? undefined : { scheme: 'pbkdf2', hash, iterations: i, salt, digest }
  }
  switch (id) {
    case 'argon2id':
    case 'argon2i':
    case 'argon2d': {
      const { m, t, p } = parameters(params, ['m', 't', 'p'])
      if (m === undefined || t === undefined || p === undefined) return undefined
      return { scheme: id, version: Number(version ?? 16), memory: m, passes: t, lanes: p, salt, digest }
    }
    case 'scrypt':
    case 'scrypt-nfkc':
    case 'firebase-scrypt': {
      const { ln: logN, r, p } = parameters(params, ['ln', 'r', 'p'])
      if (logN === undefined || r === undefined || p === undefined) return undefined
      return { scheme: id, logN, r, p, salt, digest }
    }
    default:
      return undefined
  }
}

function readUnwrapped(text: string): UnwrappedHash | undefined {
  const asBcrypt = bcrypt.exec(text)?.groups
  if (asBcrypt) {
    const { prefix = '', version, cost, salt, digest } = asBcrypt as Record<string, string>
    return {
      scheme: bcryptSchemes[prefix as keyof typeof bcryptSchemes],
      version: version as BcryptHash['version'],
      cost: Number(cost),
      salt: salt as string,
      digest: digest as string,
    }
  }
  const asPhpass = phpass.exec(text)?.groups
  if (asPhpass) {
    const { id, rounds, salt, digest } = asPhpass as Record<string, string>
    const logRounds = cryptAlphabet.indexOf(rounds as string)
    return { scheme: 'phpass', id: id as PhpassHash['id'], logRounds, salt: salt as string, digest: digest as string }
  }
  const asBare = bare.exec(text)?.groups
  if (asBare) {
    const salt = fromBase64(asBare['salt'] as string)
    const digest = fromBase64(asBare['digest'] as string)
    return salt && digest && { scheme: 'bare', hash: asBare['hash'] as HashFunction, salt, digest }
  }
  return readPhc(text)
}

/**
 * Reads a stored hash. Not checked: what it costs, and whether its digest is long enough.
 *
 * @returns undefined when it is none
 */
export function readPasswordHash(text: string): PasswordHash | undefined {
  if (text.length > maxTextLength) return undefined
  const { inner, outer } = wrapped.exec(text)?.groups ?? {}
  if (inner === undefined || outer === undefined) return readUnwrapped(text)
  const [innerHash, outerHash] = [readUnwrapped(inner), readUnwrapped(outer)]
  return innerHash && outerHash && { scheme: 'wrapped', inner: innerHash, outer: outerHash as Argon2Hash }
}

/** Writes a hash as it is stored: one text for each scheme, whose beginning says which. */
export function writePasswordHash(hash: PasswordHash): string {
  switch (hash.scheme) {
    case 'argon2id':
    case 'argon2i':
    case 'argon2d': {
      // A PHC string without a version is one of the first (1.0).
      const version = hash.version === 16 ? '' : `$v=${hash.version}`
      return `$${hash.scheme}${version}$m=${hash.memory},t=${hash.passes},p=${hash.lanes}${saltAndDigest(hash)}`
    }
    case 'bcrypt':
    case 'wp-bcrypt':
    case 'django-bcrypt-sha256': {
      const cost = String(hash.cost).padStart(2, '0')
      return `${bcryptPrefixes[hash.scheme]}$2${hash.version}$${cost}$${hash.salt}${hash.digest}`
    }
    case 'pbkdf2':
      return `$pbkdf2-${hash.hash}$i=${hash.iterations}${saltAndDigest(hash)}`
    case 'scrypt':
    case 'scrypt-nfkc':
    case 'firebase-scrypt':
      return `$${hash.scheme}$ln=${hash.logN},r=${hash.r},p=${hash.p}${saltAndDigest(hash)}`
    case 'phpass':
      return `$${hash.id}$${cryptAlphabet[hash.logRounds]}${hash.salt}${hash.digest}`
    case 'bare':
      return `$${hash.hash}${saltAndDigest(hash)}`
    case 'wrapped':
      return `$wrapped${writePasswordHash(hash.inner)}${writePasswordHash(hash.outer)}`
  }
}
const saltAndDigest = ({ salt, digest }: Salted) => `$${toBase64(salt)}$${toBase64(digest)}`
