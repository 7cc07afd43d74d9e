import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/*
 * Which build of argon2 is loaded: that of `scripts/compile-argon2.js`, or that of the package. To be imported before argon2 is.
 */

const compiled = join(
  dirname(createRequire(import.meta.url).resolve('argon2/package.json')),
  'build',
  'Release',
  'argon2.node',
)

/** The compiled one would end the process on a processor without AVX2, where files were copied from another machine. */
function isUsable(): boolean {
  if (!existsSync(compiled)) return false
  return (
    process.arch !== 'x64' || process.platform !== 'linux' || /\bavx2\b/.test(readFileSync('/proc/cpuinfo', 'utf8'))
  )
}

export const argon2Build: 'compiled' | 'prebuilt' = isUsable() ? 'compiled' : 'prebuilt'
// node-gyp-build, by which argon2 finds its binary, looks at this.
if (argon2Build === 'prebuilt') process.env['PREBUILDS_ONLY'] = '1'
