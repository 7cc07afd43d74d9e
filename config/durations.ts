const secondsPerUnit: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** A length of time as settings and commands write it: `90`, `90s`, `10m`, `12h` or `30d`. */
export const durationPattern = '^[1-9][0-9]{0,8}[smhd]?$'
const duration = new RegExp(durationPattern)

/** A length of time that names its unit wherever it is used. */
export interface Duration {
  readonly seconds: number
  readonly ms: number
}

/**
 * Reads a length of time.
 *
 * @param text as `durationPattern` has it; a number alone is seconds
 * @returns undefined for any other text
 */
export function parseDuration(text: string): Duration | undefined {
  if (!duration.test(text)) return undefined
  const seconds = Number.parseInt(text, 10) * (secondsPerUnit[text.at(-1) as string] ?? 1)
  return { seconds, ms: seconds * 1000 }
}

const time = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/i

/** What `parseSince` takes, as an error says it. */
export const sinceRule = 'is a duration such as 90s, 10m, 12h or 30d, or a time such as 2026-11-26T09:00:00Z'

/**
 * Reads from when on.
 *
 * @param text a length of time, which ends now, or a time of RFC 3339; a date is its beginning in UTC
 * @returns milliseconds since the epoch; undefined for any other text, and for a day that no calendar has
 */
export function parseSince(text: string, now: number): number | undefined {
  const ago = parseDuration(text)
  if (ago) return Math.max(0, now - ago.ms)
  const at = time.test(text) ? Date.parse(text.toUpperCase()) : Number.NaN
  const day = text.slice(0, 10)
  // Date.parse takes the 30th of February for a day in March.
  const isDay = at >= 0 && new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)
  return isDay ? at : undefined
}
