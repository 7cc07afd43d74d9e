import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Refusal } from '../../errors.ts'
import { explain, fold, periodOf } from './password-guesses.ts'
import { readCommonPasswords } from './password-list.ts'
import type { Kind, Knowledge } from './password-pieces.ts'

declare module 'fastify' {
  interface FastifyInstance {
    passwordPolicy: ReturnType<typeof createPasswordPolicy>
  }
}

const mostCharacters = 256
/**
 * A guesser who is slowed down gets far fewer tries than this, and a stolen hash costs each of them dearly. Shorter passwords,
 * where the operator takes them, cannot have as much without rules of composition.
 */
const leastBits = { atMost: 28, aCharacter: 2 }
/** Repeats of so few characters are refused, whatever they are. */
const shortPiece = 5
/** Shorter parts of a name are in every other word. */
const shortestName = 3

const words: Record<Kind, string> = {
  name: 'must not be the username, or little more than it',
  service: 'must not be the name of this service, or little more than it',
  common: 'is one of the common and breached ones that attackers try first, or little more than one or two of them',
  walk: 'must not be a row of the keyboard, of digits or of letters, or little more',
  repeat: 'must not be one character or a short piece over and over',
  unexplained: 'is too easy to guess',
}
const advice = 'a few words in a row will do'

/**
 * Which new passwords are taken, by NIST SP 800-63B-4 §3.1.1.2: a least length, no rules of composition, and nothing that is
 * tried first. That is judged by what the list means at this length: an entry with a year is no other password. No password
 * leaves the process.
 */
export function createPasswordPolicy({ config }: Pick<FastifyInstance, 'config'>) {
  const leastCharacters = config.AUTH_PASSWORD_MIN
  const ofService = namesIn(`latchkey ${new URL(config.AUTH_ISSUER).hostname}`)
  let ranks: Promise<Knowledge['ranks']> | undefined

  /** @returns what it is made of, where that is too easy to guess */
  async function weaknessOf(password: string, nameKey: string): Promise<Kind | undefined> {
    const text = fold(password)
    if (text !== '' && text.replaceAll(fold(nameKey), '') === '') return 'name'
    if (periodOf(text) <= Math.min(shortPiece, text.length / 2)) return 'repeat'
    ranks ??= readCommonPasswords().catch((error) => {
      ranks = undefined
      throw error
    })
    const names: Knowledge['names'] = new Map([
      ...ofService.map((name) => [name, 'service'] as const),
      ...namesIn(nameKey).map((name) => [name, 'name'] as const),
    ])
    const enough = Math.min(leastBits.atMost, leastBits.aCharacter * text.length)
    const { bits, kind } = explain(password, { ranks: await ranks, names }, enough)
    return bits < enough ? kind : undefined
  }

  return {
    /**
     * @param password after NFC; counted in code points
     * @param nameKey the mapped username
     * @param pointer of the member that it came in
     * @throws {Refusal} 400 `invalid_request` that says why
     */
    async check(password: string, nameKey: string, pointer: string): Promise<void> {
      const refuse = (why: string) => {
        const detail = `${why}; ${advice}`
        throw new Refusal('invalid_request', { detail: `The password ${detail}`, errors: [{ pointer, detail }] })
      }
      const characters = [...password].length
      if (characters < leastCharacters) refuse(`must have at least ${leastCharacters} characters`)
      if (characters > mostCharacters) refuse(`must have at most ${mostCharacters} characters`)
      const weakness = await weaknessOf(password, nameKey)
      if (weakness) refuse(words[weakness])
    },
  }
}

/** A name whole, and its parts: of `ada.lovelace85@example.com` ada, lovelace, example and com. */
const namesIn = (text: string): string[] =>
  [text, ...(text.match(/\p{L}+|\p{N}+/gu) ?? [])].map(fold).filter(({ length }) => length >= shortestName)

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('passwordPolicy', createPasswordPolicy(app))
  },
  { name: 'password-policy' },
)
