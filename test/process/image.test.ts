import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, cp, mkdir, readdir, readFile, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { cheapHashing, newDir, password } from '../support/helper.ts'
import { until } from '../support/processes.ts'
import { program, root } from '../support/program.ts'

/*
 * The image, without Docker: each step of the Dockerfile is done in a directory of its stage, on what `.dockerignore`
 * lets through. Only what comes from the network is taken from here: `npm ci` links the packages of this checkout, and
 * nothing is installed by apt-get. Nor is anything compiled again that `run.js` has compiled.
 */

const isRoot = process.getuid?.() === 0
const plainEnv = { PATH: `${dirname(process.execPath)}:${process.env['PATH']}`, HOME: '/nowhere' }

/** The files of the project, as a clone has them, or a copy without `.git`. */
async function projectFiles(): Promise<string[]> {
  if (existsSync(join(root, '.git'))) {
    const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: root,
      encoding: 'utf8',
    })
    return listed.split('\0').filter((path) => path !== '' && existsSync(join(root, path)))
  }
  const isIgnored = ignores(await readFile(join(root, '.gitignore'), 'utf8'))
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((path) => !isIgnored(path))
}

/**
 * What a `.dockerignore` leaves out: patterns from the root, of which the last that fits decides; what is below goes
 * with it.
 */
function ignores(text: string): (path: string) => boolean {
  const rules = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const pattern = line.replace(/^!/, '').replace(/^\/|\/$/g, '')
      const source = pattern
        .replace(/[.+^$()|{}\\]/g, '\\$&')
        .replace(/\*\*\/?|\*|\?/g, (wild) => ({ '*': '[^/]*', '?': '[^/]' })[wild] ?? '(?:.*/)?')
      return { fits: new RegExp(`^${source}(?:/|$)`), leavesOut: !line.startsWith('!') }
    })
  return (path) => rules.findLast(({ fits }) => fits.test(path))?.leavesOut === true
}

interface Step {
  name: string
  text: string
}

/** The instructions of a Dockerfile, in order, each on one line. */
function stepsOf(dockerfile: string): Step[] {
  const lines = dockerfile
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, '')
    .split('\n')
  return lines
    .filter((line) => line !== '')
    .map((line) => ({ name: line.split(' ', 1)[0] as string, text: line.replace(/^\S+ +/, '') }))
}

/** A stage while it is built. */
interface Stage {
  /** what would be `/` */
  dir: string
  workdir: string
  env: Record<string, string>
  user: string
  /** of exec form */
  cmd: string[]
  healthcheck: string[]
}

const inside = ({ dir, workdir }: Stage, path: string) => join(dir, path.startsWith('/') ? path : join(workdir, path))

async function copy(stage: Stage, from: string, sources: string[], target: string): Promise<void> {
  for (const source of sources) {
    const path = join(from, source)
    const to = inside(stage, target)
    const isFileIntoDirectory = existsSync(`${to}/`) && !existsSync(`${path}/`)
    await cp(path, isFileIntoDirectory ? join(to, basename(source)) : to, { recursive: true, verbatimSymlinks: true })
  }
}

/** Packages as `npm ci` puts them there: those of this checkout, by links; without those that only developers need. */
async function linkPackages(dir: string, withoutDev: boolean): Promise<void> {
  if (!withoutDev) return symlink(join(root, 'node_modules'), join(dir, 'node_modules'))
  const { packages } = JSON.parse(await readFile(join(dir, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>
  }
  for (const [path, { dev }] of Object.entries(packages)) {
    if (dev || !/^node_modules\/(?:@[^/]+\/)?[^/]+$/.test(path) || !existsSync(join(root, path))) continue
    await mkdir(dirname(join(dir, path)), { recursive: true })
    await symlink(join(root, path), join(dir, path))
  }
}

/** Without what the test runner adds to the environment of what a test starts. */
const plain = (command: string, ...args: string[]): [string, string[]] => [
  'env',
  ['-u', 'NODE_OPTIONS', command, ...args],
]

function runIn(cwd: string, command: string, env: Record<string, string> = {}): string {
  const { status, stdout, stderr } = spawnSync(...plain('sh', '-c', command), {
    cwd,
    env: { ...plainEnv, HOME: cwd, ...env },
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`RUN ${command} ended with ${status}: ${stdout}${stderr}`)
  return stdout
}

/**
 * What the check of types would say of a file that `.dockerignore` leaves out; `npm test` checks the types otherwise.
 *
 * @throws when something is imported that is not there
 */
async function findImports(dir: string, path: string): Promise<void> {
  const text = await readFile(join(dir, path), 'utf8')
  for (const [, name = ''] of text.matchAll(/(?:from|import|import\(|require\()\s*'(\.[^']+)'/g)) {
    const file = join(dir, dirname(path), name.replace(/\.cjs$/, '.cts'))
    if (!existsSync(file)) throw new Error(`${path} imports ${name}, which is not in the image`)
  }
}

async function run(stage: Stage, command: string): Promise<void> {
  const cwd = inside(stage, '.')
  if (command.startsWith('apt-get ')) return
  if (command.startsWith('npm ci ')) return linkPackages(cwd, command.includes('--omit=dev'))
  if (command === 'npm run build') {
    const { files, compilerOptions } = JSON.parse(runIn(cwd, `${command} --silent --ignore-scripts -- --showConfig`))
    for (const path of files as string[]) {
      await findImports(cwd, path)
      // Compiled by `run.js`, from the same sources.
      const made = path.replace(/ts$/, 'js')
      await cp(program(made), join(cwd, compilerOptions.outDir, made))
    }
    return void runIn(cwd, 'npm run postbuild')
  }
  // The script has to be there and to find the package; what it compiles is in node_modules already, or cannot be.
  if (/^LATCHKEY_ARGON2=\w+ npm run postinstall$/.test(command))
    return void runIn(cwd, 'npm run postinstall', { LATCHKEY_ARGON2: 'prebuilt' })
  if (command.startsWith('install -d ')) {
    const mine = isRoot ? command : command.replace(/ -[og] \d+/g, '')
    return void runIn(cwd, mine.replace(/ \//, ` ${stage.dir}/`))
  }
  throw new Error(`this test does not know how to RUN ${command}`)
}

/** Does what the Dockerfile says. @returns its last stage */
async function buildImage(dir: string): Promise<Stage> {
  const context = join(dir, 'context')
  const isIgnored = ignores(await readFile(join(root, '.dockerignore'), 'utf8'))
  for (const path of await projectFiles()) if (!isIgnored(path)) await cp(join(root, path), join(context, path))

  const stages = new Map<string, Stage>()
  let stage: Stage | undefined
  for (const { name, text } of stepsOf(await readFile(join(root, 'Dockerfile'), 'utf8'))) {
    if (name === 'FROM') {
      const alias = / AS (\S+)$/.exec(text)?.[1] ?? 'last'
      stage = { dir: join(dir, alias), workdir: '/', env: {}, user: '0:0', cmd: [], healthcheck: [] }
      stages.set(alias, stage)
      await mkdir(stage.dir)
      continue
    }
    if (!stage) throw new Error(`${name} before FROM`)
    if (name === 'WORKDIR') {
      stage.workdir = text
      await mkdir(inside(stage, '.'), { recursive: true })
    } else if (name === 'COPY') {
      const [, from, paths] = /^(?:--from=(\S+) )?(.*)$/.exec(text) as unknown as [string, string | undefined, string]
      const sources = paths.split(' ')
      const target = sources.pop() as string
      await copy(stage, from ? (stages.get(from) as Stage).dir : context, sources, target)
    } else if (name === 'RUN') await run(stage, text)
    else if (name === 'ENV')
      Object.assign(stage.env, Object.fromEntries(text.split(' ').map((pair) => pair.split('='))))
    else if (name === 'USER') stage.user = text
    else if (name === 'CMD') stage.cmd = JSON.parse(text)
    else if (name === 'HEALTHCHECK') stage.healthcheck = JSON.parse(text.replace(/^.*?CMD /, ''))
    else if (!['VOLUME', 'EXPOSE'].includes(name)) throw new Error(`this test does not know ${name}`)
  }
  return stage as Stage
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}

interface User {
  uid: number
  gid: number
}

/** Whether somebody may read what this test has put together: not where the checkout is in a private directory. */
const mayRead = (path: string, user: User) =>
  spawnSync(process.execPath, ['-p', `fs.readFileSync('${path}').length`], { env: {}, ...user }).status === 0

/** The image, running: each command in it as the same user, with the same environment. */
async function start(t: Test, image: Stage, user: User | undefined) {
  const data = join(image.dir, 'data')
  t.equal(image.env['HOST'], '0.0.0.0', 'it is reached from outside the container')
  // This machine is not a container: the loopback only.
  const env = {
    ...plainEnv,
    ...image.env,
    ...cheapHashing,
    HOST: '127.0.0.1',
    PORT: String(await freePort()),
    AUTH_DATA_DIR: data,
  }
  const options = { cwd: inside(image, '.'), env, ...user }
  const child: ChildProcess = spawn(...plain(...(image.cmd as [string])), {
    ...options,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (chunk) => (output += chunk))
  const ended = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const exec = (command: string[], input = '') =>
    spawnSync(...plain(...(command as [string])), { ...options, input, encoding: 'utf8' })
  await until(async () => /Latchkey listens on/.test(output) || child.exitCode !== null, 30_000)
  t.match(output, /Latchkey listens on/)
  return { origin: `http://127.0.0.1:${env.PORT}`, child, ended, exec, data }
}

/** Takes the right to write from everybody, as `read_only: true` does. */
async function makeReadOnly(dir: string): Promise<void> {
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue
    await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o555 : 0o444)
  }
}

t.test('the image builds from what .dockerignore lets through, and serves, contract section 1', async (t) => {
  const dir = await newDir(t)
  await chmod(dir, 0o755)
  const image = await buildImage(dir)
  t.ok(Number.parseInt(image.user, 10) > 0, 'its user is a number, and not that of root')
  const [uid, gid] = image.user.split(':').map(Number) as [number, number]

  const app = inside(image, '.')
  t.same((await readdir(app)).sort(), ['LICENSE', 'dist', 'node_modules', 'package.json'], 'what is in it')
  t.notOk(existsSync(join(app, 'node_modules', 'typescript')), 'nothing that only developers need')
  await makeReadOnly(app)
  t.teardown(() => runIn(dir, 'chmod -R u+w .'))

  const administration = await readFile(join(root, 'docs', 'administration.md'), 'utf8')
  const [, documented] = /^docker compose exec \S+ (node dist\/cli\/latchkey\.js user add .*)$/m.exec(
    administration,
  ) as unknown as [string, string]
  const install = stepsOf(await readFile(join(root, 'Dockerfile'), 'utf8')).find(({ text }) =>
    text.startsWith('install -d'),
  )?.text as string

  const users: [string, User | undefined][] = isRoot
    ? [
        ['the user of the image', { uid, gid }],
        ['any uid of group 0, as OpenShift starts it', { uid: 1_000_660_000, gid: 0 }],
      ]
    : [['the one who runs the tests', undefined]]
  for (const [who, user] of users) {
    await t.test(`as ${who}, on a read-only root`, async (t) => {
      if (user && !mayRead(join(app, 'node_modules', 'fastify', 'package.json'), user))
        return t.comment('left out: others may not read here')
      // A new volume, with the owner and mode of the image's.
      runIn(image.dir, 'rm -rf data')
      await run(image, install)
      const { origin, child, ended, exec, data } = await start(t, image, user)

      t.equal(exec(image.healthcheck).status, 0, 'the health check')
      const made = exec([...documented.split(' '), '--password-stdin'], `${password}\n`)
      t.equal(made.status, 0, `${documented} ${made.stderr}`)
      const body = new URLSearchParams({ username: 'ada', password, scope: 'admin' })
      const login = await fetch(`${origin}/token`, { method: 'POST', body })
      t.equal(login.status, 200, 'the first administrator logs in')
      const { access_token } = (await login.json()) as { access_token: string }
      const list = await fetch(`${origin}/admin/users`, { headers: { authorization: `Bearer ${access_token}` } })
      t.equal(list.status, 200, 'and administers')
      t.ok(existsSync(join(data, 'lmdb')), 'the store is on the volume')

      child.kill('SIGTERM')
      t.same(await ended, [0, null], 'SIGTERM ends it with 0')
      t.equal(exec(image.healthcheck).status, 1, 'the health check of what is down')
    })
  }
})

t.test('patterns of .dockerignore are read as Docker reads them', async (t) => {
  const isIgnored = ignores('# a comment\nbench\n*.md\n!README.md\n.env.*\n/deploy/\n**/*.log\na/**/z\n')
  const out = ['bench', 'bench/run.ts', 'x.md', '.env.local', 'deploy/Caddyfile', 'a.log', 'b/c.log', 'a/z', 'a/b/c/z']
  const inContext = ['benches', 'cli/bench.ts', 'docs/x.md', 'README.md', '.env', 'app.ts', 'xmd', 'a/b']
  t.same(
    out.filter((path) => !isIgnored(path)),
    [],
  )
  t.same(inContext.filter(isIgnored), [])
})
