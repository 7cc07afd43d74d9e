import { randomInt } from 'node:crypto'
import { dictionary } from '@zxcvbn-ts/language-common'
import { type Config, readConfig } from '../../config.ts'
import { periodOf } from '../../plugins/accounts/password-guesses.ts'
import { createPasswordPolicy } from '../../plugins/accounts/password-policy.ts'

/*
 * What a guesser gets past the list of passwords that are refused: `npm run bench:passwords [guesses]`.
 *
 * The guesser has the list, and knows how people make 15 characters of what they had: an entry with digits, a year or
 * punctuation, two entries, the same again, rows of the keyboard, a capital, leet. Guesses come in the order of their
 * probability by a plain model: an entry is as likely as its rank is high, and each habit has a weight. The policy knows nothing
 * of this model. Beside it: how many passphrases and random passwords are refused that should not be.
 */

const guesses = Number(process.argv[2] ?? 1_000_000)
const least = 15
const entries: string[] = dictionary['passwords-common']

type Weighted = readonly [text: string, bits: number]
const bitsOfRank = (rank: number) => Math.log2(rank + 4)
const capitalised = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)
const leetLetters: Record<string, string> = { a: '@', e: '3', i: '1', o: '0', s: '$' }
const inLeet = (text: string) => text.replace(/[aeios]/g, (letter) => leetLetters[letter] ?? letter)

const spellings: [(text: string) => string, number][] = [
  [(text) => text, 0.5],
  [capitalised, 2],
  [(text) => text.toUpperCase(), 5],
  [inLeet, 6],
  [(text) => capitalised(inLeet(text)), 7],
]

const runs = [
  '1234567890',
  '0123456789',
  '9876543210',
  '1111111111',
  '0000000000',
  '1212121212',
  '1231231231',
  '1122334455',
]
const digits: Weighted[] = [
  ['', 1],
  ...runs.flatMap((run, at) =>
    Array.from({ length: 10 }, (_, length): Weighted => [run.slice(0, length + 1), 3 + at + Math.abs(length - 2) / 2]),
  ),
  ...Array.from({ length: 77 }, (_, age): Weighted => [String(2026 - age), 5 + age / 12]),
  ...Array.from({ length: 100 }, (_, number): Weighted => [String(number).padStart(2, '0'), 9]),
]
const ends: Weighted[] = [
  ['', 0.5],
  ['!', 3],
  ['.', 5],
  ['!!', 6],
  ['?', 6],
  ['@', 6],
  ['#', 6],
  ['*', 6],
  ['!!!', 7],
  ['123', 6],
]
const separators: Weighted[] = [
  ['', 1],
  [' ', 4],
  ['_', 5],
  ['-', 5],
  ['.', 5],
  ['&', 6],
  ['1', 6],
]
const rows = [
  'qwertyuiop',
  'asdfghjkl',
  'zxcvbnm',
  '1234567890',
  '1qaz2wsx3edc4rfv',
  'qazwsxedcrfvtgb',
  '1q2w3e4r5t6y7u8i',
  'abcdefghijklmnopqrstuvwxyz',
]

/** All guesses of at least 15 characters that cost at most so many bits, with what they cost. */
function enumerate(mostBits: number): Map<string, number> {
  const found = new Map<string, number>()
  const add = (text: string, bits: number) => {
    if (text.length < least || bits > mostBits) return
    if (bits < (found.get(text) ?? Number.POSITIVE_INFINITY)) found.set(text, bits)
  }
  const dress = (base: string, bits: number) => {
    for (const [spell, spellBits] of spellings) {
      if (bits + spellBits > mostBits) continue
      const spelt = spell(base)
      for (const [number, numberBits] of digits) {
        const before = bits + spellBits + numberBits
        if (before > mostBits || spelt.length + number.length + 3 < least) continue
        for (const [end, endBits] of ends) add(spelt + number + end, before + endBits)
      }
    }
  }
  const again = (text: string) => text.repeat(Math.ceil(least / text.length))
  for (const [at, entry] of entries.entries()) {
    const bits = bitsOfRank(at + 1)
    if (bits > mostBits) break
    dress(entry, bits)
    dress(entry + entry, bits + 3)
    dress(again(entry), bits + 4)
    add([...again(entry)].slice(0, least).join(''), bits + 6)
    dress([...entry].reverse().join(''), bits + 8)
    for (const [other, otherEntry] of entries.entries()) {
      const both = bits + bitsOfRank(other + 1) + 2
      if (both + 3 > mostBits) break
      for (const [separator, separatorBits] of separators) dress(entry + separator + otherEntry, both + separatorBits)
    }
  }
  for (const [at, row] of rows.entries()) {
    for (const other of rows) dress(row + other, 7 + at)
    for (const text of [row, [...row].reverse().join('')]) {
      for (let from = 0; from < row.length - 2; from += 1) {
        for (let length = 3; from + length <= row.length; length += 1)
          dress(again(text.slice(from, from + length)), 9 + at)
      }
    }
  }
  return found
}

function likeliest(count: number): string[] {
  for (let mostBits = 12; ; mostBits += 0.5) {
    const found = enumerate(mostBits)
    if (found.size < count) continue
    return [...found]
      .sort(([, a], [, b]) => a - b)
      .slice(0, count)
      .map(([text]) => text)
  }
}

/** What was refused when the list was compared with the password as a whole: an entry, or an entry of 4 or more again and again. */
const listed = new Set(entries)
function wasRefused(password: string): boolean {
  const text = password.toLowerCase()
  const unit = text.slice(0, periodOf(text))
  return listed.has(text) || (unit.length >= 4 && listed.has(unit))
}

const policy = createPasswordPolicy({ config: readConfig({}) as Config })
const isRefused = (password: string) =>
  policy.check(password, 'ada', '/password').then(
    () => false,
    () => true,
  )

async function share(passwords: string[], refuses: (password: string) => boolean | Promise<boolean>): Promise<number> {
  let refused = 0
  for (const password of passwords) if (await refuses(password)) refused += 1
  return refused / passwords.length
}

const percent = (part: number) => `${(100 * part).toFixed(2)} %`
const print = (line: string) => process.stdout.write(`${line}\n`)

const guessed = likeliest(guesses)
print(
  `The ${guesses.toLocaleString('en-US')} likeliest guesses of ${least} characters and more: ${guessed.slice(0, 4).join(', ')}, …`,
)
print(`  taken by the list compared as it is: ${percent(1 - (await share(guessed, wasRefused)))}`)
const startedAt = performance.now()
const refused = await share(guessed, isRefused)
const each = (performance.now() - startedAt) / guesses
print(`  taken by the policy:                 ${percent(1 - refused)}, judged in ${each.toFixed(3)} ms each`)

const pick = <T>(of: ArrayLike<T>) => of[randomInt(of.length)] as T
const many = (make: () => string) => Array.from({ length: 20_000 }, make)
const diceware: string[] = dictionary['diceware-common']
const sentence = (words: number) => Array.from({ length: words }, () => pick(diceware)).join(' ')
const random = (length: number, of: string) => Array.from({ length }, () => pick(of)).join('')
print('Refused and ought not to be:')
print(
  `  three diceware words, 15 characters: ${percent(
    await share(
      many(() => sentence(3)).filter(({ length }) => length >= least),
      isRefused,
    ),
  )}`,
)
print(
  `  four diceware words:                 ${percent(
    await share(
      many(() => sentence(4).padEnd(least, 'x')),
      isRefused,
    ),
  )}`,
)
print(
  `  15 random lower-case letters:        ${percent(
    await share(
      many(() => random(15, 'abcdefghijklmnopqrstuvwxyz')),
      isRefused,
    ),
  )}`,
)
print(
  `  15 random digits:                    ${percent(
    await share(
      many(() => random(15, '0123456789')),
      isRefused,
    ),
  )}`,
)
