import { finders, type Kind, type Knowledge } from './password-pieces.ts'

/*
 * Estimates how many guesses a password takes an attacker who knows the lists, the names, the keyboards and the habits:
 * 2 to the bits of its cheapest explanation as a sequence of pieces (see `password-pieces.ts`).
 *
 * zxcvbn has the same idea, but takes up to a second for 256 characters. It counts four pieces as strong whatever they
 * are, and so lets `Summer2024Winter!`, `p.a.s.s.w.o.r.d` and `a1b2c3d4e5f6g7h8i9` pass.
 */

export interface Explanation {
  /** base 2 logarithm of the guesses */
  bits: number
  /** of most characters */
  kind: Kind
}

/** Characters that are judged: normalization may have made a password longer than the policy takes. */
const maxCharacters = 256
/** Price of the habit of putting separators between the letters. */
const strippedBits = 5
const maxSeparators = 2
const maxCaseBits = 3
const privateArea = { first: 0xe000, size: 0x1900 }

/** Splits a text into characters without accents and width. */
const charactersOf = (text: string): string[] =>
  Array.from(
    text
      .normalize('NFKD')
      .replace(/\p{M}+/gu, '')
      .normalize('NFC'),
  )

/** Lower case, with one code unit for each character: characters beyond the BMP are mapped to the private use area. */
const lowerCase = (characters: string[]): string =>
  characters
    .map((character) =>
      character.length === 1
        ? character.toLowerCase().charAt(0)
        : String.fromCharCode(privateArea.first + ((character.codePointAt(0) ?? 0) % privateArea.size)),
    )
    .join('')

/** Removes case, accents and width; `explain` needs lists and names in this form. */
export const fold = (text: string): string => lowerCase(charactersOf(text))

/** The smallest period of a text, in characters; the last repetition may be cut short. */
export function periodOf(text: string): number {
  for (let period = 1; period < text.length; period += 1) {
    if (text.startsWith(text.slice(period))) return period
  }
  return text.length
}

/**
 * Finds the cheapest explanation of a password.
 *
 * @param enough bits from which on a password is strong; more expensive explanations are not looked for
 */
export function explain(password: string, knowledge: Knowledge, enough: number): Explanation {
  const whole = explainText(password, knowledge, enough)
  if (whole.bits < enough) return whole
  // Separators between the letters, or padding: `p.a.s.s.w.o.r.d`.
  const between = password.match(/[\p{P}\p{S}\p{Z}\p{C}]/gu) ?? []
  const bare = password.replace(/[\p{P}\p{S}\p{Z}\p{C}]+/gu, '')
  if (bare === '' || new Set(between).size > maxSeparators || between.length < bare.length / 2) return whole
  const { bits, kind } = explainText(bare, knowledge, enough - strippedBits)
  return { bits: bits + strippedBits, kind }
}

interface Piece {
  from: number
  /** of all pieces up to the end of this one */
  bits: number
  kind: Kind
  /** position of the original, for a copy */
  source?: number | undefined
}

function explainText(password: string, knowledge: Knowledge, enough: number): Explanation {
  const whole = charactersOf(password).slice(0, maxCharacters)
  const period = periodOf(lowerCase(whole))
  // Ten repetitions are no stronger than two.
  const characters = 2 * period <= whole.length ? whole.slice(0, 2 * period) : whole
  const text = lowerCase(characters)
  const caseBits = caseOf(characters)
  const find = finders(text, knowledge)
  /** The last piece of the cheapest explanation up to each position. */
  const last: (Piece | undefined)[] = Array(text.length + 1)
  last[0] = { from: 0, bits: 0, kind: 'unexplained' }

  for (let from = 0; from < text.length; from += 1) {
    const before = last[from]
    if (!before) continue
    find(from, (least, most, bits, kind, source) => {
      for (let to = from + least; to <= from + most; to += 1) {
        const cheapest = last[to]?.bits ?? enough
        if (before.bits + bits >= cheapest) continue
        const total = before.bits + bits + caseBits(from, to)
        if (total < cheapest) last[to] = { from, bits: total, kind, source }
      }
    })
  }
  const bits = last.at(-1)?.bits
  return bits === undefined ? { bits: enough, kind: 'unexplained' } : { bits, kind: commonestKind(last) }
}

/** The price of knowing which characters of a piece are in upper case: low for the first, the last or all of them. */
function caseOf(characters: string[]): (from: number, to: number) => number {
  const upper = new Uint16Array(characters.length + 1)
  for (const [at, character] of characters.entries())
    upper[at + 1] = (upper[at] ?? 0) + (character === character.toLowerCase() ? 0 : 1)
  const count = (from: number, to: number) => (upper[to] ?? 0) - (upper[from] ?? 0)
  return (from, to) => {
    const uppers = count(from, to)
    if (uppers === 0) return 0
    const isUsual = uppers === to - from || (uppers === 1 && (count(from, from + 1) === 1 || count(to - 1, to) === 1))
    return isUsual ? 1 : Math.min(1 + uppers, maxCaseBits)
  }
}

/** The kind that explains most characters. A copy has the kind of its original, unless that is unexplained. */
function commonestKind(last: (Piece | undefined)[]): Kind {
  const pieces: (Piece & { to: number })[] = []
  for (let to = last.length - 1; to > 0; ) {
    const piece = last[to] as Piece
    pieces.unshift({ ...piece, to })
    to = piece.from
  }
  const kinds: Kind[] = []
  const counts = new Map<Kind, number>()
  for (const { from, to, kind, source } of pieces) {
    const original = source === undefined ? undefined : kinds[source]
    const explained = original === 'name' || original === 'service' || original === 'common' ? original : kind
    for (let at = from; at < to; at += 1) kinds[at] = explained
    // A padded word counts more than its padding.
    const weight = explained === 'unexplained' ? 0 : explained === 'repeat' ? 0.5 : 1
    counts.set(explained, (counts.get(explained) ?? 0) + weight * (to - from))
  }
  const [most] = [...counts].filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a)
  return most?.[0] ?? 'unexplained'
}
