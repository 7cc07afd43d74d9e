/* The report of a run: a table, the floors, and a sizing. */
import type { FigureName } from './options.ts'
import type { BenchResult, Line } from './run.ts'

export const number = (value: number) => value.toLocaleString('en-US', { maximumFractionDigits: 0 })
const ms = (value: number) => value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })
/** 0.0123, 4.19, 112 */
export const ratioText = (value: number) =>
  value < 0.095 ? value.toFixed(3) : value < 9.995 ? value.toFixed(2) : number(value)
const digits = (value: number) => (value < 10 ? value.toFixed(1) : number(value))

/** One line for a figure, and one for each of its ceilings, with what the figure reached of it. */
export function tableOf({ figures }: BenchResult): string {
  const cells = (title: string, line: Line, ...ratios: (number | undefined)[]) => [
    title,
    number(line.perSecond),
    ms(line.p50Ms),
    ms(line.p99Ms),
    number(line.errors),
    line.cpuUs === undefined ? '' : digits(line.cpuUs),
    ...[0, 1].map((column) => (ratios[column] === undefined ? '' : ratioText(ratios[column]))),
  ]
  const rows = figures.flatMap((figure) => [
    cells(figure.title, figure),
    ...figure.ceilings.map((ceiling) => cells(`  ${ceiling.title}`, ceiling, ceiling.ratio, ceiling.ratioByCpu)),
  ])
  return columns([['', 'per second', 'p50 ms', 'p99 ms', 'errors', 'CPU µs', 'reached', 'by CPU'], ...rows])
}

/** The first column to the left, all others to the right. */
export function columns(rows: string[][]): string {
  const width = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0))
  const widths = (rows[0] ?? []).map((_, column) => width(column))
  const padded = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)
  return rows.map((row) => row.map(padded).join('  ').trimEnd()).join('\n')
}

/** What the contract asks for at least, of the first ceiling; on LMDB for refreshes. */
export const leastRatios = { logins: 0.9, refreshes: 0.25, protected: 0.5 } as const
/** Memory that the contract allows: idle, and under load beside the hashes that run. */
const idleMB = 110
const underLoadMB = 150
const startMs = 1_000

type Bound = 'at least' | 'at most'
type Unit = '' | 'ms' | 'MB'

/** The promised numbers that this run can judge. */
export function floorsOf({ figures, service, settings }: BenchResult) {
  const figure = (name: FigureName) => figures.find((one) => one.name === name)
  const reached = (name: FigureName, title: RegExp) =>
    figure(name)?.ceilings.find((ceiling) => title.test(ceiling.title))?.ratio
  const isEmbedded = settings.store === 'LMDB'
  const [granted, refreshes] = [figure('client-credentials'), figure('refreshes')]
  const { argon2 } = settings
  const alone: typeof service = settings.workers === '1' ? service : {}
  const hashingMB = argon2 && (argon2.atOnce * argon2.memory) / 1024
  const rows: [what: string, kind: Bound, is: number | undefined | false, bound: number, unit?: Unit][] = [
    ['logins, of bare argon2.verify', 'at least', reached('logins', /argon2/), leastRatios.logins],
    [
      'refreshes on LMDB, of a bare form POST',
      'at least',
      isEmbedded && reached('refreshes', /form POST/),
      leastRatios.refreshes,
    ],
    ['refreshes on PostgreSQL, of those on LMDB', 'at least', reached('refreshes', /on LMDB/), 0.5],
    [
      'client credentials, of refreshes',
      'at least',
      isEmbedded && granted && refreshes && granted.perSecond / refreshes.perSecond,
      1,
    ],
    ['GET /protected, of a bare GET', 'at least', reached('protected', /GET/), leastRatios.protected],
    ['start to ready, empty data directory', 'at most', isEmbedded && alone.readyMs, startMs, 'ms'],
    ['resident memory, idle', 'at most', alone.idleMB, idleMB, 'MB'],
    [
      'resident memory, the most under load',
      'at most',
      hashingMB !== undefined && alone.peakMB,
      idleMB + underLoadMB + (hashingMB ?? 0),
      'MB',
    ],
  ]
  return rows.flatMap(([what, kind, is, bound, unit = '']) =>
    is === undefined || is === false
      ? []
      : [{ what, is, bound, kind, unit, holds: kind === 'at least' ? is >= bound : is <= bound }],
  )
}

export type Floor = ReturnType<typeof floorsOf>[number]

/** @param before what each was in an earlier run, where there is one to compare with */
export function floorsText(floors: Floor[], before?: Floor[]): string {
  const value = (one: number, unit: Unit) => (unit === '' ? ratioText(one) : `${number(one)} ${unit}`)
  const valueBefore = (what: string) => before?.find((one) => one.what === what)
  return columns(
    floors.map(({ what, is, bound, kind, unit, holds }) => {
      const earlier = valueBefore(what)
      return [
        what,
        ...(before ? [earlier ? value(earlier.is, unit) : ''] : []),
        value(is, unit),
        `${kind} ${value(bound, unit)}`,
        holds ? '✓' : kind === 'at least' ? '✗ below' : '✗ above',
      ]
    }),
  )
}

/** The load that the sizing is for. */
const example = { loginsPerMinute: 500, refreshesPerSecond: 2_000 }
/** Average use of a core at which a burst does not wait. */
const busyAtMost = 0.6

/** @returns cores, by the CPU time in this run; undefined where that of logins or refreshes is not known */
export function sizingOf(
  { figures, settings }: Pick<BenchResult, 'figures' | 'settings'>,
  { loginsPerMinute, refreshesPerSecond } = example,
) {
  const cost = (name: FigureName) => figures.find((figure) => figure.name === name)?.cpuUs
  const [login, refresh] = [cost('logins'), cost('refreshes')]
  if (login === undefined || refresh === undefined) return undefined
  const coresBusy = { logins: ((loginsPerMinute / 60) * login) / 1e6, refreshes: (refreshesPerSecond * refresh) / 1e6 }
  // To three digits, so that 4.2 / 0.6 is 7.
  const needed = Number(((coresBusy.logins + coresBusy.refreshes) / busyAtMost).toPrecision(3))
  const cores = Math.max(1, Math.ceil(needed))
  const besideDatabase = settings.store === 'PostgreSQL' ? ', beside those of the database' : ''
  const words = [
    `For ${number(loginsPerMinute)} logins a minute and ${number(refreshesPerSecond)} refreshes a second take`,
    `${cores} core${cores === 1 ? '' : 's'} such as these${besideDatabase}:`,
    `the logins keep ${coresBusy.logins.toFixed(2)} of a core busy (${ms(login / 1000)} ms each),`,
    `the refreshes ${coresBusy.refreshes.toFixed(2)} (${ms(refresh / 1000)} ms each),`,
    `and no core should be busy for more than ${busyAtMost * 100} % of the time.`,
  ].join(' ')
  return { loginsPerMinute, refreshesPerSecond, coresBusy, cores, words }
}

/** The result for people. */
export function textOf(result: BenchResult): string {
  const { machine, settings, seconds, notes } = result
  const { argon2, workers } = settings
  const processes = `, ${workers} ${workers === '1' ? 'process' : 'processes'}`
  const costs = argon2 && `m=${argon2.memory} t=${argon2.passes} p=${argon2.lanes}`
  const sizing = sizingOf(result)
  const floors = floorsOf(result)
  return [
    `${machine.cores} cores (${machine.processor}), Node ${machine.node.slice(1)}, ${machine.platform}; ` +
      `load before the run ${machine.loadBefore.toFixed(2)}`,
    [
      settings.store + (workers === 'unknown' ? '' : processes),
      ...(argon2 ? [`argon2id ${costs}, ${argon2.atOnce} at once, ${argon2.build}`] : []),
      settings.algorithm,
      `${settings.connections} connections`,
      `medians of ${settings.rounds} rounds of ${settings.secondsEach.toFixed(1)} s`,
    ].join('; '),
    '',
    tableOf(result),
    ...(floors.length > 0 ? ['', 'Floors', floorsText(floors)] : []),
    ...(sizing ? ['', sizing.words] : []),
    ...(notes.length > 0 ? ['', ...notes] : []),
    '',
    `${number(seconds)} seconds in all.`,
  ].join('\n')
}

/** The result for programs. */
export const documentOf = (result: BenchResult) => ({ ...result, floors: floorsOf(result), sizing: sizingOf(result) })
