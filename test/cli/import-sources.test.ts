import { createReadStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { type Bytes, type ImportedRow, ImportRefused, type SourceOptions } from '../../cli/import/imported-user.ts'
import { type SourceName, sources } from '../../cli/import/sources/index.ts'
import { noPassword } from '../../domain/user.ts'
import { readForeignHash } from '../../plugins/login/foreign-hashes.ts'
import { type PasswordHash, readPasswordHash } from '../../plugins/login/password-hash.ts'
import { isHashOf } from '../../plugins/login/verifiers.ts'
import { runJson } from '../support/cli.ts'
import { isLong } from '../support/processes.ts'
import { root } from '../support/program.ts'

const pathOf = (file: string) => join(root, 'test/cli/import-files', file)
const firebaseConfig = readFileSync(pathOf('firebase-hash-config.txt'), 'utf8')

async function* inPieces(file: string | Uint8Array, pieceLength = 65_536): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(file as string)
  for (let at = 0; at < bytes.length; at += pieceLength) yield bytes.subarray(at, at + pieceLength)
}

async function rowsOf(rows: AsyncIterable<ImportedRow>): Promise<ImportedRow[]> {
  const all: ImportedRow[] = []
  for await (const row of rows) all.push(row)
  return all
}

/** Reads a text, or bytes, in pieces. */
const read = (
  from: SourceName,
  file: string | Uint8Array,
  { pieceLength, ...options }: SourceOptions & { pieceLength?: number } = {},
) => rowsOf(sources[from].read(inPieces(file, pieceLength), { firebaseConfig, ...options }))

/** A row in words, without its line. */
function wordsOf(row: ImportedRow): string {
  if ('reason' in row) return row.reason
  const { externalId, username = '-', email = '-', isEmailVerified, createdAt, passwordHash = '-' } = row.user
  const state = [isEmailVerified && 'verified', row.user.isDisabled && 'disabled', row.user.roles?.join(',')]
  const time = createdAt === undefined ? '-' : new Date(createdAt).toISOString()
  return [externalId, username, email, passwordHash.slice(0, 12), time, ...state.filter(Boolean)].join(' ')
}

/** What other systems exported, and the lines where its rows begin. `import-files/README.md` says how it was made. */
const exports: { from: SourceName; files: Record<string, number[]>; users: string[] }[] = [
  {
    from: 'auth0',
    files: { 'auth0.ndjson': [1, 2, 3] },
    users: [
      'auth0|5dea9f9c82dd7c0e76e4ec93 - ada@example.com $2b$10$LTlfi 2019-12-06T18:36:12.000Z verified',
      'auth0|euclid bob bob@example.com $2b$10$LTlfi 2019-12-06T18:36:12.000Z',
      'auth0|5dea9f9c82dd7c0e76e4ec95 - - $2b$10$LTlfi 2019-12-06T18:36:12.000Z',
    ],
  },
  {
    from: 'auth0',
    files: { 'auth0-users.ndjson': [1, 2] },
    users: [
      'auth0|5dea9f9c82dd7c0e76e4ec93 - ada@example.com - 2019-12-06T18:36:12.412Z verified',
      'auth0|euclid bob bob@example.com - 2019-12-06T18:36:12.412Z disabled',
    ],
  },
  {
    from: 'firebase',
    files: { 'firebase.json': [2, 13, 24, 38] },
    users: [
      'aNdSt4bLE1dOfUs3r0000000001 - ada@example.com $firebase-sc 2024-05-06T07:08:09.123Z verified',
      'aNdSt4bLE1dOfUs3r0000000002 - bob@example.com $firebase-sc 2024-05-06T07:08:09.123Z disabled',
      'aNdSt4bLE1dOfUs3r0000000003 - kim@example.com - 2024-05-06T07:08:09.123Z verified',
      'aNdSt4bLE1dOfUs3r0000000004 - - - 2024-05-06T07:08:09.123Z',
    ],
  },
  {
    from: 'keycloak',
    files: { 'keycloak-realm.json': [57, 84, 109, 134, 151, 176], 'keycloak-users.json': [3, 24, 44, 64, 78, 98] },
    users: [
      '2d9ab9ff-76d3-4434-a55c-f93bf6558815 ada ada@example.com $argon2id$v= 2026-11-26T01:26:18.641Z verified editor',
      '47395d2a-c9c4-4714-a3dc-3dba375058ed bob bob@example.com $pbkdf2-sha5 2026-11-26T01:26:20.211Z',
      'b079681f-4014-438b-91ab-1c5130244f71 dan dan@example.com $pbkdf2-sha2 2026-11-26T01:26:21.184Z disabled',
      '7d5ac948-93c2-4beb-9c39-fdef1563bbe1 kim kim@example.com - 2026-11-26T01:26:22.696Z verified',
      '065e6fbf-bd06-447c-8105-5ee6973b494f pat pat@example.com $pbkdf2-sha1 2026-11-26T01:26:21.957Z',
      'it is the service account of a client',
    ],
  },
  {
    from: 'django',
    files: { 'django.json': [2, 20, 38, 56, 74], 'django.jsonl': [1, 2, 3, 4, 5], 'django.csv': [2, 3, 4, 5, 6] },
    users: [
      '1 ada ada@example.com pbkdf2_sha25 2024-05-06T07:08:09.123Z',
      '2 bob bob@example.com argon2$argon 2024-05-06T07:08:09.123Z',
      '3 eve eve@example.com bcrypt_sha25 2024-05-06T07:08:09.123Z disabled',
      '4 dan dan@example.com scrypt$16384 2024-05-06T07:08:09.123Z',
      '5 kim kim@example.com !S6HCQ9qXtF5 2024-05-06T07:08:09.123Z',
    ],
  },
  {
    from: 'wordpress',
    files: { 'wordpress.csv': [2, 3, 4, 5], 'wordpress.tsv': [2, 3, 4, 5], 'wordpress.json': [1, 1, 1, 1] },
    users: [
      '1 ada ada@example.com $P$BOiFOn85u 2026-11-26T01:29:57.000Z',
      '2 bob bob@example.com $P$B2b5rVoWF 2026-11-26T01:29:57.000Z',
      '3 old old@example.com 9cc2ae8a1ba7 -',
      '4 new new@example.com $wp$2y$10$S8 2026-01-02T03:04:05.000Z',
    ],
  },
  {
    from: 'supabase',
    files: { 'supabase.csv': [2, 3, 4, 5, 6], 'supabase.jsonl': [1, 2, 3, 4, 5] },
    users: [
      '3f0c1f2e-7d52-4a53-8c0e-6f2a5b1c9d01 - ada@example.com $2a$10$z7Q3Z 2024-05-06T07:08:09.123Z verified',
      '3f0c1f2e-7d52-4a53-8c0e-6f2a5b1c9d02 - bob@example.com $2a$10$20X/H 2024-05-06T07:08:09.000Z disabled',
      '3f0c1f2e-7d52-4a53-8c0e-6f2a5b1c9d03 - kim@example.com - 2024-05-06T07:08:09.000Z verified',
      '3f0c1f2e-7d52-4a53-8c0e-6f2a5b1c9d04 - - - 2024-05-06T07:08:09.000Z',
      'the user was deleted there',
    ],
  },
  {
    from: 'better-auth',
    files: { 'better-auth.csv': [2, 3, 4, 5] },
    users: [
      'NYsYzkidJvIUFyGNrMAPmHGUvAcV1ItB Ada ada@example.com ab746c6bdb45 2026-11-26T01:17:50.070Z verified user',
      '37jUVsEQooVB1izOyrmey3jL4CnKMiSD - bob@example.com b4f6032f21db 2026-11-26T01:17:50.588Z user',
      'DMRFgzR4h3XNLzzi668hODN2h9ExtoJv - eve@example.com 2bdc9a8fb304 2026-11-26T01:17:51.234Z disabled user',
      'kimid - kim@example.com - 2026-11-26T01:17:51.304Z verified',
    ],
  },
  {
    from: 'better-auth',
    files: { 'better-auth-user.csv better-auth-account.csv': [2, 3, 4, 5], 'better-auth.jsonl': [1, 3, 4, 5] },
    users: [
      '37jUVsEQooVB1izOyrmey3jL4CnKMiSD - bob@example.com b4f6032f21db 2026-11-26T01:17:50.588Z user',
      'NYsYzkidJvIUFyGNrMAPmHGUvAcV1ItB Ada ada@example.com ab746c6bdb45 2026-11-26T01:17:50.070Z verified user',
      'DMRFgzR4h3XNLzzi668hODN2h9ExtoJv - eve@example.com 2bdc9a8fb304 2026-11-26T01:17:51.234Z disabled user',
      'kimid - kim@example.com - 2026-11-26T01:17:51.304Z verified',
    ],
  },
  {
    from: 'cognito',
    files: { 'cognito.json': [3, 24, 41] },
    users: [
      'd16b4aa8-8633-4abd-93b3-5062a8e1b5f8 ada ada@example.com - 2023-07-21T23:07:37.949Z verified',
      'eec1ec12-8001-7077-0a2e-2e5c2f3a9d11 - bob@example.com - 2023-07-21T23:07:37.949Z disabled',
      'a1b2c3d4-8633-4abd-93b3-5062a8e1b5f8 - kim@example.com - 2023-07-21T23:07:37.949Z',
    ],
  },
  {
    from: 'cognito',
    files: { 'cognito.csv': [2, 3] },
    users: ['ada ada ada@example.com - - verified', 'bob bob bob@example.com - -'],
  },
]

const allFiles = exports.flatMap(({ from, files }) => Object.keys(files).map((names) => ({ from, names })))

/** Reads a file, or two. */
function readFiles(from: SourceName, names: string): Promise<ImportedRow[]> {
  const [file, second] = names.split(' ').map((name) => createReadStream(pathOf(name)))
  return rowsOf(sources[from].read(file as Bytes, { firebaseConfig, ...(second && { second }) }))
}

for (const { from, files, users } of exports)
  for (const [names, lines] of Object.entries(files))
    t.test(`${from}: ${names.replace(' ', ' and ')}`, async (t) => {
      const rows = await readFiles(from, names)
      t.same(new Set(rows.map(wordsOf)), new Set(users))
      t.same(
        rows.map(({ line }) => line),
        lines,
      )
    })

t.test('every hash is taken, and is that of the password', async (t) => {
  const passwords: Record<string, string> = { firebase: 'user1password' }
  const ofBob = '\ufb01ne horse battery staple'
  const compared = new Set<string>()
  for (const { from, names } of allFiles) {
    for (const row of await readFiles(from, names)) {
      const { passwordHash = '', email } = 'user' in row ? row.user : {}
      // 32 hex digits are taken with --wrap alone.
      if (!/[a-z$]{3}|:/.test(passwordHash) || compared.has(passwordHash)) continue
      compared.add(passwordHash)
      const hash = readForeignHash(passwordHash)
      if ('refused' in hash) t.fail(`${names}: ${hash.refused}`)
      else if (hash.stored !== noPassword) {
        const parts = readPasswordHash(hash.stored) as PasswordHash
        const isOfBob = from === 'better-auth' && email?.startsWith('bob')
        const password = isOfBob ? ofBob : (passwords[from] ?? 'correct horse battery staple')
        t.ok(await isHashOf(parts, password), `${from} ${hash.stored.slice(0, 20)}`)
      }
    }
  }
})

t.test('each command of docs/moving-in.md takes a file in the format of its system', async (t) => {
  const page = readFileSync(join(root, 'docs/moving-in.md'), 'utf8').split('\n## ')[1] as string
  const commands = [...page.matchAll(/^latchkey user import (.+)$/gm)].map(([, args]) => (args as string).split(' '))
  t.same(new Set(commands.map((args) => args[args.indexOf('--from') + 1])), new Set(Object.keys(sources)))
  const dir = t.testdir()
  for (const args of commands) {
    const paths = args.map((arg) => (/\.[a-z]+$/.test(arg) ? pathOf(arg) : arg))
    const { code, ...told } = await runJson(['user', 'import', ...paths, '--dry-run'], {
      AUTH_DATA_DIR: join(dir, 'data'),
    })
    t.ok((code === 0 || code === 3) && told['summary'].made > 0, args.join(' '))
  }
})

const user = { externalId: 'eve', username: 'eve' }

t.test('latchkey: all that an export has is read', async (t) => {
  const members = {
    id: '0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b',
    username: 'Ada',
    email: 'ada@example.com',
    email_verified: true,
    password_hash: '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA',
    roles: ['admin'],
    created_at: '2026-11-21T09:00:00.000Z',
    disabled_at: '2026-11-22T09:00:00.000Z',
    source: 'auth0',
    external_id: 'auth0|1',
  }
  const ada = {
    externalId: 'auth0|1',
    source: 'auth0',
    id: '0198f3ce-4b7e-4f3a-9d1c-6a1f2e3d4c5b',
    username: 'Ada',
    email: 'ada@example.com',
    isEmailVerified: true,
    passwordHash: '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA',
    roles: ['admin'],
    createdAt: Date.UTC(2026, 10, 21, 9),
    isDisabled: true,
  }
  const counted = '{"username":"eve","external_id":7}'
  const file = `\ufeff${JSON.stringify(members)}\r\n \r\n{"username":"eve"}\n${counted}`
  t.strictSame(await read('latchkey', file), [
    { line: 1, user: ada },
    { line: 3, user },
    { line: 4, user: { ...user, externalId: '7' } },
  ])
})

t.test(
  'authenticator apps come along where their codes are those of every app, and what does not is told',
  async (t) => {
    // Of RFC 6238, appendix B.
    const [text, base32] = ['12345678901234567890', 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ']
    const otp = (secret: object, data: object = {}) => ({
      ...{ type: 'otp', userLabel: 'Pixel', createdDate: 1_700_000_000_000 },
      secretData: JSON.stringify(secret),
      credentialData: JSON.stringify({
        ...{ subType: 'totp', digits: 6, counter: 0, period: 30, algorithm: 'HmacSHA1' },
        ...data,
      }),
    })
    const keycloak = (...credentials: object[]) => ({ users: [{ id: '1', username: 'ada', credentials }] })
    const [totps, leavesFactors] = [[{ secret: base32, name: 'Pixel', createdAt: 1_700_000_000_000 }], true]
    const passkey = { type: 'webauthn', secretData: '{}', credentialData: '{}' }
    const cases: [from: SourceName, file: object, expected: object][] = [
      ['keycloak', keycloak(otp({ value: text })), { totps }],
      ['keycloak', keycloak(otp({ value: base32 }, { secretEncoding: 'BASE32' })), { totps }],
      ['keycloak', keycloak(otp({ value: text }), passkey), { totps, leavesFactors }],
      ['keycloak', keycloak(otp({ value: text }, { subType: 'hotp' })), { leavesFactors }],
      ['keycloak', keycloak(otp({ value: text }, { algorithm: 'HmacSHA256' })), { leavesFactors }],
      ['keycloak', keycloak(otp({ value: text }, { digits: 8 })), { leavesFactors }],
      ['keycloak', keycloak(otp({ value: text }, { period: 60 })), { leavesFactors }],
      ['keycloak', keycloak({ ...passkey, type: 'recovery-authn-codes' }), {}],
      ['auth0', { user_id: 'a', mfa_factors: [{ totp: { secret: base32 } }] }, { totps: [{ secret: base32 }] }],
      ['auth0', { user_id: 'a', mfa_factors: [{ phone: { value: '+1' } }] }, { leavesFactors }],
      ['auth0', { user_id: 'a', multifactor: ['guardian'] }, { leavesFactors }],
      ['firebase', { users: [{ localId: 'a', mfaInfo: [{ mfaEnrollmentId: 'x' }] }] }, { leavesFactors }],
      ['better-auth', { id: 'a', password: null, twoFactorEnabled: true }, { leavesFactors }],
      ['latchkey', { username: 'ada', totp_secret: base32, second_factor: true }, { totps: [{ secret: base32 }] }],
      ['latchkey', { username: 'ada', second_factor: true }, { leavesFactors }],
    ]
    for (const [from, file, expected] of cases) {
      const [row] = await read(from, JSON.stringify(file))
      const { totps, leavesFactors } = row && 'user' in row ? row.user : { totps: 'none', leavesFactors: undefined }
      t.strictSame(
        { ...(totps && { totps }), ...(leavesFactors && { leavesFactors }) },
        expected,
        `${from} ${JSON.stringify(file)}`,
      )
    }
  },
)

t.test('a line that cannot be taken says why, repeats no secret and costs no other', async (t) => {
  const lines: [string | Buffer, string][] = [
    ['{"username":"ada"', 'no JSON'],
    ['[]', 'the row is no object'],
    ['null', 'the row is no object'],
    ['{}', 'username is missing'],
    ['{"username":1}', 'username is no text'],
    ['{"username":"\\ud800"}', 'username has half a surrogate pair'],
    ['{"username":"ada","username":"bob"}', 'a member is repeated'],
    ['{"username":"ada","passwordHash":"x"}', 'unknown member passwordHash'],
    ['{"username":"ada","__proto__":{"roles":["admin"]}}', 'unknown member __proto__'],
    ['{"username":"ada","password":"x","password_hash":"y"}', 'password and password_hash exclude each other'],
    ['{"username":"ada","roles":"admin"}', 'roles is no list of texts'],
    ['{"username":"ada","created_at":"yesterday"}', 'created_at is no time'],
    ['{"username":"ada","email_verified":"maybe"}', 'email_verified is neither true nor false'],
    ['{"username":"ada","source":"auth0"}', 'external_id is missing'],
    [Buffer.from('{"username":"\xff"}', 'latin1'), 'not UTF-8'],
    [`{"username":"${'a'.repeat(2 ** 20)}"}`, 'longer than 1048576 bytes'],
    ['['.repeat(100_000), 'no JSON'],
  ]
  const file = Buffer.concat(lines.flatMap(([line]) => [Buffer.from(line as string), Buffer.from('\n')]))
  for (const pieceLength of [1000, 65_536, 2 ** 22]) {
    t.strictSame(await read('latchkey', Buffer.concat([file, Buffer.from('{"username":"eve"}')]), { pieceLength }), [
      ...lines.map(([, reason], at) => ({ line: at + 1, reason })),
      { line: lines.length + 1, user },
    ])
  }
})

t.test('an element of an array that cannot be taken costs no other', async (t) => {
  const eve = '{"username":"eve","password":"","pk":0,"id":"eve"}'
  const broken: [string, string][] = [
    ['{"id":1,}', 'no JSON'],
    ['nothing', 'no JSON'],
    ['', 'no JSON'],
    ['"[{]"', 'the row is no object'],
    ['{"id":1,"username":"a]}\\"","password":{}}', 'password is no text'],
    [`{"id":"${'1'.repeat(2 ** 20)}"}`, 'longer than 1048576 bytes'],
    ['{"id":1,"username":"ada"}', 'password is missing'],
  ]
  const file = `[\n${broken.map(([element]) => `${element},\n`).join('')}${eve}]\n`
  for (const pieceLength of [1000, 65_536, 2 ** 22]) {
    t.strictSame(await read('django', file, { pieceLength }), [
      // Of one that is not there, the line of the comma.
      ...broken.map(([, reason], at) => ({ line: at + 2, reason })),
      { line: broken.length + 2, user },
    ])
  }
  t.strictSame(await read('django', `[${eve}`), [{ line: 1, reason: 'the file is cut short' }])
  t.strictSame(await read('django', `[${eve},`), [
    { line: 1, user },
    { line: 1, reason: 'the file is cut short' },
  ])
  t.strictSame(await read('django', `[${eve}] [${eve}]`), [
    { line: 1, user },
    { line: 1, user },
  ])
})

t.test('a row of CSV that cannot be taken costs no other', async (t) => {
  const rows: [string | Buffer, string][] = [
    ['1,ada', '2 cells, and not 3'],
    ['1,ada,,', '4 cells, and not 3'],
    ['1,"ada"b,x', 'no CSV: a quote is not closed, or something is behind it'],
    [Buffer.from('1,\xff,x', 'latin1'), 'not UTF-8'],
    [`1,${'a'.repeat(2 ** 20)},`, 'longer than 1048576 bytes'],
    [',ada,x', 'id is missing'],
  ]
  const head = Buffer.from('\ufeffid,username,password\r\n')
  const good = [`eve,eve,\r\n`, `eve,"eve",\r\n`, `eve,eve,NULL\r\n`, `eve,eve,""\r\n`].join('')
  const file = Buffer.concat([head, ...rows.flatMap(([row]) => [Buffer.from(row as string), Buffer.from('\r\n\r\n')])])
  for (const pieceLength of [1000, 2 ** 22]) {
    t.strictSame(await read('django', Buffer.concat([file, Buffer.from(good)]), { pieceLength }), [
      ...rows.map(([, reason], at) => ({ line: 2 * at + 2, reason })),
      ...[0, 1, 2, 3].map((at) => ({ line: 2 * rows.length + 2 + at, user })),
    ])
  }
  const quoted = 'id;username;password;about\neve;eve;;"two\nlines, ""quoted""; and more"\neve;eve;;6" long'
  t.strictSame(await read('django', quoted, { pieceLength: 1 }), [
    { line: 2, user },
    { line: 4, user },
  ])
  t.strictSame(await read('django', 'id,username,password\n"eve,eve,\n'), [
    { line: 2, reason: 'no CSV: a quote is not closed, or something is behind it' },
  ])
})

t.test('what is no file of the source at all is refused as a whole, with what to do', async (t) => {
  const files: [SourceName, string | Buffer, RegExp][] = [
    ['latchkey', 'hello', /no JSON/],
    ['latchkey', Buffer.from([0x1f, 0x8b, 8, 0, 0, 0]), /compressed/],
    ['django', Buffer.from('\ufeff[]', 'utf16le'), /UTF-16/],
    ['wordpress', 'SQLite format 3\0', /SQLite/],
    ['wordpress', 'PK\u0003\u0004....', /zip/],
    ['wordpress', 'ID,ID\n1,2', /twice/],
    ['wordpress', '"ID\n1', /head line/],
    ['firebase', '{"Users":[]}', /no list of users/],
    ['firebase', '{"users":{"users":[]}}', /no list of users/],
    ['firebase', 'localId,email', /no JSON/],
    ['cognito', '{"Users":[}]', /Line 1: no JSON/],
  ]
  for (const [from, file, message] of files)
    await t.rejects(
      read(from, file),
      { constructor: ImportRefused, message },
      `${from} ${file.toString().slice(0, 12)}`,
    )
  for (const file of ['', '\ufeff', ' \n\n ']) t.strictSame(await read('latchkey', file), [], JSON.stringify(file))
})

t.test('firebase: without the configuration of its project, hashes are not read', async (t) => {
  const file = readFileSync(pathOf('firebase.json'))
  const without = (text: string | undefined) =>
    rowsOf(sources.firebase.read(inPieces(file), { ...(text !== undefined && { firebaseConfig: text }) }))
  await t.rejects(without(undefined), { message: /--firebase-config FILE/ })
  await t.rejects(without('{}'), { message: /no base64_signer_key/ })
  await t.rejects(without(firebaseConfig.replace('SCRYPT', 'BCRYPT')), { message: /algorithm is not SCRYPT/ })
  const asJson = JSON.stringify({
    hash_config: {
      algorithm: 'SCRYPT',
      base64_signer_key: /signer_key: (\S+),/.exec(firebaseConfig)?.[1],
      base64_salt_separator: 'Bw==',
      rounds: 8,
      mem_cost: 14,
    },
  })
  t.strictSame(await without(asJson), await without(firebaseConfig))
  const redacted = file.toString().replaceAll(/"passwordHash": "[^"]*"/g, '"passwordHash": "UkVEQUNURUQ="')
  t.match((await read('firebase', redacted))[0], { line: 2, reason: /owner/ })
})

t.test('better-auth: a file of accounts that cannot be read stops it, for passwords would be lost', async (t) => {
  const users = readFileSync(pathOf('better-auth-user.csv'))
  const withSecond = (second: string) => read('better-auth', users, { second: inPieces(second) })
  await t.rejects(withSecond('id,email\n1,ada@example.com'), {
    message: 'The file of accounts, line 2: userId is missing',
  })
  await t.rejects(withSecond('{"userId":"1"}\n{'), { message: 'The file of accounts, line 2: no JSON' })
  t.match((await read('better-auth', users))[0], {
    ...{ line: 2, reason: /password is missing/, externalId: '37jUVsEQooVB1izOyrmey3jL4CnKMiSD' },
  })
  const orm = {
    id: 'eve',
    username: 'eve',
    accounts: [{ providerId: 'google' }, { providerId: 'credential', password: 'x' }],
  }
  t.strictSame(await read('better-auth', JSON.stringify([orm])), [{ line: 1, user: { ...user, passwordHash: 'x' } }])
})

t.test('in any pieces a file is read alike, and damaged in any way it ends in rows and reasons', async (t) => {
  const inserted = [
    '',
    '\0',
    '"',
    '""',
    '\\',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '\n',
    '\r\n',
    '\ufeff',
    '\ud83d',
    'null',
    '1e999',
  ]
  const edit = fc.record({ at: fc.nat(), removed: fc.nat({ max: 40 }), text: fc.constantFrom(...inserted) })
  const contents = new Map(allFiles.map(({ names }) => [names, readFileSync(pathOf(names.split(' ')[0] as string))]))
  const result = (from: SourceName, file: Uint8Array, pieceLength: number) =>
    read(from, file, { pieceLength }).catch((error) => {
      if (!(error instanceof ImportRefused)) throw error
      return error.message
    })
  const isBroken = (row: ImportedRow) => 'reason' in row && !/^(\$oid)?[\w ,:()·-]{4,90}$/.test(row.reason)
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...allFiles),
      fc.array(edit, { maxLength: 3 }),
      fc.integer({ min: 1, max: 300 }),
      async ({ from, names }, edits, pieceLength) => {
        let file = contents.get(names) as Buffer
        for (const { at, removed, text } of edits) {
          const start = at % file.length
          file = Buffer.concat([file.subarray(0, start), Buffer.from(text), file.subarray(start + removed)])
        }
        const whole = await result(from, file, file.length)
        t.strictSame(await result(from, file, pieceLength), whole)
        return typeof whole === 'string' || !whole.some(isBroken)
      },
    ),
    { numRuns: isLong ? 20_000 : 150 },
  )
})
