import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { open } from 'lmdb'
import t, { type Test } from 'tap'
import { checkFile, lmdbDirectory, lmdbFile } from '../../stores/lmdb/file.ts'
import { openLmdbStore } from '../../stores/lmdb/store.ts'
import { StoreInUse, upgradeLmdbStore } from '../../stores/lmdb/upgrade.ts'
import { checkStore } from '../../stores/moving/check.ts'
import { keyOf, type TableName, tables } from '../../stores/rows.ts'
import { StoreTooOld } from '../../stores/store.ts'
import { run } from '../support/cli.ts'
import { moduleFile } from '../support/program.ts'
import { fill, makeUser } from './fill.ts'

/*
 * A store of format 1, as 0.1 and 0.2 have written it, becomes one of this release. That what they have written goes on
 * working is in `migrations.test.ts`.
 */

const moved = ['users', 'browserSessions', 'sessions'] as const
type Moved = (typeof moved)[number]
type Rows = Record<TableName, object[]>

async function rowsOf(dir: string): Promise<Rows> {
  const store = openLmdbStore(dir)
  const rows = {} as Rows
  for (const table of Object.keys(tables) as TableName[])
    rows[table] = (await store.exportRows(table, { limit: 100_000 })).rows
  await store.close()
  return rows
}

/** Makes what format 1 has of it: MessagePack maps by text, the same tables for the rest, and no number. */
async function makeOld(dir: string, rows: Rows): Promise<void> {
  const root = open({ path: lmdbDirectory(dir), noSubdir: false, maxDbs: 64, encoder: { useRecords: false } })
  root.transactionSync(() => {
    for (const table of moved) {
      const old = root.openDB<object, string>({ name: tables[table].name })
      for (const row of rows[table]) old.putSync(keyOf<Moved>(row as never), row)
    }
    root.openDB<string, string>({ name: 'users_by_name' }).putSync('zoë', 'what it has in it is not read')
    for (const name of ['users', 'users_by_name', 'users_by_email', 'users_by_creation', 'sessions'])
      root.openDB({ name: `${name}.2`, keyEncoding: 'binary' }).dropSync()
    for (const name of ['sessions_by_user', 'sessions_by_parent', 'browser_sessions', 'browser_sessions_by_user'])
      root.openDB({ name: `${name}.2`, keyEncoding: 'binary' }).dropSync()
    root.openDB<number, string>({ name: 'counters' }).removeSync('format')
  })
  await root.close()
}

/** The rows of the store of format 1, which each test has a copy of. */
let rows: Rows
let master: Promise<string> | undefined
const users = 400
const all = users * 2 + users / 5
async function makeMaster(): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'latchkey-format-1-'))
  const store = openLmdbStore(dir)
  await fill(store, users)
  await store.close()
  rows = await rowsOf(dir)
  await makeOld(dir, rows)
  return dir
}
async function oldStore(t: Test): Promise<string> {
  master ??= makeMaster()
  const dir = t.testdir()
  cpSync(lmdbDirectory(await master), lmdbDirectory(dir), { recursive: true })
  return dir
}
t.after(async () => rmSync((await master) ?? '', { recursive: true, force: true }))

/** Starts `upgrade.child.ts`. */
function startChild(t: Test, ...args: string[]) {
  const script = moduleFile('test/stores/upgrade.child')
  const child = spawn(process.execPath, [...process.execArgv, script, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit') as Promise<[code: number | null, signal: string | null]>
  return { child, lines: createInterface(child.stdout), ended }
}

const quiet = { onProgress() {}, onUnmovable() {} }

/** Every row is there once, and every index fits. */
async function isWhole(t: Test, dir: string) {
  t.equal(checkFile(lmdbFile(dir)), 'all', 'the file is no damaged one')
  t.strictSame(await rowsOf(dir), rows)
  const store = openLmdbStore(dir)
  for await (const { level, ...found } of checkStore(store)) if (level === 'error') t.fail('a finding', found)
  const { users } = await store.listUsers({ limit: 1_000, createdAfter: 0 })
  t.equal(users.length, rows.users.length, 'users are listed by creation, which no release before did')
  await store.close()
}

t.test('a store of an earlier release is moved whole, once, and says how far it is', async (t) => {
  const dir = await oldStore(t)
  const progress: [number, number][] = []
  const onUnmovable = (table: string, key: string) => t.fail(`${table} ${key} is left`)
  const options = { onProgress: (...of: [number, number]) => progress.push(of), onUnmovable, rowsAtOnce: 300 }
  await upgradeLmdbStore(dir, options)
  t.same(
    progress.map(([, total]) => total),
    progress.map(() => all),
  )
  t.same(progress.at(-1), [all, all])
  await isWhole(t, dir)
  progress.length = 0
  await upgradeLmdbStore(dir, options)
  t.same(progress, [], 'again, there is nothing to do')
  const names = [...open({ path: lmdbDirectory(dir), readOnly: true }).getKeys()]
  t.notOk(names.includes('users') || names.includes('sessions_by_user'), 'its tables are gone')
})

t.test('killed at any moment, it loses nothing, and the next start goes on', async (t) => {
  const dir = await oldStore(t)
  const seen: number[] = []
  for (const steps of [0, 1, 3, 7, 12]) {
    const { child, lines, ended } = startChild(t, dir, 'upgrade', '20')
    let left = steps
    for await (const line of lines) {
      seen.push(Number(line.split(' ')[0]))
      if (left-- === 0) break
    }
    child.kill('SIGKILL')
    t.same(await ended, [null, 'SIGKILL'])
    t.throws(() => openLmdbStore(dir), new StoreTooOld(), 'nobody works with a part of the rows')
  }
  t.same(
    seen,
    seen.toSorted((a, b) => a - b),
    'what was moved stays moved',
  )
  await upgradeLmdbStore(dir, quiet)
  await isWhole(t, dir)
})

t.test('two processes that start at once both move, and both end well', async (t) => {
  const dir = await oldStore(t)
  const children = [startChild(t, dir, 'upgrade', '10'), startChild(t, dir, 'upgrade', '10')]
  t.same(await Promise.all(children.map(({ ended }) => ended)), [
    [0, null],
    [0, null],
  ])
  await isWhole(t, dir)
})

t.test('while a process of an earlier release uses the store, nothing is moved; it is waited for', async (t) => {
  const dir = await oldStore(t)
  const { child, lines, ended } = startChild(t, dir, 'serve')
  await once(lines, 'line')
  const refused = upgradeLmdbStore(dir, { ...quiet, patienceMs: 200 })
  await t.rejects(refused, new StoreInUse([child.pid as number]))
  const upgrading = upgradeLmdbStore(dir, quiet)
  child.stdin?.end()
  t.same(await ended, [0, null])
  await upgrading
  await isWhole(t, dir)
})

t.test('a signal ends it at once, and the log says how far it was', async (t) => {
  const dir = await oldStore(t)
  const { child, lines, ended } = startChild(t, dir, 'start')
  const [line] = await once(lines, 'line')
  t.match(JSON.parse(line).msg, /^bringing the store up to date: [0-9,]+ of 880 rows, [0-9]+ %$/)
  child.kill('SIGTERM')
  t.same(await ended, [0, null])
})

t.test('a row that is damaged, or has the name of another, stays where it is, and is told', async (t) => {
  const dir = await oldStore(t)
  const [torn, shapeless, twin] = [randomUUID(), randomUUID(), randomUUID()]
  const root = open({ path: lmdbDirectory(dir), noSubdir: false, maxDbs: 64, encoder: { useRecords: false } })
  const raw = root.openDB<Uint8Array, string>({ name: 'users', encoding: 'binary' })
  await raw.put(torn, Buffer.from([0xdf, 0xff, 0xff]))
  const users = root.openDB<object, string>({ name: 'users' })
  await users.put(shapeless, { id: shapeless })
  // Behind all others, so that it is the second to come.
  const id = `ffffffff${twin.slice(8)}`
  await users.put(id, makeUser({ id, nameKey: (rows.users[0] as { nameKey: string }).nameKey }))
  await root.close()
  const left: string[] = []
  await upgradeLmdbStore(dir, { ...quiet, onUnmovable: (table, key) => left.push(`${table} ${key}`) })
  t.same(left.toSorted(), [torn, shapeless, id].map((key) => `users ${key}`).toSorted())
  await isWhole(t, dir)
})

t.test('a command leaves a store of an earlier release as it is, and says what to do', async (t) => {
  const dir = await oldStore(t)
  const before = readFileSync(lmdbFile(dir))
  for (const args of [
    ['user', 'list'],
    ['store', 'check'],
    ['store', 'backup', 'x'],
    ['user', 'export', 'x'],
  ]) {
    const { code, stderr } = await run(args, { AUTH_DATA_DIR: dir })
    t.match(stderr, /an earlier release has written it: start the service on it once, which brings it up to date\n$/)
    t.not(code, 0)
  }
  const doctor = await run(['doctor'], { AUTH_DATA_DIR: dir })
  t.match(doctor.stdout, /an earlier release has written it: start the service on it once/)
  t.ok(readFileSync(lmdbFile(dir)).equals(before), 'nothing is written')
})
