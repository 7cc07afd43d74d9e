import type { Locale } from '../../../domain/user.ts'
import { linkKinds, linkOf, type MailKind } from '../kinds.ts'
import { en } from './en.ts'
import { ko } from './ko.ts'
import { type Fact, factorChanges, facts, type Texts, ways } from './texts.ts'

export const texts: Record<Locale, Texts> = { en, ko }

/** What a mail is made of. */
export interface MailParts {
  kind: MailKind
  locale: Locale
  /** who writes */
  service: string
  link?: string
  /** eight digits */
  code?: string
  /** of link and code, milliseconds since the epoch */
  expiresAt?: number
  /** values of the {@link facts}: `at` in ISO 8601, `how` one of `ways`, `what` of `factorChanges`; others are not told */
  about: Record<string, string>
}

export interface MailContent {
  subject: string
  text: string
  html: string
}

const longestFact = 256
/** They break lines, show nothing, or turn the text around that follows (UTS #55). */
const unseen = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu

/**
 * Writes a mail, as text and as simple HTML that says the same. Whatever is inserted is one line of visible text, and
 * is escaped in the HTML. The subject has nothing that belongs to a user.
 */
export function compose({ kind, locale, service, link = '', code = '', expiresAt, about }: MailParts): MailContent {
  const words = texts[locale]
  const { subject, action = '', paragraphs } = words.mails[kind]
  const ofLink = linkKinds.find((one) => one === kind)
  const values: Record<string, string> = {
    service: oneLine(service),
    life: ofLink ? lengthOf(words, linkOf(ofLink).ttlSeconds) : '',
    until: expiresAt === undefined ? '' : timeOf(words, expiresAt),
  }
  const told = factsOf(words, about)

  const text: string[] = []
  const html: string[] = []
  for (const paragraph of paragraphs) {
    if (paragraph === '{link}') {
      text.push(link)
      html.push(`<p><a href="${escapeHtml(link)}" style="${buttonStyle}">${escapeHtml(action)}</a></p>`)
    } else if (paragraph === '{code}') {
      text.push(code)
      html.push(`<p style="${codeStyle}">${escapeHtml(code)}</p>`)
    } else if (paragraph !== '{facts}') {
      text.push(fill(paragraph, values))
      html.push(`<p>${escapeHtml(fill(paragraph, values))}</p>`)
    } else if (told.length > 0) {
      text.push(told.map(([label, value]) => `${label}: ${value}`).join('\n'))
      // Isolated, for a name may be written from right to left.
      html.push(`<p>${told.map(([label, value]) => `${label}: <bdi>${escapeHtml(value)}</bdi>`).join('<br>\n')}</p>`)
    }
  }
  const title = fill(subject, values)
  return { subject: title, text: `${text.join('\n\n')}\n`, html: pageOf(words.language, title, html) }
}

/** @returns label and value of what is told, in its order */
function factsOf(words: Texts, about: Record<string, string>): [label: string, value: string][] {
  return facts.flatMap((fact) => {
    const shown = shownOf(words, fact, oneLine(about[fact] ?? ''))
    return shown ? [[words.facts[fact], shown] as [string, string]] : []
  })
}

/** @returns an empty text for what is none of the values that a fact has */
function shownOf(words: Texts, fact: Fact, value: string): string {
  if (fact === 'at') return timeOf(words, Date.parse(value))
  const way = ways.find((one) => one === value)
  if (fact === 'how') return way ? words.ways[way] : ''
  const change = factorChanges.find((one) => one === value)
  if (fact === 'what') return change ? words.factorChanges[change] : ''
  return value
}

/** Puts values in the place of the names in braces; what was put in is not read again. */
const fill = (template: string, values: Record<string, string>): string =>
  template.replace(/\{(\w+)\}/g, (_, name: string) => values[name] ?? '')

const oneLine = (value: string): string => [...value.replace(unseen, ' ').trim()].slice(0, longestFact).join('')

/** @returns an empty text for what is no time */
function timeOf({ language, zone }: Texts, at: number): string {
  if (Number.isNaN(at)) return ''
  const format = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat(language, { ...options, timeZone: zone.id }).format(at)
  const time = format({ hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
  return `${format({ dateStyle: 'long' })} ${time} (${zone.name})`
}

/** Such as 15 minutes, 24 hours, 7 days. */
function lengthOf({ language }: Texts, seconds: number): string {
  const [count, unit] =
    seconds >= 2 * 86_400
      ? [seconds / 86_400, 'day']
      : seconds >= 3600
        ? [seconds / 3600, 'hour']
        : [seconds / 60, 'minute']
  return new Intl.NumberFormat(language, { style: 'unit', unit: unit as string, unitDisplay: 'long' }).format(
    count as number,
  )
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character] as string)

// Korean breaks between words, and what is longer than a line anywhere.
const bodyStyle =
  'max-width: 36em; margin: 1em auto; padding: 0 1em; font: 16px/1.5 system-ui, sans-serif; ' +
  'word-break: keep-all; overflow-wrap: anywhere'
const buttonStyle =
  'display: inline-block; padding: 0.6em 1.2em; border-radius: 0.4em; text-decoration: none; ' +
  'background: #1f4fd8; color: #ffffff'
const codeStyle = 'font: bold 1.6em ui-monospace, monospace; letter-spacing: 0.05em'

/** Without a foreign resource, and legible on a light and on a dark ground. */
const pageOf = (language: string, title: string, paragraphs: string[]): string => `<!doctype html>
<html lang="${language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
</head>
<body style="${bodyStyle}">
${paragraphs.join('\n')}
</body>
</html>
`
