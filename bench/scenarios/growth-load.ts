/*
 * The process that loads an embedded store for the growth benchmark, which opens it as after a restart. Inserted one by
 * one, ten million random ids would write a page each. So the rows are sorted, and each table is written in its own
 * order; in two halves, so that pages split and are some 70 % full, as they are where rows come at random.
 */
import { openDatabases } from '../../stores/lmdb/databases.ts'
import { openEnvironment } from '../../stores/lmdb/open.ts'
import { createBrowserSessionRows } from '../../stores/lmdb/tables/browser-sessions.ts'
import { readId } from '../../stores/lmdb/uuids.ts'
import { serveCalls } from '../processes.ts'
import { type Age, browserSession, browsersAtMost, idsOf, nameOf, sessionOf, userOf } from './growth-rows.ts'
import { progress } from './scenario.ts'

export interface Load extends Age {
  dataDir: string
  size: number
  passwordHash: string
}
/** Bytes of a row on disk. */
export interface LoadedBytes {
  [row: string]: number
}

const rowsAtOnce = 10_000
const progressMs = 10_000

/** The numbers below `size`, in the order of their ids where these are given; first every other of them, then the rest. */
function inHalves(size: number, ids?: Buffer): Uint32Array[] {
  const order = Uint32Array.from({ length: size }, (_, n) => n)
  // Four bytes are enough to find neighbours.
  if (ids) order.sort((a, b) => ids.readUInt32BE(16 * a) - ids.readUInt32BE(16 * b))
  return [order.filter((n) => n % 2 === 0), order.filter((n) => n % 2 === 1)]
}

/** The pages of a table and its indexes, by what LMDB says of them. */
function bytesOf(trees: { getStats(): object }[], rows: number): number {
  const pages = trees.map((tree) => {
    const { pageSize, ...stats } = tree.getStats() as Record<string, number>
    const { treeBranchPageCount = 0, treeLeafPageCount = 0, overflowPages = 0 } = stats
    return (pageSize ?? 0) * (treeBranchPageCount + treeLeafPageCount + overflowPages)
  })
  return Math.round(pages.reduce((sum, bytes) => sum + bytes, 0) / rows)
}

async function load({ dataDir, size, passwordHash, ...age }: Load): Promise<LoadedBytes> {
  const { root, tables } = openEnvironment(dataDir, openDatabases)
  const { users, usersByName, usersByCreation, sessions, sessionsByUser } = tables
  const { browserSessions, browserSessionsByUser } = tables
  /** A user is three entries, and a session two. */
  const entries = 5 * size
  let [written, toldAt] = [0, performance.now()]
  function write(numbers: Uint32Array, put: (n: number) => void): void {
    for (let from = 0; from < numbers.length; from += rowsAtOnce) {
      const some = numbers.subarray(from, from + rowsAtOnce)
      root.transactionSync(() => {
        for (const n of some) put(n)
      })
      written += some.length
      if (performance.now() - toldAt < progressMs) continue
      toldAt = performance.now()
      progress(`  ${Math.floor((100 * written) / entries)} % are written …`)
    }
  }
  const [userIds, sessionIds] = [idsOf('user', size), idsOf('session', size)]
  const userId = (n: number) => readId(userIds, 16 * n)
  const sessionId = (n: number) => readId(sessionIds, 16 * n)
  const browsers = Math.min(size, browsersAtMost)
  const rows = createBrowserSessionRows(tables)
  write(
    Uint32Array.from({ length: browsers }, (_, n) => n),
    (n) => rows.put(browserSession(n, age)),
  )
  for (const half of inHalves(size)) {
    write(half, (n) => void usersByName.put(nameOf(n), userId(n)))
    write(half.toReversed(), (n) => void usersByCreation.put([age.createdAt - n, userId(n)], 0))
  }
  for (const half of inHalves(size, userIds)) {
    write(half, (n) => users.put(userId(n), userOf(n, userId(n), passwordHash, age)))
    write(half, (n) => void sessionsByUser.put([userId(n), age.createdAt, sessionId(n)], 0))
  }
  for (const half of inHalves(size, sessionIds))
    write(half, (n) => sessions.put(sessionId(n), sessionOf(sessionId(n), userId(n), age)))
  root.resetReadTxn()
  const bytes = {
    userBytes: bytesOf([users, usersByName, usersByCreation], size),
    sessionBytes: bytesOf([sessions, sessionsByUser], size),
    browserSessionBytes: bytesOf([browserSessions, browserSessionsByUser], browsers),
  }
  await root.close()
  return bytes
}

serveCalls({ load })
