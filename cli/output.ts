import type { Io } from './command.ts'

/** How a command speaks: results on stdout, everything else on stderr. */
export interface Output {
  /** for `--json`: one document, or a table for people */
  isJson: boolean
  print(line: string): void
  /** of the terminal, for a table; what is no terminal has no end */
  columns: number
  /** Says how far long work has come: on a terminal in one line that changes, elsewhere a line now and then. */
  progress(line: string): void
  /** Takes the line of the progress away, before something else is printed. */
  endProgress(): void
}

const terminalMs = 100
const elsewhereMs = 10_000

export function createOutput(isJson: boolean, { stdout, stderr }: Io): Output {
  const isTerminal = stderr.isTTY === true
  const everyMs = isTerminal ? terminalMs : elsewhereMs
  let saidAt = performance.now()
  let isShown = false
  const endProgress = () => {
    if (isShown) stderr.write('\r\x1b[K')
    isShown = false
  }
  return {
    isJson,
    columns: (stdout.isTTY && stdout.columns) || Number.POSITIVE_INFINITY,
    print(line) {
      endProgress()
      stdout.write(`${line}\n`)
    },
    progress(line) {
      if (performance.now() - saidAt < everyMs) return
      saidAt = performance.now()
      isShown = isTerminal
      stderr.write(isTerminal ? `\r\x1b[K${line}` : `${line}\n`)
    },
    endProgress,
  }
}

/** Names and values, one a line. */
export function fields(of: Record<string, string | number | undefined>): string {
  const width = Math.max(...Object.keys(of).map(({ length }) => length))
  return Object.entries(of)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name.padEnd(width)}  ${printable(String(value))}`)
    .join('\n')
}

/** A time as people read it, in UTC. @param timestamp RFC 3339 */
export const when = (timestamp: string | undefined): string =>
  timestamp === undefined ? '' : `${timestamp.slice(0, 19).replace('T', ' ')}Z`

/** A cell of a table: `when` of a member of the row. */
export const timeOf =
  (member: string) =>
  (row: Record<string, string | undefined>): string =>
    when(row[member])

/** What stands in a database is not to move the cursor of the terminal. */
export const printable = (text: string) => text.replace(/\p{C}/gu, '\ufffd')
