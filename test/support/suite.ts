import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { makeCluster, startPostgres } from './postgres.ts'
import { type Result, readTap } from './read-tap.ts'

/*
 * Runs the compiled test files in a few processes, longest first, with type check and lint beside them. `run.js`
 * compiles and starts it.
 */

/** One more than the cores of a small machine, for some tests mostly wait. */
const processes = Number(process.env['LATCHKEY_TEST_PROCESSES'] ?? 3)
/** Time for a process to end after its last test, in milliseconds. One that takes longer has left something open. */
const endMs = 30_000
/** Files that hold something until their process ends, or measure it. The others share one, and leave nothing behind. */
const alone = /^test\/((bench|verify)\/|stores\/(faults|store-damage)|process\/(growth|replicas))/
/** What takes longest, in this order: it starts first, so that nothing is left to run alone at the end. */
const longest = [
  ...['process/', 'cli/', 'bench/', 'stores/', 'verify/'],
  ...['accounts', 'throttle', 'admin', 'revocations', 'key-rotation', 'forged', 'webhooks'].map((n) => `spec/${n}`),
]

const named = process.argv.slice(2)
const built = join(import.meta.dirname, '../..')
let passed = 0
const failed: string[] = []
const skipped: string[] = []

type Work = () => Promise<void>

/** Seconds of processor time of a process and of its children that have ended; none where the system has no `/proc`. */
function cpuSeconds(pid: number | undefined): number {
  try {
    // Behind the name, which may hold spaces; a tick is 10 ms.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks) / 100, 0)
  } catch {
    return 0
  }
}

/** Runs a Node program to its end, as one test. */
async function check(title: string, script: string, args: string[]): Promise<void> {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
    })
  }
  const code = await new Promise((resolve) => child.on('close', resolve))
  if (code === 0) passed += 1
  else failed.push(title)
  console.log(code === 0 ? `ok - ${title}` : `not ok - ${title}\n${output}`)
}

/** A process of test files, which runs one after the other. */
function startProcess() {
  const child = fork(join(import.meta.dirname, 'worker.js'), {
    // For the places in the sources that failures name.
    execArgv: ['--enable-source-maps'],
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  let file = ''
  let results: Result[] = []
  let cpuBefore = 0
  // The database's too, where no other process of tests uses it.
  const usedSeconds = () => cpuSeconds(child.pid) + (processes === 1 ? cpuSeconds(postgres.pid) : 0)
  let fileEnded: (() => void) | undefined
  let hasFailed = false
  let hasEnded = false

  const read = readTap(
    (result) => {
      results.push(result)
      hasFailed ||= result.status === 'failed'
    },
    (comment) => {
      if (comment === 'file ended') fileEnded?.()
      else if (named.length > 0 && !/^(ready|time=|\{ total)/.test(comment)) console.log(`# ${comment}`)
    },
  )
  const stdout = child.stdout as NodeJS.ReadableStream
  createInterface({ input: stdout }).on('line', read)
  // Not its 'close', which Node does not emit when this side has closed the channel.
  const ended = Promise.all([once(child, 'exit'), once(stdout, 'close')]).then(([[code, signal]]) => {
    hasEnded = true
    if (fileEnded || (code !== 0 && !hasFailed)) {
      results.push({ name: `its process ended with ${signal ?? code}`, status: 'failed', report: [] })
    }
    fileEnded?.()
  })

  function report(startedAt: number): void {
    const failures = results.filter(({ status }) => status === 'failed')
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
    for (const { name, status } of results) {
      if (status === 'passed') passed += 1
      else (status === 'failed' ? failed : skipped).push(`${file}: ${name}`)
      if (named.length > 0) console.log(`  ${status} - ${name}`)
    }
    // A process that was killed has none left to read.
    const cpu = Math.max(0, usedSeconds() - cpuBefore).toFixed(1)
    console.log(
      `${failures.length === 0 ? 'ok' : 'not ok'} - ${file} (${results.length} tests, ${seconds} s, ${cpu} s of CPU)`,
    )
    for (const { name, report } of failures) console.log(`  failed: ${name}\n${report.join('\n')}`)
    results = []
  }

  return {
    get hasEnded() {
      return hasEnded
    },
    async run(path: string): Promise<void> {
      file = path
      const startedAt = performance.now()
      cpuBefore = usedSeconds()
      await new Promise<void>((resolve) => {
        fileEnded = resolve
        child.send(join(built, path.replace(/\.ts$/, '.js')))
      })
      fileEnded = undefined
      if (results.length === 0) results.push({ name: 'it has no tests', status: 'failed', report: [] })
      report(startedAt)
    },
    async end(): Promise<void> {
      const startedAt = performance.now()
      const killer = setTimeout(() => child.kill('SIGKILL'), endMs)
      if (child.connected) child.disconnect()
      await ended
      clearTimeout(killer)
      if (results.length > 0) report(startedAt)
    },
  }
}

/** Does what is left to do, one after the other. */
async function work(queue: (string | Work)[]): Promise<void> {
  let shared: ReturnType<typeof startProcess> | undefined
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    if (typeof next === 'function') await next()
    else if (!alone.test(next)) {
      if (!shared || shared.hasEnded) shared = startProcess()
      await shared.run(next)
    } else {
      const own = startProcess()
      await own.run(next)
      await own.end()
    }
  }
  await shared?.end()
}

function rank(file: string): number {
  const at = longest.findIndex((part) => file.startsWith(`test/${part}`))
  return at < 0 ? longest.length : at
}

function everything(): (string | Work)[] {
  const require = createRequire(import.meta.url)
  const bin = (name: string, path: string) => join(dirname(require.resolve(`${name}/package.json`)), path)
  const files = readdirSync('test', { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `test/${name}`)
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
  return [
    () => check('lint and format', bin('@biomejs/biome', 'bin/biome'), ['check', '.']),
    () => check('types', bin('typescript', 'bin/tsc'), ['-p', '.']),
    ...files,
  ]
}

const ends: (() => Promise<void>)[] = []
const flags = ['fsync=off', 'max_connections=400', 'autovacuum=off'].flatMap((flag) => ['-c', flag])
const run = { teardown: (end: () => Promise<void>) => ends.push(end) }
process.env['LATCHKEY_TEST_CLUSTER'] = await makeCluster(run)
const postgres = await startPostgres(run, flags)
process.env['LATCHKEY_TEST_POSTGRES'] = postgres.url

const queue = named.length > 0 ? [...named] : everything()
await Promise.all(Array.from({ length: processes }, () => work(queue)))
for (const end of ends) await end()

for (const name of skipped) console.log(`skipped: ${name}`)
for (const name of failed) console.log(`failed: ${name}`)
console.log(`${passed} passed, ${failed.length} failed`)
const code = failed.length === 0 && passed > 0 ? 0 : 1
// At once: a package of the database's ends the process with 0 when nothing is left to do.
process.stdout.write('', () => process.exit(code))
