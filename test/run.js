// What `npm test` runs: type check, lint, every test; then one line that counts. Plain JavaScript, for it runs before anything is compiled.
import { spawn } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const require = createRequire(import.meta.url)
const bin = (name, path) => join(dirname(require.resolve(`${name}/package.json`)), path)

let passed = 0
let failed = 0

/** Runs a Node program, shows what it prints, and hands each line to a reader. */
function run(args, onLine = () => {}) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
    let rest = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      process.stdout.write(chunk)
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()
      lines.forEach(onLine)
    })
    child.on('close', (code) => resolve(code ?? 1))
  })
}

async function check(title, args) {
  const code = await run(args)
  console.log(`${code === 0 ? 'ok' : 'not ok'} - ${title}`)
  if (code === 0) passed += 1
  else failed += 1
}

const tsc = bin('typescript', 'bin/tsc')
await check('types', [tsc, '-p', '.'])
await check('lint and format', [bin('@biomejs/biome', 'bin/biome'), 'check', '.'])

/** The built program, for all tests that start one (`program.ts`): not in dist/, which may be running. */
const built = mkdtempSync(join(tmpdir(), 'latchkey-built-'))
process.on('exit', () => rmSync(built, { recursive: true, force: true }))
copyFileSync(join(root, 'package.json'), join(built, 'package.json'))
symlinkSync(join(root, 'node_modules'), join(built, 'node_modules'))
const outputs = ['--outDir', built, '--tsBuildInfoFile', join(built, '.tsbuildinfo')]
await check('build', [tsc, '-p', 'tsconfig.build.json', '--noCheck', ...outputs])
process.env.LATCHKEY_BUILT = built

// The runner's own count, `# { total: 12, pass: 11, fail: 1 }`, which it prints twice when nothing failed.
let counts = ''
const code = await run([bin('tap', 'dist/esm/run.mjs'), '--reporter=terse', ...process.argv.slice(2)], (line) => {
  counts = /^# \{ (.*) \}$/.exec(line)?.[1] ?? counts
})
const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(counts)?.[1] ?? 0)
passed += count('pass')
failed += count('fail')
if (code !== 0 && failed === 0) failed += 1

console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
