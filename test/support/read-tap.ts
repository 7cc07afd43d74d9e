/** How a named test ended: one that a `t.test` has, at any depth. */
export interface Result {
  /** those around it first, ` > ` between */
  name: string
  status: 'passed' | 'failed' | 'skipped'
  /** the assertions that failed in it, with their diagnostics, as they were written */
  report: string[]
}

/**
 * Reads TAP as tap 21 writes it, a line at a time.
 *
 * @param onResult is called for each named test that ends, and for an assertion that failed outside of all
 * @param onComment is called for each comment that a test wrote
 */
export function readTap(onResult: (result: Result) => void, onComment: (text: string) => void) {
  const open: { name: string; indent: number; report: string[] }[] = []
  /** the lines of the diagnostics that are being read, up to their end */
  let diagnostics: { end: string; report?: string[] | undefined } | undefined
  /** where diagnostics go if they follow */
  let lastFailed: string[] | undefined

  function end(status: Result['status'], report: string[]): void {
    onResult({ name: open.map(({ name }) => name).join(' > '), status, report })
    open.pop()
  }

  return (line: string): void => {
    const indent = line.search(/\S|$/)
    const text = line.slice(indent)
    if (diagnostics) {
      diagnostics.report?.push(line)
      if (line === diagnostics.end) diagnostics = undefined
      return
    }
    if (text === '---') {
      lastFailed?.push(line)
      diagnostics = { end: `${' '.repeat(indent)}...`, report: lastFailed }
      return
    }
    lastFailed = undefined
    if (text.startsWith('# Subtest: ')) {
      open.push({ name: text.slice('# Subtest: '.length), indent, report: [] })
      return
    }
    const point = /^(not )?ok \d+(?: - (.*?))?(?: # (SKIP|TODO).*| # time=[\d.]+m?s)?( \{)?$/i.exec(text)
    if (point) {
      const [, not, name = '', directive, isBuffered] = point
      const hasFailed = not !== undefined && directive === undefined
      // Its own subtests follow between braces.
      if (isBuffered) open.push({ name, indent, report: [] })
      const current = open.at(-1)
      if (current?.indent === indent) {
        // The place of the test itself says something only where no assertion does.
        if (hasFailed && current.report.length === 0) lastFailed = current.report
        end(hasFailed ? 'failed' : 'passed', current.report)
      } else if (hasFailed) {
        lastFailed = current?.report ?? []
        lastFailed.push(line)
        if (!current) onResult({ name, status: 'failed', report: lastFailed })
      } else if (!current && directive) onResult({ name, status: 'skipped', report: [] })
      return
    }
    if (text.startsWith('# ')) onComment(text.slice(2))
  }
}
