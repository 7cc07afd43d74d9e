import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import t from 'tap'
import { svgOf } from '../../bench/chart.ts'
import type { ComparedFigure } from '../../bench/compare.ts'
import { bearerLoad, createLoader } from '../../bench/load.ts'
import type { FigureName } from '../../bench/options.ts'
import { endingAll } from '../../bench/processes.ts'
import { floorsOf, sizingOf, tableOf, textOf } from '../../bench/report.ts'
import type { BenchResult, FigureLine } from '../../bench/run.ts'
import { argon2Build } from '../../plugins/login/argon2.ts'
import { run, start } from '../support/cli.ts'
import { cheapHashing, listen, newDir, onOneStore } from '../support/helper.ts'
import { isWellFormed } from '../support/xml.ts'

// No figure is judged here: a test may run beside others, on any machine.

const short = ['bench', '--duration', '0.02', '--rounds', '1', '--connections', '4']
const svg = join(await newDir(t), 'chart.svg')
/** The one that counts. */
const ceilingsOf: Record<FigureName, string> = {
  logins: 'bare argon2.verify',
  signups: 'bare argon2.hash',
  refreshes: 'bare form POST',
  'client-credentials': 'bare form POST',
  introspections: 'bare form POST',
  protected: 'bare GET',
  verify: 'bare GET',
  'latchkey-verify': 'bare jose.jwtVerify',
  'latchkey-verify-new': 'bare jose.jwtVerify',
}
/** A run makes what it needs in here, and nowhere else. */
const own = await newDir(t)
const settings = { ...cheapHashing, TMPDIR: own }
// A run hands its environment on to the service.
Object.assign(process.env, settings)

const line = (title: string, perSecond: number, cpuUs: number) => ({
  title,
  perSecond,
  p50Ms: 1,
  p99Ms: 2.345,
  errors: 0,
  cpuUs,
  rounds: [],
})
const figure = (name: FigureName, perSecond: number, cpuUs: number, ceiling: string, ratio: number): FigureLine => ({
  ...line(name, perSecond, cpuUs),
  name,
  ceilings: [{ ...line(ceiling, perSecond / ratio, cpuUs * ratio), ratio }],
})
/** A run that is made up. */
const made: BenchResult = {
  version: '0.2.0',
  at: '2026-11-22T12:00:00.000Z',
  seconds: 60,
  machine: {
    processor: 'A <fast> & quiet one',
    cores: 2,
    memoryGB: 8,
    platform: 'linux x64',
    node: 'v20.20.2',
    loadBefore: 0.1,
  },
  settings: {
    ...{ store: 'LMDB', workers: '1', algorithm: 'ES256', connections: 32, secondsEach: 1, rounds: 3 },
    argon2: { memory: 19_456, passes: 2, lanes: 1, atOnce: 2, build: 'compiled' },
  },
  service: { readyMs: 700, idleMB: 90, peakMB: 400 },
  figures: [
    figure('logins', 150, 12_000, 'bare argon2.verify', 0.91),
    figure('refreshes', 6_000, 150, 'bare form POST', 0.2),
    figure('client-credentials', 9_000, 80, 'bare form POST', 0.3),
    figure('protected', 30_000, 20, 'bare GET', 0.6),
    figure('latchkey-verify', 400_000, 2, 'bare jose.jwtVerify', 40),
  ],
  notes: [],
}

t.test('a run measures everything without an error, beside what was before, and leaves nothing behind', async (t) => {
  // So slow that any machine is faster, and misses no floor that held.
  const rounds = Array(3).fill({ ...line('', 1, 1), cpuUs: undefined })
  const slowly = (name: FigureName, ceiling: string) => {
    const { ceilings, ...slow } = figure(name, name === 'refreshes' ? 2 : 1, 1, ceiling, 0.001)
    const rates = rounds.map((one) => ({ ...one, perSecond: 1e6 }))
    return { ...slow, rounds, ceilings: ceilings.map((one) => ({ ...one, rounds: rates })) }
  }
  const argon2 = { memory: 8, passes: 1, lanes: 1, atOnce: availableParallelism(), build: argon2Build }
  const before = {
    ...made,
    settings: { ...made.settings, argon2, connections: 4, secondsEach: 0.02, rounds: 3 },
    service: {},
    figures: Object.entries(ceilingsOf).map(([name, ceiling]) => slowly(name as FigureName, ceiling)),
  }
  const path = join(dirname(svg), 'before.json')
  await writeFile(path, JSON.stringify(before))
  const { code, stdout, stderr } = await run(['bench', '--compare', path, '--json', '--svg', svg])
  t.equal(code, 0, stderr)
  const { machine, settings: used, figures, floors, sizing, service, notes, comparison } = JSON.parse(stdout)
  t.strictSame(
    figures.map(({ name }: FigureLine) => name),
    Object.keys(ceilingsOf),
  )
  t.strictSame(used, before.settings, 'as it was')
  t.strictSame(
    comparison.figures.map(({ name, ceiling, byRate }: ComparedFigure) => [name, ceiling, byRate.verdict]),
    Object.entries(ceilingsOf).map(([name, ceiling]) => [name, ceiling, 'better']),
  )
  for (const figure of figures as FigureLine[]) {
    for (const line of [figure, ...figure.ceilings]) {
      t.match(line, { perSecond: Number, p50Ms: Number, p99Ms: Number, errors: 0 }, `${figure.title}: ${line.title}`)
      t.ok(line.perSecond > 0 && line.p50Ms <= line.p99Ms && line.rounds.length === 3)
      if (process.platform === 'linux') t.ok((line.cpuUs as number) >= 0)
    }
    for (const { ratio } of figure.ceilings) t.ok(ratio > 0)
    t.ok(figure.ceilings.length > 0)
  }
  t.match(machine, { cores: Number, node: process.version, processor: String })
  t.ok(service.readyMs > 0)
  t.ok(floors.length >= 5)
  if (process.platform === 'linux')
    t.match(sizing, { cores: Number, words: /^For 500 logins a minute and 2,000 refreshes a second take \d+ core/ })
  t.notMatch(notes.join(), /wrong/)
  isWellFormed(t, await readFile(svg, 'utf8'))
  t.strictSame(readdirSync(own), [])
})

onOneStore('it measures a service that runs, and takes its account back', async (t, build) => {
  const { app, logs } = await build()
  const only = ['--only', 'signups,protected']
  const { code, stdout, stderr } = await run([...short, '--url', await listen(app), ...only, '--json'])
  t.equal(code, 0, stderr)
  const { figures, notes } = JSON.parse(stdout)
  t.match(figures, [{ name: 'protected', errors: 0, ceilings: [{ title: 'bare GET' }] }])
  t.equal(figures.length, 1, 'signups would stay')
  t.match(notes, [/LATCHKEY_CLIENT_ID/])
  const events = logs.map(({ event }) => event)
  t.ok(events.includes('user.created') && events.includes('user.deleted'))
})

t.test(
  'an answer in chunks is read to its end, and a connection that breaks is an error and opened again',
  async (t) => {
    let asked = 0
    const server = createServer((request, response) => {
      asked += 1
      if (asked % 5 === 0) return void request.socket.destroy()
      response.write('in ')
      response.end('chunks')
    })
    t.teardown(() => server.close())
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const measured = await endingAll(async () => {
      const load = bearerLoad('/', [{ access_token: 'one', refresh_token: '' }])
      return createLoader(() => {})('chunks', { origin, pid: undefined }, load).run(0.2)
    })
    t.ok(asked > 5)
    t.equal(measured.errors, Math.floor(asked / 5))
    t.equal(measured.wrong, undefined)
  },
)

t.test('what cannot be is refused in one line', async (t) => {
  const refused = async (args: string[], exitCode: number, line: RegExp) => {
    const { code, stderr } = await run(['bench', ...args])
    t.equal(code, exitCode, args.join(' '))
    t.match(stderr, line)
    t.equal(stderr.trim().split('\n').length, 1)
  }
  await refused(['--only', 'logins,nonsense'], 64, /nonsense/)
  await refused(['--duration', '0'], 64, /--duration/)
  await refused(['--url', 'http://127.0.0.1:1', '--workers', '2'], 64, /--workers/)
  await refused(['--database-url', 'postgres://me:secret@127.0.0.1/db'], 64, /shown to everyone/)
  await refused(['--database-url-env', 'NOT_SET'], 78, /NOT_SET: expected a URL/)
  await refused(['--url', 'http://127.0.0.1:1'], 1, /127\.0\.0\.1:1 does not answer/)
  process.env['AUTH_SIGNING_ALG'] = 'HS256'
  await refused(['--only', 'verify'], 1, /The service did not start: .*AUTH_SIGNING_ALG/)
  delete process.env['AUTH_SIGNING_ALG']
})

t.test('interrupted, it ends everything it started', async (t) => {
  const bench = await start(['bench', '--duration', '60', '--only', 'protected'], settings)
  const ended = new Promise((resolve) => bench.once('close', resolve))
  while (!readdirSync(own).some((name) => readdirSync(join(own, name)).includes('main.log')))
    await new Promise((resolve) => setTimeout(resolve, 20))
  bench.kill('SIGINT')
  t.equal(await ended, 130)
  t.strictSame(readdirSync(own), [])
})

// The report.

t.test('the floors are those that the run can judge', async (t) => {
  t.strictSame(
    floorsOf(made).map(({ what, holds }) => [what, holds]),
    [
      ['logins, of bare argon2.verify', true],
      ['refreshes on LMDB, of a bare form POST', false],
      ['client credentials, of refreshes', true],
      ['GET /protected, of a bare GET', true],
      ['start to ready, empty data directory', true],
      ['resident memory, idle', true],
      ['resident memory, the most under load', false],
    ],
  )
  t.strictSame(floorsOf({ ...made, figures: [], service: {} }), [])
})

t.test('the sizing is the processor time of each, times how many there are', async (t) => {
  const sizing = sizingOf(made, { loginsPerMinute: 500, refreshesPerSecond: 2_000 })
  t.same(sizing?.coresBusy, { logins: 0.1, refreshes: 0.3 })
  t.equal(sizing?.cores, 1, '0.4 of a core is less than 60 % of one')
  t.equal(sizingOf(made, { loginsPerMinute: 6_000, refreshesPerSecond: 20_000 })?.cores, 7, '4.2 cores, 60 % busy')
  t.equal(sizingOf({ ...made, figures: made.figures.slice(1) }), undefined)
  t.match(
    textOf(made),
    /For 500 logins a minute and 2,000 refreshes a second take 1 core such as these: the logins keep 0\.10 of a core/,
  )
})

t.test('the table has a line for each figure and each ceiling', async (t) => {
  const lines = tableOf(made).split('\n')
  t.equal(lines.length, 1 + 2 * made.figures.length)
  t.match(lines[1], /^logins +150 +1\.00 +2\.35 +0 +12,000$/)
  t.match(lines[2], /^ {2}bare argon2\.verify +165 +1\.00 +2\.35 +0 +10,920 +0\.91$/)
  t.match(textOf(made), /refreshes on LMDB, of a bare form POST +0\.20 +at least 0\.25 +✗ below/)
})

t.test('the chart is well-formed and has a bar for each figure', async (t) => {
  const svg = svgOf(made)
  isWellFormed(t, svg)
  t.equal(svg.match(/class="fill"/g)?.length, made.figures.length)
  t.equal(svg.match(/class="floor"/g)?.length, 3)
  isWellFormed(t, svgOf({ ...made, figures: [] }))
  isWellFormed(t, svgOf({ ...made, figures: made.figures.map((one) => ({ ...one, title: '<&">' })) }))
})
