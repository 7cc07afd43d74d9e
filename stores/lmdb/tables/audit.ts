import { type AuditRow, erasingEvent, firstAuditIdOf, newAuditId } from '../../../domain/audit.ts'
import { isUuid } from '../../../domain/ids.ts'
import { futureFrom } from '../../../domain/time.ts'
import { listAudit, type ReadAudit } from '../../audit.ts'
import type { Store } from '../../store.ts'
import { clockOf, type SweepStep } from '../../sweeping.ts'
import type { AuditPage, AuditTable } from '../../tables/audit.ts'
import { type Check, checkOf } from '../checks.ts'
import type { Databases } from '../databases.ts'
import type { Runs } from '../runs.ts'
import type { OldestStage } from '../sweep.ts'

const idLength = 36
/** LMDB refuses long keys. Our ids of clients have 255 characters at most. */
const longestValue = 500

const prefixOf = (index: string, value: string) => `${index} ${value.slice(0, longestValue)} `

/** The keys of a row in the index of users, sessions, clients, and of users who acted. */
export const indexKeys = ({ id, user, session, client, by }: AuditRow): string[] => [
  ...(user === undefined ? [] : [`${prefixOf('user', user)}${id}`]),
  ...(session === undefined ? [] : [`${prefixOf('session', session)}${id}`]),
  ...(client === undefined ? [] : [`${prefixOf('client', client)}${id}`]),
  ...(by === undefined || !isUuid(by) ? [] : [`${prefixOf('by', by)}${id}`]),
]

/** The rows of what happened, with their indexes. What writes runs only inside a transaction. */
export function createAuditRows({
  audit,
  auditByPlace,
  auditByIndex,
  auditErasing,
  counters,
}: Pick<Databases, 'audit' | 'auditByPlace' | 'auditByIndex' | 'auditErasing' | 'counters'>) {
  /** Puts a row in without a place. */
  function put(row: AuditRow): void {
    audit.put(row.id, row)
    for (const key of indexKeys(row)) auditByIndex.put(key, 0)
    if (row.event === erasingEvent) auditErasing.put(row.id, 0)
  }
  function remove(id: string): void {
    const row = audit.get(id)
    if (!row) return
    audit.remove(id)
    auditErasing.remove(id)
    for (const key of indexKeys(row)) auditByIndex.remove(key)
  }
  /** The rows whose place is behind a number. What was removed since has none. */
  const behind = (number: number, limit: number) =>
    [...auditByPlace.getRange({ start: number + 1, limit })].map(({ key, value }) => ({ key, row: audit.get(value) }))

  /** Numbers follow the clock, so that a store that was restored is ahead of every cursor given out before. */
  function add(rows: AuditRow[]): void {
    for (const row of rows) {
      const number = Math.max((counters.get('audit') ?? 0) + 1, row.at)
      counters.put('audit', number)
      auditByPlace.put(number, row.id)
      put(row)
    }
  }

  return {
    put,
    remove,
    add,
    since(cursor: string | undefined, limit: number): AuditPage {
      const position = /^[0-9]{1,15}$/.test(cursor ?? '') ? Number(cursor) : 0
      const found = behind(position, limit + 1)
      const page = found.slice(0, limit)
      return {
        rows: page.flatMap(({ row }) => (row ? [row] : [])),
        cursor: String(page.at(-1)?.key ?? position),
        more: found.length > limit,
      }
    },
    end: (): string => String(counters.get('audit') ?? 0),

    page({ before, from, limit }: Parameters<ReadAudit>[0], of?: Parameters<ReadAudit>[1]): AuditRow[] {
      const prefix = of ? prefixOf(of.index, of.value) : ''
      const newestFirst = { start: prefix + before, end: prefix + from, reverse: true, exclusiveStart: true, limit }
      // In reverse, the end is not a part of the range; no row has the least id of a time.
      const keys = of ? auditByIndex.getKeys(newestFirst) : audit.getKeys(newestFirst)
      return [...keys].flatMap((key) => audit.get(key.slice(-idLength)) ?? [])
    },

    erase({ settledBefore, limit, cursor = '' }: Parameters<Store['eraseAudit']>[0]): string | undefined {
      const [erasure = '', after] = cursor.split('/')
      const start = { start: erasure, exclusiveStart: after === undefined, limit: 1 }
      const [due] = [...auditErasing.getKeys(start)]
      if (due === undefined) return undefined
      const deletion = audit.get(due)
      const begin = due === erasure ? (after ?? '') : ''
      const idsOf = (index: 'user' | 'by') => {
        const prefix = prefixOf(index, deletion?.user ?? '')
        const range = { start: prefix + begin, end: `${prefix}~`, exclusiveStart: true, limit }
        return [...auditByIndex.getKeys(range)].map((key) => key.slice(-idLength))
      }
      const ids = [...new Set([...idsOf('user'), ...idsOf('by')])].sort().slice(0, limit)
      for (const id of ids) {
        const row = audit.get(id)
        if (row?.address === undefined && row?.userAgent === undefined) continue
        const { address: _, userAgent: __, ...rest } = row
        audit.put(row.id, rest)
      }
      if (ids.length === limit) return `${due}/${ids.at(-1)}`
      if ((deletion?.at ?? 0) < settledBefore) auditErasing.remove(due)
      return due
    },

    /**
     * Removes the oldest rows, and gives those of a clock that was ahead the time of now, in new rows.
     *
     * @returns how many went, and how many were looked at
     */
    sweep(step: SweepStep, limit: number): { removed: number; looked: number } {
      const ahead = [...audit.getKeys({ start: firstAuditIdOf(futureFrom(clockOf(step)) + 1), limit })]
      for (const id of ahead) {
        const row = audit.get(id)
        remove(id)
        if (row) add([{ ...row, id: newAuditId(clockOf(step)), at: clockOf(step) }])
      }
      const old = [...audit.getKeys({ start: '', end: firstAuditIdOf(step.auditBefore ?? 0), limit })]
      for (const id of old) remove(id)
      for (const { key, value } of [...auditByPlace.getRange({ limit: 2 * limit })]) {
        if (audit.doesExist(value)) break
        auditByPlace.remove(key)
      }
      return { removed: old.length, looked: Math.max(old.length, ahead.length) }
    },
  }
}

/** What happened, in the embedded store. */
export function createAudit(databases: Databases, { read, write }: Runs): AuditTable {
  const audits = createAuditRows(databases)
  return {
    addAudit: (rows) => write(() => audits.add(rows)),
    auditSince: (cursor, limit) => read(() => audits.since(cursor, limit)),
    auditEnd: () => read(audits.end),
    listAudit: (filter, page) => listAudit(async (...asked) => read(() => audits.page(...asked)), filter, page),
    eraseAudit: (step) => write(() => audits.erase(step)),
    removeAudit: (id) => write(() => audits.remove(id)),
  }
}

/** Removes the oldest rows alone. */
export const sweepAudit = (databases: Databases): OldestStage => ({ sweepOldest: createAuditRows(databases).sweep })

/** What `store check` finds wrong with each entry. */
export function checkAudit({ audit, auditByPlace, auditByIndex, counters }: Databases): Check[] {
  return [
    checkOf('audit', audit, (id) => {
      const row = audit.get(id)
      if (row?.id !== id) return 'the row does not fit its key'
      const isIndexed = indexKeys(row).every((key) => auditByIndex.doesExist(key))
      return isIndexed ? undefined : 'the audit row is missing in its indexes'
    }),
    // A place without a row is one of a row that was removed.
    checkOf('audit_by_place', auditByPlace, (number) =>
      number <= (counters.get('audit') ?? 0) ? undefined : 'its number is still to be given out',
    ),
    checkOf('audit_by_index', auditByIndex, (key) => {
      const row = audit.get(key.slice(-idLength))
      return row && indexKeys(row).includes(key) ? undefined : 'the index entry has no audit row'
    }),
  ]
}
