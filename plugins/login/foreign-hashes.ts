import { Buffer } from 'node:buffer'
import { noPassword } from '../../domain/user.ts'
import { costRefusal, digestRefusal, isDearer, isWeak } from './hash-costs.ts'
import { fromBase64, type PasswordHash, readPasswordHash, writePasswordHash } from './password-hash.ts'

/** A hash of another system, as it is stored. */
export interface ForeignHash {
  stored: string
  /** below what OWASP asks for; `--wrap` puts argon2id over it */
  isWeak: boolean
  /** may not be stored as it is, only wrapped: a bare MD5 or SHA */
  isOnlyForWrapping: boolean
  /** a wrong password takes longer than against a hash of today's default cost, which shows */
  isDearer: boolean
}

/** What is not taken, with the reason as the report of an import says it. The reason never repeats the hash. */
export interface RefusedHash {
  refused: string
}

/**
 * A hash of another system of which the parts are known, such as a credential of Keycloak.
 *
 * @returns what is stored, or why it is not taken
 */
export function takeHash(hash: PasswordHash): ForeignHash | RefusedHash {
  const refused = costRefusal(hash) ?? digestRefusal(hash)
  if (refused !== undefined) return { refused }
  return {
    stored: writePasswordHash(hash),
    isWeak: isWeak(hash),
    isOnlyForWrapping: hash.scheme === 'bare',
    isDearer: isDearer(hash),
  }
}

/** What Firebase shows of the hashes of a project, `hash_config`; keys and separator in base64. */
export interface FirebaseConfig {
  base64_signer_key: string
  base64_salt_separator: string
  rounds: number
  mem_cost: number
}

/**
 * A hash as `auth:export` of Firebase has it: AES-256-CTR of the signer key, under a key made by scrypt. Without the
 * signer key, which the export does not have, what is left is a key stream: that is stored, and the signer key nowhere.
 *
 * @param passwordHash in base64, or its variant for URLs
 * @param salt likewise
 * @see https://github.com/firebase/scrypt
 */
export function takeFirebaseHash(
  { passwordHash, salt }: { passwordHash: string; salt: string },
  config: FirebaseConfig,
): ForeignHash | RefusedHash {
  const bytes = (text: string) => fromBase64(text.replaceAll('-', '+').replaceAll('_', '/'))
  const [hash, saltBytes] = [bytes(passwordHash), bytes(salt)]
  const [key, separator] = [bytes(config.base64_signer_key), bytes(config.base64_salt_separator)]
  if (!hash || !saltBytes || !key || !separator)
    return { refused: 'the hash, its salt or the configuration is no base64' }
  if (hash.length !== key.length)
    return { refused: 'the hash is not as long as the signer key: it is of another project' }
  const digest = Buffer.from(hash.map((byte, i) => byte ^ (key[i] as number)))
  const { mem_cost: logN, rounds: r } = config
  return takeHash({ scheme: 'firebase-scrypt', logN, r, p: 1, salt: Buffer.concat([saltBytes, separator]), digest })
}

type Groups = Record<string, string>
/** A text of another system, and how it becomes parts. */
type Reader = [pattern: RegExp, read: (groups: Groups) => PasswordHash | ForeignHash | RefusedHash | undefined]

const hex = (text: string) => Buffer.from(text, 'hex')
const text = (value: string) => Buffer.from(value, 'utf8')

/** PBKDF2 of ASP.NET Core Identity: `Microsoft.AspNetCore.Identity.PasswordHasher`, versions 2 and 3. */
function readAspNet(blob: Buffer): PasswordHash | undefined {
  if (blob[0] === 0 && blob.length === 49)
    return { scheme: 'pbkdf2', hash: 'sha1', iterations: 1000, salt: blob.subarray(1, 17), digest: blob.subarray(17) }
  if (blob[0] !== 1 || blob.length < 13) return undefined
  const hash = (['sha1', 'sha256', 'sha512'] as const)[blob.readUInt32BE(1)]
  const saltEnd = 13 + blob.readUInt32BE(9)
  if (!hash || saltEnd > blob.length) return undefined
  const iterations = blob.readUInt32BE(5)
  return { scheme: 'pbkdf2', hash, iterations, salt: blob.subarray(13, saltEnd), digest: blob.subarray(saltEnd) }
}

const readers: Reader[] = [
  // Django. The salt is text.
  [
    /^pbkdf2_(?<hash>sha1|sha256)\$(?<iterations>\d{1,10})\$(?<salt>[^$]+)\$(?<digest>[^$]+)$/,
    ({ hash, iterations, salt, digest }) =>
      pbkdf2(hash as 'sha1' | 'sha256', Number(iterations), text(salt as string), fromBase64(digest as string)),
  ],
  [/^argon2(?<hash>\$argon2.+)$/, ({ hash }) => readPasswordHash(hash as string)],
  [/^bcrypt\$(?<hash>\$2.+)$/, ({ hash }) => readPasswordHash(hash as string)],
  [/^bcrypt_sha256\$(?<hash>\$2.+)$/, ({ hash }) => readPasswordHash(`$django-bcrypt-sha256${hash}`)],
  [
    /^scrypt\$(?<n>\d{1,10})\$(?<salt>[^$]+)\$(?<r>\d{1,10})\$(?<p>\d{1,10})\$(?<digest>[^$]+)$/,
    ({ n, salt, r, p, digest }) => {
      const bytes = fromBase64(digest as string)
      const logN = Math.log2(Number(n))
      if (!bytes || !Number.isInteger(logN)) return undefined
      return { scheme: 'scrypt', logN, r: Number(r), p: Number(p), salt: text(salt as string), digest: bytes }
    },
  ],
  [
    /^(?<hash>md5|sha1)\$(?<salt>[^$]*)\$(?<digest>[0-9a-f]{32}|[0-9a-f]{40})$/,
    ({ hash, salt, digest }) => bareOf(hash as 'md5' | 'sha1', text(salt as string), hex(digest as string)),
  ],
  // passlib, with a base64 of its own.
  [
    /^\$pbkdf2(?:-(?<hash>sha256|sha512))?\$(?<iterations>\d{1,10})\$(?<salt>[^$]*)\$(?<digest>[^$]+)$/,
    ({ hash = 'sha1', iterations, salt, digest }) => {
      const [saltBytes, bytes] = [salt, digest].map((value) => fromBase64((value as string).replaceAll('.', '+')))
      return saltBytes && pbkdf2(hash as 'sha1' | 'sha256' | 'sha512', Number(iterations), saltBytes, bytes)
    },
  ],
  // Supabase, of users who came from Firebase.
  [
    /^\$fbscrypt\$v=1,n=(?<n>\d{1,2}),r=(?<r>\d{1,3})(?:,p=1)?,ss=(?<separator>[^,$]*),sk=(?<key>[^,$]+)\$(?<salt>[^$]+)\$(?<digest>[^$]+)$/,
    ({ n, r, separator, key, salt, digest }) =>
      takeFirebaseHash(
        { passwordHash: digest as string, salt: salt as string },
        {
          base64_signer_key: key as string,
          base64_salt_separator: separator as string,
          rounds: Number(r),
          mem_cost: Number(n),
        },
      ),
  ],
  // Spring Security names the scheme before a hash in the usual form.
  [/^\{(?:bcrypt|argon2|argon2@SpringSecurity_v5_8)\}(?<hash>\$.+)$/, ({ hash }) => readPasswordHash(hash as string)],
  // better-auth, and Lucia before it: the salt is the text of its hex digits.
  [
    /^(?<salt>[0-9a-f]{32}):(?<digest>[0-9a-f]{128})$/,
    ({ salt, digest }) => {
      const cost = { logN: 14, r: 16, p: 1 }
      return { scheme: 'scrypt-nfkc', ...cost, salt: text(salt as string), digest: hex(digest as string) }
    },
  ],
  [
    /^(?<digest>[0-9a-fA-F]+)$/,
    ({ digest }) => {
      const hash = ({ 32: 'md5', 40: 'sha1', 64: 'sha256', 128: 'sha512' } as const)[(digest as string).length]
      return hash && bareOf(hash, Buffer.alloc(0), hex(digest as string))
    },
  ],
  [/^(?<blob>A[A-Q][A-Za-z0-9+/]{40,}={0,2})$/, ({ blob }) => readAspNet(Buffer.from(blob as string, 'base64'))],
]

function pbkdf2(
  hash: 'sha1' | 'sha256' | 'sha512',
  iterations: number,
  salt: Buffer,
  digest: Buffer | undefined,
): PasswordHash | undefined {
  return digest && { scheme: 'pbkdf2', hash, iterations, salt, digest }
}

const digestBytes = { md5: 16, sha1: 20, sha256: 32, sha512: 64 }
function bareOf(hash: keyof typeof digestBytes, salt: Buffer, digest: Buffer): PasswordHash | undefined {
  return digest.length === digestBytes[hash] ? { scheme: 'bare', hash, salt, digest } : undefined
}

/**
 * Reads the hash of another system that says what it is: in the form in which the system stores it, or as Latchkey
 * does. An empty one, and one that begins with `!` or `*` as those do that no password fits, becomes `noPassword`.
 *
 * @returns what is stored, or why it is not taken
 */
export function readForeignHash(hash: string): ForeignHash | RefusedHash {
  if (/^(?:$|[!*])/.test(hash)) return { stored: noPassword, isWeak: false, isOnlyForWrapping: false, isDearer: false }
  if (hash.length > 4_000) return { refused: 'the hash is longer than any that is known' }
  const own = readPasswordHash(hash)
  if (own) return takeHash(own)
  for (const [pattern, read] of readers) {
    const groups = pattern.exec(hash)?.groups
    const found = groups && read(groups)
    if (found) return 'scheme' in found ? takeHash(found) : found
  }
  return { refused: 'the hash is in no form that is known' }
}
