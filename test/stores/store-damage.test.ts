import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { checkFile, StoreDamaged } from '../../stores/lmdb/file.ts'
import { run } from '../support/cli.ts'
import { cheapHashing, json, logIn, newDir, password, signUp } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'
import { moduleFile, program } from '../support/program.ts'
import { pseudorandom } from '../support/random.ts'
import type { Outcome, Start } from './store-damage.child.ts'

/*
 * A store that is not what it was, before real processes. Each start ends with one line, and the program with an exit
 * code, or serves rightly: then the user that there was logs in, and is the same.
 */

const { PATH = '' } = process.env

/** Without the right of root to pass over modes and owners, which would let every such case through. */
const ordinary = ['setpriv', '--bounding-set=-dac_override,-dac_read_search']
const isRoot = process.getuid?.() === 0
const needsModes =
  isRoot && spawnSync(ordinary[0] as string, [...ordinary.slice(1), 'true']).status !== 0 && 'root without setpriv'

const asOrdinary = isRoot && !needsModes ? ordinary : []

const settings = (env: Record<string, string> = {}) => ({ PORT: '0', AUTH_DATA_DIR: 'data', ...cheapHashing, ...env })

/** One store that was in use, which every case has a copy of: users, sessions, keys, and pages that were freed. */
const root = mkdtempSync('/tmp/latchkey-damage-')
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const users = 15
let ada = ''

async function makeStore(): Promise<void> {
  const app = await buildHere(join(root, 'data'))
  for (let i = 0; i < users; i++) {
    const username = i === 0 ? 'ada' : `user-${i}`
    const { id } = json(await signUp(app, username))
    if (i === 0) ada = id
    await logIn(app, username)
  }
  await app.close()
}

/** The service in this process. */
const buildHere = (data: string) =>
  buildApp(readConfig({ ...settings(), AUTH_DATA_DIR: data }), { logStream: { write() {} } })

/** A copy of that store. @returns the directory that the service is started in */
async function copied(t: Test): Promise<string> {
  const dir = await newDir(t)
  cpSync(join(root, 'data'), join(dir, 'data'), { recursive: true })
  return dir
}

const line =
  /^(AUTH_DATA_DIR|AUTH_SECRET): expected .+\n$|^AUTH_DATA_DIR: the store in \S*data is damaged \(.+\): put it back .+\n$/

interface Case {
  title: string
  break: (dir: string) => void
  env?: Record<string, string>
  /** the line, where it has to end; whether it ends or serves rightly is left to it where this is not given */
  ends?: RegExp
  serves?: true
  skip?: string | false
}

interface Starter {
  start(env: Record<string, string>, umask?: number): Promise<Outcome>
  kill(): Promise<unknown>
}

/** A process that starts on one store after another; it has the file of a damaged store open until it ends. */
async function startStarter(t: Test): Promise<Starter> {
  const [command = '', ...args] = [...asOrdinary, process.execPath, moduleFile('test/stores/store-damage.child')]
  const child = spawn(command, args, { env: { PATH }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const ended = once(child, 'exit')
  const kill = () => {
    child.kill('SIGKILL')
    return ended
  }
  t.teardown(kill)
  const died = ended.then(([code, signal]) => ({ line: `the process ended with ${signal ?? code}`, log: '' }))
  await Promise.race([once(child, 'message'), died])
  return {
    async start(env, umask = 0o022) {
      if (child.connected) child.send({ env, password, umask } satisfies Start)
      return Promise.race([once(child, 'message').then(([outcome]) => outcome as Outcome), died])
    },
    kill,
  }
}

/** Runs cases: the first by the program, to see its exit code, and the others in one process. */
async function judge(t: Test, cases: Case[]): Promise<void> {
  for (const [i, { title, ends, serves, env, skip, break: breakIt }] of cases.entries()) {
    if (skip) {
      t.pass(title, { skip })
      continue
    }
    const dir = await copied(t)
    breakIt(join(dir, 'data'))
    const before = readdirSync(join(dir, 'data')).sort()
    const outcome = await (i === 0
      ? endOfProgram(t, dir, env)
      : starter.start({ ...settings(env), AUTH_DATA_DIR: join(dir, 'data') }))
    if (outcome.line === undefined) {
      t.same([ends, outcome.id], [undefined, ada], `${title}: serves rightly`)
      continue
    }
    const isRight =
      !serves && outcome.log === '' && [line, ends ?? line].every((text) => text.test(`${outcome.line}\n`))
    t.ok(isRight, `${title}: ends with one line, and not: ${outcome.line}${outcome.log}`)
    t.same(readdirSync(join(dir, 'data')).sort(), before, `${title}: nothing is made in its place`)
  }
}

/** Starts the program, which has to end with 78. */
async function endOfProgram(t: Test, dir: string, env?: Record<string, string>): Promise<Outcome> {
  const [command = '', ...args] = [...asOrdinary, process.execPath, program('start.cjs')]
  const options = { cwd: dir, env: { PATH, ...settings(env) }, timeout: 30_000 }
  const { code, stdout, stderr } = await new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) =>
    execFile(command, args, options, (error, stdout, stderr) => resolve({ code: error?.code, stdout, stderr })),
  )
  t.equal(code, 78)
  return { line: stderr.replace(/\n$/, ''), log: stdout }
}

const pageBytes = 4096
const dataOf = (data: string) => join(data, 'lmdb', 'data.mdb')

function overwrite(data: string, at: number, bytes: Buffer): void {
  const content = readFileSync(dataOf(data))
  bytes.copy(content, at)
  writeFileSync(dataOf(data), content)
}

let starter: Starter
t.before(async () => {
  await makeStore()
  starter = await startStarter(t)
})

t.test(
  'a store whose file is missing, empty, cut or overwritten ends the start with a line, or serves rightly; contract §2',
  async (t) => {
    const { size } = statSync(dataOf(join(root, 'data')))
    const pages = size / pageBytes
    const random = pseudorandom(7)
    const noise = () => Buffer.from(Array.from({ length: pageBytes }, () => random() * 256))
    const zeros = Buffer.alloc(pageBytes)
    const cuts = [1, 100, pageBytes, pageBytes * 2, 0.2, 0.4, 0.6, 0.8, 0.9, size - 1].map((at) =>
      at < 1 ? Math.floor(size * at) : at,
    )
    const damaged = /is damaged/
    await judge(t, [
      { title: 'the directory is empty', break: (data) => rmSync(dataOf(data)), ends: /data.mdb is missing/ },
      {
        title: 'the store is missing beside its secret',
        break: (data) => rmSync(join(data, 'lmdb'), { recursive: true }),
        ends: /it is missing/,
      },
      { title: 'the file is empty', break: (data) => truncateSync(dataOf(data), 0), ends: /data.mdb is empty/ },
      ...cuts.map((at, i) => ({
        title: `cut at ${at}`,
        break: (data: string) => truncateSync(dataOf(data), at),
        ...(i < 5 && { ends: damaged }),
      })),
      ...[0, 1].map((page) => ({
        title: `meta page ${page} is zeros`,
        break: (data: string) => overwrite(data, page * pageBytes, zeros),
        ends: damaged,
      })),
      ...[2, 3].map((page) => ({
        title: `page ${page} is zeros`,
        break: (data: string) => overwrite(data, page * pageBytes, zeros),
      })),
      {
        title: 'both meta pages are zeros',
        break: (data) => overwrite(data, 0, Buffer.alloc(2 * pageBytes)),
        ends: damaged,
      },
      { title: 'it is another file', break: (data) => writeFileSync(dataOf(data), 'x'.repeat(size)), ends: damaged },
      ...Array.from({ length: 4 }, () => {
        const page = 2 + Math.floor(random() * (pages - 2))
        const bytes = noise()
        return { title: `page ${page} is noise`, break: (data: string) => overwrite(data, page * pageBytes, bytes) }
      }),
      { title: 'as it was', break: () => {}, serves: true },
      {
        title: 'without its lock file, as from a backup',
        break: (data) => rmSync(join(data, 'lmdb', 'lock.mdb')),
        serves: true,
      },
    ])
  },
)

t.test('a page in use that is overwritten, with whatever, is found before LMDB has it; contract §2', async (t) => {
  const data = join(await copied(t), 'data')
  const good = readFileSync(dataOf(data))
  const random = pseudorandom(11)
  const noise = Buffer.from(Array.from({ length: pageBytes }, () => random() * 256))
  const contents = [Buffer.alloc(pageBytes), Buffer.alloc(pageBytes, 0xff), noise]
  function isFound(page: number, content: Buffer): boolean {
    overwrite(data, page * pageBytes, content)
    try {
      return checkFile(dataOf(data)) !== 'all'
    } catch (error) {
      return error instanceof StoreDamaged
    } finally {
      writeFileSync(dataOf(data), good)
    }
  }
  const pages = Array.from({ length: good.length / pageBytes }, (_, page) => page)
  const verdicts = pages.map((page) => contents.map((content) => isFound(page, content)))
  const undecided = verdicts.filter((found) => new Set(found).size > 1)
  t.same(undecided, [], 'what is not found, whatever is written, is in a page that is free')
  t.ok(verdicts.filter(([found]) => found).length >= 8, 'metas, free pages, tables, and the tables that have rows')
  t.equal(checkFile(dataOf(data)), 'all')
})

t.test(
  'a secret that is missing, another, empty, short or unreadable ends the start with a line, and ' +
    'none is made; contract §2',
  async (t) => {
    const secret = (text: string) => (data: string) => writeFileSync(join(data, 'secret'), text)
    function asDirectory(data: string): void {
      rmSync(join(data, 'secret'))
      mkdirSync(join(data, 'secret'))
    }
    await judge(t, [
      { title: 'missing', break: (data) => rmSync(join(data, 'secret')), ends: /there is no \S*data\/secret/ },
      { title: 'another', break: secret(`${'y'.repeat(64)}\n`), ends: /^AUTH_SECRET: expected the secret that sealed/ },
      {
        title: 'another, under another algorithm',
        break: secret('y'.repeat(64)),
        env: { AUTH_SIGNING_ALG: 'EdDSA' },
        ends: /^AUTH_SECRET: expected/,
      },
      { title: 'empty', break: secret(''), ends: /got 0: put it back/ },
      { title: 'short', break: secret('short\n'), ends: /got 5: put it back/ },
      {
        title: 'unreadable',
        break: (data) => chmodSync(join(data, 'secret'), 0),
        ends: /got EACCES/,
        skip: needsModes,
      },
      { title: 'a directory', break: asDirectory, ends: /got EISDIR/ },
    ])
  },
)

t.test('a directory that is not ours or cannot be written ends the start with a line; contract §2', async (t) => {
  const stranger = 65_534
  const all = (data: string, change: (path: string) => void) =>
    [
      join(data, 'lmdb', 'data.mdb'),
      join(data, 'lmdb', 'lock.mdb'),
      join(data, 'lmdb'),
      join(data, 'secret'),
      data,
    ].forEach(change)
  const modes = (directory: number, file: number) => (path: string) =>
    chmodSync(path, statSync(path).isDirectory() ? directory : file)
  const notRoot = !isRoot && 'only root can give files away'
  await judge(t, [
    { title: 'read-only', break: (data) => all(data, modes(0o500, 0o400)), ends: /got EACCES/, skip: needsModes },
    {
      title: 'a file that is read-only',
      break: (data) => chmodSync(dataOf(data), 0o400),
      ends: /got EACCES/,
      skip: needsModes,
    },
    {
      title: 'not ours',
      break: (data) => all(data, (path) => chownSync(path, stranger, stranger)),
      ends: /got EACCES/,
      skip: needsModes || notRoot,
    },
    {
      title: 'ours by the group, as under a user of the platform',
      break(data) {
        all(data, modes(0o770, 0o660))
        all(data, (path) => chownSync(path, stranger, 0))
      },
      serves: true,
      skip: needsModes || notRoot,
    },
  ])
})

t.test(
  'what there is of the store and the secret is for its owner alone, whatever it was and whatever ' +
    'the umask is; contract §2',
  async (t) => {
    const wrong = (dir: string) =>
      ['data', 'data/lmdb', 'data/secret', 'data/lmdb/data.mdb', 'data/lmdb/lock.mdb'].filter(
        (path) => (statSync(join(dir, path)).mode & 0o077) !== 0,
      )
    const [made, old] = [await newDir(t), await copied(t)]
    mkdirSync(join(made, 'data'), { mode: 0o755 })
    for (const path of ['data', 'data/lmdb']) chmodSync(join(old, path), 0o755)
    for (const path of ['data/secret', 'data/lmdb/data.mdb', 'data/lmdb/lock.mdb']) chmodSync(join(old, path), 0o644)
    for (const dir of [made, old]) {
      t.equal((await starter.start({ ...settings(), AUTH_DATA_DIR: join(dir, 'data') }, 0)).line, undefined)
      t.same(wrong(dir), [])
    }
  },
)

t.test(
  'a first start that is killed at any moment leaves nothing that needs hands, and those that come at once agree',
  async (t) => {
    const data = join(await newDir(t), 'data')
    const env = { ...settings(), AUTH_DATA_DIR: data }
    const random = pseudorandom(Date.now() >>> 0)
    const { madeMs = 0 } = await starter.start(env)
    t.ok(madeMs > 0)
    for (let i = 0; i < (isLong ? 20 : 3); i++) {
      rmSync(data, { recursive: true, force: true })
      const first = await startStarter(t)
      const started = first.start(env)
      await sleep(madeMs * random())
      await first.kill()
      await started
      const left = existsSync(data) ? readdirSync(data) : []
      const isWhole = left.includes('lmdb') ? existsSync(join(data, 'lmdb', 'data.mdb')) : !left.includes('secret')
      t.ok(isWhole, `nothing, or a store: ${left}`)
      const again = await starter.start(env)
      t.equal(again.line, undefined, `${left}: ${again.line}`)
    }

    rmSync(data, { recursive: true, force: true })
    mkdirSync(join(data, 'lmdb.new-1-abcdef'), { recursive: true })
    utimesSync(join(data, 'lmdb.new-1-abcdef'), 1, 1)
    const another = await startStarter(t)
    const [one, two, here] = await Promise.all([starter.start(env), another.start(env), buildHere(data)])
    t.same(readdirSync(data).sort(), ['lmdb', 'secret'], 'with nothing beside')
    const { keys } = json(await here.inject('/.well-known/jwks.json'))
    await here.close()
    t.equal(keys.length, 3)
    t.same([one.keys, two.keys], [keys, keys], 'one key of each algorithm')
  },
)

t.test('commands that look make nothing and write nothing, whatever their settings; contract §7', async (t) => {
  const dir = await copied(t)
  const data = join(dir, 'data')
  const env = { ...cheapHashing, AUTH_DATA_DIR: data, AUTH_SIGNING_ALG: 'RS256', AUTH_KEY_ROTATION: '1h' }
  const files = () => [
    readdirSync(data).sort(),
    readFileSync(dataOf(data)).toString('base64'),
    readFileSync(join(data, 'secret'), 'utf8'),
  ]
  const before = files()
  const commands = [
    'keys list',
    'user list',
    'client list',
    'user show ada',
    'user sessions ada',
    'store check',
    '--help',
  ]
  const results: Awaited<ReturnType<typeof run>>[] = []
  for (const command of commands) results.push(await run(command.split(' '), env))
  for (const [i, { code, stderr }] of results.entries()) t.same([code, stderr], [0, ''], `latchkey ${commands[i]}`)
  t.match(results[0]?.stdout, /^kid .*\n[-\w]+ +ES256 +current .*\n$/, 'the key that the service signs with')
  t.same(files(), before)
})

t.test('a command on a damaged store says so and ends with 1', async (t) => {
  const dir = await copied(t)
  const data = join(dir, 'data')
  truncateSync(dataOf(data), 9 * pageBytes)
  const env = { ...cheapHashing, AUTH_DATA_DIR: data }
  const check = await run(['store', 'check'], env)
  t.match(check, { code: 1, stdout: /ERROR +data\.mdb +1 +data\.mdb is cut short/, stderr: '' })
  const list = await run(['user', 'list'], env)
  t.match(list, { code: 1, stdout: '', stderr: /^AUTH_DATA_DIR: the store in .+ is damaged \(.+\n$/ })
})

// What was built is removed after an explicit end only.
t.end()
