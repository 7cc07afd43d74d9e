/*
 * Compiles argon2 for processors with AVX2, which hash about twice as fast as the build in the package can: that has to
 * run everywhere, and knows SSE2 only. `npm ci` runs this at its end. It never fails, and leaves the build of the
 * package in use
 *
 * - where no compiler, make or python3 is at hand, or Node's own headers are not: nothing is downloaded,
 * - where the processor has no AVX2, or what was compiled does not verify a hash that is known.
 *
 * LATCHKEY_ARGON2=prebuilt leaves it out; LATCHKEY_ARGON2=avx2 compiles without looking at this processor, for an image
 * that is built on another one. At run time a processor without AVX2 gets the build of the package: see
 * plugins/login/argon2.ts.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const wish = process.env.LATCHKEY_ARGON2
const compileMs = 120_000
const knownHash = '$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$Gpj7qOY5RCXJvcMzqcdQqvgR3wcPX7SleI4c9NtXk6E'

const argon2 = dirname(createRequire(import.meta.url).resolve('argon2/package.json'))
const build = join(argon2, 'build')
const prefix = dirname(dirname(process.execPath))
const nodeGyp = process.env.npm_config_node_gyp

const succeeds = (command, args, options) =>
  spawnSync(command, args, { stdio: 'ignore', timeout: compileMs, ...options }).status === 0
const flags = { x64: '-O3 -mavx2', arm64: '-O3' }[process.arch]

function whyNot() {
  if (wish === 'prebuilt') return 'as LATCHKEY_ARGON2 says'
  if (process.platform !== 'linux' || !flags) return 'there is no faster one for this platform'
  if (process.arch === 'x64' && wish !== 'avx2' && !/\bavx2\b/.test(readFileSync('/proc/cpuinfo', 'utf8')))
    return 'this processor has no AVX2'
  if (!nodeGyp || !existsSync(join(prefix, 'include', 'node', 'node_api.h'))) return "Node's headers are not at hand"
  const missing = ['c++', 'make', 'python3'].find((tool) => !succeeds(tool, ['--version']))
  return missing && `${missing} is not at hand`
}

/** In a process of its own: a build that crashes must not take the installation with it. */
const works = () =>
  succeeds(
    process.execPath,
    ['-e', `require('argon2').verify('${knownHash}', 'password').then((ok) => process.exit(ok ? 0 : 1))`],
    {
      cwd: argon2,
    },
  )

function compile() {
  const env = { ...process.env, CFLAGS: flags, CXXFLAGS: flags }
  if (!succeeds(process.execPath, [nodeGyp, 'rebuild', `--nodedir=${prefix}`], { cwd: argon2, env }))
    return 'it could not be compiled'
  const [made, kept] = [join(build, 'Release', 'argon2.node'), join(argon2, 'argon2.node')]
  cpSync(made, kept)
  rmSync(build, { recursive: true })
  mkdirSync(dirname(made), { recursive: true })
  cpSync(kept, made)
  rmSync(kept)
  return wish === 'avx2' || works() ? undefined : 'what was compiled does not work'
}

let reason = whyNot()
if (!reason) {
  try {
    reason = compile()
  } catch (error) {
    reason = error.code ?? 'it could not be compiled'
  }
  if (reason) rmSync(build, { recursive: true, force: true })
}
console.log(
  reason ? `argon2: the build of the package is used, for ${reason}` : 'argon2: compiled for this kind of processor',
)
