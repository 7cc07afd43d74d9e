/**
 * Something that lives for minutes: a code, a link, a challenge, a pushed request, a device code. Its secret is 256
 * random bits, and the bearer of it may take the record once.
 */
export interface ShortRecord {
  /** SHA-256 of the secret, base64url. It names the record and cannot be presented in place of the secret. */
  id: string
  /** What it is for. A secret of one kind is unknown to every other. */
  kind: string
  /** The id of a user or client; of a name that nobody has, a MAC. */
  owner: string
  /** The network that it was asked for from. */
  source: string
  /** JSON, sealed by the caller where it is secret; empty once it is spent. */
  data: string
  createdAt: number
  expiresAt: number
  /** wrong guesses at what belongs to it, such as a short code */
  misses: number
  /** Rises with every change. */
  version: number
  /** When it was taken. Kept until it expires, so that a second use is seen. */
  spentAt?: number
  /** When something is to be sent for it next, such as a mail with its secret; never, where it is not there. */
  dueAt?: number
  /** What it was taken for, such as the id of a session: ended when a second use is seen (RFC 6749 §4.1.2). */
  gave?: string
}

/** Names a record at a time (milliseconds since the epoch): an expired one is as unknown as one of another kind. */
export interface RecordKey {
  kind: string
  id: string
  now: number
}

/** @property keep leaves what the record gave in its place, until a time */
export interface RecordTaking extends RecordKey {
  keep?: { gave: string; until: number }
}

/** Records of an owner that end together, whether they were used or not. */
export interface RecordsEnding {
  kinds: string[]
  now: number
  /** only those made since, milliseconds since the epoch; all, where it is not given */
  since?: number
}

/** Most live records of a kind. */
export interface RecordBounds {
  perOwner: number
  perSource: number
}

export const isLive = ({ spentAt, expiresAt }: ShortRecord, now: number): boolean =>
  spentAt === undefined && now < expiresAt

/**
 * What is left of a record that was taken: no data, and what it gave. Its creation is no later than that, or a sweep
 * that puts a time in the future right would take the life from it that it is kept for.
 */
export const spentRecord = (
  { dueAt: _, ...record }: ShortRecord,
  now: number,
  { gave, until }: { gave: string; until: number },
): ShortRecord => ({
  ...record,
  createdAt: Math.min(record.createdAt, now),
  data: '',
  version: record.version + 1,
  spentAt: now,
  gave,
  expiresAt: until,
})
