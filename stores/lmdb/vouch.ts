import { spawn } from 'node:child_process'
import { statSync } from 'node:fs'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConfigError } from '../../config.ts'
import { checkFile, damageLine, lmdbFile, readWhollyBytes, StoreDamaged } from './file.ts'

/* Checks the file of an embedded store before LMDB opens it: a small one at once, a large one in a child process. */

/** The start waits no longer; the check of a larger store goes on while it is served. */
const longestWaitMs = 400
const niceness = 10

export interface Vouching {
  /** resolves when the start may go on @throws {ConfigError} that the store is damaged */
  soon: Promise<void>
  /** what was found after that, when all is read: a line that says what to do */
  later: Promise<string | undefined>
}

/**
 * Checks the file of an embedded store.
 *
 * @throws {ConfigError} what is seen at once
 */
export function vouchForStore(dataDir: string): Vouching {
  const path = lmdbFile(dataDir)
  const size = sizeOf(path)
  if (size !== undefined && size > readWhollyBytes) {
    const later = readBeside(path).then((damage) => damage && damageLine(dataDir, damage))
    const found = later.then((line) => {
      if (line !== undefined) throw new ConfigError(line)
    })
    return { soon: Promise.race([found, sleep(longestWaitMs)]), later }
  }
  try {
    if (size !== undefined) checkFile(path)
  } catch (error) {
    if (error instanceof StoreDamaged) throw new ConfigError(damageLine(dataDir, error))
    // Other errors are reported when it is opened.
  }
  return { soon: Promise.resolve(), later: Promise.resolve(undefined) }
}

function sizeOf(path: string): number | undefined {
  try {
    return statSync(path).size
  } catch {
    return undefined
  }
}

/** In a child process of low priority, whose memory is freed when it ends. */
function readBeside(path: string): Promise<StoreDamaged | undefined> {
  return new Promise((resolve) => {
    const script = join(import.meta.dirname, 'vouch-child.js')
    const child = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'ignore'] })
    const kill = () => child.kill('SIGKILL')
    process.once('exit', kill)
    let what = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      what += text
    })
    child.once('error', () => resolve(undefined))
    child.once('close', () => {
      process.off('exit', kill)
      resolve(what === '' ? undefined : new StoreDamaged(what))
    })
    try {
      if (child.pid !== undefined) setPriority(child.pid, niceness)
    } catch {
      // A sandbox refuses.
    }
  })
}
