import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { copyFile, cp, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { newDir } from '../support/helper.ts'
import { isLong } from '../support/processes.ts'
import { root } from '../support/program.ts'

/*
 * `scripts/compile-argon2.js`, which `npm ci` runs, on an installation of its own: with compilers that only seem to
 * compile, and, in the long form, with those of this machine.
 */

const isX64 = process.arch === 'x64'
const skip =
  process.platform !== 'linux' || !(isX64 || process.arch === 'arm64')
    ? 'there is no faster one for this platform'
    : isX64 && !/\bavx2\b/.test(readFileSync('/proc/cpuinfo', 'utf8')) && 'this processor has no AVX2'

/** @returns what it printed, and whether it left a build; nothing else is left, and the exit code is 0 */
async function compile(t: Test, env: Record<string, string>, compilers: Record<string, string> = {}) {
  const dir = await newDir(t)
  const [argon2, bin] = [join(dir, 'node_modules/argon2'), join(dir, 'bin')]
  await mkdir(join(dir, 'scripts'))
  await copyFile(join(root, 'scripts/compile-argon2.js'), join(dir, 'scripts/compile-argon2.js'))
  await writeFile(join(dir, 'package.json'), '{ "type": "module" }')
  await cp(join(root, 'node_modules/argon2'), argon2, {
    recursive: true,
    filter: (path) => !/\/(build|(darwin|freebsd|win32)-\w+|linux-arm)$/.test(path),
  })
  for (const name of ['node-addon-api', 'node-api-headers', 'node-gyp-build', '@phc'])
    await symlink(join(root, 'node_modules', name), join(dir, 'node_modules', name))
  await mkdir(bin)
  for (const [name, script] of Object.entries(compilers))
    await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o700 })
  const before = await readdir(argon2)
  const { status, stdout } = spawnSync(process.execPath, [join(dir, 'scripts/compile-argon2.js')], {
    env: { PATH: bin, ...env },
    encoding: 'utf8',
  })
  t.equal(status, 0)
  const isThere = existsSync(join(argon2, 'build/Release/argon2.node'))
  t.strictSame(
    (await readdir(argon2)).filter((name) => !before.includes(name)),
    isThere ? ['build'] : [],
  )
  return [stdout.trim(), isThere]
}

/** A compiler that copies a file to where the result is expected. */
const copying = (file: string) =>
  `while [ $# -gt 0 ]; do if [ "$1" = -o ]; then /bin/cp '${file}' "$2"; fi; shift; done; exit 0`
const prebuilt = (words: string) => [`argon2: the build of the package is used, for ${words}`, false]
const compiled = ['argon2: compiled for this kind of processor', true]
const { report } = process as { report?: { getReport(): { header: { glibcVersionRuntime?: string } } } }
const libc = report?.getReport().header.glibcVersionRuntime ? 'glibc' : 'musl'
const working = join(root, 'node_modules/argon2/prebuilds', `linux-${process.arch}`, `argon2.${libc}.node`)

t.test('argon2 is compiled where there are compilers, and left as it came where it cannot be', { skip }, async (t) => {
  const good = { cc: 'exit 0', 'c++': copying(working) }
  const wish = (LATCHKEY_ARGON2: string) => ({ LATCHKEY_ARGON2 })
  t.strictSame(await compile(t, {}), prebuilt('there is no C++ compiler'))
  t.strictSame(await compile(t, {}, { 'c++': good['c++'] }), prebuilt('there is no C++ compiler'), 'it needs both')
  t.strictSame(await compile(t, {}, { cc: 'exit 1', 'c++': 'exit 1' }), prebuilt('there is no C++ compiler'))
  t.strictSame(await compile(t, wish('prebuilt'), good), prebuilt('as LATCHKEY_ARGON2 says'))
  const failing = { ...good, cc: '[ "$1" = --version ]' }
  t.strictSame(await compile(t, {}, failing), prebuilt('it could not be compiled'))
  const broken = { ...good, 'c++': copying('/dev/null') }
  t.strictSame(await compile(t, {}, broken), prebuilt('what was compiled does not work'))
  t.strictSame(await compile(t, {}, good), compiled)
  t.strictSame(await compile(t, {}, { gcc: good.cc, 'g++': good['c++'] }), compiled, 'by another name')
  const named = { CC: 'my-cc --of mine', CXX: 'my-cc --of mine' }
  t.strictSame(await compile(t, named, { 'my-cc': `[ "$1 $2" = '--of mine' ] || exit 1; ${good['c++']}` }), compiled)
  t.strictSame(await compile(t, wish('avx2'), broken), compiled, 'for another processor it is not tried')
})

const which = (name: string) => spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim()
const tools = ['cc', 'c++', 'as', 'ld'].map((name) => [name, which(name)] as const)
const missing = tools.find(([, path]) => path === '')

t.test(
  'the compilers alone are enough: no make, no python3, no headers of Node.js',
  { skip: skip || (!isLong && 'LATCHKEY_LONG=1') || (missing ? `no ${missing[0]}` : false) },
  async (t) => {
    const real = Object.fromEntries(tools.map(([name, path]) => [name, `exec '${path}' "$@"`]))
    t.strictSame(await compile(t, {}, real), compiled)
  },
)
