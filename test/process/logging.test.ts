import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { cheapHashing, newDir } from '../support/helper.ts'
import { until } from '../support/processes.ts'
import { program } from '../support/program.ts'

/*
 * What becomes of the log: who reads it may be slow, may stop, may go, and its disk may be full. The service goes on.
 */

/**
 * Writes numbered lines in many turns, says on stderr what it dropped, waits for a line on stdin, writes one more line
 * and ends.
 */
const writer = (path: string, lines: number) => `
import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { stdoutInBlocks } from ${JSON.stringify(path)}
const log = await stdoutInBlocks()
const before = process.memoryUsage().rss
for (let n = 0; n < ${lines}; n++) {
  log.write(JSON.stringify({ n, filling: 'x'.repeat(180) }) + '\\n')
  if (n % 50 === 0) await nextTurn()
}
await nextTurn()
const grownMB = (process.memoryUsage().rss - before) / 1e6
  process.stderr.write(JSON.stringify({ dropped: log.droppedLines(), grownMB }) + '\\n')
process.stdin.resume()
await once(process.stdin, 'data')
log.write(JSON.stringify({ n: 'last' }) + '\\n')
await nextTurn()
process.stdin.destroy()
`

async function write(t: Test, lines: number) {
  const script = writer(program('log/destination.js'), lines)
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const ended = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, ended }
}

t.test(
  'a log that nobody reads is kept up to 4 MiB; what is dropped is counted and told when it is read again',
  async (t) => {
    const lines = 60_000
    const { child, ended } = await write(t, lines)
    const [said] = (await once(child.stderr, 'data')) as [Buffer]
    const { dropped, grownMB } = JSON.parse(String(said)) as { dropped: number; grownMB: number }
    t.ok(dropped > lines / 2 && dropped < lines, `${dropped} of ${lines} were dropped`)
    t.ok(grownMB < 60, `it grew by ${grownMB} MB`)

    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
    await until(async () => text.includes('log.dropped'))
    child.stdin.write('\n')
    await ended
    const read = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    const told = read.filter(({ event }) => event === 'log.dropped')
    t.match(told, [{ level: 40, lines: dropped }], 'one line tells it')
    t.equal(read.filter(({ n }) => typeof n === 'number').length, lines - dropped, 'and no other is missing')
    t.match(read.at(-1), { n: 'last' }, 'then it goes on')
  },
)

t.test('a log that is read loses nothing', async (t) => {
  const lines = 20_000
  const { child, ended } = await write(t, lines)
  let count = 0
  child.stdout.on('data', (chunk: Buffer) => {
    for (const byte of chunk) if (byte === 10) count += 1
  })
  await once(child.stderr, 'data')
  child.stdin.write('\n')
  await ended
  t.equal(count, lines + 1)
})

t.test('a disk that is full, and readers that have gone, do not end the service', async (t) => {
  const { PATH = '' } = process.env
  const start = program('start.cjs')
  const goesOn = async (redirect: string) => {
    // Below those that the system gives to others.
    const port = String(20_000 + Math.floor(Math.random() * 12_000))
    const command = `${redirect === '| true' ? '' : 'exec '}"$0" "$1" ${redirect}`
    const child = spawn('sh', ['-c', command, process.execPath, start], {
      cwd: await newDir(t),
      env: { PATH, PORT: port, ...cheapHashing },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    const ended = once(child, 'exit')
    t.teardown(() => {
      if (child.exitCode === null && child.pid) process.kill(-child.pid, 'SIGKILL')
    })
    const call = (path: string) =>
      fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } }).then(
        ({ status }) => status,
        () => 0,
      )
    await until(async () => (await call('/readyz')) === 200, 30_000, 50)
    for (let n = 0; n < 20; n++) t.equal(await call('/protected'), 401)
    t.equal(await call('/readyz'), 200, redirect)
    if (child.pid) process.kill(-child.pid, 'SIGTERM')
    await ended
  }
  await Promise.all(['> /dev/full 2> /dev/full', '>&- 2>&-', '| true'].map(goesOn))
})
