import { Type } from '@fastify/type-provider-typebox'
import { parseDuration } from '../../config/durations.ts'
import { Refusal } from '../../errors.ts'

const date = '[0-9]{4}-[0-9]{2}-[0-9]{2}'
const timeOfDay = '[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?'

/** A time in a query string. @param what it is the time of, as the beginning of a sentence */
export const TimeQuery = (what: string) =>
  Type.Optional(
    Type.String({
      pattern: `^(${date}([Tt]${timeOfDay}([Zz]|[+-][0-9]{2}:[0-9]{2}))?|[1-9][0-9]{0,8}[smhd]?)$`,
      description: `${what}: RFC 3339, a date in UTC, or how long ago as \`90s\`, \`10m\`, \`12h\` or \`30d\``,
      examples: ['2026-11-21T09:00:00Z'],
    }),
  )

/**
 * Reads a time of a query string, which `TimeQuery` has let pass.
 *
 * @param member that it came in
 * @returns milliseconds since the epoch
 * @throws {Refusal} 400 for a time that no calendar has
 */
export function readTime(text: string, now: number, member: string): number {
  const ago = parseDuration(text)
  if (ago) return Math.max(0, now - ago.ms)
  const day = text.slice(0, 10)
  const time = Date.parse(text.toUpperCase())
  // Date.parse takes the 30th of February for a day in March.
  const isDay = new Date(Date.parse(`${day}T00:00:00Z`) || 0).toISOString().startsWith(day)
  if (!Number.isNaN(time) && isDay) return Math.max(0, time)
  const detail = 'is a time that no calendar has'
  throw new Refusal('invalid_request', { detail: `${member} ${detail}`, errors: [{ pointer: `/${member}`, detail }] })
}

export const sinceRule = 'is a duration such as 90s, 10m, 12h or 30d, or a time such as 2026-11-26T09:00:00Z'
const time = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/

/**
 * Reads from when on.
 *
 * @param text a duration, which ends now, or a time of RFC 3339; a date is its beginning in UTC
 * @returns milliseconds since the epoch; undefined for any other text
 */
export function parseSince(text: string, now: number): number | undefined {
  const duration = parseDuration(text)
  if (duration) return Math.max(0, now - duration.ms)
  const at = time.test(text) ? Date.parse(text) : Number.NaN
  return at >= 0 ? at : undefined
}
