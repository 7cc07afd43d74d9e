import { Type } from '@fastify/type-provider-typebox'
import { parseSince, sinceRule } from '../../config/durations.ts'
import { Refusal } from '../../errors.ts'

/** A time in a query string, for `readTime`. @param what it is the time of, as the beginning of a sentence */
export const TimeQuery = (what: string) =>
  Type.Optional(
    Type.String({
      minLength: 1,
      description: `${what}: RFC 3339, a date in UTC, or how long ago as \`90s\`, \`10m\`, \`12h\` or \`30d\``,
      examples: ['2026-11-21T09:00:00Z'],
    }),
  )

/**
 * Reads a time that came in a member of a request.
 *
 * @returns milliseconds since the epoch
 * @throws {Refusal} 400 for any other text
 */
export function readTime(text: string, now: number, member: string): number {
  const time = parseSince(text, now)
  if (time !== undefined) return time
  const errors = [{ pointer: `/${member}`, detail: sinceRule }]
  throw new Refusal('invalid_request', { detail: `The ${member} ${sinceRule}`, errors })
}
