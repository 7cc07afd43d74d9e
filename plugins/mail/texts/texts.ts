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
export const facts = ['username', 'at', 'how', 'what', 'left', 'device', 'address'] as const
export type Fact = (typeof facts)[number]

/** How something was changed: the values of the fact `how`. */
export const ways = ['changed', 'reset', 'set'] as const
export type Way = (typeof ways)[number]

/** What has become of the second factors of an account: the values of the fact `what`. */
export const factorChanges = [
  'totp_added',
  'webauthn_added',
  'totp_removed',
  'webauthn_removed',
  'recovery_code_removed',
  'codes_made',
  'code_used',
  'reset',
] as const
export type FactorChange = (typeof factorChanges)[number]

/** Everything that is said in one language. */
export interface Texts {
  /** BCP 47, for dates and lengths of time */
  language: string
  /** in which times are told, and what it is called: mails know no time zone of their reader */
  zone: { id: string; name: string }
  facts: Record<Fact, string>
  ways: Record<Way, string>
  factorChanges: Record<FactorChange, string>
  mails: Record<MailKind, MailText>
}
