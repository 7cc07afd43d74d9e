import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { Database, RootDatabase } from 'lmdb'
import type { BrowserSession } from '../../domain/browser-session.ts'
import type { Session } from '../../domain/session.ts'
import type { User } from '../../domain/user.ts'
import { checkerOf } from '../moving/check.ts'
import { tables } from '../rows.ts'
import { type Databases, format, hasTable, isOutdated, moving, openAll } from './databases.ts'
import { openEnvironment, otherUsers } from './open.ts'
import { createBrowserSessionRows } from './tables/browser-sessions.ts'
import { createSessionRows } from './tables/sessions.ts'
import { createUserRows } from './tables/users.ts'

/*
 * A store of format 1 becomes one of format 2: each row is put into its new table and taken from the old one in one
 * transaction. So it may be killed at any moment, goes on where it was, and several processes may do it at once.
 */

/** Of format 1. Its indexes are not read: they follow from the rows. */
const oldTables = ['browser_sessions', 'users', 'sessions'] as const
type OldTable = (typeof oldTables)[number]
const shapes = {
  users: checkerOf(tables.users.columns),
  sessions: checkerOf(tables.sessions.columns),
  browser_sessions: checkerOf(tables.browserSessions.columns),
} satisfies Record<OldTable, unknown>
const oldIndexes = [
  ...['users_by_name', 'users_by_email', 'users_by_external_id', 'users_by_creation'],
  ...['sessions_by_user', 'sessions_by_parent', 'browser_sessions_by_user'],
]

/** Moved in one transaction, in some hundred milliseconds: then signals have their turn. Fewer write each page more often. */
const usualRowsAtOnce = 4_000
const entriesAtOnce = 20_000
/** A process of the release before that is told to end does so within its AUTH_SHUTDOWN_GRACE. */
const usualPatienceMs = 15_000
const checkMs = 100

/** In `counters`, the processes that know of the new tables. */
const upgraders = 'upgrader '

export interface UpgradeOptions {
  /** @param total of all rows, those that were moved by an earlier start too */
  onProgress(moved: number, total: number): void
  /** Is told of a row that is damaged, or has the name of another. It stays where it is. */
  onUnmovable(table: string, key: string): void
  /** how long to wait for other processes to end */
  patienceMs?: number
  /** in one transaction */
  rowsAtOnce?: number
}

/** Processes of an earlier release have the store open: what they write now would be lost. Nothing was changed. */
export class StoreInUse extends Error {
  constructor(pids: number[]) {
    super(
      `an earlier release has written it, and is using it (process ${pids.join(', ')}): stop that first, ` +
        'then start this one, which brings the store up to date',
    )
  }
}

/**
 * Brings an embedded store that an earlier release has written up to date.
 *
 * @throws {StoreInUse}
 */
export async function upgradeLmdbStore(dataDir: string, options: UpgradeOptions): Promise<void> {
  const { root, tables: databases } = openEnvironment(dataDir, openAll)
  try {
    if (databases.counters.get('format') !== format) await begin(root, databases, options)
    await moveAll(root, databases, options)
  } finally {
    await root.close()
  }
}

/** Waits until all who use the store are about to do this, too, and has the releases before refuse it. */
async function begin(root: RootDatabase, { counters }: Databases, { patienceMs = usualPatienceMs }: UpgradeOptions) {
  const upgraderOf = (pid: number) => `${upgraders}${pid}`
  await counters.put(upgraderOf(process.pid), 1)
  const until = performance.now() + patienceMs
  const strangers = () => {
    root.resetReadTxn()
    return otherUsers(root).filter((pid) => !counters.doesExist(upgraderOf(pid)))
  }
  for (let pids = strangers(); pids.length > 0; pids = strangers()) {
    if (performance.now() > until) throw new StoreInUse(pids)
    await sleep(checkMs)
  }
  root.transactionSync(() => {
    if (counters.get('format') === format) return
    counters.putSync(moving, 1)
    counters.putSync('format', format)
  })
}

async function moveAll(root: RootDatabase, databases: Databases, options: UpgradeOptions): Promise<void> {
  const { users, sessions, browserSessions, counters } = databases
  const { onProgress, onUnmovable, rowsAtOnce = usualRowsAtOnce } = options
  const puts = createPuts(databases)
  const olds = oldTables.filter((name) => hasTable(root, name)).map((name) => ({ name, rows: open(root, name) }))
  const moved = () => entriesOf(users) + entriesOf(sessions) + entriesOf(browserSessions)
  const left = () => olds.reduce((sum, { rows }) => sum + entriesOf(rows), 0)
  /** Another process may have been faster, and the tables are gone. */
  const isOver = () => !isOutdated(counters)

  for (const { name, rows } of olds) {
    let step: Step = { unmovable: [], next: '' }
    while (step.next !== undefined) {
      const after = step.next
      const table = { rows, wrongIn: shapes[name], put: puts[name] }
      step = root.transactionSync(() => (isOver() ? { unmovable: [] } : moveSome(table, after, rowsAtOnce)))
      for (const key of step.unmovable) onUnmovable(name, key)
      root.resetReadTxn()
      if (!isOver()) onProgress(moved(), moved() + left())
      await nextTurn()
      root.resetReadTxn()
    }
  }
  // Little by little: LMDB is slow for minutes after a hundred thousand pages have become free at once.
  for (const name of oldIndexes) {
    const index = !isOver() && hasTable(root, name) && open(root, name)
    for (let count = entriesAtOnce; index && count === entriesAtOnce; ) {
      count = root.transactionSync(() => (isOver() ? 0 : removeSome(index, entriesAtOnce)))
      await nextTurn()
      root.resetReadTxn()
    }
  }
  root.transactionSync(() => {
    if (isOver()) return
    for (const { rows } of olds) if (entriesOf(rows) === 0) rows.dropSync()
    for (const name of oldIndexes) if (hasTable(root, name)) open(root, name).dropSync()
    for (const key of [...counters.getKeys({ start: upgraders, end: `${upgraders}~` })]) counters.removeSync(key)
    counters.removeSync(moving)
  })
}

interface Step {
  /** keys of rows that stay where they are */
  unmovable: string[]
  /** behind which key to go on; undefined where there are no more */
  next?: string | undefined
}

/** Only inside a transaction. */
function moveSome({ rows, wrongIn, put }: Old, after: string, limit: number): Step {
  const keys = [...rows.getKeys({ ...(after !== '' && { start: after, exclusiveStart: true }), limit })]
  const unmovable = keys.filter((key) => {
    const row = readSafely(() => rows.get(key))
    if (row === undefined || wrongIn(row) !== undefined || !put(row as never)) return true
    rows.remove(key)
    return false
  })
  return { unmovable, next: keys.length === limit ? keys.at(-1) : undefined }
}

/** Only inside a transaction. @returns how many were removed */
function removeSome(index: Database<unknown, string>, limit: number): number {
  const keys = [...index.getKeys({ limit })]
  for (const key of keys) index.remove(key)
  return keys.length
}

interface Old {
  rows: Database<unknown, string>
  wrongIn(row: unknown): string | undefined
  put(row: never): boolean
}

/** A value that is not MessagePack throws. */
function readSafely(read: () => unknown): unknown {
  try {
    return read()
  } catch {
    return undefined
  }
}

/** How rows are put into the new tables, with their indexes; false where they must not be. */
function createPuts(databases: Databases): Record<OldTable, (row: never) => boolean> {
  const users = createUserRows(databases)
  const sessions = createSessionRows(databases)
  const browserSessions = createBrowserSessionRows(databases)
  return {
    users(user: User) {
      if (users.isTaken(user)) return false
      users.put(user)
      return true
    },
    sessions(session: Session) {
      sessions.add(session)
      return true
    },
    browser_sessions(session: BrowserSession) {
      browserSessions.put(session)
      return true
    },
  }
}

const open = (root: RootDatabase, name: string): Database<unknown, string> => root.openDB<unknown, string>(name, {})

/** Counted by LMDB, at no cost. */
const entriesOf = (table: { getStats(): object }) => (table.getStats() as { entryCount: number }).entryCount
