/* UUIDs as 16 bytes: half of what their text takes, in keys and in rows. */

const uuidBytes = 16
const dash = 0x2d
/** Where each byte of a UUID begins in its text. */
const places = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34] as const
const dashes = [8, 13, 18, 23] as const
const textLength = 36

const digits = '0123456789abcdef'
const notADigit = 0xff
/** The value of each hexadecimal digit in lower case, by its character code. */
const values = Uint8Array.from({ length: 128 }, (_, code) => {
  const value = digits.indexOf(String.fromCharCode(code))
  return value === -1 ? notADigit : value
})
const valueAt = (text: string, at: number): number => values[text.charCodeAt(at)] ?? notADigit

/** The codes of the two digits of each byte. */
const firstDigits = Uint8Array.from({ length: 256 }, (_, byte) => digits.charCodeAt(byte >> 4))
const secondDigits = Uint8Array.from({ length: 256 }, (_, byte) => digits.charCodeAt(byte & 15))
/** Of the text that is being read, dashes in their places. */
const codes: number[] = new Array(textLength).fill(dash)

/**
 * Writes an id: a UUID in lower case as its 16 bytes. Any other text, which is no id that was ever given out, stands
 * behind 16 zeros and ends with another, so that it is the key of nothing else and can be read again.
 *
 * @returns where it ends
 */
export function writeId(id: string, target: Uint8Array, start: number): number {
  return writeUuid(id, target, start) ? start + uuidBytes : writeText(id, target, start)
}

function writeUuid(id: string, target: Uint8Array, start: number): boolean {
  if (id.length !== textLength) return false
  for (const at of dashes) if (id.charCodeAt(at) !== dash) return false
  let any = 0
  for (let i = 0; i < uuidBytes; i++) {
    const at = places[i] as number
    const [first, second] = [valueAt(id, at), valueAt(id, at + 1)]
    if ((first | second) > 15) return false
    target[start + i] = (first << 4) | second
    any |= first | second
  }
  return any !== 0
}

function writeText(id: string, target: Uint8Array, start: number): number {
  const text = Buffer.from(id.replaceAll('\0', ''))
  const end = start + uuidBytes + text.length
  if (end >= target.length) throw new RangeError('The id is too long')
  target.fill(0, start, start + uuidBytes)
  target.set(text, start + uuidBytes)
  target[end] = 0
  return end + 1
}

const isText = (source: Uint8Array, start: number): boolean => {
  for (let i = start; i < start + uuidBytes; i++) if (source[i] !== 0) return false
  return true
}

/** Where an id ends that begins at `start`. */
export function endOfId(source: Uint8Array, start: number): number {
  return isText(source, start) ? source.indexOf(0, start + uuidBytes) + 1 : start + uuidBytes
}

/** The text of an id that begins at `start`. */
export function readId(source: Uint8Array, start: number): string {
  if (isText(source, start))
    return Buffer.from(source.subarray(start + uuidBytes, endOfId(source, start) - 1)).toString()
  for (let i = 0; i < uuidBytes; i++) {
    const [at, byte] = [places[i] as number, source[start + i] as number]
    codes[at] = firstDigits[byte] as number
    codes[at + 1] = secondDigits[byte] as number
  }
  return String.fromCharCode.apply(null, codes)
}
