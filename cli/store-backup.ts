import { randomBytes } from 'node:crypto'
import {
  createReadStream,
  createWriteStream,
  existsSync,
  linkSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { version } from '../config/version.ts'
import { sync } from '../stores/lmdb/directory.ts'
import { BackupRefused, type BackupSummary, readBackup, writeBackup } from '../stores/moving/backup.ts'
import type { Store } from '../stores/store.ts'
import type { Io, Options } from './command.ts'
import { CommandError, exitCodes } from './exit.ts'
import { interruptible } from './interrupt.ts'
import type { Output } from './output.ts'
import { countsOf, labelOf, madeSecretPath, openPlace, type Place, readPlace, readSettings } from './places.ts'

/** Rows are ids, hashes and names, which a higher level takes twice the time for and makes hardly smaller. */
const gzipLevel = 2

interface Work {
  store: Store
  createdAt: string
  interrupted: AbortSignal
  onProgress(line: string): void
}

/**
 * `latchkey store backup`: writes all rows of one moment to a file, which is read back, or to stdout.
 *
 * @returns the exit code, 0
 * @throws {CommandError} otherwise; then no file is left
 */
export async function storeBackup(io: Io, options: Options, output: Output, [to = '']: string[]): Promise<number> {
  const config = readSettings(io.env)
  const place = readPlace(options['store'], config, io.env)
  if (to === '-' && io.stdout.isTTY)
    throw new CommandError('stdout is a terminal: name a file, or redirect it', exitCodes.usage)
  const createdAt = new Date().toISOString()
  const file = to === '-' ? undefined : fileFor(to, createdAt)
  const startedAt = performance.now()
  const store = await openPlace(place, { mustExist: true })
  try {
    const written = await interruptible((interrupted) => {
      const onProgress = io.stderr.isTTY ? output.progress : () => {}
      const work = { store, createdAt, interrupted, onProgress }
      return file === undefined ? writeLines(work, io.stdout, { end: false }) : writeFile(work, file)
    })
    const secret = madeSecretPath(place, config)
    const report = { ...written, place, file, secret, seconds: (performance.now() - startedAt) / 1000 }
    const text = output.isJson ? JSON.stringify(documentOf(report)) : textOf(report)
    // stdout is the backup itself.
    if (file === undefined) io.stderr.write(`${text}\n`)
    else output.print(text)
    return exitCodes.fine
  } catch (error) {
    throw explained(error, place, file ?? 'stdout')
  } finally {
    output.endProgress()
    await store.close()
  }
}

/** @param to a directory, or a file that is not there yet */
function fileFor(to: string, createdAt: string): string {
  const isDirectory = statSync(to, { throwIfNoEntry: false })?.isDirectory()
  const file = isDirectory ? join(to, `latchkey-${createdAt.replace(/[-:]|\.\d+/g, '')}.jsonl.gz`) : to
  if (existsSync(file)) throw new CommandError(`${file} is there already, and is not overwritten`, exitCodes.problems)
  if (/[\\/]$/.test(file) || !existsSync(dirname(file)))
    throw new CommandError(`There is no directory for ${file}`, exitCodes.problems)
  return file
}

async function writeLines(
  { store, createdAt, interrupted, onProgress }: Work,
  to: Writable,
  { end }: { end: boolean },
): Promise<BackupSummary> {
  let summary: BackupSummary | undefined
  await store.snapshot((snapshot) => {
    const about = { release: version, store: store.name, created_at: createdAt }
    const lines = writeBackup(snapshot, about, {
      onRows: (table, rows) => onProgress(`reading ${labelOf(table)}: ${rows.toLocaleString('en-US')}`),
      done: (written) => {
        summary = written
      },
    })
    return pipeline(Readable.from(lines), createGzip({ level: gzipLevel }), to, { signal: interrupted, end })
  })
  return summary as BackupSummary
}

/** Under another name until it is whole, on disk, and was read back. */
async function writeFile(work: Work, file: string): Promise<BackupSummary & { bytes: number }> {
  const directory = dirname(resolve(file))
  removeLeftovers(directory)
  const draft = join(directory, `.latchkey-${process.pid}-${randomBytes(4).toString('hex')}.partial`)
  try {
    const summary = await writeLines(work, createWriteStream(draft, { flags: 'wx', mode: 0o600 }), { end: true })
    sync(draft)
    const { size: bytes } = statSync(draft)
    let read = 0
    const back = await readBackup(createReadStream(draft), (_table, rows) => {
      work.interrupted.throwIfAborted()
      read += rows.length
      work.onProgress(`reading it back: ${read.toLocaleString('en-US')}`)
    })
    if (back.sha256 !== summary.sha256) throw new BackupRefused('what was read back is not what was written')
    give(draft, file)
    return { ...summary, bytes }
  } finally {
    rmSync(draft, { force: true })
  }
}

/** Gives a file its name, which no other has. */
function give(draft: string, file: string): void {
  try {
    linkSync(draft, file)
  } catch (error) {
    // Some file systems have no links.
    if (existsSync(file)) throw error
    renameSync(draft, file)
  }
  try {
    sync(dirname(resolve(file)))
  } catch {
    // Nor does each sync a directory.
  }
}

const leftAfterMs = 600_000

/** What a backup that was killed has left. One that runs writes all the time. */
function removeLeftovers(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (!/^\.latchkey-[0-9]+-[0-9a-f]{8}\.partial$/.test(name)) continue
    const path = join(directory, name)
    const { mtimeMs = Date.now() } = statSync(path, { throwIfNoEntry: false }) ?? {}
    if (Date.now() - mtimeMs > leftAfterMs) rmSync(path, { force: true })
  }
}

function explained(error: unknown, place: Place, file: string): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException
  if (error instanceof BackupRefused) {
    const advice = '"latchkey store check" tells more. No backup was written.'
    return new CommandError(`${place.label}: ${message}. ${advice}`, exitCodes.problems)
  }
  if (syscall === undefined && code !== 'ERR_STREAM_PREMATURE_CLOSE') return error
  // `ENOSPC: no space left on device, write`
  const why = message.split(',')[0]
  return new CommandError(`${file}: it cannot be written (${why}). No backup was written.`, exitCodes.problems)
}

type Report = BackupSummary & {
  place: Place
  file: string | undefined
  secret: string | undefined
  seconds: number
  bytes?: number
}

const documentOf = ({ place, file, bytes, seconds, header, rows, sha256, secret }: Report) => ({
  ...{ from: place.label, to: file ?? '-', bytes, seconds: Math.round(seconds * 10) / 10 },
  ...{ created_at: header.created_at, rows, sha256, read_back: file !== undefined, secret_file: secret },
})

function textOf({ place, file, bytes = 0, seconds, rows, secret }: Report): string {
  const counts = countsOf(rows)
  const megabytes = (bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 0)
  const size = file === undefined ? '' : `${megabytes} MB, `
  const isReadBack = file === undefined ? 'not read back: "latchkey store restore --dry-run" does' : 'read back'
  const place_ = secret === undefined ? 'AUTH_SECRET' : `the secret in ${secret}`
  return [
    `${place.label} → ${file ?? 'stdout'}, ${size}in ${seconds.toFixed(1)} s`,
    `${counts}; ${isReadBack}.`,
    `As secret as the store: it has password hashes and sealed keys. Not in it is ${place_}: keep a copy of that elsewhere,`,
    'for without it all users log in again after a restore.',
  ].join('\n')
}
