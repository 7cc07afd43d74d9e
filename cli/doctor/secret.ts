import { dirname, resolve } from 'node:path'
import { type Check, failed, NotKnown, ok, skipped, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** Words of examples, and of those who meant to come back. */
const placeholder =
  /change.?(me|it)|placeholder|example|your.?secret|secret.?(key|goes|here)|passw[o0]rd|insecure|not.?for.?production|test.?secret|12345678|qwerty|latchkey|openssl/i
/**
 * Bits: below the first it can be guessed by whoever has a copy of the store, below the second one day. Of the 128 bits of
 * 32 random hex digits the estimate shows 93 and more.
 */
const leastBits = { failed: 64, warning: 88 }
const make = 'change it to what "openssl rand -base64 48" prints: docs/keys.md, Changing the secret'

/**
 * What is random in a secret, in bits: an estimate from above. A text that a person wrote has less than it seems.
 */
export function bitsOf(secret: string): number {
  const piece = /^(.+?)\1+$/.exec(secret)?.[1] ?? secret
  const letters = [...piece]
  const steps = letters.slice(1).map((letter, i) => (letter.codePointAt(0) ?? 0) - (letters[i]?.codePointAt(0) ?? 0))
  const written = /^[a-z]+([ _.-][a-z]+)+[.!?]?$/i.test(piece) ? piece.split(/[ _.-]/).length * bitsOfWord : Infinity
  return Math.min(perSymbol(letters) * letters.length, perSymbol(steps) * letters.length, written)
}
/** Of a word from a list of some two thousand. */
const bitsOfWord = 11

function perSymbol(symbols: unknown[]): number {
  const counts = new Map<unknown, number>()
  for (const symbol of symbols) counts.set(symbol, (counts.get(symbol) ?? 0) + 1)
  return [...counts.values()].reduce((sum, n) => sum - (n / symbols.length) * Math.log2(n / symbols.length), 0)
}

/** AUTH_SECRET, on which all sessions and keys stand. */
export const secret: Check<Facts>[] = [
  {
    id: 'secret',
    find({ secret }) {
      const { text, from } = given(secret())
      if (from === 'made') return ok('made at random by the first start')
      if (placeholder.test(text)) return failed('it is made of words that stand in examples', 'AUTH_SECRET', make)
      const bits = Math.floor(bitsOf(text))
      const seen = `${[...text].length} characters, at most ${bits} bits of chance`
      if (bits < leastBits.failed) return failed(seen, 'AUTH_SECRET', make)
      if (bits < leastBits.warning) return warning(seen, 'AUTH_SECRET', make)
      return ok(`${[...text].length} characters, and it looks random`)
    },
  },
  {
    id: 'secret.place',
    find({ secret, config }) {
      const { from, path = '' } = given(secret())
      const { AUTH_DATA_DIR: dir, DATABASE_URL: url } = config()
      if (from === 'AUTH_SECRET') return ok('in AUTH_SECRET', 'AUTH_SECRET_FILE would keep it out of the environment')
      if (!url && dirname(resolve(path)) === resolve(dir))
        return ok(`in ${path}, beside what it seals`, 'keep backups of the two apart')
      return ok(`in ${path}`)
    },
  },
  {
    id: 'secret.previous',
    find({ config, secret }) {
      const { AUTH_SECRET_PREVIOUS: previous } = config()
      if (previous === undefined) return skipped('AUTH_SECRET_PREVIOUS is not set')
      if (previous === secret()?.text)
        return warning(
          'it is the same as AUTH_SECRET',
          'AUTH_SECRET_PREVIOUS',
          'set it to the one before, or remove it',
        )
      return ok('set, while sessions go over to AUTH_SECRET', 'latchkey secret status tells when it may go')
    },
  },
]

function given<T>(secret: T | undefined): T {
  if (secret === undefined) throw new NotKnown('there is none yet: the first start makes it')
  return secret
}
