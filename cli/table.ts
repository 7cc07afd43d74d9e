import stringWidth from 'string-width'

/**
 * Aligns cells in columns, numbers to the right, by the width of each character on a terminal.
 *
 * @param columns width of the terminal; text longer than an id is cut where a line would not fit
 */
export function table(head: string[], rows: (string | number)[][], columns: number): string {
  const isNumeric = head.map((_, column) => rows.length > 0 && rows.every((cells) => typeof cells[column] === 'number'))
  let lines = [head, ...rows].map((cells) =>
    cells.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell)),
  )
  const widthsOf = (cells: string[][]) =>
    head.map((_, column) => cells.reduce((widest, line) => Math.max(widest, stringWidth(line[column] ?? '')), 0))
  let widths = widthsOf(lines)
  const lineWidth = widths.reduce((sum, width) => sum + width, gap.length * (head.length - 1))
  if (lineWidth > columns) {
    lines = lines.map((cells) => cells.map(cut))
    widths = widthsOf(lines)
  }
  return lines
    .map((cells) =>
      cells
        .map((cell, column) => {
          const padding = ' '.repeat((widths[column] ?? 0) - stringWidth(cell))
          return isNumeric[column] ? padding + cell : cell + padding
        })
        .join(gap)
        .trimEnd(),
    )
    .join('\n')
}

const gap = '  '
/** Ids stay whole, for they are copied. */
const longestWhole = 36
const characters = new Intl.Segmenter()

/** Cuts a text to the width of an id. */
function cut(text: string): string {
  if (stringWidth(text) <= longestWhole) return text
  let kept = ''
  for (const { segment } of characters.segment(text)) {
    if (stringWidth(kept + segment) > longestWhole - 1) break
    kept += segment
  }
  return `${kept}…`
}
