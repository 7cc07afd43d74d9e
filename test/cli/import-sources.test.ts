import { test } from 'tap'
import type { ImportedRow, SourceOptions } from '../../cli/import/imported-user.ts'
import { type SourceName, sources } from '../../cli/import/sources/index.ts'

/** Reads a file in pieces of some bytes, as a slow pipe hands it over. */
async function read(
  from: SourceName,
  file: string | Uint8Array,
  { pieceLength = 65_536, ...options }: SourceOptions & { pieceLength?: number } = {},
): Promise<ImportedRow[]> {
  const bytes = Buffer.from(file as string)
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += pieceLength) yield bytes.subarray(at, at + pieceLength)
  }
  const rows: ImportedRow[] = []
  for await (const row of sources[from].read(pieces(), options)) rows.push(row)
  return rows
}

test('latchkey: all that an export has is read', async (t) => {
  const line = JSON.stringify({
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
  })
  const user = {
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
  for (const pieceLength of [1, 7, 65_536]) {
    t.strictSame(await read('latchkey', `\ufeff${line}\r\n \r\n${line}`, { pieceLength }), [
      { line: 1, user },
      { line: 3, user },
    ])
  }
})

test('latchkey: a line that cannot be taken says why, and costs no other', async (t) => {
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
    [`${'['.repeat(100_000)}`, 'no JSON'],
  ]
  const file = Buffer.concat(lines.flatMap(([line]) => [Buffer.from(line as string), Buffer.from('\n')]))
  const good = { externalId: 'eve', username: 'eve' }
  for (const pieceLength of [1000, 65_536, 2 ** 22]) {
    t.strictSame(await read('latchkey', Buffer.concat([file, Buffer.from('{"username":"eve"}')]), { pieceLength }), [
      ...lines.map(([, reason], at) => ({ line: at + 1, reason })),
      { line: lines.length + 1, user: good },
    ])
  }
})
