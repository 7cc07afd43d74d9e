import type { FastifyInstance } from 'fastify'
import type { Position } from '../../domain/webhook.ts'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'

/** As it is in the store. */
export interface Stored {
  position: Position
  /** rises with each change */
  version: number
}

const kind = 'webhook'
/** For good: whatever is in the store for less would begin anew. */
const lifeMs = 36_500 * 86_400_000

export type Positions = ReturnType<typeof createPositions>

/** Where each endpoint is, by its id. A change of one is a compare-and-set: of several at once, one is done. */
export function createPositions({ store, now }: Pick<FastifyInstance, 'store' | 'now'>) {
  const keyOf = (id: string) => ({ kind, id: `webhook-${id}`, now: now() })

  async function find(id: string): Promise<Stored | undefined> {
    const record = await store.findRecord(keyOf(id))
    return record && { position: JSON.parse(record.data), version: record.version }
  }
  async function replace(id: string, { version }: Stored, position: Position): Promise<Stored | undefined> {
    const isDone = await store.replaceRecord(keyOf(id), version, JSON.stringify(position))
    return isDone ? { position, version: version + 1 } : undefined
  }

  /** A new endpoint begins at now. */
  async function findOrMake(id: string): Promise<Stored> {
    const found = await find(id)
    if (found) return found
    const data = JSON.stringify({ cursor: await store.auditEnd(), had: [], failures: 0 } satisfies Position)
    const { now: createdAt, ...named } = keyOf(id)
    const times = { createdAt, expiresAt: createdAt + lifeMs, misses: 0, version: 1 }
    const record = { ...named, owner: named.id, source: named.id, data, ...times }
    await store.issueRecord(record, { perOwner: 1, perSource: 1 })
    // Made by this process or another.
    return (await find(id)) as Stored
  }

  return {
    find,
    findOrMake,
    /** @returns undefined where it has changed meanwhile */
    replace,
    /** Changes it, whoever is at it: a process that sends notices, and begins anew. */
    change: (id: string, next: (position: Position) => Position): Promise<Stored> =>
      retryUntilApplied(`The webhook ${id}`, async () => {
        const stored = await findOrMake(id)
        return replace(id, stored, next(stored.position))
      }),
  }
}
