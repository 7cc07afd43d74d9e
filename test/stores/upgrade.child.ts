/*
 * Another process at the embedded store in `argv[2]`, which a release of format 1 has written. `upgrade.test.ts` kills
 * some of them.
 *
 * - `upgrade ROWS` brings it up to date, ROWS at once, and says how many are moved after each step;
 * - `start` does so as the service does before it serves, and logs to stdout;
 * - `serve` is a process of the release before, which has it open until its stdin ends.
 */
import { writeSync } from 'node:fs'
import { open } from 'lmdb'
import { readConfig } from '../../config.ts'
import { upgradeStore } from '../../process/upgrading.ts'
import { lmdbDirectory } from '../../stores/lmdb/file.ts'
import { upgradeLmdbStore } from '../../stores/lmdb/upgrade.ts'

const [, , dir = '', task, rows] = process.argv

if (task === 'upgrade') {
  await upgradeLmdbStore(dir, {
    onProgress: (moved, total) => writeSync(1, `${moved} of ${total}\n`),
    onUnmovable: (table, key) => writeSync(1, `left: ${table} ${key}\n`),
    rowsAtOnce: Number(rows),
  })
}
if (task === 'start') {
  const logStream = { write: (line: string) => void writeSync(1, line) }
  await upgradeStore(readConfig({ AUTH_DATA_DIR: dir }), logStream)
}
if (task === 'serve') {
  const root = open({ path: lmdbDirectory(dir), maxDbs: 32 })
  root.openDB({ name: 'users' }).get('nobody')
  writeSync(1, 'serving\n')
  process.stdin.resume().once('end', () => root.close())
}
