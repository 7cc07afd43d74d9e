import { statfsSync } from 'node:fs'
import type { RootDatabase } from 'lmdb'
import type { Usage } from '../store.ts'
import type { Databases } from './databases.ts'

/** What LMDB says of its file, and the system of the disk. */
export function readUsage(root: RootDatabase, databases: Databases, dataDir: string): Usage['lmdb'] {
  root.resetReadTxn()
  const { pageSize, lastPageNumber, mapSize, root: main, free } = root.getStats() as EnvironmentStats
  const trees = [main, free, ...Object.values(databases).map((table) => table.getStats() as TreeStats)]
  const usedBytes = pageSize * (metaPages + trees.reduce((pages, tree) => pages + pagesOf(tree), 0))
  const { bavail, bsize } = statfsSync(dataDir)
  const freeBytes = pageSize * (lastPageNumber + 1) - usedBytes
  return { mapBytes: mapSize, usedBytes, freeBytes, diskFreeBytes: bavail * bsize }
}

/** What lmdb-js says of a tree of pages; its types do not. */
interface TreeStats {
  treeBranchPageCount: number
  treeLeafPageCount: number
  overflowPages: number
}
interface EnvironmentStats {
  pageSize: number
  lastPageNumber: number
  mapSize: number
  root: TreeStats
  free: TreeStats
}
const metaPages = 2
const pagesOf = ({ treeBranchPageCount, treeLeafPageCount, overflowPages }: TreeStats) =>
  treeBranchPageCount + treeLeafPageCount + overflowPages
