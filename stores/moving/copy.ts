import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { End } from '../../domain/lifetimes.ts'
import { namesOne, type Revocation } from '../../domain/revocation.ts'
import { isAhead, keyOf, type TableName, type Tables, tableNames } from '../rows.ts'
import { type Store, StoreUnavailable } from '../store.ts'
import { revocationPages } from '../tables/revocations.ts'

export type CopiedTable = TableName | 'revocations'

/** The number of rows of a table, and a checksum that does not depend on their order. */
export interface Digest {
  rows: number
  checksum: string
}

/** The result for one table. */
export interface TableReport {
  table: CopiedTable
  source: Digest
  target: Digest
  /** that the target did not have, or had otherwise */
  written: number
  /** left as they are, because they have gone on in the target since */
  newer: number
  /** that the target has and the source has not */
  extra: number
  removed: number
  isSame: boolean
}

export interface CopyOptions {
  /** whether rows that the source does not have are removed from the target */
  remove: boolean
  now: number
  onProgress?(step: 'comparing' | 'copying' | 'verifying', table: CopiedTable, rows: number): void
}

/** Rows were to be removed from what looks like the wrong store. Nothing was changed. */
export class CopyRefused extends Error {}

const rowsPerPage = 1000
const revocationsAtOnce = 100
const triesAtMost = 4
const pauseMs = 1000

/**
 * Brings one store up to date with another, and compares the two afterwards.
 *
 * Can be repeated at any time, also after it was cut off: rows have keys, and a newer row of the target is never
 * replaced. The source may be in service; then the two differ by what happened meanwhile.
 *
 * @throws {CopyRefused} when rows are to be removed, and the target was in service after the source, or shares nothing
 *   with it
 */
export async function copyStore(
  source: Store,
  target: Store,
  { remove, now, onProgress = () => {} }: CopyOptions,
): Promise<TableReport[]> {
  const removed: Partial<Record<CopiedTable, number>> = {}
  if (remove) {
    await refuseWrongTarget(source, target, onProgress)
    for (const table of tableNames) removed[table] = await removeExtra(source, target, table, now)
  }

  const reports: TableReport[] = []
  const counts: { table: TableName; written: number; newer: number }[] = []
  for (const table of tableNames) counts.push({ table, ...(await copyTable(source, target, table, onProgress)) })
  const revoked = await copyRevocations(source, target, onProgress)

  for (const { table, written, newer } of counts) {
    const [sourceDigest, targetDigest] = await Promise.all([
      digestOf(source, table, (rows) => onProgress('verifying', table, rows)),
      digestOf(target, table),
    ])
    const isSame = sourceDigest.rows === targetDigest.rows && sourceDigest.checksum === targetDigest.checksum
    const extra = isSame ? 0 : await countExtra(source, target, table)
    reports.push({
      table,
      source: sourceDigest,
      target: targetDigest,
      written,
      newer,
      extra,
      removed: removed[table] ?? 0,
      isSame,
    })
  }
  return [...reports, { ...(await verifyRevocations(source, target)), written: revoked }]
}

type Progress = NonNullable<CopyOptions['onProgress']>

/** Retries: a page and an import can be repeated, and a short outage must not end an hour's work. */
export async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof StoreUnavailable) || tries === triesAtMost) throw error
      await sleep(pauseMs * tries)
    }
  }
}

/** All rows of a table, a page at a time. */
export async function* pagesOf<T extends TableName>(
  store: Pick<Store, 'exportRows'>,
  table: T,
): AsyncGenerator<Tables[T][]> {
  let after: string | undefined
  do {
    const position = after
    const page = await patiently(() =>
      store.exportRows(table, { limit: rowsPerPage, ...(position !== undefined && { after: position }) }),
    )
    if (page.rows.length > 0) yield page.rows
    after = page.next
  } while (after !== undefined)
}

async function copyTable<T extends TableName>(source: Store, target: Store, table: T, onProgress: Progress) {
  let [read, written, newer] = [0, 0, 0]
  for await (const rows of pagesOf(source, table)) {
    const there = await patiently(() => target.findRows(table, rows.map(keyOf)))
    const due = rows.filter((row, i) => {
      const other = there[i]
      if (isAhead(table, other, row)) newer += 1
      else return other === undefined || textOf(other) !== textOf(row)
      return false
    })
    if (due.length > 0) written += await patiently(() => target.importRows(table, due))
    read += rows.length
    onProgress('copying', table, read)
  }
  return { written, newer }
}

/**
 * The revocations of a store, by their text; those that name one thing by its name, the longest-lived of each: a store
 * may hold it twice, and takes it once.
 */
async function revokedIn(store: Store): Promise<Map<string, Revocation>> {
  const revoked = new Map<string, Revocation>()
  for await (const page of revocationPages({
    revocationsSince: (cursor) => patiently(() => store.revocationsSince(cursor)),
  })) {
    for (const revocation of page) {
      const text = namesOne(revocation) ? `${revocation.kind}:${revocation.id}` : textOf(revocation)
      if ((revoked.get(text)?.expiresAt ?? 0) < revocation.expiresAt) revoked.set(text, revocation)
    }
  }
  return revoked
}

/** Recorded anew, in order: the cursors of the target's followers stay valid. */
async function copyRevocations(source: Store, target: Store, onProgress: Progress): Promise<number> {
  const [given, there] = await Promise.all([revokedIn(source), revokedIn(target)])
  const due = [...given].filter(([text]) => !there.has(text)).map(([, revocation]) => revocation)
  for (let done = 0; done < due.length; done += revocationsAtOnce) {
    await Promise.all(
      due.slice(done, done + revocationsAtOnce).map((revocation) => patiently(() => target.revoke(revocation))),
    )
    onProgress('copying', 'revocations', done)
  }
  return due.length
}

/** More revocations in the target do no harm: they refuse ended tokens, and expire. */
async function verifyRevocations(source: Store, target: Store): Promise<Omit<TableReport, 'written'>> {
  const [wanted, have] = await Promise.all([revokedIn(source), revokedIn(target)])
  const texts = [[...wanted.keys()], [...have.keys()].filter((text) => wanted.has(text))]
  const [sourceDigest, targetDigest] = texts.map(digestOfTexts) as [Digest, Digest]
  const isSame = sourceDigest.checksum === targetDigest.checksum && sourceDigest.rows === targetDigest.rows
  return { table: 'revocations', source: sourceDigest, target: targetDigest, newer: 0, extra: 0, removed: 0, isSame }
}

/** `--from` and `--to` are easily confused, and one of the two has the newest changes. */
async function refuseWrongTarget(source: Store, target: Store, onProgress: Progress): Promise<void> {
  let shared = 0
  for (const table of ['users', 'clients', 'sessions', 'factors'] as const) {
    let read = 0
    for await (const page of pagesOf(target, table)) {
      // Those declared say nothing of where a store comes from: each service makes them anew from a file.
      const rows = page.filter((row) => !('isDeclared' in row && row.isDeclared))
      const given = await patiently(() => source.findRows(table, rows.map(keyOf)))
      for (const [i, row] of rows.entries()) {
        const other = given[i]
        if (other !== undefined) shared += 1
        if (other !== undefined && isAhead(table, row, other)) {
          throw new CopyRefused(
            `the target was in service after the source (${table}: ${keyOf(row)} has gone on in it)`,
          )
        }
      }
      read += rows.length
      onProgress('comparing', table, read)
    }
    if (table !== 'sessions' && table !== 'factors' && read > 0 && shared === 0)
      throw new CopyRefused(`the two have no ${table.slice(0, -1)} in common`)
  }
}

async function* extraOf<T extends TableName>(source: Store, target: Store, table: T): AsyncGenerator<Tables[T][]> {
  for await (const rows of pagesOf(target, table)) {
    const given = await patiently(() => source.findRows(table, rows.map(keyOf)))
    yield rows.filter((_, i) => given[i] === undefined)
  }
}

async function countExtra(source: Store, target: Store, table: TableName): Promise<number> {
  let count = 0
  for await (const rows of extraOf(source, target, table)) count += rows.length
  return count
}

async function removeExtra<T extends TableName>(source: Store, target: Store, table: T, now: number): Promise<number> {
  // Its revocation expires at once: it must not stand for that of the source, which is copied later.
  const end = { now, expiresAt: 0 } as End
  const remove: { [T in TableName]: (row: Tables[T]) => Promise<unknown> } = {
    clients: ({ id }) => target.deleteClient(id, end),
    users: ({ id }) => target.deleteUser(id, end),
    factors: ({ userId }) => target.removeFactors(userId),
    browserSessions: ({ id }) => target.endBrowserSession(id, end),
    sessions: ({ id }) => target.endSession(id, end),
    consents: ({ userId }) => target.removeConsents(userId),
    signingKeys: ({ kid }) => target.removeSigningKey(kid),
    failures: (row) => target.clearFailures([row]),
    records: ({ id }) => target.removeRecord(id),
    audit: ({ id }) => target.removeAudit(id),
  }
  let count = 0
  for await (const rows of extraOf(source, target, table)) {
    await Promise.all(rows.map((row) => patiently(() => remove[table](row))))
    count += rows.length
  }
  return count
}

async function digestOf(store: Store, table: TableName, onRows: (rows: number) => void = () => {}): Promise<Digest> {
  const sum = startDigest()
  for await (const rows of pagesOf(store, table)) {
    for (const row of rows) sum.add(textOf(row))
    onRows(sum.rows)
  }
  return sum.end()
}

function digestOfTexts(texts: string[]): Digest {
  const sum = startDigest()
  for (const text of texts) sum.add(text)
  return sum.end()
}

/** The XOR of the SHA-256 of all rows. No row comes twice, so none cancels another. */
function startDigest() {
  const sum = new BigUint64Array(4)
  let rows = 0
  return {
    get rows() {
      return rows
    },
    add(text: string): void {
      rows += 1
      const digest = createHash('sha256').update(text).digest()
      for (let i = 0; i < 4; i++) sum[i] = (sum[i] as bigint) ^ digest.readBigUInt64BE(i * 8)
    },
    end: (): Digest => ({ rows, checksum: [...sum].map((part) => part.toString(16).padStart(16, '0')).join('') }),
  }
}

/** The same text for the same row, whichever store it came from. */
function textOf(row: object | Revocation): string {
  const members = Object.entries(row).filter(([, value]) => value !== undefined)
  members.sort(([a], [b]) => (a < b ? -1 : 1))
  return JSON.stringify(
    members.map(([name, value]) => [name, value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value]),
  )
}
