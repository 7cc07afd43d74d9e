import type { Locale } from '../domain/user.ts'
import { type Html, html } from './html.ts'

/*
 * When something was. A page without script does not know the time zone of who reads it: how long ago needs none, and a
 * time of day says that it is UTC.
 */

const units = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['week', 604_800],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
] as const

const known = new Map<Locale, { ago: Intl.RelativeTimeFormat; moment: Intl.DateTimeFormat }>()

/** They take a millisecond to make. */
function formats(locale: Locale) {
  const made = known.get(locale) ?? {
    ago: new Intl.RelativeTimeFormat(locale, { numeric: 'auto' }),
    moment: new Intl.DateTimeFormat(locale, {
      dateStyle: 'medium',
      timeStyle: 'short',
      hourCycle: 'h23',
      timeZone: 'UTC',
    }),
  }
  known.set(locale, made)
  return made
}

const time = (at: number, text: string): Html => html`<time datetime="${new Date(at).toISOString()}">${text}</time>`

/** How long ago something was, such as `3 hours ago`. @param at milliseconds since the epoch */
export function ago(locale: Locale, at: number, now: number): Html {
  const seconds = Math.max(0, (now - at) / 1000)
  const [unit, length] = units.find(([, length]) => seconds >= length) ?? ['second', 1]
  return time(at, formats(locale).ago.format(-Math.floor(seconds / length), unit))
}

/** A day and a time of it, in UTC. */
export const moment = (locale: Locale, at: number): Html => time(at, formats(locale).moment.format(at))
