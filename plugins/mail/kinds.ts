import type { RecordKind } from '../records/records.ts'

/** What the records of mails with a link have in common, beside what all records have. */
interface Link extends Omit<RecordKind, 'isSealed'> {
  /** of the page that the link opens */
  path: string
  /** of its query */
  parameter: 'token' | 'invitation'
  /** whether there are eight digits, too, for who reads the mail on another device */
  hasCode: boolean
}

const [minute, day] = [60, 86_400]
/** The network's bound is that of what may be asked for, see `limits.ts`; this one keeps the store small without it. */
const perSource = 1_000
const one = { perOwner: 1, perSource }
const coded = { parameter: 'token', hasCode: true, mostMisses: 5 } as const
const uncoded = { parameter: 'token', hasCode: false } as const

/**
 * Mails with a link. A new one ends the one before, but for the way back to an old address: whoever changes the address
 * twice must not take it away.
 */
export const links = {
  verify: { prefix: 'lkv_', path: '/verify-email', ttlSeconds: day, bounds: one, ...coded },
  change: { prefix: 'lkm_', path: '/verify-email', ttlSeconds: 15 * minute, bounds: one, ...coded },
  reset: { prefix: 'lkp_', path: '/reset', ttlSeconds: 15 * minute, bounds: one, ...coded },
  undo: { prefix: 'lku_', path: '/undo-email', ttlSeconds: 7 * day, bounds: { perOwner: 20, perSource }, ...uncoded },
  invitation: {
    ...{ prefix: 'lki_', path: '/sign-up', ttlSeconds: 7 * day },
    ...{ ...uncoded, parameter: 'invitation', bounds: { perOwner: 1, perSource: 100_000 } },
  },
} as const satisfies Record<string, Link>

export type LinkKind = keyof typeof links
export const linkKinds = Object.keys(links) as LinkKind[]

/**
 * They end with a new password and with another address. A way back does not: whoever has stolen a password would end
 * it so.
 */
export const endingWithPassword = ['verify', 'change', 'reset'] as const satisfies LinkKind[]

export const linkOf = (kind: LinkKind): Link => links[kind]

/** Mails without a link: that something has happened. */
export const noticeKinds = [
  'address_taken',
  'sign_in',
  'password_changed',
  'email_changed',
  'refresh_reused',
  'factor_changed',
] as const
export type NoticeKind = (typeof noticeKinds)[number]

export type MailKind = LinkKind | NoticeKind
