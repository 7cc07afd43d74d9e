import { availableParallelism } from 'node:os'
import { type Duration, durationPattern, parseDuration } from './durations.ts'

/*
 * The types of settings. Each is a text with a pattern, and what it is read as; `expected` says in words what is
 * accepted. (Not by TypeBox: its 300 files are a sixth of the CPU time of a start, and every command begins with this.)
 */

/** @returns what is wrong with a text that fits the pattern, or undefined */
export type Check = (text: string) => string | undefined

interface Details {
  description: string
  /** a setting without one may be missing */
  default?: string
  expected?: string
  /** never repeated in a message */
  secret?: true
  /** of the text, or of each member of a list */
  check?: Check
}

export interface Setting<Value = unknown> extends Details {
  pattern?: string
  minLength?: number
  /** all that is accepted */
  values?: readonly string[]
  isInRange?: (text: string) => boolean
  isList?: true
  /** reads a text that has been checked */
  read: (text: string) => Value
}

/** What the settings of a table are read as; those without a default may be missing. */
export type ValuesOf<S extends Record<string, Setting>> = {
  [N in keyof S as S[N] extends { default: string } ? N : never]: ReturnType<S[N]['read']>
} & {
  [N in keyof S as S[N] extends { default: string } ? never : N]?: ReturnType<S[N]['read']>
}

export const Text = <const D extends Details & { pattern?: string; minLength?: number }>(details: D) => ({
  ...details,
  read: (text: string) => text,
})

/** Of a text that the pattern has let through. */
const durationOf = (text: string) => parseDuration(text) as Duration

/** @param most what fits into a timer of Node (24 days) or the calendar, and makes sense */
export const DurationFrom = <const D extends Details>(least: string, most: string, details: D) => ({
  pattern: durationPattern,
  expected: `a duration such as 90, 90s, 10m, 12h or 30d, from ${least} to ${most}`,
  isInRange: (text: string) =>
    durationOf(text).ms >= durationOf(least).ms && durationOf(text).ms <= durationOf(most).ms,
  ...details,
  read: durationOf,
})

export const WholeNumber = <const D extends Details>(least: number, most: number, details: D) => ({
  pattern: '^[0-9]{1,9}$',
  expected: `a whole number from ${least} to ${most}`,
  isInRange: (text: string) => Number(text) >= least && Number(text) <= most,
  ...details,
  read: Number as (text: string) => number,
})

/** A number of processes; `auto` is one for each core. */
export const Workers = <const D extends Details>(most: number, details: D) => ({
  pattern: '^(auto|[0-9]{1,9})$',
  expected: `a whole number from 1 to ${most}, or auto`,
  isInRange: (text: string) => text === 'auto' || (Number(text) >= 1 && Number(text) <= most),
  ...details,
  read: (text: string) => (text === 'auto' ? Math.min(availableParallelism(), most) : Number(text)),
})

export const OneOf = <const V extends string, const D extends Details & { default?: NoInfer<V> }>(
  values: readonly V[],
  details: D,
) => ({
  values,
  expected: values.map((value) => `"${value}"`).join(' or '),
  ...details,
  read: (text: string) => text as V,
})

export const membersOf = (text: string) => text.split(',').map((member) => member.trim())

/** A comma-separated list of members without blanks, each checked on its own. */
export const ListOf = <const D extends Details>(check: Check, details: D) => ({
  pattern: '^[^,\\s]+( *, *[^,\\s]+)*$',
  check,
  isList: true as const,
  ...details,
  read: membersOf,
})
