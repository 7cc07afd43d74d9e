import {
  isLive,
  type RecordBounds,
  type RecordKey,
  type RecordsEnding,
  type RecordTaking,
  type ShortRecord,
  spentRecord,
} from '../../../domain/record.ts'
import { isFuture } from '../../../domain/time.ts'
import { clockOf, type SweepStep } from '../../sweeping.ts'
import type { RecordTable } from '../../tables/records.ts'
import type { WithRecords } from '../../tables/users.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import type { Stage } from '../sweep.ts'

/** LMDB refuses empty and long keys, and an id may be any text of a client. Our ids have 43 characters. */
const isKey = (id: string) => id.length > 0 && id.length <= 100

/** Sorts behind every id. */
const last = '\uffff'

/** JSON, so that no owner is the beginning of another. */
const prefixOf = (holder: 'owner' | 'source', kind: string, value: string) =>
  `${holder} ${JSON.stringify([kind, value])} `

/** The keys of a record in the index of owners and sources. */
export const holderKeys = ({ id, kind, owner, source }: ShortRecord): [string, string] => [
  `${prefixOf('owner', kind, owner)}${id}`,
  `${prefixOf('source', kind, source)}${id}`,
]

/** As wide as any number of milliseconds. */
const digits = 16

const byDueKey = (kind: string, dueAt: number, id: string) => `${kind}/${String(dueAt).padStart(digits, '0')}/${id}`

/** The key of a record in the index of those that are due; undefined where nothing is to be sent. */
const dueKey = ({ kind, id, dueAt }: ShortRecord) => (dueAt === undefined ? undefined : byDueKey(kind, dueAt, id))
const idOfDue = (key: string) => key.slice(key.indexOf('/') + digits + 2)

/** The rows of short-lived records, with their indexes. All but `find` only inside a transaction. */
export function createRecordRows({ records, recordsByHolder, recordsByDue }: Databases) {
  function remove(id: string): void {
    const record = records.get(id)
    if (!record) return
    records.remove(id)
    for (const key of holderKeys(record)) recordsByHolder.remove(key)
    const due = dueKey(record)
    if (due !== undefined) recordsByDue.remove(due)
  }
  function put(record: ShortRecord): void {
    remove(record.id)
    records.put(record.id, record)
    if (record.spentAt !== undefined) return
    for (const key of holderKeys(record)) recordsByHolder.put(key, record.expiresAt)
    const due = dueKey(record)
    if (due !== undefined) recordsByDue.put(due, 0)
  }

  function find({ kind, id, now }: RecordKey): ShortRecord | undefined {
    const record = isKey(id) ? records.get(id) : undefined
    return record && record.kind === kind && now < record.expiresAt ? record : undefined
  }
  function live(key: RecordKey): ShortRecord | undefined {
    const record = find(key)
    return record && isLive(record, key.now) ? record : undefined
  }
  /** The last thing that may refuse before the first write of what the record is taken for. */
  function take({ keep, ...key }: RecordTaking): ShortRecord | undefined {
    const record = live(key)
    if (record && keep) put(spentRecord(record, key.now, keep))
    else if (record) remove(record.id)
    return record
  }
  const idsOf = (prefix: string) =>
    [...recordsByHolder.getKeys({ start: prefix, end: prefix + last })].map((key) => key.slice(prefix.length))
  function hasRoom(prefix: string, most: number, now: number): boolean {
    const range = () => ({ start: prefix, end: prefix + last })
    // LMDB counts by itself, and far faster than they are read. Those that have expired may be among them.
    if (recordsByHolder.getKeysCount(range()) < most) return true
    let count = 0
    for (const { value: expiresAt } of recordsByHolder.getRange(range())) {
      if (now < expiresAt && ++count >= most) return false
    }
    return count < most
  }
  function endOf(owner: string, { kinds, since = 0 }: Omit<RecordsEnding, 'now'>): number {
    const ids = kinds
      .flatMap((kind) => idsOf(prefixOf('owner', kind, owner)))
      .filter((id) => (records.get(id)?.createdAt ?? 0) >= since)
    for (const id of ids) remove(id)
    return ids.length
  }

  return {
    put,
    remove,
    find,
    issue(record: ShortRecord, { perOwner, perSource }: RecordBounds): boolean {
      const { id, kind, owner, source, createdAt } = record
      if (records.doesExist(id)) return false
      if (!hasRoom(prefixOf('owner', kind, owner), perOwner, createdAt)) return false
      if (!hasRoom(prefixOf('source', kind, source), perSource, createdAt)) return false
      put(record)
      return true
    },
    take,
    /** Takes, and ends, what goes with a change of an owner: it too may refuse last. */
    takeWith(owner: string, { taking, ending }: WithRecords): boolean {
      if (taking && !take(taking)) return false
      if (ending) endOf(owner, ending)
      return true
    },
    miss(key: RecordKey, most: number): number | undefined {
      const record = live(key)
      if (!record) return undefined
      const misses = record.misses + 1
      if (misses >= most) remove(record.id)
      else put({ ...record, misses, version: record.version + 1 })
      return misses
    },
    replace(key: RecordKey, expectedVersion: number, data: string, dueAt?: number): boolean {
      const { dueAt: _, ...record } = live(key) ?? {}
      if (!('id' in record) || record.version !== expectedVersion) return false
      put({ ...(record as ShortRecord), data, version: expectedVersion + 1, ...(dueAt !== undefined && { dueAt }) })
      return true
    },
    due(kinds: string[], now: number, limit: number): ShortRecord[] {
      const found: ShortRecord[] = []
      for (const kind of kinds) {
        const most = found.length + limit
        // What has expired waits for the sweep.
        for (const key of recordsByDue.getKeys({ start: byDueKey(kind, 0, ''), end: byDueKey(kind, now, last) })) {
          const record = records.get(idOfDue(key))
          if (record && isLive(record, now) && found.push(record) === most) break
        }
      }
      const dueAt = (record: ShortRecord) => record.dueAt ?? 0
      return found.sort((a, b) => dueAt(a) - dueAt(b) || (a.id < b.id ? -1 : 1)).slice(0, limit)
    },
    endOf,
  }
}

/** Short-lived records in the embedded store. */
export function createRecords(databases: Databases, { read, write }: Runs): RecordTable {
  const records = createRecordRows(databases)
  return {
    issueRecord: (record, bounds) => write(() => records.issue(record, bounds)),
    findRecord: (key) => read(() => records.find(key)),
    takeRecord: (taking) => write(() => records.take(taking)),
    missRecord: (key, most) => write(() => records.miss(key, most)),
    replaceRecord: (key, expectedVersion, data, dueAt) =>
      write(() => records.replace(key, expectedVersion, data, dueAt)),
    dueRecords: (kinds, now, limit) => read(() => records.due(kinds, now, limit)),
    endRecords: (owner, kinds) => write(() => records.endOf(owner, { kinds })),
    removeRecord: (id) => write(() => records.remove(id)),
  }
}

/** Removes records that have expired. */
export function sweepRecords(databases: Databases): Stage {
  const records = createRecordRows(databases)
  return {
    table: databases.records,
    isDue: ({ createdAt, expiresAt }: ShortRecord, step: SweepStep) =>
      expiresAt <= step.now || isFuture(createdAt, clockOf(step)),
    sweep(id: string, record: ShortRecord, step: SweepStep) {
      const isOld = record.expiresAt <= step.now
      const createdAt = clockOf(step)
      const expiresAt = createdAt + record.expiresAt - record.createdAt
      if (isOld) records.remove(id)
      else records.put({ ...record, createdAt, expiresAt, ...(record.dueAt !== undefined && { dueAt: createdAt }) })
      return isOld
    },
  }
}

/** What `store check` finds wrong with each entry. */
export function checkRecords({ records, recordsByHolder, recordsByDue }: Databases): Check[] {
  return [
    checkOf('records', records, (id) => {
      const record = records.get(id)
      if (record?.id !== id) return 'the row does not fit its key'
      if (record.spentAt !== undefined) return undefined
      if (holderKeys(record).some((key) => recordsByHolder.get(key) !== record.expiresAt))
        return 'the record is missing in the index of holders'
      const due = dueKey(record)
      return due === undefined || recordsByDue.doesExist(due)
        ? undefined
        : 'the record is missing in the index of what is due'
    }),
    checkOf('records_by_holder', recordsByHolder, (key) => {
      const record = records.get(key.slice(key.lastIndexOf(' ') + 1))
      return record && record.spentAt === undefined && holderKeys(record).includes(key)
        ? undefined
        : 'the index entry has no record'
    }),
    checkOf('records_by_due', recordsByDue, (key) => {
      const record = records.get(idOfDue(key))
      return record && record.spentAt === undefined && dueKey(record) === key
        ? undefined
        : 'the index entry has no record'
    }),
  ]
}
