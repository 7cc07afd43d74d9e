/*
 * Compiles argon2 for processors with AVX2, which hash about twice as fast as the build in the package can: that has to
 * run everywhere, and knows SSE2 only. `npm ci` runs this at its end. Compilers of C and C++ are all that it needs: the
 * headers of Node-API are those of a package, and nothing is downloaded. It never fails, and leaves the build of the
 * package in use
 *
 * - where there is no compiler,
 * - where the processor has no AVX2, or what was compiled does not verify a hash that is known.
 *
 * LATCHKEY_ARGON2=prebuilt leaves it out; LATCHKEY_ARGON2=avx2 compiles without looking at this processor, for an image
 * that is built on another one. CC and CXX name the compilers. At run time a processor without AVX2 gets the build of the
 * package: see plugins/login/argon2.ts.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const { LATCHKEY_ARGON2: wish, CC, CXX } = process.env
const compileMs = 120_000
const knownHash = '$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$Gpj7qOY5RCXJvcMzqcdQqvgR3wcPX7SleI4c9NtXk6E'
const require = createRequire(import.meta.url)
const argon2 = dirname(require.resolve('argon2/package.json'))

const flags = { x64: ['-O3', '-mavx2'], arm64: ['-O3'] }[process.arch]
/** As argon2's `binding.gyp` has them. */
const sources = ['argon2', 'blake2/blake2b', 'core', 'encoding', 'thread', process.arch === 'x64' ? 'opt' : 'ref']
const shared = ['-fPIC', '-pthread', '-fvisibility=hidden', '-DNDEBUG', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2']
const ofNodeApi = ['-DNAPI_VERSION=8', '-DNODE_ADDON_API_DISABLE_DEPRECATED', '-DNODE_API_NO_EXTERNAL_BUFFERS_ALLOWED']

const succeeds = ([program, ...args], options) =>
  spawnSync(program, args, { stdio: 'ignore', timeout: compileMs, ...options }).status === 0

/** For C and for C++: g++ takes no C. */
const compilers = [
  [CC || 'cc', CXX || 'c++'],
  ['gcc', 'g++'],
  ['clang', 'clang++'],
].map((pair) => pair.map((command) => command.trim().split(/\s+/)))
const findCompilers = () => compilers.find((pair) => pair.every((command) => succeeds([...command, '--version'])))

function whyNot() {
  if (wish === 'prebuilt') return 'as LATCHKEY_ARGON2 says'
  if (process.platform !== 'linux' || !flags) return 'there is no faster one for this platform'
  if (process.arch === 'x64' && wish !== 'avx2' && !/\bavx2\b/.test(readFileSync('/proc/cpuinfo', 'utf8')))
    return 'this processor has no AVX2'
  return undefined
}

const verifying = `require('argon2').verify('${knownHash}', 'password').then((ok) => process.exit(ok ? 0 : 1))`
/** In a process of its own: a build that crashes must not take the installation with it. */
const works = (dir) =>
  // Read by node-gyp-build, with which argon2 finds its binary.
  succeeds([process.execPath, '-e', verifying], { cwd: argon2, env: { ...process.env, ARGON2_PREBUILD: dir } })

/** Compiles beside what is in use, which is replaced when the new one has shown that it works. */
function compile(dir) {
  const pair = findCompilers()
  if (!pair) return 'there is no C++ compiler'
  const [c, cpp] = pair
  const nodeAddonApi = createRequire(join(argon2, 'package.json')).resolve('node-addon-api/package.json')
  const include = [join(argon2, 'argon2/include'), require('node-api-headers').include_dir, dirname(nodeAddonApi)]
  const headers = include.flatMap((path) => ['-I', path])
  const run = (command, ...args) => succeeds([...command, ...flags, ...shared, ...headers, ...args], { cwd: dir })
  const release = join(dir, 'build/Release')
  mkdirSync(release, { recursive: true })
  const link = ['-shared', '-std=gnu++17', ...ofNodeApi, '-Wl,--gc-sections', '-o', join(release, 'argon2.node')]
  const isCompiled =
    sources.every((name, index) => run(c, '-c', '-o', `${index}.o`, join(argon2, `argon2/src/${name}.c`))) &&
    run(cpp, ...link, join(argon2, 'argon2.cpp'), ...sources.map((_, index) => `${index}.o`))
  if (!isCompiled) return 'it could not be compiled'
  if (wish !== 'avx2' && !works(dir)) return 'what was compiled does not work'
  const build = join(argon2, 'build')
  rmSync(build, { recursive: true, force: true })
  renameSync(join(dir, 'build'), build)
}

let reason = whyNot()
if (!reason) {
  let dir
  try {
    dir = mkdtempSync(join(argon2, 'compiling-'))
    reason = compile(dir)
  } catch (error) {
    reason = error.code ?? 'it could not be compiled'
  }
  if (dir) rmSync(dir, { recursive: true, force: true })
}
console.log(
  reason ? `argon2: the build of the package is used, for ${reason}` : 'argon2: compiled for this kind of processor',
)
