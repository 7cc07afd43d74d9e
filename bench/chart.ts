/* The chart of a run: a bar for each figure, as long as what it reached of its first ceiling. */
import type { FigureName } from './options.ts'
import { leastRatios, number, ratioText } from './report.ts'
import type { BenchResult, FigureLine } from './run.ts'

export const escapeXml = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

const marks: Partial<Record<FigureName, number>> = leastRatios
const chart = { width: 760, left: 200, bar: 320, row: 46, top: 62, bottom: 34 }
const colours = `text { fill: #1f2328 } .soft { fill: #59636e } .track { fill: #59636e; fill-opacity: .18 }
.fill { fill: #2f81f7 } .floor { stroke: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .soft { fill: #9198a1 } .track { fill: #9198a1 } .floor { stroke: #ff7b72 } }`

const heading = 'Requests a second, beside a ceiling measured in the same run'
const small = (x: number, y: number, words: string, size = 12) =>
  `<text class="soft" x="${x}" y="${y}" font-size="${size}">${escapeXml(words)}</text>`

/** The chart, in colours for light and dark pages. */
export function svgOf({ figures, machine, settings }: BenchResult): string {
  const shown = figures.filter(({ ceilings }) => ceilings.length > 0)
  const height = chart.top + shown.length * chart.row + chart.bottom
  const lines = shown.map((figure, index) => barOf(figure, chart.top + index * chart.row, settings.store === 'LMDB'))
  const caption = [
    `${machine.cores} cores, load generator included`,
    `Node ${machine.node.slice(1)}`,
    settings.store,
    `${settings.connections} connections`,
  ].join('; ')
  const box = `viewBox="0 0 ${chart.width} ${height}" role="img" aria-labelledby="title about"`
  const about = shown.map(
    ({ title, perSecond, ceilings: [ceiling] }) =>
      `${title}: ${number(perSecond)} a second, ${ratioText(ceiling?.ratio ?? 0)} of ${ceiling?.title}`,
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${box} font-family="system-ui, sans-serif" font-size="13">`,
    '<title id="title">Requests a second, and what they are of the ceiling measured beside them</title>',
    `<desc id="about">${escapeXml(about.join('; '))}</desc>`,
    `<style>\n${colours}\n</style>`,
    `<text x="16" y="26" font-size="15" font-weight="600">${heading}</text>`,
    small(16, 46, 'whole bar: the bare thing; blue: Latchkey; red: the least that is promised'),
    ...lines,
    small(16, height - 12, caption),
    '</svg>',
    '',
  ].join('\n')
}

function barOf({ name, title, perSecond, ceilings: [ceiling] }: FigureLine, top: number, isEmbedded: boolean): string {
  if (!ceiling) return ''
  // A verifier that remembers tokens is faster than its ceiling, which remembers none.
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
    small(right, top + 27, `${ratioText(ceiling.ratio)} of ${ceiling.title}`, 11),
  ].join('\n')
}
