/** Another process on the store in `argv[2]`: begins to write, says so, and goes on when it is told to on stdin. */
import { readSync, writeSync } from 'node:fs'
import { open } from 'lmdb'
import { lmdbDirectory } from '../../stores/lmdb/file.ts'

const root = open({ path: lmdbDirectory(process.argv[2] as string), noSubdir: false, maxDbs: 32 })
root.transactionSync(() => {
  writeSync(1, 'writing\n')
  readSync(0, Buffer.alloc(1))
})
process.exit(0)
