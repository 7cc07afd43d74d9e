import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { isLive, type RecordBounds, type RecordKey, type RecordTaking, type ShortRecord } from '../../domain/record.ts'

/** What the records of a kind have in common. */
export interface RecordKind {
  /** Before each secret: people, and scanners for leaked secrets, see what they have found. */
  prefix: `lk${string}_`
  ttlSeconds: number
  bounds: RecordBounds
  /** of guesses at what belongs to a record, such as a short code; with them it is dead, and so is its secret */
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

/** A record that may be taken, and how: by whatever method of the store acts in the same step. */
export interface Presented extends Opened {
  taking: RecordTaking
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
  const mostMissesOf = (kind: Kind) => kindOf(kind).mostMisses ?? Number.MAX_SAFE_INTEGER - 1

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
     * can say, or a function of the secret and id that makes it @param dueAt when something is to be sent for it
     * @returns the secret, which nothing repeats, and the id, which names the record without it; undefined over the
     * bounds
     */
    async issue(
      kind: Kind,
      { owner, source, data, dueAt }: { owner: string; source: string; data: unknown; dueAt?: number },
    ): Promise<{ secret: string; id: string; expiresAt: number } | undefined> {
      const { prefix, ttlSeconds, bounds } = kindOf(kind)
      const secret = prefix + randomBytes(secretBytes).toString('base64url')
      const id = idOf(kind, secret)
      const createdAt = now()
      const expiresAt = createdAt + ttlSeconds * 1000
      const times = { createdAt, expiresAt, misses: 0, version: 1, ...(dueAt !== undefined && { dueAt }) }
      const content = encode(kind, id, typeof data === 'function' ? data(secret, id) : data)
      const record = { id, kind, owner, source, data: content, ...times }
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
    /** A record that whoever has its secret may take; undefined where it is dead, too. */
    async present(kind: Kind, secret: string): Promise<Presented | undefined> {
      const key = keyOf(kind, secret)
      const opened = open(kind, await store.findRecord(key))
      const isGood = opened && isLive(opened.record, key.now) && opened.record.misses < mostMissesOf(kind)
      return isGood ? { ...opened, taking: key } : undefined
    },
    /** A record by its id: for whoever has shown otherwise that it is theirs, and has nothing to guess at. */
    async name(kind: Kind, id: string): Promise<Presented | undefined> {
      const key = { kind, id, now: now() }
      const opened = open(kind, await store.findRecord(key))
      return opened && isLive(opened.record, key.now) ? { ...opened, taking: key } : undefined
    },
    /** Counts a miss at a record that was named; the last ends it. */
    miss: (kind: Kind, id: string) => store.missRecord({ kind, id, now: now() }, mostMissesOf(kind)),
    /**
     * Judges a guess at what belongs to the record of an id, such as a short code. It is counted before it is compared:
     * many at once are as many guesses as one after another.
     *
     * @returns the record, where the guess is right and among the first `mostMisses`
     */
    async guess(kind: Kind, id: string, isRight: (data: unknown) => boolean): Promise<Presented | undefined> {
      const key = { kind, id, now: now() }
      const opened = open(kind, await store.findRecord(key))
      if (!opened) return undefined
      const misses = await store.missRecord(key, mostMissesOf(kind) + 1)
      const isAllowed = misses !== undefined && misses <= mostMissesOf(kind)
      return isAllowed && isRight(opened.data) ? { ...opened, taking: key } : undefined
    },
    /** Ends the records of an owner that are not spent. */
    end: (owner: string, of: Kind[]): Promise<number> => store.endRecords(owner, of),
  }
}
