import type { MailKind } from '../kinds.ts'

/**
 * The words of one mail. A paragraph is a sentence or some, or a placeholder alone: `{link}`, `{code}`, `{facts}`.
 * Within words there are `{service}`, `{life}` and `{until}` only: what a stranger can choose is in the facts, a line
 * for each, so that it never reads like words of ours.
 */
export interface MailText {
  subject: string
  /** on the button that is the link; only where there is one */
  action?: string
  paragraphs: readonly string[]
}

/** What a mail may tell of what has happened, in the order in which it does; missing facts are left out. */
export const facts = ['username', 'at', 'how', 'device', 'address'] as const
export type Fact = (typeof facts)[number]

/** How something was changed: the values of the fact `how`. */
export const ways = ['changed', 'reset', 'set'] as const
export type Way = (typeof ways)[number]

/** Everything that is said in one language. */
export interface Texts {
  /** BCP 47, for dates and lengths of time */
  language: string
  /** in which times are told, and what it is called: mails know no time zone of their reader */
  zone: { id: string; name: string }
  facts: Record<Fact, string>
  ways: Record<Way, string>
  mails: Record<MailKind, MailText>
}
