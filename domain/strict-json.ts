/** Bytes that are no UTF-8 are not replaced, and a byte order mark is not dropped: JSON has none (RFC 8259 §8.1). */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Reads JSON that has one reading only, RFC 8259: what two parsers could understand in two ways is refused.
 *
 * @param bytes of the text
 * @returns the value; nothing of what its texts hold has been checked
 * @throws {SyntaxError} for what is no JSON, for bytes that are no UTF-8, a byte order mark, and a member that is
 * there twice (§4)
 */
export function parseStrictJson(bytes: Uint8Array): unknown {
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    throw new SyntaxError('not UTF-8')
  }
  const value: unknown = JSON.parse(text)
  if (hasRepeatedMember(text)) throw new SyntaxError('a member is repeated')
  return value
}

/** Texts, and what structures them: in JSON that has been parsed, a text before a colon is the name of a member. */
const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}:]/g

/** Whether a member is there twice. @param text JSON that has been parsed, so that its syntax is known to be right */
export function hasRepeatedMember(text: string): boolean {
  const open: Set<string>[] = []
  let last = ''
  for (const [token] of text.matchAll(tokens)) {
    if (token === '{') open.push(new Set())
    else if (token === '}') open.pop()
    else if (token === ':') {
      const names = open.at(-1) as Set<string>
      const name = last.includes('\\') ? (JSON.parse(last) as string) : last.slice(1, -1)
      if (names.has(name)) return true
      names.add(name)
    }
    last = token
  }
  return false
}
