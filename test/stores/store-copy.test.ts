import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { open, type RootDatabaseOptions } from 'lmdb'
import pg from 'pg'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { Client } from '../../domain/client.ts'
import type { UserConsents } from '../../domain/consent.ts'
import { totpContext, type UserFactors } from '../../domain/factor.ts'
import type { RecordKey } from '../../domain/record.ts'
import type { PresentedRefresh, Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { createSecrets } from '../../plugins/keys/secrets.ts'
import { openDatabases } from '../../stores/lmdb/databases.ts'
import { type ByParent, keysOf } from '../../stores/lmdb/keys.ts'
import { openLmdbStore } from '../../stores/lmdb/store.ts'
import { checkStore } from '../../stores/moving/check.ts'
import { copyStore } from '../../stores/moving/copy.ts'
import type { Finding } from '../../stores/moving/moving.ts'
import { openPostgresStore } from '../../stores/postgres/store.ts'
import type { Store } from '../../stores/store.ts'
import { logoutKind } from '../../stores/tables/browser-sessions.ts'
import { run, runJson, runProcess, start } from '../support/cli.ts'
import { until } from '../support/client-helper.ts'
import {
  cheapHashing,
  isAccepted,
  json,
  logIn,
  newDir,
  refresh,
  sharedPostgres,
  signUp,
  type Tokens,
} from '../support/helper.ts'
import { renewalOf } from './browser-sessions.ts'
import { makeFactors, makeTotp } from './factors.ts'
import { end, fill, makeClient, makeUser, now } from './fill.ts'

const postgres = await sharedPostgres()
const secret = 'the secret of all stores in this test file'

const present = (session: Session): PresentedRefresh => ({
  ...{
    sessionId: session.id,
    counter: session.counter,
    clientId: session.clientId,
    scope: undefined,
    now,
    idleTtlMs: 1e9,
    maxTtlMs: 1e9,
    browser: { idleTtlMs: 1e9, maxTtlMs: 1e9 },
  },
  ...{ graceMs: 100, address: '', userAgent: '' },
})

function keep<S extends Store>(t: Test, store: S): S {
  t.teardown(() => store.close())
  return store
}
const newLmdb = async (t: Test) => keep(t, openLmdbStore(await newDir(t)))
const newPostgres = async (t: Test) => keep(t, await openPostgresStore(await postgres.createSchema()))

const copy = (source: Store, target: Store, remove = false) => copyStore(source, target, { remove, now })

// In the library

t.test(
  'thousands of rows go from LMDB to PostgreSQL and back, and each table is the same by count and checksum',
  async (t) => {
    const [first, middle, last] = [await newLmdb(t), await newPostgres(t), await newLmdb(t)]
    const { clients, users, factors, browserSessions, sessions, consents, records } = await fill(first, 1200)
    for (const [source, target] of [
      [first, middle],
      [middle, last],
    ] as const) {
      const reports = await copy(source, target)
      t.match(reports, [
        { table: 'signingKeys', source: { rows: 0 }, isSame: true },
        { table: 'clients', source: { rows: 120 }, target: { rows: 120 }, written: 120, isSame: true },
        { table: 'users', source: { rows: 1200 }, target: { rows: 1200 }, written: 1200, isSame: true },
        { table: 'factors', source: { rows: 120 }, target: { rows: 120 }, written: 120, isSame: true },
        { table: 'browserSessions', source: { rows: 240 }, target: { rows: 240 }, written: 240, isSame: true },
        { table: 'sessions', source: { rows: 1200 }, target: { rows: 1200 }, written: 1200, isSame: true },
        { table: 'consents', source: { rows: 240 }, target: { rows: 240 }, written: 240, isSame: true },
        { table: 'failures', source: { rows: 50 }, target: { rows: 50 }, written: 50, isSame: true },
        { table: 'records', source: { rows: 120 }, target: { rows: 120 }, written: 120, isSame: true },
        { table: 'audit', source: { rows: 120 }, target: { rows: 120 }, written: 120, isSame: true },
        { table: 'revocations', source: { rows: 20 }, target: { rows: 20 }, written: 20, isSame: true },
      ])
      for (const { source, target } of reports) t.equal(source.checksum, target.checksum)
      t.ok(
        (await copy(source, target)).every(({ written, isSame }) => written === 0 && isSame),
        'and again, it writes nothing',
      )
    }
    t.strictSame(await last.findUserByName(users[7]?.nameKey ?? ''), users[7])
    t.strictSame(await last.findClient(clients[7]?.id ?? ''), clients[7])
    t.strictSame(await last.findFactors(factors[7]?.userId ?? ''), factors[7])
    t.match(await last.rotateSession(present(sessions[7] as Session), end), { outcome: 'rotated' })
    t.strictSame(await last.listBrowserSessions(users[7]?.id ?? ''), [browserSessions[7]])
    t.strictSame(await last.listChildren(browserSessions[8]?.id ?? ''), [sessions[8]])
    t.strictSame(await last.findConsents(users[7]?.id ?? ''), consents[7])
    t.equal((await last.revocationsSince()).revocations.length, 20)
    const [spent, live] = records.map(({ id, kind }) => ({ id, kind, now }))
    t.match(await last.findRecord(spent as RecordKey), { gave: 'a session', data: '' })
    t.strictSame(await last.takeRecord(live as RecordKey), records[1])
  },
)

for (const [name, newTarget] of Object.entries({ lmdb: newLmdb, pg: newPostgres })) {
  t.test(`what happened in the source since is brought along [${name}]`, async (t) => {
    const [source, target] = [await newLmdb(t), await newTarget(t)]
    const { clients, users, browserSessions, sessions, consents, records } = await fill(source, 100)
    await copy(source, target)
    await source.takeRecord({ kind: 'code', id: records[3]?.id ?? '', now })

    const [gone, changed] = [users[1] as User, users[2] as User]
    await source.deleteUser(gone.id, end)
    const heir = makeUser({ nameKey: gone.nameKey })
    await source.createUser(heir)
    await source.changePassword({ userId: changed.id, expectedHash: changed.passwordHash, passwordHash: 'new' }, end)
    await source.rotateSession(present(sessions[3] as Session), end)
    await source.endSession(sessions[4]?.id ?? '', end)
    const [signedOut, renewed] = [browserSessions[8], browserSessions[9]] as [BrowserSession, BrowserSession]
    await source.endBrowserSession(signedOut.id, end)
    await source.renewBrowserSession(renewalOf(renewed))
    const { userId, version: expectedVersion } = consents[6] as UserConsents
    await source.changeConsents({ userId, expectedVersion, next: [] })
    await source.clearFailures([{ key: users[5]?.id ?? '' }])
    const [reset, enrolled] = [users[3] as User, users[14] as User]
    await source.changeFactors({ userId: reset.id, expectedVersion: 1, next: [] })
    await source.changeFactors({ userId: enrolled.id, expectedVersion: 0, next: [makeTotp()] })
    await source.deleteUser(users[23]?.id ?? '', end)
    const [removed, remade, rotated] = clients as [Client, Client, Client]
    await source.deleteClient(removed.id, end)
    await source.deleteClient(remade.id, end)
    const anew = makeClient({ id: remade.id, generation: now + 1000 })
    await source.createClient(anew)
    const next = { ...rotated, secrets: [{ hash: 'sha256:newer', createdAt: now }], generation: rotated.generation + 1 }
    await source.replaceClient(next, end)

    const without = await copy(source, target)
    t.match(
      without.filter(({ isSame }) => !isSame).map(({ table, extra }) => [table, extra]),
      [
        ['clients', 1],
        ['users', 2],
        ['factors', 1],
        ['browserSessions', 1],
        ['sessions', 2],
        ['consents', 1],
        ['failures', 1],
        ['records', 1],
      ],
      'what was ended stays until it is asked for',
    )
    // Ended since the copy before: to the target, that is a removal first and a revocation after it.
    await source.endSession(sessions[6]?.id ?? '', end)
    const reports = await copy(source, target, true)
    t.ok(reports.every(({ isSame }) => isSame))
    t.strictSame(await target.findUserByName(gone.nameKey), heir, 'a name that has changed hands')
    t.equal((await target.findUser(reset.id))?.hasFactors, undefined)
    t.equal((await target.findUser(enrolled.id))?.hasFactors, true)
    t.equal((await target.findUser(changed.id))?.passwordHash, 'new')
    t.equal((await target.findSession(sessions[3]?.id ?? ''))?.counter, 5)
    t.equal(await target.findSession(sessions[4]?.id ?? ''), undefined)
    t.equal(await target.findBrowserSession(signedOut.id), undefined)
    t.same(await target.listChildren(signedOut.id), [])
    t.strictSame(await target.findBrowserSession(renewed.id), await source.findBrowserSession(renewed.id))
    t.strictSame(await target.findConsents(userId), { userId, version: expectedVersion + 1, consents: [] })
    t.equal(await target.findConsents(gone.id), undefined)
    const due = async (store: Store) => (await store.dueRecords([logoutKind], now, 10)).map(({ id }) => id)
    t.strictSame(await due(target), await due(source), 'who is to be told is told by the target')
    const inForce = (await target.revocationsSince()).revocations.filter(({ expiresAt }) => expiresAt >= end.expiresAt)
    const ids = inForce.map(({ id }) => id)
    t.equal(await target.findClient(removed.id), undefined)
    t.strictSame(await target.findClient(remade.id), anew, 'an id that has changed hands')
    t.strictSame(await target.findClient(rotated.id), next)
    for (const id of [gone.id, changed.id, sessions[4]?.id, sessions[6]?.id, removed.id, remade.id, rotated.id])
      t.ok(ids.includes(id ?? ''), 'and its revocation is in force')
  })

  t.test(`a target that was in service after the source is never turned back [${name}]`, async (t) => {
    const [source, target] = [await newLmdb(t), await newTarget(t)]
    const { clients, users, factors, browserSessions, sessions, consents } = await fill(source, 20)
    await copy(source, target)
    const [user, session] = [users[1] as User, sessions[2] as Session]
    await target.rotateSession(present(session), end)
    await target.changePassword({ userId: user.id, expectedHash: user.passwordHash, passwordHash: 'new' }, end)
    const client = { ...(clients[1] as Client), secrets: [], generation: now + 1 }
    await target.replaceClient(client)
    const [{ userId, version: expectedVersion }, late] = [factors[1] as UserFactors, users[4] as User]
    await target.changeFactors({ userId, expectedVersion, next: [makeTotp()] })
    await target.changeFactors({ userId: late.id, expectedVersion: 0, next: [makeTotp()] })
    const renewal = renewalOf(browserSessions[3] as BrowserSession)
    await target.renewBrowserSession(renewal)
    const allowed = consents[2] as UserConsents
    await target.changeConsents({ userId: allowed.userId, expectedVersion: allowed.version, next: [] })
    const newcomer = makeUser()
    await target.createUser(newcomer)

    await t.rejects(copy(source, target, true), { message: /in service after the source/ })
    await t.rejects(
      copy(await newLmdb(t), target, true),
      { message: /no user in common/ },
      'nor emptied for the sake of another store',
    )
    t.ok(await target.findUser(newcomer.id), 'nothing was removed')
    const reports = await copy(source, target)
    t.match(
      reports.map(({ newer }) => newer),
      [0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
    )
    t.equal((await target.findSession(session.id))?.counter, session.counter + 1)
    t.equal((await target.findUser(user.id))?.passwordHash, 'new')
    t.strictSame(await target.findClient(client.id), client)
    t.equal((await target.findFactors(userId))?.version, expectedVersion + 1, 'what is spent stays so')
    t.equal((await target.findBrowserSession(renewal.id))?.secretHash, renewal.secretHash)
    t.same((await target.findConsents(allowed.userId))?.consents, [], 'what is withdrawn stays so')
    t.equal((await target.findUser(late.id))?.hasFactors, true, 'who has a second factor since needs it')
  })

  t.test(`a target of clients alone is told from a wrong one by them, but for those declared [${name}]`, async (t) => {
    const [source, target] = [await newLmdb(t), await newTarget(t)]
    const [client, declared] = [makeClient(), makeClient({ isDeclared: true })]
    for (const store of [source, target]) await store.importRows('clients', [client, declared])
    const [extra, alone] = [makeClient(), makeClient({ isDeclared: true })]
    await target.importRows('clients', [extra, alone, { ...declared, generation: now + 1 }])
    t.match((await copy(source, target, true))[1], { table: 'clients', removed: 2, newer: 1, extra: 0 })
    t.equal(await target.findClient(extra.id), undefined)

    await t.rejects(copy(await newLmdb(t), target, true), { message: /no client in common/ })
    await target.replaceClient({ ...client, secrets: [], generation: now + 1 })
    await t.rejects(copy(source, target, true), { message: /in service after the source \(clients: / })
    t.equal((await target.exportRows('clients', { limit: 5 })).rows.length, 2, 'nothing was removed')
  })

  t.test(`a follower's cursor of the source misses nothing in the target [${name}]`, async (t) => {
    const [source, target] = [await newLmdb(t), await newTarget(t)]
    const revoke = (store: Store, id: string, at: number) =>
      store.revoke({ kind: 'jti', id, revokedAt: at, expiresAt: at + 600_000 })
    for (let i = 0; i < 10; i++) await revoke(target, `of the target ${i}`, now - 5000 + i)
    for (let i = 0; i < 5; i++) await revoke(source, `seen ${i}`, now - 3000 + i)
    const { cursor } = await source.revocationsSince()
    for (let i = 0; i < 5; i++) await revoke(source, `unseen ${i}`, now - 1000 + i)
    await copy(source, target)
    await revoke(target, 'after', now)
    const ids = (await target.revocationsSince(cursor)).revocations.map(({ id }) => id)
    for (const id of ['unseen 0', 'unseen 4', 'after']) t.ok(ids.includes(id), id)
  })
}

// With the service, and as a command

async function serve(t: Test, settings: Record<string, string>) {
  const app = await buildApp(readConfig({ ...cheapHashing, AUTH_ISSUER: 'http://localhost:3000', ...settings }), {
    logStream: { write: () => {} },
  })
  t.teardown(() => app.close())
  return app
}

t.test('a move by the runbook, there and back, logs nobody out', async (t) => {
  const dir = await newDir(t)
  const url = await postgres.createSchema()
  const [embedded, database] = [{ AUTH_DATA_DIR: dir }, { DATABASE_URL: url, AUTH_SECRET_FILE: join(dir, 'secret') }]

  let app = await serve(t, embedded)
  const people: Tokens[] = []
  for (const name of ['ada', 'bob', 'cyd']) {
    await signUp(app, name)
    people.push(await logIn(app, name))
  }
  const early = await runJson(['store', 'copy', '--from', 'lmdb', '--to', 'pg'], { ...embedded, DATABASE_URL: url })
  t.match(early, { code: 0, same: true }, 'while it is in service, and with the secret that it finds beside the store')

  const [ada, bob, cyd] = people as [Tokens, Tokens, Tokens]
  const adaNext = json(await refresh(app, ada.refresh_token)) as Tokens
  t.equal(
    (await app.inject({ method: 'POST', url: '/logout', headers: { authorization: `Bearer ${cyd.access_token}` } }))
      .statusCode,
    204,
  )
  await app.close()
  const late = await runJson(['store', 'copy', '--from', 'lmdb', '--to', 'pg', '--delete'], {
    ...embedded,
    DATABASE_URL: url,
  })
  t.match(late, {
    code: 0,
    same: true,
    note: `Start the service on the target with the secret of the source: AUTH_SECRET_FILE=${dir}/secret`,
  })

  app = await serve(t, database)
  t.ok(await isAccepted(app, adaNext.access_token), 'access tokens are good: the signing keys have moved')
  t.notOk(await isAccepted(app, cyd.access_token), 'but for those revoked')
  const adaThird = json(await refresh(app, adaNext.refresh_token)) as Tokens
  t.ok(await isAccepted(app, adaThird.access_token))
  t.equal((await refresh(app, bob.refresh_token)).statusCode, 200)
  t.equal((await refresh(app, cyd.refresh_token)).statusCode, 400, 'who has logged out stays so')
  await logIn(app, 'cyd')
  await app.close()

  const wrongWay = await run(['store', 'copy', '--from', 'lmdb', '--to', 'pg', '--delete'], {
    ...embedded,
    DATABASE_URL: url,
  })
  t.equal(wrongWay.code, 1)
  t.match(wrongWay.stderr, /right way round\?\n$/)
  const back = await runJson(['store', 'copy', '--from', 'pg', '--to', 'lmdb', '--delete'], {
    ...embedded,
    ...database,
  })
  t.match(back, { code: 0, same: true })
  app = await serve(t, embedded)
  t.equal((await refresh(app, adaThird.refresh_token)).statusCode, 200)
})

t.test('a copy that is killed in the middle is made good by the next one', async (t) => {
  const dir = await newDir(t)
  const env = { AUTH_DATA_DIR: dir, AUTH_SECRET: secret, DATABASE_URL: await postgres.createDatabase() }
  const source = openLmdbStore(dir)
  await fill(source, 2200)
  await source.close()
  await (await openPostgresStore(env.DATABASE_URL)).close()

  // The second page of users waits.
  const holder = new pg.Client(env.DATABASE_URL)
  await holder.connect()
  await holder.query(`
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF EXISTS (SELECT FROM latchkey_users) THEN PERFORM pg_advisory_xact_lock(1); END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER waiting BEFORE INSERT ON latchkey_users FOR EACH STATEMENT EXECUTE FUNCTION wait();
    SELECT pg_advisory_lock(1)`)
  const child = await start(['store', 'copy', '--from', 'lmdb', '--to', 'pg'], env)
  const ended = once(child, 'close')
  const countRows = async () => (await holder.query('SELECT 1 FROM latchkey_users')).rowCount
  await until(async () => (await countRows()) !== 0 || child.exitCode !== null)
  child.kill('SIGKILL')
  await ended
  t.equal(await countRows(), 1000, 'it was in the middle')
  await holder.end()

  const copied = await runJson(['store', 'copy', '--from', 'lmdb', '--to', 'pg'], env)
  t.match(copied, {
    code: 0,
    same: true,
    tables: [{}, {}, { table: 'users', source: { rows: 2200 }, target: { rows: 2200 } }],
  })
  t.match(await runJson(['store', 'check', '--store', 'pg'], env), {
    code: 0,
    ok: true,
    rows: { clients: 220, users: 2200, sessions: 2200 },
  })
})

t.test(
  'a check finds an index that was damaged, a row that cannot be read, one of another shape and a ' +
    'session without its user',
  async (t) => {
    const dir = await newDir(t)
    const env = { AUTH_DATA_DIR: dir }
    const app = await serve(t, env)
    await signUp(app, 'ada')
    await app.close()
    const store = openLmdbStore(dir)
    const { clients, users, factors, browserSessions, sessions } = await fill(store, 20)
    await store.revoke({ kind: 'client', id: 'any', generation: now, revokedAt: now, expiresAt: end.expiresAt })
    const [enrolled, gone] = [users[6] as User, makeUser()]
    const secrets = createSecrets([readFileSync(join(dir, 'secret'), 'utf8').trim()])
    const totp = makeTotp()
    totp.secret = secrets.seal(Buffer.from('a secret'), totpContext(enrolled.id, totp.id)).toString('base64url')
    await store.changeFactors({ userId: enrolled.id, expectedVersion: 0, next: [totp] })
    await store.importRows('factors', [makeFactors(gone, [])])
    await store.close()
    const whole = await runJson(['store', 'check'], env)
    t.match(whole, {
      code: 0,
      ok: true,
      secret_checked: true,
      rows: { clients: 2, users: 21, factors: 4, sessions: 20, signing_keys: 1 },
    })

    const root = open({ path: join(dir, 'lmdb'), maxDbs: 64, encoder: { useRecords: false, mapsAsObjects: true } })
    const rows = openDatabases(root)
    const [child, browser] = [sessions[0] as Session, browserSessions[1] as BrowserSession]
    await rows.sessionsByParent.remove([child.parent ?? '', child.id])
    const misplaced: ByParent = [randomUUID(), sessions[1]?.id ?? '']
    await rows.sessionsByParent.put(misplaced, 0)
    await rows.browserSessionsByUser.remove([browser.userId, browser.createdAt, browser.id])
    const [nameless, alone, broken] = [users[1], sessions[2], users[3]] as [User, Session, User]
    await rows.usersByName.remove(nameless.nameKey)
    await rows.usersByName.put('nobody', randomUUID())
    await rows.sessionsByUser.remove([alone.userId, alone.createdAt, alone.id])
    root.transactionSync(() => {
      rows.users.put(users[4]?.id ?? '', { ...(users[4] as User), generation: -1 })
      rows.users.remove(users[5]?.id ?? '')
      rows.users.put(enrolled.id, enrolled)
    })
    await rows.clients.put(clients[0]?.id ?? '', { ...clients[0], introspect: 'some' } as never)
    await rows.clients.put('another', clients[1] as Client)
    await rows.factors.put(users[3]?.id ?? '', { ...factors[0], factors: [{ kind: 'pin' }] } as never)
    await rows.factors.remove(users[13]?.id ?? '')
    await root.close()
    const damaged = await runJson(['store', 'check'], env)
    t.match(damaged, { code: 1, ok: false })
    const found = (damaged.found as { level: string; table: string; what: string; keys: string[] }[]).map(
      ({ level, table, what, keys }) => `${level} ${table} ${what}: ${keys}`,
    )
    t.same(
      found.sort(),
      [
        'error clients the row does not fit its key: another',
        `error clients introspect is not as it should be: ${clients[0]?.id}`,
        `error factors factors/0 is not as it should be: ${users[3]?.id}`,
        `error factors the row of its user does not say whether there is one: ${enrolled.id}`,
        `error sessions the session is missing in the index of users: ${alone.id}`,
        `error sessions the session is missing in the index of parents: ${child.id}`,
        `error sessions_by_parent the index entry has no session: ${misplaced.join('/')}`,
        `error browser_sessions the browser session is missing in the index of users: ${browser.id}`,
        `note browser_sessions dead: its user is disabled: ${browserSessions[0]?.id}`,
        `error sessions its generation is ahead of its user: ${sessions[4]?.id}`,
        `error users it is to have a second factor, and has none: ${users[13]?.id}`,
        `error users generation is not as it should be: ${users[4]?.id}`,
        `error users the user is missing in the index of names: ${nameless.id}`,
        `error users_by_name the index entry has no user: nobody,${users[5]?.nameKey}`,
        `note factors dead: its user is gone: ${gone.id}`,
        `note sessions dead: its user is disabled: ${[sessions[0], sessions[10]].map((s) => s?.id).sort()}`,
        `note sessions dead: its user is gone: ${sessions[5]?.id}`,
        `error users_by_creation the index entry has no user: ${users[5]?.createdAt}/${users[5]?.id}`,
      ].sort(),
    )
    const human = await run(['store', 'check'], env)
    t.equal(human.code, 1)
    t.match(human.stdout, /ERROR +users_by_name +2 +the index entry has no user/)

    const raw = open({ path: join(dir, 'lmdb'), maxDbs: 64, encoding: 'binary' })
    const binary: RootDatabaseOptions = { encoding: 'binary', keyEncoder: keysOf('id') }
    await raw.openDB<Buffer, string>('users.2', binary).put(broken.id, Buffer.from([0x1f, 0xff, 0xff]))
    await raw.close()
    const unreadable = await run(['store', 'check'], env)
    t.equal(unreadable.code, 1)
    t.match(unreadable.stdout, new RegExp(`ERROR +users +1 +the row cannot be read +${broken.id}`))

    const another = await runJson(['store', 'check'], { ...env, AUTH_SECRET: secret })
    t.match(
      (another.found as { what: string }[]).map(({ what }) => what).filter((what) => what.includes('AUTH_SECRET')),
      [/authenticator app does not open under/, /it is to sign and does not open under/],
    )
  },
)

t.test(
  'a check of PostgreSQL finds a client whose secrets, and a user whose factors cannot be read, and looks at the rest all the same',
  async (t) => {
    const url = await postgres.createSchema()
    const store = keep(t, await openPostgresStore(url))
    const { clients, users, factors, sessions } = await fill(store, 20)
    const [client, sound] = clients as [Client, Client]
    const check = async () => {
      const found: Finding[] = []
      for await (const finding of checkStore(store)) if (finding.level === 'error') found.push(finding)
      return found.map(({ table, key, what }) => `${table} ${key}: ${what}`)
    }
    const damage = (secrets: string) =>
      postgres.execute(`UPDATE latchkey_clients SET secrets = '${secrets}' WHERE id = '${client.id}'`, url)
    t.same(await check(), [])
    await damage('[{"createdAt": 1}]')
    t.same(await check(), [`clients ${client.id}: secrets/0/hash is not as it should be`])
    await damage('[{')
    await postgres.execute(`UPDATE latchkey_users SET generation = -1 WHERE id = '${users[4]?.id}'`, url)
    t.same(await check(), [
      `clients ${client.id}: the row cannot be read`,
      `users ${users[4]?.id}: generation is not as it should be`,
      `sessions ${sessions[4]?.id}: its generation is ahead of its user`,
    ])
    await postgres.execute(`UPDATE latchkey_factors SET factors = '[{' WHERE user_id = '${factors[0]?.userId}'`, url)
    t.match(await check(), [/^clients/, `factors ${factors[0]?.userId}: the row cannot be read`, /^users/, /^sessions/])
    t.strictSame(await store.findClient(sound.id), sound)
  },
)

t.test(
  'wrong arguments, settings and stores each have an exit code and one line, and no password is shown',
  async (t) => {
    const dir = await newDir(t)
    const source = join(dir, 'source')
    await (await serve(t, { AUTH_DATA_DIR: source })).close()
    const other = join(dir, 'other')
    await (await serve(t, { AUTH_DATA_DIR: other })).close()
    const copyTo = (to: string, from = source) => ['store', 'copy', '--from', from, '--to', to]
    const cases: [string, string[], Record<string, string>, number, RegExp][] = [
      ['no --to', ['store', 'copy', '--from', 'lmdb'], {}, 64, /--to/],
      ['an unknown command', ['store', 'coppy'], {}, 64, /unknown command/],
      ['a password in an argument', copyTo('postgres://u:geheim@127.0.0.1/db'), {}, 64, /DATABASE_URL/],
      [
        'a password among its parameters',
        copyTo('postgres://127.0.0.1/db?user=u&password=geheim'),
        {},
        64,
        /DATABASE_URL/,
      ],
      ['what is no store', copyTo('mysql://u:geheim@127.0.0.1/db'), {}, 64, /Expected lmdb/],
      ['a store and itself', copyTo(`lmdb:${source}/../source`), {}, 64, /the same store/],
      ['no store there', copyTo(join(dir, 'new'), join(dir, 'none')), {}, 69, /there is no embedded store/],
      [
        'a database that is down',
        copyTo('pg'),
        { DATABASE_URL: 'postgres://u:geheim@127.0.0.1:1/db', AUTH_SECRET_FILE: join(source, 'secret') },
        69,
        /REFUSED/,
      ],
      ['no DATABASE_URL', copyTo('pg'), {}, 78, /^DATABASE_URL/],
      ['no such variable', copyTo('pg:ELSEWHERE'), {}, 78, /^ELSEWHERE/],
      ['a bad setting', ['store', 'check'], { AUTH_ACCESS_TTL: 'soon' }, 78, /^AUTH_ACCESS_TTL/],
      [
        'another secret',
        copyTo(join(dir, 'new')),
        { AUTH_SECRET: secret },
        78,
        /^AUTH_SECRET: .*AUTH_SECRET_FILE=.*source\/secret$/m,
      ],
    ]
    for (const [title, args, env, expected, line] of cases) {
      const { code, stdout, stderr } = await run(args, { AUTH_DATA_DIR: join(dir, 'none'), ...env })
      t.equal(code, expected, `${title}: ${expected}`)
      t.match(stderr, line, title)
      t.match(stderr, /^.+\n$/, `${title}: one line`)
      t.notMatch(stdout + stderr, /geheim/, title)
    }
    const { code, stdout } = await run(['store', 'copy', '--help'])
    t.equal(code, 0)
    t.match(stdout, /pg:NAME/)
    copyFileSync(join(source, 'secret'), join(other, 'kept'))
    const noted = await run(copyTo(other), { AUTH_DATA_DIR: join(dir, 'none') })
    t.match(noted.stdout, /other\/secret is another secret/)
  },
)

t.test('serve is the service: it listens, ends with the exit code of the service and passes signals on', async (t) => {
  const child = await start(['serve'], { AUTH_DATA_DIR: await newDir(t), PORT: '0' })
  t.teardown(() => child.kill('SIGKILL'))
  let log = ''
  for await (const text of child.stdout ?? []) {
    log += text
    if (log.includes('Latchkey listens')) break
  }
  t.match(log, /Latchkey listens on http/)
  child.kill('SIGTERM')
  t.same(await once(child, 'exit'), [0, null])
  const { code, stderr } = await runProcess(['serve'], { PORT: 'none' })
  t.equal(code, 78)
  t.match(stderr, /^PORT: /)
})
