import { createHash } from 'node:crypto'
import { Secret } from 'otpauth'

const codes = 10
/** Too many to guess, so that a plain hash keeps them: 80 bits are the 16 characters of a code. */
const codeBytes = 10

/** Makes a set of recovery codes. @returns ten, in base32, as `ABCD-EFGH-IJKL-MNOP` */
export const makeRecoveryCodes = (): string[] =>
  Array.from({ length: codes }, () => (new Secret({ size: codeBytes }).base32.match(/.{4}/g) ?? []).join('-'))

/**
 * What the store keeps of a recovery code. It is bound to its user, and to no secret of the service: the codes still work
 * when AUTH_SECRET has been changed, which is when somebody may need them.
 *
 * @param code as it was typed: case, spaces and dashes of any kind mean nothing
 * @returns base64url of the SHA-256
 */
export function hashRecoveryCode(userId: string, code: string): string {
  const bare = code.toUpperCase().replace(/[^A-Z2-7]/g, '')
  return createHash('sha256').update(`recovery code ${userId} ${bare}`).digest('base64url')
}
