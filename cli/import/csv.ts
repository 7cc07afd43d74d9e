import { type Bytes, ImportRefused } from './imported-user.ts'
import { createRowBytes, type Row, tooLong } from './rows.ts'

/**
 * Reads CSV with a head line (RFC 4180), separated by commas, semicolons or tabs. All values are text. A row that is
 * broken costs no other; one whose quote is never closed takes what is behind it.
 *
 * @throws {ImportRefused} for a head line that cannot be read
 */
export async function* readCsv(file: Bytes): AsyncGenerator<Row> {
  let toCells: ((text: string) => string[] | undefined) | undefined
  let names: string[] = []
  for await (const { line, bytes } of recordsOf(file)) {
    const text = bytes && decode(bytes)
    if (!toCells) {
      toCells = cellsBy(/[,;\t]/.exec(text ?? '')?.[0] ?? ',')
      names = toCells(text ?? '') ?? []
      if (new Set(names).size !== names.length) throw new ImportRefused('The head line has a name twice')
      if (names.length === 0) throw new ImportRefused('The head line is no CSV')
      continue
    }
    const cells = text && toCells(text)
    if (bytes === undefined) yield { line, reason: tooLong }
    else if (text === undefined) yield { line, reason: 'not UTF-8' }
    else if (!cells) yield { line, reason: 'no CSV: a quote is not closed, or something is behind it' }
    else if (cells.length !== names.length) yield { line, reason: `${cells.length} cells, and not ${names.length}` }
    else yield { line, value: Object.fromEntries(cells.map((cell, at) => [names[at], cell])) }
  }
}

const [tab, newline, carriageReturn, quote, comma, semicolon] = [9, 10, 13, 34, 44, 59]
const delimiters = [tab, comma, semicolon]

/** Lines without their ends, but for those ends that are inside of quotes. Empty ones are left out. */
async function* recordsOf(file: Bytes): AsyncGenerator<{ line: number; bytes: Uint8Array | undefined }> {
  const rowBytes = createRowBytes()
  let line = 1
  let startLine = 1
  let delimiter: number | undefined
  let isInQuotes = false
  /** where a cell begins; and behind a quote that has closed, for two of them stand for one */
  let mayOpen = true
  for await (const piece of file) {
    let from = 0
    for (let at = 0; at < piece.length; at += 1) {
      const byte = piece[at] as number
      if (byte === newline) line += 1
      if (byte === quote && (isInQuotes || mayOpen)) {
        isInQuotes = !isInQuotes
        mayOpen = true
      } else if (!isInQuotes) {
        if (byte === newline) {
          const bytes = rowBytes.take(piece.subarray(from, at))
          if (!bytes?.every(isLineEnd)) yield { line: startLine, bytes }
          from = at + 1
          startLine = line
        }
        if (delimiter === undefined && delimiters.includes(byte)) delimiter = byte
        mayOpen = byte === newline || byte === delimiter
      }
    }
    rowBytes.add(piece.subarray(from))
  }
  if (!rowBytes.isEmpty()) yield { line: startLine, bytes: rowBytes.take(new Uint8Array()) }
}

const isLineEnd = (byte: number): boolean => byte === carriageReturn

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** @returns the text without its end of line; undefined where it is not UTF-8 */
function decode(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes.at(-1) === carriageReturn ? bytes.subarray(0, -1) : bytes)
  } catch {
    return undefined
  }
}

/** How databases write that there is nothing, without quotes. */
const nulls = new Set(['NULL', '\\N'])

/** Takes records apart. A quote within an unquoted cell is as any other character. */
function cellsBy(delimiter: string) {
  const cell = new RegExp(
    `"([^"]*(?:""[^"]*)*)"(?=${delimiter}|$)|([^"${delimiter}][^${delimiter}]*|)(?=${delimiter}|$)`,
    'y',
  )
  const toCell = (text: string) => (nulls.has(text) ? '' : text)

  /** @returns undefined for what is no CSV */
  return (text: string): string[] | undefined => {
    if (!text.includes('"')) return text.split(delimiter).map(toCell)
    const cells: string[] = []
    for (cell.lastIndex = 0; cell.lastIndex <= text.length; cell.lastIndex += 1) {
      const found = cell.exec(text)
      if (!found) return undefined
      const [, quoted, plain = ''] = found
      cells.push(quoted === undefined ? toCell(plain) : quoted.replaceAll('""', '"'))
      cell.lastIndex = found.index + found[0].length
    }
    return cells
  }
}
