import { periodicWalks } from './password-walks.ts'

/** What explains a piece of a password; a copy of an unexplained piece is a `repeat`. */
export type Kind = 'name' | 'service' | 'common' | 'walk' | 'repeat' | 'unexplained'

export interface Knowledge {
  /** rank of each listed password: how many an attacker tries before it */
  ranks: ReadonlyMap<string, number>
  /** names of this account and this service */
  names: ReadonlyMap<string, 'name' | 'service'>
}

/**
 * Gets the pieces that begin at a position: of any length from `least` to `most` characters, at the same price.
 *
 * @param source position of the original, for a copy
 */
type Offer = (least: number, most: number, bits: number, kind: Kind, source?: number) => void
type Find = (from: number, offer: Offer) => void

/** Price of an entry at most, whatever its rank, so that any two entries together are still cheap. */
const maxEntryBits = 11.5
const [shortestEntry, longestEntry] = [3, 32]
const shortestCopy = 3
const charactersPerBit = 12
const bitsOf = {
  name: 2,
  copy: 3,
  leet: 2,
  reversed: 1,
  year: 6,
  dayAndMonth: 8.5,
  digit: 3.3,
  letter: 4,
  separator: 3,
  sign: 4,
  other: 6,
}

const leet: Record<string, string> = {
  ...{ '0': 'o', '1': 'i', '2': 'z', '3': 'e', '4': 'a', '5': 's', '6': 'g', '7': 't', '8': 'b', '9': 'g' },
  ...{ '@': 'a', $: 's', '!': 'i', '|': 'l', '+': 't', '(': 'c' },
}

const reverse = (text: string) => [...text].reverse().join('')

/** Makes the function that finds every piece of a folded text. */
export function finders(text: string, { ranks, names }: Knowledge): Find {
  const spellings = spellingsOf(text)
  const all = [
    findCharacter(text),
    findDate(text),
    findEntry(spellings, ranks),
    findName(spellings, names),
    findWalk(text),
    findCopy(text),
  ]
  return (from, offer) => {
    for (const find of all) find(from, offer)
  }
}

/** One unexplained character. */
function findCharacter(text: string): Find {
  const bits = (character: string) => {
    if (/[0-9]/.test(character)) return bitsOf.digit
    if (/[a-z]/.test(character)) return bitsOf.letter
    if (/[ ._,!-]/.test(character)) return bitsOf.separator
    return character < '\x7f' ? bitsOf.sign : bitsOf.other
  }
  return (from, offer) => offer(1, 1, bits(text.charAt(from)), 'unexplained')
}

/** A year, or a day and a month in either order: four digits. */
function findDate(text: string): Find {
  return (from, offer) => {
    const digits = text.slice(from, from + 4)
    if (/^(19|20)\d\d$/.test(digits)) offer(4, 4, bitsOf.year, 'unexplained')
    if (/^((0[1-9]|[12]\d|3[01])(0[1-9]|1[0-2])|(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))$/.test(digits))
      offer(4, 4, bitsOf.dayAndMonth, 'unexplained')
  }
}

interface Spelling {
  text: string
  extraBits: number
}

/** A text as it is, and with leet replaced by letters. */
function spellingsOf(text: string): Spelling[] {
  const toLetters = (spelt: string) => spelt.replace(/[^a-z]/g, (character) => leet[character] ?? character)
  const spellings = [
    { text, extraBits: 0 },
    { text: toLetters(text), extraBits: bitsOf.leet },
    { text: toLetters(text.replace(/[1!]/g, 'l')), extraBits: bitsOf.leet },
  ]
  return spellings.filter((spelling, index) => index === spellings.findIndex((other) => other.text === spelling.text))
}

/** A listed password: as it is, in leet, or backwards. */
function findEntry(spellings: Spelling[], ranks: Knowledge['ranks']): Find {
  const text = spellings[0]?.text ?? ''
  const backwards = reverse(text)
  return (from, offer) => {
    const longest = Math.min(longestEntry, text.length - from)
    for (let length = shortestEntry; length <= longest; length += 1) {
      const end = text.length - from
      let bits = bitsOfEntry(ranks, backwards.slice(end - length, end)) + bitsOf.reversed
      for (const spelling of spellings) {
        bits = Math.min(bits, bitsOfEntry(ranks, spelling.text.slice(from, from + length)) + spelling.extraBits)
      }
      if (bits < Number.POSITIVE_INFINITY) offer(length, length, bits, 'common')
    }
  }
}

function bitsOfEntry(ranks: Knowledge['ranks'], entry: string): number {
  const rank = ranks.get(entry)
  return rank === undefined ? Number.POSITIVE_INFINITY : Math.min(maxEntryBits, Math.log2(1 + rank))
}

/** A name of the account or the service: as it is, in leet, or backwards. */
function findName(spellings: Spelling[], names: Knowledge['names']): Find {
  const sought = [...names].flatMap(([name, kind]) => [
    { name, kind, bits: bitsOf.name },
    { name: reverse(name), kind, bits: bitsOf.name + bitsOf.reversed },
  ])
  return (from, offer) => {
    for (const { name, kind, bits } of sought) {
      const spelling = spellings.find(({ text }) => text.startsWith(name, from))
      if (spelling) offer(name.length, name.length, bits + spelling.extraBits, kind)
    }
  }
}

/** A walk over a keyboard, or through the alphabet or the digits. */
function findWalk(text: string): Find {
  const walks = periodicWalks(text)
  return (from, offer) => {
    for (const { least, most, bits } of walks[from] ?? []) offer(least, most, bits, 'walk')
  }
}

/** A copy of an earlier part, which may overlap with itself: `aaaa` is an `a` and a copy. */
function findCopy(text: string): Find {
  const lengths = new Uint16Array(text.length)
  const sources = new Uint16Array(text.length)
  let after = new Uint16Array(text.length + 1)
  for (let source = text.length - 1; source >= 0; source -= 1) {
    /** how many characters from each later position on equal those from the source on */
    const same = new Uint16Array(text.length + 1)
    for (let from = source + 1; from < text.length; from += 1) {
      if (text.charCodeAt(source) !== text.charCodeAt(from)) continue
      const length = 1 + (after[from + 1] ?? 0)
      same[from] = length
      if (length < (lengths[from] ?? 0)) continue
      lengths[from] = length
      sources[from] = source
    }
    after = same
  }
  return (from, offer) => {
    const longest = lengths[from] ?? 0
    // The length is part of the secret: no attacker tries one letter 255 times and then another.
    for (let length = shortestCopy; length <= longest; length += 1) {
      offer(length, length, bitsOf.copy + length / charactersPerBit, 'repeat', sources[from])
    }
  }
}
