import type { Io } from './command.ts'

/** Results go to stdout, everything else to stderr. */
export interface Output {
  /** `--json`: one document, in the place of text */
  isJson: boolean
  print(line: string): void
  /** width of the terminal that stdout is; else Infinity */
  columns: number
  /** Shows the progress of long work: on a terminal in one line that changes, elsewhere in a line every ten seconds. */
  progress(line: string): void
  /** Clears the line of the progress. */
  endProgress(): void
}

const terminalMs = 100
const elsewhereMs = 10_000

export function createOutput(isJson: boolean, { stdout, stderr }: Io): Output {
  const isTerminal = stderr.isTTY === true
  const everyMs = isTerminal ? terminalMs : elsewhereMs
  let shownAt = performance.now()
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
      if (performance.now() - shownAt < everyMs) return
      shownAt = performance.now()
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

/** A time for people, in UTC. @param timestamp RFC 3339 */
export const when = (timestamp: string | undefined): string =>
  timestamp === undefined ? '' : `${timestamp.slice(0, 19).replace('T', ' ')}Z`

/** A cell of a table: `when` of a member of the row. */
export const timeOf =
  (member: string) =>
  (row: Record<string, string | undefined>): string =>
    when(row[member])

/** Text from a store must not control the terminal. */
export const printable = (text: string) => text.replace(/\p{C}/gu, '\ufffd')
