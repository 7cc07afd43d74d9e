import { Secret } from 'otpauth'

/** Shorter ones are guessed, RFC 4226 §4 (which asks for 16); longer ones than this no app has. */
const [leastBytes, mostBytes] = [10, 64]

export const toBase32 = (bytes: Uint8Array): string => new Secret({ buffer: Uint8Array.from(bytes).buffer }).base32

/** The secret of an authenticator app as it is stored. @returns undefined for what is no base32, or of an odd length */
export function readTotpSecret(text: string): string | undefined {
  const letters = text.replace(/[\s=-]/g, '').toUpperCase()
  if (!/^[A-Z2-7]+$/.test(letters)) return undefined
  const { bytes, base32 } = Secret.fromBase32(letters)
  return bytes.length >= leastBytes && bytes.length <= mostBytes ? base32 : undefined
}
