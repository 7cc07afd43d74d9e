/*
 * A flame graph: each frame is a function, it stands on the one that called it, and is as wide as the samples in it. An
 * SVG that needs nothing else; the whole name of a frame and its share are shown by the pointer.
 */
import { escapeXml } from '../chart.ts'
import { type Frame, type Owner, owners } from './profile.ts'

const graph = { width: 1200, margin: 10, row: 17, head: 76, character: 6.62, textFrom: 34 }
/** Frames that are narrower are left out, px. */
const leastWidth = 1

const fills: Record<Owner, string> = {
  latchkey: '#79b8ff',
  packages: '#85d0a2',
  'Node.js': '#e3c870',
  native: '#f0a08c',
}
const legend: Record<Owner, string> = {
  latchkey: 'Latchkey',
  packages: 'packages',
  'Node.js': 'JavaScript of Node.js',
  native: 'native: V8, Node.js, OpenSSL, LMDB, the kernel',
}
const classes: Record<Owner, string> = { latchkey: 'l', packages: 'p', 'Node.js': 'j', native: 'n' }
const style = `text { font: 11px ui-monospace, monospace; fill: #1f2328 } .head { font: 600 15px system-ui, sans-serif }
.soft { font: 12px system-ui, sans-serif } .head, .soft { fill: #59636e }
${owners.map((owner) => `.${classes[owner]} { fill: ${fills[owner]} }`).join(' ')} .all { fill: #b8c0c8 }
@media (prefers-color-scheme: dark) { .head, .soft { fill: #c9d1d9 } }`

const legendAt = [10, 110, 200, 370]

const depthOf = ({ calls }: Frame): number => 1 + Math.max(0, ...calls.map(depthOf))
const px = (value: number) => Number(value.toFixed(1))

/**
 * @param allUs what all samples together are of a request, where that is known
 * @returns the graph, with the frame that all others are in at its foot
 */
export function flameGraph(profile: Frame, title: string, caption: string, allUs?: number): string {
  const all = Math.max(1, profile.total)
  const perSample = (graph.width - 2 * graph.margin) / all
  const prune = (frame: Frame): Frame => ({
    ...frame,
    calls: frame.calls
      .filter(({ total }) => total * perSample >= leastWidth)
      .map(prune)
      .sort((a, b) => b.total - a.total),
  })
  const shown = prune(profile)
  const height = graph.head + depthOf(shown) * graph.row + graph.margin
  const amount = (samples: number) => {
    const share = `${((100 * samples) / all).toFixed(1)} %`
    return allUs === undefined ? share : `${((allUs * samples) / all).toFixed(1)} µs, ${share}`
  }

  function draw({ name, place, owner, self, total, calls }: Frame, x: number, level: number): string[] {
    const [width, y] = [total * perSample, height - graph.margin - (level + 1) * graph.row]
    const label = level === 0 ? `all: ${amount(total)}` : `${name} ${place}`.trim()
    const about = level === 0 ? label : `${label}: ${amount(total)}; by itself ${amount(self)}`
    const box = `x="${px(x)}" y="${y}" width="${px(Math.max(0, width - 0.5))}" height="${graph.row - 1}"`
    const rect = `<rect class="${level === 0 ? 'all' : classes[owner]}" ${box}/>`
    const room = Math.floor((width - 6) / graph.character)
    const cut = label.length <= room ? label : `${label.slice(0, Math.max(1, room - 1))}…`
    const text = width < graph.textFrom ? '' : `<text x="${px(x + 3)}" y="${y + 12}">${escapeXml(cut)}</text>`
    const lines = [`<g><title>${escapeXml(about)}</title>${rect}${text}</g>`]
    let at = x
    for (const call of calls) {
      lines.push(...draw(call, at, level + 1))
      at += call.total * perSample
    }
    return lines
  }

  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${graph.width} ${height}" role="img" aria-labelledby="title">`,
    `<title id="title">${escapeXml(title)}</title>`,
    `<style>\n${style}\n</style>`,
    `<text class="head" x="${graph.margin}" y="22">${escapeXml(title)}</text>`,
    `<text class="soft" x="${graph.margin}" y="42">${escapeXml(caption)}</text>`,
    ...owners.flatMap((owner, index) => [
      `<rect class="${classes[owner]}" x="${legendAt[index]}" y="54" width="12" height="12"/>`,
      `<text class="soft" x="${(legendAt[index] as number) + 18}" y="64">${escapeXml(legend[owner])}</text>`,
    ]),
    ...draw(shown, graph.margin, 0),
    '</svg>',
    '',
  ].join('\n')
}
