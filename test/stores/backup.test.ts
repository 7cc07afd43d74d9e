import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync, gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { BackupRefused, readBackup, savedTables } from '../../stores/moving/backup.ts'
import { checkStore } from '../../stores/moving/check.ts'
import { openStore, type StoreLocation } from '../../stores/open.ts'
import { keyOf, type TableName, type Tables, tableNames } from '../../stores/rows.ts'
import type { Store } from '../../stores/store.ts'
import { plainEnv, run, runJson, runProcess, start } from '../support/cli.ts'
import { until } from '../support/client-helper.ts'
import { cheapHashing, newDir, password, sharedPostgres } from '../support/helper.ts'
import { startHere } from '../support/processes.ts'
import { program, root } from '../support/program.ts'
import { end, fill, makeSession, makeUser } from './fill.ts'
import { makeRecord } from './records.ts'

/* `latchkey store backup` and `store restore`, over both stores and from each into the other. */

const postgres = await sharedPostgres()
const secret = 'the secret of all stores in this test file'

/** An empty place for a store, as settings. */
const places = {
  lmdb: async (t: Test) => ({ AUTH_DATA_DIR: join(await newDir(t), 'data'), AUTH_SECRET: secret }),
  pg: async () => ({ DATABASE_URL: await postgres.createDatabase(), AUTH_SECRET: secret }),
}
const locationOf = ({ DATABASE_URL: url, AUTH_DATA_DIR: dir = '' }: Record<string, string>): StoreLocation =>
  url === undefined ? { kind: 'lmdb', dir } : { kind: 'pg', url }

/** Opens the store of a place for as long as the work takes. */
async function within<T>(env: Record<string, string>, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStore(locationOf(env))
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}
async function allRows(store: Store) {
  const all = {} as { [T in TableName]: Tables[T][] }
  for (const table of tableNames) {
    const { rows } = await store.exportRows(table, { limit: 100_000 })
    all[table] = rows.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)) as never
  }
  return { ...all, revocations: (await store.revocationsSince(undefined, 1_000_000)).revocations }
}
async function errorsOf(store: Store) {
  const errors: string[] = []
  for await (const { level, table, what } of checkStore(store)) if (level === 'error') errors.push(`${table}: ${what}`)
  return errors
}
const lines = (file: string) => gunzipSync(readFileSync(file)).toString().trimEnd().split('\n')
/** Lines as a backup, with the end that belongs to them. */
function backupOf(texts: string[]): Buffer {
  const rows: Record<string, number> = {}
  for (const table of savedTables) rows[table] = texts.filter((text) => text.startsWith(`["${table}"`)).length
  const body = texts.map((text) => `${text}\n`).join('')
  const sha256 = createHash('sha256').update(body).digest('hex')
  return gzipSync(`${body}${JSON.stringify({ end: { rows, sha256 } })}\n`)
}

const settings = { ...cheapHashing, AUTH_ISSUER: 'http://localhost:3000' }
const wrong = 'wrong horse battery staple'

for (const [from, to] of [
  ['lmdb', 'pg'],
  ['pg', 'lmdb'],
] as const) {
  t.test(`a backup of ${from} has every row but the records, and goes back into ${to} as it was`, async (t) => {
    const [source, target] = [await places[from](t), await places[to](t)]
    const dir = await newDir(t)
    const before = await within(source, async (store) => {
      await fill(store, 2_100)
      return allRows(store)
    })
    const made = await runJson(['store', 'backup', dir], source)
    t.match(made, { code: 0, read_back: true, rows: { users: 2_100, sessions: 2_100, clients: 210, failures: 50 } })
    t.same(readdirSync(dir), [basename(made['to'])], 'nothing is beside it')
    t.match(basename(made['to']), /^latchkey-\d{8}T\d{6}Z\.jsonl\.gz$/)
    t.equal(statSync(made['to']).mode & 0o777, 0o600)
    t.equal(made['bytes'], statSync(made['to']).size)

    t.match(await runJson(['store', 'restore', made['to']], target), { code: 0, restored: true, rows: made['rows'] })
    const after = await within(target, async (store) => {
      t.same(await errorsOf(store), [])
      return allRows(store)
    })
    for (const table of ['clients', 'users', 'factors', 'sessions', 'failures'] as const)
      t.strictSame(after[table], before[table], table)
    t.same(after.revocations.map(({ id }) => id).sort(), before.revocations.map(({ id }) => id).sort())
    t.same(after.records, [])
  })
}

for (const [name, newPlace] of Object.entries(places)) {
  t.test(`what people notice after a restore [${name}]`, async (t) => {
    const env = { ...settings, ...(await newPlace(t)) }
    const file = join(await newDir(t), 'backup')
    const before = await startHere(t, env)
    for (const who of ['ada', 'cyd', 'dan', 'eve']) await before.signUp(who)
    const [ada, cyd, dan] = [await before.logIn('ada'), await before.logIn('cyd'), await before.logIn('dan')]
    for (let i = 0; i < 10; i++) await before.tryLogIn('eve', wrong)
    t.equal((await before.tryLogIn('eve')).status, 429)
    const record = makeRecord({ createdAt: Date.now(), expiresAt: Date.now() + 600_000 })
    await within(env, (store) => store.issueRecord(record, { perOwner: 1, perSource: 1 }))

    t.match(await runJson(['store', 'backup', file], env), { code: 0 }, 'beside the running service')

    const spent = (await before.refresh(ada.refresh_token)).body
    const held = (await before.refresh(spent.refresh_token)).body
    await before.signUp('bob')
    const bob = await before.logIn('bob')
    await before.call('/logout', { method: 'POST', token: cyd.access_token })
    const change = { current_password: password, new_password: `${password} anew` }
    t.equal((await before.call('/users/me/password', { token: dan.access_token, json: change })).status, 204)
    const recordKey = { ...record, now: Date.now() }
    t.ok(await within(env, (store) => store.takeRecord(recordKey)))
    const keyIds = async () =>
      (await before.call('/.well-known/jwks.json')).body.keys.map(({ kid }: { kid: string }) => kid)
    const leaked = await keyIds()
    t.match(await run(['keys', 'rotate', '--leaked'], env), { code: 0 })
    // The service hears of it within a second.
    await until(async () => !(await keyIds()).some((kid: string) => leaked.includes(kid)))
    const late = (await before.refresh(held.refresh_token)).body
    t.equal(await before.check(late.access_token), 204)

    const refused = await runProcess(['store', 'restore', file, '--replace', '--yes'], env)
    t.match(refused, { code: 1, stderr: /stop the service first\. Nothing was changed\.\n$/ })
    await before.close()
    t.match(await runJson(['store', 'restore', file], env), { code: 1, stderr: /it is not empty\. Pass --replace/ })
    t.match(await run(['store', 'restore', file, '--replace'], env), { code: 64, stderr: /--yes/ })
    const denied = await run(['store', 'restore', file, '--replace'], env, 'n\n', 80)
    t.match(denied, { code: 1, stderr: /Replace everything in .* by what was there at .*\? \[y\/N\] / })
    t.ok(await within(env, (store) => store.findUserByName('bob')), 'nothing was changed by any of these')
    t.match(await run(['store', 'restore', file, '--replace'], env, 'y\n', 80), { code: 0, stdout: /Sessions go on/ })

    const after = await startHere(t, env)
    for (const { access_token: token } of [ada, spent, held, late, cyd, dan, bob])
      t.equal(await after.check(token), 401, 'no access token from before is good, for any may have been revoked')
    const next = await after.refresh(late.refresh_token)
    t.equal(next.status, 200, 'a refresh token that is ahead of the store goes on')
    t.equal(await after.check(next.body.access_token), 204)
    t.equal((await after.refresh(held.refresh_token)).status, 400, 'a spent one is theft again from then on')
    t.equal((await after.refresh(next.body.refresh_token)).status, 400)

    t.equal((await after.tryLogIn('bob')).status, 400, 'who has come since is gone')
    t.equal((await after.refresh(bob.refresh_token)).status, 400)
    t.equal((await after.refresh(cyd.refresh_token)).status, 200, 'a session that has ended since is back')
    t.equal((await after.tryLogIn('dan')).status, 200, 'and so is a password that was changed')
    t.equal((await after.tryLogIn('eve')).status, 429, 'guesses are still counted')
    t.equal(await within(env, (store) => store.findRecord(recordKey)), undefined, 'a code that was used is not back')
    t.same(await within(env, errorsOf), [])
    await after.close()

    t.match(await run(['store', 'restore', file, '--replace', '--yes', '--end-sessions'], env), {
      code: 0,
      stdout: /All users log in again/,
    })
    const anew = await startHere(t, env)
    t.equal((await anew.refresh(cyd.refresh_token)).status, 400)
    t.equal((await anew.tryLogIn('cyd')).status, 200)
  })

  t.test(`a backup beside writers is of one moment, and has all that was answered before [${name}]`, async (t) => {
    const env = await newPlace(t)
    const store = await openStore(locationOf(env))
    t.teardown(() => store.close())
    const { users, sessions } = await fill(store, 1_000)
    let isOver = false
    t.teardown(() => {
      isOver = true
    })
    const added: string[] = []
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let i = writer; !isOver; i = (i + 8) % users.length) {
        const [user, session] = [users[i], sessions[i]]
        if (!user || !session) continue
        const newcomer = makeUser()
        if (await store.createUser(newcomer)) added.push(newcomer.id)
        await store.createSession(makeSession(newcomer))
        await store.endUserSessions(user.id, end)
        const current = await store.findUser(user.id)
        if (current) await store.createSession(makeSession(current))
        await sleep(10)
      }
    })
    const dir = await newDir(t)
    for (let round = 0; round < 2; round++) {
      const answered = [...added]
      const file = join(dir, String(round))
      // A process of its own, as it is beside a service.
      t.match(await runProcess(['store', 'backup', file], env), { code: 0 })
      const ids = new Set<string>()
      await readBackup(Readable.from([readFileSync(file)]), (table, rows) => {
        if (table === 'users') for (const { id } of rows as { id: string }[]) ids.add(id)
      })
      t.same(
        answered.filter((id) => !ids.has(id)),
        [],
      )
      const target = await places.lmdb(t)
      t.match(await runJson(['store', 'restore', file], target), { code: 0 })
      t.same(await within(target, errorsOf), [])
    }
    isOver = true
    await Promise.all(writers)
    t.ok(added.length > 0)
  })
}

t.test('what is no whole backup is refused with a line, and nothing is changed', async (t) => {
  const source = await places.lmdb(t)
  await within(source, (store) => fill(store, 50))
  const dir = await newDir(t)
  const file = join(dir, 'whole')
  const { sha256 } = await runJson(['store', 'backup', file], source)
  const [whole, texts] = [readFileSync(file), lines(file)]
  const target = await places.lmdb(t)

  const [header = '', ...rows] = texts.slice(0, -1)
  const newer = { ...JSON.parse(header), format: 3, release: '9.9.9' }
  const wrongRow = JSON.stringify([
    'users',
    { ...JSON.parse(rows.find((row) => row.startsWith('["users"')) ?? '')[1], generation: -1 },
  ])
  const cases: [string, Buffer, RegExp][] = [
    ['an empty file', Buffer.alloc(0), /it is cut short/],
    ['an empty file that gzip made', gzipSync(''), /it is empty/],
    ['another file', Buffer.from('{"latchkey":"backup"}\n'.repeat(100)), /no backup of Latchkey/],
    ['another file that gzip made', gzipSync('-- PostgreSQL database dump\n'.repeat(100)), /no backup of Latchkey/],
    ['one without an end of line', gzipSync(Buffer.alloc(9 * 2 ** 20)), /no backup of Latchkey/],
    ['one that is cut short', whole.subarray(0, -9), /it is cut short/],
    ['one whose last line is missing', gzipSync(`${texts.slice(0, -1).join('\n')}\n`), /it is cut short/],
    ['one with a row less', gzipSync(`${[header, ...rows.slice(1), texts.at(-1)].join('\n')}\n`), /its checksum/],
    ['one with a row more', gzipSync(`${[...texts, rows[0]].join('\n')}\n`), /goes on behind its end/],
    ['one of a later release', backupOf([JSON.stringify(newer), ...rows]), /format 3, made by release 9\.9\.9/],
    ['one with a row of another shape', backupOf([header, ...rows, wrongRow]), /generation of a row of users/],
    ['one with a table that is not known', backupOf([header, '["plans",{}]']), /a line is no row/],
    [
      'one with a user twice',
      backupOf([
        header,
        ...rows,
        ...rows.filter((row) => row.startsWith('["users"')).map((row) => row.replace(/"id":"....../, '"id":"aaaaaa')),
      ]),
      /cannot be beside each other/,
    ],
  ]
  for (const [title, bytes, line] of cases) {
    const path = join(dir, title.replaceAll(' ', '-'))
    writeFileSync(path, bytes)
    const { code, stdout, stderr } = await run(['store', 'restore', path], target)
    t.same([code, stdout], [1, ''], title)
    t.match(stderr, line, title)
    t.match(stderr, /^.+ Nothing was changed\.\n$/, `${title}: one line`)
    t.notMatch(stderr, /argon2/, title)
  }
  t.notOk(existsSync(join(target.AUTH_DATA_DIR, 'lmdb')))
  t.match(await run(['store', 'restore', join(dir, 'none')], target), { code: 1, stderr: /^ENOENT: no such file/ })

  // Each bit of gzip's header, some of the rest: one that says nothing of the rows may be another.
  for (let at = 0; at < whole.length; at += at < 10 ? 1 : 97) {
    const damaged = Buffer.from(whole)
    damaged[at] = (damaged[at] as number) ^ (1 << (at % 8))
    const read = await readBackup(Readable.from([damaged])).catch((error: unknown) => error)
    t.ok(read instanceof BackupRefused || (read as { sha256?: string }).sha256 === sha256, `a bit of byte ${at}`)
  }
  for (let length = 0; length < whole.length; length += 211) {
    const error = await readBackup(Readable.from([whole.subarray(0, length)])).catch((error: unknown) => error)
    t.ok(error instanceof BackupRefused, `${length} bytes`)
  }

  const dry = await runJson(['store', 'restore', file, '--dry-run'], target)
  t.match(dry, { code: 0, restored: false, sha256 })
  t.notOk(existsSync(join(target.AUTH_DATA_DIR, 'lmdb')))
})

t.test('a backup of any earlier format is restored', async (t) => {
  const text = readFileSync(join(root, 'test/stores/fixtures/backup-format-1.jsonl'))
  const file = join(await newDir(t), 'backup')
  writeFileSync(file, gzipSync(text))
  for (const newPlace of Object.values(places)) {
    const env = await newPlace(t)
    t.match(await runJson(['store', 'restore', file], env), { code: 0 })
    await within(env, async (store) => {
      t.match(await store.findUserByName('ada'), { username: 'Ada', roles: ['admin'], generation: 2 })
      t.match(await store.findSession('d6c90a64-e9ef-4e5a-b882-d34445b1a0f9'), { counter: 7 })
      t.match(await store.findClient('a-service'), { scopes: ['files:read'] })
      const kinds = (await store.revocationsSince()).revocations.map(({ kind }) => kind)
      t.same(kinds.toSorted(), ['key', 'user'], 'the old key is withdrawn, too')
      t.same(await errorsOf(store), [])
    })
  }
})

t.test(
  'the secret has to be that of the backup; where it is lost, the accounts are restored without sessions',
  async (t) => {
    const dir = await newDir(t)
    const source = { ...settings, AUTH_DATA_DIR: join(dir, 'source') }
    const service = await startHere(t, source)
    await service.signUp('ada')
    const { refresh_token: token } = await service.logIn('ada')
    const file = join(dir, 'backup')
    const { stdout } = await run(['store', 'backup', file], source)
    t.match(stdout, `the secret in ${source.AUTH_DATA_DIR}/secret`, 'it says where the secret is')
    t.notMatch(
      gunzipSync(readFileSync(file)).toString(),
      readFileSync(join(source.AUTH_DATA_DIR, 'secret'), 'utf8').trim(),
    )

    const target = { ...settings, AUTH_DATA_DIR: join(dir, 'target') }
    const expected =
      /^AUTH_SECRET: expected the secret that the backup was made beside: put it back as .*\/target\/secret, or/
    t.match(await run(['store', 'restore', file], target), { code: 78, stderr: expected })
    t.match(await run(['store', 'restore', file], { ...target, AUTH_SECRET: secret }), { code: 78, stderr: expected })
    t.notOk(existsSync(target.AUTH_DATA_DIR))
    t.match(await run(['store', 'restore', file, '--end-sessions'], target), { code: 0 })
    const anew = await startHere(t, target)
    t.equal((await anew.refresh(token)).status, 400)
    t.equal((await anew.tryLogIn('ada')).status, 200)
  },
)

t.test(
  'a backup is never half: not on a full disk, nor where a file is, nor after Ctrl-C; and pipes work',
  async (t) => {
    const dir = await newDir(t)
    const source = { AUTH_DATA_DIR: join(dir, 'source'), AUTH_SECRET: secret }
    await within(source, (store) => fill(store, 3_000))
    const out = join(dir, 'out')
    mkdirSync(out)
    const file = join(out, 'backup')

    const limited = spawnSync(
      'sh',
      ['-c', `ulimit -S -f 400; exec "$0" "$@"`, process.execPath, program('cli/latchkey.js'), 'store', 'backup', file],
      { env: { ...plainEnv, ...source }, encoding: 'utf8' },
    )
    t.match(limited, {
      status: 1,
      stderr: /: it cannot be written \(EFBIG: file too large\)\. No backup was written\.\n$/,
    })
    t.same(readdirSync(out), [])

    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const child = await start(['store', 'backup', file], source)
      const ended = once(child, 'exit')
      await until(() => readdirSync(out).length > 0)
      child.kill(signal)
      t.same(await ended, [130, null], signal)
      t.same(readdirSync(out), [])
    }
    t.match(await run(['store', 'backup', file], source), { code: 0 })
    t.match(await run(['store', 'backup', file], source), {
      code: 1,
      stderr: /is there already, and is not overwritten/,
    })
    t.match(await run(['store', 'backup', join(out, 'none/backup')], source), {
      code: 1,
      stderr: /There is no directory/,
    })
    t.match(await run(['store', 'backup', out], { AUTH_DATA_DIR: join(dir, 'none') }), { code: 69 })
    t.match(await run(['store', 'backup', '-'], source, '', 80), { code: 64, stderr: /stdout is a terminal/ })
    t.same(readdirSync(out), ['backup'])

    // As `latchkey store backup - | latchkey store restore -`.
    const target = { AUTH_DATA_DIR: join(dir, 'target'), AUTH_SECRET: secret }
    const command = `"$0" "$1" store backup - --json | AUTH_DATA_DIR='${target.AUTH_DATA_DIR}' "$0" "$1" store restore - --json`
    const piped = spawnSync('sh', ['-c', command, process.execPath, program('cli/latchkey.js')], {
      env: { ...plainEnv, ...source },
      encoding: 'utf8',
    })
    t.match(JSON.parse(piped.stdout), { restored: true, rows: { users: 3_000 } })
    t.match(JSON.parse(piped.stderr), { read_back: false, to: '-' })
    const left = spawnSync(
      'sh',
      ['-c', `{ "$0" "$1" store backup -; echo $? >&2; } | head -c 9`, process.execPath, program('cli/latchkey.js')],
      { env: { ...plainEnv, ...source }, encoding: 'utf8' },
    )
    t.match(left.stderr, /^stdout: it cannot be written .*\n1\n$/, 'a reader that has gone is a failure')
  },
)
