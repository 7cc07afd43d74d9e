import { totpContext } from '../../domain/factor.ts'
import type { SessionLimits } from '../../domain/session.ts'
import { pagesOf } from '../../stores/moving/copy.ts'
import type { Store } from '../../stores/store.ts'
import { recordContext } from '../records/records.ts'
import { isOver } from '../sessions/lives.ts'
import { sealContext } from './key-ring.ts'
import { createSecrets } from './secrets.ts'

/*
 * After AUTH_SECRET was changed: what of a store is still under AUTH_SECRET_PREVIOUS, and sealing that anew.
 */

export const sealedTables = ['signing_keys', 'factors', 'records'] as const
export type SealedTable = (typeof sealedTables)[number]
export const everySealed = <Value>(of: (table: SealedTable) => Value) =>
  Object.fromEntries(sealedTables.map((table) => [table, of(table)])) as Record<SealedTable, Value>

/** How many there are of what is sealed, by the secret that opens it. */
export interface Sealed {
  current: number
  previous: number
  /** neither: a signing key that only verifies, an authenticator app or a record that is good for nothing any more */
  another: number
}

/** Something that is sealed at rest. */
interface Item {
  table: SealedTable
  sealed: Uint8Array
  /** what it is bound to */
  context: string
  /** @returns false where it has changed, or is gone */
  replace(sealed: Buffer): Promise<boolean>
}

/** Sealed data in base64url. A text of JSON is shorter, or has a character that is none of these. */
const looksSealed = /^[\w-]{38,}$/

/** Everything in a store that is sealed, page by page. */
async function* sealedItems(store: Store, now: number): AsyncGenerator<Item[]> {
  yield (await store.listSigningKeys()).flatMap(({ kid, sealedPrivateKey: sealed }): Item[] =>
    sealed
      ? [
          {
            ...{ table: 'signing_keys', sealed, context: sealContext(kid) },
            replace: (next) => store.resealSigningKey(kid, sealed, next),
          },
        ]
      : [],
  )
  for await (const rows of pagesOf(store, 'factors')) {
    yield rows.flatMap(({ userId, factors }) =>
      factors
        .filter((factor) => factor.kind === 'totp')
        .map(
          ({ id, secret }): Item => ({
            ...{ table: 'factors', sealed: Buffer.from(secret, 'base64url'), context: totpContext(userId, id) },
            replace: (next) => store.resealTotp(userId, secret, next.toString('base64url')),
          }),
        ),
    )
  }
  for await (const records of pagesOf(store, 'records')) {
    yield records
      .filter(({ data, spentAt, expiresAt }) => spentAt === undefined && now < expiresAt && looksSealed.test(data))
      .map(({ id, kind, data, version, dueAt }) => ({
        ...{ table: 'records', sealed: Buffer.from(data, 'base64url'), context: recordContext(kind, id) },
        replace: (next) => store.replaceRecord({ id, kind, now }, version, next.toString('base64url'), dueAt),
      }))
  }
}

/**
 * Counts what is sealed, by the secret that opens it.
 *
 * @param reseal seals what the previous secret opens under the current one. Each row is one step, by compare-and-set:
 * it may be cut off and repeated at any time, and beside a service
 * @returns how many were sealed anew, with the counts as they are after it
 */
export async function countSealed(
  store: Store,
  secrets: string[],
  { now, reseal, onProgress }: { now: number; reseal: boolean; onProgress(table: string, rows: number): void },
): Promise<Record<SealedTable, Sealed & { resealed: number }>> {
  const { seal, open } = createSecrets(secrets)
  const counts = everySealed(noneYet)
  for await (const items of sealedItems(store, now)) {
    const judge = async ({ table, sealed, context, replace }: Item) => {
      const opened = open(sealed, context)
      const isResealed = reseal && opened?.byPrevious === true && (await replace(seal(opened.plaintext, context)))
      if (isResealed) counts[table].resealed += 1
      counts[table][!opened ? 'another' : opened.byPrevious && !isResealed ? 'previous' : 'current'] += 1
    }
    await Promise.all(items.map(judge))
    const [table] = items.map((item) => item.table)
    if (table) onProgress(table, counts[table].current + counts[table].previous + counts[table].another)
  }
  return counts
}
const noneYet = () => ({ current: 0, previous: 0, another: 0, resealed: 0 })

/** Names the one record that says when a change of secrets was over. */
const mark = { kind: 'secret', id: 'changed' } as const
const markLifeMs = 3_650 * 86_400_000
/** Of this change: another one has another. */
const dataOf = ([current, previous]: [string, string]) => {
  const of = (secret: string, text: string) =>
    createSecrets([secret]).mac('secret change').sign(Buffer.from(text)).toString('base64url')
  return JSON.stringify(of(current, of(previous, '')))
}

/**
 * When a change of secrets was over: every process has the new one since, for all that the operator knows.
 *
 * @returns undefined where it was not said yet
 */
export async function changedAt(store: Store, secrets: [string, string], now: number): Promise<number | undefined> {
  const record = await store.findRecord({ ...mark, now })
  return record?.data === dataOf(secrets) ? record.createdAt : undefined
}

/** Says that a change of secrets is over. @returns when it was said first */
export async function markChanged(store: Store, secrets: [string, string], now: number): Promise<number> {
  const known = await changedAt(store, secrets, now)
  if (known !== undefined) return known
  await store.removeRecord(mark.id)
  const times = { createdAt: now, expiresAt: now + markLifeMs, misses: 0, version: 1 }
  await store.issueRecord(
    { ...mark, owner: 'secret', source: 'secret', data: dataOf(secrets), ...times },
    { perOwner: 1, perSource: 1 },
  )
  return (await changedAt(store, secrets, now)) ?? now
}

/**
 * Sessions whose refresh token is of the previous secret, for they have not been refreshed since the change.
 *
 * @param changedAt by the clocks that wrote the sessions: of other machines, the skew later
 * @returns how many live ones there are, how many of these, and when the last of these ends
 */
export async function sessionsBefore(
  store: Store,
  changedAt: number,
  limits: SessionLimits,
  onProgress: (table: string, rows: number) => void,
): Promise<{ live: number; waiting: number; until: number | undefined }> {
  const { now, idleTtlMs, maxTtlMs } = limits
  let [read, live, waiting, until] = [0, 0, 0, 0]
  for await (const sessions of pagesOf(store, 'sessions')) {
    for (const session of sessions) {
      if (await isOver(session, store, limits)) continue
      live += 1
      if (session.refreshedAt > changedAt) continue
      waiting += 1
      const ends = Math.min(session.refreshedAt + idleTtlMs, Math.min(session.createdAt, now) + maxTtlMs)
      until = Math.max(until, ends)
    }
    read += sessions.length
    onProgress('sessions', read)
  }
  return { live, waiting, until: waiting > 0 ? until : undefined }
}
