import { randomUUID } from 'node:crypto'
import type { ShortRecord } from '../../domain/record.ts'
import type { Store } from '../../stores/store.ts'
import { type Check, failed, median, NotKnown, needed, ok, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** How long the store took, in milliseconds. */
export interface LatencyFact {
  readMs: number
  writeMs: number
}

const reads = 15
const writes = 5
/** A read is one of memory or one round trip; a write waits for a sync. */
const most = { readMs: 10, writeMs: 50 }

/** Reads, and writes a record that is removed again. It would expire in a minute, were this killed in between. */
export async function measureStore(store: Store, now: () => number): Promise<LatencyFact> {
  const timed = async (work: () => Promise<unknown>) => {
    const startedAt = performance.now()
    await work()
    return performance.now() - startedAt
  }
  const times = { read: [] as number[], write: [] as number[] }
  const id = `doctor-${randomUUID()}`
  const record: ShortRecord = {
    id,
    kind: 'doctor',
    owner: id,
    source: id,
    data: '',
    createdAt: now(),
    expiresAt: now() + 60_000,
    misses: 0,
    version: 1,
  }
  for (let i = 0; i < reads; i++)
    times.read.push(await timed(() => store.findRecord({ kind: 'doctor', id, now: now() })))
  for (let i = 0; i < writes; i++) {
    times.write.push(await timed(() => store.issueRecord(record, { perOwner: 1, perSource: 1 })))
    await store.removeRecord(id)
  }
  return { readMs: median(times.read), writeMs: median(times.write) }
}

const ms = (n: number) => `${n.toFixed(n < 10 ? 1 : 0)} ms`

/** Either store, through the interface that the service uses. */
export const store: Check<Facts>[] = [
  {
    id: 'store',
    async find({ store, place }) {
      try {
        await store()
        return ok(`${place().label} opens`)
      } catch (error) {
        if (error instanceof NotKnown) throw error
        const setting = place().kind === 'lmdb' ? 'AUTH_DATA_DIR' : 'DATABASE_URL'
        return failed((error as Error).message, setting, 'docs/operations.md, At 3 a.m.')
      }
    },
  },
  {
    id: 'store.read',
    async find({ latency, place }) {
      const { readMs } = await needed(latency(), 'store')
      if (readMs <= most.readMs) return ok(`${ms(readMs)}, the median of ${reads}`)
      const advice = place().kind === 'pg' ? 'run it nearer to the database' : 'give the machine memory for the file'
      return warning(`${ms(readMs)}, the median of ${reads}`, settingOf(place().kind), advice)
    },
  },
  {
    id: 'store.write',
    async find({ latency, place }) {
      const { writeMs } = await needed(latency(), 'store')
      if (writeMs <= most.writeMs) return ok(`${ms(writeMs)}, synced, the median of ${writes}`)
      const advice = 'put it on a faster disk: each login and refresh waits for its sync'
      return warning(`${ms(writeMs)}, synced, the median of ${writes}`, settingOf(place().kind), advice)
    },
  },
]

const settingOf = (kind: 'lmdb' | 'pg') => (kind === 'pg' ? 'DATABASE_URL' : 'AUTH_DATA_DIR')
