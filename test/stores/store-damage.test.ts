import { spawn, spawnSync } from 'node:child_process'
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
import { checkFile, StoreDamaged } from '../../stores/lmdb/file.ts'
import { run, runProcess } from '../support/cli.ts'
import { cheapHashing, newDir, password } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'
import { moduleFile, program } from '../support/program.ts'
import type { Outcome, Start } from './store-damage.child.ts'

/*
 * A store that is not what it was, before real processes. Each of them ends with one line and an exit code, or serves
 * rightly: then the user that there was logs in, and is the same.
 */

interface Ended {
  code: number
  stdout: string
  stderr: string
}
interface Serving {
  call(
    path: string,
    form?: Record<string, string>,
    token?: string,
  ): Promise<{ status: number; body: Record<string, unknown> }>
  kill(signal: NodeJS.Signals): Promise<Ended>
}

const { PATH = '' } = process.env

/** Without the right of root to pass over modes and owners, which would let every such case through. */
const ordinary = ['setpriv', '--bounding-set=-dac_override,-dac_read_search']
const isRoot = process.getuid?.() === 0
const needsModes =
  isRoot && spawnSync(ordinary[0] as string, [...ordinary.slice(1), 'true']).status !== 0 && 'root without setpriv'

const asOrdinary = isRoot && !needsModes ? ordinary : []

const settings = (env: Record<string, string> = {}) => ({ PORT: '0', AUTH_DATA_DIR: 'data', ...cheapHashing, ...env })

/** Starts the service. @returns how it ended, or how to call it */
async function start(
  t: Test,
  dir: string,
  env: Record<string, string> = {},
  umask = '022',
): Promise<Ended & Partial<Serving>> {
  const command = [...asOrdinary, process.execPath, program('start.cjs')]
  const child = spawn('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', ...command], {
    cwd: dir,
    env: { PATH, ...settings(env) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended: Ended = { code: -1, stdout: '', stderr: '' }
  const closed = once(child, 'close').then(([code, signal]) => {
    ended.code = code ?? signal
    return ended
  })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await closed
  })
  const origin = await new Promise<string | undefined>((resolve) => {
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text) => {
        ended[name] += text
        const found = /Latchkey listens on (http:[^",\s]+)/.exec(ended.stdout)?.[1]
        if (found) resolve(found)
      })
    }
    closed.then(() => resolve(undefined))
  })
  if (origin === undefined) return ended
  return Object.assign(ended, {
    async call(path: string, form?: Record<string, string>, token?: string) {
      const response = await fetch(origin + path, {
        method: form ? 'POST' : 'GET',
        ...(form && { body: new URLSearchParams(form) }),
        headers: token ? { authorization: `Bearer ${token}` } : {},
      })
      return { status: response.status, body: JSON.parse(await response.text()) }
    },
    kill(signal: NodeJS.Signals) {
      child.kill(signal)
      return closed
    },
  })
}

/** One store that was in use, which every case has a copy of: users, sessions, keys, and pages that were freed. */
const root = mkdtempSync('/tmp/latchkey-damage-')
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const users = 15
let ada = ''

async function makeStore(t: Test): Promise<void> {
  const service = (await start(t, root)) as Ended & Serving
  for (let i = 0; i < users; i++) {
    const username = i === 0 ? 'ada' : `user-${i}`
    const response = await fetch(
      new URL('/signup', `http://${/listens on http:..([^",\s]+)/.exec(service.stdout)?.[1]}`),
      {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ username, password }),
      },
    )
    const { id } = (await response.json()) as { id: string }
    if (i === 0) ada = id
    await service.call('/token', { username, password })
  }
  await service.kill('SIGTERM')
}

/** A copy of that store. @returns the directory that the service is started in */
async function copied(t: Test): Promise<string> {
  const dir = await newDir(t)
  cpSync(join(root, 'data'), join(dir, 'data'), { recursive: true })
  return dir
}

/** The id of ada as the service says it, once she has logged in. */
async function idOfAda({ call }: Serving): Promise<string> {
  const { body } = await call('/token', { username: 'ada', password })
  return (await call('/users/me', undefined, body['access_token'] as string)).body['id'] as string
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

/**
 * Starts on one store after another without loading the program again; each has the file of a damaged store open until
 * it ends.
 */
function startStarter(t: Test) {
  const [command = '', ...args] = [...asOrdinary, process.execPath, moduleFile('test/stores/store-damage.child')]
  const child = spawn(command, args, { env: { PATH }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const ended = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const died = ended.then(([code, signal]) => ({ line: `the process ended with ${signal ?? code}`, log: '' }))
  return async (env: Record<string, string>): Promise<Outcome> => {
    if (child.connected) child.send({ env, password } satisfies Start)
    return Promise.race([once(child, 'message').then(([outcome]) => outcome as Outcome), died])
  }
}

/** Runs cases: the first by the program, to see its exit code, and the others in one process. */
async function judge(t: Test, cases: Case[]): Promise<void> {
  const starter = startStarter(t)
  for (const [i, { title, ends, serves, env, skip, break: breakIt }] of cases.entries()) {
    if (skip) {
      t.pass(title, { skip })
      continue
    }
    const dir = await copied(t)
    breakIt(join(dir, 'data'))
    const before = readdirSync(join(dir, 'data')).sort()
    const outcome = await (i === 0
      ? startOnce(t, dir, env)
      : starter({ ...settings(env), AUTH_DATA_DIR: join(dir, 'data') }))
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

/** The same by the program: one that ends has to end with 78. */
async function startOnce(t: Test, dir: string, env?: Record<string, string>): Promise<Outcome> {
  const service = await start(t, dir, env)
  if (!service.call) {
    t.equal(service.code, 78)
    return { line: service.stderr.replace(/\n$/, ''), log: service.stdout }
  }
  const id = await idOfAda(service as Serving)
  await service.kill?.('SIGKILL')
  return { id, log: service.stdout }
}

const pageBytes = 4096
const dataOf = (data: string) => join(data, 'lmdb', 'data.mdb')

function overwrite(data: string, at: number, bytes: Buffer): void {
  const content = readFileSync(dataOf(data))
  bytes.copy(content, at)
  writeFileSync(dataOf(data), content)
}

/** The same numbers each time, so that a failure can be had again. */
function pseudorandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

t.before(() => makeStore(t))

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
    const services = await Promise.all([made, old].map((dir) => start(t, dir, {}, '000')))
    t.same([wrong(made), wrong(old)], [[], []])
    for (const { kill } of services) await kill?.('SIGKILL')
  },
)

t.test(
  'a first start that is killed at any moment leaves nothing that needs hands, and those that come at once agree',
  async (t) => {
    const dir = await newDir(t)
    const data = join(dir, 'data')
    const random = pseudorandom(Date.now() >>> 0)
    const startedAt = performance.now()
    const first = await start(t, dir)
    const readyMs = performance.now() - startedAt
    await first.kill?.('SIGKILL')
    t.ok(first.call)
    const kills = isLong ? 20 : 7
    for (let i = 0; i < kills; i++) {
      rmSync(data, { recursive: true, force: true })
      const child = spawn(process.execPath, [program('start.cjs')], {
        cwd: dir,
        env: { PATH, PORT: '0', ...cheapHashing },
        stdio: 'ignore',
      })
      const ended = once(child, 'close')
      // What is made is made in the last third.
      await sleep(readyMs * (0.65 + random() * 0.35))
      child.kill('SIGKILL')
      await ended
      const left = existsSync(data) ? readdirSync(data) : []
      const isWhole = left.includes('lmdb') ? existsSync(join(data, 'lmdb', 'data.mdb')) : !left.includes('secret')
      t.ok(isWhole, `nothing, or a store: ${left}`)
      if (i < kills - 2) continue
      const again = await start(t, dir)
      t.ok(again.call, `${left}: ${again.stderr}`)
      await again.kill?.('SIGKILL')
    }

    rmSync(data, { recursive: true, force: true })
    mkdirSync(join(data, 'lmdb.new-1-abcdef'), { recursive: true })
    utimesSync(join(data, 'lmdb.new-1-abcdef'), 1, 1)
    const services = await Promise.all([start(t, dir), start(t, dir), start(t, dir, { AUTH_WORKERS: '2' })])
    const keys = await Promise.all(
      services.map(async ({ call }) => (await call?.('/.well-known/jwks.json'))?.body['keys']),
    )
    t.same(readdirSync(data).sort(), ['lmdb', 'secret'], 'with nothing beside')
    t.same([keys[1], keys[2]], [keys[0], keys[0]], 'one key')
    for (const { kill } of services) await kill?.('SIGTERM')
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
  const results: Ended[] = []
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
  const check = await runProcess(['store', 'check'], env)
  t.match(check, { code: 1, stdout: /ERROR +data\.mdb +1 +data\.mdb is cut short/, stderr: '' })
  const list = await runProcess(['user', 'list'], env)
  t.match(list, { code: 1, stdout: '', stderr: /^AUTH_DATA_DIR: the store in .+ is damaged \(.+\n$/ })
})

// What was built is removed after an explicit end only.
t.end()
