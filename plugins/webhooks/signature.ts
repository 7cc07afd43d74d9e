import { createHmac } from 'node:crypto'

/*
 * Standard Webhooks 1.0: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */

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
