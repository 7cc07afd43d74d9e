/*
 * What a guesser gets past the list of passwords that are refused: `npm run bench:passwords [guesses]`.
 *
 * The guesser has the list, and knows how people make 15 characters of what they had: an entry with digits, a year
 * or punctuation, two entries, the same again, rows of the keyboard, a capital, leet. Guesses come in the order of
 * their probability by a plain model: an entry is as likely as its rank is high, and each habit has a weight. The
 * policy knows nothing of this model. Beside it: how many passphrases and random passwords are refused that should
 * not be.
 */
import { randomInt } from 'node:crypto'
import { dictionary } from '@zxcvbn-ts/language-common'
import { type Config, readConfig } from '../../config.ts'
import { periodOf } from '../../plugins/accounts/password-guesses.ts'
import { createPasswordPolicy } from '../../plugins/accounts/password-policy.ts'

const guesses = Number(process.argv[2] ?? 1_000_000)
const minLength = 15
const entries: string[] = dictionary['passwords-common']

type Weighted = readonly [text: string, bits: number]
/** @param text such as `! 3`, with commas between */
const weighted = (text: string): Weighted[] =>
  text.split(',').map((pair) => [pair.slice(0, pair.lastIndexOf(' ')), Number(pair.slice(pair.lastIndexOf(' ')))])

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
const runs = '1234567890 0123456789 9876543210 1111111111 0000000000 1212121212 1231231231 1122334455'.split(' ')
const digits: Weighted[] = [
  ['', 1],
  ...runs.flatMap((run, at) =>
    Array.from({ length: 10 }, (_, length): Weighted => [run.slice(0, length + 1), 3 + at + Math.abs(length - 2) / 2]),
  ),
  ...Array.from({ length: 77 }, (_, age): Weighted => [String(2026 - age), 5 + age / 12]),
  ...Array.from({ length: 100 }, (_, number): Weighted => [String(number).padStart(2, '0'), 9]),
]
const ends = weighted(' 0.5,! 3,. 5,!! 6,? 6,@ 6,# 6,* 6,!!! 7,123 6')
const separators = weighted(' 1,  4,_ 5,- 5,. 5,& 6,1 6')
const alphabet = 'abcdefghijklmnopqrstuvwxyz'
const walks = '1234567890 1qaz2wsx3edc4rfv qazwsxedcrfvtgb 1q2w3e4r5t6y7u8i'.split(' ')
const rows = ['qwertyuiop', 'asdfghjkl', 'zxcvbnm', ...walks, alphabet]

/** All guesses that are long enough and cost at most so many bits, with what they cost. */
function enumerate(maxBits: number): Map<string, number> {
  const found = new Map<string, number>()
  const add = (text: string, bits: number) => {
    if (text.length < minLength || bits > maxBits) return
    if (bits < (found.get(text) ?? Number.POSITIVE_INFINITY)) found.set(text, bits)
  }
  const dress = (base: string, bits: number) => {
    for (const [spell, spellBits] of spellings) {
      if (bits + spellBits > maxBits) continue
      const spelt = spell(base)
      for (const [number, numberBits] of digits) {
        const before = bits + spellBits + numberBits
        if (before > maxBits || spelt.length + number.length + 3 < minLength) continue
        for (const [end, endBits] of ends) add(spelt + number + end, before + endBits)
      }
    }
  }
  const repeated = (text: string) => text.repeat(Math.ceil(minLength / text.length))
  const reversed = (text: string) => [...text].reverse().join('')
  for (const [at, entry] of entries.entries()) {
    const bits = bitsOfRank(at + 1)
    if (bits > maxBits) break
    dress(entry, bits)
    dress(entry + entry, bits + 3)
    dress(repeated(entry), bits + 4)
    add([...repeated(entry)].slice(0, minLength).join(''), bits + 6)
    dress(reversed(entry), bits + 8)
    for (const [other, otherEntry] of entries.entries()) {
      const both = bits + bitsOfRank(other + 1) + 2
      if (both + 3 > maxBits) break
      for (const [separator, separatorBits] of separators) dress(entry + separator + otherEntry, both + separatorBits)
    }
  }
  for (const [at, row] of rows.entries()) {
    for (const other of rows) dress(row + other, 7 + at)
    for (const text of [row, reversed(row)])
      for (let from = 0; from < row.length - 2; from += 1)
        for (let length = 3; from + length <= row.length; length += 1)
          dress(repeated(text.slice(from, from + length)), 9 + at)
  }
  return found
}

function likeliest(count: number): string[] {
  for (let maxBits = 12; ; maxBits += 0.5) {
    const found = [...enumerate(maxBits)]
    if (found.length < count) continue
    found.sort(([, a], [, b]) => a - b)
    return found.slice(0, count).map(([text]) => text)
  }
}

/** The rule of an older version: an entry of the list, or one of 4 characters and more again and again. */
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

const guessed = likeliest(guesses)
const count = guesses.toLocaleString('en-US')
console.log(`The ${count} likeliest guesses of ${minLength} characters and more: ${guessed.slice(0, 4).join(', ')}, …`)
console.log(`  taken by the list compared as it is: ${percent(1 - (await share(guessed, wasRefused)))}`)
const startedAt = performance.now()
const taken = percent(1 - (await share(guessed, isRefused)))
const each = ((performance.now() - startedAt) / guesses).toFixed(3)
console.log(`  taken by the policy:                 ${taken}, judged in ${each} ms each`)

const pick = <T>(of: ArrayLike<T>) => of[randomInt(of.length)] as T
const words = (count: number) => Array.from({ length: count }, () => pick(dictionary['diceware-common'])).join(' ')
const random = (of: string) => Array.from({ length: minLength }, () => pick(of)).join('')
const good: Record<string, () => string> = {
  'three diceware words, 15 characters': () => words(3),
  'four diceware words': () => words(4).padEnd(minLength, 'x'),
  '15 random lower-case letters': () => random(alphabet),
  '15 random digits': () => random('0123456789'),
}
console.log('Refused and ought not to be:')
for (const [what, make] of Object.entries(good)) {
  const made = Array.from({ length: 20_000 }, make).filter(({ length }) => length >= minLength)
  console.log(`  ${`${what}:`.padEnd(36)} ${percent(await share(made, isRefused))}`)
}
