import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { RecordBounds, RecordKey, RecordTaking, ShortRecord } from '../../domain/record.ts'

/** What the records of a kind have in common. */
export interface RecordKind {
  /** Before each secret: people, and scanners for leaked secrets, see what they have found. */
  prefix: `lk${string}_`
  ttlSeconds: number
  bounds: RecordBounds
  /** at which a record is gone */
  mostMisses?: number
  /** Whether the data is secret too: sealed under AUTH_SECRET, it does not open in another record. */
  isSealed?: boolean
}

/** What sealed data is bound to. */
export const recordContext = (kind: string, id: string) => `record ${kind} ${id}`

/** A record and its data. */
export interface Opened {
  data: unknown
  record: ShortRecord
}

const secretBytes = 32

/**
 * Short-lived records: each a secret of 256 random bits, given out once, of which the store has the SHA-256.
 *
 * A feature hands in the closed table of its kinds, whose names no other has. What takes a record and acts on it in one
 * step passes `taking` on to the method of the store that acts.
 */
export function createRecords<Kinds extends Record<string, RecordKind>>(
  { store, secrets, now }: Pick<FastifyInstance, 'store' | 'secrets' | 'now'>,
  kinds: Kinds,
) {
  type Kind = keyof Kinds & string
  const kindOf = (kind: Kind): RecordKind => kinds[kind] as RecordKind

  function encode(kind: Kind, id: string, data: unknown): string {
    const text = JSON.stringify(data)
    return kindOf(kind).isSealed ? secrets.seal(Buffer.from(text), recordContext(kind, id)).toString('base64url') : text
  }
  /** @returns undefined where it was sealed under a secret that is gone */
  function open(kind: Kind, record: ShortRecord | undefined): Opened | undefined {
    if (!record || record.spentAt !== undefined || !kindOf(kind).isSealed)
      return record && { record, data: record.data === '' ? undefined : JSON.parse(record.data) }
    const opened = secrets.open(Buffer.from(record.data, 'base64url'), recordContext(kind, record.id))
    return opened && { record, data: JSON.parse(opened.plaintext.toString()) }
  }

  /** The id of the record of a secret. Text that is none of the kind is the id of nothing. */
  const idOf = (kind: Kind, secret: string) =>
    secret.startsWith(kindOf(kind).prefix) ? createHash('sha256').update(secret).digest('base64url') : 'none'
  const keyOf = (kind: Kind, secret: string): RecordKey => ({ kind, id: idOf(kind, secret), now: now() })
  const taking = (kind: Kind, secret: string, keep?: RecordTaking['keep']): RecordTaking => ({
    ...keyOf(kind, secret),
    ...(keep && { keep }),
  })

  return {
    /**
     * Makes a record.
     *
     * @param owner the id of a user or client, or a MAC @param source the network that asks @param data whatever JSON
     * can say
     * @returns the secret, which nothing repeats, and the id, which names the record without it; undefined over the
     * bounds
     */
    async issue(
      kind: Kind,
      { owner, source, data }: { owner: string; source: string; data: unknown },
    ): Promise<{ secret: string; id: string; expiresAt: number } | undefined> {
      const { prefix, ttlSeconds, bounds } = kindOf(kind)
      const secret = prefix + randomBytes(secretBytes).toString('base64url')
      const id = idOf(kind, secret)
      const createdAt = now()
      const expiresAt = createdAt + ttlSeconds * 1000
      const times = { createdAt, expiresAt, misses: 0, version: 1 }
      const record = { id, kind, owner, source, data: encode(kind, id, data), ...times }
      return (await store.issueRecord(record, bounds)) ? { secret, id, expiresAt } : undefined
    },

    /**
     * What a method of the store takes in its own step. @param keep what it gives, until when a second use is to be
     * seen
     */
    taking,
    /** Takes a record: one of all who present its secret has it. */
    take: async (kind: Kind, secret: string, keep?: RecordTaking['keep']): Promise<Opened | undefined> =>
      open(kind, await store.takeRecord(taking(kind, secret, keep))),
    /** Looks at a record, also at one that is spent: then `record.gave` says what it was taken for. */
    find: async (kind: Kind, secret: string): Promise<Opened | undefined> =>
      open(kind, await store.findRecord(keyOf(kind, secret))),
    /** Counts a wrong guess at what belongs to the record of an id. @returns whether the record is still good */
    async miss(kind: Kind, id: string): Promise<boolean> {
      const { mostMisses = Number.POSITIVE_INFINITY } = kindOf(kind)
      const most = Math.min(mostMisses, Number.MAX_SAFE_INTEGER)
      const misses = await store.missRecord({ kind, id, now: now() }, most)
      return misses !== undefined && misses < most
    },
    /** Ends the records of an owner that are not spent. */
    end: (owner: string, of: Kind[]): Promise<number> => store.endRecords(owner, of),
  }
}
