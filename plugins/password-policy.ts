import { dictionary } from '@zxcvbn-ts/language-common'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Refusal } from '../errors.ts'

declare module 'fastify' {
  interface FastifyInstance {
    passwordPolicy: ReturnType<typeof createPasswordPolicy>
  }
}

const mostCharacters = 256

/**
 * Which new passwords are taken, by NIST SP 800-63B-4 §3.1.1.2: a least length, no rules of composition, nothing that is
 * tried first. The list is in the package; no password leaves the process.
 */
function createPasswordPolicy({ config }: FastifyInstance) {
  const leastCharacters = config.AUTH_PASSWORD_MIN
  const common = new Set<string>(dictionary['passwords-common'])

  /** Common as it is, or a common one over and over: `passwordpassword`, `123456789012345`. */
  function isCommon(password: string): boolean {
    const text = password.toLowerCase()
    const unit = text.slice(0, periodOf(text))
    return common.has(text) || (unit.length >= 4 && common.has(unit))
  }

  return {
    /**
     * @param password after NFC; counted in code points
     * @param nameKey the mapped username
     * @param pointer of the member that it came in
     * @throws {Refusal} 400 `invalid_request` that says why
     */
    check(password: string, nameKey: string, pointer: string): void {
      const refuse = (detail: string) => {
        throw new Refusal('invalid_request', { detail: `The password ${detail}`, errors: [{ pointer, detail }] })
      }
      const characters = [...password].length
      if (characters < leastCharacters) refuse(`must have at least ${leastCharacters} characters`)
      if (characters > mostCharacters) refuse(`must have at most ${mostCharacters} characters`)
      if (password.normalize('NFKC').toLowerCase().replaceAll(nameKey, '') === '') refuse('must not be the username or repeats of it')
      if (isCommon(password)) refuse('is one of the common and breached ones that attackers try first')
    },
  }
}

/** The least number of characters after which a text repeats itself, the last time perhaps not to its end. */
function periodOf(text: string): number {
  for (let period = 1; period < text.length; period += 1) {
    if (text.startsWith(text.slice(period))) return period
  }
  return text.length
}

export default fp(
  async (app: FastifyInstance) => {
    app.decorate('passwordPolicy', createPasswordPolicy(app))
  },
  { name: 'password-policy' },
)
