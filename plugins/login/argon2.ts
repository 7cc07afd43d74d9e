import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/*
 * The one place that loads argon2, because the build has to be chosen before it is loaded: a compiled one would end the
 * process on a processor without AVX2, where the files were copied from another machine. The linter refuses other
 * imports.
 */

const require = createRequire(import.meta.url)
const packageDir = dirname(require.resolve('argon2/package.json'))
const compiledPath = join(packageDir, 'build/Release/argon2.node')

/** A sandbox may hide what the processor is. */
function hasAvx2(): boolean {
  try {
    return /\bavx2\b/.test(readFileSync('/proc/cpuinfo', 'utf8'))
  } catch {
    return false
  }
}

function canRunCompiled(): boolean {
  if (!existsSync(compiledPath)) return false
  const isLinuxOnX64 = process.arch === 'x64' && process.platform === 'linux'
  return !isLinuxOnX64 || hasAvx2()
}

/** The build in use: `scripts/compile-argon2.js` compiles one that is about twice as fast as the package's. */
export const argon2Build: 'compiled' | 'prebuilt' = canRunCompiled() ? 'compiled' : 'prebuilt'
// Read by node-gyp-build, with which argon2 finds its binary.
if (argon2Build === 'prebuilt') process.env['PREBUILDS_ONLY'] = '1'

export const argon2 = require('argon2') as typeof import('argon2')
