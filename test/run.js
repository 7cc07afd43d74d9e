// What `npm test` runs: type check, lint, every test; then one line that counts. Plain JavaScript, for it runs before anything is compiled.
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
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

await check('types', [bin('typescript', 'bin/tsc'), '-p', '.'])
await check('lint and format', [bin('@biomejs/biome', 'bin/biome'), 'check', '.'])

// The runner's own count: `# { total: 12, pass: 11, fail: 1 }`.
const code = await run([bin('tap', 'dist/esm/run.mjs'), '--reporter=terse', ...process.argv.slice(2)], (line) => {
  const counts = /^# \{ (.*) \}$/.exec(line)?.[1]
  if (!counts) return
  const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(counts)?.[1] ?? 0)
  passed += count('pass')
  failed += count('fail')
})
if (code !== 0 && failed === 0) failed += 1

console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
