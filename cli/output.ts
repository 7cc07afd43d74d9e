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

/** Lines up cells in columns, numbers to the right. */
export function table(head: string[], rows: (string | number)[][]): string {
  const lines = [head, ...rows].map((cells) => cells.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell)))
  const widths = head.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)))
  const isNumeric = head.map((_, column) => rows.length > 0 && rows.every((cells) => typeof cells[column] === 'number'))
  return lines
    .map((cells) =>
      cells
        .map((cell, column) => (isNumeric[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Names and values, one a line. */
export const fields = (of: Record<string, string | number | undefined>): string =>
  Object.entries(of)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name.padEnd(Math.max(...Object.keys(of).map(({ length }) => length)))}  ${printable(String(value))}`)
    .join('\n')

/** A time as people read it, in UTC. @param timestamp RFC 3339 */
export const when = (timestamp: string | undefined): string =>
  timestamp === undefined ? '' : `${timestamp.slice(0, 19).replace('T', ' ')}Z`

/** What stands in a database is not to move the cursor of the terminal. */
export const printable = (text: string) => text.replace(/\p{C}/gu, '\ufffd')
