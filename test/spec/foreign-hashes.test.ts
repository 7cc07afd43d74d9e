import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { noPassword } from '../../domain/user.ts'
import {
  type ForeignHash,
  type RefusedHash,
  readForeignHash,
  takeFirebaseHash,
  takeHash,
} from '../../plugins/login/foreign-hashes.ts'
import { readPasswordHash, writePasswordHash } from '../../plugins/login/password-hash.ts'
import { createStoredHashes } from '../../plugins/login/stored-hashes.ts'
import { costKey } from '../../plugins/login/verifiers.ts'
import { anyText } from '../support/any-text.ts'
import { firebase, keycloakCredentials, vectors } from '../support/foreign-hashes.ts'
import { isLong } from '../support/processes.ts'

const b64 = (bytes: number) => randomBytes(bytes).toString('base64').replaceAll('=', '')
const [salt, digest] = [b64(16), b64(32)]
const bcryptTail = 'abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234'
const storedOf = (text: string) => {
  const hash = readForeignHash(text)
  return 'stored' in hash ? hash.stored : `refused: ${hash.refused}`
}

t.test('what is stored is read as it was written, and as the hash of another system (contract §13)', async (t) => {
  for (const stored of [
    `$argon2id$v=19$m=19456,t=2,p=1$${salt}$${digest}`,
    `$argon2i$m=4096,t=3,p=1$${salt}$${digest}`,
    `$argon2d$v=19$m=8192,t=1,p=4$${salt}$${digest}`,
    `$2a$04$${bcryptTail}`,
    `$2b$15$${bcryptTail}`,
    `$2y$10$${bcryptTail}`,
    `$wp$2y$10$${bcryptTail}`,
    `$django-bcrypt-sha256$2b$12$${bcryptTail}`,
    `$pbkdf2-sha1$i=1$${salt}$${b64(20)}`,
    `$pbkdf2-sha256$i=5000000$${salt}$${digest}`,
    `$pbkdf2-sha512$i=210000$$${b64(64)}`,
    `$scrypt$ln=17,r=8,p=1$${salt}$${digest}`,
    `$scrypt-nfkc$ln=14,r=16,p=1$${salt}$${b64(64)}`,
    `$firebase-scrypt$ln=14,r=8,p=1$${salt}$${b64(64)}`,
    '$P$B12345678ABCDEFGHIJKLMNOPQRSTU.',
    '$H$912345678ABCDEFGHIJKLMNOPQRSTU.',
    `$md5$$${b64(16)}`,
    `$sha512$${salt}$${b64(64)}`,
    `$wrapped$md5$$${'A'.repeat(22)}$argon2id$v=19$m=19456,t=2,p=1$${salt}$${digest}`,
    `$wrapped$pbkdf2-sha256$i=1000$${salt}$${'A'.repeat(43)}$argon2id$v=19$m=19456,t=2,p=1$${salt}$${digest}`,
    `$wrapped$2a$04$${bcryptTail}$argon2id$v=19$m=19456,t=2,p=1$${salt}$${digest}`,
  ]) {
    const hash = readPasswordHash(stored)
    t.equal(hash && writePasswordHash(hash), stored)
    t.equal(storedOf(stored), stored)
  }
})

t.test('a hash above the caps is refused, and the reason says which (contract §13)', async (t) => {
  const refused: [text: string, reason: RegExp][] = [
    [`$2b$16$${bcryptTail}`, /^a bcrypt cost of 16 is above 15/],
    [`$2b$03$${bcryptTail}`, /^a bcrypt cost of 3 is below 4/],
    [`$wp$2y$31$${bcryptTail}`, /^a bcrypt cost of 31/],
    [`$pbkdf2-sha1$i=5000001$${salt}$${digest}`, /^a PBKDF2 iteration count of 5000001 is above 5000000/],
    [`pbkdf2_sha256$9999999999$salt$${digest}`, /^a PBKDF2 iteration count/],
    [`$pbkdf2-sha1$i=0$${salt}$${digest}`, /below 1/],
    [`$scrypt$ln=17,r=8,p=2$${salt}$${digest}`, /^an scrypt cost N·r·p of 2097152 is above 1048576/],
    [`$scrypt$ln=999999999,r=8,p=1$${salt}$${digest}`, /scrypt/],
    [`$scrypt$ln=16,r=1,p=1$${salt}$${digest}`, /^an scrypt exponent of N of 16 is above 15/],
    [`scrypt$16385$salt$8$1$${digest}`, /no form/],
    [`$argon2id$v=19$m=262145,t=1,p=1$${salt}$${digest}`, /^an argon2 memory in KiB of 262145 is above 262144/],
    [`$argon2id$v=19$m=64,t=11,p=1$${salt}$${digest}`, /^an argon2 pass count of 11 is above 10/],
    [`$argon2id$v=19$m=9999,t=1,p=65$${salt}$${digest}`, /^an argon2 lane count of 65/],
    [`$argon2id$v=19$m=7,t=1,p=1$${salt}$${digest}`, /^an argon2 memory in KiB of 7 is below 8/],
    [`$argon2id$v=18$m=64,t=1,p=1$${salt}$${digest}`, /version/],
    [`$argon2id$v=19$m=64,t=1,p=1$${b64(7)}$${digest}`, /salt/],
    [`$argon2id$v=19$m=64,t=1,p=1,keyid=1$${salt}$${digest}`, /no form/],
    [`$P$Z12345678ABCDEFGHIJKLMNOPQRSTU.`, /^a phpass round exponent of 37 is above/],
    [`$wrapped$2a$20$${bcryptTail}$argon2id$v=19$m=64,t=1,p=1$${salt}$${digest}`, /bcrypt cost of 20/],
    [`$wrapped$md5$$${'A'.repeat(22)}$argon2id$v=19$m=999999,t=1,p=1$${salt}$${digest}`, /argon2 memory/],
  ]
  for (const [text, reason] of refused) t.match(readForeignHash(text), { refused: reason }, text)
})

t.test('a hash that other passwords would fit is refused: one that is cut short, or is none', async (t) => {
  const short = b64(15)
  for (const text of [
    `$2b$10$${bcryptTail.slice(0, -1)}`,
    `$2b$10$${bcryptTail.slice(0, 22)}`,
    '$P$B12345678',
    `$pbkdf2-sha256$i=1000$${salt}$${short}`,
    `$pbkdf2-sha256$i=1000$${salt}$`,
    `$scrypt$ln=14,r=8,p=1$${salt}$${short}`,
    `$argon2id$v=19$m=64,t=1,p=1$${salt}$${short}`,
    `$wrapped$md5$$${'A'.repeat(22)}$argon2id$v=19$m=64,t=1,p=1$${salt}$${short}`,
    `$pbkdf2-sha256$i=1000$${salt}$${b64(513)}`,
    'correct horse battery staple',
    '{noop}password',
    '$5$rounds=5000$saltsalt$abc',
    `$pbkdf2-sha256$i=1000$${salt}$${'A'.repeat(9000)}`,
  ]) {
    const hash = readForeignHash(text)
    t.ok('refused' in hash && !hash.refused.includes(text), text)
  }
})

t.test('of the forms of other systems each becomes one that is stored', async (t) => {
  const text = (value: string) => Buffer.from(value).toString('base64').replaceAll('=', '')
  const hex = (base64: string) => Buffer.from(base64, 'base64').toString('hex')
  const [bytes16, bytes20, bytes64] = [b64(16), b64(20), b64(64)]
  const aspNet = (prf: number, iterations: number) => {
    const head = Buffer.alloc(13)
    head[0] = 1
    head.writeUInt32BE(prf, 1)
    head.writeUInt32BE(iterations, 5)
    head.writeUInt32BE(16, 9)
    return Buffer.concat([head, Buffer.from(salt, 'base64'), Buffer.from(digest, 'base64')]).toString('base64')
  }
  const forms: Record<string, string> = {
    [`pbkdf2_sha256$870000$saltText$${digest}=`]: `$pbkdf2-sha256$i=870000$${text('saltText')}$${digest}`,
    [`pbkdf2_sha1$260000$saltText$${bytes20}=`]: `$pbkdf2-sha1$i=260000$${text('saltText')}$${bytes20}`,
    [`argon2$argon2id$v=19$m=102400,t=2,p=8$${salt}$${digest}`]: `$argon2id$v=19$m=102400,t=2,p=8$${salt}$${digest}`,
    [`bcrypt$$2b$12$${bcryptTail}`]: `$2b$12$${bcryptTail}`,
    [`bcrypt_sha256$$2b$12$${bcryptTail}`]: `$django-bcrypt-sha256$2b$12$${bcryptTail}`,
    [`scrypt$16384$saltText$8$5$${bytes64}==`]: `$scrypt$ln=14,r=8,p=5$${text('saltText')}$${bytes64}`,
    [`md5$saltText$${hex(bytes16)}`]: `$md5$${text('saltText')}$${bytes16}`,
    [`sha1$$${hex(bytes20)}`]: `$sha1$$${bytes20}`,
    [`$pbkdf2-sha256$29000$${salt.replaceAll('+', '.')}$${digest.replaceAll('+', '.')}`]: `$pbkdf2-sha256$i=29000$${salt}$${digest}`,
    [`$pbkdf2$131000$${salt.replaceAll('+', '.')}$${bytes20.replaceAll('+', '.')}`]: `$pbkdf2-sha1$i=131000$${salt}$${bytes20}`,
    [`{bcrypt}$2a$10$${bcryptTail}`]: `$2a$10$${bcryptTail}`,
    [`{argon2@SpringSecurity_v5_8}$argon2id$v=19$m=16384,t=2,p=1$${salt}$${digest}`]: `$argon2id$v=19$m=16384,t=2,p=1$${salt}$${digest}`,
    [`${hex(bytes16)}:${hex(bytes64)}`]: `$scrypt-nfkc$ln=14,r=16,p=1$${text(hex(bytes16))}$${bytes64}`,
    [hex(bytes16)]: `$md5$$${bytes16}`,
    [hex(digest)]: `$sha256$$${digest}`,
    [aspNet(2, 100_000)]: `$pbkdf2-sha512$i=100000$${salt}$${digest}`,
    [aspNet(1, 10_000)]: `$pbkdf2-sha256$i=10000$${salt}$${digest}`,
    [Buffer.concat([Buffer.alloc(1), Buffer.from(salt, 'base64'), Buffer.from(digest, 'base64')]).toString('base64')]:
      `$pbkdf2-sha1$i=1000$${salt}$${digest}`,
    '': noPassword,
    '*': noPassword,
    '!Vv2yQ9': noPassword,
  }
  for (const [foreign, stored] of Object.entries(forms)) t.equal(storedOf(foreign), stored, foreign)
})

t.test('what is weak, dear, or only for wrapping is told to the import', async (t) => {
  const flags = (text: string) => {
    const { isWeak, isOnlyForWrapping, isDearer } = readForeignHash(text) as Exclude<
      ReturnType<typeof readForeignHash>,
      { refused: string }
    >
    return `${isWeak ? 'weak' : 'strong'}${isOnlyForWrapping ? ', only for wrapping' : ''}${isDearer ? ', dearer' : ''}`
  }
  const expected: Record<string, string> = {
    [`$2b$07$${bcryptTail}`]: 'weak',
    [`$2b$08$${bcryptTail}`]: 'weak, dearer',
    [`$2b$12$${bcryptTail}`]: 'strong, dearer',
    [`$pbkdf2-sha512$i=210000$${salt}$${digest}`]: 'strong, dearer',
    [`$pbkdf2-sha256$i=20000$${salt}$${digest}`]: 'weak',
    [`$scrypt$ln=14,r=8,p=5$${salt}$${digest}`]: 'strong, dearer',
    [`$scrypt$ln=12,r=8,p=1$${salt}$${digest}`]: 'weak',
    [`$argon2id$v=19$m=7168,t=5,p=1$${salt}$${digest}`]: 'strong',
    [`$argon2id$v=19$m=4096,t=3,p=1$${salt}$${digest}`]: 'weak',
    '$P$B12345678ABCDEFGHIJKLMNOPQRSTU.': 'weak',
    '0123456789abcdef0123456789abcdef': 'weak, only for wrapping',
    [`$wrapped$md5$$${'A'.repeat(22)}$argon2id$v=19$m=19456,t=2,p=1$${salt}$${digest}`]: 'strong',
  }
  for (const [text, words] of Object.entries(expected)) t.equal(flags(text), words, text)
})

t.test('a hash of Firebase is stored without the signer key, and one of another project is refused', async (t) => {
  const config = {
    base64_signer_key: b64(64),
    base64_salt_separator: 'Bw==',
    rounds: 8,
    mem_cost: 14,
  }
  const taken = takeFirebaseHash({ passwordHash: b64(64), salt }, config)
  t.match(taken, { stored: /^\$firebase-scrypt\$ln=14,r=8,p=1\$/ })
  t.notMatch(JSON.stringify(taken), config.base64_signer_key)
  t.match(takeFirebaseHash({ passwordHash: b64(63), salt }, config), { refused: /another project/ })
  t.match(takeFirebaseHash({ passwordHash: b64(64), salt }, { ...config, mem_cost: 40 }), { refused: /N·r·p/ })
  t.match(takeFirebaseHash({ passwordHash: '%%', salt }, config), { refused: /base64/ })
})

t.test('the parts of a credential are judged as a text is', async (t) => {
  const parts = { scheme: 'pbkdf2', hash: 'sha512', salt: randomBytes(16), digest: randomBytes(64) } as const
  t.match(takeHash({ ...parts, iterations: 210_000 }), { stored: /^\$pbkdf2-sha512\$i=210000\$/, isWeak: false })
  t.match(takeHash({ ...parts, iterations: 1e9 }), { refused: /PBKDF2/ })
  t.match(takeHash({ ...parts, iterations: 1.5 }), { refused: /PBKDF2/ })
})

const bytes = (text: string) => Buffer.from(text, 'base64')

function takeKeycloak(secretData: string, credentialData: string) {
  const { value, salt } = JSON.parse(secretData)
  const { algorithm, hashIterations, additionalParameters: more } = JSON.parse(credentialData)
  const parts = { salt: bytes(salt), digest: bytes(value) }
  if (algorithm === 'argon2') {
    const [memory, lanes] = [Number(more.memory[0]), Number(more.parallelism[0])]
    return takeHash({ scheme: 'argon2id', version: 19, memory, passes: hashIterations, lanes, ...parts })
  }
  const hash = algorithm.slice('pbkdf2-'.length) || 'sha1'
  return takeHash({ scheme: 'pbkdf2', hash, iterations: hashIterations, ...parts })
}

/** Each hash that another system made, as it is stored. */
const made: { by: string; password: string; taken: ForeignHash | RefusedHash }[] = [
  ...vectors.map(({ by, password, hash }) => ({ by, password, taken: readForeignHash(hash) })),
  ...keycloakCredentials.map(({ by, password, secretData, credentialData }) => ({
    by,
    password,
    taken: takeKeycloak(secretData, credentialData),
  })),
  { by: 'firebase/scrypt', password: firebase.password, taken: takeFirebaseHash(firebase.user, firebase.config) },
  {
    by: 'firebase/scrypt, by way of Supabase',
    password: firebase.password,
    taken: readForeignHash(
      `$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=${firebase.config.base64_signer_key}$${firebase.user.salt}$${firebase.user.passwordHash}`,
    ),
  },
]

t.test('a hash that another system made is right for its password, wrapped or not, and for no other', async (t) => {
  const hashes = createStoredHashes({ memoryCost: 64, timeCost: 2, parallelism: 1 })
  const failed = (error: unknown) => t.fail(String(error))
  for (const { by, password, taken } of made) {
    if ('refused' in taken) {
      t.fail(`${by}: ${taken.refused}`)
      continue
    }
    const wrapped = await hashes.wrap(taken.stored)
    for (const stored of [taken.stored, wrapped]) {
      t.ok(readPasswordHash(stored), by)
      t.ok(await hashes.compare(stored, password, failed), by)
      t.notOk(await hashes.compare(stored, `${password}x`.replace(/^x{70}/, 'y'), failed), by)
      t.equal(hashes.isOutdated(stored), !stored.startsWith('$argon2id'), 'and is made anew')
    }
    const digest = readPasswordHash(taken.stored)
    if (digest && 'digest' in digest && Buffer.isBuffer(digest.digest))
      t.notOk(wrapped.includes(digest.digest.toString('base64').slice(0, 20)), 'nothing of it is left once wrapped')
  }
})

t.test('a password that is typed in another form of Unicode is hashed as the old system did', async (t) => {
  const hashes = createStoredHashes({ memoryCost: 64, timeCost: 2, parallelism: 1 })
  const failed = (error: unknown) => t.fail(String(error))
  const decomposed = 'Garçon'.normalize('NFD')
  const { argon2 } = await import('../../plugins/login/argon2.ts')
  const old = await argon2.hash(decomposed, { memoryCost: 32, timeCost: 2, parallelism: 1 })
  t.ok(await hashes.compare(old, decomposed, failed), 'a hash of what was typed')
  t.notOk(await hashes.compare(old, decomposed.normalize('NFC'), failed))
  const own = await argon2.hash(decomposed.normalize('NFC'), { memoryCost: 32, timeCost: 2, parallelism: 1 })
  t.ok(await hashes.compare(own, decomposed, failed), 'an older one of our own')
  t.ok(await hashes.compare(await hashes.make(decomposed.normalize('NFC')), decomposed, failed), 'one of today')
})

t.test('whatever a file has in the place of a hash is refused, or stored as what is read back', async (t) => {
  const known = made
    .flatMap(({ taken }) => ('stored' in taken ? [taken.stored] : []))
    .concat(vectors.map((v) => v.hash))
  const pieces = [
    '$',
    ',',
    '=',
    ':',
    '+',
    '.',
    '-1',
    '0',
    '9999999999',
    '1e9',
    'é',
    '\0',
    '\n',
    '__proto__',
    '$wrapped',
    'A'.repeat(99),
  ]
  /** A known hash with pieces of others in it, or cut short. */
  const damaged = fc
    .tuple(fc.constantFrom(...known), fc.nat(150), fc.nat(30), fc.constantFrom('', ...pieces, ...known))
    .map(([hash, at, length, piece]) => hash.slice(0, at) + piece + hash.slice(at + length))
  const anything = fc.oneof(damaged, anyText({ maxLength: 300 }), fc.constantFrom(...pieces))
  const property = fc.property(anything, (text) => {
    const hash = readForeignHash(text)
    if ('refused' in hash) return !hash.refused.includes(text) || text.length < 4
    const again = readForeignHash(hash.stored)
    return 'stored' in again && again.stored === hash.stored
  })
  t.doesNotThrow(() => fc.assert(property, { numRuns: isLong ? 200_000 : 5_000 }))
  const before = process.cpuUsage()
  for (const piece of pieces) readForeignHash(piece.repeat(100_000))
  for (const hash of known) readForeignHash(hash + 'a=1,'.repeat(400))
  t.ok(process.cpuUsage(before).user < 1e6, 'in less than a second of the processor')
})

t.test('what is learned by passwords of one kind pads no others: long ones, or with quotes', async (t) => {
  const keyOf = (stored: string, typed: string) => {
    const hash = readPasswordHash(stored)
    return hash && costKey(hash, typed)
  }
  const [one, another] = ['abcdefghABCDEFGHIJKLMNOPQRSTU.', 'hgfedcbaABCDEFGHIJKLMNOPQRSTU.']
  t.equal(keyOf(`$P$B${one}`, 'short'), keyOf(`$P$B${another}`, 'other'), 'one key for all users of a kind')
  for (const [stored, typed] of [
    [`$P$C${one}`, 'short'],
    [`$P$B${one}`, 'x'.repeat(39 + 1)],
    [`$P$B${one}`, "o'clock"],
    [`$P$B${one}`, 'space '],
    [`$wp$2y$10$${bcryptTail}`, 'short'],
  ] as const)
    t.not(keyOf(stored, typed), keyOf(`$P$B${one}`, 'short'), `${stored} ${typed}`)
})
