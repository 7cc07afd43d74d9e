import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { cheapHashing } from '../support/basics.ts'
import { newDir } from '../support/helper.ts'
import { type Service, serviceAt, startHere } from '../support/processes.ts'
import { program, root } from '../support/program.ts'
import { runProgram } from '../support/running.ts'

/** Native packages, and those by which they are found. */
const native = [
  ...[
    '@harperfast/extended-iterable',
    '@lmdb/*',
    '@msgpackr-extract/*',
    '@phc/format',
    'argon2',
    'detect-libc',
    'lmdb',
  ],
  ...['msgpackr', 'msgpackr-extract', 'node-gyp-build', 'node-gyp-build-optional-packages', 'ordered-binary'],
  'weak-lru-cache',
]

/** Packages of which a process has loaded files, by what `NODE_DEBUG=module` has it write. */
function packagesOf(stderr: string): string[] {
  const files = [...stderr.matchAll(/ load "([^"]+)"/g)].map(([, file = '']) => file)
  const names = files.map((file) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? '')
  // Of some there is one for each platform.
  return [...new Set(names.map((name) => name.replace(/^(@lmdb|@msgpackr-extract)\/.*/, '$1/*')))]
    .filter(Boolean)
    .sort()
}

const wrong = [
  ['/signup', { json: { username: 5, password: 'short', admin: true } }],
  ['/signup', { json: { username: 'ada', password: 'correct horse battery staple', email: 'none' } }],
  ['/token', { form: { grant_type: 'password', username: '' } }],
  ['/token', { form: { grant_type: 'nothing' } }],
  ['/authorize?client_id=x', {}],
] as const

/** What a service says of requests that its schemas refuse, and of itself. */
async function answersOf({ call }: Service): Promise<unknown[]> {
  const answers = []
  for (const [path, request] of wrong) {
    const { status, text } = await call(path, request)
    answers.push({ path, status, text: text.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'an id') })
  }
  for (const path of ['/.well-known/openid-configuration', '/readyz', '/openapi.json', '/docs/'])
    answers.push((await call(path)).text)
  return answers
}

t.test('a start reads one file, and beside it only what is native', async (t) => {
  const settings = { ...cheapHashing, AUTH_ISSUER: 'http://localhost:3000' }
  const { output, listening } = await runProgram(t, { ...settings, NODE_DEBUG: 'module,esm' })
  const service = serviceAt(await listening())
  t.same(packagesOf(output.stderr), native)
  t.notMatch(output.stderr, /^ESM /m, 'no module by itself')

  await t.test('and answers as its modules do', async (t) => {
    const modules = await startHere(t, { ...settings, AUTH_DATA_DIR: await newDir(t) })
    t.same(await answersOf(service), await answersOf(modules))
  })
  await t.test('the rest is there when somebody asks', async (t) =>
    t.ok(packagesOf(output.stderr).includes('@fastify/swagger')),
  )
})

t.test('the licences of the packages in that file are beside it', (t) => {
  const licences = readFileSync(program('service.licenses.txt'), 'utf8')
  t.match(licences, /^fastify [0-9.]+: MIT\n\nMIT License\n\nCopyright/m)
  for (const name of ['pg', 'pino', '@sinclair/typebox', 'otpauth'])
    t.match(licences, new RegExp(`^${name} [0-9.]+: MIT$`, 'm'))
  t.end()
})

t.test('what hooks into the loading of modules meets each of them', async (t) => {
  const settings = { ...cheapHashing, NODE_DEBUG: 'module', NODE_OPTIONS: '--import=data:text/javascript,' }
  const { output, listening } = await runProgram(t, settings)
  t.equal(await serviceAt(await listening()).check('nothing'), 401)
  t.ok(packagesOf(output.stderr).includes('fastify'))
})

t.test('what V8 has compiled is kept for this Node and the options of a start, and made once', (t) => {
  const cache = program('service.cache')
  t.ok(existsSync(cache))
  const { mtimeMs } = statSync(cache)
  const args = ['--max-semi-space-size=4', join(root, 'scripts/code-cache.js'), join(cache, '..')]
  t.equal(spawnSync(process.execPath, args, { env: {} }).status, 0)
  t.equal(statSync(cache).mtimeMs, mtimeMs, 'it is good')
  t.end()
})
