import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { endOfTime, type IndexKey, idValues, keysOf, lastId } from '../../stores/lmdb/keys.ts'
import { rowFormat } from '../../stores/lmdb/rows.ts'
import { tables } from '../../stores/rows.ts'
import { holds } from '../support/property.ts'
import { makeSession, makeUser } from './fill.ts'

/* What the embedded store has in its file. It has to be read by every later release of the format. */

const bytesOf = ({ writeKey }: ReturnType<typeof keysOf>, key: string | IndexKey): Buffer => {
  const target = Buffer.alloc(2_000, 0xaa)
  return target.subarray(7, writeKey(key, target, 7))
}
const uuid = fc.uuid().map((id) => id.toLowerCase())
/** Not what we give out; a store may be asked for any. */
const anyText = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((text) => !text.includes('\0'))
const id = fc.oneof({ weight: 4, arbitrary: uuid }, { weight: 1, arbitrary: anyText }, fc.constant('0'.repeat(36)))
const time = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 2 ** 32 }), fc.integer({ min: 0, max: endOfTime }))

t.test('an id is 16 bytes, and any other text is the key of nothing else', async (t) => {
  const keys = keysOf('id')
  const [one] = [randomUUID()]
  t.equal(bytesOf(keys, one).toString('hex'), one.replaceAll('-', ''))
  await holds(
    t,
    fc.asyncProperty(id, id, async (a, b) => {
      const bytes = bytesOf(keys, a)
      assert.equal(keys.readKey(bytes, 0), a)
      assert.equal(idValues.decode(idValues.encode(a)), a)
      assert.equal(bytes.equals(bytesOf(keys, b)), a === b)
    }),
    {},
  )
})

t.test('keys of several parts sort by the first, then by the next, and are read as they were written', async (t) => {
  const compare = (a: string | number, b: string | number) => (a === b ? 0 : a < b ? -1 : 1)
  const byUser = keysOf('id', 'time', 'id')
  const key = fc.tuple(fc.constantFrom(randomUUID(), randomUUID()), time, uuid)
  await holds(
    t,
    fc.asyncProperty(key, key, async (a, b) => {
      const order = compare(a[0], b[0]) || compare(a[1], b[1]) || compare(a[2], b[2])
      assert.equal(Buffer.compare(bytesOf(byUser, a), bytesOf(byUser, b)), order)
      assert.deepEqual(byUser.readKey(bytesOf(byUser, a), 0), a)
      const ends = [[a[0]], [a[0], endOfTime, lastId]].map((end) => bytesOf(byUser, end as IndexKey))
      assert(Buffer.compare(ends[0] as Buffer, bytesOf(byUser, a)) < 0, 'its first part is before it')
      assert(Buffer.compare(bytesOf(byUser, a), ends[1] as Buffer) < 0, 'and the end of its range behind')
    }),
    {},
  )
})

const formats = {
  users: rowFormat<User>(tables.users, { nameKey: 'username' }),
  sessions: rowFormat<Session>(tables.sessions),
  browserSessions: rowFormat<BrowserSession>(tables.browserSessions),
}

t.test('a row is read as it was written, whatever it has', async (t) => {
  const text = fc.string({ unit: 'grapheme', maxLength: 400 })
  const number = fc.oneof(
    fc.nat(300),
    fc.maxSafeNat(),
    fc.double({ noNaN: true }).map((value) => value + 0),
  )
  const ofKind = { uuid: id, text, texts: fc.array(text), number, boolean: fc.constant(true) }
  for (const [name, { encode, decode }] of Object.entries(formats)) {
    const { key, columns } = tables[name as keyof typeof formats]
    const members = Object.entries(columns).filter(([member]) => member !== key)
    const required = members.filter(([, column]) => !('isOptional' in column)).map(([member]) => member)
    const row = fc.record(
      Object.fromEntries(members.map(([member, { kind }]) => [member, ofKind[kind as keyof typeof ofKind]])),
      { requiredKeys: required },
    )
    await holds(
      t,
      fc.asyncProperty(row, async (row) => {
        assert.deepStrictEqual(decode(encode(row as never)), { id: '', ...row })
      }),
      {},
    )
  }
  const same = makeUser({ username: 'ada', nameKey: 'ada' })
  t.equal(formats.users.encode(same).toString('latin1').split('ada').length, 2, 'a name is there once')
})

t.test('what is no row of a table is refused, and nothing is lost of a row of a later release', async (t) => {
  const { encode, decode } = formats.sessions
  const bytes = encode(makeSession(makeUser()))
  for (let length = 0; length < bytes.length; length++) t.throws(() => decode(bytes.subarray(0, length)))
  t.throws(() => decode(Buffer.concat([bytes, Buffer.alloc(1)])))
  for (let i = 0; i < 500; i++) {
    try {
      decode(randomBytes(i))
    } catch {
      // Any error; none that ends the process.
    }
  }
  const columns = { ...tables.sessions.columns, later: { kind: 'number', isOptional: true } }
  const later = rowFormat({ ...tables.sessions, columns } as unknown as typeof tables.sessions)
  t.strictSame(later.decode(bytes), decode(bytes), 'a later release reads the rows of this one')
  t.throws(() => decode(later.encode({ ...makeSession(makeUser()), later: 1 } as never)), /does not know/)
})

t.test('rows of today are read by every later release of the format: their bytes stay', async (t) => {
  const [userId, sessionId] = ['1ed71d47-c957-4154-a97e-35dfe6d81a4a', 'd6c90a64-e9ef-4e5a-b882-d34445b1a0f9']
  const at = { createdAt: 1_793_534_400_000, generation: 2, address: '192.0.2.1', userAgent: 'a browser' }
  const user = {
    ...{ id: userId, username: 'Ada', nameKey: 'ada', passwordHash: '!', roles: ['admin'], createdAt: at.createdAt },
    ...{
      disabledAt: 1,
      generation: 2,
      email: 'a@b.c',
      emailKey: 'a@b.c',
      locale: 'ko' as const,
      hasFactors: true as const,
    },
    ...{ source: 'auth0', externalId: '7' },
  }
  const factor = { authAt: 3, amr: ['pwd' as const, 'otp' as const], factor: 'f' }
  const session = {
    ...{ id: sessionId, userId, clientId: 'shop', clientCreatedAt: 300, scope: ['openid'], counter: 70_000 },
    ...{ refreshedAt: at.createdAt, ...at, ...factor, parent: sessionId },
  }
  const browser = { id: sessionId, userId, secretHash: 's', seenAt: at.createdAt, ...at, ...factor }
  const fixed: [keyof typeof formats, object, string][] = [
    [
      'users',
      user,
      'f0ff1f03416461036164610121010561646d696ef20016fb96a1010102056140622e63056140622e63026b6f01056175' + '7468300137',
    ],
    [
      'sessions',
      session,
      'f0ff3f1ed71d47c9574154a97e35dfe6d81a4a0473686f70f02c0101066f70656e696402f170110100f20016fb96a101' +
        'f20016fb96a101093139322e302e322e3109612062726f77736572030203707764036f74700166d6c90a64e9ef4e5ab8' +
        '82d34445b1a0f9',
    ],
    [
      'browserSessions',
      browser,
      'f0ff031ed71d47c9574154a97e35dfe6d81a4a020173f20016fb96a101f20016fb96a101093139322e302e322e310961' +
        '2062726f77736572030203707764036f74700166',
    ],
  ]
  for (const [table, row, hex] of fixed) {
    const { encode, decode } = formats[table]
    t.equal(encode(row as never).toString('hex'), hex, table)
    t.strictSame({ ...decode(Buffer.from(hex, 'hex')), id: (row as { id: string }).id }, row)
  }
})
