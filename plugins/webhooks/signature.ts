import { createHmac } from 'node:crypto'

/*
 * Standard Webhooks 1.0: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
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

/**
 * The header fields that sign a message.
 *
 * @param secrets a signature by each: a receiver that knows one of them is content, while they are changed
 * @param message its `id` is the same whenever it is sent, and `at` the time of this attempt, milliseconds since the epoch
 */
export function sign(
  secrets: Buffer[],
  { id, at, body }: { id: string; at: number; body: string },
): Record<'webhook-id' | 'webhook-timestamp' | 'webhook-signature', string> {
  const timestamp = String(Math.floor(at / 1000))
  const signatures = secrets.map(
    (secret) => `v1,${createHmac('sha256', secret).update(`${id}.${timestamp}.${body}`).digest('base64')}`,
  )
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') }
}
