import { type Bytes, ImportRefused } from './imported-user.ts'
import { createRowBytes, type Row, toRow } from './rows.ts'

/**
 * Reads the elements of a JSON array of any size. One that is broken or too long costs no other.
 *
 * Elements are cut out by their brackets and quotes, and each is parsed by itself: no streaming parser goes on behind a
 * mistake, has a bound for an element, or tells its line.
 *
 * @param member of the object that holds the array; without one, the file is an array
 * @throws {ImportRefused} for an object without that member
 */
export async function* readJsonArray(file: Bytes, member?: string): AsyncGenerator<Row> {
  const { cut, end } = createCutter(member)
  for await (const piece of file) yield* cut(piece)
  yield* end()
}

const [space, quote, comma, colon, backslash, newline] = [32, 34, 44, 58, 92, 10]
const [openBracket, closeBracket, openBrace, closeBrace] = [91, 93, 123, 125]
/** Longest name of a member that is looked at. */
const longestName = 32

function createCutter(member: string | undefined) {
  let line = 1
  let depth = 0
  let isInString = false
  let isEscaped = false
  /** the depth of the elements, where the array has been entered */
  let elementDepth: number | undefined
  let hasEntered = false
  /** the last string in the object around the array, and whether a colon made it the name of what comes */
  let text = ''
  let isName = false

  /** of the element that is being read: where it goes on in this piece, and the line where it begins */
  const rowBytes = createRowBytes()
  let from = 0
  /** 0 before its first byte that is no white space */
  let elementLine = 0

  function element(last: Uint8Array): Row {
    const row = toRow(elementLine || line, rowBytes.take(last))
    elementLine = 0
    return row
  }

  function open(isArray: boolean): void {
    depth += 1
    if (elementDepth !== undefined || !isArray) return
    if (depth === 1 ? member === undefined : depth === 2 && isName && text === member) {
      elementDepth = depth
      hasEntered = true
    }
  }

  function* cut(piece: Uint8Array): Generator<Row> {
    from = 0
    for (let at = 0; at < piece.length; at += 1) {
      const byte = piece[at] as number
      if (byte === newline) line += 1
      if (isInString) {
        if (isEscaped) isEscaped = false
        else if (byte === backslash) isEscaped = true
        else if (byte === quote) isInString = false
        else if (depth === 1 && elementDepth === undefined && text.length < longestName)
          text += String.fromCharCode(byte)
        continue
      }
      if (byte <= space) continue
      if (depth === 0 && byte !== openBrace && byte !== openBracket) throw new ImportRefused(`Line ${line}: no JSON`)
      const isInside = elementDepth !== undefined
      const isClosing = byte === closeBracket || byte === closeBrace
      if (depth === elementDepth && (byte === comma || isClosing)) {
        // Nothing before the closing bracket: the array is empty, or a comma too many is at its end.
        if (byte === comma || elementLine > 0) yield element(piece.subarray(from, at))
        from = at + 1
      } else if (isInside && elementLine === 0) elementLine = line
      if (byte === quote) {
        isInString = true
        if (depth === 1 && !isInside) text = ''
      } else if (byte === openBracket || byte === openBrace) {
        open(byte === openBracket)
        if (!isInside) from = at + 1
      } else if (isClosing) {
        if (depth === elementDepth) leave(byte)
        depth -= 1
      } else if (depth === 1) isName = byte === colon
    }
    if (elementDepth !== undefined) rowBytes.add(piece.subarray(from))
  }

  function leave(byte: number): void {
    if (byte !== closeBracket) throw new ImportRefused(`Line ${line}: no JSON`)
    elementDepth = undefined
    rowBytes.take(new Uint8Array())
  }

  function* end(): Generator<Row> {
    if (depth > 0) yield { line, reason: 'the file is cut short' }
    else if (!hasEntered) throw new ImportRefused(`There is no list of ${member}`)
  }
  return { cut, end }
}
