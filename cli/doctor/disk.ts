import { existsSync, statfsSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { lmdbFile } from '../../stores/lmdb/file.ts'
import { bytes, type Check, failed, NotKnown, ok, warning } from './check.ts'
import type { Facts } from './facts.ts'

/** What `statfs` tells of the file system of AUTH_DATA_DIR. */
export interface DiskFact {
  type: number
  freeBytes: number
  /** undefined where the file system makes them as they are needed */
  freeInodes: number | undefined
  /** of the store's file; 0 before there is one */
  storeBytes: number
}

export function diskFactOf(dir: string): DiskFact {
  let there = resolve(dir)
  while (!existsSync(there)) there = dirname(there)
  const { type, bavail, bsize, ffree, files } = statfsSync(there)
  return {
    type,
    freeBytes: bavail * bsize,
    freeInodes: files > 0 ? ffree : undefined,
    storeBytes: existsSync(lmdbFile(dir)) ? statSync(lmdbFile(dir)).size : 0,
  }
}

/** Numbers of statfs(2). */
const fileSystems: Record<number, [name: string, what: 'network' | 'memory' | 'container']> = {
  26985: ['NFS', 'network'],
  4283649346: ['SMB', 'network'],
  4266872130: ['SMB', 'network'],
  20859: ['SMB', 'network'],
  16914839: ['9p', 'network'],
  12805120: ['Ceph', 'network'],
  16914836: ['tmpfs', 'memory'],
  2035054128: ['the layer of a container', 'container'],
}
const least = { failed: 100 * 2 ** 20, warning: 2 ** 30, inodes: 1000 }

/** The disk under the embedded store; of a database it is the database's. */
export const disk: Check<Facts>[] = [
  {
    id: 'disk.filesystem',
    find({ disk }) {
      const [name, what] = fileSystems[disk().type >>> 0] ?? []
      if (what === 'network')
        return failed(
          `${name}: its locks and maps cannot be relied on`,
          'AUTH_DATA_DIR',
          'name a directory on a local disk',
        )
      if (what === 'memory')
        return warning('tmpfs: everything is gone when it is unmounted', 'AUTH_DATA_DIR', 'name a directory on a disk')
      if (what === 'container')
        return warning('the layer of a container: all accounts go with it', 'AUTH_DATA_DIR', 'mount a volume there')
      return ok('a local one')
    },
  },
  {
    id: 'disk.space',
    find({ disk }) {
      const { freeBytes, storeBytes } = disk()
      const seen = `${bytes(freeBytes)} free, the store has ${bytes(storeBytes)}`
      const advice = 'make room, or name a directory on a larger disk: when it is full, writes are answered 503'
      if (freeBytes < least.failed) return failed(seen, 'AUTH_DATA_DIR', advice)
      return freeBytes < Math.max(least.warning, storeBytes) ? warning(seen, 'AUTH_DATA_DIR', advice) : ok(seen)
    },
  },
  {
    id: 'disk.inodes',
    find({ disk }) {
      const { freeInodes } = disk()
      if (freeInodes === undefined) throw new NotKnown('the file system has no fixed number')
      const seen = `${freeInodes.toLocaleString('en-US')} free`
      return freeInodes < least.inodes
        ? warning(seen, 'AUTH_DATA_DIR', 'remove files on that file system, or name a directory on another')
        : ok(seen)
    },
  },
]
