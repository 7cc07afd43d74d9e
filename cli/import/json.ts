import { hasRepeatedMember } from '../../domain/strict-json.ts'

/** Bytes that are no UTF-8 are not replaced. A byte order mark in front is dropped. */
const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Parses the JSON of a row. The parser's own message is not told: it quotes the row. */
export function parseJson(bytes: Uint8Array): { value: unknown } | { reason: string } {
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    return { reason: 'not UTF-8' }
  }
  try {
    const value: unknown = JSON.parse(text)
    return hasRepeatedMember(text) ? { reason: 'a member is there twice' } : { value }
  } catch {
    return { reason: 'no JSON' }
  }
}
