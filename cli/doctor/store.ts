import { randomUUID } from 'node:crypto'
import type { ShortRecord } from '../../domain/record.ts'
import type { SigningKeyRecord } from '../../domain/signing-key.ts'
import type { Position } from '../../domain/webhook.ts'
import { createPositions } from '../../plugins/webhooks/positions.ts'
import type { Store } from '../../stores/store.ts'
import { openPlace, type Place } from '../places.ts'
import { type Administrators, readAdministrators } from './administrators.ts'
import { type AppClients, readAppClients } from './app-clients.ts'
import { type Check, failed, median, NotKnown, needed, ok, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** What is found out of a store, in this order, by when it is known. */
export interface StoreStages {
  opened: true
  signingKeys: SigningKeyRecord[]
  /** by the id of each; of one that no service has begun with there is none */
  webhooks: Record<string, Position | undefined>
  /** the median of a few, in milliseconds */
  readMs: number
  writeMs: number
  administrators: Administrators
  appClients: AppClients
}

/** What is looked for, and where. */
export interface Sought {
  place: Place
  /** ids of webhooks */
  webhooks: string[]
}

export type StageName = keyof StoreStages
export type Stage = { [Name in StageName]: [name: Name, value: StoreStages[Name]] }[StageName]

const reads = 15
const writes = 5
/** A read is one of memory or one round trip; a write waits for a sync. */
const most = { readMs: 10, writeMs: 50 }

/** Opens a store that is there, and looks at it through the interface that the service uses. */
export async function* lookInto({ place, webhooks }: Sought): AsyncGenerator<Stage> {
  const store = await openPlace(place, { mustExist: true })
  try {
    yield ['opened', true]
    yield ['signingKeys', await store.listSigningKeys()]
    const { find } = createPositions({ store, now: Date.now })
    const positions = webhooks.map(async (id) => [id, (await find(id))?.position] as const)
    yield ['webhooks', Object.fromEntries(await Promise.all(positions))]
    const key = () => ({ kind: 'doctor', id: 'none', now: Date.now() })
    yield ['readMs', await medianOf(reads, () => store.findRecord(key()))]
    yield [
      'writeMs',
      await medianOf(
        writes,
        () => writeOnce(store),
        (id) => store.removeRecord(id),
      ),
    ]
    yield ['administrators', await readAdministrators(store)]
    yield ['appClients', await readAppClients(store)]
  } finally {
    await store.close()
  }
}

/** Writes a record, which would expire in a minute, were this killed before it is removed. @returns its id */
async function writeOnce(store: Store): Promise<string> {
  const id = `doctor-${randomUUID()}`
  const createdAt = Date.now()
  const names = { id, kind: 'doctor', owner: id, source: id, data: '' }
  const record: ShortRecord = { ...names, createdAt, expiresAt: createdAt + 60_000, misses: 0, version: 1 }
  await store.issueRecord(record, { perOwner: 1, perSource: 1 })
  return id
}

async function medianOf<T>(n: number, work: () => Promise<T>, undo = async (_: T) => {}): Promise<number> {
  const times: number[] = []
  for (let i = 0; i < n; i++) {
    const startedAt = performance.now()
    const result = await work()
    times.push(performance.now() - startedAt)
    await undo(result)
  }
  return median(times)
}

const ms = (n: number) => `${n.toFixed(n < 10 ? 1 : 0)} ms`

/** Either store. */
export const store: Check<Facts>[] = [
  {
    id: 'store',
    async find({ store, place }) {
      try {
        await store('opened')
        return ok(`${place().label} opens`)
      } catch (error) {
        if (error instanceof NotKnown) throw error
        return failed((error as Error).message, settingOf(place()), 'docs/operations.md, At 3 a.m.')
      }
    },
  },
  {
    id: 'store.read',
    async find({ store, place }) {
      const readMs = await needed(store('readMs'), 'store')
      if (readMs <= most.readMs) return ok(`${ms(readMs)}, the median of ${reads}`)
      const advice = place().kind === 'pg' ? 'run it nearer to the database' : 'give the machine memory for the file'
      return warning(`${ms(readMs)}, the median of ${reads}`, settingOf(place()), advice)
    },
  },
  {
    id: 'store.write',
    async find({ store, place }) {
      // Reading went well: what fails now is the writing.
      await needed(store('readMs'), 'store')
      const seen = await store('writeMs').catch((error: Error) => error.message)
      if (typeof seen === 'string') return failed(seen, settingOf(place()), 'look for a full disk, or one that hangs')
      if (seen <= most.writeMs) return ok(`${ms(seen)}, synced, the median of ${writes}`)
      const advice = 'put it on a faster disk: each login and refresh waits for its sync'
      return warning(`${ms(seen)}, synced, the median of ${writes}`, settingOf(place()), advice)
    },
  },
]

const settingOf = ({ kind }: Place) => (kind === 'pg' ? 'DATABASE_URL' : 'AUTH_DATA_DIR')
