import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { toRow } from '../../cli/import/to-row.ts'
import { readConfig } from '../../config.ts'
import { type Totp, totpContext, type UserFactors } from '../../domain/factor.ts'
import { totpStep } from '../../plugins/factors/totp.ts'
import { openStore } from '../../stores/open.ts'
import { run, runJson, start } from '../support/cli.ts'
import { vectors } from '../support/foreign-hashes.ts'
import { cheapHashing, json, logIn, newDir, onOneStore, password, stores, withToken } from '../support/helper.ts'

/* `latchkey user import` and `export`, as users run them. What becomes of a row is in `stores/imports.ts`. */

/** `htmlspecialchars` by PHP's password_hash. */
const bcrypt = '$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy'

const lines = (rows: (object | string)[]) =>
  rows.map((row) => `${typeof row === 'string' ? row : JSON.stringify(row)}\n`).join('')

async function newStore(t: Test) {
  const dir = await newDir(t)
  const env = { ...cheapHashing, AUTH_DATA_DIR: join(dir, 'data') }
  const file = (rows: (object | string)[], name: string = randomUUID()) => {
    writeFileSync(join(dir, name), lines(rows))
    return join(dir, name)
  }
  const take = (path: string, ...options: string[]) =>
    runJson(['user', 'import', path, '--from', 'latchkey', ...options], env)
  const exported = async (...options: string[]) => {
    const { stdout } = await run(['user', 'export', ...options], env)
    return stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]))
  }
  return { dir, env, file, take, exported }
}

t.test(
  'users are taken, and what is not taken is reported: before the first start, again, and by a pipe',
  async (t) => {
    const { dir, env, file, take } = await newStore(t)
    const rows = [
      {
        username: 'Ada',
        email: 'Ada@x.example',
        email_verified: true,
        password_hash: bcrypt,
        roles: ['admin', 'editor'],
      },
      { username: 'bob', external_id: '1' },
      { username: 'BOB', external_id: '2' },
      'no JSON',
      { username: 'no name at all', external_id: '4' },
      { email: 'cyd@x.example', created_at: '2020-02-03T04:05:06Z', disabled_at: '2021-01-01T00:00:00Z' },
      { username: 'dan', email: 'not an address', external_id: '6' },
      { username: 'eve', email: 'eve@x.example', email_verified: true, external_id: '7' },
      { username: 'eva', email: 'EVE@x.example', email_verified: true, external_id: '8' },
      { username: 'fay', password_hash: '$2b$31$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy' },
    ]
    const path = file(rows)
    const counts = { rows: 10, made: 3, updated: 0, unchanged: 0, skipped: 7, complete: true }

    const dry = await take(path, '--dry-run')
    t.match(dry, { code: 3, summary: { ...counts, dry_run: true } })
    t.match(
      dry['rows'].map(({ line, action }: { line: number; action: string }) => `${line} ${action}`),
      ['made', 'skipped', 'skipped', 'skipped', 'skipped', 'made', 'made', 'skipped', 'skipped', 'skipped'].map(
        (action, i) => `${i + 1} ${action}`,
      ),
      'of each line',
    )
    t.notOk(existsSync(env.AUTH_DATA_DIR), 'and nothing is made')
    t.match(await run(['user', 'import', path, '--from', 'latchkey', '--dry-run'], env), {
      code: 3,
      stdout: /^line 1: would be made\nline 2: would be skipped: another user of the file has the same name .*\n/,
    })

    const report = join(dir, 'report.jsonl')
    t.match(await take(path, '--report', report), {
      code: 3,
      ...counts,
      notes: { withoutPassword: 2, withoutAddress: 1 },
    })
    t.equal(statSync(report).mode & 0o777, 0o600)
    const text = readFileSync(report, 'utf8')
    t.notMatch(text, /\$2b|bob|x\.example/i, 'there are no hashes and no names in it')
    t.match(
      text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)])),
      [
        { line: 2, external_id: '1', action: 'skipped', reason: /the same name/ },
        { line: 3, external_id: '2', action: 'skipped', reason: /the same name/ },
        { line: 4, action: 'skipped', reason: 'no JSON' },
        { line: 5, external_id: '4', action: 'skipped', reason: /^the username must be/ },
        { line: 8, external_id: '7', action: 'skipped', reason: /verified address/ },
        { line: 9, external_id: '8', action: 'skipped', reason: /verified address/ },
        { line: 10, action: 'skipped', reason: /bcrypt cost of 31/ },
      ],
    )
    const again = await runJson(['user', 'import', '-', '--from', 'latchkey'], env, lines(rows))
    t.match(again, { code: 3, ...counts, made: 0, unchanged: 3 })
    t.match(again.stderr, /^2 × another user of the file has the same name or verified address \(line 2, 3\)$|^/m)
    t.match(await take(file([rows[0] as object])), { code: 0, unchanged: 1 }, 'what is there already is taken')

    const ada = await runJson(['user', 'show', 'ada'], env)
    t.match(ada, { username: 'Ada', email: 'Ada@x.example', email_verified: true, roles: ['admin', 'editor'] })
    t.match(ada, { source: 'latchkey', external_id: 'Ada' })
    const cyd = await runJson(['user', 'show', 'CYD@x.example'], env)
    t.match(cyd, { username: 'cyd@x.example', email_verified: false, created_at: '2020-02-03T04:05:06.000Z' })
    t.ok(cyd['disabled_at'])
    t.match(
      (await run(['user', 'show', 'ada'], env)).stdout,
      /^address +Ada@x\.example, verified\n(.*\n)*from +latchkey, as Ada$/m,
    )
    t.match(await run(['store', 'check'], env), { code: 0 })
  },
)

t.test(
  'wrong arguments, files and places end with a line that says what is expected, and nothing is made',
  async (t) => {
    const { dir, env, file } = await newStore(t)
    const good = file([{ username: 'ada' }])
    const cases: [code: number, stderr: RegExp, ...args: string[]][] = [
      [64, /--from/, good],
      [64, /^--from: expected one of latchkey, .*, got "oracle"\n$/, good, '--from', 'oracle'],
      [64, /^--on-conflict: expected one of skip, fail, update/, good, '--from', 'latchkey', '--on-conflict', 'merge'],
      [64, /^--firebase-config is for --from firebase\n$/, good, '--from', 'latchkey', '--firebase-config', good],
      [64, /stdin can be read once/, '-', '-', '--from', 'latchkey'],
      [64, /missing required argument/, '--from', 'latchkey'],
      [1, /^\S+nowhere: it cannot be read \(ENOENT\)\n$/, join(dir, 'nowhere'), '--from', 'latchkey'],
      [1, /it cannot be read \(EISDIR\)\n$/, dir, '--from', 'latchkey'],
      [1, /^--report: it cannot be written \(ENOENT\)\n$/, good, '--from', 'latchkey', '--report', join(dir, 'a/b')],
    ]
    for (const [code, stderr, ...args] of cases)
      t.match(await run(['user', 'import', ...args], env), { code, stdout: '', stderr }, args.join(' '))
    t.notOk(existsSync(env.AUTH_DATA_DIR))
    t.match(await run(['user', 'export'], env), { code: 69, stderr: /there is no embedded store/ })
  },
)

t.test('passwords in clear are hashed, with an estimate, and only of users who are not there yet', async (t) => {
  const { env, file, take, exported } = await newStore(t)
  const path = file([{ username: 'ada', password }, { username: 'bob' }])
  t.match((await take(path)).stderr, /^Passwords to be hashed: 1, or fewer; that takes about 1 s\.$/m)
  const [{ password_hash: hash }] = (await exported('--with-hashes')).filter(({ username }) => username === 'ada')
  t.match(hash, /^\$argon2id\$v=19\$/)
  await take(path, '--on-conflict', 'update')
  t.equal((await exported('--with-hashes')).find(({ username }) => username === 'ada').password_hash, hash)
  const later = file([
    { username: 'ada', password: `${password} anew` },
    { username: 'bob', password },
  ])
  t.match(await take(later, '--on-conflict', 'update'), { updated: 1, unchanged: 1 }, 'who has none yet gets one')
  t.match(await run(['store', 'check'], env), { code: 0 })
})

t.test('the codes of an authenticator app are good here as they were there', async (t) => {
  const { env, file, take, exported } = await newStore(t)
  const rows = [
    { username: 'ada', password_hash: bcrypt, totp_secret: 'gezd gnbv gy3t qojq gezd gnbv gy3t qojq' },
    { username: 'bob', password_hash: bcrypt, totp_secret: 'GEZDGNBV' },
    { username: 'cyd', password_hash: bcrypt, totp_secret: 'no base32!' },
    { username: 'dan', password_hash: bcrypt, second_factor: true },
  ]
  t.match(await take(file(rows), '--dry-run'), { code: 0, summary: { made: 4, notes: { withoutFactor: 3 } } })
  t.notOk(existsSync(env.AUTH_DATA_DIR))
  t.match(await take(file(rows)), { code: 0, made: 4, notes: { withoutFactor: 3 } }, 'before the first start')
  const { factors } = await runJson(['user', 'factors', 'list', 'ada'], env)
  t.match(factors, [{ kind: 'totp', name: 'Authenticator app' }])
  t.match(await runJson(['user', 'factors', 'list', 'bob'], env), { factors: [] }, 'too short to be safe')

  const app = await buildApp(readConfig(env))
  t.teardown(() => app.close())
  const ada = await app.userAdmin.get({ username: 'ada' })
  const [totp] = ((await app.store.findFactors(ada.id)) as UserFactors).factors as [Totp]
  const secret = app.secrets.open(Buffer.from(totp.secret, 'base64url'), totpContext(ada.id, totp.id))?.plaintext
  t.equal(
    totpStep({ secret: String(secret), code: '287082', now: 59_000, after: totp.step }),
    1,
    'RFC 6238, appendix B',
  )
  const leaving = (await exported('--with-hashes')).flatMap((user) => (user.second_factor ? [user] : []))
  t.match(leaving, [{ username: 'ada' }], 'an export says who has one')
  t.notMatch(JSON.stringify(leaving), 'GEZD', 'and has no key of it')
})

t.test('"fail" stops before the batch with the first conflict, and "skip" goes on from there', async (t) => {
  const { file, take, exported } = await newStore(t)
  await take(file([{ username: 'user-300', external_id: 'another' }]))
  const rows = Array.from({ length: 600 }, (_, i) => ({ username: `user-${i}` }))
  const path = file(rows)
  const failed = await take(path, '--on-conflict', 'fail')
  t.match(failed, { code: 3, rows: 600, made: 250, skipped: 250, complete: false })
  t.match(failed.stderr, /^Stopped: /m)
  t.equal((await exported()).length, 251)
  t.match(await take(path, '--on-conflict', 'skip'), { code: 3, made: 349, unchanged: 250, skipped: 1 })
  const twice = file([
    { username: 'new' },
    { username: 'zoe', external_id: '1' },
    { username: 'ZOE', external_id: '2' },
  ])
  t.match(await take(twice, '--on-conflict', 'fail'), { code: 3, made: 0, skipped: 3 }, 'nor with two of one name')
})

t.test('an export has all that an import takes: the same users are there, with ids, roles and hashes', async (t) => {
  const { dir, env, file, take, exported } = await newStore(t)
  await take(
    file([
      { username: 'Ada', email: 'ada@x.example', email_verified: true, password_hash: bcrypt, roles: ['admin', 'a'] },
      { username: 'bob', email: 'bob@x.example', locale: 'ko-KR', password, created_at: '2020-02-03T04:05:06Z' },
      { username: 'cyd', source: 'auth0', external_id: 'auth0|1' },
    ]),
  )
  await runJson(['user', 'add', 'dan', '--password-stdin'], env, password)
  const users = await exported('--with-hashes')
  t.equal(users.length, 4)
  const of = (name: string) => users.find(({ username }) => username === name)
  t.match(of('Ada'), { email: 'ada@x.example', email_verified: true })
  t.match(of('bob'), { email: 'bob@x.example', email_verified: false, locale: 'ko' })
  t.notMatch(JSON.stringify(await exported()), /password_hash|argon2/)

  const path = join(dir, 'users.jsonl')
  const asked = (typed: string) => run(['user', 'export', path, '--with-hashes'], env, typed, 80)
  t.match(await asked('n\n'), {
    code: 1,
    stderr: /Export all users, with the hashes of their passwords, to .*\? \[y\/N\]/,
  })
  t.notOk(existsSync(path))
  t.match(await asked('y\n'), { code: 0 })
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.match(await run(['user', 'export', path, '--yes'], env), { code: 1, stderr: /is there already/ })
  t.match(await run(['user', 'export', join(dir, 'a/b')], env), { code: 1, stderr: /it cannot be written \(ENOENT\)/ })

  const other = await newStore(t)
  t.match(await other.take(path), { code: 0, made: 4 })
  const own = ({ source, external_id, ...user }: Record<string, string>) =>
    source === undefined ? { ...user, source: 'latchkey', external_id: user['id'] } : { ...user, source, external_id }
  t.same(await other.exported('--with-hashes'), users.map(own))
  t.match(await take(path), { code: 0, unchanged: 4 }, 'and where they came from, they are there already')
  t.match(
    await take(path, '--on-conflict', 'update'),
    { code: 3, unchanged: 3, skipped: 1 },
    'nor is a local one taken over',
  )
})

t.test(
  'whatever form a hash is in, its user logs in after the import, and after an export and another import',
  async (t) => {
    const first = await newStore(t)
    const named = vectors.map((vector, i) => ({ ...vector, username: `user-${i}`, id: randomUUID() }))
    const rows = named.map(({ username, id, hash }) => ({ username, id, password_hash: hash }))
    const path = first.file(rows)
    const plain = await first.take(path)
    const bare = Number(/^(\d+) × the hash is a bare digest, and is taken with --wrap only/m.exec(plain.stderr)?.[1])
    t.match(plain, { code: 3, made: rows.length - bare, stderr: /have a hash that is cheap to guess at/ })

    const second = await newStore(t)
    await run(['user', 'export', join(second.dir, 'users.jsonl'), '--with-hashes'], first.env)
    t.match(await second.take(join(second.dir, 'users.jsonl')), { code: 0, made: rows.length - bare })
    t.same(await second.exported('--with-hashes'), await first.exported('--with-hashes'))

    const wrapped = await first.take(path, '--wrap', '--on-conflict', 'update')
    t.match(wrapped, { code: 0, made: bare, skipped: 0, stderr: /^Passwords to be hashed: /m })
    t.ok(wrapped['updated'] > 10, 'what is weak is wrapped later, too')
    t.match(await first.take(path, '--wrap', '--on-conflict', 'update'), { unchanged: rows.length })

    for (const { env, exported } of [first, second]) {
      const app = await buildApp(readConfig(env), { logStream: { write() {} } })
      t.teardown(() => app.close())
      const names = (await exported()).map(({ username }) => username)
      for (const { username, password, by } of named.filter(({ username }) => names.includes(username)))
        t.ok((await logIn(app, username, password).catch(() => undefined))?.access_token, by)
      const hashes = (await exported('--with-hashes')).map(({ password_hash }) => password_hash)
      t.ok(
        hashes.every((hash) => hash.startsWith('$argon2id$v=19$')),
        'and is of today then',
      )
    }
  },
)

t.test('what is no address is left out, and a time is one of ours', async (t) => {
  const of = (over: object) =>
    toRow({ externalId: '1', username: 'ada', ...over }, { from: 'auth0', wrap: false, now: 9 })
  const email = 'Ada@Bücher.example'
  t.match(of({ email, isEmailVerified: true }).row, { email, emailKey: 'ada@xn--bcher-kva.example' })
  t.match(of({ email }).row, { email, emailKey: undefined })
  t.match(of({ email: 'ada@', isEmailVerified: true }).row, { email: undefined, emailKey: undefined })
  const locales = { ko: 'ko', 'ko-KR': 'ko', EN_us: 'en', kok: undefined, fr: undefined, '': undefined }
  for (const [locale, kept] of Object.entries(locales)) t.equal(of({ locale }).row.locale, kept, locale)
  t.equal(of({ createdAt: -1 }).row.createdAt, 0)
  t.equal(of({ createdAt: 1e15 }).row.createdAt, 9)
})

t.test('an administrator of another system is none here, but one of another Latchkey is', async (t) => {
  const user = { externalId: '1', username: 'ada', roles: ['admin', 'editor'] }
  const of = (from: string) => toRow(user, { from, wrap: false, now: 1 })
  t.match(of('keycloak'), { row: { roles: ['editor'] }, notes: ['withoutPassword', 'notAdmin'] })
  t.match(of('latchkey'), { row: { roles: ['admin', 'editor'] } })
})

onOneStore(
  'a service beside it notices: who is disabled by an update is refused, and whoever came can log in',
  async (t, build) => {
    const { app, config, logs } = await build()
    const { file } = await newStore(t)
    const env = { ...cheapHashing, AUTH_DATA_DIR: config.AUTH_DATA_DIR }
    const takeHere = (path: string, ...options: string[]) =>
      run(['user', 'import', path, '--from', 'latchkey', ...options], { ...env, LOG_LEVEL: 'info' })
    const ada = { username: 'Ada', email: 'ada@x.example', email_verified: true, password }
    const { stderr } = await takeHere(file([ada, { username: 'bob' }]))
    const events = stderr.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
    t.match(
      events.filter(({ event }) => event),
      [
        {
          event: 'users.imported',
          source: 'latchkey',
          made: 2,
          updated: 0,
          unchanged: 0,
          skipped: 0,
          by: 'latchkey cli',
        },
      ],
      'one event for the run',
    )
    const { rows } = await app.store.listAudit({ event: 'users.imported' }, { limit: 10 })
    t.match(rows, [{ by: 'latchkey cli', outcome: 'success', detail: { source: 'latchkey', made: 2 } }])
    t.equal(rows.length, 1, 'which is kept')
    t.notOk('requestId' in (rows[0] as object))
    const { access_token: token } = await logIn(app)
    const me = json(await withToken(app, token, { url: '/users/me' }))
    t.match(me, { username: 'Ada', email: 'ada@x.example', email_verified: true })
    t.notOk('source' in me)
    for (const name of ['bob', 'nobody'])
      await t.rejects(logIn(app, name, '!'), /invalid_grant/, 'no password is right')
    t.notOk(
      logs.some(({ level }) => Number(level) >= 50),
      'and that is no error',
    )

    await takeHere(file([{ ...ada, disabled_at: '2021-01-01T00:00:00Z' }]), '--on-conflict', 'update')
    const startedAt = performance.now()
    while (
      (await withToken(app, token, { url: '/users/me' })).statusCode !== 401 &&
      performance.now() - startedAt < 1500
    )
      await sleep(20)
    t.ok(performance.now() - startedAt < 1500, 'within a second')
    await t.rejects(logIn(app), /invalid_grant/)
  },
)

for (const [name, storeSettings] of Object.entries(stores)) {
  t.test(`killed in the middle and run again, an import leaves the same as in one go [${name}]`, async (t) => {
    const { dir } = await newStore(t)
    const env = { ...cheapHashing, ...(await storeSettings(t)) }
    const path = join(dir, 'users.jsonl')
    const all = 6_000
    const rows = Array.from({ length: all }, (_, i) => ({
      username: `user-${i}`,
      external_id: `id-${i}`,
      roles: ['a'],
    }))
    writeFileSync(path, lines(rows))
    const { AUTH_DATA_DIR: dataDir = '', DATABASE_URL: url } = env as Record<string, string>
    const store = await openStore(url === undefined ? { kind: 'lmdb', dir: dataDir } : { kind: 'pg', url })
    t.teardown(() => store.close())
    const child = await start(['user', 'import', path, '--from', 'latchkey'], env)
    child.stdout?.resume()
    child.stderr?.resume()
    const ended = once(child, 'close')
    while (!(await store.findUserByName('user-500'))) await sleep(5)
    child.kill('SIGKILL')
    const [, signal] = await ended
    t.equal(signal, 'SIGKILL')
    t.equal(await store.findUserByName(`user-${all - 1}`), undefined, 'it was in the middle')

    const again = await runJson(['user', 'import', path, '--from', 'latchkey'], env)
    t.match(again, { code: 0, rows: all, made: Number, skipped: 0, complete: true })
    t.equal(again['made'] + again['unchanged'], all)
    t.ok(again['unchanged'] >= 500)
    let users = 0
    for (let after: string | undefined; ; ) {
      const { rows, next } = await store.exportRows('users', { limit: 1000, ...(after !== undefined && { after }) })
      for (const { username, externalId, roles } of rows)
        if (externalId !== username.replace('user', 'id') || roles[0] !== 'a') t.fail(username)
      users += rows.length
      after = next
      if (next === undefined) break
    }
    t.equal(users, all)
    for await (const finding of store.check()) t.fail(finding.what)
  })
}
