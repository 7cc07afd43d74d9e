import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Check, checked } from '../../domain/checks.ts'
import { Refusal } from '../../errors.ts'
import { explain, fold, periodOf } from './password-guesses.ts'
import { readCommonPasswords } from './password-list.ts'
import type { Kind, Knowledge } from './password-pieces.ts'

declare module 'fastify' {
  interface FastifyInstance {
    passwordPolicy: ReturnType<typeof createPasswordPolicy>
  }
}

const maxCharacters = 256
/**
 * Bits that make a password strong. The throttle lets an attacker try far fewer guesses, and with a stolen hash each
 * guess is expensive. Passwords shorter than 14 characters, if the operator allows them, cannot have as many without
 * rules of composition.
 */
const strongBits = { max: 28, perCharacter: 2 }
/** Passwords that repeat a piece of up to this many characters are refused, whatever the piece. */
const shortPiece = 5
/** Shorter parts of a name occur in every other word. */
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

/** Why a new password is refused. */
export type PasswordProblem = Kind | 'shorter' | 'longer'

/** Which problem a refusal of {@link createPasswordPolicy} is about, for pages in other languages. */
export function passwordProblemOf({ checks: [failed] }: Refusal): PasswordProblem {
  if (failed?.name === 'password_length') return 'shorter'
  if (failed?.seen === 'longer') return 'longer'
  return (Object.keys(words) as Kind[]).find((kind) => words[kind] === failed?.seen) ?? 'unexplained'
}

/**
 * Decides which new passwords are accepted, by NIST SP 800-63B-4 §3.1.1.2: a minimum length, no rules of composition,
 * and none of the passwords that attackers try first, nor variations of them. No password leaves the process.
 */
export function createPasswordPolicy({ config }: Pick<FastifyInstance, 'config'>) {
  const leastCharacters = config.AUTH_PASSWORD_MIN
  const ofService = namesIn(`latchkey ${new URL(config.AUTH_ISSUER).hostname}`)

  /** @returns what makes the password too easy to guess; undefined for a strong one */
  async function weaknessOf(password: string, nameKey: string): Promise<Kind | undefined> {
    const text = fold(password)
    if (text !== '' && text.replaceAll(fold(nameKey), '') === '') return 'name'
    if (periodOf(text) <= Math.min(shortPiece, text.length / 2)) return 'repeat'
    const names: Knowledge['names'] = new Map([
      ...ofService.map((name) => [name, 'service'] as const),
      ...namesIn(nameKey).map((name) => [name, 'name'] as const),
    ])
    const enough = Math.min(strongBits.max, strongBits.perCharacter * text.length)
    const { bits, kind } = explain(password, { ranks: await readCommonPasswords(), names }, enough)
    return bits < enough ? kind : undefined
  }

  return {
    /**
     * Accepts a new password, or refuses it.
     *
     * @param password after NFC; its length is counted in code points
     * @param nameKey the mapped username
     * @param pointer JSON pointer of the member that holds the password
     * @throws {Refusal} 400 `invalid_request` that says why
     */
    async check(password: string, nameKey: string, pointer: string): Promise<void> {
      const refuse = (why: string, failed: Check) => {
        const detail = `${why}; ${advice}`
        const errors = [{ pointer, detail }]
        throw new Refusal('invalid_request', { detail: `The password ${detail}`, errors, checks: [failed] })
      }
      const characters = [...password].length
      // How many it has is nobody's business.
      if (characters < leastCharacters)
        refuse(`must have at least ${leastCharacters} characters`, checked('password_length', 'fewer', leastCharacters))
      if (characters > maxCharacters)
        refuse(`must have at most ${maxCharacters} characters`, checked('password_policy', 'longer', maxCharacters))
      const weakness = await weaknessOf(password, nameKey)
      if (weakness) refuse(words[weakness], checked('password_policy', words[weakness]))
    },
  }
}

/** A name and its parts: `ada.lovelace85@example.com` and ada, lovelace, example, com. */
const namesIn = (text: string): string[] =>
  [text, ...(text.match(/\p{L}+|\p{N}+/gu) ?? [])].map(fold).filter(({ length }) => length >= shortestName)

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('passwordPolicy', createPasswordPolicy(app))
  },
  { name: 'password-policy' },
)
