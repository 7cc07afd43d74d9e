import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { open } from 'lmdb'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { version } from '../../config/version.ts'
import { readConfig } from '../../config.ts'
import type { Client } from '../../domain/client.ts'
import type { End } from '../../domain/lifetimes.ts'
import { hashSecret } from '../../plugins/clients/clients.ts'
import { lmdbDirectory, lmdbFile } from '../../stores/lmdb/file.ts'
import { upgradeLmdbStore } from '../../stores/lmdb/upgrade.ts'
import { checkStore } from '../../stores/moving/check.ts'
import type { Finding } from '../../stores/moving/moving.ts'
import { chosenStore, openStore } from '../../stores/open.ts'
import { migrations } from '../../stores/postgres/migrations.ts'
import { everyStatement } from '../../stores/postgres/sql.ts'
import { openPostgresStore } from '../../stores/postgres/store.ts'
import {
  challenges,
  challengeTo,
  cheapHashing,
  isAccepted,
  json,
  logIn,
  newDir,
  password,
  postForm,
  refresh,
  sharedPostgres,
  signUp,
  storeOf,
  withToken,
} from '../support/helper.ts'
import { root } from '../support/program.ts'

/*
 * Each release is kept as it was: `fixtures/release-VERSION.sql` is its schema with a little data that it wrote, and
 * `fixtures/release-VERSION.json` has its statements and the tokens that it gave out. The schema of today has to carry
 * on with the first, and the second has to run on it, for replicas of both releases are in service while one takes over
 * from the other. The same of the embedded store is `release-VERSION.mdb.gz`, its file, and `release-VERSION.mdb.json`;
 * those of 0.1 and 0.2 were made by `scripts/release-fixture.js`.
 *
 * At each release, after its version is in package.json: `UPDATE=1 npm test -- test/stores/migrations.test.ts`, and
 * commit the four new files. What is there is never written again, for it is no longer that release which would write
 * it; when one fails here, it is the new migration that is wrong.
 */

const postgres = await sharedPostgres()
const dir = join(root, 'test/stores/fixtures')
const fixed = { AUTH_SECRET: 'the secret that the fixtures were made with', AUTH_ISSUER: 'http://localhost:3000' }
const madeAt = Date.parse('2026-11-01T12:00:00Z')

interface Fixture {
  tokens: Record<string, string>
  /** a client that may have tokens of its own, where the release had clients */
  service?: { id: string; secret: string }
  /** of PostgreSQL */
  statements: Record<string, string>
}

type Settings = Record<string, string>

async function serve(t: Test, settings: Settings, now: number) {
  const config = readConfig({ ...cheapHashing, ...fixed, ...settings })
  const app = await buildApp(config, { now: () => now, logStream: { write: () => {} } })
  t.teardown(() => app.close())
  return app
}

/** Has this release write something of everything. @returns what came of it */
async function live(t: Test, settings: Settings): Promise<Pick<Fixture, 'tokens' | 'service'>> {
  const app = await serve(t, settings, madeAt)
  const secret = 'a-secret-of-the-service-that-is-long-enough'
  for (const name of ['Ada', 'bob', 'cyd', 'dan']) await signUp(app, name)
  const [ada, bob, cyd, dan] = [
    await logIn(app, 'ada'),
    await logIn(app, 'bob'),
    await logIn(app, 'cyd'),
    await logIn(app, 'dan'),
  ]
  const adaNext = json(await refresh(app, ada.refresh_token))
  await withToken(app, bob.access_token, { method: 'POST', url: '/logout' })
  const change = { current_password: password, new_password: `${password} anew` }
  const cydHere = await logIn(app, 'cyd')
  await withToken(app, cydHere.access_token, { method: 'POST', url: '/users/me/password', payload: change })
  await withToken(app, dan.access_token, { method: 'DELETE', url: '/users/me', payload: { password } })
  await postForm(app, '/token', { grant_type: 'password', username: 'ada', password: 'a wrong password' })
  const service: Client = {
    ...{ id: 'a-service', type: 'confidential', grants: ['client_credentials'], scopes: ['files:read', 'a "b"'] },
    ...{
      audience: ['https://api.example'],
      introspect: 'audience',
      createdAt: madeAt,
      isDeclared: false,
      generation: madeAt,
    },
    secrets: [{ hash: hashSecret(secret), createdAt: madeAt }],
  }
  await storeOf(app).createClient(service)
  const old = { hash: 'sha256:old', createdAt: madeAt - 1000, expiresAt: madeAt + 86_400_000 }
  await storeOf(app).replaceClient({ ...service, secrets: [...service.secrets, old], generation: madeAt + 1 })
  for (const id of ['a-public-one', 'a-deleted-one']) {
    await storeOf(app).createClient({
      ...service,
      id,
      type: 'public',
      introspect: 'none',
      secrets: [],
      disabledAt: madeAt,
    })
  }
  await storeOf(app).deleteClient('a-deleted-one', { now: madeAt, expiresAt: madeAt + 600_000 } as End)
  await app.close()
  const tokens = {
    good: adaNext.access_token,
    goodRefresh: adaNext.refresh_token,
    spentRefresh: ada.refresh_token,
    keptRefresh: cydHere.refresh_token,
    loggedOut: bob.access_token,
    changedElsewhere: cyd.access_token,
    deleted: dan.access_token,
  }
  return { tokens, service: { id: service.id, secret } }
}

/** The schema as the migrations make it, and the rows. */
async function dump(url: string): Promise<string> {
  const lines = ['CREATE TABLE latchkey_schema (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL);']
  for (const { statements } of migrations) lines.push(...statements.map((text) => `${text};`))
  const names = "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'latchkey%' ORDER BY 1"
  for (const { table_name: table } of (await postgres.execute(names, url)) as { table_name: string }[]) {
    const listing = `SELECT column_name FROM information_schema.columns WHERE table_name = '${table}' ORDER BY ordinal_position`
    const columns = ((await postgres.execute(listing, url)) as { column_name: string }[]).map(
      ({ column_name }) => column_name,
    )
    const values = columns.map((column) => `quote_nullable(${column}::text) AS ${column}`)
    const rows = (await postgres.execute(`SELECT ${values} FROM ${table} ORDER BY 1`, url)) as Record<string, string>[]
    for (const row of rows)
      lines.push(`INSERT INTO ${table} (${columns.join(', ')}) VALUES (${Object.values(row).join(', ')});`)
  }
  return (
    `-- Latchkey ${version}: its schema, and data that it wrote. See test/stores/migrations.test.ts.\n` +
    `${lines.join('\n')}\n`
  )
}

if (process.env['UPDATE'] === '1') {
  await t.test('the fixture of this release is written, once', async (t) => {
    const there = readdirSync(dir).filter((name) => name.startsWith(`release-${version}.`))
    t.same(there, [], 'nothing is written: put the version of the new release into package.json first')
    if (there.length > 0) return
    const write = (ending: string, content: string | Buffer) =>
      writeFileSync(join(dir, `release-${version}.${ending}`), content, { flag: 'wx' })

    const url = await postgres.createDatabase()
    const lived = await live(t, { DATABASE_URL: url })
    const texts = Object.fromEntries(Object.entries(everyStatement).map(([name, { text }]) => [name, text]))
    write('sql', await dump(url))
    write('json', `${JSON.stringify({ ...lived, statements: texts }, null, 2)}\n`)

    const dataDir = await newDir(t)
    const livedHere = await live(t, { AUTH_DATA_DIR: dataDir })
    write('mdb.gz', gzipSync(readFileSync(lmdbFile(dataDir)), { level: 9 }))
    write('mdb.json', `${JSON.stringify(livedHere, null, 2)}\n`)
  })
}

const releases = readdirSync(dir)
  .filter((name) => name.endsWith('.sql'))
  .map((name) => name.replace(/^release-|\.sql$/g, ''))

t.test('every release is kept, this one too', async (t) => {
  t.ok(releases.includes(version), `there is a fixture of ${version}`)
})

/** This release goes on with what another has written. */
async function goesOn(t: Test, settings: Settings, { tokens, service }: Pick<Fixture, 'tokens' | 'service'>) {
  const app = await serve(t, settings, madeAt + 60_000)

  t.ok(await isAccepted(app, tokens['good'] ?? ''), 'its access tokens are good: its signing keys open')
  for (const name of ['loggedOut', 'changedElsewhere', 'deleted']) {
    t.equal(await challengeTo(app, tokens[name] ?? ''), challenges.revoked, `its revocations are in force: ${name}`)
  }
  t.equal((await refresh(app, tokens['goodRefresh'] ?? '')).statusCode, 200, 'its sessions go on')
  t.equal((await refresh(app, tokens['keptRefresh'] ?? '')).statusCode, 200)
  t.equal((await refresh(app, tokens['spentRefresh'] ?? '')).statusCode, 400, 'its spent tokens are spent')
  t.equal((await refresh(app, tokens['goodRefresh'] ?? '')).statusCode, 400, 'and the theft has ended the session')

  await logIn(app, 'ada')
  await logIn(app, 'cyd', `${password} anew`)
  t.equal((await signUp(app, 'ADA')).statusCode, 409, 'its names are taken')
  t.equal((await signUp(app, 'dan')).statusCode, 201, 'but for those that were given up')
  const bob = await logIn(app, 'bob')
  t.equal((await withToken(app, bob.access_token, { method: 'POST', url: '/logout' })).statusCode, 204)
  t.equal(await challengeTo(app, bob.access_token), challenges.revoked)
  if (service) {
    const form = { grant_type: 'client_credentials', client_id: service.id, client_secret: service.secret }
    t.equal((await postForm(app, '/token', form)).statusCode, 200, 'its clients authenticate')
  }
  await app.close()

  const store = await openStore(chosenStore(app.config))
  t.teardown(() => store.close())
  const errors: Finding[] = []
  for await (const finding of checkStore(store)) if (finding.level === 'error') errors.push(finding)
  t.same(errors, [])
}

const parsed = (name: string) => JSON.parse(readFileSync(join(dir, name), 'utf8'))

for (const release of releases) {
  const sql = readFileSync(join(dir, `release-${release}.sql`), 'utf8')
  const fixture: Fixture = parsed(`release-${release}.json`)
  const load = async () => {
    const url = await postgres.createDatabase()
    await postgres.execute(sql, url)
    return url
  }

  t.test(`this release goes on with the data of ${release} [pg]`, async (t) =>
    goesOn(t, { DATABASE_URL: await load() }, fixture),
  )

  t.test(`this release goes on with the data of ${release} [lmdb]`, async (t) => {
    const dataDir = await newDir(t)
    mkdirSync(lmdbDirectory(dataDir))
    writeFileSync(lmdbFile(dataDir), gunzipSync(readFileSync(join(dir, `release-${release}.mdb.gz`))))
    await upgradeLmdbStore(dataDir, { onProgress() {}, onUnmovable: (table, key) => t.fail(`${table} ${key} is left`) })
    await goesOn(t, { AUTH_DATA_DIR: dataDir }, parsed(`release-${release}.mdb.json`))
  })

  t.test(`${release} goes on beside this one: its statements run on the schema of today`, async (t) => {
    const url = await load()
    await (await openPostgresStore(url)).close()
    for (const [name, text] of Object.entries(fixture.statements)) {
      const error = await postgres.execute(`PREPARE of_${release.replace(/\W/g, '_')} AS ${text}`, url).then(
        () => undefined,
        (error: Error) => error.message,
      )
      t.equal(error, undefined, name)
    }
  })
}

t.test('a downgrade is refused where the newer release says that this one cannot go on [pg]', async (t) => {
  const url = await postgres.createDatabase()
  await (await openPostgresStore(url)).close()
  const take = (version: number) =>
    postgres.execute(`INSERT INTO latchkey_schema (version, applied_at) VALUES (${version}, now())`, url)
  await take(999)
  await (await openPostgresStore(url)).close()
  t.pass('a step that only adds is none of them')
  await take(1000)
  await t.rejects(serve(t, { DATABASE_URL: url }, madeAt), {
    message: /^DATABASE_URL: expected a store .*written by a newer Latchkey \(format 2, this one knows 1\): start that/,
  })
})

t.test('a downgrade is refused where the newer release says that this one cannot go on [lmdb]', async (t) => {
  const dataDir = await newDir(t)
  await (await openStore({ kind: 'lmdb', dir: dataDir })).close()
  const root = open({ path: lmdbDirectory(dataDir), noSubdir: false, maxDbs: 32 })
  await root.openDB<number>({ name: 'counters' }).put('format', 3)
  await root.close()
  const before = readFileSync(lmdbFile(dataDir))
  await t.rejects(serve(t, { AUTH_DATA_DIR: dataDir }, madeAt), {
    message:
      /^AUTH_DATA_DIR: expected a store .*written by a newer Latchkey \(format 3, this one knows 2\): start that/,
  })
  t.ok(readFileSync(lmdbFile(dataDir)).equals(before), 'and nothing is written')
})
