/*
 * The secrets of Standard Webhooks 1.0: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */

const prefix = 'whsec_'
/** Bytes of a secret, by the standard. */
const [leastBytes, mostBytes] = [24, 64]

/** What a secret has to look like, for whoever wrote another. */
export const expectedSecret = `${prefix} and ${leastBytes} to ${mostBytes} bytes in base64, from "echo ${prefix}$(openssl rand -base64 32)"`

/**
 * Reads a secret as both sides write it: `whsec_`, which may be left out, and base64.
 *
 * @returns its bytes; undefined for any other text
 */
export function readSecret(text: string): Buffer | undefined {
  const encoded = text.startsWith(prefix) ? text.slice(prefix.length) : text
  const bytes = Buffer.from(encoded, 'base64')
  // Node skips what is no base64, and takes base64url for it; receivers do not.
  const isExact = bytes.toString('base64').replace(/=+$/, '') === encoded.replace(/=+$/, '')
  return isExact && bytes.length >= leastBytes && bytes.length <= mostBytes ? bytes : undefined
}
