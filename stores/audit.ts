import { setImmediate } from 'node:timers/promises'
import { type Audit, type AuditFilter, type AuditRow, firstAuditIdOf } from '../domain/audit.ts'
import type { Store, ToldWrite } from './store.ts'

/** By what a store finds audit rows. */
export type AuditIndex = 'user' | 'session' | 'client'

/** The rows between two ids, the newest first: all, or those of an index. */
export type ReadAudit = (
  range: { before: string; from: string; limit: number },
  of?: { index: AuditIndex; value: string },
) => Promise<AuditRow[]>

/** Beyond what a page may look at for what no index helps to find; then it says where to go on. */
const lookedAtMost = 10_000
/** In one go, while the process does nothing else where the store is embedded: a millisecond or two. */
const readAtMost = 500
const lastId = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/** Whether a row is what a filter lets pass, but for the time. */
export const isWanted = (filter: AuditFilter, row: AuditRow): boolean =>
  (['session', 'user', 'client', 'event'] as const).every(
    (member) => filter[member] === undefined || row[member] === filter[member],
  )

/** The part of `listAudit` that both stores have in common: by one index, the narrowest, and the rest by looking. */
export async function listAudit(
  read: ReadAudit,
  filter: AuditFilter,
  { after, limit }: { after?: string; limit: number },
): Promise<{ rows: AuditRow[]; next?: string }> {
  const index = (['session', 'user', 'client'] as const).find((index) => filter[index] !== undefined)
  const of = index && { index, value: filter[index] as string }
  const from = firstAuditIdOf(filter.since ?? 0)
  const isIndexed = Object.keys(filter).every((member) => member === index || member === 'since')
  const found: AuditRow[] = []
  let before = after ?? lastId
  for (let looked = 0; ; ) {
    const wanted = limit - found.length + 1
    const most = isIndexed ? wanted : Math.min(readAtMost, lookedAtMost - looked)
    const rows = await read({ before, from, limit: most }, of)
    for (const row of rows) {
      if (isWanted(filter, row)) found.push(row)
      if (found.length > limit) return { rows: found.slice(0, limit), next: (found[limit - 1] as AuditRow).id }
      before = row.id
    }
    looked += rows.length
    if (rows.length < most) return { rows: found }
    if (looked >= lookedAtMost) return { rows: found, next: before }
    await setImmediate()
  }
}

/** Where the audit rows are among the arguments of the writes that somebody is told of. */
const auditAt: Record<ToldWrite, number | undefined> = {
  createUser: 2,
  changePassword: 2,
  deleteUser: 2,
  disableUser: 2,
  enableUser: 1,
  changeUser: 2,
  changeFactors: 2,
  importUsers: undefined,
  createClient: 1,
  replaceClient: 2,
  deleteClient: 2,
  createSession: 2,
  rotateSession: 3,
  raiseSession: 2,
  endSession: 3,
  createBrowserSession: 2,
  renewBrowserSession: 2,
  endBrowserSession: 3,
  changeConsents: 1,
  endUserSessions: 2,
  addSigningKey: 2,
  removeSigningKey: 1,
  withdrawSigningKeys: 2,
  revoke: 1,
}

/** The writes, each with the rows that tell of it. */
export type AuditedWrites = Pick<Store, ToldWrite>

interface View {
  audit: Audit<never>
}

/**
 * Makes what hands rows to the writes of a store, whatever they are called with: so none can be forgotten.
 *
 * @returns a function that makes the view of one change; it is called for each refresh, and costs one object
 */
export function createAudited(store: AuditedWrites): (audit: Audit<never>) => AuditedWrites {
  const methods: Record<string, unknown> = {}
  for (const [name, at] of Object.entries(auditAt)) {
    methods[name] = function (this: View, ...args: unknown[]) {
      if (at !== undefined) args[at] = this.audit
      return (store[name as ToldWrite] as (...args: unknown[]) => unknown)(...args)
    }
  }
  return (audit) => Object.assign(Object.create(methods), { audit })
}
