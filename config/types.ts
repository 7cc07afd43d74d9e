import { availableParallelism } from 'node:os'
import { Type } from '@sinclair/typebox'
import { type Duration, durationPattern, parseDuration } from './durations.ts'

/*
 * The types of settings. Each is a text with a pattern, and what it is decoded to; `expected` says in words what is
 * accepted.
 */

/** Of a text that the pattern of the schema has let through. */
const durationOf = (text: string) => parseDuration(text) as Duration

/** @param most what fits into a timer of Node (24 days) or the calendar, and makes sense */
export const DurationFrom = (least: string, most: string, options: { default: string; description: string }) =>
  Type.Transform(
    Type.String({
      pattern: durationPattern,
      expected: `a duration such as 90, 90s, 10m, 12h or 30d, from ${least} to ${most}`,
      isInRange: (text: string) =>
        durationOf(text).ms >= durationOf(least).ms && durationOf(text).ms <= durationOf(most).ms,
      ...options,
    }),
  )
    .Decode(durationOf)
    .Encode(({ seconds }) => `${seconds}s`)

export const WholeNumber = (least: number, most: number, options: { default?: string; description: string }) =>
  Type.Transform(
    Type.String({
      pattern: '^[0-9]{1,9}$',
      expected: `a whole number from ${least} to ${most}`,
      isInRange: (text: string) => Number(text) >= least && Number(text) <= most,
      ...options,
    }),
  )
    .Decode(Number)
    .Encode(String)

/** A number of processes; `auto` is one for each core. */
export const Workers = (most: number, options: { default: string; description: string }) =>
  Type.Transform(
    Type.String({
      pattern: '^(auto|[0-9]{1,9})$',
      expected: `a whole number from 1 to ${most}, or auto`,
      isInRange: (text: string) => text === 'auto' || (Number(text) >= 1 && Number(text) <= most),
      ...options,
    }),
  )
    .Decode((text) => (text === 'auto' ? Math.min(availableParallelism(), most) : Number(text)))
    .Encode(String)

export const OneOf = <const T extends string[]>(
  values: [...T],
  options: { default?: T[number]; description: string },
) =>
  Type.Unsafe<T[number]>(
    Type.Union(
      values.map((value) => Type.Literal(value)),
      { expected: values.map((value) => `"${value}"`).join(' or '), ...options },
    ),
  )

/** A switch, or the hosts for which it is on. */
export const SwitchOrHosts = (
  check: Check,
  options: { default: 'on' | 'off'; expected: string; description: string },
) =>
  Type.Transform(
    Type.String({
      pattern: '^[^,\\s]+( *, *[^,\\s]+)*$',
      isInRange: (text: string) => /^(on|off)$/.test(text) || !/(^|[ ,])(on|off)([ ,]|$)/i.test(text),
      check,
      isList: true,
      ...options,
    }),
  )
    .Decode((text): boolean | string[] => (text === 'on' || text === 'off' ? text === 'on' : membersOf(text)))
    .Encode((value) => (typeof value === 'boolean' ? (value ? 'on' : 'off') : value.join(',')))

/** @returns what is wrong with a text that fits the schema, or undefined */
export type Check = (text: string) => string | undefined

export const membersOf = (text: string) => text.split(',').map((member) => member.trim())

/** A comma-separated list of members without blanks, each checked on its own. */
export const ListOf = (check: Check, options: { expected: string; description: string }) =>
  Type.Transform(Type.String({ pattern: '^[^,\\s]+( *, *[^,\\s]+)*$', check, isList: true, ...options }))
    .Decode(membersOf)
    .Encode((list) => list.join(','))
