// What `npm test` runs: types, lint and every test; `npm test -- FILE...` runs these test files. Sources and tests are
// compiled once, and run as JavaScript: `support/suite.ts`, or a program such as `crash/main.ts` where one is named.
// This file runs before, so it is JavaScript.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, statfsSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const [named = ''] = process.argv.slice(2)
const program = named.endsWith('/main.ts') ? named.replace(/ts$/, 'js') : undefined
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc')

// Where there is room in memory, nothing waits for the disk. (A program has the disk that users have.)
const memory = '/dev/shm'
const roomBytes = 4 * 2 ** 30
try {
  const { bavail, bsize } = statfsSync(memory)
  if (bavail * bsize >= roomBytes && !program) process.env.TMPDIR ??= memory
} catch {
  // Not on Linux.
}

// Not in dist/, which may be running. Tests start the program from here too (`support/program.ts`).
const built = mkdtempSync(join(tmpdir(), 'latchkey-built-'))
process.on('exit', () => rmSync(built, { recursive: true, force: true }))
copyFileSync(join(root, 'package.json'), join(built, 'package.json'))
symlinkSync(join(root, 'node_modules'), join(built, 'node_modules'))
process.chdir(root)
// Types are checked by another: here none are read, neither those of packages nor of the language.
const untyped = ['--noCheck', '--noResolve', '--types', 'null', '--lib', 'es5', '--declaration', 'false']
const options = ['-p', '.', '--noEmit', 'false', ...untyped, '--sourceMap', '--outDir', built]
const { status } = spawnSync(process.execPath, [tsc, ...options], { stdio: 'inherit' })
if (status !== 0) {
  console.log('not ok - compile\n0 passed, 1 failed')
  process.exit(1)
}
// What starts the program starts what is shipped.
if (named === '' || process.argv.slice(2).some((file) => !file.startsWith('test/spec/'))) {
  const { bundle } = await import('../scripts/bundle.js')
  await bundle(built)
  spawnSync(process.execPath, ['--max-semi-space-size=4', 'scripts/code-cache.js', built], { stdio: 'inherit' })
}
process.env.LATCHKEY_BUILT = built
await import(pathToFileURL(join(built, program ?? 'test/support/suite.js')).href)
