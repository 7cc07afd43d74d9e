import stringWidth from 'string-width'

/** How a command speaks: results on stdout, everything else on stderr. */
export interface Output {
  /** for `--json`: one document, or a table for people */
  isJson: boolean
  print(line: string): void
  /** Says how far long work has come: on a terminal in one line that changes, elsewhere a line now and then. */
  progress(line: string): void
  /** Takes the line of the progress away, before something else is printed. */
  endProgress(): void
}

const terminalMs = 100
const elsewhereMs = 10_000

export function createOutput(isJson: boolean, { stdout, stderr } = process): Output {
  const everyMs = stderr.isTTY ? terminalMs : elsewhereMs
  let saidAt = performance.now()
  let isShown = false
  const endProgress = () => {
    if (isShown) stderr.write('\r\x1b[K')
    isShown = false
  }
  return {
    isJson,
    print(line) {
      endProgress()
      stdout.write(`${line}\n`)
    },
    progress(line) {
      if (performance.now() - saidAt < everyMs) return
      saidAt = performance.now()
      isShown = stderr.isTTY
      stderr.write(stderr.isTTY ? `\r\x1b[K${line}` : `${line}\n`)
    },
    endProgress,
  }
}

/**
 * Lines up cells in columns, numbers to the right, by the width that a terminal gives each character.
 *
 * @param columns of the terminal; text longer than an id is cut where a line would not fit
 */
export function table(head: string[], rows: (string | number)[][], columns = terminalColumns()): string {
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
/** An id is whole: it is there to be copied. */
const longestWhole = 36
const characters = new Intl.Segmenter()
const terminalColumns = () => (process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY)

/** A text in at most as many columns as an id has. */
function cut(text: string): string {
  if (stringWidth(text) <= longestWhole) return text
  let kept = ''
  for (const { segment } of characters.segment(text)) {
    if (stringWidth(kept + segment) > longestWhole - 1) break
    kept += segment
  }
  return `${kept}…`
}

/** Names and values, one a line. */
export const fields = (of: Record<string, string | number | undefined>): string =>
  Object.entries(of)
    .filter(([, value]) => value !== undefined)
    .map(
      ([name, value]) =>
        `${name.padEnd(Math.max(...Object.keys(of).map(({ length }) => length)))}  ${printable(String(value))}`,
    )
    .join('\n')

/** A time as people read it, in UTC. @param timestamp RFC 3339 */
export const when = (timestamp: string | undefined): string =>
  timestamp === undefined ? '' : `${timestamp.slice(0, 19).replace('T', ' ')}Z`

/** What stands in a database is not to move the cursor of the terminal. */
export const printable = (text: string) => text.replace(/\p{C}/gu, '\ufffd')
