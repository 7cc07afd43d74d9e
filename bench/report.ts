/* What a run says: a table, the floors, a sizing, and a chart. */
import type { BenchResult, FigureLine, FigureName, Line } from './run.ts'

const number = (value: number) => value.toLocaleString('en-US', { maximumFractionDigits: 0 })
const ms = (value: number) => value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })
/** Digits that mean something, of 0.0123, of 4.19 and of 112. */
const ratioText = (value: number) =>
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
function columns(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export interface Floor {
  what: string
  is: number
  bound: number
  kind: 'at least' | 'at most'
  unit: '' | 'ms' | 'MB'
  holds: boolean
}

/** Memory that the contract allows: of the service, and beside the hashes that run. */
const idleMB = 110
const underLoadMB = 150
const startMs = 1_000

/** Which of the promised numbers the run can judge, and how they came out. */
export function floorsOf({ figures, service, settings }: BenchResult): Floor[] {
  const figure = (name: FigureName) => figures.find((one) => one.name === name)
  const reached = (name: FigureName, title: RegExp) =>
    figure(name)?.ceilings.find((ceiling) => title.test(ceiling.title))?.ratio
  const floor = (
    what: string,
    kind: Floor['kind'],
    is: number | undefined,
    bound: number | undefined,
    unit: Floor['unit'] = '',
  ): Floor[] =>
    is === undefined || bound === undefined
      ? []
      : [{ what, is, bound, kind, unit, holds: kind === 'at least' ? is >= bound : is <= bound }]
  const isOne = settings.workers === '1'
  const isEmbedded = settings.store === 'LMDB'
  const [granted, refreshes] = [figure('client-credentials'), figure('refreshes')]
  const hashingMB = settings.argon2 && (settings.argon2.atOnce * settings.argon2.memory) / 1024
  return [
    ...floor('logins, of bare argon2.verify', 'at least', reached('logins', /argon2/), 0.9),
    ...(isEmbedded
      ? floor('refreshes on LMDB, of a bare form POST', 'at least', reached('refreshes', /form POST/), 0.25)
      : []),
    ...floor('refreshes on PostgreSQL, of those on LMDB', 'at least', reached('refreshes', /on LMDB/), 0.5),
    ...(isEmbedded && granted && refreshes
      ? floor('client credentials, of refreshes', 'at least', granted.perSecond / refreshes.perSecond, 1)
      : []),
    ...floor('GET /protected, of a bare GET', 'at least', reached('protected', /GET/), 0.5),
    ...(isOne && isEmbedded
      ? floor('start to ready, empty data directory', 'at most', service.readyMs, startMs, 'ms')
      : []),
    ...(isOne ? floor('resident memory, idle', 'at most', service.idleMB, idleMB, 'MB') : []),
    ...(isOne && hashingMB !== undefined
      ? floor('resident memory, the most under load', 'at most', service.peakMB, idleMB + hashingMB + underLoadMB, 'MB')
      : []),
  ]
}

export function floorsText(floors: Floor[]): string {
  const value = (one: number, unit: Floor['unit']) => (unit === '' ? ratioText(one) : `${number(one)} ${unit}`)
  return columns(
    floors.map(({ what, is, bound, kind, unit, holds }) => [
      what,
      value(is, unit),
      `${kind} ${value(bound, unit)}`,
      holds ? '✓' : kind === 'at least' ? '✗ below' : '✗ above',
    ]),
  )
}

/** A load to answer the question with: how large must it be? */
const example = { loginsPerMinute: 500, refreshesPerSecond: 2_000 }
/** How busy a core may be on average, so that a burst does not wait. */
const busyAtMost = 0.6

export interface Sizing {
  loginsPerMinute: number
  refreshesPerSecond: number
  /** busy all the time, by what each took of the processor in this run */
  coresBusy: { logins: number; refreshes: number }
  cores: number
  words: string
}

/** @returns undefined where the processor time of logins or refreshes is not known */
export function sizingOf(
  { figures, settings }: Pick<BenchResult, 'figures' | 'settings'>,
  { loginsPerMinute, refreshesPerSecond } = example,
): Sizing | undefined {
  const cost = (name: FigureName) => figures.find((figure) => figure.name === name)?.cpuUs
  const [login, refresh] = [cost('logins'), cost('refreshes')]
  if (login === undefined || refresh === undefined) return undefined
  const coresBusy = { logins: ((loginsPerMinute / 60) * login) / 1e6, refreshes: (refreshesPerSecond * refresh) / 1e6 }
  // To three digits, so that 4.2 / 0.6 is 7.
  const needed = Number(((coresBusy.logins + coresBusy.refreshes) / busyAtMost).toPrecision(3))
  const cores = Math.max(1, Math.ceil(needed))
  const words = [
    `For ${number(loginsPerMinute)} logins a minute and ${number(refreshesPerSecond)} refreshes a second take`,
    `${cores} core${cores === 1 ? '' : 's'} such as these${settings.store === 'PostgreSQL' ? ', beside those of the database' : ''}:`,
    `the logins keep ${coresBusy.logins.toFixed(2)} of a core busy (${ms(login / 1000)} ms each),`,
    `the refreshes ${coresBusy.refreshes.toFixed(2)} (${ms(refresh / 1000)} ms each),`,
    `and no core should be busy for more than ${busyAtMost * 100} % of the time.`,
  ].join(' ')
  return { loginsPerMinute, refreshesPerSecond, coresBusy, cores, words }
}

/** Everything that was found, for people. */
export function textOf(result: BenchResult): string {
  const { machine, settings, seconds, notes } = result
  const { argon2 } = settings
  const sizing = sizingOf(result)
  const floors = floorsOf(result)
  return [
    `${machine.cores} cores (${machine.processor}), Node ${machine.node.slice(1)}, ${machine.platform}; load before the run ${machine.loadBefore.toFixed(2)}`,
    [
      settings.workers === 'unknown'
        ? settings.store
        : `${settings.store}, ${settings.workers} ${settings.workers === '1' ? 'process' : 'processes'}`,
      ...(argon2
        ? [
            `argon2id m=${argon2.memory} t=${argon2.passes} p=${argon2.lanes}, ${argon2.atOnce} at once, ${argon2.build}`,
          ]
        : []),
      `${settings.algorithm}`,
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

/** Everything that was found, for programs. */
export const documentOf = (result: BenchResult) => ({ ...result, floors: floorsOf(result), sizing: sizingOf(result) })

const escapeXml = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

const chart = { width: 760, left: 200, bar: 320, row: 46, top: 62, bottom: 34 }
/** What the contract asks for at least, of the first ceiling. */
const marks: Partial<Record<FigureName, number>> = { logins: 0.9, refreshes: 0.25, protected: 0.5 }

/** A bar for each figure, as long as what it reached of its first ceiling. In colours that do on light and on dark. */
export function svgOf({ figures, machine, settings }: BenchResult): string {
  const shown = figures.filter(({ ceilings }) => ceilings.length > 0)
  const height = chart.top + shown.length * chart.row + chart.bottom
  const lines = shown.map((figure, index) => barOf(figure, chart.top + index * chart.row, settings.store === 'LMDB'))
  const caption = `${machine.cores} cores, load generator included; Node ${machine.node.slice(1)}; ${settings.store}; ${settings.connections} connections`
  const about = shown.map(
    ({ title, perSecond, ceilings: [ceiling] }) =>
      `${title}: ${number(perSecond)} a second, ${ratioText(ceiling?.ratio ?? 0)} of ${ceiling?.title}`,
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${chart.width} ${height}" role="img" aria-labelledby="title about" font-family="system-ui, sans-serif" font-size="13">`,
    '<title id="title">Requests a second, and what they are of the ceiling measured beside them</title>',
    `<desc id="about">${escapeXml(about.join('; '))}</desc>`,
    '<style>',
    'text { fill: #1f2328 } .soft { fill: #59636e } .track { fill: #59636e; fill-opacity: .18 } .fill { fill: #2f81f7 } .floor { stroke: #cf222e }',
    '@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .soft { fill: #9198a1 } .track { fill: #9198a1 } .floor { stroke: #ff7b72 } }',
    '</style>',
    `<text x="16" y="26" font-size="15" font-weight="600">Requests a second, beside a ceiling measured in the same run</text>`,
    '<text class="soft" x="16" y="46" font-size="12">whole bar: the bare thing; blue: Latchkey; red: the least that is promised</text>',
    ...lines,
    `<text class="soft" x="16" y="${height - 12}" font-size="12">${escapeXml(caption)}</text>`,
    '</svg>',
    '',
  ].join('\n')
}

function barOf({ name, title, perSecond, ceilings: [ceiling] }: FigureLine, top: number, isEmbedded: boolean): string {
  if (!ceiling) return ''
  // A figure can be faster than its ceiling: what remembers tokens, beside what does not.
  const most = Math.max(1, ceiling.ratio)
  const width = (share: number) => ((share / most) * chart.bar).toFixed(1)
  const mark = isEmbedded || name !== 'refreshes' ? marks[name] : undefined
  const markAt = mark === undefined ? 0 : chart.left + Number(width(mark))
  const right = chart.left + chart.bar + 14
  return [
    `<text x="${chart.left - 12}" y="${top + 17}" text-anchor="end">${escapeXml(title)}</text>`,
    `<rect class="track" x="${chart.left}" y="${top + 3}" width="${width(1)}" height="20" rx="3"/>`,
    `<rect class="fill" x="${chart.left}" y="${top + 3}" width="${width(ceiling.ratio)}" height="20" rx="3"/>`,
    ...(mark === undefined
      ? []
      : [`<line class="floor" x1="${markAt}" x2="${markAt}" y1="${top}" y2="${top + 26}" stroke-width="2"/>`]),
    `<text x="${right}" y="${top + 12}" font-weight="600">${number(perSecond)}</text>`,
    `<text class="soft" x="${right}" y="${top + 27}" font-size="11">${ratioText(ceiling.ratio)} of ${escapeXml(ceiling.title)}</text>`,
  ].join('\n')
}
