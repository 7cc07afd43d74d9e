import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { retryUntilApplied } from '../../stores/compare-and-set.ts'

/** How far something that follows the audit rows is. */
export interface Followed {
  /** of the audit rows; undefined for the beginning */
  cursor?: string | undefined
  /** the process that is at it just now */
  holder?: string | undefined
}

/** As it is in the store. */
export interface Stored<Position extends Followed> {
  position: Position
  /** rises with each change */
  version: number
}

/** For good: whatever is in the store for less would begin anew. */
const lifeMs = 36_500 * 86_400_000

/**
 * Where each follower of a kind is, by its id. A change of one is a compare-and-set: of several at once, one is done.
 *
 * @param begin the position of one who begins at a cursor
 */
export function createPositions<Position extends Followed>(
  { store, now }: Pick<FastifyInstance, 'store' | 'now'>,
  kind: string,
  begin: (cursor: string) => Position,
) {
  const keyOf = (id: string) => ({ kind, id: `${kind}-${id}`, now: now() })

  async function find(id: string): Promise<Stored<Position> | undefined> {
    const record = await store.findRecord(keyOf(id))
    return record && { position: JSON.parse(record.data), version: record.version }
  }
  async function replace(
    id: string,
    { version }: Stored<Position>,
    position: Position,
  ): Promise<Stored<Position> | undefined> {
    const isDone = await store.replaceRecord(keyOf(id), version, JSON.stringify(position))
    return isDone ? { position, version: version + 1 } : undefined
  }

  /** A new one begins at now. */
  async function findOrMake(id: string): Promise<Stored<Position>> {
    const found = await find(id)
    if (found) return found
    const data = JSON.stringify(begin(await store.auditEnd()))
    const { now: createdAt, ...named } = keyOf(id)
    const times = { createdAt, expiresAt: createdAt + lifeMs, misses: 0, version: 1 }
    const record = { ...named, owner: named.id, source: named.id, data, ...times }
    await store.issueRecord(record, { perOwner: 1, perSource: 1 })
    // Made by this process or another.
    return (await find(id)) as Stored<Position>
  }

  return {
    find,
    findOrMake,
    /** @returns undefined where it has changed meanwhile */
    replace,
    /** Changes it, whoever is at it: a process that is at it notices, and begins anew. */
    change: (id: string, next: (position: Position) => Position): Promise<Stored<Position>> =>
      retryUntilApplied(`The ${kind} ${id}`, async () => {
        const stored = await findOrMake(id)
        return replace(id, stored, next(stored.position))
      }),
  }
}

/**
 * Of all processes on a store one follows at a time: it puts its name into the position. When another has seen no
 * change of that for a while, by its own clock, that one goes on.
 *
 * @param abandonedMs longer than the one that is at it takes between two saves
 */
export function createHolding({ uptimeMs }: Pick<FastifyInstance, 'uptimeMs'>, abandonedMs: number) {
  const own = randomUUID()
  /** Since when this process has seen this version of the position. */
  let unchanged = { version: -1, sinceMs: 0 }
  return {
    own,
    /** Whether another process is at it; by this one it is held where the store failed it in the middle. */
    isByAnother({ position: { holder }, version }: Stored<Followed>): boolean {
      if (version !== unchanged.version) unchanged = { version, sinceMs: uptimeMs() }
      return holder !== undefined && holder !== own && uptimeMs() - unchanged.sinceMs < abandonedMs
    },
  }
}
