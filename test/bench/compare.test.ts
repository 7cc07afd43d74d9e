import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { changeOf, compare, readResult } from '../../bench/compare.ts'
import { type FigureName, figureNames } from '../../bench/options.ts'
import type { BenchResult, FigureLine } from '../../bench/run.ts'
import { run } from '../support/cli.ts'
import { newDir } from '../support/helper.ts'
import { root } from '../support/program.ts'

const dir = await newDir(t)
const measured = (perSecond: number, cpuUs: number) => ({ perSecond, p50Ms: 1, p99Ms: 2, errors: 0, cpuUs })

/** What it reached of its ceiling in each round, by the rate and by CPU. */
function figure(name: FigureName, byRate: number[], byCpu = byRate, ceiling = 'bare form POST'): FigureLine {
  const of = {
    title: name,
    ...measured(1000 * (byRate[0] as number), 100),
    rounds: byRate.map((ratio) => measured(1000 * ratio, 100)),
  }
  const rounds = byCpu.map((ratio) => measured(1000, 100 * ratio))
  const [ratio = 0] = [...byRate].sort().slice(byRate.length / 2)
  return { ...of, name, ceilings: [{ ...measured(1000, 50), title: ceiling, rounds, ratio }] }
}

const made = (...figures: FigureLine[]): BenchResult => ({
  version: '0.2.0',
  at: '2026-11-22T12:00:00.000Z',
  seconds: 60,
  machine: { processor: 'AMD', cores: 2, memoryGB: 8, platform: 'linux x64', node: 'v20.20.2', loadBefore: 0.1 },
  settings: {
    ...{ store: 'LMDB', workers: '1', algorithm: 'ES256', connections: 32, secondsEach: 2, rounds: 3 },
    argon2: { memory: 19_456, passes: 2, lanes: 1, atOnce: 2, build: 'compiled' },
  },
  service: { readyMs: 450, idleMB: 90, peakMB: 200 },
  figures,
  notes: [],
})
const fast = made(
  figure('refreshes', [0.3, 0.31, 0.29]),
  figure('protected', [0.77, 0.78, 0.76], undefined, 'bare GET'),
)

let files = 0
/** Writes runs to files, and compares these. */
async function compareFiles(before: unknown, now: unknown, ...options: string[]) {
  const paths = await Promise.all(
    [before, now].map(async (result) => {
      const path = join(dir, `run-${files++}.json`)
      await writeFile(path, typeof result === 'string' ? result : JSON.stringify(result))
      return path
    }),
  )
  return run(['bench', '--compare', ...paths, ...options])
}

t.test(
  'a change is beyond noise where no round of one run is among those of the other, and it is more than 5 %',
  async (t) => {
    const verdict = (before: number[], now: number[]) => changeOf(before, now).verdict
    t.equal(verdict([0.3, 0.31, 0.29], [0.25, 0.26, 0.24]), 'worse')
    t.equal(verdict([0.3, 0.31, 0.29], [0.35, 0.36, 0.34]), 'better')
    t.equal(verdict([0.3, 0.31, 0.29], [0.3, 0.31, 0.29]), 'the same')
    t.equal(verdict([0.3, 0.31, 0.25], [0.25, 0.26, 0.24]), 'the same', 'a round of before was as slow')
    t.equal(verdict([0.3, 0.301, 0.299], [0.29, 0.291, 0.289]), 'the same', '3 % less')
    t.match(changeOf([0.5, 0.51, 0.45], [0.24, 0.56, 0.25]), {
      before: { median: 0.5, least: 0.45, most: 0.51 },
      now: { median: 0.25, least: 0.24, most: 0.56 },
      change: -0.5,
      verdict: 'the same',
    })
  },
)

t.test('nothing worse: exit code 0, and a line for each figure and for its processor time', async (t) => {
  const now = made(
    figure('refreshes', [0.4, 0.41, 0.39], [0.3, 0.31, 0.29]),
    figure('protected', [0.76, 0.77, 0.78], undefined, 'bare GET'),
  )
  const { code, stdout, stderr } = await compareFiles(fast, now)
  t.equal(code, 0, stderr)
  t.match(stdout, /^Beside run-\d+\.json \(0\.2\.0, 2026-11-22\)/)
  t.match(stdout, /^refreshes, of bare form POST +0\.30 +0\.29 to 0\.31 +0\.40 +0\.39 to 0\.41 +\+33\.3 % +✓ better$/m)
  t.match(stdout, /^ {2}by CPU +0\.30 +0\.29 to 0\.31 +0\.30 +0\.29 to 0\.31 +\+0\.0 % +the same$/m)
  t.match(stdout, /^refreshes on LMDB, of a bare form POST +0\.30 +0\.40 +at least 0\.25 +✓$/m)
  t.match(stdout, /Nothing is worse beyond noise\.\n$/)
})

t.test('worse beyond noise, by the rate or by CPU alone: exit code 1, and which', async (t) => {
  for (const [byRate, byCpu] of [
    [
      [0.26, 0.27, 0.26],
      [0.3, 0.31, 0.29],
    ],
    [
      [0.3, 0.31, 0.29],
      [0.26, 0.27, 0.26],
    ],
  ]) {
    const now = made(
      figure('refreshes', byRate as number[], byCpu),
      figure('protected', [0.9, 0.9, 0.9], undefined, 'bare GET'),
    )
    const { code, stdout } = await compareFiles(fast, now)
    t.equal(code, 1)
    t.match(stdout, /✗ worse/)
    t.match(stdout, /^Worse beyond noise: refreshes\.$/m)
  }
})

t.test('a floor that held and is missed now: exit code 1, also within noise', async (t) => {
  const [before, now] = [made(figure('refreshes', [0.251, 0.26, 0.24])), made(figure('refreshes', [0.249, 0.26, 0.24]))]
  const { code, stdout } = await compareFiles(before, now)
  t.equal(code, 1)
  t.match(stdout, /refreshes on LMDB, of a bare form POST +0\.25 +0\.25 +at least 0\.25 +✗ below/)
  t.match(stdout, /Nothing is worse beyond noise\. Floors that held before, and are missed now: refreshes on LMDB/)
  t.equal((await compareFiles(now, now)).code, 0, 'one that was missed before is not worse')
  const slow = { ...before, service: { ...before.service, readyMs: 1_200 } }
  t.match(
    (await compareFiles(before, slow)).stdout,
    /start to ready, empty data directory +450 ms +1,200 ms +at most 1,000 ms +✗ above/,
  )
})

t.test('--json has the run, and beside it the comparison', async (t) => {
  const { code, stdout } = await compareFiles(fast, made(figure('refreshes', [0.2, 0.21, 0.19])), '--json')
  t.equal(code, 1)
  const { figures, floors, comparison } = JSON.parse(stdout)
  t.equal(figures.length, 1)
  t.ok(floors.length > 1)
  t.match(comparison, {
    isWorse: true,
    lostFloors: [{ what: 'refreshes on LMDB, of a bare form POST' }],
    figures: [
      { name: 'refreshes', ceiling: 'bare form POST', byRate: { verdict: 'worse' }, byCpu: { verdict: 'worse' } },
    ],
    warnings: [/^Not in both runs.*: protected\.$/],
  })
})

t.test('what cannot be compared is refused in one line, with exit code 2', async (t) => {
  const refused = async (before: unknown, now: unknown, line: RegExp) => {
    const { code, stdout, stderr } = await compareFiles(before, now)
    t.equal(code, 2, String(line))
    t.match(stderr, line)
    t.equal(stderr.trim().split('\n').length, 1)
    t.equal(stdout, '')
  }
  const but = (settings: object) => ({ ...fast, settings: { ...fast.settings, ...settings } })
  await refused(fast, but({ store: 'PostgreSQL' }), /store: LMDB before, PostgreSQL now/)
  await refused(
    fast,
    but({ workers: '2', connections: 64 }),
    /workers: 1 before, 2 now; connections: 32 before, 64 now/,
  )
  await refused(fast, but({ algorithm: 'RS256' }), /signing algorithm: ES256 before, RS256 now/)
  const { argon2 } = fast.settings
  await refused(fast, but({ argon2: { ...argon2, memory: 8 } }), /argon2 memory: 19456 before, 8 now/)
  await refused(
    fast,
    but({ argon2: { ...argon2, build: 'prebuilt' } }),
    /build of argon2: compiled before, prebuilt now/,
  )
  await refused(fast, but({ argon2: undefined }), /argon2 memory: 19456 before, unknown now/)
  await refused(but({ rounds: 2 }), fast, /rounds: 2, where 3 are needed/)
  await refused(made(figure('logins', [1, 1, 1])), fast, /no figure is in both/)
  await refused('{"figures":[]}', fast, /expected what latchkey bench --json prints, got .*run-/)
  await refused(fast, 'a table', /expected what latchkey bench --json prints/)
  t.match(await run(['bench', '--compare', join(dir, 'none.json')]), { code: 2, stderr: /ENOENT.*none\.json/ })
  t.match(await run(['bench', '--compare', 'one', 'two', 'three']), { code: 64 })
  t.match(await compareFiles(fast, fast, '--rounds', '5'), { code: 64, stderr: /measures nothing/ })
})

t.test('another machine, one with other work, and a figure of one run are told', async (t) => {
  const machine = { ...fast.machine, processor: 'Intel', node: 'v24.1.0', loadBefore: 1.5 }
  t.strictSame(compare(fast, { ...fast, machine, figures: fast.figures.slice(0, 1) }).warnings, [
    'Not on the same machine, so the ratios are a hint only. processor: AMD before, Intel now; node: v20.20.2 before, v24.1.0 now.',
    'The machine had other work before this one: measure again when it is quiet.',
    'Not in both runs, with the same ceiling: protected.',
  ])
  t.strictSame(compare(fast, fast).warnings, [])
})

t.test('the baseline of the last release is whole, and a run with the usual settings compares with it', async (t) => {
  const baseline = readResult(await readFile(join(root, 'bench/baseline.json'), 'utf8')) as BenchResult
  t.strictSame(
    compare(baseline, baseline).figures.map(({ name }) => name),
    figureNames,
  )
  t.match(baseline.settings, { store: 'LMDB', workers: '1', algorithm: 'ES256', connections: 32 })
  t.match(baseline.settings.argon2, { memory: 19_456, passes: 2, lanes: 1, build: 'compiled' })
  t.ok(baseline.settings.rounds >= 3)
})
